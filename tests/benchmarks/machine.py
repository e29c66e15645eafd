"""What the figures were measured on: enough to judge them by, nothing that tells whose machine it is."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

import psutil

LIBRARIES = ("torch", "transformers", "datasets", "peft", "accelerate")


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        text = information.read_text(encoding="utf-8")
        model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
        if model:
            # Whether bfloat16 is computed or emulated changes what the guide's own dtype costs.
            units = "with" if re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", text) else "without"
            return f"{model.group(1).strip()} ({units} bfloat16 units)"
    return platform.processor() or platform.machine()


def describe_machine(threads: int | None = None) -> dict:
    """Processor, cores, memory, operating system, versions of Python and libraries.

    Args:
        threads: how many PyTorch was told to use; ``None`` where it chose itself.
    """
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "system": platform.system(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
    }
