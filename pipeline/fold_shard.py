"""One shard: sequences in, structures and one manifest entry out.

The protocol: look whether the shard is committed; fold; write every file of this attempt; commit the entry, which
names the files, by an operation of which only one can succeed; delete the files if another attempt was first.

A committed shard that lacks an output is folded again for that output alone: the next generation of its entry names
the new file and takes over all the others, so that no structure changes.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from foldatlas.atlas.commit import attempt_name
from foldatlas.atlas.coordinates import structure_ids_of
from foldatlas.atlas.folder import AtlasFolder, now
from foldatlas.atlas.parquet_files import open_parquet
from foldatlas.folding.batching import cut_into_batches
from foldatlas.folding.cost import mflop, pair_output_bytes
from foldatlas.folding.models import config_of
from foldatlas.folding.prediction import Prediction
from foldatlas.pipeline import progress
from foldatlas.pipeline.interruption import give_up, giving_up_if_unwritable, stopping
from foldatlas.pipeline.outputs import ARGUMENTS, lacking
from foldatlas.pipeline.shard_writer import ShardWriter
from foldatlas.pipeline.supervisor import BatchError, WorkerSpec, child_of_this_process
from foldatlas.schemas.errors import (
    DamagedAtlasError,
    IncompleteError,
    Interrupted,
    ModelError,
    OutOfMemory,
    WorkerDied,
    WorkerTimeout,
)
from foldatlas.schemas.manifest import Run, Shard, ShardEntry, settings_digest, shard_digest
from foldatlas.schemas.records import structure_id
from foldatlas.schemas.tables import FORMAT_VERSION, NEEDED_TABLES, SHARD_TABLES
from foldatlas.schemas.version import program_version


@dataclass(frozen=True)
class FoldOptions:
    """What all shards of a run have in common. `batch_mflop` and `memory_bytes` bound a padded batch; `outputs` are
    the optional tables to write."""

    atlas: str
    worker: WorkerSpec
    outputs: tuple[str, ...]
    run_id: str
    host: str
    batch_mflop: int
    memory_bytes: int


class FoldTask(NamedTuple):
    """One element of the Beam graph: a shard, and where its sequences stand."""

    options: FoldOptions
    plan: str
    sequences: str
    shard: Shard


@dataclass(frozen=True)
class Failed:
    """A protein that could not be folded: the reason, and how often it was tried."""

    sequence: str
    error: str
    attempts: int


def fold_shard(task: FoldTask) -> None:
    """Folds and commits one shard, or what it lacks of the outputs, unless that has been done.

    Raises Interrupted when the run is to stop; IncompleteError if a protein that was folded before now fails, with the
    shard as it was. A model that cannot be loaded and a disk that cannot be written end the run: every other shard
    would meet them.
    """
    try:
        with giving_up_if_unwritable(f"shard {task.shard.name}"):
            _fold_and_commit(task)
    except ModelError as error:
        give_up(error)
        raise


def _fold_and_commit(task: FoldTask) -> None:
    options, shard = task.options, task.shard
    folder = AtlasFolder(options.atlas)
    digest = settings_digest(options.worker.settings)
    if stopping():
        raise Interrupted("stopped on request")
    before = folder.committed_entry(shard, digest)
    missing = options.outputs if before is None else lacking(before, options.outputs)
    if before is not None and not missing:
        return
    attempt, started, clock = attempt_name(), now(), time.monotonic()
    settings = options.worker.settings
    metadata = {"model": settings.model, "settings_digest": digest, "shard": shard.name}
    tables = [table for table in SHARD_TABLES if table in missing or (before is None and table in NEEDED_TABLES)]
    writer = ShardWriter(folder, shard.name, attempt, tables=tables, metadata=metadata)
    with writer.open():
        sequences = read_sequences(folder, task)
        if before is not None:
            sequences = _folded_before(folder, before, sequences)
        for result in _fold(sequences, missing, options):
            if not isinstance(result, Failed):
                writer.add(result)
            elif before is None:
                writer.fail(result.sequence, result.error, result.attempts)
            else:
                raise IncompleteError(
                    f"shard {shard.name} stays without {' and '.join(missing)}: a protein of {len(result.sequence)} "
                    f"residues ({result.sequence[:20]}...) was folded on {before.run.device} of {before.run.host} and "
                    f"fails here ({result.error}): run again on a device with as much memory"
                )
    entry = ShardEntry(
        format=FORMAT_VERSION,
        shard=shard.name,
        plan=task.plan,
        generation=0 if before is None else before.generation + 1,
        attempt=attempt,
        settings_digest=digest,
        shard_digest=shard.digest,
        folded=writer.num_folded,
        failed=writer.num_failed if before is None else before.failed,
        residues=writer.num_residues,
        cost=shard.cost,
        files={**(before.files if before is not None else {}), **writer.entries()},
        run=Run(
            run_id=options.run_id,
            host=options.host,
            device=options.worker.device,
            version=program_version(),
            started=started,
            seconds=round(time.monotonic() - clock, 3),
        ),
    )
    if folder.commit_entry(entry):
        progress.report(progress.ShardDone(entry.folded, entry.failed))
    else:
        folder.discard(writer.entries())


def read_sequences(folder: AtlasFolder, task: FoldTask) -> list[str]:
    """The shard's sequences. Raises DamagedAtlasError if they are not those that the plan was made of."""
    path = folder.where(task.sequences)
    try:
        with open_parquet(folder.storage, task.sequences) as file:
            sequences: list[str] = file.read_row_group(task.shard.row_group, columns=["sequence"])[
                "sequence"
            ].to_pylist()
    except (OSError, ValueError) as error:
        raise DamagedAtlasError(f"{path} cannot be read ({error}): restore it from a copy") from error
    if shard_digest(map(structure_id, sequences)) != task.shard.digest:
        raise DamagedAtlasError(f"{path}: the sequences of shard {task.shard.name} changed: restore it from a copy")
    return sequences


