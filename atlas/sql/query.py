"""Runs one SQL statement that reads, and gives its rows in batches.

DuckDB's read-only mode does not keep a statement from writing files (`COPY`, also inside `WITH`), and its statement
types call `WITH q AS (COPY ...) SELECT 1` a SELECT. So the person's SQL is run as a subquery, in which DuckDB allows
nothing that writes.
"""

import contextlib
import re
from collections.abc import Iterator
from typing import Any, Final

import duckdb
import pyarrow as pa

from foldatlas.atlas.sql.interruptible import stoppable
from foldatlas.atlas.sql.text import quoted
from foldatlas.schemas.errors import QueryError

ROWS_A_BATCH: Final = 10_000

_WRAPPED: Final = "FROM (\n{}\n) AS result"
_EXPLAIN: Final = re.compile(r"explain\s+(analyze\s+)?(?=\w)", re.IGNORECASE)
_LINE: Final = re.compile(r"^LINE (\d+):( ?)", re.MULTILINE)
# DuckDB types that Arrow does not have, and what they are read as; and those that text formats write as text.
_OPAQUE: Final = {"hugeint": "DECIMAL(38,0)", "uhugeint": "DECIMAL(38,0)"} | dict.fromkeys(
    ("null", "bit", "bignum", "time with time zone", "interval", "json", "enum", "union"), "VARCHAR"
)
_AS_TEXT: Final = _OPAQUE | dict.fromkeys(
    ("uuid", "blob", "date", "time", "time_ns", "timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns",
     "timestamp with time zone"), "VARCHAR"
)  # fmt: skip


class Result:
    """The rows of a query: `columns` are their names, `types` DuckDB's types. Reading streams; read it once."""

    def __init__(self, cursor: Any, relation: Any, sql: str | None):
        self._cursor = cursor
        self._relation = relation
        self._sql = sql
        self.columns: list[str] = list(relation.columns)
        self.is_plan = sql is None  # the answer to EXPLAIN: a name and a text of several lines
        self.types: list[str] = [str(kind) for kind in relation.types]

    def batches(self, *, as_text: bool = False, rows: int = ROWS_A_BATCH) -> pa.RecordBatchReader:
        """A reader of record batches of at most `rows` rows.

        UUIDs are Arrow UUIDs; 128-bit integers are decimals. With `as_text`, ids, dates and times and bytes are
        written out as text. Raises QueryError for an error that only shows when the query runs, e.g. a failed cast.
        """
        relation, replaced = self._relation, _AS_TEXT if as_text else _OPAQUE
        kinds = [_readable(kind, replaced) for kind in relation.types]
        casts = [
            f"c{place}" if kind == made else f"CAST(c{place} AS {kind})"
            for place, (kind, made) in enumerate(zip(kinds, self.types, strict=True))
        ]
        with query_errors():
            if self._sql is not None and any(cast != f"c{place}" for place, cast in enumerate(casts)):
                aliases = ", ".join(f"c{place}" for place in range(len(casts)))
                relation = self._cursor.sql(f"SELECT {', '.join(casts)} {_WRAPPED.format(self._sql)}({aliases})")
            reader = stoppable(self._cursor, lambda: relation.to_arrow_reader(rows))
        given = reader.schema.types
        schema = pa.schema([(name, _plain(kind)) for name, kind in zip(self.columns, given, strict=True)])

        def renamed() -> Iterator[pa.RecordBatch]:
            while True:
                with query_errors():
                    try:
                        batch = stoppable(self._cursor, reader.read_next_batch)
                    except StopIteration:
                        return
                    except (pa.ArrowException, OSError) as error:
                        raise QueryError(_clean(str(error))) from error
                columns = [column.cast(kind) for column, kind in zip(batch.columns, schema.types, strict=True)]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)

        return pa.RecordBatchReader.from_batches(schema, renamed())

    def arrow(self) -> pa.Table:
        """All rows as one table, in memory."""
        return self.batches().read_all()

    def rows(self) -> list[tuple[Any, ...]]:
        """All rows as tuples of Python values, in memory; UUIDs are `uuid.UUID`."""
        table = self.arrow()
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True)) if self.columns else []


