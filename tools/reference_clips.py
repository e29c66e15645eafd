"""Write tests/data/reference_clips.npz: needed again only when the sounds are changed on purpose."""

import hashlib
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from helpers.tiny.dataset import make_scene, to_pcm16  # noqa: E402

CLIPS = [("test", 0), ("test", 5), ("train", 3), ("train", 700), ("validation", 11)]

if __name__ == "__main__":
    clips = {f"{split}_{index}": to_pcm16(make_scene(split, index).samples) for split, index in CLIPS}
    digest = hashlib.sha256(b"".join(clips[name].tobytes() for name in sorted(clips))).hexdigest()
    target = Path(__file__).resolve().parents[1] / "tests" / "data" / "reference_clips.npz"
    np.savez_compressed(target, digest=digest, **clips)
