"""From figures to the table: rows, verdicts, and the same table as text and as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

HEADER = ("measure", "the guide, or what the row names", "this course", "ratio", "bar", "met")
BEGIN, END = "<!-- benchmark: begin -->", "<!-- benchmark: end -->"
"""Marks around the README's copy of the table."""


@dataclass(frozen=True)
class Row:
    """One line of the table. ``met`` is ``None`` where no bar is set."""

    measure: str
    other: str
    course: str
    ratio: str
    bar: str = ""
    met: bool | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        verdict = {True: "yes", False: "no", None: ""}[self.met]
        return self.measure, self.other, self.course, self.ratio, self.bar, verdict


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 0.1 else f"{value * 1000:.1f} ms"


def _bytes(value: float) -> str:
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"


def _median_step(runs: list[dict]) -> float:
    """Median over runs of each run's median step: a busy moment of the machine moves neither."""
    return statistics.median(run["seconds"] for run in runs)


def _memory(runs: list[dict]) -> float:
    return statistics.median(run["memory"] for run in runs)


def _held_out(runs: list[dict], key: str, split: str = "test") -> list[float]:
    return [run["held_out"][split][key] for run in runs]


def _mean(values: list[float]) -> float:
    return statistics.fmean(values)


def _cost_rows(title: str, arms: dict, arm: str = "guide", against: str = "", time_bar: float | None = None,
               memory_bar: float | None = None) -> list[Row]:
    rows = []
    for measure, of, show, bar in (("seconds a step", _median_step, _seconds, time_bar),
                                   ("peak memory above the loaded model", _memory, _bytes, memory_bar)):
        other, course = of(arms[arm]), of(arms["course"])
        rows.append(Row(f"{title}: {measure}{against}", show(other), show(course), f"{course / other:.2f}",
                        f"at most {bar}" if bar else "", course / other <= bar if bar else None))
    return rows


def _alive_row(arms: dict) -> Row:
    """Bytes of tensors at the peak, without the pieces of the heap that were freed; see `parts.GIVE_BACK`."""
    guide, course = (statistics.median(run["alive"] for run in arms[arm]) for arm in ("guide", "course"))
    return Row("mid-size model: of that memory, tensors alive at their peak", _bytes(guide), _bytes(course),
               f"{course / guide:.2f}")


def _loss_row(title: str, arms: dict) -> Row:
    other, course = (_mean(_held_out(arms[arm], "loss")) for arm in ("guide", "course"))
    return Row(f"{title}: loss on held-out answers after equal steps", f"{other:.3f}", f"{course:.3f}",
               f"{course / other:.2f}")


def _mid_size_rows(figures: dict) -> list[Row]:
    arms = figures["arms"]
    return [
        *_cost_rows("mid-size model", arms, time_bar=0.22, memory_bar=0.2),
        *_cost_rows("mid-size model", arms, "guide labels", ", against the guide's labels with this course's LoRA"),
        _alive_row(arms),
        _loss_row("mid-size model", arms),
    ]


def _mid_size_captions_rows(figures: dict) -> list[Row]:
    guide, course, merged = (figures[name] for name in ("guide", "course", "merged"))
    title = "mid-size model: captions of 10 s clips a second"
    return [
        Row(f"{title}, {figures['settings']['clips']} at once against the guide's loop", f"{guide:.2f}",
            f"{course:.2f}", f"{course / guide:.1f}", "at least 4", course >= 4 * guide),
        Row(f"{title}, adapter merged against not merged", f"{course:.2f}", f"{merged:.2f}", f"{merged / course:.2f}"),
    ]


def _operations_rows(figures: dict) -> list[Row]:
    guide, found = figures["guide"], figures["course"]
    where = {"on": "computed twice, as the guide does", "off": f"kept, as on {', '.join(figures['off_on'])}"}
    return [Row(f"8.27 B model: operations of {figures['clips']:,} clips, activations {where[name]}",
                f"{guide / 1e15:.0f} quadrillion", f"{course / 1e15:.0f} quadrillion", f"{course / guide:.2f}",
                "at most 0.75", course <= 0.75 * guide) for name, course in found.items()]


def _rows_rows(figures: dict) -> list[Row]:
    return [Row(f"rows read from the Hub for the clips of notebook {name}: against the clips used", f"{found['used']}",
                f"{found['read']:.0f}", f"{found['read'] / found['used']:.2f}", "at most 1.1",
                found["read"] <= 1.1 * found["used"]) for name, found in figures.items()]


def _matching_row(arms: dict, arm: str, title: str, bar: float | None = None) -> Row:
    other = _held_out(arms[arm], "matching")
    course = _held_out(arms["course"], "matching")[: len(other)]
    ahead = [ours - theirs for ours, theirs in zip(course, other, strict=True)]
    return Row(f"tiny model: captions right in events and order, against {title}", f"{_mean(other):.2f}",
               f"{_mean(course):.2f}", f"{_mean(ahead):+.2f} ({', '.join(f'{gap:+.2f}' for gap in ahead)})",
               f"at least +{bar}, ahead for every seed" if bar else "",
               _mean(ahead) >= bar and min(ahead) > 0 if bar else None)


