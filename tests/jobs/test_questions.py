"""The fifteen questions of docs/sql.md, each run on an atlas in which it has an answer; and hostile ids in SQL."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import duckdb
import novelty_atlas as given
import pyarrow.parquet as pq
import pytest

from foldatlas.atlas.export.subset import export
from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.sql.result_formats import write_table
from foldatlas.atlas.verify.atlas import verify
from foldatlas.jobs.cluster import cluster
from foldatlas.jobs.novelty import novelty
from foldatlas.jobs.project import project
from foldatlas.jobs.query import FORMATS, query
from foldatlas.jobs.reference import reference

TEXT = (Path(__file__).parents[2] / "docs" / "sql.md").read_text(encoding="utf-8")
QUESTIONS = dict(
    re.findall(
        r"^### (\d+)\. [^\n]*\n.*?```sql\n(.*?);\n```\n",
        TEXT.partition("## Fifteen questions\n")[2].partition("\n## ")[0],
        re.MULTILINE | re.DOTALL,
    )
)
SHOWN = dict(
    re.findall(
        r"^### (\d+)\. [^\n]*\n.*?```text\n(.*?)```\n",
        TEXT.partition("## Fifteen questions\n")[2].partition("\n## ")[0],
        re.MULTILINE | re.DOTALL,
    )
)


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Known and novel proteins, clusters, two searches of a reference that grew, repeated ids and sequences."""
    place = tmp_path_factory.mktemp("questions")
    folder = AtlasFolder(place / "atlas")
    proteins = given.proteins()
    asked = given.Protein(("MKVLAAGIVGLC", given.made.made(12, 7)[1]), plddt=60.0, ptm=0.2)
    digits = given.Protein(("MKV1", proteins["known"].chain[1]))
    given.write_atlas(folder, {**proteins, "asked": asked, "digits": digits}, index=False)
    again = {"twin": proteins["novel1"], "known": given.Protein(given.made.made(95, 77))}
    given.write_atlas(folder, again, "more")
    cluster(folder.root)
    given.reference(place / "structures")
    fasta = "".join(f">kin_{id}\n{proteins[id].sequence[:60]}WWW\n" for id in ("known", "novel1", "doubtful"))
    (place / "known.fasta").write_text(fasta)
    reference([str(place / "known.fasta")], place / "sequences", licence="CC0-1.0")
    novelty(folder.root, [place / "structures", place / "sequences"])
    given.grown(place / "structures")
    novelty(folder.root, [place / "structures"])
    return folder.root


def test_all_fifteen_are_there() -> None:
    assert list(QUESTIONS) == list(SHOWN) == [str(number) for number in range(1, 16)]


@pytest.mark.parametrize("number", QUESTIONS)
def test_a_question_has_an_answer(atlas: Path, number: str) -> None:
    """The output of the document has the same columns, and as many rows."""
    with Atlas.open(atlas) as opened:
        file = io.BytesIO()
        written = write_table(opened.sql(QUESTIONS[number]), file)
    lines, shown = file.getvalue().decode().splitlines(), SHOWN[number].splitlines()
    assert written.rows > 0
    assert lines[0].split() == shown[0].split() and len(lines) == len(shown)


CASES = {
    "known": "tm_query >= 0.5",
    "novel": "(id, source) in (select (id, source) from novel)",
    "dark": "cluster_structure in (select cluster from dark_clusters)",
    "too short": "structure_id in (select structure_id from novelty where reason = 'too_short')",
    "not searched": "tm_query is null and structure_id not in (select structure_id from novelty)",
}


