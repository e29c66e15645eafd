"""CIDEr-D: do a caption's words agree with what people wrote?

It is written out here because the packages that have it bring much more: pycocoevalcap 100 MB of Java for its other
metrics, aac-metrics an older transformers. A test holds it against pycocoevalcap's scorer. For METEOR, SPICE and the
model-based scores use aac-metrics, in an environment of its own.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from helpers.metrics.wording import one_each, tokenize


def _ngrams(tokens: Sequence[str], n: int) -> list[Counter]:
    """Counts of the n-grams of each length from 1 to ``n``."""
    return [Counter(zip(*(tokens[start:] for start in range(length)), strict=False)) for length in range(1, n + 1)]


def cider_d(captions: Sequence[str], references: Sequence[Sequence[str]], n: int = 4,
            sigma: float = 6.0) -> np.ndarray:
    """CIDEr-D of each caption: do its n-grams agree with people's, weighted by how telling each n-gram is?

    Vedantam, Zitnick and Parikh, "CIDEr: Consensus-based Image Description Evaluation", CVPR 2015, sections 3 and 5
    (CIDEr-D, the variant that all captioning benchmarks report). For each length of n-gram, caption and reference
    become vectors of counts times inverse document frequency, ``log(clips) - log(clips whose references have it)``;
    their clipped cosine is multiplied by ``exp(-(difference in length)**2 / (2 sigma**2))``, averaged over the
    references and over the lengths 1 to ``n``, and multiplied by 10. The document frequencies come from ``references``
    themselves: the same caption scores differently in another set of clips, and over a single clip every score is 0.

    Args:
        captions: one a clip.
        references: what people wrote, one or more texts a clip.

    Returns:
        Scores from 0 to 10, shape ``(clips,)``, float64. Their mean is the score that papers print.

    Raises:
        ValueError: not one caption a clip, no clips, or a clip without references.
    """
    one_each(captions, references, "lists of references")
    for number, texts in enumerate(references):
        if isinstance(texts, str) or not len(texts):
            raise ValueError(f"The references of clip {number} are {'one string' if len(texts) else 'empty'}: give a "
                             "list of one or more texts a clip.")
    cooked = [[_ngrams(tokenize(text), n) for text in texts] for texts in references]
    frequency = Counter(gram for texts in cooked for gram in set().union(*(grams for text in texts for grams in text)))
    clips = np.log(len(captions))
    idf = {gram: clips - np.log(count) for gram, count in frequency.items()}

    def weigh(counts: list[Counter]) -> tuple[list[dict], list[float], int]:
        """Weighted vectors, their norms, and the length, which the reference code takes as the number of pairs."""
        vectors = [{gram: count * idf.get(gram, clips) for gram, count in grams.items()} for grams in counts]
        pairs = sum(counts[1].values()) if len(counts) > 1 else 0
        return vectors, [np.sqrt(sum(value * value for value in vector.values())) for vector in vectors], pairs

    scores = np.zeros(len(captions))
    for clip, (text, texts) in enumerate(zip(captions, cooked, strict=True)):
        ours, our_norms, our_length = weigh(_ngrams(tokenize(text), n))
        for theirs, their_norms, their_length in map(weigh, texts):
            penalty = np.exp(-((our_length - their_length) ** 2) / (2 * sigma**2))
            for mine, my_norm, other, other_norm in zip(ours, our_norms, theirs, their_norms, strict=True):
                # Clipping: saying a word five times cannot earn more than the reference has of it.
                product = sum(min(value, other[gram]) * other[gram] for gram, value in mine.items() if gram in other)
                if my_norm and other_norm:
                    scores[clip] += penalty * product / (my_norm * other_norm)
        scores[clip] *= 10 / (n * len(texts))
    return scores
