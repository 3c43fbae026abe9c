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
from foldatlas.atlas.index.published import index_of
from foldatlas.atlas.parquet.coordinates import StoredStructure
from foldatlas.atlas.parquet.store_dataset import store_dataset
from foldatlas.atlas.parquet.structures import StructureLocation, read_structures
from foldatlas.atlas.sql.query import Result, read_only
from foldatlas.atlas.sql.records_by_name import find_records
from foldatlas.atlas.sql.text import escape_glob, first_line, literal
from foldatlas.schemas.errors import DamagedAtlasError, QueryError, UsageError
from foldatlas.schemas.manifest import AtlasHeader
from foldatlas.schemas.tables import OPTIONAL_TABLES, TABLES

PARQUET_VIEWS: Final = ("sequences", "structures", *OPTIONAL_TABLES)

_NAMED: Final = re.compile(rf"\b(?:{'|'.join(PARQUET_VIEWS)}|show)\b", re.IGNORECASE)


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
    def open(cls, path: str | Path) -> Self:
        """Open the atlas at `path`, a folder or `s3://...`; of an index on a store a local copy is kept.

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
            connection = index_of(folder).open(config)
        except duckdb.Error as error:
            raise DamagedAtlasError(
                f"{folder.where(INDEX)} cannot be opened ({first_line(error)}): run `foldatlas index {path}`"
            ) from error
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

    def query(self, sql: str) -> Result:
        """Run one SQL statement that only reads, and return its rows, read as they are consumed.

        Tables: `proteins`, `high_confidence`, `novel`, `records`, `refused`, `failures`, `runs`, `files`, `scores`,
        `settings`, `titles`; and, read from Parquet, `sequences`, `structures` (as stored: integers of 0.01 angstrom
        and 0.01 of pLDDT), `embeddings`, `residue_embeddings` and `pae` (integers of 0.125 angstrom). Raise QueryError.

        >>> with Atlas.open("atlas") as atlas:
        ...     result = atlas.query("SELECT state, outcome, count(*) AS n FROM records GROUP BY ALL ORDER BY n DESC")
        ...     result.columns, result.types
        ...     result.rows()
        (['state', 'outcome', 'n'], ['VARCHAR', 'VARCHAR', 'BIGINT'])
        [('folded', 'accepted', 3), ('refused', 'digit', 1)]

        Batches of rows are Arrow record batches:

        >>> with Atlas.open("atlas") as atlas:
        ...     for batch in atlas.query("SELECT structure_id, ptm FROM scores").batches():
        ...         print(batch.num_rows, batch.schema.field("ptm").type)
        2 float
        """
        try:
            return read_only(self.cursor(sql), sql)
        except QueryError as error:
            absent = [table for table in OPTIONAL_TABLES if f" {table} does not exist" in str(error)]
            if not absent:
                raise
            option = OPTIONAL_TABLES[absent[0]]
            raise QueryError(f"{self.folder.uri} has no {absent[0]}: fold with {option}") from error

    def cursor(self, sql: str) -> Any:
        """Return a new connection with those views of Parquet files that `sql` names.

        Views of many files take time to create. A structure that is in several files is one row of a view: the one
        that counts in the index.
        """
        cursor = self._connection.cursor()
        words = {word.lower() for word in _NAMED.findall(sql)}
        for view in PARQUET_VIEWS if "show" in words else sorted(words):
            self._create_view(cursor, view, required="show" not in words)
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
        except duckdb.IOException as error:
            place = self.folder.uri
            raise DamagedAtlasError(
                f"the {view} of {place} cannot be read ({first_line(error)}): run `foldatlas verify {place}`"
            ) from error
