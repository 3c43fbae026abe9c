"""All missing shards of a derived stage's run, through the one Beam graph.

As for folding (shards/run.py) truth is the manifest: shards without an entry are submitted again, a few rounds at most,
and those that are still missing are named.
"""

import contextlib
import socket
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from foldatlas.atlas.stages.run import StageRun
from foldatlas.atlas.stages.runs import sweep_stages
from foldatlas.pipeline import events, progress
from foldatlas.pipeline.engines import conformance, dispatch
from foldatlas.pipeline.engines.engine import EMBEDDED, Engine
from foldatlas.pipeline.engines.rounds import refuse_incomplete, run_in_rounds
from foldatlas.pipeline.interruption import interruptible
from foldatlas.pipeline.stages.shard import ShardWork, StageOptions, StageResult, StageTask, compute_shard
from foldatlas.schemas.errors import StoreError
from foldatlas.schemas.stages import StageShard
from foldatlas.schemas.version import program_version


@dataclass(frozen=True)
class StageReport:
    """What this run of the program did for a stage's run: shards and items, the failed ones among them, and seconds of
    wall time. `counts` are the sums over all shards of the stage's run, also of earlier processes."""

    shards: int
    items: int
    failed: int
    seconds: float
    counts: dict[str, int]


def run_stage(
    run: StageRun,
    compute: Callable[[ShardWork], StageResult],
    payload: Any,
    *,
    shards: Collection[StageShard] | None = None,
    engine: Engine = EMBEDDED,
    doing: str,
    unit: str,
    show_progress: bool = True,
    log: str | None = None,
) -> StageReport:
    """Compute every shard of `run`, or of `shards` of it, that has no entry yet. The caller marks the run as complete.

    `compute` is a function of a module, `payload` its argument for all shards (pickled). `doing` and `unit` are words
    for progress: "searching", "structures". `log` is where events go (`events.absolute` gives it).

    Raise Interrupted when asked to stop, with all committed shards kept; IncompleteError if shards are missing in the
    end.
    """
    run_id = events.new_run_id()
    folder = run.folder.resolved()
    run = StageRun(folder, run.document)
    options = StageOptions(
        atlas=folder.uri,
        kind=run.kind,
        name=run.name,
        compute=compute,
        payload=payload,
        run_id=run_id,
        host=socket.gethostname(),
        log=None if log is None else events.Log(log, run_id),
    )
    started = time.monotonic()
    sweep_stages(folder)
    chosen = {shard.name for shard in (run.document.shards if shards is None else shards)}
    missing = [StageTask(options, shard) for shard in run.missing() if shard.name in chosen]
    if missing:
        conformance.refuse_if_it_loses(engine, folder)
        _compute(run, missing, engine, doing, unit, show_progress)
    entries = run.entries().values()
    ours = [entry for entry in entries if entry.run.run_id == run_id]
    counts: dict[str, int] = {}
    for entry in entries:
        for name, count in entry.counts.items():
            counts[name] = counts.get(name, 0) + count
    items = {shard.name: shard.items for shard in run.document.shards}
    return StageReport(
        shards=len(ours),
        items=sum(items[entry.shard] for entry in ours),
        failed=sum(entry.counts.get("failed", 0) for entry in ours),
        seconds=time.monotonic() - started if ours else 0.0,
        counts=counts,
    )


def _compute(run: StageRun, missing: list[StageTask], engine: Engine, doing: str, unit: str, show: bool) -> None:
    """Run the missing shards in rounds. Raise IncompleteError for those that are missing after them."""
    options, chosen = missing[0].options, {task.shard.name for task in missing}
    events.begin(options.log)
    events.emit(
        "stage_started",
        version=program_version(),
        atlas=options.atlas,
        stage=run.kind,
        stage_run=run.name,
        settings=run.document.settings,
        engine=engine.runner,
        workers=engine.workers,
        shards=len(missing),
        items=sum(task.shard.items for task in missing),
    )
    with events.end_logged("stage_ended", stage=run.kind, stage_run=run.name):
        with (
            dispatch.opened(engine, "cpu"),
            interruptible(),
            progress.shown(len(missing), sum(task.shard.cost for task in missing), show=show, doing=doing, unit=unit),
        ):
            try:
                left = run_in_rounds(
                    f"{run.kind}", missing, compute_shard, engine,
                    lambda: [StageTask(options, shard) for shard in run.missing() if shard.name in chosen],
                )  # fmt: skip
            finally:
                with contextlib.suppress(StoreError):  # sweeping can wait, and what ended the run is to be reported
                    sweep_stages(run.folder)
        refuse_incomplete([task.shard.name for task in left], len(missing), f"shards of {run.kind}/{run.name}")
