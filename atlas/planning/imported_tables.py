"""Convert staged rows of imported files to the tables of a plan, in bounded memory.

Which file of a sequence is kept, and what becomes of files that share an id, is decided by DuckDB:

- Of the files of one id in a source, the sequence of the first counts; files of another sequence are refused
  (`duplicate_id`).
- Of all files of one sequence, that of the highest mean pLDDT is kept, then that of the first name. The others are set
  aside: their ids are accepted and share the kept structure. A file whose id has an accepted record already is
  `repeated` if its content is the same, else an `alternative_model`.
- A sequence that the atlas has a structure of is not planned again: later imports never replace.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa

from foldatlas.atlas.parquet.files import ParquetFile
from foldatlas.atlas.planning.planned_tables import RECORDS_PER_FILE, ROWS_PER_GROUP, PlannedTables, Rows
from foldatlas.atlas.sql.interruptible import interruptible_call
from foldatlas.atlas.sql.text import escape_glob, first_line
from foldatlas.schemas.errors import DamagedAtlasError, FoldAtlasError
from foldatlas.schemas.formats import IMPORTED_FORMAT, table_schema
from foldatlas.schemas.import_tables import STAGED_ROWS
from foldatlas.schemas.manifest import FileEntry, Shard, shard_digest
from foldatlas.schemas.records import Outcome
from foldatlas.schemas.tables import MAX_SHARDS_PER_FILE, SEQUENCES

MAX_SHARD_RESIDUES: Final = 4_000_000  # some 130 MB of structures
MIN_SHARDS: Final = 8  # if there are as many structures, so that a small import can use workers and resume

_FILES: Final = f"""
    CREATE TABLE files AS SELECT places.source, places.filename, number, path, file_sha256, id, structure_id, length,
        mean_plddt, row
    FROM staged JOIN places USING (filename) WHERE outcome = '{Outcome.ACCEPTED}'
"""
_FIRSTS: Final = """
    CREATE TABLE firsts AS SELECT source, id, arg_min(structure_id, number) AS structure_id FROM files
    GROUP BY source, id HAVING count(*) > 1
"""
# rank 1: the file that is kept of a sequence
_RANKED: Final = """
    CREATE TABLE ranked AS SELECT files.*, known.structure_id IS NOT NULL AS is_known, row_number() OVER (
        PARTITION BY files.structure_id
        ORDER BY mean_plddt DESC NULLS LAST, parse_filename(path), path, source, number) = 1 AS is_best
    FROM files LEFT JOIN known USING (structure_id)
    ANTI JOIN (SELECT files.source, files.number FROM files JOIN firsts USING (source, id)
        WHERE files.structure_id <> firsts.structure_id) AS refused
    ON refused.source = files.source AND refused.number = files.number
"""
_DECIDED: Final = f"""
    CREATE TABLE decided AS SELECT source, number, is_best AND NOT is_known AS is_kept, is_known, CASE
        WHEN place = 1 THEN '{Outcome.ACCEPTED}' WHEN file_sha256 = first_sha256 THEN '{Outcome.REPEATED}'
        ELSE '{Outcome.ALTERNATIVE_MODEL}' END AS outcome
    FROM (SELECT *, row_number() OVER same_id AS place, first_value(file_sha256) OVER same_id AS first_sha256
        FROM ranked WINDOW same_id AS (PARTITION BY source, id ORDER BY is_best DESC, number))
