"""Search sequences against a reference with MMseqs2 (Steinegger & Soeding 2017): the most identical target of each.

A search is `mmseqs search` with one iteration, run as its two steps: k-mer prefilter and Smith-Waterman alignment.
MMseqs2 would choose the k-mer length and the number of parts of the reference by the memory of the machine. Here they
depend on the reference alone, so that all machines find the same hits. Identity is the fraction of aligned columns with
equal residues, as MMseqs2 reports it, to three decimals.
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
# "twilight zone" (Rost 1999, Protein Engineering 12:85). UniRef90 clusters sequences at 90 % identity (Suzek et al.
# 2015, Bioinformatics 31:926); against it the ESM Metagenomic Atlas counts its novel sequences (Lin et al. 2023,
# Science 379:1123).
HOMOLOGOUS_IDENTITY: Final = 0.3
SAME_PROTEIN_IDENTITY: Final = 0.9

SENSITIVITY: Final = 5.7  # the default of `mmseqs search`
MAX_EVALUE: Final = 1e-3  # the default of `mmseqs search`
MAX_CANDIDATES: Final = 300  # targets per query that the prefilter passes to alignment; the default of `mmseqs search`

_KMER: Final = 6  # residues, as MMseqs2 chooses itself for references of up to 3.35 G residues
_SHORT_KMER: Final = 5  # for small references: the larger table takes seconds to fill in each search
_SMALL_REFERENCE: Final = 5_000_000  # residues
_RESIDUES_PER_PART: Final = 500_000_000
_TABLE_BYTES: Final = {_KMER: 900_000_000, _SHORT_KMER: 420_000_000}  # of k-mer tables, for any content (measured)
_BYTES_PER_RESIDUE: Final = 8  # of the part that is searched: k-mer positions and the sequence


@dataclass(frozen=True)
class SequenceSettings:
    """Settings that change the hits of a search. Raise UsageError for a value outside its range.

    sensitivity: of the prefilter, 1 (fast) to 9.5.
    max_evalue: greatest E-value of a hit, above 0.
    max_candidates: targets per query that are aligned.
    min_coverage: preferred coverage, as a fraction of the query, 0 to 1 (`search_sequences`).
    """

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
    """Return the best hit of each (structure_id, sequence), in the given order; None if no alignment is significant.

    Alignments with an E-value of at most `max_evalue` are significant. The best hit has the greatest identity among
    those that cover at least `min_coverage` of the query or, if there are none, among all. Ties are broken by the
    greater coverage of the query, then of the target, then by the lower row. The result depends neither on `threads`
    nor on the other sequences.

    `since`: search only entries that were added after this version (0: all). `scratch` is an empty folder for temporary
    files, which the caller deletes. Raise UsageError if MMseqs2 is not installed, FoldAtlasError if it fails.
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
    """Return into how many parts a search splits the reference. Hits may depend on it, so only the size decides."""
    return max(1, math.ceil(reference.document.residues / _RESIDUES_PER_PART))


def memory_bytes(reference: Reference) -> int:
    """Return the maximum memory of a search of 1,000 sequences, in bytes. Each thread adds about 30 MB."""
    part = math.ceil(reference.document.residues / number_of_parts(reference))
    return _TABLE_BYTES[_kmer(reference)] + part * _BYTES_PER_RESIDUE


def _kmer(reference: Reference) -> int:
    return _SHORT_KMER if reference.document.residues < _SMALL_REFERENCE else _KMER


def _alignments(text: bytes) -> Iterator[tuple[int, int, float, float, float, float]]:
    """Yield row, bits, identity, E-value, and coverage of query and target for each alignment of a query."""
    for line in text.splitlines():
        row, bits, identity, evalue, *spans = line.split(b"\t")[:10]
        begin, end, length, target_begin, target_end, target_length = map(int, spans)
        coverage, target_coverage = (end - begin + 1) / length, (target_end - target_begin + 1) / target_length
        yield int(row), int(bits), float(identity), float(evalue), coverage, target_coverage


def _rank(hit: tuple[int, int, float, float, float, float], settings: SequenceSettings) -> tuple[float, ...]:
    """Return the sort key of a hit; the best hit has the greatest."""
    row, bits, identity, evalue, coverage, target_coverage = hit
    return coverage >= settings.min_coverage, identity, coverage, target_coverage, -row, bits, -evalue
