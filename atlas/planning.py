"""Staged records -> a plan's tables, in DuckDB and out of core: what is repeated, what is new, in which order.

Only SQL and the writing of what it gives; which lengths make a shard is the caller's to say, from a histogram.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from foldatlas.atlas.commit import attempt_name
from foldatlas.atlas.index import escape_glob, first_line
from foldatlas.atlas.parquet_files import ParquetFile
from foldatlas.atlas.stoppable import stoppable
from foldatlas.atlas.storage import Storage
from foldatlas.schemas.errors import DamagedAtlasError, FoldAtlasError
from foldatlas.schemas.manifest import FileEntry, Shard
from foldatlas.schemas.records import Outcome
from foldatlas.schemas.tables import MAX_SHARDS_A_FILE, RECORDS, SEQUENCES

RECORDS_A_FILE: Final = 5_000_000
_ROWS_A_BATCH: Final = 100_000

# The first accepted record of an id in a source keeps it; a later one with the same sequence is a repetition, one
# with another sequence is refused. Ids that stand once, nearly all, never reach the join.
_RECORDS: Final = f"""
    create table repeats as
        select source, id, min("offset") as first_offset
        from staged where outcome = '{Outcome.ACCEPTED}' group by source, id having count(*) > 1;
    create table firsts as
        select repeats.*, staged.structure_id as first_structure
        from repeats join staged on staged.source = repeats.source and staged."offset" = repeats.first_offset;
    create view judged as
        select staged.* replace (
            case when firsts.id is null or staged.outcome <> '{Outcome.ACCEPTED}'
                      or staged."offset" = firsts.first_offset then staged.outcome
                 when staged.structure_id = firsts.first_structure then '{Outcome.REPEATED}'
                 else '{Outcome.DUPLICATE_ID}' end as outcome)
        from staged left join firsts on staged.source = firsts.source and staged.id = firsts.id;
    create view records as
        select * exclude (sequence) replace (
            case when outcome <> '{Outcome.DUPLICATE_ID}' then structure_id end as structure_id,
            case when outcome <> '{Outcome.DUPLICATE_ID}' then sequence_crc64 end as sequence_crc64)
        from judged;
"""
_SEQUENCES: Final = f"""
    create table sequences as
        select structure_id, any_value(sequence) as sequence, any_value(length)::integer as length
        from judged where outcome = '{Outcome.ACCEPTED}' group by structure_id;
