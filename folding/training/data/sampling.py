"""Sampling of the sequences of a batch: a cluster uniformly, then one of its members, and a window of long sequences.

As for ESM-2 (Lin et al. 2023, A.1.1), UniRef50 clusters are drawn uniformly, then one of the cluster's UniRef90
members. Sequences longer than the crop are cut at a random position; <cls> and <eos> are kept only at the true ends, so
that the model can distinguish a protein from a fragment.

A batch is a function of the seed and the step, so a resumed run needs no generator state, and the number of processes
has no influence. Clusters are drawn with replacement.
"""

from typing import Final, NamedTuple

import numpy as np

from foldatlas.folding.training.data.corpus import Clusters, Corpus
from foldatlas.folding.training.data.masking import Mask, Tokens, mask

_DRAWN_AT_ONCE: Final = 256
# Part of the seed: the purpose of a generator, so that no two generators have the same seed.
_ORDER: Final = 0
_TRAINING_MASKS: Final = 1
_VALID: Final = 2


class Example(NamedTuple):
    """`length` tokens of `sequence` from `start` (0 is <cls>); `number` is the index in its batch."""

    number: int
    sequence: int
    start: int
    length: int


def batch(corpus: Corpus, *, seed: int, step: int, tokens: int, crop: int) -> list[Example]:
    """Return the examples of one update: as many as fit into `tokens`, at least one, of at most `crop` tokens each."""
    examples: list[Example] = []
    total = 0
    for part in range(1 << 31):
        generator = np.random.default_rng([_ORDER, seed, step, part])
        for sequence, start, length in _draw(corpus, corpus.training, generator, crop):
            total += length
            if examples and total > tokens:
                return examples
            examples.append(Example(len(examples), sequence, start, length))
    raise AssertionError("unreachable: every example adds tokens")


def held_out(corpus: Corpus, *, max_clusters: int, crop: int) -> list[Example]:
    """Return the first member of each of up to `max_clusters` held-out clusters, with the same windows in each call."""
    first = corpus.valid.members[corpus.valid.starts[:-1]][:max_clusters]
    position = np.random.default_rng([_VALID]).random(len(first))
    full = corpus.num_tokens(first)
    starts = (position * (np.maximum(full - crop, 0) + 1)).astype(np.int64)
    rows = zip(first.tolist(), starts.tolist(), np.minimum(full, crop).tolist(), strict=True)
    return [Example(number, *row) for number, row in enumerate(rows)]


def masked(corpus: Corpus, example: Example, *, seed: int, step: int) -> tuple[Tokens, Tokens, Mask]:
    """Return masked tokens, true tokens, and True at the positions to predict, of an example of `batch`."""
    return _masked(corpus, example, [_TRAINING_MASKS, seed, step, example.number])


def masked_held_out(corpus: Corpus, example: Example) -> tuple[Tokens, Tokens, Mask]:
    """Return the same of an example of `held_out`, with the same mask in each call."""
    return _masked(corpus, example, [_VALID, example.number, example.length])


def _masked(corpus: Corpus, example: Example, seed: list[int]) -> tuple[Tokens, Tokens, Mask]:
    tokens_T = corpus.tokens(example.sequence)[example.start : example.start + example.length]
    masked_T, is_selected_T = mask(tokens_T, np.random.default_rng(seed))
    return masked_T, tokens_T, is_selected_T


def _draw(corpus: Corpus, clusters: Clusters, generator: np.random.Generator, crop: int) -> list[tuple[int, int, int]]:
    """Return sequence, start and length of _DRAWN_AT_ONCE random windows."""
    chosen = generator.integers(len(clusters), size=_DRAWN_AT_ONCE)
    first, end = clusters.starts[chosen], clusters.starts[chosen + 1]
    sequences = clusters.members[generator.integers(first, end)]
    full = corpus.num_tokens(sequences)
    starts = generator.integers(np.maximum(full - crop, 0) + 1)
    return list(zip(sequences.tolist(), starts.tolist(), np.minimum(full, crop).tolist(), strict=True))