def read_only(cursor: Any, sql: str) -> Result:
    """Binds `sql`, one statement that reads, on a cursor that the result keeps.

    Raises QueryError for SQL that DuckDB does not accept and for whatever does more than read.
    """
    with query_errors(wrapped=False):
        statements = cursor.extract_statements(sql)
    if not statements:
        raise QueryError("the SQL is empty: try 'SELECT count(*) FROM proteins'")
    if len(statements) > 1:
        raise QueryError(f"the SQL holds {len(statements)} statements: give one at a time")
    text = _without_semicolon(sql)
    kind = statements[0].type
    if kind == duckdb.StatementType.EXPLAIN:
        inner = text[len(text) - len(text.lstrip()) :]
        prefix = _EXPLAIN.match(inner)
        if prefix is None:
            raise QueryError("EXPLAIN is understood as EXPLAIN [ANALYZE] SELECT ..., without options or comments")
        _bind(cursor, inner[prefix.end() :])  # DuckDB would run what EXPLAIN ANALYZE names, writing included
        with query_errors(wrapped=False):
            return Result(cursor, cursor.sql(text), None)
    if kind not in (duckdb.StatementType.SELECT, duckdb.StatementType.MULTI):  # MULTI: a PIVOT
        raise QueryError(
            f"{kind.name} is not a query: an atlas is queried with SELECT (DESCRIBE, SHOW, SUMMARIZE, EXPLAIN); to "
            "write files use `foldatlas query --format` or `foldatlas export`"
        )
    return Result(cursor, _bind(cursor, text), text)


@contextlib.contextmanager
def query_errors(*, wrapped: bool = True) -> Iterator[None]:
    """Turns DuckDB's errors into QueryError with DuckDB's message and hint.

    `wrapped`: a line stands before the person's first, so that the message's line numbers are one less for them.
    """
    try:
        yield
    except duckdb.Error as error:
        raise QueryError(_clean(str(error)) if wrapped else str(error).strip()) from error


def _bind(cursor: Any, text: str) -> Any:
    """The relation of a statement as a subquery; nothing runs yet."""
    with query_errors():
        return cursor.sql(f"SELECT * {_WRAPPED.format(text)}")


def _clean(message: str) -> str:
    """DuckDB's message without the line that `_WRAPPED` put before the person's first."""
    return _LINE.sub(lambda found: f"LINE {max(1, int(found[1]) - 1)}:{found[2]}", message.strip())


def _without_semicolon(sql: str) -> str:
    """One statement without the semicolons and comments that follow it."""
    text = sql.encode()  # tokens have byte offsets
    end = len(text)
    for offset, kind in reversed(duckdb.tokenize(sql)):
        if text[offset : offset + 1] != b";" and kind != duckdb.token_type.comment:
            break
        end = offset
    return text[:end].decode()


def _readable(kind: Any, replaced: dict[str, str]) -> str:
    """The SQL name of a DuckDB type with the types inside it `replaced`."""
    name = "json" if str(kind) == "JSON" else kind.id
    if name == "list":
        return f"{_readable(kind.children[0][1], replaced)}[]"
    if name == "array":
        return f"{_readable(kind.children[0][1], replaced)}[{kind.children[1][1]}]"
    if name == "struct":
        return f"STRUCT({', '.join(f'{quoted(key)} {_readable(part, replaced)}' for key, part in kind.children)})"
    if name == "map":
        return f"MAP({', '.join(_readable(part, replaced) for _, part in kind.children)})"
    return replaced.get(name, str(kind))


def _plain(kind: pa.DataType) -> pa.DataType:
    """An Arrow type with ordinary booleans: DuckDB's lossless ones are bytes."""
    if isinstance(kind, pa.Bool8Type):
        return pa.bool_()
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([part.with_type(_plain(part.type)) for part in kind.fields])
    return kind
