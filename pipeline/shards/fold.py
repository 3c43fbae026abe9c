"""The life of one shard: sequences in, structures and one manifest entry out.

A shard may be given to several workers, at once or in turn. So each looks first at what is committed, and does one of
three things:

fold_new       the shard has no entry: fold every needed sequence (generation 0)
add_outputs    it lacks an optional table: fold its structures again for that table alone. The next generation of the
               entry names the new file and all the earlier ones, so that no structure changes
retry_failed   its failures are to be tried again, or it was folded without sequences that are needed now: fold those,
               and write the next generation with the earlier rows and the new ones (retry.py)

Each returns what it wrote; `attempt.commit` makes it part of the atlas.
"""

from collections.abc import Sequence
from contextlib import closing

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.parquet.coordinates import structure_ids_of
from foldatlas.pipeline import events
from foldatlas.pipeline.interruption import give_up, raise_if_stopping
from foldatlas.pipeline.shard_work import shard_work
from foldatlas.pipeline.shards.attempt import Attempt, Written, commit
from foldatlas.pipeline.shards.batches import fold_in_batches
from foldatlas.pipeline.shards.bisection import Failed
from foldatlas.pipeline.shards.outputs import lacking
from foldatlas.pipeline.shards.retry import failed_before, write_retried
from foldatlas.pipeline.shards.task import FoldTask
from foldatlas.schemas.errors import DamagedAtlasError, IncompleteError, ModelError
from foldatlas.schemas.manifest import ShardEntry, settings_digest, shard_digest
from foldatlas.schemas.records import structure_id
from foldatlas.schemas.tables import NEEDED_TABLES, SHARD_TABLES


def fold_shard(task: FoldTask) -> None:
    """Fold and commit what is missing of one shard: all of it, an output, or its failures. Do nothing if nothing is
    missing.

    Raise Interrupted when the run is to stop; IncompleteError if a protein that was folded before now fails, with the
    shard as it was. A model that cannot be loaded and a disk that cannot be written end the run, since every other
    shard would meet them.
    """
    with shard_work(task.options.log, f"shard {task.shard.name}", shard=task.shard.name, plan=task.plan):
        try:
            _do_what_is_missing(task)
        except ModelError as error:
            give_up(error)
            raise


def _do_what_is_missing(task: FoldTask) -> None:
    raise_if_stopping()
    # 1. Look at the manifest: an earlier run, another driver or a retried task may have committed the shard.
    folder = AtlasFolder(task.options.atlas)
    before = folder.committed_entry(task.shard, settings_digest(task.options.worker.settings))
    if before is None:
        # 2a. Nothing is committed: fold the shard.
        attempt = Attempt(folder, task)
        written = fold_new(attempt)
    else:
        missing = lacking(before, task.options.outputs)
        retries_failures = before.files["failures"].path == task.retry
        returned = [] if missing else _returned_rows(folder, task, before)
        if retries_failures or any(returned):
            # 2b. Fold failures, and sequences that were not needed before, and add them to the rows that exist.
            attempt = Attempt(folder, task)
            written = retry_failed(attempt, before, retries_failures, returned)
        elif missing:
            # 2c. Fold the structures that exist again, for the missing tables.
            attempt = Attempt(folder, task)
            written = add_outputs(attempt, before, missing)
        else:
            # 2d. Nothing is missing.
            events.emit("shard_skipped", shard=task.shard.name, plan=task.plan, generation=before.generation)
            return
    # 3. All files are complete and have their names. Commit the entry that lists them, or delete them if another
    #    attempt was faster.
    commit(attempt, before, written)


def fold_new(attempt: Attempt) -> Written:
    """Fold every needed sequence of a shard that has no entry."""
    task = attempt.task
    tables = [table for table in SHARD_TABLES if table in NEEDED_TABLES or table in task.options.outputs]
    sequences = read_sequences(attempt.folder, task)
    needed = [sequence for sequence, is_needed in zip(sequences, task.is_needed(), strict=True) if is_needed]
    writer = attempt.writer(tables)
    with writer.open(), closing(fold_in_batches(needed, task.options.outputs, task.options)) as results:
        for result in results:
            if isinstance(result, Failed):
                writer.fail(result.sequence, result.error, result.attempts)
            else:
                writer.add(result)
    return Written(writer, folded=writer.num_folded, failed=writer.num_failed)


