"""An atlas opened for reading: SQL on its index and Parquet files, and structures by name or location."""

import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import duckdb

from foldatlas.atlas.folder import INDEX, AtlasFolder
from foldatlas.atlas.index.contents import contents_of, indexed_contents
from foldatlas.atlas.index.published import LocalIndex, index_of
from foldatlas.atlas.macros.functions import add_functions
from foldatlas.atlas.macros.parquet_views import PARQUET_VIEWS, ROWS, VARIABLE, has_parquet_views
from foldatlas.atlas.macros.schema import described_columns, sql_schema
from foldatlas.atlas.parquet.coordinates import StoredStructure
from foldatlas.atlas.parquet.structures import StructureLocation, read_structures
from foldatlas.atlas.sql.parameters import Parameters, with_parameters
from foldatlas.atlas.sql.query import Result, read_only
from foldatlas.atlas.sql.records_by_name import find_records
from foldatlas.atlas.sql.suggestions import suggestion
from foldatlas.atlas.sql.text import escape_glob, first_line, literal
from foldatlas.schemas.errors import DamagedAtlasError, QueryError, UsageError
from foldatlas.schemas.formats import IMPORTED_FORMAT
from foldatlas.schemas.manifest import AtlasHeader
from foldatlas.schemas.sql_functions import PROGRAM_FUNCTIONS, TABLE_MACROS
from foldatlas.schemas.tables import OPTIONAL_TABLES, TABLES

_READING: Final = tuple(macro.name for macro in TABLE_MACROS)  # macros that read structures
_FUNCTIONS: Final = tuple(function.name for function in PROGRAM_FUNCTIONS)
_NAMED: Final = re.compile(
    rf"\b(?:{'|'.join((*PARQUET_VIEWS, ROWS, *_READING, *_FUNCTIONS, 'show'))})\b", re.IGNORECASE
)


