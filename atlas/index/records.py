"""The tables of records in the index: `records`, sorted by id, `folded_records`, those of the view `proteins` sorted by
structure_id, and `titles`, further titles of records of NCBI's nr.

A record is identified by source, digest of the source and offset. If it has several rows, the index takes one of a
current version, else an accepted one, else that of the plan with the largest `max_length`.
"""

from typing import Any, Final

from foldatlas.atlas.accounting import State
from foldatlas.atlas.index.files import parquet_reader
from foldatlas.atlas.index.views import protein_columns
from foldatlas.atlas.sql.records_by_name import TITLES
from foldatlas.atlas.sql.text import quoted
from foldatlas.atlas.storage.scratch import LocalCopies
from foldatlas.schemas.formats import table_schema

_UNCOMPRESSED: Final = " USING COMPRESSION uncompressed"
_STORED: Final = {"id": _UNCOMPRESSED}
_ORDER: Final = 'ORDER BY accession, source, "offset"'


def make_titles(connection: Any) -> None:
    """Create the table `titles`: after `records`."""
    connection.execute(f"CREATE TABLE titles AS {TITLES.format(present='NOT superseded')} {_ORDER}")


def add_titles(connection: Any) -> None:
    """Add the titles of the records of `new_sources` to the table `titles`."""
    present = "source IN (SELECT source FROM new_sources)"
    connection.execute(f"INSERT INTO titles {TITLES.format(present=present)} {_ORDER}")


def make_folded_records(connection: Any, model: str, version: int) -> None:
    """Create the table `folded_records`: after `records`, of an atlas of format `version`.

    Pages in the order of structure_id read it and `scores` side by side: the rows of a page of 100 of 10 million
    records take 75 ms of processor time from `records`, 2 ms from this table. It takes 56 bytes a record. Checksums are
    not compressed, because random texts take longest to decompress.
    """
    names = [column.name for column in protein_columns(model, version) if column.expression.startswith("records.")]
    selected = ", ".join(map(quoted, ("structure_id", *names)))
    described = connection.execute(f"DESCRIBE SELECT {selected} FROM records").fetchall()
    stored = {"sequence_crc64": _UNCOMPRESSED}
    definitions = ", ".join(f"{quoted(name)} {sql_type}{stored.get(name, '')}" for name, sql_type, *_ in described)
    connection.execute(f"CREATE TABLE folded_records ({definitions})")
    connection.execute("COMMENT ON TABLE folded_records IS 'records of the view proteins, sorted by structure_id'")
    _insert_folded(connection, "records")


def add_folded_records(connection: Any) -> None:
    """Add the records of the structures in `new_ids` to the table `folded_records`, as a further sorted run."""
    _insert_folded(connection, "records SEMI JOIN new_ids USING (structure_id)")


def _insert_folded(connection: Any, records: str) -> None:
    names = ", ".join(quoted(name) for name, *_ in connection.execute("DESCRIBE folded_records").fetchall())
    connection.execute(
        f"INSERT INTO folded_records SELECT {names} FROM {records} "
        f"WHERE state = '{State.FOLDED}' AND NOT superseded ORDER BY structure_id, id, source"
    )


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
