"""All shards of an atlas: fold what is missing, and compare manifest and plans at the end.

Only the manifest says what is committed. Shards that are missing from it are submitted again, regardless of what the
engine reports, a few rounds at most, and those that stay missing are named.
"""

import contextlib
import dataclasses
import secrets
import socket
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from foldatlas.atlas.folder import AtlasFolder, newest_entries
from foldatlas.atlas.forecast.device_rates import device_kind, first_entries
from foldatlas.atlas.index.needed import needed_in
from foldatlas.atlas.stages.runs import sweep_stages
from foldatlas.folding.planning.batching import BATCH_MFLOP
from foldatlas.pipeline import events, progress
from foldatlas.pipeline.engines import conformance, dispatch
from foldatlas.pipeline.engines.engine import EMBEDDED, Engine
from foldatlas.pipeline.engines.rounds import refuse_incomplete, run_in_rounds
from foldatlas.pipeline.interruption import interruptible
from foldatlas.pipeline.planning.costs import deadline_rate
from foldatlas.pipeline.shards.fold import fold_shard
from foldatlas.pipeline.shards.goal import Goal, failures_to_retry
from foldatlas.pipeline.shards.outputs import refuse_missing_outputs, refuse_to_mix
from foldatlas.pipeline.shards.task import FoldOptions, FoldTask
from foldatlas.pipeline.workers.supervisor import WorkerSpec, end_children
from foldatlas.schemas.errors import DamagedAtlasError, StoreError
from foldatlas.schemas.manifest import ShardEntry
from foldatlas.schemas.version import program_version

MEMORY_FRACTION: Final = 0.5  # of the device's, for one batch: the weights and other programs need some too
SMALL_GPU_BYTES: Final = 16 << 30  # assumed where a GPU does not report its memory


@dataclass(frozen=True)
class FoldReport:
    """What a run did: its shards, its proteins folded and failed, and seconds.

    `added` are structures that existed before and have more outputs now; `residues` went through the network.
    `trunk_passes` is the mean number of trunk passes of these structures, None if recycling could not stop early.
    """

    shards: int
    folded: int
    failed: int
    residues: int
    seconds: float
    added: int = 0
    trunk_passes: float | None = None


def fold_atlas(
    folder: AtlasFolder,
    worker: WorkerSpec,
    *,
    outputs: Sequence[str] = (),
    add_outputs: bool = False,
    show_progress: bool = True,
    engine: Engine = EMBEDDED,
    shards: Collection[str] | None = None,
    retry_failed: bool = False,
    log: str | None = None,
) -> FoldReport:
    """Fold every shard of every plan that is not committed yet.

    outputs: names of optional tables that each shard is to have.
    add_outputs: fold committed shards again that lack one of `outputs`; without it they raise UsageError.
    retry_failed: try the failed proteins of committed shards again, once.
    shards: names of the shards to work on (None: all).
    log: where events go (as `events.absolute` returns it; None: nowhere).

    Raise Interrupted when asked to stop, with all committed shards kept; IncompleteError if shards are missing in the
    end.
    """
    # 1. Read what is committed, and which sequences of the plans are needed.
    plans, histories = folder.plans(), folder.histories()
    before = newest_entries(histories)
    if not add_outputs:
        refuse_missing_outputs(folder.uri, before.values(), outputs)
    needed = needed_in(folder, plans)
    retries = failures_to_retry(folder, plans, before, needed) if retry_failed else {}
    worker = replace(worker, mflop_per_second=deadline_rate(worker.device, plans, first_entries(histories)))
    goal = Goal(folder, plans, _options(folder, worker, outputs, log), needed, retries, shards)

    # 2. Clear up after processes that died, then compare manifest and plans.
    started = time.monotonic()
    _sweep(folder)
    folder.pack_manifest()
    missing = goal.missing(before)
    if not missing:
        return FoldReport(0, 0, 0, 0, 0.0)

    # 3. Refuse an unsuitable engine or different outputs before anything is folded.
    conformance.refuse_if_it_loses(engine, folder)
    if any(task.shard.name not in before for task in missing):
        refuse_to_mix(folder.uri, before.values(), outputs)

    # 4. Fold, and report from the manifest.
    events.begin(goal.options.log)
    _emit_started(goal.options, missing, engine, retry_failed=retry_failed, add_outputs=add_outputs)
    with events.end_logged("run_ended") as ended:
        after = _fold(goal, missing, before, engine, show_progress=show_progress)
        folder.pack_manifest()
        report = _report(after, before, goal, time.monotonic() - started)
        ended.update(
            (name, value) for name, value in dataclasses.asdict(report).items() if value is not None
        )  # the manifest's counts: the sums of those in the events before
    return report


def _sweep(folder: AtlasFolder) -> None:
    """Delete what dead processes left of folding, searching and clustering."""
    folder.sweep()
    with contextlib.suppress(DamagedAtlasError):  # in a search's documents: searching raises it, folding can go on
        sweep_stages(folder)


