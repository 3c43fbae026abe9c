"""Select the records of an export by a condition, a query or a file of ids, and list the names without a protein."""

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from foldatlas.atlas.export.id_files import names_in
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.sql.interruptible import interruptible_call
from foldatlas.atlas.sql.query import read_only
from foldatlas.atlas.sql.records_by_name import find_records
from foldatlas.atlas.sql.text import first_line, quoted
from foldatlas.schemas.errors import QueryError, UsageError
from foldatlas.schemas.records import REFUSALS, Outcome

_ROWS_PER_BATCH: Final = 10_000
_KEYS: Final = ("source", "id", "structure_id")  # columns of a query that select records


def check_limit(order_by: str | None, limit: int | None) -> None:
    """Raise UsageError for a limit below 1, and for an order without a limit."""
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit} must be 1 or more: it counts the proteins to export")
    if order_by is not None and limit is None:
        raise UsageError("--order-by decides which proteins --limit keeps: give --limit too")


def choose(
    atlas: Atlas,
    cursor: Any,
    *,
    where: str | None = None,
    sql: str | None = None,
    ids: str | Path | None = None,
    order_by: str | None = None,
    limit: int | None = None,
) -> str | None:
    """Create the temporary table `chosen` of rows of `proteins` that meet all of `where`, `sql` and `ids`.

    With `ids` the tables `wanted` and `found` (sql/records_by_name.py) are created too, with `sql` the table
    `requested` of its distinct keys. Return a description of how the file `ids` was read. Raise QueryError, UsageError.
    """
    order = "" if limit is None else f" {_order(cursor, order_by)} LIMIT {limit}"
    conditions = []
    ids_read_as = None
    if where is not None:
        conditions.append(atlas.condition(where))
    if sql is not None:
        conditions.append(_requested(atlas, cursor, sql))
    if ids is not None:
        with names_in(ids) as file:
            ids_read_as = file.read_as
            interruptible_call(cursor, lambda: find_records(cursor, file.names))
        if file.first_may_be_header:  # if no record has this name, it is a header
            cursor.execute("DELETE FROM wanted WHERE number = 0 AND number NOT IN (SELECT number FROM found)")
        conditions.append(
            "(source, id, structure_id) IN (SELECT source, id, structure_id FROM found WHERE state = 'folded')"
        )
    statement = "SELECT * FROM proteins" + (f" WHERE {' AND '.join(conditions)}" if conditions else "")
    try:
        interruptible_call(cursor, lambda: cursor.execute(f"CREATE TEMP TABLE chosen AS {statement}{order}"))
    except duckdb.Error as error:  # for some values only, such as a text that is not a number
        raise QueryError(f"the selection cannot be computed: {first_line(error)}") from error
    return ids_read_as


def chosen_digest(cursor: Any) -> tuple[int, str]:
    """Return the number of chosen rows, and a hash of all their columns that does not depend on their order."""
    # fetchone would leave the statement open
    [(rows, digest)] = cursor.execute("SELECT count(*), sum(hash(chosen)::HUGEINT) FROM chosen").fetchall()
    return int(rows), f"{digest or 0:x}"


def _order(cursor: Any, order_by: str | None) -> str:
    """Return ORDER BY for `order_by`, a column of `proteins`, optionally with ASC or DESC; refuse any other SQL."""
    ties = "id, source, structure_id"
    if order_by is None:
        return f"ORDER BY {ties}"
    words = order_by.split()
    if len(words) not in (1, 2) or (len(words) == 2 and words[1].upper() not in ("ASC", "DESC")):
        raise UsageError(f"--order-by {order_by!r} is not a column of proteins, optionally followed by ASC or DESC")
    columns = {name.lower(): name for name in cursor.sql("FROM proteins").columns}
    name = words[0].lower().removeprefix('"').removesuffix('"')
    if name not in columns:
        near = [column for column in columns if name and name in column] or difflib.get_close_matches(name, columns)
        meant = f"did you mean {' or '.join(near[:3])}?" if near else f"choose one of {', '.join(columns.values())}"
        raise QueryError(f"--order-by {order_by!r}: proteins has no column {words[0]!r}: {meant}")
    return f"ORDER BY {quoted(columns[name])} {words[1].upper() if len(words) == 2 else 'ASC'} NULLS LAST, {ties}"


