"""The least that a language model must beat: the frequency of each residue, and perplexity of several chains together.

Only the twenty standard residues are asked for, as in folding/perplexity.py; a chain's other residues do not count.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from foldatlas.schemas.records import STANDARD_RESIDUES


@dataclass(frozen=True, slots=True)
class Unigram:
    """Log-probability of each standard residue."""

    log_probability: dict[str, float]

    @classmethod
    def fit(cls, sequences: Iterable[str]) -> "Unigram":
        """Frequencies in `sequences`, each residue counted once more than it was seen, so that none is impossible."""
        counts = Counter(dict.fromkeys(STANDARD_RESIDUES, 1))
        for sequence in sequences:
            counts.update(residue for residue in sequence if residue in _STANDARD)
        total = sum(counts[residue] for residue in STANDARD_RESIDUES)
        return cls({residue: math.log(counts[residue] / total) for residue in STANDARD_RESIDUES})

    def perplexity(self, sequence: str) -> float | None:
        """Perplexity, 1 or more, of one sequence; None where it has no standard residue."""
        known = [self.log_probability[residue] for residue in sequence if residue in _STANDARD]
        return math.exp(-math.fsum(known) / len(known)) if known else None


_STANDARD = frozenset(STANDARD_RESIDUES)


def num_standard(sequence: str) -> int:
    """Residues that are asked for."""
    return sum(residue in _STANDARD for residue in sequence)


def pooled(perplexities: Sequence[float], num_residues: Sequence[int]) -> float | None:
    """Perplexity of all residues of several chains, from each chain's perplexity and number of residues; None for
    no residues. A long chain counts more than a short one, as in a language model's loss."""
    total = sum(num_residues)
    if not total:
        return None
    logs = (math.log(value) * number for value, number in zip(perplexities, num_residues, strict=True))
    return math.exp(math.fsum(logs) / total)
