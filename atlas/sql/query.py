"""Run one SQL statement that only reads, and return its rows in batches.

A read-only connection of DuckDB can still write files with `COPY`, also inside `WITH`, and the statement type of
`WITH q AS (COPY ...) SELECT 1` is SELECT. The user's SQL is therefore run as a subquery, in which DuckDB accepts no
statement that writes.
"""

import contextlib
import importlib
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import duckdb
import pyarrow as pa

from foldatlas.atlas.sql.interruptible import interruptible_call
from foldatlas.atlas.sql.notebook import PREVIEW_ROWS, table_html
from foldatlas.atlas.sql.text import quoted
from foldatlas.schemas.errors import QueryError, UsageError

Value = TypeVar("Value")

ROWS_PER_BATCH: Final = 10_000

_WRAPPED: Final = "FROM (\n{}\n) AS result"
_EXPLAIN: Final = re.compile(r"explain\s+(analyze\s+)?(?=\w)", re.IGNORECASE)
_LINE: Final = re.compile(r"^LINE (\d+):( ?)", re.MULTILINE)
# DuckDB types without an Arrow equivalent, with the type to read them as; then types that text formats need as text.
_OPAQUE: Final = {"hugeint": "DECIMAL(38,0)", "uhugeint": "DECIMAL(38,0)"} | dict.fromkeys(
    ("null", "bit", "bignum", "time with time zone", "interval", "json", "enum", "union"), "VARCHAR"
)
_AS_TEXT: Final = _OPAQUE | dict.fromkeys(
    ("uuid", "blob", "date", "time", "time_ns", "timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns",
     "timestamp with time zone"), "VARCHAR"
)  # fmt: skip
_FOR_FRAMES: Final = _OPAQUE | {"uuid": "VARCHAR"}


class Result:
    """The rows of a query, which can be read once. `columns` are their names, `types` the names of DuckDB's types.

    In a notebook it is shown as a table of the first rows, for which the query runs separately.
    """

    def __init__(self, cursor: Any, relation: Any, sql: str | None, seconds: float | None = None):
        self._cursor = cursor
        self._relation = relation
        self._sql = sql
        self._seconds = seconds  # the time limit, and what is left of it
        self._left = seconds
        self.columns: list[str] = list(relation.columns)
        self.is_plan = sql is None  # the result of EXPLAIN: a name and a text of several lines
        self.types: list[str] = [str(sql_type) for sql_type in relation.types]

    def batches(self, *, as_text: bool = False, rows: int = ROWS_PER_BATCH) -> pa.RecordBatchReader:
        """Return a reader of record batches of at most `rows` rows.

        UUIDs are Arrow UUIDs; 128-bit integers are decimals. With `as_text`, UUIDs, dates, times and blobs are texts.
        Raise QueryError for an error that occurs only when the query runs, such as a failed cast, and for a query that
        takes longer than its time limit; the time between batches does not count.
        """
        return self._batches(_AS_TEXT if as_text else _OPAQUE, rows)

    def _batches(self, replaced: dict[str, str], rows: int) -> pa.RecordBatchReader:
        relation = self._relation
        readable = [_readable(sql_type, replaced) for sql_type in relation.types]
        casts = [
            f"c{number}" if name == own else f"CAST(c{number} AS {name})"
            for number, (name, own) in enumerate(zip(readable, self.types, strict=True))
        ]
        with query_errors():
            if self._sql is not None and any(cast != f"c{number}" for number, cast in enumerate(casts)):
                aliases = ", ".join(f"c{number}" for number in range(len(casts)))
                relation = self._cursor.sql(f"SELECT {', '.join(casts)} {_WRAPPED.format(self._sql)}({aliases})")
            reader = self._timed(lambda: relation.to_arrow_reader(rows))
        given = reader.schema.types
        schema = pa.schema([(name, _plain(arrow_type)) for name, arrow_type in zip(self.columns, given, strict=True)])

        def renamed() -> Iterator[pa.RecordBatch]:
            while True:
                with query_errors():
                    try:
                        batch = self._timed(reader.read_next_batch)
                    except StopIteration:
                        return
                    except (pa.ArrowException, OSError) as error:
                        raise QueryError(_clean(str(error))) from error
                columns = [
                    column.cast(arrow_type) for column, arrow_type in zip(batch.columns, schema.types, strict=True)
                ]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)

        return pa.RecordBatchReader.from_batches(schema, renamed())

    def arrow(self) -> pa.Table:
        """Return all rows as one table in memory."""
        return self.batches().read_all()

    def df(self) -> Any:
        """Return all rows as a DataFrame of pandas; UUIDs are texts. Raise UsageError if pandas is not installed."""
        _require("pandas", "df")
        return self._batches(_FOR_FRAMES, ROWS_PER_BATCH).read_all().to_pandas()

    def pl(self) -> Any:
        """Return all rows as a DataFrame of polars; UUIDs are texts. Raise UsageError if polars is not installed."""
        polars = _require("polars", "pl")
        return polars.from_arrow(self._batches(_FOR_FRAMES, ROWS_PER_BATCH).read_all())

    def rows(self) -> list[tuple[Any, ...]]:
        """Return all rows as tuples of Python values; UUIDs are `uuid.UUID`."""
        table = self.arrow()
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True)) if self.columns else []

    def _repr_html_(self) -> str:
        """Return the first rows as an HTML table, with every text escaped."""
        if self._sql is None:
            return table_html(self.columns, self.rows(), is_complete=True)
        with query_errors():
            relation = self._relation.limit(PREVIEW_ROWS + 1)
        preview = Result(self._cursor, relation, f"SELECT * {_WRAPPED.format(self._sql)} LIMIT {PREVIEW_ROWS + 1}")
        rows = [
            row for batch in preview.batches(as_text=True) for row in zip(*(c.to_pylist() for c in batch), strict=True)
        ]
        return table_html(self.columns, rows[:PREVIEW_ROWS], is_complete=len(rows) <= PREVIEW_ROWS)

    def _timed(self, call: Callable[[], Value]) -> Value:
        """Return `call()`. Raise QueryError if it takes longer than what is left of the time limit."""
        begin = time.monotonic()
        try:
            return interruptible_call(self._cursor, call, seconds=self._left)
        except TimeoutError:
            raise QueryError(
                f"the query was stopped at the time limit of {self._seconds:g} s: add a condition, or raise the limit"
            ) from None
        finally:
            if self._left is not None:
                self._left = max(0.0, self._left - (time.monotonic() - begin))


