"""Notebook 03 as one command, for the long runs: ``python -m helpers.train --profile full``.

It runs `make_trainer` and nothing else, so it is the notebook's recipe. The same command runs on several GPUs under
``torchrun --nproc_per_node N -m helpers.train ...`` or ``accelerate launch --config_file ... -m helpers.train ...``:
each process takes a GPU of its own, all of them make the same trainer, and the first one prints and saves.
"""

import argparse
import dataclasses
import os
import sys
import warnings
from pathlib import Path

from helpers.profiles import PROFILES, TINY, Profile, get_profile
from helpers.systems import print_anything


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m helpers.train", description="Fine-tune Audio Flamingo 3 with "
                                     "LoRA: the recipe of notebook 03.")
    parser.add_argument("--profile", choices=PROFILES, help="model, data and numbers (default: "
                        "$COURSE_PROFILE, or tiny)")
    parser.add_argument("--data", metavar="SOURCE", help="'tiny', a data set on the Hub, or a folder of audio "
                        "files with a metadata.csv (default: the profile's)")
    parser.add_argument("--steps", type=int, metavar="N", help="updates of the weights (default: the profile's)")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where adapter/ and checkpoints/ go (default: "
                        "runs/ and the profile's name)")
    parser.add_argument("--resume", action="store_true", help="go on from the last whole checkpoint, if there is one")
    parser.add_argument("--push", nargs="?", const="", metavar="NAME", help="share the adapter on the Hub afterwards, "
                        "under NAME (default: the profile's)")
    return parser


def read_options(arguments: list[str] | None = None) -> tuple[argparse.Namespace, Profile]:
    """Parse and check the command line before anything large is loaded: the options, with ``output`` and ``push`` (the
    repository's name, or ``None``) filled in; and the profile with ``--data`` and ``--steps`` in it.

    Raises:
        SystemExit: an option is wrong; one sentence on stderr says which and what to do.
    """
    from helpers.training.resume import checkpoints

    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        profile = get_profile(options.profile)
    except ValueError as error:
        parser.error(str(error))
    if options.steps is not None:
        if options.steps < 1:
            parser.error(f"--steps is {options.steps}: a run takes at least 1 step.")
        profile = dataclasses.replace(profile, max_steps=options.steps)
    if options.data is not None:
        if not options.data.strip():
            parser.error("--data is empty: name a folder, a data set on the Hub, or 'tiny'.")
        profile = dataclasses.replace(profile, dataset_id=options.data)
    options.output = options.output or profile.runs
    if options.output.exists() and not options.output.is_dir():
        parser.error(f"--output {options.output.name} is a file: name a folder.")
    begun = checkpoints(options.output / "checkpoints")
    if begun and not options.resume and int(os.environ.get("RANK", 0)) == 0:
        parser.error(f"{options.output.name!r} holds checkpoints of an earlier run: go on from its last whole one with "
                     "--resume, or choose another folder with --output.")
    if options.push is not None:
        from huggingface_hub import get_token

        options.push = options.push or profile.hub_model_id
        if not options.push:
            parser.error(f"The {profile.name} profile has no name to share the adapter under: give one, as in "
                         "--push my-audio-captions.")
        if not get_token():
            parser.error("--push needs a login: run `hf auth login` first, or set HF_TOKEN.")
    return options, profile


