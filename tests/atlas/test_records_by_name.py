"""Records found by name, in an index with and without the table `titles`, against plain loops."""

import uuid
from typing import Any

import duckdb
import pytest

from foldatlas.atlas.sql.records_by_name import TITLES, find_records

RECORDS = [  # id, source, offset, description, superseded
    ("WP_1", "file:///a/nr.fasta", 0, "kinase\x01WP_2 kinase-like [Mus]\x01 pdb|1ABC|A chain", False),
    ("WP_1", "file:///b/x.fasta", 0, "kinase", False),
    ("WP_2", "file:///b/x.fasta", 90, "kinase\x01WP_1", False),
    ("a:b:c", "file:///b/x.fasta", 180, "colons\x01\x01", False),
    ("c", "s3://bucket/a:b", 0, "", False),
    ("WP_1", "file:///a/nr.fasta", 0, "kinase\x01WP_3", True),
    ("digits", "file:///a/nr.fasta", 300, "refused", False),
]
NAMES = [
    "WP_1", "WP_2", "WP_3", "pdb|1ABC|A", "nr.fasta:WP_1", "nr.fasta:WP_2", "x.fasta:WP_2", "file:///b/x.fasta:WP_1",
    "a:b:c", "x.fasta:a:b:c", "a:b:c:c", "s3://bucket/a:b:c", "r.fasta:WP_1", "", ":", "nothing", "digits",
    str(uuid.UUID(int=0)), uuid.UUID(int=2).hex.upper(), str(uuid.UUID(int=5)),
]  # fmt: skip


def expected() -> set[tuple[int, str, str, int]]:
    found = set()
    for row, (name, source, offset, description, superseded) in enumerate(RECORDS):
        called = {name, *(title.strip().split(" ")[0] for title in description.split("\x01")[1:])} - {""}
        for number, wanted in enumerate(NAMES):
            in_source = any(
                wanted == f"{prefix}:{one}" for one in called for prefix in (source, *_ends(source)) if not superseded
            )
            is_structure = row != 6 and wanted.replace("-", "").lower() == uuid.UUID(int=row).hex
            if not superseded and (wanted in called or in_source or is_structure):
                found.add((number, name, source, offset))
    return found


def _ends(source: str) -> list[str]:
    parts = source.split("/")
    return ["/".join(parts[start:]) for start in range(1, len(parts))]


@pytest.fixture
def connection() -> Any:
    connection = duckdb.connect()
    connection.execute(
        'CREATE TABLE records (id VARCHAR, source VARCHAR, "offset" BIGINT, description VARCHAR, superseded BOOLEAN, '
        "structure_id UUID, outcome VARCHAR, state VARCHAR)"
    )
    for row, record in enumerate(RECORDS):
        identity = None if row == 6 else str(uuid.UUID(int=row))
        connection.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, '', '')", [*record, identity])
    return connection


@pytest.mark.parametrize("has_titles", [True, False])
def test_names_find_the_records_of_plain_loops(connection: Any, has_titles: bool) -> None:
    """An index of an older program has no table `titles`: descriptions are then searched."""
    if has_titles:
        connection.execute(f"CREATE TABLE titles AS {TITLES.format(present='NOT superseded')}")
    find_records(connection, NAMES)
    rows = connection.execute('SELECT number, id, source, "offset" FROM found').fetchall()
    assert len(rows) == len(set(rows))
    assert set(rows) == expected()
    assert {number for number, *_ in rows} == {0, 1, 3, 4, 5, 6, 7, 8, 9, 11, 16, 17, 18}
