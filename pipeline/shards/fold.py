"""One shard: sequences in, structures and one manifest entry out.

The protocol: look whether the shard is committed; fold; write every file of this attempt; commit the entry, which
names the files, by an operation of which only one can succeed; delete the files if another attempt was first.

A committed shard that lacks an output is folded again for that output alone: the next generation of its entry names
the new file and takes over all the others, so that no structure changes. Its failed proteins are tried again on request
(retry.py), with the same outputs that the shard has.
"""

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from foldatlas.atlas.folder import AtlasFolder, now
from foldatlas.atlas.index.needed import skipped_rows
from foldatlas.atlas.parquet.coordinates import structure_ids_of
from foldatlas.atlas.parquet.files import open_parquet
from foldatlas.atlas.storage.commit import attempt_name
from foldatlas.folding.models import config_of
from foldatlas.folding.planning.batching import cut_into_batches
from foldatlas.folding.planning.cost import mflop, pair_output_bytes
from foldatlas.folding.prediction import Prediction
from foldatlas.pipeline import events, progress
from foldatlas.pipeline.interruption import give_up, giving_up_if_unwritable, raise_if_stopping
from foldatlas.pipeline.shards.bisection import Failed, fold_surely
from foldatlas.pipeline.shards.outputs import ARGUMENTS, lacking
from foldatlas.pipeline.shards.retry import failed_before, write_retried
from foldatlas.pipeline.shards.writer import ShardWriter
from foldatlas.pipeline.workers.devices import hardware_of
from foldatlas.pipeline.workers.supervisor import WorkerSpec, child_of_this_process
from foldatlas.schemas.errors import (
    DamagedAtlasError,
    IncompleteError,
    Interrupted,
    ModelError,
)
from foldatlas.schemas.manifest import LINEAGE_FORMAT, Run, Shard, ShardEntry, settings_digest, shard_digest
from foldatlas.schemas.records import format_structure_id, structure_id
from foldatlas.schemas.tables import FORMAT_VERSION, NEEDED_TABLES, SHARD_TABLES
from foldatlas.schemas.version import program_version

PACK_EVERY: Final = 500  # shards of a plan: whoever commits one of these numbers


@dataclass(frozen=True)
class FoldOptions:
    """What all shards of a run have in common. `batch_mflop` and `memory_bytes` bound a padded batch; `outputs` are
    the optional tables to write; `log` is where events go."""

    atlas: str
    worker: WorkerSpec
    outputs: tuple[str, ...]
    run_id: str
    host: str
    batch_mflop: int
    memory_bytes: int
    log: events.Log | None = None


class FoldTask(NamedTuple):
    """One element of the Beam graph: a shard, and where its sequences stand. `retry` is the file of failures whose
    proteins are to be tried again: "" for none. `needed` says which of the shard's rows a present record has, a bit
    each (`numpy.packbits`): nothing for all."""

    options: FoldOptions
    plan: str
    sequences: str
    shard: Shard
    retry: str = ""
    needed: bytes = b""

    def is_needed(self) -> Sequence[bool]:
        """Whether each row of the shard is needed."""
        if not self.needed:
            return [True] * self.shard.proteins
        bits = np.unpackbits(np.frombuffer(self.needed, np.uint8), count=self.shard.proteins)
        return [bool(bit) for bit in bits]


def fold_shard(task: FoldTask) -> None:
    """Folds and commits one shard, or what it lacks of the outputs, or what failed, unless that has been done.

    Raises Interrupted when the run is to stop; IncompleteError if a protein that was folded before now fails, with the
    shard as it was. A model that cannot be loaded and a disk that cannot be written end the run: every other shard
    would meet them.
    """
    events.begin(task.options.log)
    try:
        with giving_up_if_unwritable(f"shard {task.shard.name}"):
            _fold_and_commit(task)
    except ModelError as error:
        give_up(error)
        raise
    except Interrupted:
        events.emit("shard_abandoned", level=events.WARNING, shard=task.shard.name, plan=task.plan)
        raise
    except Exception as error:
        events.emit("shard_failed", level=events.ERROR, shard=task.shard.name, plan=task.plan, reason=str(error))
        raise


