"""One range of a source -> a staging Parquet file of checked records, and a note that says that it is whole."""

import contextlib
import gc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from foldatlas.atlas.parquet.files import ParquetFile
from foldatlas.atlas.storage.opening import open_storage
from foldatlas.atlas.storage.protocol import Storage
from foldatlas.pipeline.interruption import giving_up_if_unwritable, stopping
from foldatlas.pipeline.sources.find import SourceRange
from foldatlas.pipeline.sources.record_stream import open_records
from foldatlas.schemas.errors import Interrupted, SourceError
from foldatlas.schemas.records import Outcome
from foldatlas.schemas.tables import STAGING

RECORDS_A_ROW_GROUP: Final = 20_000
BYTES_A_ROW_GROUP: Final = 64 << 20  # reached only by records that are mostly header or far too long

# what says that a whole file was taken for something else than it is
MISREAD: Final = pa.array([Outcome.NUCLEOTIDES, Outcome.NOT_NUCLEOTIDES], pa.string())


class IngestTask(NamedTuple):
    """A range to read, where to stage it (a folder, or a place on a store), and the longest sequence to accept
    (residues)."""

    range: SourceRange
    staging: str
    max_length: int


class IngestNote(msgspec.Struct, frozen=True):
    """What was found in one range. `sha256` is the whole source's, given by its first range alone; `broken` says how
    a stream ended if it did not end well; `ignored` whether bytes followed the compressed data that are none; `error`
    why nothing was staged; `source_bytes` the whole source as stored; `misread` how many records were refused as
    nucleotides, or as none where contigs were expected."""

    number: int
    records: int = 0
    leading_text: bool = False
    sha256: str = ""
    broken: str = ""
    error: str = ""
    ignored: bool = False
    source_bytes: int = 0
    misread: int = 0
    contigs: int = 0
    contigs_without_genes: int = 0


def note_name(number: int) -> str:
    return f"{number:06d}.json"


def staged_path(number: int) -> str:
    return f"{number:06d}.parquet"


def read_note(staging: Path, number: int) -> IngestNote | None:
    """The note of a range that was read, or None."""
    try:
        return msgspec.json.decode((staging / note_name(number)).read_bytes(), type=IngestNote)
    except FileNotFoundError:
        return None


def ingest(task: IngestTask) -> None:
    """Reads a range. Its outcome, good or bad, is the note that it leaves; an engine may run it any number of times."""
    staging, number = open_storage(task.staging), task.range.number
    with giving_up_if_unwritable("the records of a FASTA file"):
        if staging.exists(note_name(number)):
            return
        try:
            note = _stage(task, staging)
        except SourceError as error:
            note = IngestNote(number, error=str(error))
        staging.commit_once(note_name(number), msgspec.json.encode(note))


def _stage(task: IngestTask, staging: Storage) -> IngestNote:
    source, number, start, end = task.range
    with (
        _collecting_rarely(),
        open_records(source, start, end) as stream,
        ParquetFile(staging, staged_path(number), "staging", schema=STAGING) as file,
    ):
        misread = 0
        for batches in _row_groups(stream.batches(task.max_length)):
            if stopping():
                raise Interrupted("stopped on request")
            table = _to_table(source.uri, batches)
            misread += pc.sum(pc.is_in(table["outcome"], MISREAD)).as_py() or 0
            file.write(table)
        sha256, size = stream.finish(digest=start == 0)
    contigs, without_genes = stream.contigs
    return IngestNote(
        number,
        file.rows,
        stream.leading_text,
        sha256,
        stream.error,
        ignored=stream.ignored,
        source_bytes=size,
        misread=misread,
        contigs=contigs,
        contigs_without_genes=without_genes,
    )


@contextlib.contextmanager
def _collecting_rarely() -> Iterator[None]:
    """Records hold no cycles, but each is one more object to look through: a tenth of the time of ingest went there."""
    before = gc.get_threshold()
    gc.set_threshold(10 * RECORDS_A_ROW_GROUP, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _row_groups(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Batches put together, as many as make a row group. Bounded in number of records and in bytes."""
    group: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        group.append(batch)
        rows += batch.num_rows
        size += batch.nbytes
        if rows >= RECORDS_A_ROW_GROUP or size > BYTES_A_ROW_GROUP:
            yield group
            group, rows, size = [], 0, 0
    if group:
        yield group


def _to_table(uri: str, batches: list[pa.RecordBatch]) -> pa.Table:
    table = pa.Table.from_batches(batches)
    return table.add_column(0, STAGING.field("source"), pa.repeat(pa.scalar(uri), table.num_rows))