def _options(folder: AtlasFolder, worker: WorkerSpec, outputs: Sequence[str], log: str | None) -> FoldOptions:
    run_id = events.new_run_id()
    return FoldOptions(
        atlas=folder.resolved().uri,
        worker=worker,
        outputs=tuple(outputs),
        run_id=run_id,
        host=socket.gethostname(),
        batch_mflop=BATCH_MFLOP[device_kind(worker.device)],
        memory_bytes=0,  # Goal.with_memory sets it when the workers are known
        log=None if log is None else events.Log(log, run_id),
    )


def _fold(
    goal: Goal, missing: Sequence[FoldTask], before: Mapping[str, ShardEntry], engine: Engine, *, show_progress: bool
) -> dict[str, ShardEntry]:
    """Fold the shards of `missing` on workers that run as long as this call. Return the entries committed at its end.

    Raise IncompleteError if shards are still missing.
    """
    device = goal.options.worker.device
    with (
        dispatch.opened(engine, device),
        interruptible(),
        progress.shown(len(missing), _expected_cost(missing, before), show=show_progress),
    ):
        goal = goal.with_memory(_memory_bytes(engine, device))
        tasks = _with_random_start([task._replace(options=goal.options) for task in missing])
        after: dict[str, ShardEntry] = {}

        def still_missing() -> list[FoldTask]:
            nonlocal after
            after = goal.folder.entries()
            return goal.missing(after)

        try:
            left = run_in_rounds("fold", tasks, fold_shard, engine, still_missing)
        finally:
            end_children()
            with contextlib.suppress(StoreError):  # sweeping can wait, and must not hide what ended the run
                _sweep(goal.folder)
    refuse_incomplete([task.shard.name for task in left], len(missing))
    return after


def _report(
    entries: Mapping[str, ShardEntry], before: Mapping[str, ShardEntry], goal: Goal, seconds: float
) -> FoldReport:
    """Return what a run did, from the entries that carry its id. `before` are the entries that it found."""
    ours = [entry for entry in entries.values() if entry.run.run_id == goal.options.run_id]
    new = [entry for entry in ours if entry.generation == 0]
    later = [entry for entry in ours if entry.generation > 0 and entry.shard in before]
    retried = [entry for entry in later if entry.shard in goal.retries or entry.skipped < before[entry.shard].skipped]
    more = [entry for entry in later if entry not in retried]
    folded = sum(entry.folded for entry in new) + sum(entry.folded - before[entry.shard].folded for entry in retried)
    added = sum(entry.folded for entry in more)
    passes = [entry.run.trunk_passes for entry in ours if isinstance(entry.run.trunk_passes, int)]
    return FoldReport(
        shards=len(ours),
        folded=folded,
        failed=sum(entry.failed for entry in (*new, *retried)),
        residues=sum(entry.residues for entry in ours),
        seconds=seconds,
        added=added,
        trunk_passes=sum(passes) / (folded + added) if passes and folded + added else None,
    )


def _emit_started(
    options: FoldOptions, tasks: Sequence[FoldTask], engine: Engine, *, retry_failed: bool, add_outputs: bool
) -> None:
    worker = options.worker
    events.emit(
        "run_started",
        version=program_version(),
        atlas=options.atlas,
        settings={name: value for name, value in dataclasses.asdict(worker.settings).items() if value is not None},
        device=worker.device,
        engine=engine.runner,
        workers=engine.workers,
        outputs=options.outputs,
        shards=len(tasks),
        proteins=sum(task.shard.proteins for task in tasks),
        residues=sum(task.shard.residues for task in tasks),
        mflop=sum(task.shard.cost for task in tasks),
        retry_failed=retry_failed,
        add_outputs=add_outputs,
    )


def _expected_cost(tasks: Sequence[FoldTask], entries: Mapping[str, ShardEntry]) -> int:
    """Return the predicted MFLOP of `tasks`; of a retried shard the share of its failed proteins."""
    cost = 0
    for task in tasks:
        share = entries[task.shard.name].failed / task.shard.proteins if task.retry else 1.0
        cost += round(share * task.shard.cost)
    return cost


def _with_random_start(tasks: list[FoldTask]) -> list[FoldTask]:
    """Return the full-size shards, rotated by a random number, then the fine ones, so that all workers end together.

    Two drivers of one atlas would otherwise fold every shard at the same time, twice: harmless, and wasted.
    """
    full_size = max(task.shard.cost for task in tasks) / 2
    first = [task for task in tasks if task.shard.cost >= full_size]
    start = secrets.randbelow(len(first))
    return first[start:] + first[:start] + [task for task in tasks if task.shard.cost < full_size]


def _memory_bytes(engine: Engine, device: str) -> int:
    """Return the memory limit of one batch: a share of the device's total, so that the same machine always cuts the
    same batches.

    The process that owns the device looks at its free memory, and computes fewer rows at once or has the batch halved.
    """
    return int(MEMORY_FRACTION * (dispatch.device_memory(engine, device) or SMALL_GPU_BYTES))
