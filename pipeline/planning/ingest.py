"""One range of a source -> a staging Parquet file of checked records, and a note that is written when it is
complete."""

import contextlib
import gc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from foldatlas.atlas.parquet.files import ParquetFile
from foldatlas.atlas.storage.opening import open_storage
from foldatlas.atlas.storage.protocol import Storage
from foldatlas.pipeline.interruption import giving_up_if_unwritable, raise_if_stopping
from foldatlas.pipeline.sources.find import SourceRange
from foldatlas.pipeline.sources.nucleotides import Kind, is_nucleotides, kind_of
from foldatlas.pipeline.sources.read_counts import ReadCounts
from foldatlas.pipeline.sources.record_stream import open_records
from foldatlas.schemas.errors import SourceError
from foldatlas.schemas.records import Outcome
from foldatlas.schemas.tables import STAGING, write_options

RECORDS_PER_ROW_GROUP: Final = 20_000
BYTES_PER_ROW_GROUP: Final = 64 << 20  # reached only by records with a long header, or that are far too long

# outcomes of records whose file may have been read as the wrong kind
MISREAD: Final = pa.array([Outcome.NUCLEOTIDES, Outcome.NOT_NUCLEOTIDES], pa.string())
# outcomes of records whose letters are those of a protein, or perhaps of nucleotides
WITH_LETTERS: Final = pa.array([Outcome.ACCEPTED, Outcome.TOO_LONG], pa.string())


class IngestTask(NamedTuple):
    """A range to read, the folder or store address to write to, and the longest sequence to accept (residues)."""

    range: SourceRange
    staging: str
    max_length: int


class IngestNote(msgspec.Struct, frozen=True):
    """What was found in one range of a source.

    number: the range's, which is in the names of its files.
    error: why nothing was staged; "" if the range was read. The fields below are empty then.
    counts: of its records.
    leading_text: whether text stood before the source's first record.
    broken: why the stream could not be read to its end; "" if it could.
    ignored: whether bytes after the compressed data were ignored.
    sha256: of the whole source, given by its first range alone.
    source_bytes: of the whole source, as stored.
    """

    number: int
    error: str = ""
    counts: ReadCounts = ReadCounts()
    leading_text: bool = False
    broken: str = ""
    ignored: bool = False
    sha256: str = ""
    source_bytes: int = 0


def note_name(number: int) -> str:
    return f"{number:06d}.json"


def staged_path(number: int) -> str:
    return f"{number:06d}.parquet"


def read_note(staging: Path, number: int) -> IngestNote | None:
    """Return the note of a range, or None if it was not read yet."""
    try:
        return msgspec.json.decode((staging / note_name(number)).read_bytes(), type=IngestNote)
    except FileNotFoundError:
        return None


def ingest(task: IngestTask) -> None:
    """Read a range and write its note, with an error if it cannot be read. An engine may run this any number of
    times."""
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
        counts = ReadCounts()
        for batches in _row_groups(stream.batches(task.max_length)):
            raise_if_stopping()
            table = _to_table(source.uri, batches)
            counts += _counts_of(table)
            file.write(table)
        sha256, size = stream.finish(digest=start == 0)
    return IngestNote(
        number,
        counts=counts + stream.counts,
        leading_text=stream.leading_text,
        broken=stream.error,
        ignored=stream.ignored,
        sha256=sha256,
        source_bytes=size,
    )


def refuse_nucleotides(path: Path, majority: Kind) -> int:
    """Refuse the accepted records of a staged file whose letters are ambiguous and which are nucleotides by `majority`.

    `majority` is the kind of most other records of the source. Return the number of refused records; if it is not 0,
    the file is replaced.
    """
    refused = 0
    part = path.with_suffix(".part")
    with pq.ParquetFile(path) as staged, pq.ParquetWriter(part, STAGING, **write_options("staging")) as writer:
        for group in range(staged.num_row_groups):
            table = staged.read_row_group(group)
            is_nucleotide = [
                sequence is not None
                and kind_of(letters := sequence.encode("ascii")) is Kind.DOUBTFUL
                and is_nucleotides(letters, majority)
                for sequence in table["sequence"].to_pylist()
            ]
            refused += sum(is_nucleotide)
            writer.write_table(_refuse(table, pa.array(is_nucleotide, pa.bool_()), Outcome.NUCLEOTIDES))
    if refused:
        part.replace(path)
    else:
        part.unlink()
    return refused


def _refuse(table: pa.Table, rows: pa.Array, outcome: Outcome) -> pa.Table:
    """Return `table` with `outcome`, and without ids and sequence, in the rows where `rows` is True."""
    kept = pc.if_else(rows, pa.scalar(None, pa.int64()), pa.array(range(table.num_rows), pa.int64()))
    changed = {"outcome": pc.if_else(rows, pa.scalar(str(outcome)), table["outcome"])}
    for name in ("structure_id", "sequence_crc64", "sequence"):
        changed[name] = table[name].take(kept)
    for name, column in changed.items():
        table = table.set_column(table.schema.get_field_index(name), STAGING.field(name), column)
    return table


def _counts_of(table: pa.Table) -> ReadCounts:
    """Return the counts that the outcomes of `table` give; which records are doubtful is not among them."""

    def count(outcomes: pa.Array) -> int:
        return pc.sum(pc.is_in(table["outcome"], outcomes)).as_py() or 0

    return ReadCounts(records=table.num_rows, with_letters=count(WITH_LETTERS), misread=count(MISREAD))


@contextlib.contextmanager
def _collecting_rarely() -> Iterator[None]:
    """Within the block, collect garbage rarely. Records have no cycles, and looking for them took a tenth of the
    time."""
    before = gc.get_threshold()
    gc.set_threshold(10 * RECORDS_PER_ROW_GROUP, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _row_groups(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Yield batches in groups that each make a row group, limited in records and in bytes."""
    group: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        group.append(batch)
        rows += batch.num_rows
        size += batch.nbytes
        if rows >= RECORDS_PER_ROW_GROUP or size > BYTES_PER_ROW_GROUP:
            yield group
            group, rows, size = [], 0, 0
    if group:
        yield group


def _to_table(uri: str, batches: list[pa.RecordBatch]) -> pa.Table:
    table = pa.Table.from_batches(batches)
    return table.add_column(0, STAGING.field("source"), pa.repeat(pa.scalar(uri), table.num_rows))
