"""The program that runs one search: `python -m foldatlas.atlas.serve.search.worker`.

It imports everything, waits for a search on standard input, and writes messages to standard output. With a folder as
its argument it is ready for structures and embeddings too. Uploaded files are read here.

The process is confined as one for SQL is, where the kernel can: it can open the search database and its own temporary
folder, and nothing else. A search by sequence, whose input is letters, runs MMseqs2 and has limits alone.
"""

import ctypes
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

import gemmi
import numpy as np

from foldatlas.atlas.importing.structure_text import ReadOptions, read_structure_text
from foldatlas.atlas.novelty.hits import Query
from foldatlas.atlas.parquet.coordinates import StoredStructure
from foldatlas.atlas.reference.chains import MIN_RESIDUES, StructureFault
from foldatlas.atlas.reference.from_atlas import backbone_of
from foldatlas.atlas.serve.cage import landlock
from foldatlas.atlas.serve.cage.confine import Confinement, confine
from foldatlas.atlas.serve.search import requests
from foldatlas.atlas.serve.search.documents import SEGMENTS, SearchDatabase, read_database
from foldatlas.atlas.serve.search.embeddings import search_embeddings
from foldatlas.atlas.serve.search.requests import Embedding, Failed, Found, Hit, Job, Progress, Sequence, Structure
from foldatlas.atlas.serve.search.segments import SegmentArrays, SegmentWriter
from foldatlas.atlas.serve.search.sequences import search_sequences
from foldatlas.atlas.serve.search.structures import search_structures
from foldatlas.schemas.errors import DamagedAtlasError, FoldAtlasError

_DEATH_SIGNAL: Final = 1  # prctl
_NO_DATABASE: Final = Failed("no_database", "the atlas has no search database: run `foldatlas index --search`")


def main() -> None:
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)  # end with the server
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what libraries print is no message
    if len(sys.argv) > 1:
        warm(Path(sys.argv[1]))
    job = requests.read(sys.stdin.buffer, Job)
    if not isinstance(job, Job):
        return
    requests.write(results, answer(job, results))


def answer(job: Job, results: IO[bytes]) -> Found | Failed:
    """Run a search and return its result, with progress to `results` on the way."""
    reported = -1

    def report(phase: str, fraction: float) -> None:
        nonlocal reported
        if int(fraction * 100) > reported:  # at most a hundred messages
            reported = int(fraction * 100)
            requests.write(results, Progress(phase, fraction))

    try:
        _limit(job)
        database = read_database(Path(job.root))
        while database is not None and database.structures:
            try:
                return _search(job, database, report)
            except FoldAtlasError:
                newer = read_database(Path(job.root))  # it may have been replaced before its files were opened
                if newer is None or newer.segments == database.segments:
                    raise
                database = newer
        return _NO_DATABASE
    except StructureFault as fault:
        return Failed(fault.outcome, str(fault))
    except MemoryError:
        return Failed("memory", "the search needs more memory than it may use")
    except DamagedAtlasError:
        return Failed("damaged", "the search database cannot be read: run `foldatlas index --search`")
    except FoldAtlasError as error:
        return Failed("failed", str(error).splitlines()[0])
    except ValueError as error:
        return Failed("refused", str(error))
    except Exception as error:
        return Failed("failed", f"unexpected {type(error).__name__}")


def _limit(job: Job) -> None:
    """Confine this process, or where that is not possible, limit it."""
    if not isinstance(job.query, Sequence) and landlock.version() >= landlock.MIN_VERSION:
        confine(
            Confinement(
                readable=(Path(job.root),),
                temporary=Path(job.temporary),
                memory_bytes=job.memory_bytes,
                processor_seconds=job.processor_seconds,
                temporary_bytes=job.temporary_bytes,
            )
        )
        return
    for limit, value in (
        (resource.RLIMIT_DATA, job.memory_bytes + (1 << 30)),
        (resource.RLIMIT_CPU, job.processor_seconds),
        (resource.RLIMIT_FSIZE, job.temporary_bytes),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))


