"""Bytes that come and go with a step, added up from the tensors that are alive at its peak.

In the manner of Korthikanti et al. (2022, "Reducing Activation Recomputation in Large Transformer Models", section
4.1), with the terms that are different here: LoRA's inputs, grouped key-value heads, attention that never stores its
scores, and a gated feed-forward. In every function ``clips`` are those of a batch, ``length`` the positions of one
clip's chat, ``size`` the bytes of a number, ``unpacked`` those of the largest 4-bit matrix once unpacked.
"""

from transformers import AudioFlamingo3Config


def _widths(config: AudioFlamingo3Config, clips: int, length: int) -> tuple[int, int, int, int, int]:
    """h, i: width of the language model and of its feed-forward part; a: of all attention heads together; n: positions
    of the whole batch; elements of the attention mask, which all heads share."""
    text = config.text_config
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return text.hidden_size, text.intermediate_size, text.num_attention_heads * head, clips * length, clips * length**2


def encoder_bytes(config: AudioFlamingo3Config, windows: int, window: int, size: int) -> int:
    """A layer of the audio tower (stream, norm, inner numbers before and after the activation, the mask as booleans and
    as numbers), or the projector (input, inner numbers before and after the activation) if that is wider; ``window``:
    positions of each of the ``windows``."""
    audio = config.audio_config
    positions = windows * window
    layer = positions * (2 * audio.hidden_size + 2 * audio.intermediate_size) * size
    mask = windows * window**2 * (1 + size)
    return max(layer + mask, positions // 2 * (audio.hidden_size + 2 * config.text_config.hidden_size) * size)


def training_bytes(config: AudioFlamingo3Config, clips: int, length: int, logits: int, size: int, unpacked: int,
                   checkpointing: bool, rank: int, dropout: float, device: str) -> tuple[int, int, int]:
    """What the language model keeps, what a layer works with, and the loss over ``logits`` positions a clip.

    Of each layer autograd keeps: two norms' inputs in float32; queries, keys and values (repeated for all heads, as
    they are wherever clips differ in length and so a mask is given; FlashAttention 2 needs less), attention's output, a
    log-sum a head and position, and the mask as numbers; gate and "up" (see `helpers.model.spare`). Frozen matrices
    keep nothing. Each of seven adapters keeps its input (five as wide as the stream, one as the heads, one as the
    feed-forward part), ``rank`` numbers, and with dropout a byte for each number of the input. In float32 query, key
    and value share one input, gate and "up" another; autocast casts the float32 input down for each adapter. Apple's
    GPUs have PyTorch's own dropout, which keeps the numbers after it and a whole number for each.
    """
    h, i, a, n, mask = _widths(config, clips, length)
    inputs = 5 * h + a + i
    dropped = inputs * (4 if device == "mps" else 1) if dropout else 0
    alone = size < 4 or (dropout and device == "mps")
    inputs = (inputs if alone else 2 * h + a + i) * size + dropped
    norms, attention = 2 * h * 4, 4 * a * size + 4 * config.text_config.num_attention_heads
    layer = n * (norms + attention + (2 * i + 7 * rank) * size + inputs) + mask * size
    layers = config.text_config.num_hidden_layers
    kept = layers * (n * h * size if checkpointing else layer) + n * h * 4 + mask  # the last norm's input; the booleans
    # Gradients at the widest moment, inside the feed-forward part: one of its width and three of the stream's. Beside
    # them in 16 bits the adapter's float32 gradient before and after dropout; in 32 its input, dropped again.
    beside = 8 * i if size < 4 else size * i if dropped and not alone else 0
    working = n * (size * (i + 3 * h) + beside) + unpacked + (layer if checkpointing else 0)
    # The logits' log-softmax, its gradient, and theirs, all in float32.
    return kept, working, 3 * 4 * clips * logits * config.text_config.vocab_size


def generating_bytes(config: AudioFlamingo3Config, clips: int, length: int, new_tokens: int, size: int,
                     unpacked: int) -> tuple[int, int, int]:
    """Keys and values of every layer and position (Pope et al. 2022, "Efficiently Scaling Transformer Inference"); a
    layer over the whole prompt; the next token's scores, in the model's dtype and in float32.

    The layer is at its widest where an unmerged adapter is added beside the "up" matrix: stream, norm and what came
    before them, activated gate, the matrix's result; the adapter's and the sum in float32; the mask twice.
    """
    h, i, a, n, mask = _widths(config, clips, length)
    text = config.text_config
    keys = a * text.num_key_value_heads // text.num_attention_heads
    cache = 2 * text.num_hidden_layers * keys * clips * (length + new_tokens) * size
    layer = n * (size * (3 * h + 2 * i) + 8 * i) + mask * (1 + size) + unpacked
    return cache, layer, clips * text.vocab_size * (size + 4)
