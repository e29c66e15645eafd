"""Which clips belong together: a source is one recording, place or day, and is never on both sides of a split."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

RECORDER_WORDS = frozenset(re.findall(r"\w+", """
    a am and at aud audio aufnahme aufzeichnung clip copy default download dr dsc enregistrement export
    file freesound fsid grabacion h1n h4n h5 h6 image img item ma memo mic mov mvi my neue new nota note nr
    number output pm ptt pxl rec record recorded recorder recording recordings registrazione sample sound
    sounds ste take test track tx unnamed untitled vid video vn voice voicememo voicenote voz wa wav
    whatsapp xrec yt zoom
"""))
"""Words that recorders, phones and sites put before their running number; they say nothing about the place."""


def source_of(file_name: str) -> str:
    """What a file was cut from, by the usual way to name such files: ``kitchen_01.wav``, ``kitchen-2.flac`` and
    ``kitchen_01a.wav`` are of the source ``kitchen``. A name that only a recorder gives (``Voice 001``, ``IMG_0001``,
    ``freesound_1234``, a date, a bare number) is a source of its own."""
    path = Path(file_name)
    words = set(re.findall(r"[^\W\d_]+", path.stem.casefold()))
    stem = re.sub(r"[\s_.\-]*\(?\d+[a-z]?\)?$", "", path.stem)
    return (path.parent / (path.stem if words <= RECORDER_WORDS or not stem else stem)).as_posix()


def name_sources(captions: Mapping[str, Sequence[str]]) -> tuple[dict[str, str], str | None]:
    """The source of each file, by its name, as far as the names give evidence.

    ``frog_01`` to ``frog_20`` are no evidence if their captions all speak of a frog: then the name says what is heard,
    not what it was cut from. Nor is one and the same word before all numbers.

    Args:
        captions: name of a file, with its folder, -> its captions.

    Returns:
        File -> source; and a sentence if names of one stem were not taken for one source, else ``None``.
    """
    sources = {name: source_of(name) for name in captions}
    members: dict[str, list[str]] = {}
    for name, source in sources.items():
        members.setdefault(source, []).append(name)
    several = {source: names for source, names in members.items() if len(names) > 1}
    if len(members) == 1 and several:
        alone = several
    else:
        alone = {source: names for source, names in several.items() if _says_what_is_heard(source, names, captions)}
    for names in alone.values():
        sources.update((name, Path(name).with_suffix("").as_posix()) for name in names)
    if not alone:
        return sources, None
    example = Path(next(iter(alone.values()))[0]).name
    return sources, (f"Each of {sum(map(len, alone.values()))} files such as {example} counts as a recording of its "
                     "own: if several were cut from one, say so in a column 'source', or the score measures memory.")


def _says_what_is_heard(source: str, names: Sequence[str], captions: Mapping[str, Sequence[str]]) -> bool:
    words = [word[:5] for word in re.findall(r"[^\W\d_]{3,}", Path(source).name.casefold())]
    heard = [" ".join(captions[name]).casefold() for name in names]
    return bool(words) and all(any(word in text for word in words) for text in heard)


def split_by_source(clips: Sequence[dict], share: float = 0.2, seed: int = 0) -> tuple[list[dict], list[dict]]:
    """Clips to train on and clips to evaluate on, so that no source is on both sides.

    Two clips cut from one recording share its microphone, its room and its dog: with one on each side the score would
    measure memory. The sides depend on the names of the sources and on ``seed`` alone, not on the order of the clips.

    Clips have a ``source``, as `read_folder` gives them; ``share`` is roughly how many of them to evaluate on. Returns
    (training clips, evaluation clips), each in the order given.

    Raises:
        ValueError: fewer than two sources, or a share outside 0 to 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"share is {share}, but it has to lie between 0 and 1, such as 0.2.")
    sizes = Counter(clip["source"] for clip in clips)
    if len(sizes) < 2:
        raise ValueError(f"All {len(clips)} clips come from {len(sizes)} source ({', '.join(sizes)}), so there is "
                         "nothing to evaluate on that was not trained on: add a column 'source' to the table that "
                         "tells recordings apart.")
    shuffled = sorted(sizes, key=lambda source: hashlib.sha256(f"{seed}:{source}".encode()).digest())
    chosen, count = set(), 0
    for source in shuffled:
        if count + sizes[source] <= share * len(clips):
            chosen.add(source)
            count += sizes[source]
    if not chosen:  # every source is larger than the share: the smallest one then
        chosen.add(min(shuffled, key=sizes.get))
    train, held_out = ([clip for clip in clips if (clip["source"] in chosen) == side] for side in (False, True))
    return train, held_out
