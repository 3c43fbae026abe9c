"""Find records by `id`, `source:id` or structure_id.

A source is named by its URI or by the last part of it, the file's name; a structure_id with or without dashes. Ids may
contain colons, so a name is split at each of its colons. A record of NCBI's nr is also found by the accessions of its
further titles, which follow in its description, each after a Ctrl-A. All matches are returned, except records of
superseded versions of sources.
"""

from collections.abc import Iterable
from typing import Any, Final

import pyarrow as pa

NAMES_PER_BATCH: Final = 100_000

_UUID: Final = "(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}"
# The accession of each further title of present records: what `index.build` stores in the table `titles`.
TITLES: Final = """
    SELECT * FROM (
        SELECT split_part(ltrim(unnest(string_split(description, chr(1))[2:])), ' ', 1) AS accession,
               id, source, "offset"
        FROM records WHERE contains(description, chr(1)) AND {present}
    ) WHERE accession <> ''
"""


def has_superseded(connection: Any, catalog: str | None = None) -> bool:
    """Return whether an index has the column `superseded`; in indexes of older programs all records are present.

    `catalog` is the name under which the index is attached, None for the current database.
    """
    found = connection.execute(
        "SELECT count(*) FROM duckdb_columns() WHERE table_name = 'records' AND column_name = 'superseded' "
        "AND database_name = coalesce($catalog, current_database())",
        {"catalog": catalog},
    ).fetchall()
    return bool(found[0][0])


def find_records(cursor: Any, names: Iterable[str]) -> None:
    """Create the temporary tables `wanted` (number, name) and `found` on `cursor`, a cursor on an index.

    `found` has one row for each record that a name means: the number of the name, id, source, offset, structure_id,
    outcome and state.
    """
    _insert_names(cursor, names)
    columns = 'records.id, records.source, records."offset", records.structure_id, records.outcome, records.state'
    present = "NOT records.superseded" if has_superseded(cursor) else "true"
    titles = "titles" if _has_titles(cursor) else f"({TITLES.format(present=present)})"
    # Every split of a name at a colon into source and id.
    parts = (
        "SELECT number, name[colon + 1:] AS id, name[:colon - 1] AS source FROM ("
        "  SELECT number, name, unnest(range(1, length(name) + 1)) AS colon FROM wanted WHERE contains(name, ':')"
        ") WHERE name[colon] = ':'"
    )
    is_source = "(records.source = parts.source OR ends_with(records.source, '/' || parts.source))"
    # Each search joins the table itself, which is sorted by id, so that DuckDB reads few of its blocks. A search of ids
    # and titles together would read every record.
    by_title = (
        f'SELECT titles.accession, {columns} FROM {titles} AS titles JOIN records USING (id, source, "offset") '
        f"WHERE {present}"
    )
    searches = [
        f"SELECT wanted.number, {columns} FROM records JOIN wanted ON records.id = wanted.name WHERE {present}",
        f"SELECT wanted.number, {columns} FROM ({by_title}) AS records JOIN wanted ON records.accession = wanted.name",
        f"SELECT parts.number, {columns} FROM records JOIN ({parts}) AS parts ON records.id = parts.id "
        f"WHERE {is_source} AND {present}",
        f"SELECT parts.number, {columns} FROM ({by_title}) AS records JOIN ({parts}) AS parts "
        f"ON records.accession = parts.id WHERE {is_source}",
        f"SELECT ids.number, {columns} FROM records JOIN ("
        f"  SELECT number, name::UUID AS structure_id FROM wanted WHERE regexp_full_match(name, '{_UUID}')"
        f") AS ids USING (structure_id) WHERE {present}",
    ]
    cursor.execute(f"CREATE OR REPLACE TEMP TABLE found AS {' UNION '.join(searches)}")


def _has_titles(cursor: Any) -> bool:
    found = cursor.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'titles' AND NOT temporary")
    return bool(found.fetchall()[0][0])


def _insert_names(cursor: Any, names: Iterable[str]) -> None:
    cursor.execute("CREATE OR REPLACE TEMP TABLE wanted (number BIGINT, name VARCHAR)")
    batch: list[str] = []
    first = 0
    for name in names:
        batch.append(name)
        if len(batch) == NAMES_PER_BATCH:
            _insert(cursor, first, batch)
            first, batch = first + len(batch), []
    _insert(cursor, first, batch)


def _insert(cursor: Any, first: int, names: list[str]) -> None:
    numbers = range(first, first + len(names))
    given = pa.table({"number": pa.array(numbers, pa.int64()), "name": pa.array(names, pa.string())})
    cursor.register("given", given)
    cursor.execute("INSERT INTO wanted SELECT * FROM given")
    cursor.unregister("given")
