"""One attempt at a shard, and its commit.

The files of an attempt carry its name. The manifest entry that lists them is written last, by an operation in which
only one attempt can succeed; the others delete their files.
"""

import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from foldatlas.atlas.folder import AtlasFolder, now
from foldatlas.atlas.storage.commit import attempt_name
from foldatlas.pipeline import events, progress
from foldatlas.pipeline.shards.task import FoldTask
from foldatlas.pipeline.shards.writer import ShardWriter
from foldatlas.pipeline.workers.devices import hardware_of
from foldatlas.pipeline.workers.supervisor import child_of_this_process
from foldatlas.schemas.manifest import LINEAGE_FORMAT, Run, ShardEntry, settings_digest
from foldatlas.schemas.records import format_structure_id, structure_id
from foldatlas.schemas.tables import FORMAT_VERSION
from foldatlas.schemas.version import program_version

PACK_EVERY: Final = (
    500  # the committer of every 500th shard of a plan also packs the manifest, for readers of long runs
)


class Attempt:
    """One attempt at a shard. Its clock starts here; `name` is unique and part of its files' names."""

    def __init__(self, folder: AtlasFolder, task: FoldTask):
        self.folder, self.task = folder, task
        self.name, self._started, self._clock = attempt_name(), now(), time.monotonic()
        self.settings_digest = settings_digest(task.options.worker.settings)
        self._child = child_of_this_process(task.options.worker)
        self._busy_before = self._child.busy_seconds
        self._hardware = hardware_of(task.options.worker.device)

    def writer(self, tables: Sequence[str]) -> ShardWriter:
        """Return a writer of this attempt's files for `tables`."""
        metadata = {
            "model": self.task.options.worker.settings.model,
            "settings_digest": self.settings_digest,
            "shard": self.task.shard.name,
        }
        return ShardWriter(self.folder, self.task.shard.name, self.name, tables=tables, metadata=metadata)

    def run(self, writer: ShardWriter) -> Run:
        """Return the run, host and device of this attempt, its duration until now, and its trunk passes."""
        options = self.task.options
        return Run(
            run_id=options.run_id,
            host=options.host,
            device=options.worker.device,
            version=program_version(),
            started=self._started,
            seconds=round(time.monotonic() - self._clock, 3),
            busy_seconds=round(self._child.busy_seconds - self._busy_before, 3),
            device_name=self._hardware.name,
            device_bytes=self._hardware.bytes,
            trunk_passes=msgspec.UNSET if writer.trunk_passes is None else writer.trunk_passes,
        )


class Written(NamedTuple):
    """What an attempt wrote, and the shard's counts with it.

    writer: the closed writer of the attempt's files.
    folded, failed: proteins of the whole shard that have a structure, or a failure, once this is committed.
    kept: rows of the new structures file that were copied from the previous generation.
    """

    writer: ShardWriter
    folded: int
    failed: int
    kept: int = 0


def commit(attempt: Attempt, before: ShardEntry | None, written: Written) -> None:
    """Commit the generation after `before` (None: the first), or delete the files if another attempt was faster.

    Files of `before` that the attempt did not write belong to the new generation too.
    """
    folder, task, writer = attempt.folder, attempt.task, written.writer
    files = writer.entries()
    skipped = task.shard.proteins - written.folded - written.failed
    entry = ShardEntry(
        format=LINEAGE_FORMAT if skipped else FORMAT_VERSION,
        shard=task.shard.name,
        plan=task.plan,
        generation=0 if before is None else before.generation + 1,
        attempt=attempt.name,
        settings_digest=attempt.settings_digest,
        shard_digest=task.shard.digest,
        folded=written.folded,
        failed=written.failed,
        residues=writer.num_residues,
        cost=task.shard.cost,
        files={**({} if before is None else before.files), **files},
        run=attempt.run(writer),
        kept=written.kept,
        skipped=skipped,
    )
    if folder.commit_entry(entry):
        progress.report(progress.ShardDone(writer.num_folded, writer.num_failed))
        _emit_committed(entry, writer)
        if int(task.shard.name.rpartition("-")[2]) % PACK_EVERY == 0:
            folder.pack_manifest()
    else:
        folder.discard(files)
        events.emit("shard_lost", shard=task.shard.name, plan=task.plan, generation=entry.generation)


def _emit_committed(entry: ShardEntry, writer: ShardWriter) -> None:
    """Emit the events of a commit. Failures are logged here and not when they occur: another attempt's may count."""
    for sequence, error, attempts in writer.failures:
        events.emit(
            "protein_failed",
            level=events.WARNING,
            shard=entry.shard,
            structure_id=format_structure_id(structure_id(sequence)),
            length=len(sequence),
            attempts=attempts,
            reason=error,
        )
    passes: dict[str, Any] = {} if writer.trunk_passes is None else {"trunk_passes": writer.trunk_passes}
    events.emit(
        "shard_committed",
        shard=entry.shard,
        plan=entry.plan,
        generation=entry.generation,
        folded=writer.num_folded,
        failed=writer.num_failed,
        residues=entry.residues,
        seconds=entry.run.seconds,
        busy_seconds=entry.run.busy_seconds,
        bytes=sum(file.bytes for file in writer.entries().values()),
        **passes,
    )
