"""Tables explain themselves, and their files can be read by another reader."""

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foldatlas.schemas.tables import STAGING, TABLES, write_options


@pytest.mark.parametrize("name", TABLES)
def test_every_column_says_what_it_means(name: str) -> None:
    for field in TABLES[name]:
        assert field.metadata and len(field.metadata[b"meaning"]) > 5, f"{name}.{field.name}"
        if field.nullable:
            assert b"NULL" in field.metadata[b"meaning"], f"{name}.{field.name} may be NULL: say when"


@pytest.mark.parametrize("name", TABLES)
def test_meanings_are_in_the_file_and_duckdb_reads_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(TABLES[name].empty_table(), path, **write_options(name))
    with pq.ParquetFile(path) as file:
        read = file.schema_arrow
    assert read.metadata[b"foldatlas.table"] == name.encode()
    assert [field.metadata[b"meaning"] for field in read] == [field.metadata[b"meaning"] for field in TABLES[name]]
    with duckdb.connect() as connection:
        described = connection.execute("describe from read_parquet($path)", {"path": str(path)}).fetchall()
    kinds = {column: kind for column, kind, *_ in described}
    assert list(kinds) == TABLES[name].names
    assert {kinds[field.name] for field in TABLES[name] if field.type == pa.uuid()} <= {"UUID"}


def test_staged_table_holds_records_with_sequences() -> None:
    assert STAGING.names == [*TABLES["records"].names, "sequence"]
