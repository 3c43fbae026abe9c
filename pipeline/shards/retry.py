"""Reading and rewriting the failures of a committed shard.

Proteins that fold now are added to the rows that exist, in the next generation of every file of the shard. Proteins
that fail again stay failures, with the new reason and the tries added up. If nothing folds, only the failures are
written again.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.parquet.coordinates import structure_ids_of
from foldatlas.folding.prediction import QuantisedPrediction
from foldatlas.pipeline.shards.attempt import Attempt
from foldatlas.pipeline.shards.bisection import Failed
from foldatlas.pipeline.shards.writer import ShardWriter
from foldatlas.schemas.errors import DamagedAtlasError
from foldatlas.schemas.manifest import ShardEntry
from foldatlas.schemas.records import structure_id


def failed_before(folder: AtlasFolder, entry: ShardEntry, sequences: Sequence[str]) -> list[Failed]:
    """Return those of a committed shard's sequences that failed, with the reason and how often each was tried.

    Raise DamagedAtlasError where the failures file cannot be read or lists other sequences.
    """
    path = entry.files["failures"].path
    table = folder.read_table(path, ["structure_id", "error", "attempts"])
    by_identity = {structure_id(sequence): sequence for sequence in sequences}
    try:
        failed = [by_identity[identity] for identity in structure_ids_of(table)]
    except KeyError as error:
        raise DamagedAtlasError(
            f"{folder.where(path)} lists sequences that are not in the shard: restore it from a copy"
        ) from error
    reasons, attempts = table["error"].to_pylist(), table["attempts"].to_pylist()
    return [Failed(*row) for row in zip(failed, reasons, attempts, strict=True)]


def write_retried(
    attempt: Attempt,
    before: ShardEntry,
    results: Iterator[QuantisedPrediction | Failed],
    attempts: Mapping[str, int],
    untouched: Sequence[Failed] = (),
) -> ShardWriter:
    """Write the files of the generation after `before`, and return their closed writer.

    `results` has a result for each key of `attempts`, which are earlier tries by sequence; `untouched` are failures
    that were not tried. Writes all tables of the shard, or the failures alone if nothing folded.
    """
    # Until a protein folds, only the failures are sure to be written: hold results back up to the first that does.
    failed: list[Failed] = []
    first: list[QuantisedPrediction] = []
    for result in results:
        if not isinstance(result, Failed):
            first.append(result)
            break
        failed.append(result)
    writer = attempt.writer(list(before.files) if first else ["failures"])
    with writer.open():
        for failure in untouched:
            writer.fail(failure.sequence, failure.error, failure.attempts)
        if first:
            writer.keep({table: file for table, file in before.files.items() if table != "failures"})
        for result in chain(failed, first, results):
            if isinstance(result, Failed):
                writer.fail(result.sequence, result.error, result.attempts + attempts[result.sequence])
            else:
                writer.add(result)
    return writer
