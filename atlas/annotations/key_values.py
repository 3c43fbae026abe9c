"""The rows of a table that have a valid key, sorted by it, with types that all values of a column have.

A column of text becomes BIGINT or DOUBLE if every value is written as such a number: no leading zeros, since those are
labels, and no more digits than the type holds.
"""

from pathlib import Path
from typing import Any, Final, NamedTuple

from foldatlas.atlas.annotations.user_table import UserTable
from foldatlas.atlas.sql.text import escape_glob, literal, quoted
from foldatlas.schemas.annotations import AnnotationColumn

# Kind of key -> SQL of its value from a text; NULL for a text that is not a key.
_VALUES: Final = {
    "id": "{0}",
    "accession": "{0}",
    "structure_id": "try_cast({0} AS UUID)",
    "mgyp": "try_cast(nullif(regexp_extract({0}, '^(?i:MGYP)?([0-9]{{1,18}})$', 1), '') AS BIGINT)",
}
_INTEGER: Final = "-?(0|[1-9][0-9]{0,17})"
_NUMBER: Final = r"[-+]?((0|[1-9][0-9]{0,15})(\.[0-9]{0,17})?|\.[0-9]{1,17})([eE][-+]?[0-9]{1,3})?"


class KeyCounts(NamedTuple):
    """Rows of a table by what their key is, and how many keys are in several rows."""

    rows: int
    null_keys: int
    invalid_keys: int
    repeated_keys: int


def select_rows(connection: Any, staged: Path, table: UserTable, key: str) -> tuple[KeyCounts, list[AnnotationColumn]]:
    """Create the temporary table `annotation_rows` from the file that `read_user_table` wrote."""
    source = f"read_parquet({literal(escape_glob(staged))})"
    described = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    types = {name: sql_type for name, sql_type, *_ in described}
    others = [name for name in table.names if name != key]
    found = _types_of(connection, source, [name for name in others if types[name] == "VARCHAR"])
    text = _BLOB.format(quoted(key)) if types[key] == "BLOB" else _PLAIN.format(quoted(key))
    connection.execute(
        f"CREATE TEMP TABLE keyed AS SELECT {text} AS key_text, {_VALUES[key].format('key_text')} AS {quoted(key)}"
        + "".join(f", {quoted(name)}::{found.get(name, types[name])} AS {quoted(name)}" for name in others)
        + f" FROM {source}"
    )
    connection.execute(
        f"CREATE TEMP TABLE annotation_rows AS SELECT * EXCLUDE key_text FROM keyed WHERE {quoted(key)} IS NOT NULL "
        f"ORDER BY {quoted(key)}"
    )
    [(nulls, invalid)] = connection.execute(
        "SELECT count(*) FILTER (key_text IS NULL), "
        f"count(*) FILTER (key_text IS NOT NULL AND {quoted(key)} IS NULL) FROM keyed"
    ).fetchall()
    connection.execute("DROP TABLE keyed")
    rows, repeated = count_rows(connection, "annotation_rows", key)
    columns = [
        AnnotationColumn(name, given, kind)
        for (name, kind, *_), given in zip(
            connection.execute("DESCRIBE annotation_rows").fetchall(),
            [table.given[table.key], *(table.given[table.names.index(name)] for name in others)],
            strict=True,
        )
    ]
    return KeyCounts(rows, nulls, invalid, repeated), columns


_BLOB: Final = "nullif(hex({0}), '')"
_PLAIN: Final = "nullif(trim({0}::VARCHAR), '')"


def count_rows(connection: Any, table: str, key: str) -> tuple[int, int]:
    """Return the number of rows of a table, and of keys that several rows have."""
    [(rows, repeated)] = connection.execute(
        f"SELECT coalesce(sum(number), 0)::BIGINT, count(*) FILTER (number > 1) "
        f"FROM (SELECT count(*) AS number FROM {table} GROUP BY {quoted(key)})"
    ).fetchall()
    return rows, repeated


def _types_of(connection: Any, source: str, names: list[str]) -> dict[str, str]:
    """Return the types of columns of text of which all values are numbers."""
    if not names:
        return {}
    tests = ", ".join(
        f"coalesce(bool_and(regexp_full_match({quoted(name)}, {literal(pattern)})), false)"
        for name in names
        for pattern in (_INTEGER, _NUMBER)
    )
    [row] = connection.execute(f"SELECT {tests} FROM {source}").fetchall()
    found = {}
    for number, name in enumerate(names):
        is_integer, is_number = row[2 * number], row[2 * number + 1]
        if is_integer or is_number:
            found[name] = "BIGINT" if is_integer else "DOUBLE"
    return found


def write_rows(connection: Any, table: str, key: str, out: Path) -> None:
    """Write a table, sorted by its key, as the Parquet file `out`."""
    connection.execute(
        f"COPY (SELECT * FROM {table} ORDER BY {quoted(key)}) TO {literal(str(out))} (FORMAT parquet, COMPRESSION zstd)"
    )
