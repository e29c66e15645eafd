"""What can go wrong at the Hub: each ends within a minute, in one sentence that says what to do, and can be tried
again.

What waits for the libraries' own retries is marked slow.
"""

from __future__ import annotations

import hub_repository
import pytest
from hub_repository import TOKEN

AT_ONCE = 10
"""Seconds for what the first question finds: `helpers.hub.ANSWER_SECONDS`, and a slow machine."""
LATE = 65
"""Seconds for what breaks after it: the 58 s of `helpers.hub.QUIET_SECONDS`, and a slow machine."""


def processor_of(repository) -> str:
    return f"load_processor({repository.id!r})"


def model_of(repository) -> str:
    return f"load_model({repository.id!r}, device='cpu', quiet=True)"


def stream_of(repository) -> str:
    return f"result = [row['caption'] for row in load_captions({repository.id!r}, 'train').take(2)]"


def assert_told(outcome, *words: str, within: float = AT_ONCE) -> None:
    """It failed soon, in one sentence, with these words, and without a chain of tracebacks."""
    assert outcome.error == "HubError", outcome
    assert outcome.seconds < within, outcome
    assert "\n" not in outcome.message and outcome.message.endswith(".") and len(outcome.message) < 400, outcome.message
    for word in words:
        assert word in outcome.message, outcome.message
    assert outcome.chain == 1


def assert_works(kernel, code: str) -> None:
    outcome = kernel.run(code)
    assert outcome.error is None, outcome


@pytest.mark.parametrize("load", ["load_processor", "load_model", "load_captions"])
def test_a_missing_repository(kernel, load):
    assert_told(kernel.run(f"{load}('nobody/nothing')"), "There is no", "nobody/nothing", "check its name",
                "hf auth login")


@pytest.mark.parametrize("load", [processor_of, model_of])
def test_a_gated_model_without_a_token(kernel, hub, served_model, load):
    served_model.gated = True
    assert_told(kernel.run(load(served_model)), f"open {hub.endpoint}/{served_model.id}", "accept its licence",
                "hf auth login", "tiny profile")
    served_model.gated = False
    assert_works(kernel, load(served_model))


def test_a_gated_data_set_without_a_token(kernel, hub, served_data):
    served_data.gated = True
    page = f"{hub.endpoint}/datasets/{served_data.id}"
    assert_told(kernel.run(stream_of(served_data)), f"open {page}", "accept its licence")
    served_data.gated = False
    assert_works(kernel, stream_of(served_data))


def test_a_gated_model_with_a_token_that_was_let_in(kernel, served_model):
    served_model.gated = True
    assert_works(kernel, f"import os; os.environ['HF_TOKEN'] = {TOKEN!r}\ntry:\n    {processor_of(served_model)}\n"
                         "finally:\n    del os.environ['HF_TOKEN']")


@pytest.mark.parametrize("of, load", [("served_model", processor_of), ("served_model", model_of),
                                      ("served_data", stream_of)])
def test_a_refused_connection(kernel, hub, request, of, load):
    repository = request.getfixturevalue(of)
    hub.stop()
    try:
        assert_told(kernel.run(load(repository)), "cannot be reached", "check the network", "tiny profile")
    finally:
        hub.start()
    assert_works(kernel, load(repository))


def test_what_is_in_the_cache_needs_no_network(kernel, hub, served_model):
    assert_works(kernel, model_of(served_model))
    hub.stop()
    try:
        outcome = kernel.run(model_of(served_model))
    finally:
        hub.start()
    assert outcome.error is None and outcome.seconds < 2 * AT_ONCE and "from the cache" in outcome.output


@pytest.mark.slow
def test_half_a_cache_is_not_enough(kernel, hub, served_model):
    assert_works(kernel, processor_of(served_model))
    hub.stop()
    try:
        assert_told(kernel.run(model_of(served_model)), "check the network")
    finally:
        hub.start()
    assert_works(kernel, model_of(served_model))


@pytest.mark.parametrize("of, load", [("served_model", processor_of), ("served_data", stream_of)])
def test_a_server_that_never_answers(kernel, hub, request, of, load):
    repository = request.getfixturevalue(of)
    hub.stalled = True
    assert_works(kernel, "import helpers.hub; patience, helpers.hub.ANSWER_SECONDS = helpers.hub.ANSWER_SECONDS, 1")
    try:
        assert_told(kernel.run(load(repository)), "check the network", "tiny profile")
    finally:
        hub.stalled = False
        assert_works(kernel, "helpers.hub.ANSWER_SECONDS = patience")
    assert_works(kernel, load(repository))


