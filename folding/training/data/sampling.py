"""Which sequences a batch holds: clusters evenly, then a member of each evenly, a window of the long ones.

As ESM-2 was trained (Lin et al. 2023, A.1.1): UniRef50 clusters are drawn evenly, then one of the cluster's UniRef90
members. A sequence longer than the crop is cut at a random place, and keeps <cls> and <eos> only where the window has
its true ends, so that the model can tell a protein from a piece of one.

A batch is a function of the seed and its step, so a run that goes on needs no state of a generator, and the number of
processes changes nothing. Clusters are drawn with replacement.
"""

from typing import Final, NamedTuple

import numpy as np

from foldatlas.folding.training.data.corpus import Clusters, Corpus
from foldatlas.folding.training.data.masking import Mask, Tokens, mask

_DRAWN_AT_ONCE: Final = 256
# What a generator is for, so that no two have one seed.
_ORDER: Final = 0
_TRAINING_MASKS: Final = 1
_VALID: Final = 2


class Example(NamedTuple):
    """`length` tokens of `sequence` from `start` on (0 is <cls>); `number` within its batch."""

    number: int
    sequence: int
    start: int
    length: int


def batch(corpus: Corpus, *, seed: int, step: int, tokens: int, crop: int) -> list[Example]:
    """The examples of one update: as many as fit into `tokens`, one at least; at most `crop` tokens of each."""
    examples: list[Example] = []
    total = 0
    for part in range(1 << 31):
        generator = np.random.default_rng([_ORDER, seed, step, part])
        for sequence, start, length in _draw(corpus, corpus.training, generator, crop):
            total += length
            if examples and total > tokens:
                return examples
            examples.append(Example(len(examples), sequence, start, length))
    raise AssertionError("a batch without end")


def held_out(corpus: Corpus, *, most: int, crop: int) -> list[Example]:
    """The first member of each of `most` held-out clusters at most; always the same, and the same windows."""
    first = corpus.valid.members[corpus.valid.starts[:-1]][:most]
    place = np.random.default_rng([_VALID]).random(len(first))
    full = corpus.num_tokens(first)
    starts = (place * (np.maximum(full - crop, 0) + 1)).astype(np.int64)
    rows = zip(first.tolist(), starts.tolist(), np.minimum(full, crop).tolist(), strict=True)
    return [Example(number, *row) for number, row in enumerate(rows)]


def masked(corpus: Corpus, example: Example, *, seed: int, step: int) -> tuple[Tokens, Tokens, Mask]:
    """Tokens as the model sees them, as they are, and where they are asked for, of an example of `batch`."""
    return _masked(corpus, example, [_TRAINING_MASKS, seed, step, example.number])


def masked_held_out(corpus: Corpus, example: Example) -> tuple[Tokens, Tokens, Mask]:
    """The same of an example of `held_out`; always the same."""
    return _masked(corpus, example, [_VALID, example.number, example.length])


def _masked(corpus: Corpus, example: Example, seed: list[int]) -> tuple[Tokens, Tokens, Mask]:
    tokens_T = corpus.tokens(example.sequence)[example.start : example.start + example.length]
    seen_T, is_asked_T = mask(tokens_T, np.random.default_rng(seed))
    return seen_T, tokens_T, is_asked_T


def _draw(corpus: Corpus, clusters: Clusters, generator: np.random.Generator, crop: int) -> list[tuple[int, int, int]]:
    """Sequence, start and length of _DRAWN_AT_ONCE windows."""
    chosen = generator.integers(len(clusters), size=_DRAWN_AT_ONCE)
    first, end = clusters.starts[chosen], clusters.starts[chosen + 1]
    sequences = clusters.members[generator.integers(first, end)]
    full = corpus.num_tokens(sequences)
    starts = generator.integers(np.maximum(full - crop, 0) + 1)
    return list(zip(sequences.tolist(), starts.tolist(), np.minimum(full, crop).tolist(), strict=True))
