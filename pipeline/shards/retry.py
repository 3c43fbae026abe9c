"""Failed proteins of a committed shard, taken up again.

What folds now joins the rows that stand, in the next generation of every file of the shard; what fails again stays a
failure, with the new reason and its attempts added up. If nothing folds, only the failures are written anew.
"""

from collections.abc import Iterator, Sequence
from itertools import chain

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.parquet.coordinates import structure_ids_of
from foldatlas.atlas.parquet.files import open_parquet
from foldatlas.folding.prediction import Prediction
from foldatlas.pipeline.shards.bisection import Failed
from foldatlas.pipeline.shards.writer import ShardWriter
from foldatlas.schemas.errors import DamagedAtlasError
from foldatlas.schemas.manifest import ShardEntry
from foldatlas.schemas.records import structure_id


def failed_before(folder: AtlasFolder, entry: ShardEntry, sequences: Sequence[str]) -> dict[str, int]:
    """Those of a committed shard's sequences that failed, and how often each was tried.

    Raises DamagedAtlasError where the file of failures cannot be read or is of other sequences.
    """
    path = folder.where(entry.files["failures"].path)
    try:
        with open_parquet(folder.storage, entry.files["failures"].path) as file:
            table = file.read(columns=["structure_id", "attempts"])
    except (OSError, ValueError) as error:
        raise DamagedAtlasError(f"{path} cannot be read ({error}): restore it from a copy") from error
    by_identity = {structure_id(sequence): sequence for sequence in sequences}
    try:
        failed = [by_identity[identity] for identity in structure_ids_of(table)]
    except KeyError as error:
        raise DamagedAtlasError(f"{path} names sequences that the shard has not: restore it from a copy") from error
    return dict(zip(failed, table["attempts"].to_pylist(), strict=True))


def write_retried(
    folder: AtlasFolder,
    before: ShardEntry,
    attempt: str,
    results: Iterator[Prediction | Failed],
    attempts: dict[str, int],
    metadata: dict[str, str],
) -> ShardWriter:
    """Writes the files of the next generation of `before` from `results`, one for each of `attempts` (earlier tries by
    sequence), and returns their closed writer. It wrote all tables of the shard, or failures alone."""
    failed: list[Failed] = []
    first: list[Prediction] = []
    for result in results:  # up to the first that folds: until then only failures are sure to be written
        if not isinstance(result, Failed):
            first.append(result)
            break
        failed.append(result)
    tables = list(before.files) if first else ["failures"]
    writer = ShardWriter(folder, before.shard, attempt, tables=tables, metadata=metadata)
    with writer.open():
        if first:
            writer.keep({table: file for table, file in before.files.items() if table != "failures"})
        for result in chain(failed, first, results):
            if isinstance(result, Failed):
                writer.fail(result.sequence, result.error, result.attempts + attempts[result.sequence])
            else:
                writer.add(result)
    return writer
