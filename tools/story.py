"""The lines and the picture at the top of the README: ``python -m tools.story`` writes them anew.

They come from the adapter of notebook 3 (trained now if there is none) on clips of the test split, which nobody trained
on: the first clips that hold a frog, one with a known sound beside it among them, and the first silent one.
"""

from __future__ import annotations

import re
from pathlib import Path

from peft import PeftModel

from helpers import caption, ensure_adapter, get_profile, load_captions, load_model, load_processor, plot_clip

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "frog.png"
MARKED = re.compile(r"(<!-- story: begin -->\n).*?(<!-- story: end -->)", re.S)


def choose(clips) -> list[dict]:
    """Three clips with a frog, alone and with other sounds, and one in which nothing sounds."""
    frogs = [clip for clip in clips if "frog" in clip["caption"].lower()]
    mixed = [clip for clip in frogs if len(clip["events"]) > 1][:2]
    alone = [clip for clip in frogs if len(clip["events"]) == 1][:1]
    silent = [clip for clip in clips if not clip["events"]][:1]
    return alone + mixed + silent


def table(rows: list[tuple[str, str, str]]) -> str:
    """Markdown of what a person wrote, and what the model said before and after."""
    lines = ["| a person wrote | before | after |", "|---|---|---|"]
    return "\n".join(lines + [f"| {' | '.join(cell.replace('|', ' ') for cell in row)} |" for row in rows])


def main() -> None:
    profile = get_profile("tiny")
    adapter = ensure_adapter(profile)
    base, processor = load_model(profile.model_id, quiet=True), load_processor(profile.model_id)
    clips = choose(list(load_captions(profile.dataset_id, "test")))
    sounds = [clip["audio"] for clip in clips]
    before = caption(base, processor, sounds)
    after = caption(PeftModel.from_pretrained(base, adapter), processor, sounds)
    picture = plot_clip(sounds[1]["array"], processor, clips[1]["caption"])
    PICTURE.write_bytes(picture.png)
    text = table([(clip["caption"], old, new) for clip, old, new in zip(clips, before, after, strict=True)])
    image = f"![{picture.alt}](docs/{PICTURE.name})"
    readme = ROOT / "README.md"
    old = readme.read_text(encoding="utf-8")
    written, found = MARKED.subn(lambda match: f"{match[1]}{image}\n\n{text}\n{match[2]}", old)
    if not found:
        raise SystemExit("README.md has no lines '<!-- story: begin -->' and '<!-- story: end -->': put them back.")
    readme.write_text(written, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
