"""Finds records by what a person calls them: `id`, `source:id` or structure_id.

A source may be named by its whole URI or by its last part, the file's name; a structure_id with or without dashes.
Ids may hold colons themselves, so every colon is tried. A record of NCBI's nr is found by the accession of each of its
titles, which stand in its description behind a Ctrl-A each. Whatever matches is given, but for records of superseded
versions of sources.
"""

from collections.abc import Iterable
from typing import Any, Final

import pyarrow as pa

NAMES_A_BATCH: Final = 100_000

# Every name of the records `present`: the id, and the first words of the further titles.
_NAMED: Final = """
    SELECT id AS called, * FROM present UNION ALL
    SELECT * FROM (
        SELECT split_part(ltrim(unnest(string_split(description, chr(1))[2:])), ' ', 1) AS called, *
        FROM present WHERE contains(description, chr(1))
    ) WHERE called <> ''
"""

_UUID: Final = "(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}"


def has_superseded(connection: Any, catalog: str | None = None) -> bool:
    """Whether an index has the column `superseded`. One of an earlier program has not: all its records are present.

    `catalog` is the name under which the index is attached, None: the current database.
    """
    found = connection.execute(
        "SELECT count(*) FROM duckdb_columns() WHERE table_name = 'records' AND column_name = 'superseded' "
        "AND database_name = coalesce($catalog, current_database())",
        {"catalog": catalog},
    ).fetchall()
    return bool(found[0][0])


def find_records(cursor: Any, names: Iterable[str]) -> None:
    """Makes the temporary tables `wanted` (number, name) and `found` on `cursor`, a cursor on an index.

    `found` has a row for each record that a name means: the number of the name, id, source, offset, structure_id,
    outcome and state.
    """
    cursor.execute("CREATE OR REPLACE TEMP TABLE wanted (number BIGINT, name VARCHAR)")
    batch: list[str] = []
    first = 0
    for name in names:
        batch.append(name)
        if len(batch) == NAMES_A_BATCH:
            _insert(cursor, first, batch)
            first, batch = first + len(batch), []
    _insert(cursor, first, batch)
    present = "FROM records" + (" WHERE NOT superseded" if has_superseded(cursor) else "")
    columns = 'records.id, records.source, records."offset", records.structure_id, records.outcome, records.state'
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE found AS "
        f"WITH present AS ({present}), named AS ({_NAMED}) "
        f"SELECT wanted.number, {columns} FROM named AS records JOIN wanted ON records.called = wanted.name UNION "
        f"SELECT parts.number, {columns} FROM named AS records JOIN ("
        "  SELECT number, name[colon + 1:] AS id, name[:colon - 1] AS source FROM ("
        "    SELECT number, name, unnest(range(1, length(name) + 1)) AS colon FROM wanted WHERE contains(name, ':')"
        "  ) WHERE name[colon] = ':'"
        ") AS parts ON records.called = parts.id "
        "WHERE records.source = parts.source OR ends_with(records.source, '/' || parts.source) UNION "
        f"SELECT ids.number, {columns} FROM present AS records JOIN ("
        f"  SELECT number, name::UUID AS structure_id FROM wanted WHERE regexp_full_match(name, '{_UUID}')"
        ") AS ids USING (structure_id)"
    )


def _insert(cursor: Any, first: int, names: list[str]) -> None:
    numbers = range(first, first + len(names))
    given = pa.table({"number": pa.array(numbers, pa.int64()), "name": pa.array(names, pa.string())})
    cursor.register("given", given)
    cursor.execute("INSERT INTO wanted SELECT * FROM given")
    cursor.unregister("given")