def _search(job: Job, database: SearchDatabase, report: Callable[[str, float], None]) -> Found | Failed:
    segments = [SegmentArrays(Path(job.root), segment) for segment in database.segments]
    hits: list[Hit] | None
    match job.query:
        case Sequence(sequence=sequence, max_evalue=max_evalue):
            hits = search_sequences(
                segments, sequence, limit=job.limit, max_evalue=max_evalue, threads=job.threads,
                scratch=Path(job.temporary), on_progress=report,
            )  # fmt: skip
            return Found(hits, len(sequence), database.structures)
        case Structure(min_tm=min_tm):
            query = _query(job.query)
            length = len(query.sequence)
            if length > job.max_residues:
                return Failed("too_long", f"{length:,} residues; at most {job.max_residues:,} are searched")
            hits = search_structures(
                segments, query, limit=job.limit, min_tm=min_tm, threads=job.threads, on_progress=report
            )
            if hits is None:
                return Failed("too_short", f"it has fewer than {MIN_RESIDUES} residues with a C-alpha")
            return Found(hits, length, database.structures)
        case Embedding(vector=vector):
            hits = search_embeddings(segments, np.frombuffer(vector, "<f4"), limit=job.limit, on_progress=report)
            return Found(hits, 0, database.embeddings)


def _query(query: Structure) -> Query:
    """Return the structure to search with. Raise StructureFault for a file that cannot be read."""
    if not query.text:
        length = len(query.sequence)
        return Query("query", query.sequence, np.frombuffer(query.backbone, "<f4").reshape(length, 4, 3))
    read = read_structure_text(query.text, ReadOptions(chain=query.chain, experimental=True))
    stored = StoredStructure(b"", read.sequence, read.positions, np.empty(0, np.float32))
    return Query("query", read.sequence, backbone_of(stored))


def warm(folder: Path) -> None:
    """Run small searches in an empty folder: a confined process can load no module and no compiled kernel any more."""
    from foldatlas.folding.compare.state_scan import exact_state_scores, state_scores
    from foldatlas.folding.compare.tm_align import Chains, lower_bounds

    root = folder / "warm"
    turn = np.arange(40.0)[:, None]
    helix = np.concatenate([2.3 * np.cos(1.75 * turn), 2.3 * np.sin(1.75 * turn), 1.5 * turn], axis=1)
    positions = np.concatenate([helix - 0.8, helix, helix + 0.8], axis=1).reshape(-1, 3)
    atoms = [
        f"ATOM  {number + 1:5}  {'N  CA C  '[number % 3 * 3 :][:3]} GLY A{number // 3 + 1:4}    "
        f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           {'NCC'[number % 3]}"
        for number, (x, y, z) in enumerate(positions)
    ]
    text = "\n".join([*atoms, "END", ""])
    query = _query(Structure(0.5, text=text.encode()))
    _query(Structure(0.5, text=gemmi.read_pdb_string(text).make_mmcif_document().as_string().encode()))
    with SegmentWriter(root / SEGMENTS / "0") as writer:
        for number in range(8):  # more than are aligned one by one
            writer.add(query.sequence, query.backbone_L43, bytes([number] * 16), np.ones(2, np.float32))
    segment = SegmentArrays(root, writer.segment("0", {}))
    search_structures([segment], query, limit=8, min_tm=0.0, threads=1, on_progress=lambda phase, fraction: None)
    search_embeddings([segment], np.ones(2, np.float32), limit=8, on_progress=lambda phase, fraction: None)
    chains = Chains(segment.c_alphas, segment.states, segment.offsets)
    states = segment.states[:40]
    state_scores([states], chains, np.arange(8), 1)
    exact_state_scores([states], chains, np.arange(8))
    lower_bounds(segment.c_alphas[:40], states, chains, np.arange(1))
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
