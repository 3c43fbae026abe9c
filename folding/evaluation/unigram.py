"""Perplexity of a unigram model, the baseline of language models, and of several chains together.

Only the twenty standard residues are scored, as in folding/perplexity.py.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from foldatlas.schemas.records import STANDARD_RESIDUES


@dataclass(frozen=True, slots=True)
class Unigram:
    """A unigram model: the log-probability of each standard residue."""

    log_probability: dict[str, float]

    @classmethod
    def fit(cls, sequences: Iterable[str]) -> "Unigram":
        """Return the model with the frequencies in `sequences`, plus one for each residue so that none is 0."""
        counts = Counter(dict.fromkeys(STANDARD_RESIDUES, 1))
        for sequence in sequences:
            counts.update(residue for residue in sequence if residue in _STANDARD)
        total = sum(counts[residue] for residue in STANDARD_RESIDUES)
        return cls({residue: math.log(counts[residue] / total) for residue in STANDARD_RESIDUES})

    def perplexity(self, sequence: str) -> float | None:
        """Return the perplexity, 1 or more, of one sequence; None if it has no standard residue."""
        known = [self.log_probability[residue] for residue in sequence if residue in _STANDARD]
        return math.exp(-math.fsum(known) / len(known)) if known else None


_STANDARD = frozenset(STANDARD_RESIDUES)


def num_standard(sequence: str) -> int:
    """Return the number of standard residues of `sequence`."""
    return sum(residue in _STANDARD for residue in sequence)


def pooled(perplexities: Sequence[float], num_residues: Sequence[int]) -> float | None:
    """Return the perplexity of all residues of several chains, from that of each chain; None if there are no residues.

    Chains are weighted by their number of residues, as in a language model's loss.
    """
    total = sum(num_residues)
    if not total:
        return None
    logs = (math.log(value) * number for value, number in zip(perplexities, num_residues, strict=True))
    return math.exp(math.fsum(logs) / total)
