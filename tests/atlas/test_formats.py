"""Results as text and Parquet, read back by other programs."""

import csv
import datetime
import io
import json
import math
import uuid
from decimal import Decimal

import duckdb
import pytest

from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.sql.result_formats import FORMATS, MAX_TABLE_ROWS, Written

EVERYTHING = """
SELECT 'a,"b"' || chr(10) || chr(27) || '[31m' AS text, '' AS empty, NULL AS nothing, true AS yes, 7 AS number,
       170141183460469231731687303715884105727::HUGEINT // 1000 AS huge, 1.50 AS exact, 0.7::FLOAT AS single,
       'nan'::FLOAT AS nan, 'inf'::DOUBLE AS inf, '12345678-1234-5678-1234-567812345678'::UUID AS id,
       TIMESTAMP '2026-11-01 10:00:00.5' AS time, DATE '2026-11-01' AS day, INTERVAL 3 DAY AS span,
       [0.1::FLOAT, NULL, 'nan'] AS list,
       {'DATE': DATE '2026-11-01', 'b': ['12345678-1234-5678-1234-567812345678'::UUID]} AS struct,
       MAP {'k': 1} AS map, 'x'::ENUM ('x', 'y') AS kind, '{"j": 1}'::JSON AS json, [true] AS flags
"""
ID = "12345678-1234-5678-1234-567812345678"


@pytest.fixture
def write(indexed):
    with Atlas.open(indexed.root) as atlas:

        def run(sql: str, format: str) -> tuple[bytes, Written]:
            file = io.BytesIO()
            return (lambda written: (file.getvalue(), written))(FORMATS[format](atlas.query(sql), file))

        yield run


def check_json(row: dict) -> None:
    assert row["text"] == 'a,"b"\n\x1b[31m' and row["empty"] == "" and row["nothing"] is None and row["yes"] is True
    assert row["huge"] == (2**127 - 1) // 1000 and row["exact"] == 1.5 and row["single"] == 0.7
    assert row["nan"] is None and row["inf"] is None and row["id"] == ID
    assert row["time"] == "2026-11-01 10:00:00.5" and row["day"] == "2026-11-01" and row["span"] == "3 days"
    assert row["list"] == [0.1, None, None] and row["struct"] == {"DATE": "2026-11-01", "b": [ID]}
    assert row["map"] == {"k": 1} and row["kind"] == "x" and row["json"] == '{"j": 1}' and row["flags"] == [True]


def test_json_and_jsonl(write) -> None:
    text, written = write(f"{EVERYTHING} UNION ALL {EVERYTHING}", "jsonl")
    assert written == Written(2) and text.count(b"\n") == 2
    for line in text.splitlines():
        check_json(json.loads(line, parse_constant=pytest.fail))
    text, written = write(f"{EVERYTHING} UNION ALL {EVERYTHING}", "json")
    rows = json.loads(text, parse_constant=pytest.fail)
    assert len(rows) == written.rows == 2
    for row in rows:
        check_json(row)
    assert json.loads(write("SELECT 1 WHERE false", "json")[0]) == []


def test_csv_is_read_back_by_python_and_duckdb(write, tmp_path) -> None:
    text, written = write(EVERYTHING, "csv")
    header, row = csv.reader(io.StringIO(text.decode(), newline=""))
    values = dict(zip(header, row, strict=True))
    assert written == Written(1) and values["text"] == 'a,"b"\n\x1b[31m' and values["nothing"] == ""
    assert values["huge"] == str((2**127 - 1) // 1000) and values["exact"] == "1.50" and values["single"] == "0.7"
    assert values["nan"] == "nan" and values["yes"] == "true" and values["id"] == ID
    assert json.loads(values["list"]) == [0.1, None, None] and json.loads(values["struct"])["b"] == [ID]
    assert b',"",,' in text  # the empty text and NULL differ
    (tmp_path / "r.csv").write_bytes(write("SELECT id, mean_plddt, structure_id FROM proteins ORDER BY id", "csv")[0])
    back = duckdb.sql(f"SELECT id, mean_plddt::FLOAT, structure_id::UUID FROM '{tmp_path}/r.csv'").fetchall()
    (tmp_path / "r.parquet").write_bytes(
        write("SELECT id, mean_plddt, structure_id FROM proteins ORDER BY id", "parquet")[0]
    )
    assert back == duckdb.sql(f"FROM '{tmp_path}/r.parquet'").fetchall() and len(back) > 100


def test_parquet_keeps_types(write, tmp_path) -> None:
    (tmp_path / "r.parquet").write_bytes(write(EVERYTHING, "parquet")[0])
    relation = duckdb.sql(f"FROM '{tmp_path}/r.parquet'")
    types = dict(zip(relation.columns, map(str, relation.types), strict=True))
    assert types["id"] == "UUID" and types["single"] == "FLOAT" and types["time"] == "TIMESTAMP"
    assert types["yes"] == "BOOLEAN" and types["flags"] == "BOOLEAN[]" and types["huge"] == "DECIMAL(38,0)"
    row = dict(zip(relation.columns, relation.fetchall()[0], strict=True))
    assert row["id"] == uuid.UUID(ID) and row["huge"] == Decimal((2**127 - 1) // 1000) and math.isnan(row["nan"])
    assert row["time"] == datetime.datetime(2026, 11, 1, 10, 0, 0, 500000) and row["struct"]["b"] == [uuid.UUID(ID)]


def test_a_table_is_aligned_and_cannot_command_the_terminal(write) -> None:
    text, written = write(f"{EVERYTHING}", "table")
    assert written == Written(1) and b"\x1b" not in text and text.count(b"\n") == 3
    header, rule, row = text.decode().splitlines()
    assert row.startswith('a,"b"\\n\\x1b[31m') and "NULL" in row and ID in row
    assert header.index("number") + len("number") == row.index("7") + 1 == rule.index("-  ", header.index("number")) + 1
    text, _ = write("SELECT chr(8238) || chr(155) || '日本' AS \"c\x07\", repeat('x', 500) AS long", "table")
    assert "\\u202e\\x9b日本" in text.decode() and "c\\x07" in text.decode()
    assert max(map(len, text.decode().splitlines())) < 90 and "…" in text.decode()


def test_a_table_says_when_it_leaves_rows_out(write) -> None:
    text, written = write(f"SELECT * FROM range({MAX_TABLE_ROWS + 1})", "table")
    assert written == Written(MAX_TABLE_ROWS, complete=False) and text.count(b"\n") == MAX_TABLE_ROWS + 2
    assert write(f"SELECT * FROM range({MAX_TABLE_ROWS})", "table")[1] == Written(MAX_TABLE_ROWS)
    assert write("SELECT id FROM proteins WHERE false", "table") == (b"id\n--\n", Written(0))


def test_explain_is_shown_as_it_is(write) -> None:
    text, _ = write("EXPLAIN ANALYZE SELECT count(*) FROM proteins", "table")
    assert text.count(b"\n") > 5 and b"\\n" not in text


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_same_names_and_no_rows(write, format: str) -> None:
    assert write("SELECT 1 AS a, 2 AS a", format)[1].rows == 1
    assert write("SELECT * FROM proteins LIMIT 0", format)[1].rows == 0
    assert write("SELECT * FROM structures LIMIT 3", format)[1].rows == 3