def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns the exit status: 0, or 1 after a sentence on stderr that says what is wrong."""
    print_anything()
    options, profile = read_options(arguments)

    import helpers
    from helpers.audio.captions import SplitError
    from helpers.model.hardware import NoSuchDevice

    explained = (helpers.AdapterError, helpers.AudioError, helpers.CaptionError, helpers.CheckpointError,
                 helpers.HubError, helpers.NotEnoughMemory, helpers.TrainingError, NoSuchDevice, SplitError,
                 FileNotFoundError)
    try:
        return _train(options, profile)
    except explained as error:
        print(f"helpers.train: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("helpers.train: interrupted; the same command with --resume goes on from the last whole checkpoint.",
              file=sys.stderr)
    return 1


def _train(options: argparse.Namespace, profile: Profile) -> int:
    import torch
    from accelerate.utils import gather_object
    from transformers import TrainerState

    from helpers.audio.captions import load_captions
    from helpers.hub import is_hub_id
    from helpers.model.loading import load_model, load_processor
    from helpers.sharing import write_model_card
    from helpers.training.recipe import make_trainer, save_adapter
    from helpers.training.resume import CheckpointError, full_disk_explained, last_whole_checkpoint
    from helpers.training.splits import folder_splits

    first = int(os.environ.get("RANK", 0)) == 0  # set by torchrun and by `accelerate launch`
    device = None
    if torch.cuda.is_available() and "LOCAL_RANK" in os.environ:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    checkpoints = options.output / "checkpoints"
    checkpoint = last_whole_checkpoint(checkpoints) if options.resume else None

    try:
        checkpoints.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"--output {options.output.name!r} cannot be made or written to "
                              f"({getattr(error, 'strerror', None) or error}): name another folder.") from None
    data, held_out = {}, []
    if profile.dataset_id != TINY and not Path(profile.dataset_id).is_dir() and not is_hub_id(profile.dataset_id):
        load_captions(profile.dataset_id)  # says that there is no such folder, before anything large is loaded
    if Path(profile.dataset_id).is_dir():
        from helpers.audio.folder import scan_folder, stream_clips

        report = scan_folder(profile.dataset_id)
        clips_to_train, held_out = folder_splits(report, profile)
        data = {"train": stream_clips(clips_to_train), "evaluation": stream_clips(held_out) if held_out else None}
        if first:
            print(report)
            print(f"{len(clips_to_train)} clips to train on, {len(held_out)} to evaluate on.")

    processor = load_processor(profile.model_id)
    model = load_model(profile.model_id, device=device, quiet=not first)
    # Checkpoints of this command are for going on from: with optimizer, schedule and random state beside the adapter.
    trainer = make_trainer(profile, model, processor, checkpoints, save_only_model=False, **data)
    if trainer.args.world_size > 1:
        seen = gather_object([checkpoint.name if checkpoint else None])
        if len(set(seen)) > 1:
            raise CheckpointError("The machines do not see the same checkpoints: put --output on a disk that all of "
                                  "them share.")
    if first:
        processes = trainer.args.world_size
        clips = trainer.args.train_batch_size * trainer.args.gradient_accumulation_steps * processes
        print(f"{profile.max_steps} steps of {clips} clips in {processes} process{'es' if processes > 1 else ''}, "
              + (f"from {checkpoint.name} on." if checkpoint else
                 "from the beginning: there is no whole checkpoint." if options.resume else "from the beginning."))
        if trainer.eval_dataset is None:
            print("There are no clips to evaluate on beside those to train on"
                  + (": they all come from one source; a column 'source' in the table tells recordings apart."
                     if data else "."))
    if checkpoint and int(checkpoint.name.rpartition("-")[2]) >= profile.max_steps:
        # Nothing is left to train; `Trainer` would take one step more. Weights that are sharded have no such file.
        if not (checkpoint / "adapter_model.safetensors").is_file():
            raise CheckpointError(f"The run is at {checkpoint.name} already: ask for more steps with --steps.")
        trainer.model.load_adapter(str(checkpoint), "default", is_trainable=True)
        done = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        trainer.state.log_history, trainer.state.global_step = done.log_history, done.global_step
    else:
        with full_disk_explained(checkpoints):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    folder = save_adapter(trainer, processor, options.output / "adapter", profile)
    if first:
        write_model_card(folder, profile, trainer.state.log_history, trainer.args.world_size)
        print(f"The adapter is in {folder}.")
        if held_out:
            print(measure(trainer, processor, profile, held_out))
        if options.push:
            print(f"It is shared at {push_adapter(folder, options.push)}.")
    trainer.accelerator.end_training()
    return 0


def measure(trainer, processor, profile: Profile, clips: list[dict]) -> str:
    """How good captions of clips that were not trained on are, without the adapter and with it, in one sentence or two.

    The measure is CIDEr-D, which knows no list of words, and so fits captions in anybody's words. ``clips`` have
    ``audio``, as `as_samples` takes it, and ``references``; those that cannot be used are left out.
    """
    from helpers.audio.samples import AudioError, as_samples
    from helpers.captioning.captions import caption
    from helpers.metrics.cider import cider_d
    from helpers.metrics.intervals import bootstrap_difference, bootstrap_interval

    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        return ("Captions are not measured while the weights are sharded: load the adapter in one process, and see "
                "notebook 06.")
    heard, references = [], []
    for clip in clips:
        try:
            heard.append(as_samples(clip["audio"]))
            references.append(clip["references"])
        except AudioError as error:
            print(f"Left out of the measurement: {error}")
    if len(heard) < 2:
        return "Fewer than two clips can be measured, and that says nothing: record more, from other sources."
    model = trainer.accelerator.unwrap_model(trainer.model)
    options = {"batch_size": profile.caption_batch_size, "max_new_tokens": 60}
    with model.disable_adapter():
        before = cider_d(caption(model, processor, heard, **options), references)
    after = cider_d(caption(model, processor, heard, **options), references)
    loss = next((row["eval_loss"] for row in reversed(trainer.state.log_history) if "eval_loss" in row), None)
    return (f"CIDEr-D (0 to 10) on {len(heard)} held-out clips: {bootstrap_interval(before)} before, "
            f"{bootstrap_interval(after)} after, a difference of {bootstrap_difference(after, before)}, with 95 % "
            "intervals."
            + (f" Evaluation loss: {loss:.2f}." if loss is not None else ""))


def push_adapter(folder: Path, name: str) -> str:
    """Upload a saved adapter with its processor to the repository ``name`` on the Hub, made private if there is none;
    the repository's address."""
    from huggingface_hub import HfApi

    repository = HfApi().create_repo(name, private=True, exist_ok=True)
    HfApi().upload_folder(repo_id=repository.repo_id, folder_path=folder, commit_message="LoRA adapter and processor")
    return str(repository)


if __name__ == "__main__":
    # What is said of a clip is for its owner: the sentence, without the line of code that said it.
    warnings.formatwarning = lambda message, *_, **__: f"{message}\n"
    sys.exit(main())