@dataclass
class Atlas:
    """An atlas opened for reading, by any number of processes. A new index is read by those that open it later.

    >>> atlas = Atlas.open("atlas")
    >>> atlas.query("SELECT id, length FROM proteins ORDER BY id").rows()
    [('trp_cage', 20), ('trp_cage_again', 20), ('villin', 35)]
    >>> atlas.structure("villin").positions.shape  # heavy atoms, x, y, z
    (286, 3)
    >>> atlas.close()
    """

    folder: AtlasFolder
    header: AtlasHeader
    _connection: Any = field(repr=False)

    @classmethod
    def open(cls, path: str | Path, *, memory_limit: str | None = None, index: Path | None = None) -> Self:
        """Open the atlas at `path`, a folder or `s3://...`; of an index on a store a local copy is kept.

        `index` is a file to open in place of the published index: a copy or a hard link of it. A process that has an
        index open gets the same one again by its name, even after the file was replaced.

        `memory_limit` is that of DuckDB, such as "4GB", for all connections of this process to the atlas; queries that
        need more use temporary files. By default it is 80 % of the machine's memory.

        Raise NotAnAtlasError if there is no atlas or no index yet, DamagedAtlasError for an unreadable index.
        """
        folder = AtlasFolder.existing(path)
        header = folder.header()
        # DuckDB allows one configuration per database and process, so it must be the same each time.
        config: dict[str, str | bool | int | float | list[str]] = {
            "arrow_lossless_conversion": True,
            "autoinstall_known_extensions": False,
            "temp_directory": str(Path(tempfile.gettempdir()) / f"foldatlas-{os.getpid()}"),
        }
        try:
            connection = (index_of(folder) if index is None else LocalIndex(index)).open(config)
        except duckdb.Error as error:
            raise DamagedAtlasError(
                f"{folder.where(INDEX)} cannot be opened ({first_line(error)}): run `foldatlas index {path}`"
            ) from error
        if memory_limit is not None:
            try:
                connection.execute("SET memory_limit = ?", [memory_limit])
            except duckdb.Error as error:
                connection.close()
                raise UsageError(f"{memory_limit!r} is not a memory limit such as 4GB: {first_line(error)}") from None
        return cls(folder.resolved(), header, connection)  # independent of later changes of the working directory

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the index. Results that were not read completely can no longer be read."""
        self._connection.close()

    @property
    def is_stale(self) -> bool:
        """Whether plans, shards or runs of derived stages were committed after the index was built."""
        return not indexed_contents(self._connection).matches(contents_of(self.folder))

    def sql(self, sql: str, params: Parameters | None = None, *, seconds: float | None = None) -> Result:
        """Run one SQL statement that only reads, and return its rows, read as they are consumed.

        `schema()` lists views, columns, macros and functions. `params` are values of `$name` in the statement, or a
        list, of `$1` or `?`; `seconds` limits the time that the statement may run. Raise QueryError.

        >>> with Atlas.open("atlas") as atlas:
        ...     result = atlas.sql("SELECT state, outcome, count(*) AS n FROM records GROUP BY ALL ORDER BY n DESC")
        ...     result.columns, result.types
        ...     result.rows()
        ...     atlas.sql("SELECT id FROM proteins WHERE length < $longest ORDER BY id", {"longest": 30}).rows()
        (['state', 'outcome', 'n'], ['VARCHAR', 'VARCHAR', 'BIGINT'])
        [('folded', 'accepted', 3), ('refused', 'digit', 1)]
        [('trp_cage',), ('trp_cage_again',)]

        `arrow()`, `df()` and `pl()` of the result give tables of pyarrow, pandas and polars. Batches of rows are Arrow
        record batches:

        >>> with Atlas.open("atlas") as atlas:
        ...     for batch in atlas.sql("SELECT structure_id, ptm FROM scores").batches():
        ...         print(batch.num_rows, batch.schema.field("ptm").type)
        2 float

        Structures are in SQL too (docs/sql.md):

        >>> with Atlas.open("atlas") as atlas:
        ...     atlas.sql("SELECT len(c_alphas(s)), round(tm_score(s, s), 3) FROM structure('villin') AS s").rows()
        [(35, 1.0)]
        """
        text = with_parameters(sql, params)
        try:
            return read_only(self.cursor(text), text, seconds)
        except QueryError as error:
            absent = [table for table in OPTIONAL_TABLES if f" {table} does not exist" in str(error)]
            if absent:
                is_imported = self.header.format >= IMPORTED_FORMAT
                advice = "none was imported" if is_imported else f"fold with {OPTIONAL_TABLES[absent[0]]}"
                raise QueryError(f"{self.folder.uri} has no {absent[0]}: {advice}") from error
            if hint := suggestion(str(error), text, self._columns()):
                raise QueryError(f"{hint}\n{error}") from error
            raise

    def _columns(self) -> dict[str, list[str]]:
        columns: dict[str, list[str]] = {}
        for table, column, *_ in described_columns(self._connection):
            columns.setdefault(table, []).append(column)
        return columns

    def condition(self, where: str) -> str:
        """Return SQL of `where`, a condition on the columns of `proteins`, in parentheses.

        Raise QueryError, of one line, if it is not one expression, or has an unknown name.

        >>> with Atlas.open("atlas") as atlas:
        ...     atlas.condition("plddt > 70")
        Traceback (most recent call last):
        ...
        foldatlas.schemas.errors.QueryError: the condition 'plddt > 70' is wrong: the column plddt is called ...
        """
        if not where.strip():
            raise QueryError("the condition is empty: give one like 'mean_plddt > 70', or omit it")
        sql = f"(\n{where}\n)"
        try:
            duckdb.SQLExpression(where)  # raises unless it is one expression; "true) ... (" would change the statement
            read_only(self.cursor(where), f"SELECT 1 FROM proteins WHERE {sql}")
        except (duckdb.Error, QueryError) as error:
            hint = suggestion(str(error), f"proteins {where}", self._columns())
            reason = first_line(error).partition(": ")[2] or first_line(error)
            raise QueryError(f"the condition {where!r} is wrong: {hint or reason}") from error
        return sql

    def query(self, sql: str, params: Parameters | None = None) -> Result:
        """Return `sql(sql, params)`."""
        return self.sql(sql, params)

    def schema(self) -> Result:
        """Return what SQL sees: a row for each table, view, column, macro and function, with unit, range and meaning.

        `kind` is table, view, column, macro, table macro or function; of a macro, `type` is what it returns.
        """
        cursor = self._connection.cursor()
        cursor.register("described", sql_schema(cursor))
        return read_only(cursor, "FROM described")

    def cursor(self, sql: str) -> Any:
        """Return a new connection with those views of Parquet files and functions that `sql` names.

        Views of many files take time to create. A structure that is in several files is one row of a view: the one
        that counts in the index.
        """
        cursor = self._connection.cursor()
        words = {word.lower() for word in _NAMED.findall(sql)}
        if words & set(_FUNCTIONS):
            add_functions(cursor, self.header.settings.model)
        reading = words - set(_FUNCTIONS)
        if not has_parquet_views(self._connection):
            views = set(PARQUET_VIEWS) if "show" in reading else reading & set(PARQUET_VIEWS)
        elif self.folder.is_local and reading:
            cursor.execute(f"SET VARIABLE {VARIABLE} = files_at(?)", [str(self.folder.root)])
            return cursor
        else:
            views = reading & set(PARQUET_VIEWS) | ({"structures"} if reading & {ROWS, *_READING} else set())
        for view in sorted(views):
            self._create_view(cursor, view, required=view in words)
        return cursor

    def structure(self, name: str) -> StoredStructure:
        """Return the structure of the record `name`: an id, source:id or structure_id.

        Raise UsageError if no record with a structure, or records of different sequences, have this name.
        """
        cursor = self._connection.cursor()
        find_records(cursor, [name])
        locations = cursor.execute(
            "SELECT DISTINCT structure_id, structure_file::VARCHAR, structure_row "
            "FROM found JOIN scores USING (structure_id) ORDER BY structure_id"
        ).fetchall()
        if not locations:
            states = cursor.execute("SELECT DISTINCT source, outcome, state FROM found ORDER BY ALL").fetchall()
            why = "; ".join(f"in {source} it is {state} ({outcome})" for source, outcome, state in states)
            raise UsageError(f"{self.folder.uri} has no structure of {name!r}: {why or 'no record has this id'}")
        if len(locations) > 1:
            sources = cursor.execute("SELECT DISTINCT source FROM found ORDER BY source LIMIT 3").fetchall()
            raise UsageError(
                f"{name!r} means {len(locations)} structures (in {', '.join(source for (source,) in sources)}): "
                "give one as source:id or by its structure_id"
            )
        identity, file, row = locations[0]
        return next(self.structures([StructureLocation(identity.bytes, file, row)]))

    def structures(self, locations: Iterable[StructureLocation]) -> Iterator[StoredStructure]:
        """Yield the structures at `locations`, in order. If sorted by file and row, each row group is read once.

        A location consists of the columns structure_id, structure_file and structure_row of `proteins`.
        """
        return read_structures(self.folder.storage, locations)

    def _create_view(self, cursor: Any, view: str, *, required: bool) -> None:
        """Create a temporary view of a table's files: on a store, or for an index of an earlier program."""
        listed = cursor.execute("SELECT path, bytes FROM files WHERE table_name = ? ORDER BY path", [view]).fetchall()
        if not listed:
            if required and view not in OPTIONAL_TABLES:
                cursor.register(f"no_{view}", TABLES[view].empty_table())
                cursor.execute(f"CREATE TEMP VIEW {view} AS FROM no_{view}")
            return
        if self.folder.is_local:
            begin = f"{self.folder.root}/"
            files = ", ".join(literal(escape_glob(begin + path)) for path, _ in listed)
            source = f"read_parquet([{files}], filename = true)"
        else:
            # pyarrow.dataset imports pandas, which takes longer than most queries
            from foldatlas.atlas.parquet.store_dataset import store_dataset

            begin, source = "", f"files_of_{view}"
            cursor.register(source, store_dataset(self.folder.storage, dict(listed), TABLES[view]))
        [(num_copies,)] = cursor.execute(
            "SELECT count(*) FROM copies WHERE path IN (SELECT path FROM files WHERE table_name = ?)", [view]
        ).fetchall()
        counted = f"SELECT * EXCLUDE (filename) FROM {source} AS files" + (
            " WHERE NOT EXISTS (FROM copies WHERE copies.structure_id = files.structure_id "
            f"AND {literal(begin)} || copies.path = files.filename)"
            if num_copies
            else ""
        )
        try:
            cursor.execute(f"CREATE TEMP VIEW {view} AS {counted}")
            if view == "structures" and has_parquet_views(self._connection):
                cursor.execute(f"CREATE TEMP VIEW {ROWS} AS FROM {source}")
                cursor.execute(f"SET VARIABLE {VARIABLE} = ?", [{"folder": begin}])
        except duckdb.IOException as error:
            place = self.folder.uri
            raise DamagedAtlasError(
                f"the {view} of {place} cannot be read ({first_line(error)}): run `foldatlas verify {place}`"
            ) from error
