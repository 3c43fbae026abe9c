"""Ids for an export, in every form in which they come; TSV; the best N."""

import csv
import io

import duckdb
import pytest

from foldatlas.atlas.export.id_files import names_in
from foldatlas.atlas.export.subset import export
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.sql import result_formats
from foldatlas.jobs.cli import main
from foldatlas.schemas.errors import QueryError, UsageError


@pytest.mark.parametrize(
    ("name", "text", "names"),
    [
        ("list", "a1\n\n b,2 \n", ["a1", "b,2"]),
        ("grep", ">a1 first protein, of two\n>sp|P1|X y\x01z\n", ["a1", "sp|P1|X"]),
        ("query_csv", '"length","id"\n3,"a""1"\n4,"b,2"\n', ['a"1', "b,2"]),
        ("pandas.csv", "mean_plddt,structure_id\n3,a1\n", ["a1"]),
        ("first.csv", '"name"\n">a1 b"\n', ["name", "a1"]),
        ("tsv", 'x\t"y"\na1\t2\n', ["x", "a1"]),
        ("jsonl", '{"n": 1, "id": "a\\t1"}\n{"n": 2, "id": "b"}\n', ["a\t1", "b"]),
        ("json", '[\n{"q": "a1"},\n{"q": "b"}\n]\n', ["a1", "b"]),
        ("empty", "", []),
    ],
)
def test_ids_are_read_in_every_form(tmp_path, name, text, names):
    (tmp_path / name).write_text(text)
    with names_in(tmp_path / name) as file:
        assert list(file.names) == names


@pytest.mark.parametrize("format", ["csv", "tsv", "json", "jsonl"])
@pytest.mark.parametrize("column", ["id", "structure_id", "id as called"])
def test_ids_from_query_are_exported(indexed, tmp_path, format, column):
    with Atlas.open(indexed.root) as atlas:
        chosen = f"SELECT {column} FROM proteins"
        with (tmp_path / f"ids.{format}").open("wb") as file:
            result_formats.FORMATS[format](atlas.query(chosen), file)
        total = atlas.query("SELECT count(*) FROM proteins").rows()[0][0]
    done = export(indexed.root, tmp_path / "out", format="fasta", ids=tmp_path / f"ids.{format}")
    assert done.proteins == total and "unknown" not in done.missing
    assert done.ids_read_as


def test_an_export_of_nothing_ends_with_3(indexed, tmp_path, capsys):
    (tmp_path / "ids").write_text("no such id\n")
    command = ["export", str(indexed.root), str(tmp_path / "out"), "--format", "pdb", "--ids", str(tmp_path / "ids")]
    assert main(command) == 3
    assert "no protein was exported" in capsys.readouterr().err


def test_the_best_n_are_exported(indexed, tmp_path):
    export(indexed.root, tmp_path / "out", format="parquet", order_by="Mean_pLDDT desc", limit=3)
    with Atlas.open(indexed.root) as atlas:
        best = sorted(row[0] for row in atlas.query("SELECT mean_plddt FROM proteins").rows())[-3:]
    found = duckdb.sql(f"SELECT mean_plddt FROM '{tmp_path}/out/*.parquet'").fetchall()
    assert sorted(row[0] for row in found) == best


def test_order_by_takes_a_column_and_nothing_else(indexed, tmp_path):
    for order_by, error, message in (
        ("plddt", QueryError, "did you mean mean_plddt"),
        ("id;drop", QueryError, "no column"),
        ("(select 1) desc", UsageError, "not a column|no column"),
        ("id desc, length", UsageError, "is not a column"),
    ):
        with pytest.raises((error, QueryError), match=message):
            export(indexed.root, tmp_path / "out", format="fasta", order_by=order_by, limit=1)
    for arguments in ({"limit": 0}, {"order_by": "id"}):
        with pytest.raises(UsageError, match="--limit"):
            export(indexed.root, tmp_path / "out", format="fasta", **arguments)


def test_tsv_is_read_back_by_python_and_duckdb(indexed, tmp_path):
    texts = ["plain", "", "tab\there", 'quo"te', "line\nbreak", " space ", "é,;"]
    values = ", ".join(f"({n}, '{text}')" for n, text in enumerate(texts))
    out = io.BytesIO()
    with Atlas.open(indexed.root) as atlas:
        sql = f'SELECT n, t, [n] AS "l\tist" FROM (VALUES {values}, (99, NULL)) v(n, t) ORDER BY n'
        result_formats.write_tsv(atlas.query(sql), out)
    read = list(csv.reader(io.StringIO(out.getvalue().decode(), newline=""), delimiter="\t"))
    assert read[0] == ["n", "t", "l\tist"] and [row[1] for row in read[1:]] == [*texts, ""]
    (tmp_path / "a.tsv").write_bytes(out.getvalue())
    back = duckdb.sql(f"FROM read_csv('{tmp_path}/a.tsv', delim='\t', quote='\"', escape='\"', header=true)").fetchall()
    assert [row[1] for row in back][-1] is None and [row[1] for row in back][2] == "tab\there"
