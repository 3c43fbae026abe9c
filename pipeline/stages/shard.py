"""One shard of a derived stage, by the protocol of folding: look whether it is committed; compute; write the files of
this attempt; commit the entry, of which only one can succeed; delete the files if another attempt was first."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from foldatlas.atlas.folder import AtlasFolder, now
from foldatlas.atlas.stages.run import StageRun
from foldatlas.atlas.storage.commit import attempt_name
from foldatlas.pipeline import events, progress
from foldatlas.pipeline.interruption import stopping
from foldatlas.pipeline.shard_work import shard_work
from foldatlas.schemas.errors import Interrupted
from foldatlas.schemas.manifest import FileEntry, Run
from foldatlas.schemas.stages import STAGE_FORMAT, StageEntry, StageShard
from foldatlas.schemas.version import program_version


class StageResult(NamedTuple):
    """What a shard's work made: its files by table, and counts for the manifest, of which "failed" (0 if missing) are
    items that could not be computed."""

    files: Mapping[str, FileEntry]
    counts: Mapping[str, int]


@dataclass(frozen=True)
class StageOptions:
    """What all shards of a run of the program have in common. `compute` is a function of a module (it is pickled by
    name); `payload` is for it, and can be pickled; `log` is where events go."""

    atlas: str
    kind: str
    name: str
    compute: Callable[["ShardWork"], StageResult]
    payload: Any
    run_id: str
    host: str
    log: events.Log | None = None


class StageTask(NamedTuple):
    """One element of the Beam graph."""

    options: StageOptions
    shard: StageShard


@dataclass(frozen=True)
class ShardWork:
    """What `StageOptions.compute` is given. It writes files under `run.data_path(table, shard.name, attempt)`, calls
    `advance` with the items that it is through with, and `check` now and then."""

    run: StageRun
    shard: StageShard
    attempt: str
    payload: Any
    done: list[int] = field(default_factory=lambda: [0])

    @property
    def folder(self) -> AtlasFolder:
        return self.run.folder

    def path(self, table: str) -> str:
        """Return the path of this attempt's file of `table`."""
        return self.run.data_path(table, self.shard.name, self.attempt)

    def advance(self, items: int) -> None:
        """Report that `items` more of the shard's are done."""
        before, self.done[0] = self.done[0], self.done[0] + items
        cost = self.shard.cost * self.done[0] // self.shard.items - self.shard.cost * before // self.shard.items
        progress.report(progress.BatchDone(items, cost))

    def check(self) -> None:
        """Raise Interrupted when the run is to stop."""
        if stopping():
            raise Interrupted("stopped on request")


@lru_cache(maxsize=4)
def _opened(atlas: str, kind: str, name: str) -> StageRun:
    """A run's document, read once a process."""
    return StageRun.open(AtlasFolder(atlas), kind, name)


def compute_shard(task: StageTask) -> None:
    """Compute and commit one shard, unless that was done. Raise Interrupted when the run is to stop.

    A disk that cannot be written ends the run: every other shard would meet it.
    """
    options, shard = task
    what = f"shard {shard.name} of {options.kind}/{options.name}"
    with shard_work(options.log, what, "stage_shard", stage=options.kind, shard=shard.name):
        _compute_and_commit(options, shard)


def _compute_and_commit(options: StageOptions, shard: StageShard) -> None:
    if stopping():
        raise Interrupted("stopped on request")
    run = _opened(options.atlas, options.kind, options.name)
    if run.entry(shard) is not None:
        events.emit("stage_shard_skipped", stage=run.kind, stage_run=run.name, shard=shard.name)
        return
    attempt, started, clock = attempt_name(), now(), time.monotonic()
    result = options.compute(ShardWork(run, shard, attempt, options.payload))
    entry = StageEntry(
        format=STAGE_FORMAT,
        kind=run.kind,
        name=run.name,
        shard=shard.name,
        shard_digest=shard.digest,
        attempt=attempt,
        files=dict(result.files),
        counts=dict(result.counts),
        run=Run(
            run_id=options.run_id,
            host=options.host,
            device="cpu",
            version=program_version(),
            started=started,
            seconds=round(time.monotonic() - clock, 3),
        ),
    )
    if not run.commit_entry(entry):
        run.discard(list(result.files.values()))
        events.emit("stage_shard_lost", stage=run.kind, stage_run=run.name, shard=shard.name)
        return
    failed = result.counts.get("failed", 0)
    progress.report(progress.ShardDone(shard.items - failed, failed))
    events.emit(
        "stage_shard_committed",
        stage=run.kind,
        stage_run=run.name,
        shard=shard.name,
        items=shard.items,
        counts=dict(result.counts),
        seconds=entry.run.seconds,
        bytes=sum(file.bytes for file in entry.files.values()),
    )