def _requested(atlas: Atlas, cursor: Any, sql: str) -> str:
    """Create the table `requested` of the distinct keys in the result of `sql`; return the condition that selects them.

    The result has `structure_id` or `id`; all of _KEYS that it has must match.
    """
    result = read_only(atlas.cursor(sql), sql)
    by_name = {name.lower(): number for number, name in reversed(list(enumerate(result.columns)))}
    keys: list[str] = [key for key in _KEYS if key in by_name]
    if not {"id", "structure_id"} & set(keys):
        raise QueryError(
            f"--sql must return a column structure_id or id, it returns {', '.join(result.columns)}: begin it with "
            "SELECT structure_id, or use --where with a condition"
        )
    batches = result.batches(as_text=True)
    schema = pa.schema([(key, pa.string()) for key in keys])

    def texts() -> Iterator[pa.RecordBatch]:
        for batch in batches:
            columns = [batch.column(by_name[key]).cast(pa.string()) for key in keys]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    cursor.register("given_keys", pa.RecordBatchReader.from_batches(schema, texts()))
    casts = ", ".join(f"TRY_CAST({key} AS UUID) AS {key}" if key == "structure_id" else key for key in keys)
    name = " || ':' || ".join(key for key in keys if key != "structure_id") if "id" in keys else "structure_id"
    creation = (
        f"CREATE TEMP TABLE requested AS SELECT DISTINCT {casts}, {name} AS name FROM given_keys "
        f"WHERE {' AND '.join(f'{key} IS NOT NULL' for key in keys)}"
    )
    try:
        interruptible_call(cursor, lambda: cursor.execute(creation))
    except duckdb.Error as error:
        raise QueryError(f"--sql: {error}") from error
    finally:
        cursor.unregister("given_keys")
    return f"({', '.join(keys)}) IN (SELECT {', '.join(keys)} FROM requested)"


def missing_of_ids(cursor: Any, *, limited: bool) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, why, detail and source of each name of `wanted` without a chosen protein, one per record of it."""
    rows = cursor.execute(
        "WITH given AS (SELECT DISTINCT found.number FROM found SEMI JOIN chosen USING (source, id, structure_id) "
        "WHERE found.state = 'folded') "
        "SELECT wanted.name, found.state, found.outcome, found.source, failures.error FROM wanted "
        "ANTI JOIN given USING (number) LEFT JOIN found USING (number) LEFT JOIN failures USING (structure_id) "
        'ORDER BY wanted.number, found.source, found."offset"'
    )
    while batch := rows.fetchmany(_ROWS_PER_BATCH):
        for name, state, outcome, source, error in batch:
            if state is None:
                yield name, "unknown", "no record has this id", ""
            elif state == "folded":
                why = "it does not meet the condition" + (" or is beyond the limit" if limited else "")
                yield name, "excluded", why, source
            elif state == "refused":
                yield name, state, f"{outcome}: {REFUSALS[Outcome(outcome)]}", source
            else:
                details = {"failed": error, "pending": "it is not folded yet", "repeated": "its first record counts"}
                yield name, state, details[state], source


def missing_of_sql(cursor: Any) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, why, detail and source of each row of `requested` that no protein has."""
    keys = [name for name in cursor.sql("FROM requested").columns if name in _KEYS]
    rows = cursor.execute(f"SELECT name FROM requested ANTI JOIN proteins USING ({', '.join(keys)}) ORDER BY name")
    while batch := rows.fetchmany(_ROWS_PER_BATCH):
        for (name,) in batch:
            yield name, "unknown", "no protein has this id", ""
