"""An adapter on disk is whole or not there: written beside its place, checked, recorded, and moved in."""

import shutil
from contextlib import nullcontext
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError
from transformers import Trainer
from transformers.processing_utils import ProcessorMixin

from helpers.model.lora import check_adapter
from helpers.model.record import AdapterError, AdapterRecord, base_version, write_record
from helpers.profiles import TINY, Profile
from helpers.systems import move


def save_adapter(trainer: Trainer, processor: ProcessorMixin, folder: Path, profile: Profile | None = None) -> Path:
    """Save adapter and processor into ``folder`` so that the folder is always whole: old or new, never half.

    Both are written next to it first, with a record of what made them (see `adapter_record`), checked, and moved into
    place at the end. Savers of several programs wait for each other, and what dead ones have left behind is removed.
    Every process of a run has to call this, for weights that are sharded over processes are gathered; the first process
    writes.

    The record says which data the run saw if it is given the ``profile``.

    Raises:
        AdapterError: the folder holds something else; or what was written is not a whole adapter (its weights are not
            finite, for example), the disk is full, or another program holds the old one; what was in ``folder`` is
            there still.
    """
    folder = Path(folder)
    check_place(folder)
    fresh, old = (folder.with_name(f"{folder.name}.{state}") for state in ("saving", "old"))
    first, written = trainer.is_world_process_zero(), False
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    if first:
        folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock") if first else nullcontext():
        try:
            if first:
                clear_leftovers(folder)
            trainer.save_model(str(fresh))
            if first:
                processor.save_pretrained(fresh)
                (fresh / "training_args.bin").unlink(missing_ok=True)  # a pickle, and of no use to the adapter
                write_record(fresh, record_of(trainer, profile))
                check_adapter(trainer.accelerator.unwrap_model(trainer.model), fresh)
                written = True
                if folder.exists():
                    move(folder, old)
                move(fresh, folder)
        except (OSError, SafetensorError) as error:
            if written:  # a move was refused
                raise AdapterError(f"The new adapter is whole, but cannot take the place of {folder.name!r} "
                                   f"({error.strerror or error}): close the programs and kernels that have a file of "
                                   "it open, and save again; until then the old one stays.") from error
            raise AdapterError(f"The adapter cannot be written to {folder.name!r} "
                               f"({getattr(error, 'strerror', None) or error}): make room on the disk, or name another "
                               "folder, and save again; what was there before is untouched.") from error
        finally:
            if first:
                clear_leftovers(folder, spare_fresh=written)
    trainer.accelerator.wait_for_everyone()
    return folder


def check_place(folder: Path) -> None:
    """Refuse to put an adapter in the place of anything else: what is there would be gone.

    Raises:
        AdapterError: ``folder`` is a file, or holds something, but no adapter.
    """
    if folder.exists() and not folder.is_dir():
        raise AdapterError(f"{folder.name!r} is a file, so no adapter can be saved there: name a folder.")
    found = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    if found and not any(name.startswith("adapter_") for name in found):
        raise AdapterError(f"The folder {folder.name!r} holds something else than an adapter ({found[0]}, for one), "
                           "which saving would replace: name a folder of its own.")


def clear_leftovers(folder: Path, spare_fresh: bool = False) -> None:
    """Take up what a saver has left behind, killed perhaps; call it while no other saves.

    Stopped between its two moves, it has left the adapter under its old name: that comes back first. A new one that is
    whole and could not be moved into place is spared.
    """
    fresh, old = (folder.with_name(f"{folder.name}.{state}") for state in ("saving", "old"))
    if old.exists() and not folder.exists():
        move(old, folder)
    shutil.rmtree(old, ignore_errors=True)
    if not spare_fresh:
        shutil.rmtree(fresh, ignore_errors=True)


def record_of(trainer: Trainer, profile: Profile | None = None) -> AdapterRecord:
    """What made a trainer's adapter, for `write_record`; no path of this machine is in it."""
    args, model = trainer.args, trainer.accelerator.unwrap_model(trainer.model)
    lora = model.peft_config["default"]
    numbers = {"learning_rate": args.learning_rate, "batch_size": args.per_device_train_batch_size,
               "gradient_accumulation_steps": args.gradient_accumulation_steps, "lora_rank": lora.r,
               "lora_alpha": lora.lora_alpha, "lora_dropout": lora.lora_dropout}
    about = {} if profile is None else {"profile": profile.name, **data_of(profile)}
    asked = args.max_steps if args.max_steps > 0 else trainer.state.max_steps
    return AdapterRecord(steps_done=trainer.state.global_step, steps_asked=asked,
                         base=Path(model.name_or_path).as_posix(),
                         base_version=base_version(model.name_or_path, model.config), processes=args.world_size,
                         numbers=numbers, **about)


def data_of(profile: Profile) -> dict[str, str | None]:
    """Which data a profile trains on, as a record names it: ``data`` and ``data_version``."""
    if profile.dataset_id == TINY:
        from helpers.tiny.dataset import data_version

        return {"data": TINY, "data_version": data_version()}
    local = Path(profile.dataset_id).is_dir()
    return {"data": Path(profile.dataset_id).name if local else profile.dataset_id, "data_version": None}
