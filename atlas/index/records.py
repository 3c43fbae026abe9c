"""The tables of records in the index: `records`, sorted by id, and `titles`, further titles of records of NCBI's nr.

A record is identified by source, digest of the source and offset. If it has several rows, the index takes one of a
current version, else an accepted one, else that of the plan with the largest `max_length`.
"""

from typing import Any, Final

from foldatlas.atlas.accounting import State
from foldatlas.atlas.index.files import parquet_reader
from foldatlas.atlas.sql.records_by_name import TITLES
from foldatlas.atlas.sql.text import quoted
from foldatlas.atlas.storage.scratch import LocalCopies
from foldatlas.schemas.formats import table_schema

_STORED: Final = {"id": " USING COMPRESSION uncompressed"}
_ORDER: Final = 'ORDER BY accession, source, "offset"'


def make_titles(connection: Any) -> None:
    """Create the table `titles`: after `records`."""
    connection.execute(f"CREATE TABLE titles AS {TITLES.format(present='NOT superseded')} {_ORDER}")


def add_titles(connection: Any) -> None:
    """Add the titles of the records of `new_sources` to the table `titles`."""
    present = "source IN (SELECT source FROM new_sources)"
    connection.execute(f"INSERT INTO titles {TITLES.format(present=present)} {_ORDER}")


def make_records(connection: Any, copies: LocalCopies, version: int, *, append: bool = False) -> None:
    """Create the table `records` of an atlas of format `version`, or append to it, sorted by id, with each record of
    the sources once.

    Ids are not compressed: where many begin alike, a look-up reads all of them (DuckDB's statistics hold eight bytes of
    a text), which takes 6.6 ms of processor time for 5 million ids, compressed 16 ms. They take 12 bytes more each.
    """
    columns = ", ".join(f"records.{quoted(name)}" for name in table_schema("records", version).names)
    with_plan = (
        f"SELECT {columns}, NOT sources.is_present AS superseded "
        f"FROM {parquet_reader(connection, copies, 'records', version)} AS records "
        "JOIN listed ON listed.absolute = records.filename "
        "JOIN sources ON sources.plan_number = listed.plan_number AND sources.source = records.source"
    )
    deduplicated = with_plan
    several = "SELECT source, sha256 FROM sources GROUP BY ALL HAVING count(*) > 1"
    if connection.execute(f"SELECT count(*) FROM ({several})").fetchall()[0][0]:
        deduplicated = (
            f"{with_plan} WHERE (sources.source, sources.sha256) NOT IN ({several}) UNION ALL "
            f"{with_plan} WHERE (sources.source, sources.sha256) IN ({several}) "
            'QUALIFY row_number() OVER (PARTITION BY records.source, sources.sha256, records."offset" '
            "ORDER BY NOT sources.is_present, records.outcome <> 'accepted', sources.max_length DESC, "
            "listed.plan_number) = 1"
        )
    selected = (
        f"SELECT {columns}, CASE "
        f"WHEN outcome = 'repeated' THEN '{State.REPEATED}' WHEN outcome <> 'accepted' THEN '{State.REFUSED}' "
        f"WHEN scores.structure_id IS NOT NULL THEN '{State.FOLDED}' "
        f"WHEN failures.structure_id IS NOT NULL THEN '{State.FAILED}' ELSE '{State.PENDING}' END AS state, superseded "
        f"FROM ({deduplicated}) AS records LEFT JOIN (SELECT structure_id FROM scores) AS scores USING (structure_id) "
        "LEFT JOIN (SELECT structure_id FROM failures) AS failures ON failures.structure_id = records.structure_id "
        'ORDER BY records.id, records.source, records."offset"'
    )
    if not append:
        described = connection.execute(f"DESCRIBE {selected}").fetchall()
        definitions = ", ".join(f"{quoted(name)} {sql_type}{_STORED.get(name, '')}" for name, sql_type, *_ in described)
        connection.execute(f"CREATE TABLE records ({definitions})")
    connection.execute(f"INSERT INTO records {selected}")
