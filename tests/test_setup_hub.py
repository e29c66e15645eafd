"""What the doctor finds at the Hub, against a stand-in for it."""

from __future__ import annotations

import pytest
from hub_repository import TOKEN


@pytest.fixture
def diagnose(kernel, hub, served_model, served_data):
    """What the doctor finds at the Hub: name -> (found, fix)."""
    def look(token: str | None = None, **ids: str) -> dict:
        ids = {"model_id": served_model.id, "dataset_id": served_data.id, **ids}
        outcome = kernel.run(f"""
import dataclasses, os
from helpers import get_profile
from helpers.setup.doctor import check_hub
if {token!r}: os.environ["HF_TOKEN"] = {token!r}
try:
    found = check_hub(dataclasses.replace(get_profile("full"), **{ids!r}))
finally:
    os.environ.pop("HF_TOKEN", None)
result = {{finding.what: (finding.found, finding.fix) for finding in found}}
""")
        assert outcome.error is None and outcome.seconds < 20, outcome
        assert list(outcome.result) == ["Hub", "licence", "login"]
        return outcome.result

    return look


def test_the_doctor_where_all_is_well(diagnose):
    found = diagnose()
    assert [fix for _, fix in found.values()] == [None] * 3
    assert "can be reached" in found["Hub"][0] and "non-commercial" in found["licence"][0]
    assert "none" in found["login"][0]


@pytest.mark.parametrize("token, word", [(TOKEN, "the Hub knows"), ("a-wrong-token", "does not know")])
def test_the_doctor_asks_whether_the_token_is_known(diagnose, token, word):
    found, fix = diagnose(token)["login"]
    assert word in found and (fix is None) == (token == TOKEN)
    assert fix is None or "hf auth login" in fix


@pytest.mark.parametrize("of", ["served_model", "served_data"])
def test_the_doctor_sees_a_licence_that_is_not_accepted(diagnose, request, of):
    repository = request.getfixturevalue(of)
    repository.gated = True
    found = diagnose()
    assert found["Hub"][1] is None
    assert "accept its licence" in found["licence"][1] and repository.id in found["licence"][1]
    assert diagnose(TOKEN)["licence"][1] is None


@pytest.mark.parametrize("ids", [{"model_id": "nobody/nothing"}, {"dataset_id": "nobody/nothing"}])
def test_the_doctor_misses_a_repository(diagnose, ids):
    found, fix = diagnose(**ids)["Hub"]
    assert "not there" in found and "nobody/nothing" in fix


def test_the_doctor_without_a_network(diagnose, hub):
    hub.stop()
    try:
        found = diagnose(TOKEN)
    finally:
        hub.start()
    assert "check the network" in found["Hub"][1] and "cannot be asked" in found["login"][0]