"""


class StagedTable(NamedTuple):
    """A staged chunk: the local path of its table of files, the number of its source among those that are planned, the
    folder or address of the source's chunks, and the names of the chunk's files there."""

    path: Path
    source: int
    staging: str
    files: str
    structures: str
    pae: str = ""


@dataclass(frozen=True)
class Choice:
    """What was decided on accepted files.

    kept: files whose structure is new and kept.
    set_aside: files whose sequence is kept from another file of this import.
    known: files whose sequence the atlas has from earlier.
    unread: files whose PAE or JSON file of confidence could not be read.
    """

    kept: int
    set_aside: int
    known: int
    unread: int = 0


class ImportedTables:
    """The decisions on staged files, in a DuckDB database. Made by `open_imported`."""

    def __init__(self, connection: Any, work: Path):
        self._connection = connection
        self._work = work

    def choice(self) -> Choice:
        """Return how many accepted files are kept or set aside."""
        query = "SELECT count(*) FILTER (is_kept), count(*) FILTER (NOT is_kept AND NOT is_known), "
        query += "count(*) FILTER (is_known), (SELECT count(*) FROM staged WHERE has_confidence_fault) FROM decided"
        return Choice(*self._run(lambda: self._connection.execute(query).fetchone()))

    def contents(self) -> Iterator[tuple[int, str, str]]:
        """Yield source, path and sha256 of every file, sorted."""
        relation = self._connection.sql("SELECT places.source, path, file_sha256, number FROM staged JOIN places "
                                        "USING (filename) ORDER BY places.source, number")  # fmt: skip
        for batch in relation.to_arrow_reader(ROWS_PER_GROUP):
            columns = [batch.column(number).to_pylist() for number in range(3)]
            yield from zip(*columns, strict=True)

    def write(self) -> PlannedTables:
        """Write `records` and `sequences` tables to the work folder, and return them with the shards."""
        records = tuple(record_files(self._work, self._records()))
        sequences, shards = self._write_sequences()
        outcomes = self._run(self._connection.execute("SELECT outcome, count(*) FROM outcomes GROUP BY ALL").fetchall)
        return PlannedTables(records, tuple(sequences), tuple(shards), dict(sorted(outcomes)))

    def place(self, sequences: pa.Table) -> pa.Table:
        """Return a row of STAGED_ROWS for each of `sequences` (of one shard), in order: where its structure is."""
        wanted = sequences.select(["structure_id"]).append_column(
            "place", pa.array(np.arange(sequences.num_rows), pa.int64())
        )
        self._connection.register("wanted", wanted)
        query = (
            "SELECT uris.uri AS source, places.staging, places.files, places.structures, ranked.row, places.pae "
            "FROM wanted LEFT JOIN (FROM ranked WHERE is_best) AS ranked USING (structure_id) "
            "LEFT JOIN places USING (filename) LEFT JOIN uris ON uris.source = places.source ORDER BY place"
        )
        try:
            return self._run(lambda: self._connection.sql(query).to_arrow_table()).cast(STAGED_ROWS)
        finally:
            self._connection.unregister("wanted")

    def _run(self, call: Any) -> Any:
        return interruptible_call(self._connection, call)

    def _records(self) -> Any:
        schema = table_schema("records", IMPORTED_FORMAT)
        columns = {
            "source": "uris.uri",
            "offset": "staged.number",
            "is_fragment": "NULL",
            "outcome": "outcomes.outcome",
            "file_sha256": "nullif(staged.file_sha256, '')",
            "file_mean_plddt": "staged.mean_plddt",
            **{name: f"CASE WHEN outcomes.has_structure THEN staged.{name} END"
               for name in ("structure_id", "sequence_crc64", "mgyp")},
        }  # fmt: skip
        selected = ", ".join(f'{columns.get(name, f"staged.{name}")} AS "{name}"' for name in schema.names)
        return self._connection.sql(
            f"SELECT {selected} FROM staged JOIN places USING (filename) JOIN uris USING (source) "
            "JOIN outcomes ON outcomes.source = places.source AND outcomes.number = staged.number "
            "ORDER BY places.source, staged.number"
        )

    def _write_sequences(self) -> tuple[list[FileEntry], list[Shard]]:
        """Write one row group per shard, in the order of the files, so that a shard reads few chunks."""
        [(count, total)] = self._connection.execute(
            "SELECT count(*), coalesce(sum(length), 0)::BIGINT FROM ranked WHERE is_best AND NOT is_known"
        ).fetchall()
        relation = self._connection.sql(
            "SELECT structure_id, sequence, staged.length FROM staged JOIN places USING (filename) "
            "JOIN decided ON decided.source = places.source AND decided.number = staged.number "
            "WHERE decided.is_kept ORDER BY places.source, staged.number"
        )
        rows = Rows(_tables(relation, SEQUENCES))
        cuts = cut_evenly(total, count, (length for (length,) in self._lengths()))
        files: list[FileEntry] = []
        shards: list[Shard] = []
        for first in range(0, len(cuts), MAX_SHARDS_PER_FILE):
            number = len(files)
            with ParquetFile(
                self._work, f"sequences-{number:04d}.parquet", "sequences", format=IMPORTED_FORMAT
            ) as file:
                for row_group, size in enumerate(cuts[first : first + MAX_SHARDS_PER_FILE]):
                    table = rows.take(size)
                    assert table is not None and table.num_rows == size, "shards cut from other lengths"
                    shards.append(_shard(table, number, row_group))
                    file.write(table)
            assert file.entry is not None
            files.append(file.entry)
        return files, shards

    def _lengths(self) -> Iterator[tuple[int]]:
        relation = self._connection.sql(
            "SELECT length FROM ranked WHERE is_best AND NOT is_known ORDER BY source, number"
        )
        for batch in relation.to_arrow_reader(ROWS_PER_GROUP):
            yield from ((length,) for length in batch.column(0).to_pylist())


def cut_evenly(total: int, count: int, lengths: Iterator[int]) -> list[int]:
    """Return the number of structures of each shard: equal parts of `total` residues of `count` structures, in the
    order of `lengths`."""
    wanted = max(-(-total // MAX_SHARD_RESIDUES), min(MIN_SHARDS, count))
    sizes: list[int] = []
    before, current = 0, -1
    for place, length in enumerate(lengths):
        part = before * wanted // max(total, 1)
        # with few structures, a long one must not take the shards of those after it
        part = max(part, wanted - (count - place))
        if part > current:
            sizes.append(0)
            current = part
        sizes[-1] += 1
        before += length
    return sizes


def _shard(table: pa.Table, file: int, row_group: int) -> Shard:
    lengths = table["length"].to_numpy()
    identities: Any = table["structure_id"].combine_chunks()
    return Shard(
        name="",
        file=file,
        row_group=row_group,
        proteins=table.num_rows,
        residues=int(lengths.sum()),
        min_length=int(lengths.min()),
        max_length=int(lengths.max()),
        cost=int(lengths.sum()),
        digest=shard_digest(identities.storage.to_pylist()),
    )


def record_files(work: Path, relation: Any) -> Iterator[FileEntry]:
    """Write `relation`, with the columns of records and in their order, to files of the folder `work`."""
    schema = table_schema("records", IMPORTED_FORMAT)
    rows = Rows(_tables(relation, schema))
    table = rows.take(ROWS_PER_GROUP)
    number = 0
    while table is not None:
        with ParquetFile(work, f"records-{number:04d}.parquet", "records", schema=schema) as file:
            while table is not None and file.rows < RECORDS_PER_FILE:
                file.write(table)
                table = rows.take(ROWS_PER_GROUP)
        assert file.entry is not None
        yield file.entry
        number += 1


def _tables(relation: Any, schema: pa.Schema) -> Iterator[pa.Table]:
    for batch in relation.to_arrow_reader(ROWS_PER_GROUP):
        yield pa.Table.from_batches([batch]).cast(schema)


@contextmanager
def open_imported(
    work: Path, staged: Sequence[StagedTable], uris: Sequence[str], known: Sequence[Path], *, memory_bytes: int
) -> Iterator[ImportedTables]:
    """Decide on the files of `staged`, whose sources have `uris`, in a database of the folder `work`.

    `known` are scores files of the atlas, whose structures are not planned again.
    """
    config: dict[str, Any] = {"temp_directory": str(work / "spill"), "memory_limit": f"{memory_bytes}B",
                              "arrow_lossless_conversion": True}  # fmt: skip
    with duckdb.connect(str(work / "import.duckdb"), config=config) as connection:
        try:
            interruptible_call(connection, lambda: _decide(connection, staged, uris, known))
            yield ImportedTables(connection, work)
        except duckdb.OutOfMemoryException as error:
            raise FoldAtlasError(
                f"planning needs more memory than {memory_bytes >> 20:,} MiB, or more disk space for temporary files "
                f"({first_line(error)}): import on a larger machine, or fewer files at a time"
            ) from error
        except duckdb.Error as error:
            raise DamagedAtlasError(f"staged files could not be compared ({first_line(error)}): run again") from error


def _decide(connection: Any, staged: Sequence[StagedTable], uris: Sequence[str], known: Sequence[Path]) -> None:
    columns = ("source", "staging", "files", "structures", "pae")
    places = [{"filename": str(one.path), **{name: getattr(one, name) for name in columns}} for one in staged]
    named = [{"source": number, "uri": uri} for number, uri in enumerate(uris)]
    for table, rows in (("places", places), ("uris", named)):
        connection.register("given", pa.Table.from_pylist(rows))
        connection.execute(f"CREATE TEMP TABLE {table} AS FROM given")
        connection.unregister("given")
    for name, paths in (("staged_files", [one.path for one in staged]), ("known_files", known)):
        connection.execute(f"SET VARIABLE {name} = ?", [[escape_glob(path) for path in paths]])
    connection.execute("CREATE TEMP VIEW staged AS FROM read_parquet(getvariable('staged_files'), filename = true)")
    if known:
        connection.execute(
            "CREATE TABLE known AS SELECT DISTINCT structure_id FROM read_parquet(getvariable('known_files'))"
        )
    else:
        connection.execute("CREATE TABLE known (structure_id UUID)")
    for statement in (_FILES, _FIRSTS, _RANKED, _DECIDED):
        connection.execute(statement)
    connection.execute(
        "CREATE TABLE outcomes AS SELECT places.source, staged.number, "
        "decided.outcome IS NOT NULL AS has_structure, "
        f"CASE WHEN staged.outcome <> '{Outcome.ACCEPTED}' THEN staged.outcome "
        f"ELSE coalesce(decided.outcome, '{Outcome.DUPLICATE_ID}') END AS outcome "
        "FROM staged JOIN places USING (filename) "
        "LEFT JOIN decided ON decided.source = places.source AND decided.number = staged.number"
    )
