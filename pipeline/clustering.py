"""Cluster an atlas by sequence and structure; pairs of structures are found and aligned in shards of the one graph.

linclust, reading the structures to compare, and set cover run in the driver. A run begins after linclust and keeps its
result, so a killed run resumes at its shards. The representatives of the clusters at 30 % are compared by structure,
each pair once in the life of the atlas.
"""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from foldatlas.atlas.clusters.alignments import (
    align_pairs,
    alignment_shards,
    aligns_members,
    member_pairs,
    slice_of,
    split_known,
    tm_to_centre,
)
from foldatlas.atlas.clusters.linclust import IDENTITY_30, IDENTITY_90, SequenceClusters, linclust
from foldatlas.atlas.clusters.member_map import cover_by_id, member_map
from foldatlas.atlas.clusters.pairs import PairCounts, Pairs, find_pairs
from foldatlas.atlas.clusters.representatives import representatives
from foldatlas.atlas.clusters.results import (
    ALIGNMENTS_TABLE,
    CHAINS_TABLE,
    INSTEAD_OF,
    KIND,
    LINCLUST_TABLE,
    PAIRS_TABLE,
    Block,
    base_of,
    is_current,
    latest_of_same_rules,
    read_linclust,
    read_pairs,
    read_shards,
    run_settings,
    settings_of_full_run,
    shards_of,
    take_over,
    unfinished_run,
    write_linclust,
    write_pairs,
)
from foldatlas.atlas.clusters.structures import (
    Ids,
    StagedChains,
    Structures,
    chain_ids,
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
    """What all shards are given: the file of chains, threads of a worker, and the file of pairs to align."""

    chains: str
    threads: int
    pairs: str = ""


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
        run = unfinished_run(folder, settings)
        if run is None:
            with interruptible():
                run = _begin(atlas, structures, settings, scratch, threads, on_phase)
        else:
            on_phase(f"resuming the run that was begun at {run.document.created[:16].replace('T', ' ')} UTC")
    compute = _Stages(run, engine, threads, show_progress, log)
    with interruptible():
        taken = take_over(base_of(run), compute.ids_M)
    compute.find_pairs()
    on_phase("selecting clusters")
    with interruptible():
        pairs = taken.pairs.followed_by(read_shards(run, PAIRS_TABLE))
        centres = cover_by_id(compute.ids_M, pairs.longer_E, pairs.shorter_E)
        known, unknown = split_known(member_pairs(centres, pairs), taken.alignments)
        raise_if_stopping()
    compute.align(unknown)
    with interruptible():
        tm = tm_to_centre(centres, (known, read_shards(run, ALIGNMENTS_TABLE)))
        done = _complete(
            run, structures, compute.ids_M, centres, tm, {PAIRS_TABLE: taken.pairs, ALIGNMENTS_TABLE: known}
        )
    return _report(done, is_new=True, seconds=time.monotonic() - started)


def _begin(
    atlas: Atlas,
    structures: Structures,
    settings: dict[str, Any],
    scratch: Path,
    threads: int,
    on_phase: Callable[[str], None],
) -> StageRun:
    """Cluster the sequences, write the structures that are compared, and begin a run, or return one that was begun."""
    folder = atlas.folder
    on_phase(f"clustering {len(structures):,} sequences")
    by90, by30 = _by_sequence(atlas, structures, scratch, threads)
    raise_if_stopping()
    rows = np.unique(representatives(by30.centres_N, structures.confidence_N))
    on_phase(f"reading {len(rows):,} structures")
    (scratch / "chains").mkdir()
    chains = StagedChains.stage(folder.storage, structures, rows, scratch / "chains")
    raise_if_stopping()
    base = latest_of_same_rules(folder, settings) if INSTEAD_OF not in settings else None
    is_new = take_over(base, chains.ids_M).is_new_M
    shards = [
        *shards_of(chains.ids_M, chains.lengths_M, is_new),
        *alignment_shards(chains.ids_M, chains.lengths_M),
    ]
    base_name = base.run.name if base is not None else ""
    name, attempt = stage_name(KIND, stage_settings_digest(settings), base_name, shards), attempt_name()

    def path(table: str) -> str:
        return f"{KIND}/{name}/{table}/{ALL}.{attempt}.parquet"

    inputs = {
        CHAINS_TABLE: [chains.write(folder.storage, path(CHAINS_TABLE), is_new)],
        LINCLUST_TABLE: [write_linclust(folder.storage, path(LINCLUST_TABLE), by90, by30)],
    }
    return StageRun.begin(folder, KIND, settings=settings, shards=shards, base=base_name, inputs=inputs)


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


class _Stages:
    """The two stages of a run's shards. `ids_M` are the structure_ids of its chains."""

    def __init__(self, run: StageRun, engine: Engine, threads: int, show_progress: bool, log: str | None) -> None:
        (file,) = run.document.inputs[CHAINS_TABLE]
        self._run, self._task = run, ShardTask(file.path, threads)
        self._options: dict[str, Any] = {"engine": engine, "show_progress": show_progress, "log": log}
        self.ids_M = chain_ids(run.folder.storage, file.path)

    def find_pairs(self) -> None:
        """Compute the shards that find pairs."""
        shards = [shard for shard in self._run.document.shards if not aligns_members(shard)]
        run_stage(
            self._run, find_shard, self._task, shards=shards, doing="comparing", unit="structures", **self._options
        )

    def align(self, pairs: Pairs) -> None:
        """Compute the shards that align members with centres, of which `pairs` are to be aligned."""
        shards = [shard for shard in self._run.document.shards if aligns_members(shard)]
        storage = self._run.folder.storage
        file = write_pairs(storage, self._run.data_path("centres", ALL, attempt_name()), pairs)
        try:
            task = replace(self._task, pairs=file.path)
            run_stage(self._run, align_shard, task, shards=shards, doing="aligning", unit="members", **self._options)
        finally:
            self._run.discard([file])


def find_shard(work: ShardWork) -> StageResult:
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
    file = write_pairs(work.folder.storage, work.path(PAIRS_TABLE), pairs)
    return StageResult({PAIRS_TABLE: file}, {**vars(counts), "pairs": len(pairs.tm_E)})


def align_shard(work: ShardWork) -> StageResult:
    """Align the pairs of a shard, each a member and its centre, and write their TM-scores."""
    task: ShardTask = work.payload
    pairs = read_pairs(work.folder.storage, [task.pairs])
    pairs = pairs.select(slice_of(work.shard, len(pairs.tm_E)))
    aligned = align_pairs(
        work.folder.storage, task.chains, pairs, threads=task.threads, advance=work.advance, check=work.check
    )
    file = write_pairs(work.folder.storage, work.path(ALIGNMENTS_TABLE), aligned)
    return StageResult({ALIGNMENTS_TABLE: file}, {"members_aligned": len(aligned.tm_E)})


def _complete(
    run: StageRun,
    structures: Structures,
    ids_M: Ids,
    centres_M: npt.NDArray[np.int64],
    tm_M: npt.NDArray[np.float32],
    taken_over: dict[str, Pairs],
) -> Completed:
    """Write the members and what was taken over, and mark the run as complete."""
    storage = run.folder.storage
    (file,) = run.document.inputs[LINCLUST_TABLE]
    by90, by30 = read_linclust(storage, file.path, len(structures))
    order = np.argsort(structures.ids_N, kind="stable")
    rows = order[np.searchsorted(structures.ids_N[order], ids_M)]
    members = member_map(structures, by90, by30, rows, centres_M, tm_M)
    attempt = attempt_name()
    with ParquetFile(storage, run.data_path("members", ALL, attempt), "members", schema=MEMBERS) as written:
        written.write(members, row_group_size=1 << 17)
    assert written.entry is not None, "set when the with block ends"
    files: dict[str, list[FileEntry]] = {"members": [written.entry]}
    for table, pairs in taken_over.items():
        if len(pairs.tm_E):
            files[table] = [write_pairs(storage, run.data_path(table, ALL, attempt), pairs)]
    new_pairs = sum(entry.counts.get("pairs", 0) for entry in run.entries().values())
    clusters30 = len(np.unique(by30.centres_N))
    counts = {
        "structures": len(structures),
        "clusters90": len(np.unique(by90.centres_N)),
        "clusters30": clusters30,
        "clusters_structure": len(np.unique(centres_M)),
        "too_short": clusters30 - len(ids_M),
        "pairs": len(taken_over[PAIRS_TABLE].tm_E) + new_pairs,
        "taken_over": len(taken_over[PAIRS_TABLE].tm_E),
    }
    return Completed(run, run.complete(files, counts))


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
