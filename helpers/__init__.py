"""What the notebooks of the course import: ``from helpers import ...``.

Importing this package loads nothing; each name is fetched from its module when it is first used (PEP 562).
"""

from __future__ import annotations

import importlib
import logging

# On a CPU with bfloat16 units bitsandbytes advises, on import, to install a package that fetches compiled code from the
# Hub; peft imports it in every notebook. Nothing here needs that, so only errors of that module are shown.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

_HOMES = {
    "profiles": ["Profile", "get_profile"],
    "data": ["AudioError", "CaptionError", "SAMPLING_RATE", "as_samples", "group_references", "load_audio", "load_captions", "validate_audio"],
    "architecture": ["build_on_meta", "read_config"],
    "memory": ["GPU_MEMORY", "MemoryEstimate", "estimate_memory", "memory_table"],
    "hardware": ["Hardware", "NotEnoughMemory", "choose_hardware", "hardware_settings"],
    "models": ["is_quantized", "load_model", "load_processor"],
    "collator": ["AudioFlamingo3DataCollator", "DESCRIBE_PROMPT", "make_chat"],
    "lora": ["LANGUAGE_MODEL_TARGETS", "AdapterError", "check_adapter", "lora_report"],
    "inference": ["CaptioningInterrupted", "caption", "generate_answers"],
    "pipeline": ["register_pipeline"],
    "metrics": ["CaptionStatistics", "EventScores", "Interval", "bootstrap_by_group", "bootstrap_difference",
                "bootstrap_interval", "caption_statistics", "cider_d", "claimed_relation", "event_confusions",
                "event_counts", "event_f1", "event_scores", "order_accuracy", "true_relation"],
    "evaluation": ["CaptionEvaluation"],
    "costs": ["PEAK_FLOPS", "count_clip_flops", "estimate_cost"],
    "recordings": ["FolderReport", "read_folder", "split_by_source", "write_example_folder"],
    "checks": ["check_setup"],
    "training": ["ensure_adapter", "make_trainer", "save_adapter"],
    "plots": ["plot_bars", "plot_clip", "plot_curve", "plot_intervals"],
    "widgets": ["browse_clips", "compare_captions", "play", "show_label_mask", "show_table", "upload_clip"],
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str):
    if name not in _HOME_OF:
        raise AttributeError(f"module 'helpers' has no attribute {name!r}")
    return getattr(importlib.import_module(f"helpers.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