@pytest.mark.slow
def test_weights_that_stall(kernel, served_model):
    served_model.send["model.safetensors"] = hub_repository.stall(after=1000)
    assert_told(kernel.run(model_of(served_model)), "check the network", "tiny profile", within=LATE)
    served_model.send.clear()
    assert_works(kernel, model_of(served_model))


@pytest.mark.slow
def test_a_stream_that_stops_on_the_way(kernel, served_data):
    """Outside of `hub_access` the library's own error comes, as late; `explain` makes a sentence of it."""
    assert_works(kernel, f"stream = load_captions({served_data.id!r})")
    for file in served_data.files:
        served_data.send[file] = hub_repository.stall()
    outcome = kernel.run("next(iter(stream))")
    assert outcome.error in ("ConnectionError", "ReadTimeout") and outcome.seconds < LATE, outcome
    outcome = kernel.run("""
from helpers.hub import explain
try:
    next(iter(stream))
except Exception as error:
    result = str(explain(error, "owner/data", "dataset"))
""")
    assert "cannot be reached: check the network" in outcome.result
    served_data.send.clear()
    assert_works(kernel, "next(iter(stream))")


def test_a_learners_own_timeouts_are_kept(kernel, served_data):
    outcome = kernel.run(f"""
from datasets import config
from huggingface_hub import constants
constants.HF_HUB_DOWNLOAD_TIMEOUT, config.STREAMING_READ_MAX_RETRIES = 33, 7
load_captions({served_data.id!r})
result = [constants.HF_HUB_DOWNLOAD_TIMEOUT, config.STREAMING_READ_MAX_RETRIES, constants.HF_HUB_ETAG_TIMEOUT]
constants.HF_HUB_DOWNLOAD_TIMEOUT, config.STREAMING_READ_MAX_RETRIES = 10, 20
""")
    assert outcome.result == [33, 7, 5]


@pytest.mark.slow
def test_weights_that_break_off(kernel, served_model):
    served_model.send["model.safetensors"] = hub_repository.cut_short()
    assert_told(kernel.run(model_of(served_model)), "broke off", "run this again", within=LATE)
    served_model.send.clear()
    assert_works(kernel, model_of(served_model))


def test_weights_that_break_off_once_arrive_all_the_same(kernel, hub, served_model):
    cut = hub_repository.cut_short()

    def once(body, **where):
        served_model.send.clear()
        return cut(body, **where)

    served_model.send["model.safetensors"] = once
    assert_works(kernel, model_of(served_model))
    asked = [request for request in hub.requests if request.method == "GET" and served_model.id in request.path]
    assert sum(request.path.endswith("model.safetensors") for request in asked) == 2


def test_weights_that_are_cut_short_in_the_repository(kernel, served_model, tiny_files):
    whole = served_model.files["model.safetensors"]
    served_model.files["model.safetensors"] = whole[: len(whole) // 2]
    assert_told(kernel.run(model_of(served_model)), f"hf cache rm model/{served_model.id}", "run this again")
    served_model.files["model.safetensors"] = whole
    served_model.commits += 1  # the owner repairs the file
    assert_works(kernel, model_of(served_model))


@pytest.mark.parametrize("status, words", [(503, ("error 503", "in a few minutes")),
                                           (429, ("error 429", "hf auth login"))])
def test_a_server_out_of_order(kernel, hub, served_model, status, words):
    hub.status = status
    try:
        assert_told(kernel.run(processor_of(served_model)), *words, "tiny profile")
    finally:
        hub.status = None
    assert_works(kernel, processor_of(served_model))


def test_a_wrong_split(kernel, served_data):
    outcome = kernel.run(f"load_captions({served_data.id!r}, 'dev')")
    assert (outcome.error, outcome.chain) == ("SplitError", 1) and outcome.seconds < 2 * AT_ONCE
    assert outcome.message == f"The data set {served_data.id} has no split 'dev'; it has 'train', 'validation', 'test'."


def test_nothing_half_is_left_in_the_cache(hub, learners_home):
    """After all of the above (run alone, it finds an empty cache)."""
    cache = learners_home / "huggingface"
    assert not list(cache.rglob("*.incomplete"))
    for file in cache.glob("hub/models--tests--*/snapshots/*/*"):
        repository = hub.repositories["model", file.parts[-4].removeprefix("models--").replace("--", "/")]
        if file.parent.name == repository.sha:  # not a commit that the owner has repaired since
            assert file.read_bytes() == repository.files[file.name], file
