"""Finds records by what a person calls them: `id`, `source:id` or structure_id.

A source may be named by its whole URI or by its last part, the file's name; a structure_id with or without dashes.
Ids may hold colons themselves, so every colon is tried. Whatever matches is given.
"""

from collections.abc import Iterable
from typing import Any, Final

import pyarrow as pa

NAMES_A_BATCH: Final = 100_000

_UUID: Final = "(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}"


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
    columns = 'records.id, records.source, records."offset", records.structure_id, records.outcome, records.state'
    cursor.execute(
        f"CREATE OR REPLACE TEMP TABLE found AS "
        f"SELECT wanted.number, {columns} FROM records JOIN wanted ON records.id = wanted.name UNION "
        f"SELECT parts.number, {columns} FROM records JOIN ("
        "  SELECT number, name[colon + 1:] AS id, name[:colon - 1] AS source FROM ("
        "    SELECT number, name, unnest(range(1, length(name) + 1)) AS colon FROM wanted WHERE contains(name, ':')"
        "  ) WHERE name[colon] = ':'"
        ") AS parts ON records.id = parts.id "
        "WHERE records.source = parts.source OR ends_with(records.source, '/' || parts.source) UNION "
        f"SELECT ids.number, {columns} FROM records JOIN ("
        f"  SELECT number, name::UUID AS structure_id FROM wanted WHERE regexp_full_match(name, '{_UUID}')"
        ") AS ids USING (structure_id)"
    )


def _insert(cursor: Any, first: int, names: list[str]) -> None:
    numbers = range(first, first + len(names))
    given = pa.table({"number": pa.array(numbers, pa.int64()), "name": pa.array(names, pa.string())})
    cursor.register("given", given)
    cursor.execute("INSERT INTO wanted SELECT * FROM given")
    cursor.unregister("given")
