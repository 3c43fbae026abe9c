"""Nucleotides or a protein, by the letters of a sequence and then by the other records of its file.

Every letter of IUPAC's nucleotide code is a residue code too, so letters alone cannot decide a short or repetitive
sequence: 45 asparagines are a protein of Plasmodium or a gap between contigs, (AG)20 a silk or a microsatellite.
`kind_of` decides where the letters suffice; `Census.verdict` decides the rest by the majority of those.
"""

from enum import Enum
from typing import Final, NamedTuple

from foldatlas.schemas.records import MIN_NUCLEOTIDES, NUCLEOTIDES

# IUPAC's nucleotide code with U, and X, which masks nucleotides and residues alike. E, F, I, J, L, O, P, Q and Z are
# only residue codes: of 30 residues of an ordinary protein all but three in a million have one.
AMBIGUITY_CODES: Final = b"RYSWKMBDHV"
NUCLEOTIDE_CODES: Final = "".join(sorted(NUCLEOTIDES)).encode() + AMBIGUITY_CODES + b"X"

_PLAIN: Final = "".join(sorted(NUCLEOTIDES)).encode()
_BASES: Final = (b"A", b"C", b"G", b"TU")
_MIN_PLAIN: Final = 0.7  # of a sequence, A, C, G, T, U and N: the rest may be codes of ambiguity
_MIN_BASES: Final = 0.5  # of a sequence, A, C, G, T and U
_MIN_EACH_BASE: Final = 0.02  # of a sequence, each of the four bases: of the AT-richest genomes C and G are 7 % each


class Kind(Enum):
    """What a sequence is by its letters."""

    PROTEIN = "protein"
    NUCLEOTIDES = "nucleotides"
    DOUBTFUL = "doubtful"


class Census(NamedTuple):
    """The number of records of each Kind in a file."""

    proteins: int
    nucleotides: int

    @property
    def verdict(self) -> Kind:
        """What the doubtful records of the file are: the kind of the majority of the others, DOUBTFUL for a tie."""
        if self.proteins == self.nucleotides:
            return Kind.DOUBTFUL
        return Kind.PROTEIN if self.proteins > self.nucleotides else Kind.NUCLEOTIDES


def kind_of(letters: bytes) -> Kind:
    """Return what a sequence is by its `letters` (upper case, residue codes only, at least one).

    NUCLEOTIDES: at least 30 letters, 70 % of them A, C, G, T, U or N, half of them not N, each base at least 2 %, and
    no letter that is only a residue code. PROTEIN: a letter that is only a residue code. DOUBTFUL: neither.
    """
    if letters[:MIN_NUCLEOTIDES].translate(None, NUCLEOTIDE_CODES) or letters.translate(None, NUCLEOTIDE_CODES):
        return Kind.PROTEIN
    shares = _base_shares(letters)
    is_certain = _looks_sequenced(letters, shares) and min(shares) >= _MIN_EACH_BASE
    return Kind.NUCLEOTIDES if is_certain else Kind.DOUBTFUL


def is_nucleotides(letters: bytes, verdict: Kind) -> bool:
    """Return whether the DOUBTFUL sequence `letters` is nucleotides, in a file whose other records give `verdict`.

    Where the verdict is DOUBTFUL, composition decides: at least 30 letters, of which 70 % are A, C, G, T, U or N and
    half not N, with three of the four bases, are nucleotides.
    """
    if verdict is not Kind.DOUBTFUL:
        return verdict is Kind.NUCLEOTIDES
    shares = _base_shares(letters)
    return _looks_sequenced(letters, shares) and sum(share > 0 for share in shares) >= len(_BASES) - 1


def _base_shares(letters: bytes) -> list[float]:
    """Return the share of each base, 0 to 1, in the order of _BASES."""
    return [sum(map(letters.count, (base[i : i + 1] for i in range(len(base))))) / len(letters) for base in _BASES]


def _looks_sequenced(letters: bytes, shares: list[float]) -> bool:
    num_plain = len(letters) - len(letters.translate(None, _PLAIN))
    is_plain = num_plain >= _MIN_PLAIN * len(letters) and sum(shares) >= _MIN_BASES
    return len(letters) >= MIN_NUCLEOTIDES and is_plain
