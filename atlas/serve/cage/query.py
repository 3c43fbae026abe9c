"""What a confined process does: open the index, check the statement, run it, and write its rows in pieces."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

import duckdb
import msgspec
import pyarrow as pa

from foldatlas.atlas.macros.functions import add_functions
from foldatlas.atlas.macros.parquet_views import PARQUET_VIEWS, ROWS, VARIABLE, has_parquet_views
from foldatlas.atlas.serve.cage.frames import FAILED, FrameFile, packed
from foldatlas.atlas.serve.cage.statement import check, columns_of
from foldatlas.atlas.sql import result_formats
from foldatlas.atlas.sql.parameters import with_parameters
from foldatlas.atlas.sql.query import Result, read_only
from foldatlas.atlas.sql.text import first_line
from foldatlas.schemas.errors import QueryError
from foldatlas.schemas.sql_functions import PROGRAM_FUNCTIONS

NAMED: Final = re.compile(rf"\b(?:{'|'.join(each.name for each in PROGRAM_FUNCTIONS)})\b", re.IGNORECASE)
HIDDEN: Final = {"copies", "documents", "files", "folded_records"}  # tables for the program itself


class Relation(msgspec.Struct, frozen=True):
    """A statement that ends where a condition belongs, for conditions on `columns` alone."""

    columns: list[str]
    sql: str


class Condition(msgspec.Struct, frozen=True):
    """A condition that a person typed, and statements that are faster if it is on their columns alone."""

    text: str
    relations: list[Relation]


class SqlRequest(msgspec.Struct, frozen=True):
    """A statement, values of its parameters, the format of its result, and limits of rows and seconds.

    With a `condition`, `sql` ends where that belongs.
    """

    sql: str
    params: dict[str, Any] | list[Any] | None
    format: str
    rows: int
    seconds: float
    condition: Condition | None = None


@dataclass(frozen=True)
class Place:
    """Where the atlas is, for a process whose working folder it is, and what DuckDB may use."""

    index: Path
    is_local: bool
    model: str
    temporary: Path
    memory_bytes: int
    temporary_bytes: int
    threads: int


class _Limited:
    """The rows of a result, up to a number; more are an error, because a result that is cut looks like a whole one."""

    def __init__(self, result: Result, rows: int):
        self._result = result
        self._rows = rows
        self.columns = result.columns
        self.types = result.types
        self.is_plan = False

    def batches(self, *, as_text: bool = False, rows: int | None = None) -> pa.RecordBatchReader:
        reader = self._result.batches(as_text=as_text)

        def counted() -> Iterator[pa.RecordBatch]:
            left = self._rows
            for batch in reader:
                left -= batch.num_rows
                if left < 0:
                    raise QueryError(f"the result has more than {self._rows:,} rows: add LIMIT, or raise `rows`")
                yield batch

        return pa.RecordBatchReader.from_batches(reader.schema, counted())


def answer(request: SqlRequest, place: Place, write: Callable[[bytes], None], *, checked: bool = True) -> None:
    """Run a statement and write its result, or an error, as frames. `checked=False` is for tests of the confinement."""
    try:
        result = _Limited(_run(request, place, checked), request.rows)
        file = FrameFile(write, msgspec.json.encode({"columns": result.columns, "types": result.types}))
        _WRITERS[request.format](cast(Result, result), cast(IO[bytes], file))
        file.end()
    except QueryError as error:
        write(packed(FAILED, msgspec.json.encode({"detail": _without_paths(str(error), place)})))
    except MemoryError:
        write(packed(FAILED, msgspec.json.encode({"detail": "the statement needs more memory than it may use"})))
    except duckdb.Error as error:
        write(packed(FAILED, msgspec.json.encode({"detail": _without_paths(str(error), place)})))


def _run(request: SqlRequest, place: Place, checked: bool) -> Result:
    connection = connect(place)
    text = with_parameters(request.sql, request.params)
    if request.condition is not None:
        expression = _expression(request.condition.text)
        used = columns_of(connection, expression)
        fitting = [each.sql for each in request.condition.relations if used is not None and used <= set(each.columns)]
        text = f"{next(iter(fitting), text)} {expression}"
    if checked:
        check(connection.cursor(), text, visible_tables(connection, place.is_local))
    cursor = connection.cursor()
    if place.is_local and has_parquet_views(connection):
        cursor.execute(f"SET VARIABLE {VARIABLE} = files_at('.')")
    if NAMED.search(text):
        add_functions(cursor, place.model)
    cursor.execute("SET lock_configuration = true")
    return read_only(cursor, text, request.seconds)


def _expression(condition: str) -> str:
    """Return a condition in parentheses. Raise QueryError unless it is one expression."""
    try:
        duckdb.SQLExpression(condition)  # raises for "true) OR (true", "true; SELECT 1" and "true ORDER BY 1"
    except duckdb.Error as error:
        reason = first_line(error).partition(": ")[2] or first_line(error)
        raise QueryError(f"the condition is not one expression: {reason}") from None
    return f"(\n{condition}\n)"  # a comment ends with its line


def connect(place: Place) -> Any:
    """Open the index, with DuckDB's own locks inside those of the system."""
    config: dict[str, Any] = {
        "threads": place.threads,
        "memory_limit": f"{place.memory_bytes >> 20}MiB",
        "temp_directory": str(place.temporary),
        "max_temp_directory_size": f"{place.temporary_bytes >> 20}MiB",
        "python_enable_replacements": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
        "arrow_lossless_conversion": True,
    }
    connection = duckdb.connect(str(place.index), read_only=True, config=config)
    connection.execute("SET allowed_directories = ['.']")
    connection.execute("SET enable_external_access = false")
    return connection


def visible_tables(connection: Any, is_local: bool) -> set[str]:
    """Return the names of tables and views that a statement may use, in lower case."""
    rows = connection.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE NOT internal "
        "UNION ALL SELECT schema_name, view_name FROM duckdb_views() WHERE NOT internal"
    ).fetchall()
    names = {name.lower() if schema == "main" else f"{schema}.{name}".lower() for schema, name in rows} - HIDDEN
    return names if is_local else names - {*PARQUET_VIEWS, ROWS}


def write_arrow(result: Result, file: IO[bytes]) -> result_formats.Written:
    """Write an Arrow IPC stream."""
    reader = result.batches()
    rows = 0
    with pa.ipc.new_stream(pa.PythonFile(file, mode="w"), reader.schema) as stream:
        for batch in reader:
            stream.write_batch(batch)
            rows += batch.num_rows
    return result_formats.Written(rows)


_WRITERS: Final[dict[str, Callable[[Result, IO[bytes]], result_formats.Written]]] = {
    "arrow": write_arrow,
    "csv": result_formats.write_csv,
    "json": result_formats.write_json,
    "jsonl": result_formats.write_jsonl,
}


def _without_paths(message: str, place: Place) -> str:
    for path in (place.temporary, place.index, place.index.parent):
        message = message.replace(str(path), "...")
    return message
