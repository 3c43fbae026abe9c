"""All shards of an atlas: what is missing is folded, and at the end the manifest is held against the plans.

Truth is the manifest. Whatever the engine says, shards that have no entry are submitted again, a few rounds at most,
and those that are still missing are named.
"""

import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from foldatlas.atlas.folder import AtlasFolder, now
from foldatlas.pipeline import conformance, graphs, progress
from foldatlas.pipeline.engine import EMBEDDED, Engine
from foldatlas.pipeline.fold_shard import FoldOptions, FoldTask, fold_shard
from foldatlas.pipeline.interruption import interruptible, stopping
from foldatlas.pipeline.outputs import lacking, refuse_missing_outputs, refuse_to_mix
from foldatlas.pipeline.supervisor import WorkerSpec, end_children
from foldatlas.schemas.errors import IncompleteError
from foldatlas.schemas.manifest import Plan, ShardEntry, settings_digest

ROUNDS: Final = 3
MEMORY_FRACTION: Final = 0.5  # of the device's, for one batch: the weights and other programs want some too
SMALL_GPU_BYTES: Final = 16 << 30  # where a GPU does not say

# Padded cost of one batch, MFLOP. Batches exist to fill the device: a CPU is full with one protein, and larger
# batches only fall out of its caches (docs/log.md); a GPU wants some milliseconds of work for each of its kernels.
BATCH_MFLOP: Final = {"cpu": 2_000, "cuda": 20_000_000}


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
) -> FoldReport:
    """Folds every shard of every plan that is not committed yet; with `add_outputs`, those again that lack one of
    `outputs` (names of optional tables).

    Without it, raises UsageError if committed shards lack one. Raises Interrupted when asked to stop, with all
    finished shards kept; IncompleteError if shards are missing in the end.
    """
    plans, digest, entries = folder.plans(), settings_digest(worker.settings), folder.entries()
    if not add_outputs:
        refuse_missing_outputs(folder.root, entries.values(), outputs)
    options = FoldOptions(
        atlas=str(folder.root.resolve()),
        worker=worker,
        outputs=tuple(outputs),
        run_id=f"{now()[:19].replace(':', '')}-{secrets.token_hex(3)}",
        host=socket.gethostname(),
        batch_mflop=BATCH_MFLOP[worker.device.partition(":")[0]],
        memory_bytes=0,  # known when the workers are
    )
    started = time.monotonic()
    folder.sweep()
    missing = _missing(folder, entries, plans, options, digest)
    if not missing:
        return FoldReport(0, 0, 0, 0, 0.0)
    conformance.refuse_if_it_loses(engine, folder)
    if any(task.shard.name not in entries for task in missing):
        refuse_to_mix(folder.root, entries.values(), outputs)
    cost = sum(task.shard.cost for task in missing)
    try:
        with (
            graphs.opened(engine, worker.device),
            interruptible(),
            progress.shown(len(missing), cost, show=show_progress),
        ):
            options = replace(options, memory_bytes=_memory_bytes(engine, worker.device))
            todo = _from_a_random_place([task._replace(options=options) for task in missing])
            fruitless = (
                0  # a shard that kills its workers ends a round of Dask's early: those that did something are free
            )
            while todo and not stopping() and fruitless < ROUNDS:
                graphs.run("fold", todo, fold_shard, engine)
                entries = folder.entries()
                before, todo = todo, _missing(folder, entries, plans, options, digest)
                fruitless += len(todo) == len(before)
    finally:
        end_children()
        folder.sweep()
    if todo:
        names = ", ".join(task.shard.name for task in todo[:5]) + (", ..." if len(todo) > 5 else "")
        raise IncompleteError(
            f"{len(todo)} of {len(missing)} shards are not done ({names}): see the messages above, and run again"
        )
    ours = [entry for entry in entries.values() if entry.run.run_id == options.run_id]
    new, more = ([entry for entry in ours if (entry.generation > 0) == later] for later in (False, True))
    return FoldReport(
        shards=len(ours),
        folded=sum(entry.folded for entry in new),
        failed=sum(entry.failed for entry in new),
        residues=sum(entry.residues for entry in ours),
        seconds=time.monotonic() - started,
        added=sum(entry.folded for entry in more),
    )


def _missing(
    folder: AtlasFolder, entries: Mapping[str, ShardEntry], plans: Sequence[Plan], options: FoldOptions, digest: str
) -> list[FoldTask]:
    """Shards without an entry that has all outputs, in the plans' order. Raises DamagedAtlasError for a wrong entry."""
    missing = []
    for plan in plans:
        for shard in plan.shards:
            entry = entries.get(shard.name)
            if entry is not None:
                folder.check_entry(entry, shard, digest)
            if entry is None or lacking(entry, options.outputs):
                missing.append(FoldTask(options, plan.name, plan.sequences[shard.file].path, shard))
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
    return int(MEMORY_FRACTION * (graphs.device_memory(engine, device) or SMALL_GPU_BYTES))