def _labels_rows(figures: dict) -> list[Row]:
    against, steps = "the guide's labels, same LoRA, after", figures["steps"]
    rows = [_matching_row(arms, "guide labels", f"{against} {number} steps") for number, arms in steps.items()]
    together = {arm: [_mean_run(runs) for runs in zip(*(arms[arm] for arms in steps.values()), strict=True)]
                for arm in ("guide labels", "course")}
    return [*rows, _matching_row(together, "guide labels", f"{against} {_listed(list(steps))} steps, on average", 0.2)]


def _mean_run(runs: tuple[dict, ...]) -> dict:
    return {"held_out": {"test": {"matching": _mean(_held_out(list(runs), "matching"))}}}


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _tiny_rows(figures: dict) -> list[Row]:
    arms = figures["arms"]
    seeds = min(map(len, arms.values()))
    same = {arm: runs[:seeds] for arm, runs in arms.items()}  # the seeds that every arm has
    literal, ours = _median_step([figures["literal"]]), _median_step(arms["course"])
    rows = [
        *_cost_rows("tiny model", same),
        Row("tiny model: seconds a step, against the guide in its own bfloat16 with gradient checkpointing",
            _seconds(literal), _seconds(ours), f"{ours / literal:.2f}"),
        _loss_row("tiny model", same),
    ]
    rows += [_matching_row(arms, "guide labels", "the guide's labels, same LoRA", 0.2),
             _matching_row(arms, "guide", "the guide's whole recipe")]
    for key, title in (("event_f1", "event F1"), ("cider_d", "CIDEr-D")):
        other, ours = (_mean(_held_out(same[arm], key)) for arm in ("guide", "course"))
        rows.append(Row(f"tiny model: {title}", f"{other:.2f}", f"{ours:.2f}", f"{ours / other:.2f}" if other else ""))
    for key, title, bar in (("event_f1", "event F1", 0.95), ("cider_d", "CIDEr-D", None)):
        full, lora = (_mean(_held_out(same[arm], key)) for arm in ("full", "course"))
        rows.append(Row(f"tiny model: {title}, LoRA against full fine-tuning of the language model", f"{full:.3f}",
                        f"{lora:.3f}", f"{lora / full:.2f}" if full else "", f"at least {bar}" if bar else "",
                        lora >= bar * full if bar else None))
    return rows


def _streaming_rows(figures: dict) -> list[Row]:
    fewest, few, many = figures["runs"]
    costs = [run["seconds"] / run["clips"] for run in (fewest, many)]
    return [
        Row(f"streaming {many['clips']:,} clips against {fewest['clips']:,}: time a clip", _seconds(costs[0]),
            _seconds(costs[1]), f"{costs[1] / costs[0]:.2f}"),
        Row(f"streaming {many['clips']:,} clips against {few['clips']:,}: peak memory", _bytes(few["peak"]),
            _bytes(many["peak"]), f"{many['peak'] / few['peak']:.2f}", "at most 1.1",
            many["peak"] <= 1.1 * few["peak"]),
    ]


def _captioning_rows(figures: dict) -> list[Row]:
    alone, medians = figures["one_by_one"], figures["batched"]
    best = max(medians, key=medians.get)
    return [Row(f"`caption` in batches of {best} against one by one: clips a second", f"{alone:.1f}",
                f"{medians[best]:.1f}", f"{medians[best] / alone:.1f}", "at least 4", medians[best] >= 4 * alone)]


ROWS: dict[str, Callable[[dict], list[Row]]] = {
    "mid-size": _mid_size_rows, "mid-size-captions": _mid_size_captions_rows, "operations": _operations_rows,
    "rows": _rows_rows, "tiny": _tiny_rows, "labels": _labels_rows, "streaming": _streaming_rows,
    "captioning": _captioning_rows,
}


def table_rows(results: dict) -> list[Row]:
    """Rows of the parts that were measured, in a fixed order."""
    parts = results["parts"]
    return [row for name, rows in ROWS.items() if name in parts for row in rows(parts[name]["figures"])]


def as_text(rows: list[Row]) -> str:
    """The table for a terminal."""
    lines = [HEADER, *(row.cells for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([text[0], "-" * len(text[0]), *text[1:]])


def as_markdown(results: dict) -> str:
    """The README's section between its marks: the table, and the machine that it comes from."""
    lines = [HEADER, ("---",) * len(HEADER), *(row.cells for row in table_rows(results))]
    machine = results["machine"]
    libraries = ", ".join(f"{name} {number}" for name, number in machine["libraries"].items())
    dates = sorted({part["date"][:10] for part in results["parts"].values()})
    return "\n".join([
        BEGIN, *("| " + " | ".join(line) + " |" for line in lines), "",
        f"Measured {' and '.join(dates)} on {machine['cores']} cores of {machine['processor']}, "
        f"{machine['memory_gb']} GB, {machine['system']}, Python {machine['python']}, {libraries}.", END,
    ])


def replace_section(text: str, section: str) -> str:
    """A README's text with the section between two marks made anew.

    Args:
        text: with the marks in it.
        section: whose first and last line are the marks.

    Raises:
        ValueError: the marks are not there, once each and in order.
    """
    lines = section.splitlines()
    begin, end = lines[0], lines[-1]
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"The README has no place for the table: put the lines {begin} and {end} where it belongs.")
    return text[: text.index(begin)] + section + text[text.index(end) + len(end) :]