def add_outputs(attempt: Attempt, before: ShardEntry, missing: Sequence[str]) -> Written:
    """Fold the structures of the committed entry `before` again, for its `missing` tables alone.

    Raise IncompleteError if one of them fails now: the shard stays as it is.
    """
    task = attempt.task
    sequences = _folded_before(attempt.folder, before, read_sequences(attempt.folder, task))
    writer = attempt.writer([table for table in SHARD_TABLES if table in missing])
    with writer.open(), closing(fold_in_batches(sequences, missing, task.options)) as results:
        for result in results:
            if isinstance(result, Failed):
                raise IncompleteError(
                    f"shard {task.shard.name} stays without {' and '.join(missing)}: a protein of "
                    f"{len(result.sequence)} residues ({result.sequence[:20]}...) was folded on {before.run.device} of "
                    f"{before.run.host} but failed here ({result.error}): run again on a device with as much memory"
                )
            writer.add(result)
    return Written(writer, folded=writer.num_folded, failed=before.failed)


def retry_failed(attempt: Attempt, before: ShardEntry, retries_failures: bool, returned: Sequence[bool]) -> Written:
    """Fold proteins of the committed entry `before` that have no structure, and keep those that have one.

    They are its needed failures if `retries_failures`, and the rows of the shard where `returned` is True.
    """
    task, folder = attempt.task, attempt.folder
    sequences = read_sequences(folder, task)
    failures = failed_before(folder, before, sequences)
    tried: dict[str, int] = {}  # sequence -> earlier tries
    if retries_failures:
        needed = {sequence for sequence, is_needed in zip(sequences, task.is_needed(), strict=True) if is_needed}
        tried = {failure.sequence: failure.attempts for failure in failures if failure.sequence in needed}
    if any(returned):
        tried |= {sequence: 0 for sequence, is_back in zip(sequences, returned, strict=True) if is_back}
    untouched = [failure for failure in failures if failure.sequence not in tried]
    with closing(fold_in_batches(list(tried), before.outputs, task.options)) as results:
        writer = write_retried(attempt, before, results, tried, untouched)
    return Written(
        writer,
        folded=before.folded + writer.num_folded,
        failed=writer.num_failed,
        kept=before.folded if "structures" in writer.entries() else 0,
    )


def _returned_rows(folder: AtlasFolder, task: FoldTask, entry: ShardEntry) -> list[bool]:
    """Return which rows of a committed shard are needed now and were neither folded nor failed; [] for none."""
    if not entry.skipped:
        return []
    # Needs DuckDB, without which a machine can fold shards that have no entry (benchmarks/gpu_job.py).
    from foldatlas.atlas.index.needed import skipped_rows

    skipped = skipped_rows(folder, task.sequences, task.shard, entry)
    return [bool(is_skipped) and needed for is_skipped, needed in zip(skipped, task.is_needed(), strict=True)]


def read_sequences(folder: AtlasFolder, task: FoldTask) -> list[str]:
    """Return the shard's sequences. Raise DamagedAtlasError if they are not those that the plan was made of."""
    table = folder.read_table(task.sequences, ["sequence"], task.shard.row_group)
    sequences: list[str] = table["sequence"].to_pylist()
    if shard_digest(map(structure_id, sequences)) != task.shard.digest:
        raise DamagedAtlasError(
            f"{folder.where(task.sequences)}: the sequences of shard {task.shard.name} changed: restore it from a copy"
        )
    return sequences


def _folded_before(folder: AtlasFolder, entry: ShardEntry, sequences: Sequence[str]) -> list[str]:
    """Return those of a committed shard's sequences that have a structure, in the order of its structures file."""
    table = folder.read_table(entry.files["structures"].path, ["structure_id"])
    by_identity = {structure_id(sequence): sequence for sequence in sequences}
    return [by_identity[identity] for identity in structure_ids_of(table)]
