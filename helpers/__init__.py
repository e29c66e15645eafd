"""What the notebooks of the course import: ``from helpers import ...``.

Importing this package loads nothing; each name is fetched from its module when it is first used (PEP 562).
"""

import importlib
import logging

# On a CPU with bfloat16 units bitsandbytes advises, on import, to install a package that fetches compiled code from the
# Hub; peft imports it in every notebook. Nothing here needs that, so only errors of that module are shown.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

_HOMES = {
    "profiles": ["DESCRIBE_PROMPT", "SAMPLING_RATE", "get_profile"],
    "families": ["FAMILIES", "UnknownModel"],
    "hub": ["HubError", "hub_access"],
    "audio.samples": ["AudioError", "AudioWarning", "as_samples", "load_audio", "validate_audio"],
    "audio.table": ["CaptionError"],
    "audio.captions": ["group_references", "load_captions"],
    "audio.kept": ["TooMuch"],
    "audio.folder": ["FolderReport", "read_folder"],
    "audio.sources": ["split_by_source"],
    "audio.order": ["ClipStream"],
    "tiny.own_sounds": ["write_own_folder"],
    "audio.vocabulary": ["load_vocabulary", "split_vocabulary"],
    "audio.windows": ["accept_trimmed", "trim_windows"],
    "chat": ["AudioFlamingo3DataCollator", "ChatError", "check_chat", "make_chat"],
    "model.architecture": ["build_on_meta"],
    "model.memory": ["estimate_memory", "memory_table"],
    "model.hardware": ["NotEnoughMemory", "choose_hardware", "precision_arguments"],
    "model.loading": ["is_quantized", "load_model", "load_processor", "quantized_modules"],
    "model.checkpointing": ["choose_checkpointing"],
    "model.relatives": ["write_music_flamingo"],
    "model.lora": ["LANGUAGE_MODEL_TARGETS", "AdapterError", "check_adapter", "lora_report"],
    "model.record": ["adapter_record"],
    "model.spare": ["spare_dropout"],
    "captioning.captions": ["CaptioningInterrupted", "caption"],
    "captioning.decoding": ["GREEDY"],
    "captioning.overflow": ["FloatOverflow"],
    "captioning.pipeline": ["register_pipeline"],
    "metrics.events": ["claimed_relation", "event_confusions", "event_counts", "event_f1", "event_scores",
                       "mentioned_events", "order_accuracy",
                       "true_events", "true_relation"],
    "metrics.wording": ["caption_statistics"],
    "metrics.cider": ["cider_d"],
    "metrics.intervals": ["bootstrap_by_group", "bootstrap_difference", "bootstrap_interval"],
    "training.batches": ["check_batch"],
    "training.runs": ["check_adapters", "check_training"],
    "training.guard": ["TrainingError", "TrainingGuard"],
    "training.evaluation": ["CaptionEvaluation"],
    "training.resume": ["CheckpointError", "last_whole_checkpoint"],
    "training.recipe": ["ensure_adapter", "lora_config", "make_trainer", "save_adapter", "training_arguments"],
    "scale.profiling": ["model_bytes", "peak_memory", "profile_steps", "step_shares"],
    "scale.costs": ["count_clip_flops", "estimate_cost"],
    "show.tables": ["compare_captions", "play", "show_table"],
    "show.pictures": ["plot_bars", "plot_clip", "plot_intervals"],
    "show.curves": ["plot_curve", "plot_curves"],
    "show.machine": ["plot_machine"],
    "show.labels": ["show_label_mask"],
    "show.guess": ["predict"],
    "show.progress": ["TrainingProgress", "progress", "show_progress"],
    "show.game": ["guess_caption"],
    "show.explorer": ["explore_labels"],
    "show.calculator": ["calculator"],
    "show.playground": ["playground"],
    "show.sound": ["your_sound"],
    "exercises.clips": ["check_leak", "check_placeholders", "check_whale"],
    "exercises.batches": ["check_answer_labels", "check_label_count", "check_smallest_k"],
    "exercises.adapters": ["check_deaf_student", "check_lora_parameters", "check_whose_curve", "curve_rates",
                           "shuffled_captions", "unlabelled_curves"],
    "exercises.answers": ["check_f1_by_hand", "check_luck", "check_omissions"],
    "exercises.merging": ["check_forgetting", "check_merge", "check_mix"],
    "exercises.scores": ["black_boxes", "check_black_boxes", "check_clips_needed", "check_paired"],
    "exercises.recordings": ["check_faults", "check_split", "write_faulty_folder"],
    "exercises.clinic": ["ILLNESSES", "check_diagnosis", "check_keep", "sick_runs"],
    "exercises.sizes": ["check_memory_plan", "check_precisions", "check_resume"],
    "setup.doctor": ["check_setup"],
    "sharing": ["write_model_card"],
    "serve.process": ["ServerProcess"],
}
FOR_YOUR_PROJECT = {
    "adapter_record", "AdapterError", "as_samples", "AudioWarning", "CaptioningInterrupted", "ChatError",
    "check_adapters", "check_batch", "check_chat", "check_training", "CheckpointError", "choose_hardware",
    "DESCRIBE_PROMPT", "FolderReport", "hub_access", "HubError", "LANGUAGE_MODEL_TARGETS",
    "last_whole_checkpoint", "NotEnoughMemory", "SAMPLING_RATE", "TrainingError", "validate_audio",
    "true_events", "FAMILIES", "FloatOverflow", "TrainingProgress", "UnknownModel", "accept_trimmed",
    "choose_checkpointing", "trim_windows", "TooMuch",
}
"""Those that no notebook needs, but your own project may: errors to catch (their sentences say what to do), the
course's constants, and the parts under `load_audio`, `load_model`, `read_folder` and the training command."""
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str):
    if name not in _HOME_OF:
        raise AttributeError(f"module 'helpers' has no attribute {name!r}")
    return getattr(importlib.import_module(f"helpers.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
