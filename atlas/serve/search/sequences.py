"""The structures whose sequence is similar to a sequence: MMseqs2 (Steinegger & Soeding 2017).

Each sequence of the database is scored by an ungapped alignment (`ungappedprefilter`), and the best are aligned by
Smith-Waterman. A k-mer index would be faster for many queries at a time, but building one takes longer than a query,
and keeping one takes 8 bytes of memory a residue.

The segments of a database are searched one after the other. E-values are of the whole database: they are in proportion
to its residues (Karlin & Altschul 1990).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from foldatlas.atlas.reference.mmseqs2 import DatabaseWriter, read_results, run_program
from foldatlas.atlas.serve.search.requests import Hit
from foldatlas.atlas.serve.search.segments import SegmentArrays

MIN_CANDIDATES: Final = 1_000  # of each segment that are aligned


def search_sequences(
    segments: Sequence[SegmentArrays],
    sequence: str,
    *,
    limit: int,
    max_evalue: float,
    threads: int,
    scratch: Path,
    on_progress: Callable[[str, float], None],
) -> list[Hit]:
    """Return at most `limit` hits, those of the least E-value first, of equal ones those of the greater score, then
    identity.

    `scratch` is an empty folder for temporary files. Raise UsageError without MMseqs2, FoldAtlasError if it fails.
    """
    total = sum(one.segment.residues for one in segments)
    with DatabaseWriter(scratch / "query") as writer:
        writer.write([sequence.encode("ascii")])
    shared = ("--threads", str(threads), "-v", "1")
    found: list[Hit] = []
    done = 0
    for number, one in enumerate(segments):
        on_progress("prefilter", done / total)
        part = one.segment.residues / total
        candidates, aligned = f"candidates{number}", f"aligned{number}"
        run_program(
            *("ungappedprefilter", "query", one.sequences, candidates, "--prefilter-mode", "1"),
            *("--max-seqs", str(max(MIN_CANDIDATES, limit)), *shared),
            folder=scratch,
        )
        on_progress("align", (done + 0.9 * one.segment.residues) / total)
        run_program(
            *("align", "query", one.sequences, candidates, aligned, "--alignment-mode", "3"),
            *("-e", repr(max_evalue * part), *shared),
            folder=scratch,
        )
        for _, text in read_results(scratch / aligned):
            found += [_hit(one, line, part) for line in text.splitlines()]
        done += one.segment.residues
        found = sorted(found, key=_rank)[:limit]
    return found


def _hit(one: SegmentArrays, line: bytes, part: float) -> Hit:
    row, bits, identity, evalue, *spans = line.split(b"\t")[:10]
    begin, end, length, target_begin, target_end, target_length = map(int, spans)
    return Hit(
        structure_id=one.structure_id(int(row)),
        identity=float(identity),
        coverage=(end - begin + 1) / length,
        target_coverage=(target_end - target_begin + 1) / target_length,
        query_start=begin + 1,
        query_end=end + 1,
        target_start=target_begin + 1,
        target_end=target_end + 1,
        evalue=float(evalue) / part,
        bits=int(bits),
    )


def _rank(hit: Hit) -> tuple[float, float, float, bytes]:
    assert hit.evalue is not None and hit.bits is not None and hit.identity is not None
    return hit.evalue, -hit.bits, -hit.identity, hit.structure_id