def test_queries_on_novelty_have_rows(atlas: Path, tmp_path: Path) -> None:
    """Those of docs/sql.md, on an atlas with every case: its last protein came after the searches."""
    section = TEXT.partition("## Novelty\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```sql\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    queries = [query for block in blocks for query in block.split(";") if query.strip()]
    shutil.copytree(atlas, tmp_path / "atlas")
    given.write_atlas(AtlasFolder(tmp_path / "atlas"), {"later": given.Protein(given.made.made(64, 900))}, "later")
    with Atlas.open(tmp_path / "atlas") as opened:
        for case, condition in CASES.items():
            assert opened.query(f"select id from proteins where {condition}").rows(), case
        found = {query: len(opened.query(query).rows()) for query in queries}
    assert len(found) == 9 and all(found.values()), found


def test_questions_in_another_connection(atlas: Path) -> None:
    """In DuckDB alone, without this program: the index file and the prologue are enough."""
    with duckdb.connect(str(atlas / "atlas.duckdb"), read_only=True) as connection:
        connection.execute("SET VARIABLE atlas = files_at(?)", [str(atlas)])
        for number, sql in QUESTIONS.items():
            assert connection.execute(sql).fetchall(), number


def test_a_parquet_export_has_clusters_and_novelty(atlas: Path, tmp_path: Path) -> None:
    """Of the latest search, also of clusters whose representative the subset lacks."""
    where = "id NOT IN ('novel1', 'helped')"
    export(atlas, tmp_path / "out", format="parquet", where=where)
    moved = "structure_file, structure_row, structure_row_group"
    sql = f"SELECT * EXCLUDE ({moved}) FROM proteins WHERE {where} ORDER BY source, id"
    members = (
        f"SELECT * FROM members WHERE structure_id IN (SELECT structure_id FROM proteins WHERE {where}) ORDER BY ALL"
    )
    hits = (
        "SELECT state, count(tm_query), count(DISTINCT target) FROM novelty JOIN novelty_runs USING (run) "
        f"WHERE is_latest AND structure_id IN (SELECT structure_id FROM proteins WHERE {where}) "
        "GROUP BY ALL ORDER BY ALL"
    )
    with Atlas.open(atlas) as whole, Atlas.open(tmp_path / "out") as part:
        for question in (sql, members, hits):
            assert part.query(question).rows() == whole.query(question).rows() != []
        assert part.query("SELECT count(*) FROM targets").rows()[0][0] > 0
    assert [str(fault) for fault in verify(AtlasFolder(tmp_path / "out")).faults] == []
    assert cluster(tmp_path / "out").is_new  # not those of the whole atlas


@pytest.mark.long
def test_questions_in_the_command_line(atlas: Path, tmp_path: Path) -> None:
    """With the program of PyPI's duckdb-cli, in an environment of its own."""
    venv.create(tmp_path / "env", with_pip=True)
    command = [tmp_path / "env" / "bin" / "pip", "install", "-q", "duckdb-cli"]
    installed = subprocess.run(command, capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"duckdb-cli cannot be installed: {installed.stderr.strip().splitlines()[-1:]}")
    for number, sql in QUESTIONS.items():
        prologue = f"SET VARIABLE atlas = files_at('{atlas}')"
        program = [tmp_path / "env" / "bin" / "duckdb", "-readonly", "-json", "-bail", atlas / "atlas.duckdb"]
        output = subprocess.run([*program, f"{prologue}; {sql};"], capture_output=True, text=True)
        assert output.returncode == 0, (number, output.stderr)
        assert json.loads(output.stdout), number


HOSTILE = {
    "path": "../../x",
    "long": "x" * 4_000,
    "unicode": "п\u202eπ\u0301日本",
    "drop": "';drop-table-records;--",
    "formula": "=cmd|'/C-calc'!A0",
    "markup": "<script>alert(1)</script>",
    "terminal": "a\x1b[31mred",
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas, folded by the model, of records with these ids; one record has a NUL byte and is refused."""
    from foldatlas.jobs.fold import fold

    place = tmp_path_factory.mktemp("hostile")
    letters = "ACDEFGHIKLMNPQRSTVWY"
    records = [
        f">{id} ; drop table records; --\n{letters[n:] + letters[:n]}\n" for n, id in enumerate(HOSTILE.values())
    ]
    records.append(">nul\0id ; drop table records\nACDEFGHIKLMNPQRSTVWYACDEF\n")
    (place / "hostile.fasta").write_text("".join(records), encoding="utf-8")
    fold([str(place / "hostile.fasta")], place / "atlas", model="nano")
    return place / "atlas"


def test_hostile_ids_come_back_as_they_were(hostile: Path, tmp_path: Path) -> None:
    """Looked up by parameter, by `structure`, and written in each format."""
    with Atlas.open(hostile) as opened:
        ids = {id for (id,) in opened.sql("SELECT id FROM proteins").rows()}
        assert ids == set(HOSTILE.values())
        for id in HOSTILE.values():
            found = opened.sql("SELECT id, len(x) > 0 FROM proteins, structure($id) AS s WHERE id = $id", {"id": id})
            assert found.rows() == [(id, True)]
            assert opened.structure(id).sequence
        assert opened.sql("SELECT count(*) FROM records").rows() == [(len(HOSTILE) + 1,)]
        assert opened.sql("SELECT outcome FROM refused").rows() == [("nul_byte",)]
        page = opened.sql("SELECT id, description FROM proteins")._repr_html_()
        assert "<script" not in page and "\x1b" not in page and "\u202e" not in page
    written = {}
    for format in FORMATS:
        with (tmp_path / format).open("wb") as file:
            query(hostile, "SELECT id, length FROM proteins ORDER BY id", format=format, file=file)
        written[format] = (tmp_path / format).read_bytes()
    ordered = sorted(HOSTILE.values(), key=lambda id: id.encode())
    assert b"\x1b" not in written["table"] and "\u202e" not in written["table"].decode()
    rows = list(csv.reader(io.StringIO(written["csv"].decode(), newline="")))
    assert [row[0] for row in rows[1:]] == ordered
    assert [line.split("\t")[0] for line in written["tsv"].decode().split("\n")[1:-1]] == ordered
    assert [row["id"] for row in json.loads(written["json"])] == ordered
    assert [json.loads(line)["id"] for line in written["jsonl"].splitlines()] == ordered
    [(back,)] = duckdb.sql(f"SELECT list(id ORDER BY id) FROM read_parquet('{tmp_path}/parquet')").fetchall()
    assert back == ordered


def test_hostile_ids_are_mapped(hostile: Path, tmp_path: Path) -> None:
    """Positions by id; in the files of other programs the ids are as they were, and nothing else is written."""
    before = {path for path in tmp_path.parent.iterdir()}
    shutil.copytree(hostile, tmp_path / "atlas")
    bundle, table = tmp_path / "map.parquetbundle", tmp_path / "map.parquet"
    project(tmp_path / "atlas", protspace=bundle, embedding_atlas=table)
    assert sorted(pq.read_table(table).column("identifier").to_pylist()) == sorted(HOSTILE.values())
    parts = bundle.read_bytes().split(b"---PARQUET_DELIMITER---")
    annotations = pq.read_table(io.BytesIO(parts[0]))
    assert sorted(annotations.column("protein_id").to_pylist()) == sorted(HOSTILE.values())
    assert set(annotations.column("description").to_pylist()) == {"%3B drop table records%3B --"}
    with Atlas.open(tmp_path / "atlas") as opened:
        sql = "SELECT count(x) FROM proteins JOIN projection USING (structure_id) WHERE id = $id"
        assert all(opened.sql(sql, {"id": id}).rows() == [(1,)] for id in HOSTILE.values())
        assert opened.sql("SELECT count(*) FROM records").rows() == [(len(HOSTILE) + 1,)]
    assert {path.name for path in tmp_path.iterdir()} == {"atlas", bundle.name, table.name}
    assert {path for path in tmp_path.parent.iterdir()} == before


def test_spreadsheets_get_no_formula_when_asked(hostile: Path, tmp_path: Path) -> None:
    sql = "SELECT id, -1 AS number, '-1.5' AS text, '=x' AS \"+name\" FROM proteins WHERE id LIKE '=%'"
    for format, separator in (("csv", ","), ("tsv", "\t")):
        with (tmp_path / format).open("wb") as file:
            query(hostile, sql, format=format, file=file, spreadsheet_safe=True)
        text = (tmp_path / format).read_bytes().decode()
        head, row = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        assert row == ["'" + HOSTILE["formula"], "-1", "-1.5", "'=x"] and head[3] == "'+name"


def test_hostile_parameters_are_values(hostile: Path, tmp_path: Path) -> None:
    """On the command line too: what the parameter has in it never becomes SQL."""
    for value in ("'; DROP TABLE records; --", "$id", "\\'", "?", "--", "/*"):
        command = [sys.executable, "-m", "foldatlas.jobs.cli", "query", hostile, "SELECT $value AS v", "-p"]
        output = subprocess.run([*command, f"value={value}", "--format", "jsonl"], capture_output=True, text=True)
        assert json.loads(output.stdout) == {"v": value}, output.stderr