def _fold_and_commit(task: FoldTask) -> None:
    options, shard = task.options, task.shard
    folder = AtlasFolder(options.atlas)
    digest = settings_digest(options.worker.settings)
    raise_if_stopping()
    before = folder.committed_entry(shard, digest)
    missing = options.outputs if before is None else lacking(before, options.outputs)
    retrying = before is not None and before.files["failures"].path == task.retry
    returned = before is not None and not missing and _returned(folder, task, before)
    if before is not None and not missing and not retrying and not returned:
        events.emit("shard_skipped", shard=shard.name, plan=task.plan, generation=before.generation)
        return
    attempt, started, clock = attempt_name(), now(), time.monotonic()
    child = child_of_this_process(options.worker)
    busy, hardware = child.busy_seconds, hardware_of(options.worker.device)
    metadata = {"model": options.worker.settings.model, "settings_digest": digest, "shard": shard.name}
    sequences = read_sequences(folder, task)
    needed = [sequence for sequence, is_needed in zip(sequences, task.is_needed(), strict=True) if is_needed]
    taking_up = before is not None and (retrying or returned)
    tried: dict[str, int] = {}
    if before is not None and taking_up:
        failures = failed_before(folder, before, sequences)
        if retrying:
            wanted = set(needed)
            tried = {one.sequence: one.attempts for one in failures if one.sequence in wanted}
        if returned:
            rows = zip(sequences, task.is_needed(), _skipped(folder, task, before), strict=True)
            tried |= {sequence: 0 for sequence, is_needed, is_skipped in rows if is_needed and is_skipped}
        results = _fold(list(tried), before.outputs, options)
        standing = [one for one in failures if one.sequence not in tried]
        writer = write_retried(folder, before, attempt, results, tried, metadata, standing)
    else:
        writer = _write(task, folder, before, attempt, needed if before is None else sequences, missing, metadata)
    written, kept = writer.entries(), 0
    if taking_up and before is not None:
        kept = before.folded if "structures" in written else 0
    folded = writer.num_folded + (before.folded if before is not None and taking_up else 0)
    failed = writer.num_failed if before is None or taking_up else before.failed
    skipped = shard.proteins - folded - failed if before is None or taking_up else before.skipped
    entry = ShardEntry(
        format=LINEAGE_FORMAT if skipped else FORMAT_VERSION,
        shard=shard.name,
        plan=task.plan,
        generation=0 if before is None else before.generation + 1,
        attempt=attempt,
        settings_digest=digest,
        shard_digest=shard.digest,
        folded=folded,
        failed=failed,
        residues=writer.num_residues,
        cost=shard.cost,
        files={**(before.files if before is not None else {}), **written},
        run=Run(
            run_id=options.run_id,
            host=options.host,
            device=options.worker.device,
            version=program_version(),
            started=started,
            seconds=round(time.monotonic() - clock, 3),
            busy_seconds=round(child.busy_seconds - busy, 3),
            device_name=hardware.name,
            device_bytes=hardware.bytes,
        ),
        kept=kept,
        skipped=skipped,
    )
    if folder.commit_entry(entry):
        progress.report(progress.ShardDone(writer.num_folded, writer.num_failed))
        _tell(entry, writer)
        if int(shard.name.rpartition("-")[2]) % PACK_EVERY == 0:
            folder.pack_manifest()  # for those who watch a long run
    else:
        folder.discard(written)
        events.emit("shard_lost", shard=shard.name, plan=task.plan, generation=entry.generation)


def _skipped(folder: AtlasFolder, task: FoldTask, entry: ShardEntry) -> Sequence[bool]:
    return [bool(row) for row in skipped_rows(folder, task.sequences, task.shard, entry)]


def _returned(folder: AtlasFolder, task: FoldTask, entry: ShardEntry) -> bool:
    """Whether the shard was folded without sequences that are needed now."""
    return entry.skipped > 0 and any(
        is_needed and is_skipped
        for is_needed, is_skipped in zip(task.is_needed(), _skipped(folder, task, entry), strict=True)
    )


def _write(
    task: FoldTask,
    folder: AtlasFolder,
    before: ShardEntry | None,
    attempt: str,
    sequences: list[str],
    missing: Sequence[str],
    metadata: dict[str, str],
) -> ShardWriter:
    """Folds a shard, or the structures of a committed one again for its `missing` tables. Returns the closed writer."""
    options, shard = task.options, task.shard
    tables = [table for table in SHARD_TABLES if table in missing or (before is None and table in NEEDED_TABLES)]
    writer = ShardWriter(folder, shard.name, attempt, tables=tables, metadata=metadata)
    with writer.open():
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
    return writer


def _tell(entry: ShardEntry, writer: ShardWriter) -> None:
    """Events of a commit. Failures are told here, not when they happen: another attempt's may be those that count."""
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
    )


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
        raise_if_stopping()
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
        results = fold_surely(fold, ascending[batch.start : batch.stop], renew=child.renew)
        batch_lengths = lengths[batch.start : batch.stop]
        progress.report(
            progress.BatchDone(sum(batch_lengths), sum(mflop(config, length, recycles) for length in batch_lengths))
        )
        yield from results