"""


@dataclass(frozen=True)
class PlannedTables:
    """Tables in the staging folder, with paths relative to it, and what they hold.

    Shards have no name yet: a plan is named by its shards, and they by their plan.
    """

    records: tuple[FileEntry, ...]
    sequences: tuple[FileEntry, ...]
    shards: tuple[Shard, ...]
    outcomes: dict[str, int]


def plan_tables(
    staging: Path,
    staged: Sequence[Path],
    known_sequences: Sequence[Path],
    cut: Callable[[list[tuple[int, int]]], Sequence[tuple[int, int, int]]],
    *,
    memory_limit: str | None = None,
) -> PlannedTables:
    """Judges staged records, and writes `records` and `sequences` tables beside them.

    `known_sequences` are the sequences files of earlier plans, whose sequences are not planned again. `cut` takes
    (length, count) pairs by falling length and gives shards as (start rank, end rank, cost in MFLOP).
    """
    with _connection(staging, memory_limit) as connection:
        connection.read_parquet([escape_glob(path) for path in staged]).create_view("staged")
        stoppable(connection, lambda: connection.execute(_RECORDS))
        stoppable(connection, lambda: connection.execute(_SEQUENCES))
        if known_sequences:
            connection.read_parquet([escape_glob(path) for path in known_sequences]).create_view("known")
            delete = "delete from sequences where structure_id in (select structure_id from known)"
            stoppable(connection, lambda: connection.execute(delete))
        histogram = connection.sql(
            "select length, count(*) from sequences group by length order by length desc"
        ).fetchall()
        counts = connection.sql("select outcome, count(*) from records group by outcome order by outcome").fetchall()
        shards = cut(histogram)
        sequences, drafts = _write_sequences(connection, staging, shards)
        return PlannedTables(
            records=tuple(_write_records(connection, staging)),
            sequences=tuple(sequences),
            shards=tuple(drafts),
            outcomes=dict(counts),
        )


@contextlib.contextmanager
def _connection(staging: Path, memory_limit: str | None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database file of its own in the staging folder, so that tables larger than memory go to disk."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "temp_directory": str(staging / "spill"),
        "arrow_lossless_conversion": "true",  # UUIDs stay UUIDs on their way to Arrow
    }
    if memory_limit:
        config["memory_limit"] = memory_limit
    with duckdb.connect(str(staging / f"{attempt_name()}.duckdb"), config=config) as connection:
        try:
            yield connection
        except duckdb.OutOfMemoryException as error:
            raise FoldAtlasError(f"planning needs more memory: {first_line(error)}") from error
        except duckdb.Error as error:
            raise DamagedAtlasError(
                f"the plan cannot be made: {first_line(error)}; `foldatlas verify` lists what is missing or damaged"
            ) from error


def _write_records(connection: duckdb.DuckDBPyConnection, staging: Path) -> Iterator[FileEntry]:
    reader = connection.sql('select * from records order by source, "offset"').to_arrow_reader(_ROWS_A_BATCH)
    batches = iter(reader)
    batch = next(batches, None)
    number = 0
    while batch is not None:
        with ParquetFile(staging, f"records-{number:04d}.parquet", "records") as file:
            while batch is not None and file.rows < RECORDS_A_FILE:
                file.write(pa.Table.from_batches([batch]).select(RECORDS.names))
                batch = next(batches, None)
        assert file.entry is not None
        yield file.entry
        number += 1


class _Rows:
    """Rows of a reader, taken in numbers that have nothing to do with its batches."""

    def __init__(self, reader: pa.RecordBatchReader):
        self._reader = iter(reader)
        self._rest: pa.RecordBatch | None = None

    def take(self, count: int) -> pa.Table:
        batches: list[pa.RecordBatch] = []
        while count:
            batch = self._rest if self._rest is not None else next(self._reader)
            batches.append(batch.slice(0, count))
            count -= batches[-1].num_rows
            self._rest = batch.slice(batches[-1].num_rows) if batches[-1].num_rows < batch.num_rows else None
        return pa.Table.from_batches(batches).combine_chunks()


def _write_sequences(
    connection: duckdb.DuckDBPyConnection, staging: Path, shards: Sequence[tuple[int, int, int]]
) -> tuple[list[FileEntry], list[Shard]]:
    """One row group a shard, longest proteins first."""
    query = "select structure_id, sequence, length from sequences order by length desc, structure_id"
    rows = _Rows(connection.sql(query).to_arrow_reader(_ROWS_A_BATCH))
    files: list[FileEntry] = []
    drafts: list[Shard] = []
    for first in range(0, len(shards), MAX_SHARDS_A_FILE):
        number = len(files)
        with ParquetFile(staging, f"sequences-{number:04d}.parquet", "sequences") as file:
            for row_group, (start, end, cost) in enumerate(shards[first : first + MAX_SHARDS_A_FILE]):
                table = rows.take(end - start).cast(SEQUENCES)
                lengths = table["length"].to_numpy()
                drafts.append(
                    Shard(
                        name="",
                        file=number,
                        row_group=row_group,
                        proteins=table.num_rows,
                        residues=int(lengths.sum()),
                        min_length=int(lengths.min()),
                        max_length=int(lengths.max()),
                        cost=cost,
                        digest=_digest(table["structure_id"]),
                    )
                )
                file.write(table)
        assert file.entry is not None
        files.append(file.entry)
    return files, drafts


def _digest(column: pa.ChunkedArray) -> str:
    """`schemas.manifest.shard_digest` of a whole column, without a Python object a row."""
    digest = hashlib.sha256()
    for chunk in column.chunks:
        storage = chunk.storage
        digest.update(memoryview(storage.buffers()[1])[storage.offset * 16 : (storage.offset + len(storage)) * 16])
    return digest.hexdigest()


def adopt(staging: Path, storage: Storage, file: FileEntry, path: str) -> FileEntry:
    """Moves a staged file to `path` in the atlas and gives its entry there."""
    storage.put(staging / file.path, path)
    return FileEntry(path=path, rows=file.rows, bytes=file.bytes, sha256=file.sha256)
