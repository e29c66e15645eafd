"""Figures of `tests.benchmarks.full_size` as the README shows them."""

from __future__ import annotations

from helpers.model.memory import GB

TITLES = {
    "guide": "a step of 16 clips, the guide's recipe: four batches of 4, checkpointed",
    "checkpointed": "this course's: four batches of 4, checkpointed",
    "kept": "four batches of 4, activations kept (what `make_trainer` chose here)",
    "checkpointed, 16 at once": "one batch of 16, checkpointed",
    "4 bits, checkpointed": "four batches of 4 in 4 bits, checkpointed",
}
SPEAKERS = {
    "guide": "{clips} captions of {tokens} tokens, the guide's loop, one clip after the other",
    "course": "`caption`, all at once, with the adapter beside the weights",
    "merged": "`caption`, all at once, the adapter merged",
}


def _gigabytes(size: int) -> str:
    return f"{size / GB:.2f} GB"


def as_markdown(figures: dict) -> str:
    """The table between its marks, and the machine that it comes from."""
    found, machine = figures["parts"], figures["machine"]
    guide, said = found["guide"]["seconds"], found["captions"]
    lines = [("", "seconds", "to the guide's", "memory at its peak", "estimated"), ("---", *["---:"] * 4),
             ("the weights", "", "", _gigabytes(found["loading"]["allocated"]),
              _gigabytes(found["loading"]["estimate"]))]
    for name, title in TITLES.items():
        one = found[name]
        # The guide hears whole windows, with adapters in the tower: the estimate is not for it.
        known = "" if name == "guide" else _gigabytes(one["estimate"])
        lines.append((title, f"{one['seconds']:.2f}", f"{one['seconds'] / guide:.2f}", _gigabytes(one["peak"]), known))
    for name, title in SPEAKERS.items():
        memory = [_gigabytes(said[part]) for part in ("peak", "estimate")] if name == "course" else ["", ""]
        lines.append((title.format(clips=said["clips"], tokens=figures["caption_tokens"]),
                      f"{said['clips'] / said[name]:.2f}", f"{said['guide'] / said[name]:.2f}", *memory))
    gpu = f"{machine['gpu']['name'].removeprefix('NVIDIA ')} ({_gigabytes(machine['gpu']['memory'])})"
    libraries = ", ".join(f"{name} {number}" for name, number in machine["libraries"].items())
    return "\n".join(["<!-- full size: begin -->", *("| " + " | ".join(line) + " |" for line in lines), "",
                      f"Measured {figures['date'][:10]} on one {gpu}, Python {machine['python']}, {libraries}.",
                      "<!-- full size: end -->"])