def _require(package: str, method: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise UsageError(f".{method}() needs {package}: pip install {package}") from None


def read_only(cursor: Any, sql: str, seconds: float | None = None) -> Result:
    """Bind `sql`, one statement, on `cursor`, which the result keeps. `seconds` limits the time that it may run.

    Raise QueryError for SQL that DuckDB does not accept and for statements that do not only read.
    """
    with query_errors(wrapped=False):
        statements = cursor.extract_statements(sql)
    if not statements:
        raise QueryError("the SQL is empty: try 'SELECT count(*) FROM proteins'")
    if len(statements) > 1:
        raise QueryError(f"the SQL has {len(statements)} statements: give one at a time")
    text = _without_semicolon(sql)
    statement_type = statements[0].type
    if statement_type == duckdb.StatementType.EXPLAIN:
        inner = text[len(text) - len(text.lstrip()) :]
        prefix = _EXPLAIN.match(inner)
        if prefix is None:
            raise QueryError("EXPLAIN is supported as EXPLAIN [ANALYZE] SELECT ..., without options or comments")
        _bind(cursor, inner[prefix.end() :])  # EXPLAIN ANALYZE runs the statement: refuse it if it writes
        with query_errors(wrapped=False):
            return Result(cursor, cursor.sql(text), None, seconds)
    if statement_type not in (duckdb.StatementType.SELECT, duckdb.StatementType.MULTI):  # MULTI: a PIVOT
        raise QueryError(
            f"{statement_type.name} is not a query: use SELECT (or DESCRIBE, SHOW, SUMMARIZE, EXPLAIN); to write "
            "files, use `foldatlas query --format` or `foldatlas export`"
        )
    return Result(cursor, _bind(cursor, text), text, seconds)


@contextlib.contextmanager
def query_errors(*, wrapped: bool = True) -> Iterator[None]:
    """Turn DuckDB's errors into QueryError, with DuckDB's message and hint.

    `wrapped`: the SQL was wrapped by `_WRAPPED`, so line numbers in the message are corrected by one.
    """
    try:
        yield
    except duckdb.Error as error:
        raise QueryError(_clean(str(error)) if wrapped else str(error).strip()) from error


def _bind(cursor: Any, text: str) -> Any:
    """Return the relation of a statement as a subquery, without running it."""
    with query_errors():
        return cursor.sql(f"SELECT * {_WRAPPED.format(text)}")


def _clean(message: str) -> str:
    """Return DuckDB's message with line numbers that do not count the line of `_WRAPPED`."""
    return _LINE.sub(lambda found: f"LINE {max(1, int(found[1]) - 1)}:{found[2]}", message.strip())


def _without_semicolon(sql: str) -> str:
    """Return a statement without the semicolons and comments after it."""
    text = sql.encode()  # tokens have byte offsets
    end = len(text)
    for offset, token_type in reversed(duckdb.tokenize(sql)):
        if text[offset : offset + 1] != b";" and token_type != duckdb.token_type.comment:
            break
        end = offset
    return text[:end].decode()


def _readable(sql_type: Any, replaced: dict[str, str]) -> str:
    """Return the SQL name of a DuckDB type with the types in it `replaced`."""
    name = "json" if str(sql_type) == "JSON" else sql_type.id
    if name == "list":
        return f"{_readable(sql_type.children[0][1], replaced)}[]"
    if name == "array":
        return f"{_readable(sql_type.children[0][1], replaced)}[{sql_type.children[1][1]}]"
    if name == "struct":
        return f"STRUCT({', '.join(f'{quoted(key)} {_readable(part, replaced)}' for key, part in sql_type.children)})"
    if name == "map":
        return f"MAP({', '.join(_readable(part, replaced) for _, part in sql_type.children)})"
    return replaced.get(name, str(sql_type))


def _plain(arrow_type: pa.DataType) -> pa.DataType:
    """Return an Arrow type with ordinary booleans in place of DuckDB's lossless ones, which are bytes."""
    if isinstance(arrow_type, pa.Bool8Type):
        return pa.bool_()
    if pa.types.is_list(arrow_type):
        return pa.list_(arrow_type.value_field.with_type(_plain(arrow_type.value_type)))
    if pa.types.is_struct(arrow_type):
        return pa.struct([part.with_type(_plain(part.type)) for part in arrow_type.fields])
    return arrow_type
