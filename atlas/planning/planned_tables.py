"""Convert staged records to the tables of a plan, in bounded memory, which does not affect the result.

Each staged record is read twice: by DuckDB, which finds repeated ids (repeated_ids.py), and to write its row of
`records` and to group its sequence with others of its length (length_bands.py). The caller cuts the sequences into
shards, from a histogram of lengths.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from foldatlas.atlas.parquet.files import ParquetFile
from foldatlas.atlas.planning.length_bands import KnownSequences, LengthBands, ids_of
from foldatlas.atlas.planning.prefetch import prefetched
from foldatlas.atlas.planning.repeated_ids import StagedRecords, open_staged
from foldatlas.atlas.storage.protocol import Storage
from foldatlas.schemas.manifest import FileEntry, Shard
from foldatlas.schemas.records import Outcome
from foldatlas.schemas.tables import MAX_SHARDS_PER_FILE, RECORDS, STAGING

MEMORY_BYTES: Final = 1 << 30  # by default: of DuckDB's tables before it uses temporary files
RECORDS_PER_FILE: Final = 5_000_000
ROWS_PER_GROUP: Final = 100_000  # of records
_CHUNK_BYTES: Final = 64 << 20  # of staged records in memory at once
CHUNK_ROWS: Final = 200_000
_BANDS_IN_MEMORY: Final = 8  # bands that fit in memory: sorting needs several copies of one
MIN_BAND_BYTES: Final = 16 << 20
MAX_BAND_BYTES: Final = 128 << 20


@dataclass(frozen=True)
class PlannedTables:
    """Tables in the staging folder, with paths relative to it, and the shards and outcomes of the plan.

    Shards have no names yet: the plan's name depends on its shards, and theirs on the plan's.
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
    memory_bytes: int = MEMORY_BYTES,
    threads: int | None = None,
    on_phase: Callable[[str], None] = lambda phase: None,
) -> PlannedTables:
    """Decide the outcome of staged records, and write `records` and `sequences` tables to the staging folder.

    staged: files with the schema STAGING, each of records of one source, in the order that `records` is to have.
    known_sequences: the sequences files of earlier plans, whose sequences are not planned again.
    cut: takes (length, count) pairs by decreasing length; returns shards as (start rank, end rank, cost in MFLOP).
    memory_bytes: limit of memory, which is exceeded by up to 0.5 GB.
    threads: threads of DuckDB (None: all of the machine).
    on_phase: called with the name of each phase as it starts.
    """
    known = KnownSequences(known_sequences)
    with open_staged(staging, staged, memory_bytes, threads) as records:
        on_phase("ids")
        records.classify()
        band_bytes = min(max(memory_bytes // _BANDS_IN_MEMORY, MIN_BAND_BYTES), MAX_BAND_BYTES)
        bands = LengthBands(staging / "bands", records.accepted_lengths(), band_bytes)
        on_phase("records")
        outcomes: Counter[str] = Counter()
        files = _write_records(staging, _classified_chunks(staged, records, bands, outcomes))
    on_phase("order")
    shards = cut(bands.settle(known))
    on_phase("sequences")
    sequences, drafts = _write_sequences(staging, bands.rows(), shards)
    return PlannedTables(tuple(files), tuple(sequences), tuple(drafts), dict(sorted(outcomes.items())))


def _staged_chunks(staged: Sequence[Path]) -> Iterator[pa.Table]:
    """Yield the rows of staged files, in order, in tables of bounded size, each of one file."""
    for path in staged:
        with pq.ParquetFile(path) as file:
            groups: list[int] = []
            size = rows = 0
            for number in range(file.metadata.num_row_groups):
                group = file.metadata.row_group(number)
                if groups and (size + group.total_byte_size > _CHUNK_BYTES or rows + group.num_rows > CHUNK_ROWS):
                    yield file.read_row_groups(groups).combine_chunks()
                    groups, size, rows = [], 0, 0
                groups.append(number)
                size, rows = size + group.total_byte_size, rows + group.num_rows
            if rows:
                yield file.read_row_groups(groups).combine_chunks()


def _classified_chunks(
    staged: Sequence[Path], records: StagedRecords, bands: LengthBands, outcomes: Counter[str]
) -> Iterator[pa.Table]:
    """Yield rows of `records`; add accepted sequences to `bands` and count outcomes."""
    for chunk in _staged_chunks(staged):
        classified = _classify(chunk, records)
        for found in classified["outcome"].value_counts():
            outcomes[found["values"].as_py()] += found["counts"].as_py()
        is_accepted = pc.equal(classified["outcome"], str(Outcome.ACCEPTED))
        accepted = classified.select(["structure_id", "sequence"]).filter(is_accepted).combine_chunks()
        if accepted.num_rows:
            bands.add(ids_of(accepted["structure_id"]), accepted["sequence"].chunk(0))
        yield classified.select(RECORDS.names)


def _classify(chunk: pa.Table, records: StagedRecords) -> pa.Table:
    """Return `chunk` with the outcomes of records whose id occurred earlier in their source, and without their ids."""
    own_offsets = chunk["offset"].to_numpy()
    offsets, is_repeated = records.classified_between(
        chunk["source"][0].as_py(), int(own_offsets.min()), int(own_offsets.max())
    )
    if not len(offsets):
        return chunk
    found = np.minimum(np.searchsorted(offsets, own_offsets), len(offsets) - 1)
    is_classified = offsets[found] == own_offsets
    repeated, refused = pa.array(is_classified & is_repeated[found]), pa.array(is_classified & ~is_repeated[found])
    outcome = pc.if_else(repeated, str(Outcome.REPEATED), chunk["outcome"])
    changed = {
        "outcome": pc.if_else(refused, str(Outcome.DUPLICATE_ID), outcome),
        "structure_id": _null_where(refused, chunk["structure_id"]),
        "sequence_crc64": _null_where(refused, chunk["sequence_crc64"]),
    }
    for name, column in changed.items():
        chunk = chunk.set_column(chunk.schema.get_field_index(name), STAGING.field(name), column)
    return chunk


def _null_where(mask: pa.Array, column: pa.ChunkedArray) -> pa.ChunkedArray:
    kept = pc.if_else(mask, pa.scalar(None, pa.int64()), pa.array(np.arange(len(column))))
    return column.take(kept)


class Rows:
    """Rows of a stream of tables, taken in any numbers, independent of the sizes of the tables."""

    def __init__(self, tables: Iterable[pa.Table]):
        self._tables = iter(tables)
        self._rest: pa.Table | None = None

    def take(self, count: int) -> pa.Table | None:
        """Return the next `count` rows, fewer at the end, None after the end."""
        parts: list[pa.Table] = []
        while count:
            table = self._rest if self._rest is not None else next(self._tables, None)
            if table is None:
                break
            parts.append(table.slice(0, count))
            count -= parts[-1].num_rows
            self._rest = table.slice(parts[-1].num_rows) if parts[-1].num_rows < table.num_rows else None
        return pa.concat_tables(parts).combine_chunks() if parts else None


def _write_records(staging: Path, chunks: Iterable[pa.Table]) -> list[FileEntry]:
    """Write row groups and files with fixed numbers of rows, independent of the sizes of the chunks."""
    files: list[FileEntry] = []
    with closing(prefetched(chunks)) as coming:
        rows = Rows(coming)
        table = rows.take(ROWS_PER_GROUP)
        while table is not None:
            with ParquetFile(staging, f"records-{len(files):04d}.parquet", "records") as file:
                while table is not None and file.rows < RECORDS_PER_FILE:
                    file.write(table)
                    table = rows.take(ROWS_PER_GROUP)
            assert file.entry is not None
            files.append(file.entry)
    return files


def _shard_tables(rows: Iterable[pa.Table], shards: Sequence[tuple[int, int, int]]) -> Iterator[tuple[Shard, pa.Table]]:
    """Yield each shard, still without name, file and row group, and its sequences."""
    left = Rows(rows)
    for start, end, cost in shards:
        table = left.take(end - start)
        assert table is not None and table.num_rows == end - start, "shards cut from another histogram"
        lengths = table["length"].to_numpy()
        draft = Shard(
            name="",
            file=0,
            row_group=0,
            proteins=table.num_rows,
            residues=int(lengths.sum()),
            min_length=int(lengths.min()),
            max_length=int(lengths.max()),
            cost=cost,
            digest=_digest(table["structure_id"]),
        )
        yield draft, table


def _write_sequences(
    staging: Path, rows: Iterable[pa.Table], shards: Sequence[tuple[int, int, int]]
) -> tuple[list[FileEntry], list[Shard]]:
    """Write one row group per shard, longest proteins first."""
    files: list[FileEntry] = []
    drafts: list[Shard] = []
    with closing(prefetched(_shard_tables(rows, shards))) as tables:
        for first in range(0, len(shards), MAX_SHARDS_PER_FILE):
            number = len(files)
            with ParquetFile(staging, f"sequences-{number:04d}.parquet", "sequences") as file:
                num_shards = min(MAX_SHARDS_PER_FILE, len(shards) - first)
                for row_group, (draft, table) in enumerate(islice(tables, num_shards)):
                    drafts.append(msgspec.structs.replace(draft, file=number, row_group=row_group))
                    file.write(table)
            assert file.entry is not None
            files.append(file.entry)
    return files, drafts


def _digest(column: pa.ChunkedArray) -> str:
    """Return `schemas.manifest.shard_digest` of a column, without creating a Python object per row."""
    digest = hashlib.sha256()
    for chunk in column.chunks:
        storage = chunk.storage
        digest.update(memoryview(storage.buffers()[1])[storage.offset * 16 : (storage.offset + len(storage)) * 16])
    return digest.hexdigest()


def adopt(staging: Path, storage: Storage, file: FileEntry, path: str) -> FileEntry:
    """Move a staged file to `path` in the atlas and return its entry."""
    storage.put(staging / file.path, path)
    return FileEntry(path=path, rows=file.rows, bytes=file.bytes, sha256=file.sha256)
