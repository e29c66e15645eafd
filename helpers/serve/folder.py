"""From a folder (or a Hub id) to a model that can be served: an adapter is merged into its base first."""

from pathlib import Path

from transformers import PreTrainedModel
from transformers.processing_utils import ProcessorMixin

from helpers.model.folders import has_processor
from helpers.model.loading import load_model, load_processor
from helpers.model.lora import AdapterError, check_adapter
from helpers.model.record import is_tiny, read_json
from helpers.profiles import TINY


def load_for_serving(source: str) -> tuple[PreTrainedModel, ProcessorMixin]:
    """The model and the processor that lie in ``source``.

    An adapter is put on the base that it records and merged in memory: the server knows plain models only, and merged
    weights have nothing more to compute. The files stay as they are.

    Args:
        source: ``"tiny"``, a Hub id, the folder of a model, or the folder of an adapter.

    Raises:
        FileNotFoundError: a folder that holds neither a model nor an adapter, or no processor.
        AdapterError, HubError, NotEnoughMemory, UnknownModel: see `check_adapter` and `load_model`.
    """
    folder = Path(source)
    if source != TINY and folder.is_dir() and not has_processor(folder):
        raise FileNotFoundError(f"The folder {folder.name!r} holds no processor (processor_config.json): save it "
                                "beside the weights with processor.save_pretrained, as notebook 10 does.")
    is_adapter = (folder / "adapter_config.json").is_file()
    return _merged(folder) if is_adapter else load_model(source), load_processor(source)


def _merged(folder: Path) -> PreTrainedModel:
    from peft import PeftModel

    recorded = read_json(folder / "adapter_config.json", folder.name).get("base_model_name_or_path")
    if not recorded:
        raise AdapterError(f"The adapter in {folder.name!r} does not say which base it was trained on: merge it by "
                           "hand, as notebook 05 does, and serve the merged folder.")
    # A merge into 4-bit weights would round most of it away.
    base = load_model(TINY if is_tiny(recorded) else recorded, quantize=False)
    return PeftModel.from_pretrained(base, check_adapter(base, folder)).merge_and_unload().eval()
