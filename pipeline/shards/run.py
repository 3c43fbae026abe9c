"""All shards of an atlas: what is missing is folded, and at the end the manifest is held against the plans.

Truth is the manifest. Whatever the engine says, shards that have no entry are submitted again, a few rounds at most,
and those that are still missing are named.
"""

import contextlib
import dataclasses
import secrets
import socket
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from foldatlas.atlas.folder import AtlasFolder, newest_entries, now
from foldatlas.atlas.forecast.calibration import first_entries
from foldatlas.atlas.index.needed import Needed, is_left, needed_failures, needed_in
from foldatlas.folding.planning.batching import BATCH_MFLOP
from foldatlas.pipeline import events, progress
from foldatlas.pipeline.engines import conformance, dispatch
from foldatlas.pipeline.engines.engine import EMBEDDED, Engine
from foldatlas.pipeline.engines.rounds import run_in_rounds
from foldatlas.pipeline.interruption import interruptible
from foldatlas.pipeline.planning.costs import deadline_rate
from foldatlas.pipeline.shards.fold import FoldOptions, FoldTask, fold_shard
from foldatlas.pipeline.shards.outputs import lacking, refuse_missing_outputs, refuse_to_mix
from foldatlas.pipeline.workers.supervisor import WorkerSpec, end_children
from foldatlas.schemas.errors import IncompleteError, Interrupted, StoreError
from foldatlas.schemas.manifest import Plan, ShardEntry, settings_digest
from foldatlas.schemas.version import program_version

MEMORY_FRACTION: Final = 0.5  # of the device's, for one batch: the weights and other programs want some too
SMALL_GPU_BYTES: Final = 16 << 30  # where a GPU does not say


@dataclass(frozen=True)
class FoldReport:
    """What a run did: shards and proteins of this run, the failures among them, and seconds.

    `added` are structures that were there and have more outputs now; `residues` went through the network.
    """

    shards: int
    folded: int
    failed: int
    residues: int
    seconds: float
    added: int = 0


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
    """Folds every shard of every plan that is not committed yet; with `add_outputs`, those again that lack one of
    `outputs` (names of optional tables); with `retry_failed`, the failed proteins of those that are committed, once.
    `shards` are the names of those to fold (None: all); others are left alone. `log` is where events go
    (`events.absolute` gives it).

    Without `add_outputs`, raises UsageError if committed shards lack an output. Raises Interrupted when asked to stop,
    with all finished shards kept; IncompleteError if shards are missing in the end.
    """
    plans, digest, histories = folder.plans(), settings_digest(worker.settings), folder.histories()
    entries = newest_entries(histories)
    if not add_outputs:
        refuse_missing_outputs(folder.place, entries.values(), outputs)
    needed = needed_in(folder, plans)
    retries = {
        shard.name: entries[shard.name].files["failures"].path
        for plan in plans
        for shard in plan.shards
        if retry_failed
        and shard.name in entries
        and needed_failures(folder, plan.sequences[shard.file].path, shard, entries[shard.name], needed)
    }
    run_id = f"{now()[:19].replace(':', '')}-{secrets.token_hex(3)}"
    worker = replace(worker, mflop_per_second=deadline_rate(worker.device, plans, first_entries(histories)))
    options = FoldOptions(
        atlas=folder.resolved().place,
        worker=worker,
        outputs=tuple(outputs),
        run_id=run_id,
        host=socket.gethostname(),
        batch_mflop=BATCH_MFLOP[worker.device.partition(":")[0]],
        memory_bytes=0,  # known when the workers are
        log=None if log is None else events.Log(log, run_id),
    )
    started = time.monotonic()
    folder.sweep()
    folder.pack_manifest()
    missing = _missing(folder, entries, plans, options, digest, retries, shards, needed)
    if not missing:
        return FoldReport(0, 0, 0, 0, 0.0)
    conformance.refuse_if_it_loses(engine, folder)
    if any(task.shard.name not in entries for task in missing):
        refuse_to_mix(folder.place, entries.values(), outputs)
    with _told(options, missing, engine, retry_failed=retry_failed, add_outputs=add_outputs) as ended:
        with (
            dispatch.opened(engine, worker.device),
            interruptible(),
            progress.shown(len(missing), _expected_cost(missing, entries), show=show_progress),
        ):
            options = replace(options, memory_bytes=_memory_bytes(engine, worker.device))
            todo, after = _from_a_random_place([task._replace(options=options) for task in missing]), entries

            def left() -> list[FoldTask]:
                nonlocal after
                after = folder.entries()
                return _missing(folder, after, plans, options, digest, retries, shards, needed)

            try:
                todo = run_in_rounds("fold", todo, fold_shard, engine, left)
            finally:
                end_children()
                with contextlib.suppress(StoreError):  # sweeping can wait, and what ended the run is to be said
                    folder.sweep()
        if todo:
            names = ", ".join(task.shard.name for task in todo[:5]) + (", ..." if len(todo) > 5 else "")
            raise IncompleteError(
                f"{len(todo)} of {len(missing)} shards are not done ({names}): see the messages above, and run again"
            )
        folder.pack_manifest()
        report = _report(after, entries, options.run_id, retries, time.monotonic() - started)
        ended.update(dataclasses.asdict(report))
    return report


