"""Clusters an atlas: sequences whole, structures by pairs that are searched and checked in shards of the one graph.

What runs whole runs in the driver: linclust, reading the structures that are compared, set cover. Of structures, the
representatives of the clusters at 30 % are compared, and of these what no run before has compared.
"""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from foldatlas.atlas.clusters.linclust import IDENTITY_30, IDENTITY_90, SequenceClusters, linclust
from foldatlas.atlas.clusters.member_map import cover_by_id, member_map
from foldatlas.atlas.clusters.pairs import PairCounts, Pairs, find_pairs, window_end
from foldatlas.atlas.clusters.representatives import representatives
from foldatlas.atlas.clusters.results import (
    KIND,
    Block,
    is_current,
    latest_of_same_rules,
    read_pairs,
    run_settings,
    settings_of_full_run,
    shards_of,
    take_over,
    write_pairs,
)
from foldatlas.atlas.clusters.structures import (
    StagedChains,
    Structures,
    present_structures,
    read_chains,
    write_sequences,
)
from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.parquet.files import ParquetFile
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.stages.run import StageRun
from foldatlas.atlas.stages.runs import Completed, latest_complete
from foldatlas.atlas.storage.commit import attempt_name
from foldatlas.atlas.storage.protocol import Storage
from foldatlas.atlas.storage.scratch import sweep_work_folders, work_folder
from foldatlas.pipeline.engines.engine import EMBEDDED, Engine
from foldatlas.pipeline.interruption import interruptible, raise_if_stopping, stopping
from foldatlas.pipeline.stages.run import run_stage
from foldatlas.pipeline.stages.shard import ShardWork, StageResult
from foldatlas.schemas.cluster_tables import MEMBERS
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.manifest import FileEntry
from foldatlas.schemas.stages import stage_name, stage_settings_digest

ALL: Final = "all"  # in place of a shard's name, in names of files of a whole run
_ROWS_ALIGNED: Final = 8_192  # longer chains whose clusters' members are aligned at a time


@dataclass(frozen=True)
class ClusterReport:
    """What was clustered, how many clusters there are, and what this run of the program compared.

    `too_short` representatives were not compared by structure. `pairs` are of one fold, of which `taken_over` were
    found by an earlier run. `is_new`: whether there was anything to do.
    """

    run: str
    structures: int
    clusters90: int
    clusters30: int
    clusters_structure: int
    too_short: int
    pairs: int
    taken_over: int
    is_new: bool
    seconds: float


@dataclass(frozen=True)
class ShardTask:
    """What all shards are given beside their names: the file of chains, and threads of a worker."""

    chains: str
    threads: int


def cluster_atlas(
    folder: AtlasFolder,
    *,
    engine: Engine = EMBEDDED,
    threads: int = 1,
    from_nothing: bool = False,
    show_progress: bool = True,
    on_phase: Callable[[str], None] = lambda name: None,
    log: str | None = None,
) -> ClusterReport:
    """Cluster the structures of an indexed atlas, unless its latest clusters are of these already.

    `threads` are those of a worker, and of what runs in the driver; results do not depend on them. With `from_nothing`
    no pair is taken over from earlier runs. The caller builds the index.

    Raise UsageError for an atlas without structures, or a machine without MMseqs2; Interrupted when asked to stop, with
    committed shards kept.
    """
    started = time.monotonic()
    sweep_work_folders()
    with Atlas.open(folder.uri) as atlas, work_folder() as scratch:
        structures = present_structures(atlas)
        if not len(structures):
            raise UsageError(f"{folder.uri} has no structure to cluster: fold proteins into it first")
        settings = run_settings(structures.ids_N)
        latest = latest_complete(folder, KIND)
        if from_nothing:
            settings = settings_of_full_run(settings, latest)
        elif latest is not None and is_current(latest, settings):
            return _report(latest, is_new=False, seconds=time.monotonic() - started)
        with interruptible():
            on_phase(f"clustering {len(structures):,} sequences")
            by90, by30 = _by_sequence(atlas, structures, scratch, threads)
            raise_if_stopping()
            rows = np.unique(representatives(by30.centres_N, structures.confidence_N))
            on_phase(f"reading {len(rows):,} structures")
            (scratch / "chains").mkdir()
            chains = StagedChains.stage(folder.storage, structures, rows, scratch / "chains")
            raise_if_stopping()
        base = None if from_nothing else latest_of_same_rules(folder, settings)
        taken = take_over(base, chains.ids_M)
        run = _begin(folder, settings, base, chains, taken.is_new_M)
        (file,) = run.document.inputs["chains"]
        run_stage(
            run,
            compare_shard,
            ShardTask(file.path, threads),
            engine=engine,
            doing="comparing",
            unit="structures",
            show_progress=show_progress,
            log=log,
        )
        on_phase("choosing clusters")
        with interruptible():
            done = _complete(run, structures, by90, by30, chains, taken.pairs, threads)
    return _report(done, is_new=True, seconds=time.monotonic() - started)


def compare_shard(work: ShardWork) -> StageResult:
    """Find the pairs of a shard and write them."""
    task: ShardTask = work.payload
    block, counts = Block.of(work.shard), PairCounts()
    read = read_chains(work.folder.storage, task.chains, block.begin, block.last)
    found = find_pairs(
        read.chains,
        read.descriptors_KD,
        block.end - block.begin,
        read.is_new_K,
        threads=task.threads,
        counts=counts,
        advance=work.advance,
        check=work.check,
    )
    pairs = Pairs(found.longer_E + block.begin, found.shorter_E + block.begin, found.tm_E)
    file = write_pairs(work.folder.storage, work.path("pairs"), pairs)
    return StageResult({"pairs": file}, {**vars(counts), "pairs": len(pairs.tm_E)})


