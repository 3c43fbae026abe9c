"""The known sequence that a protein is most identical to, by MMseqs2 (Steinegger & Soeding 2017).

A search is `mmseqs search` of one iteration, called as its two parts: k-mer prefilter and Smith-Waterman alignment.
Whatever could depend on the machine is fixed here: k-mer length, and into how many parts the reference is split.
Identity is of the aligned columns, as MMseqs2 states it, to three decimals.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

from foldatlas.atlas.reference.mmseqs2 import DatabaseWriter, read_results, run_program
from foldatlas.atlas.reference.reader import Reference
from foldatlas.schemas.errors import UsageError

# Thresholds for views. Above 30 % identity two proteins are mostly homologous and of one fold, from 20 to 35 % is the
# "twilight zone" (Rost 1999, Protein Engineering 12:85). UniRef90 calls sequences of 90 % identity and 80 % coverage
# one protein (Suzek et al. 2015, Bioinformatics 31:926); against it the ESM Metagenomic Atlas counts its novel
# sequences (Lin et al. 2023, Science 379:1123).
HOMOLOGOUS_IDENTITY: Final = 0.3
SAME_PROTEIN_IDENTITY: Final = 0.9
SAME_PROTEIN_COVERAGE: Final = 0.8

SENSITIVITY: Final = 5.7  # the default of `mmseqs search`
MAX_EVALUE: Final = 1e-3  # likewise
MAX_CANDIDATES: Final = 300  # likewise: targets a query that the prefilter hands on

_KMER: Final = 6  # residues, as MMseqs2 chooses itself for references of up to 3.35 G residues
_SHORT_KMER: Final = 5  # for small references: filling the larger table takes seconds a search, whatever is in it
_SMALL_REFERENCE: Final = 5_000_000  # residues
_RESIDUES_A_PART: Final = 500_000_000
_TABLE_BYTES: Final = {_KMER: 900_000_000, _SHORT_KMER: 420_000_000}  # of k-mer tables, whatever is in them (measured)
_BYTES_A_RESIDUE: Final = 8  # of the part that is searched: k-mer positions and the sequence


@dataclass(frozen=True)
class SequenceSettings:
    """What changes the hits of a search. Coverage is a fraction of the query, 0 to 1."""

    sensitivity: float = SENSITIVITY
    max_evalue: float = MAX_EVALUE
    max_candidates: int = MAX_CANDIDATES
    min_coverage: float = 0.5

    def __post_init__(self) -> None:
        if not 1 <= self.sensitivity <= 9.5:
            raise UsageError(f"sensitivity must be 1 to 9.5, it is {self.sensitivity:g}")
        if not self.max_evalue > 0:
            raise UsageError(f"max_evalue must be above 0, it is {self.max_evalue:g}")
        if self.max_candidates < 1:
            raise UsageError(f"max_candidates must be 1 or more, it is {self.max_candidates}")
        if not 0 <= self.min_coverage <= 1:
            raise UsageError(f"min_coverage must be 0 to 1, it is {self.min_coverage:g}")


class SequenceHit(NamedTuple):
    """The known sequence `target` (row `row` of the reference) that a query is most identical to.

    `identity` is of the aligned columns, `coverage` the aligned fraction of the query, `target_coverage` of the target:
    all 0 to 1. `bits` and `evalue` are those of the alignment; the E-value grows with the reference.
    """

    row: int
    target: str
    identity: float
    coverage: float
    target_coverage: float
    bits: int
    evalue: float


def search_sequences(
    reference: Reference,
    sequences: Sequence[tuple[UUID, str]],
    settings: SequenceSettings | None = None,
    *,
    since: int = 0,
    threads: int = 1,
    scratch: Path,
) -> list[SequenceHit | None]:
    """Return the hit of each (structure_id, sequence), in their order; None where nothing significant was found.

    Of alignments with an E-value of at most `max_evalue` that cover `min_coverage` of the query, the one of greatest
    identity; where none covers so much, the one of greatest identity of all. Ties: the greater coverage of the query,
    then of the target, then the first row. The result does not depend on `threads`, nor on the other sequences.

    `since`: search only the entries that came after that version. `scratch` is a folder of the caller's, to be
    deleted afterwards. Raise UsageError where MMseqs2 is missing, FoldAtlasError where it fails.
    """
    settings = settings or SequenceSettings()
    rows = reference.new_rows(since)
    searched = [number for number, (_, sequence) in enumerate(sequences) if sequence]
    found: list[SequenceHit | None] = [None] * len(sequences)
    if not searched or not rows:
        return found
    target = reference.database("amino_acids")
    if since:
        target = reference.database_of("amino_acids", rows, scratch)
    with DatabaseWriter(scratch / "query") as writer:
        writer.write(sequences[number][1].encode("ascii") for number in searched)
    shared = ("--threads", str(threads), "-v", "1")
    parts = number_of_parts(reference)
    run_program(
        "prefilter",
        "query",
        target,
        "candidates",
        *("-s", str(settings.sensitivity), "-k", str(_kmer(reference)), "--max-seqs", str(settings.max_candidates)),
        *("--split", str(parts), "--split-mode", "0", *shared),
        folder=scratch,
    )
    run_program(
        "align",
        "query",
        target,
        "candidates",
        "aligned",
        *("--alignment-mode", "3", "-e", repr(settings.max_evalue), *shared),
        folder=scratch,
    )
    best: dict[int, tuple[float, ...]] = {}
    for key, text in read_results(scratch / "aligned"):
        ranked = [_rank(hit, settings) for hit in _alignments(text)]
        if ranked:
            best[searched[key]] = max(ranked)
    names = reference.names
    for number, (_, identity, coverage, target_coverage, negative_row, bits, negative_evalue) in best.items():
        row = int(-negative_row)
        found[number] = SequenceHit(
            row, names[row].as_py(), identity, coverage, target_coverage, int(bits), -negative_evalue
        )
    return found


def number_of_parts(reference: Reference) -> int:
    """Into how many parts a search splits the reference: by its size alone, since hits may depend on it."""
    return max(1, math.ceil(reference.document.residues / _RESIDUES_A_PART))


def memory_bytes(reference: Reference) -> int:
    """Return the bytes of memory that a search of 1,000 sequences takes, at most. Threads add some 30 MB each."""
    part = math.ceil(reference.document.residues / number_of_parts(reference))
    return _TABLE_BYTES[_kmer(reference)] + part * _BYTES_A_RESIDUE


def _kmer(reference: Reference) -> int:
    return _SHORT_KMER if reference.document.residues < _SMALL_REFERENCE else _KMER


def _alignments(text: bytes) -> Iterator[tuple[int, int, float, float, float, float]]:
    """Row, bits, identity, E-value and both coverages of each alignment of a query."""
    for line in text.splitlines():
        row, bits, identity, evalue, *spans = line.split(b"\t")[:10]
        begin, end, length, target_begin, target_end, target_length = map(int, spans)
        coverage, target_coverage = (end - begin + 1) / length, (target_end - target_begin + 1) / target_length
        yield int(row), int(bits), float(identity), float(evalue), coverage, target_coverage


def _rank(hit: tuple[int, int, float, float, float, float], settings: SequenceSettings) -> tuple[float, ...]:
    """What the best hit has most of, compared from left to right."""
    row, bits, identity, evalue, coverage, target_coverage = hit
    return coverage >= settings.min_coverage, identity, coverage, target_coverage, -row, bits, -evalue