def _report(
    entries: Mapping[str, ShardEntry],
    before: Mapping[str, ShardEntry],
    run_id: str,
    retries: Mapping[str, str],
    seconds: float,
) -> FoldReport:
    """What a run did, from the entries that are its own. `before` are those that it found."""
    ours = [entry for entry in entries.values() if entry.run.run_id == run_id]
    new = [entry for entry in ours if entry.generation == 0]
    later = [entry for entry in ours if entry.generation > 0 and entry.shard in before]
    retried = [entry for entry in later if entry.shard in retries or entry.skipped < before[entry.shard].skipped]
    more = [entry for entry in later if entry not in retried]
    return FoldReport(
        shards=len(ours),
        folded=sum(entry.folded for entry in new) + sum(entry.folded - before[entry.shard].folded for entry in retried),
        failed=sum(entry.failed for entry in (*new, *retried)),
        residues=sum(entry.residues for entry in ours),
        seconds=seconds,
        added=sum(entry.folded for entry in more),
    )


@contextlib.contextmanager
def _told(options: FoldOptions, tasks: Sequence[FoldTask], engine: Engine, **asked: Any) -> Iterator[dict[str, float]]:
    """Tells the log how the run within the block begins and ends. What is put into the dictionary that it gives is told
    at the end: the manifest's counts, which those of the events before must equal."""
    began = time.monotonic()
    ended: dict[str, float] = {}
    worker = options.worker
    events.begin(options.log)
    events.emit(
        "run_started",
        version=program_version(),
        atlas=options.atlas,
        settings=dataclasses.asdict(worker.settings),
        device=worker.device,
        engine=engine.runner,
        workers=engine.workers,
        outputs=options.outputs,
        shards=len(tasks),
        proteins=sum(task.shard.proteins for task in tasks),
        residues=sum(task.shard.residues for task in tasks),
        mflop=sum(task.shard.cost for task in tasks),
        **asked,
    )
    outcome, level, reason = "complete", events.INFO, {}
    try:
        yield ended
    except (Interrupted, KeyboardInterrupt) as stop:
        outcome, level, reason = "interrupted", events.WARNING, {"reason": str(stop) or "stopped at once"}
        raise
    except BaseException as error:
        outcome, level, reason = "failed", events.ERROR, {"reason": str(error)}
        raise
    finally:
        seconds = round(time.monotonic() - began, 3)
        events.emit("run_ended", level=level, **{"outcome": outcome, **reason, **ended, "seconds": seconds})
        events.begin(None)


def _expected_cost(tasks: Sequence[FoldTask], entries: Mapping[str, ShardEntry]) -> int:
    """Predicted MFLOP of what is to be folded; of a retried shard the failed proteins' share of its."""
    cost = 0
    for task in tasks:
        share = entries[task.shard.name].failed / task.shard.proteins if task.retry else 1.0
        cost += round(share * task.shard.cost)
    return cost


def _missing(
    folder: AtlasFolder,
    entries: Mapping[str, ShardEntry],
    plans: Sequence[Plan],
    options: FoldOptions,
    digest: str,
    retries: Mapping[str, str],
    wanted: Collection[str] | None,
    needed: Needed,
) -> list[FoldTask]:
    """Shards without an entry that has all outputs and needed sequences, and those whose entry still has the failures
    that `retries` names, by shard, in the plans' order, of those that are `wanted` (None: all). Raises
    DamagedAtlasError for a wrong entry.
    """
    missing = []
    for plan in plans:
        for shard in plan.shards:
            if wanted is not None and shard.name not in wanted:
                continue
            entry = entries.get(shard.name)
            if entry is not None:
                folder.check_entry(entry, shard, digest)
            retry = retries.get(shard.name, "")
            if entry is not None and entry.files["failures"].path != retry:
                retry = ""
            lacks = entry is not None and bool(lacking(entry, options.outputs))
            if retry or lacks or is_left(folder, plan, shard, entries, needed):
                rows = needed.masks.get(shard.name)
                bits = b"" if rows is None else np.packbits(rows).tobytes()
                missing.append(FoldTask(options, plan.name, plan.sequences[shard.file].path, shard, retry, bits))
    return missing


def _from_a_random_place(tasks: list[FoldTask]) -> list[FoldTask]:
    """The full-size shards turned by a random number of places, then the fine ones, which end a run evenly.

    Two drivers on one atlas would else fold every shard in step, twice: harmless, and in vain.
    """
    full_size = max(task.shard.cost for task in tasks) / 2
    first = [task for task in tasks if task.shard.cost >= full_size]
    start = secrets.randbelow(len(first))
    return first[start:] + first[:start] + [task for task in tasks if task.shard.cost < full_size]


def _memory_bytes(engine: Engine, device: str) -> int:
    """What one batch may take: a share of all that there is, so that the same machine always cuts the same batches.

    The process that owns the device looks at what is free then, and works on fewer rows or has the batch halved.
    """
    return int(MEMORY_FRACTION * (dispatch.device_memory(engine, device) or SMALL_GPU_BYTES))
