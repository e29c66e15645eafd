"""What the tests of planted faults share."""

from __future__ import annotations


def one(findings: list[str]) -> str:
    assert len(findings) == 1, findings
    assert findings[0].endswith(".") and ":" in findings[0] and "\n" not in findings[0], "cause, evidence, what to do"
    return findings[0]


def changed(batch: dict, **values) -> dict:
    return {**batch, **values}


def one_sentence(error: BaseException) -> None:
    text = str(error)
    assert "\n" not in text and text.endswith(".") and len(text) < 700 and "Traceback" not in text
