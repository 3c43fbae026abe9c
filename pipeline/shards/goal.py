"""Which shards of an atlas a run is to fold, and why."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.needed import Needed, is_left, needed_failures
from foldatlas.pipeline.shards.outputs import lacking
from foldatlas.pipeline.shards.task import FoldOptions, FoldTask
from foldatlas.schemas.manifest import Plan, Shard, ShardEntry, settings_digest


@dataclass(frozen=True)
class Goal:
    """What a run is to achieve in an atlas.

    plans: the atlas's plans, in the order in which their shards run.
    options: what all shards share, with the outputs that each is to have.
    needed: the sequences that a present record has.
    retries: shard name -> path of the failures file whose proteins are to be tried again.
    shards: names of the shards to work on (None: all).
    """

    folder: AtlasFolder
    plans: Sequence[Plan]
    options: FoldOptions
    needed: Needed
    retries: Mapping[str, str]
    shards: Collection[str] | None = None

    def missing(self, entries: Mapping[str, ShardEntry]) -> list[FoldTask]:
        """Return the tasks that are left when `entries` (by shard name) are committed, in the order of the plans.

        A shard is left if it has a needed sequence that was never tried, lacks an output, or still has the failures
        that are to be retried. Raise DamagedAtlasError for an entry of other sequences or settings.
        """
        digest = settings_digest(self.options.worker.settings)
        tasks = []
        for plan in self.plans:
            for shard in plan.shards:
                if self.shards is not None and shard.name not in self.shards:
                    continue
                entry, retry = entries.get(shard.name), ""
                if entry is not None:
                    self.folder.check_entry(entry, shard, digest)
                    if entry.files["failures"].path == self.retries.get(shard.name):
                        retry = entry.files["failures"].path
                lacks_output = entry is not None and bool(lacking(entry, self.options.outputs))
                if retry or lacks_output or is_left(self.folder, plan, shard, entries, self.needed):
                    tasks.append(self._task(plan, shard, retry))
        return tasks

    def _task(self, plan: Plan, shard: Shard, retry: str) -> FoldTask:
        rows = self.needed.masks.get(shard.name)
        bits = b"" if rows is None else np.packbits(rows).tobytes()
        return FoldTask(self.options, plan.name, plan.sequences[shard.file].path, shard, retry, bits)

    def with_memory(self, memory_bytes: int) -> "Goal":
        """Return the goal with a limit on the memory of a batch, known once the workers are."""
        return replace(self, options=replace(self.options, memory_bytes=memory_bytes))


def failures_to_retry(
    folder: AtlasFolder, plans: Sequence[Plan], entries: Mapping[str, ShardEntry], needed: Needed
) -> dict[str, str]:
    """Return the failures file of each committed shard that has a needed failure, by shard name."""
    return {
        shard.name: entries[shard.name].files["failures"].path
        for plan in plans
        for shard in plan.shards
        if shard.name in entries
        and needed_failures(folder, plan.sequences[shard.file].path, shard, entries[shard.name], needed)
    }