def _folded_before(folder: AtlasFolder, entry: ShardEntry, sequences: Sequence[str]) -> list[str]:
    """Those of a committed shard's sequences that have a structure, in the order of its structures file."""
    path = folder.where(entry.files["structures"].path)
    try:
        with open_parquet(folder.storage, entry.files["structures"].path) as file:
            table = file.read(columns=["structure_id"])
    except (OSError, ValueError) as error:
        raise DamagedAtlasError(f"{path} cannot be read ({error}): restore it from a copy") from error
    by_identity = {structure_id(sequence): sequence for sequence in sequences}
    return [by_identity[identity] for identity in structure_ids_of(table)]


def _fold(sequences: Sequence[str], outputs: Collection[str], options: FoldOptions) -> Iterator[Prediction | Failed]:
    """Folds a shard batch by batch, shortest proteins first; a result for each of `sequences`."""
    child = child_of_this_process(options.worker)
    worker = options.worker
    config, recycles = config_of(worker.model, weights_dir=worker.weights_dir), worker.settings.recycles
    wanted = {ARGUMENTS[table]: True for table in outputs}

    def fold(batch: list[str]) -> list[Prediction]:
        if stopping():
            raise Interrupted("stopped on request")
        cost = len(batch) * mflop(config, max(map(len, batch)), recycles)
        return child.fold(batch, cost, **wanted)

    ascending = sorted(sequences, key=len)  # stable, so that a shard is always cut into the same batches
    lengths = [len(sequence) for sequence in ascending]
    for batch in cut_into_batches(
        lengths,
        config=config,
        recycles=recycles,
        budget_mflop=options.batch_mflop,
        memory_limit=options.memory_bytes,
        precision=options.worker.settings.precision,
        pair_output_bytes=pair_output_bytes(pae="pae" in outputs),
    ):
        results = fold_surely(fold, ascending[batch.start : batch.stop])
        batch_lengths = lengths[batch.start : batch.stop]
        progress.report(
            progress.BatchDone(sum(batch_lengths), sum(mflop(config, length, recycles) for length in batch_lengths))
        )
        yield from results


def fold_surely(
    fold: Callable[[list[str]], list[Prediction]], batch: list[str], attempts: int = 0
) -> list[Prediction | Failed]:
    """Folds a batch so that one bad protein costs no other: halves it down to the guilty one, which becomes Failed.

    A process that died may have been killed from outside, so a whole batch that killed it is tried once more before
    it is halved; its halves have one try a level. A batch that does not fit into memory, or whose numbers are not
    finite, would fail again: it is halved at once. `attempts`: how often these proteins were tried before.
    """
    error: Exception
    for _ in range(2 if attempts == 0 else 1):
        attempts += 1
        try:
            return list(fold(batch))
        except (WorkerDied, WorkerTimeout) as death:
            error = death
        except (OutOfMemory, BatchError) as refusal:
            error = refusal
            break
    if len(batch) == 1:
        return [Failed(batch[0], str(error), attempts)]
    middle = len(batch) // 2
    return [*fold_surely(fold, batch[:middle], attempts), *fold_surely(fold, batch[middle:], attempts)]
