"""Rows that cross the network for the clips of notebooks 03 and 06, from a stand-in for the Hub on this machine."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the stand-in's modules find each other as in pytest
from hub_rows import audiocaps_like, rows_read  # noqa: E402
from hub_server import HubServer  # noqa: E402

CLIPS = {"train_clips": 150, "eval_clips": 28, "test_clips": 24}
DATA = "benchmarks/captions"


def count_rows(run) -> dict[str, float]:
    """``used`` clips and ``read`` rows, by notebook. ``run``: a `Runner`."""
    figures, files = {}, audiocaps_like()
    with HubServer() as hub, tempfile.TemporaryDirectory() as cache:
        hub.add(DATA, files, "dataset")
        trial = " ".join(f"{name}={value}" for name, value in CLIPS.items())
        environment = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1",
                       "no_proxy": "127.0.0.1", "COURSE_CACHE": cache, "COURSE_PROFILE": "full",
                       "COURSE_TRIAL": f"{trial} dataset_id={DATA}"}
        for notebook in ("03", "06"):
            hub.requests.clear()
            used = run("hub_clips", f"clips of notebook {notebook} from the stand-in for the Hub", notebook=notebook,
                       environment=environment)["clips"]
            figures[notebook] = {"used": used, "read": rows_read(hub.requests, files)}
    return figures