def _by_sequence(
    atlas: Atlas, structures: Structures, scratch: Path, threads: int
) -> tuple[SequenceClusters, SequenceClusters]:
    write_sequences(atlas, structures, scratch / "sequences")
    found = []
    for settings in (IDENTITY_90, IDENTITY_30):
        folder = scratch / f"identity{settings.identity}"
        folder.mkdir()
        database = scratch / "sequences"
        found.append(linclust(database, len(structures), settings, threads=threads, folder=folder, stop=stopping))
        shutil.rmtree(folder)
    by90, by30 = found
    return by90, by30


def _begin(
    folder: AtlasFolder,
    settings: dict[str, Any],
    base: Completed | None,
    chains: StagedChains,
    is_new_M: npt.NDArray[np.bool_],
) -> StageRun:
    """Begin the run, or find it begun, with the file of chains that its shards read."""
    shards = shards_of(chains.ids_M, chains.lengths_M, is_new_M)
    base_name = base.run.name if base is not None else ""
    name = stage_name(KIND, stage_settings_digest(settings), base_name, shards)
    file = chains.write(folder.storage, f"{KIND}/{name}/chains/{ALL}.{attempt_name()}.parquet", is_new_M)
    return StageRun.begin(folder, KIND, settings=settings, shards=shards, base=base_name, inputs={"chains": [file]})


def _complete(
    run: StageRun,
    structures: Structures,
    by90: SequenceClusters,
    by30: SequenceClusters,
    chains: StagedChains,
    taken_over: Pairs,
    threads: int,
) -> Completed:
    """Choose clusters from all pairs of a run, write the members, and mark the run as complete."""
    storage, entries = run.folder.storage, run.entries().values()
    found = read_pairs(storage, [entry.files["pairs"] for entry in entries])
    longer, shorter = (
        np.concatenate(both)
        for both in zip((taken_over.longer_E, taken_over.shorter_E), (found.longer_E, found.shorter_E), strict=True)
    )
    centres = cover_by_id(chains.ids_M, longer, shorter)
    (file,) = run.document.inputs["chains"]
    tm = _tm_to_centre(storage, file.path, chains.lengths_M, centres, threads)
    members = member_map(structures, by90, by30, chains.rows_M, centres, tm)
    attempt = attempt_name()
    with ParquetFile(storage, run.data_path("members", ALL, attempt), "members", schema=MEMBERS) as written:
        written.write(members, row_group_size=1 << 17)
    assert written.entry is not None, "set when the with block ends"
    files: dict[str, list[FileEntry]] = {"members": [written.entry]}
    if len(taken_over.tm_E):
        files["pairs"] = [write_pairs(storage, run.data_path("pairs", ALL, attempt), taken_over)]
    counts = {
        "structures": len(structures),
        "clusters90": len(np.unique(by90.centres_N)),
        "clusters30": len(np.unique(by30.centres_N)),
        "clusters_structure": len(np.unique(centres)),
        "too_short": chains.too_short,
        "pairs": len(longer),
        "taken_over": len(taken_over.tm_E),
    }
    return Completed(run, run.complete(files, counts))


def _tm_to_centre(
    storage: Storage, path: str, lengths_M: npt.NDArray[np.int32], centres_M: npt.NDArray[np.int64], threads: int
) -> npt.NDArray[np.float32]:
    """Return the TM-score of each chain to its centre, [M], by the longer of the two; 1 for a centre."""
    from foldatlas.folding.compare.tm_align import lower_bounds, tm_align_many

    members = np.flatnonzero(centres_M != np.arange(len(centres_M)))
    longer, shorter = np.minimum(members, centres_M[members]), np.maximum(members, centres_M[members])
    tm = np.ones(len(centres_M), dtype=np.float32)
    order = np.argsort(longer, kind="stable")
    members, longer, shorter = members[order], longer[order], shorter[order]
    for begin in range(0, len(centres_M), _ROWS_ALIGNED):
        end = min(begin + _ROWS_ALIGNED, len(centres_M))
        first, last = np.searchsorted(longer, [begin, end])
        if first == last:
            continue
        chains = read_chains(storage, path, begin, window_end(lengths_M, end - 1)).chains
        for row in np.unique(longer[first:last]).tolist():
            raise_if_stopping()
            of_row = slice(*np.searchsorted(longer, [row, row + 1]))
            span = slice(*chains.offsets_K1[row - begin : row - begin + 2])
            query = chains.c_alphas_T3[span], chains.states_T[span]
            candidates = shorter[of_row] - begin
            aligned = tm_align_many(*query, chains, candidates, threads).tm_query_P
            # what made it a pair is a superposition too
            tm[members[of_row]] = np.maximum(aligned, lower_bounds(*query, chains, candidates, threads))
    return tm


def _report(done: Completed, *, is_new: bool, seconds: float) -> ClusterReport:
    counts = done.mark.counts
    return ClusterReport(
        run=done.run.name,
        structures=counts["structures"],
        clusters90=counts["clusters90"],
        clusters30=counts["clusters30"],
        clusters_structure=counts["clusters_structure"],
        too_short=counts["too_short"],
        pairs=counts["pairs"],
        taken_over=counts["taken_over"],
        is_new=is_new,
        seconds=seconds,
    )
