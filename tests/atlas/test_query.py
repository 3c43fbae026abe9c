"""SQL on an open atlas: what it sees, and that it only reads."""

import csv
import importlib.util
import io
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.parquet.structures import StructureLocation
from foldatlas.atlas.reader import Atlas
from foldatlas.jobs.cli import main
from foldatlas.schemas.errors import DamagedAtlasError, NotAnAtlasError, QueryError, UsageError
from foldatlas.schemas.records import Settings, format_structure_id, structure_id


@pytest.fixture
def atlas(indexed):
    with Atlas.open(indexed.root) as opened:
        yield opened


@pytest.mark.parametrize(
    "sql",
    [
        "COPY proteins TO '{file}'",
        "WITH q AS (COPY proteins TO '{file}') SELECT 1",
        "EXPLAIN ANALYZE COPY proteins TO '{file}'",
        "EXPLAIN ANALYZE WITH q AS (COPY proteins TO '{file}') SELECT 1",
        "SELECT * FROM query('WITH q AS (COPY proteins TO ''{file}'') SELECT 1')",
        "SELECT 1) AS result; COPY proteins TO '{file}'; SELECT * FROM (SELECT 1",
        "EXPORT DATABASE '{file}'",
        "ATTACH '{file}' AS other",
        "CREATE TEMP TABLE x AS SELECT 1",
        "INSERT INTO records SELECT * FROM records",
        "WITH q AS (DELETE FROM records RETURNING *) SELECT * FROM q",
        "SET threads = 1",
        "PRAGMA version",
        "INSTALL httpfs",
        "SELECT 1; SELECT 2",
        "",
        "  -- nothing",
    ],
)
def test_statements_that_write_are_refused(atlas: Atlas, tmp_path: Path, sql: str) -> None:
    with pytest.raises(QueryError):
        atlas.query(sql.format(file=tmp_path / "written")).rows()
    assert list(tmp_path.iterdir()) == []


def test_the_refusal_says_what_to_do(atlas: Atlas) -> None:
    with pytest.raises(QueryError, match=r"COPY is not a query.*foldatlas export"):
        atlas.query("COPY proteins TO 'x'")
    with pytest.raises(QueryError, match="has 2 statements"):
        atlas.query("SELECT 1; SELECT 2")


def test_query_error_gives_duckdbs_message_hint_and_line(atlas: Atlas) -> None:
    with pytest.raises(QueryError, match='Did you mean "proteins"'):
        atlas.query("SELECT * FROM protein")
    with pytest.raises(QueryError, match=r'Referenced column "nosuch"(.|\n)*Candidate bindings'):
        atlas.query("SELECT nosuch FROM proteins")
    with pytest.raises(QueryError, match=r"LINE 2: +FORM proteins x y"):
        atlas.query("SELECT id\n  FORM proteins x y")
    with pytest.raises(QueryError, match="LINE 1: selct"):
        atlas.query("selct 1")


@pytest.mark.parametrize(
    ("sql", "hint"),
    [
        ("SELECT plddt FROM proteins", "the column plddt is called mean_plddt in proteins"),
        ("SELECT p.tm FROM proteins AS p", "the column tm is called tm_query in proteins"),
        ("SELECT mean_pldt FROM scores", "did you mean the column mean_plddt of scores?"),
        (
            "SELECT outcome FROM proteins",
            "outcome is a column of refused, records: join it, for example by structure_id",
        ),
    ],
)
def test_an_unknown_column_is_explained(atlas: Atlas, sql: str, hint: str) -> None:
    with pytest.raises(QueryError) as caught:
        atlas.query(sql)
    assert str(caught.value).splitlines()[0] == hint


def test_a_condition_is_explained_in_one_line(atlas: Atlas) -> None:
    for where, reason in {
        "plddt > 70": "the column plddt is called mean_plddt in proteins",
        "nosuch > 1": 'Referenced column "nosuch" not found in FROM clause!',
        "length <": "syntax error",
        "length > 3) OR (true": "syntax error",
        "id IN (SELECT id FROM nowhere)": "Table with name nowhere does not exist!",
        " ": "the condition is empty",
    }.items():
        with pytest.raises(QueryError) as caught:
            atlas.condition(where)
        assert reason in str(caught.value) and "\n" not in str(caught.value), where


def test_an_error_that_shows_only_while_rows_are_read(atlas: Atlas) -> None:
    result = atlas.query("SELECT id::INT FROM proteins")
    with pytest.raises(QueryError, match="Could not convert string"):
        result.rows()


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        ("DESCRIBE proteins", "column_name"),
        ("SHOW TABLES", "name"),
        ("SUMMARIZE settings", "column_name"),
        ("FROM settings", "model"),
        ("VALUES (1)", "col0"),
        ("WITH x AS (SELECT 1 AS a) SELECT * FROM x -- end", "a"),
        ("PIVOT (FROM proteins) ON num_unknown USING count(*) GROUP BY model", "model"),
        ("EXPLAIN SELECT 1", "explain_key"),
        ("explain analyze SELECT count(*) FROM proteins;", "explain_key"),
        ("SELECT 'é' AS \"ü;\" ; -- é ;\n ;", "ü;"),
    ],
)
def test_statements_that_read_are_accepted(atlas: Atlas, sql: str, columns: str) -> None:
    result = atlas.query(sql)
    assert result.columns[0] == columns and len(result.rows()) >= 1


def test_show_tables_names_the_parquet_views_too(atlas: Atlas) -> None:
    names = {name for (name,) in atlas.query("SHOW TABLES").rows()}
    assert {"proteins", "high_confidence", "novel", "refused", "failures", "runs", "records"} <= names
    assert {"sequences", "structures", "embeddings"} <= names


def test_parquet_views_hold_each_structure_once_as_stored(built, atlas: Atlas) -> None:
    rows = atlas.query("SELECT structure_id, x, plddt FROM Structures").rows()
    assert {row[0].bytes for row in rows} == set(built.sequences) and len(rows) == len(built.sequences)
    for identity, x, plddt in rows:
        np.testing.assert_array_equal(x, np.rint(built.positions[identity.bytes][:, 0].astype(float) * 100))
        np.testing.assert_array_equal(plddt, np.rint(built.plddt[identity.bytes].astype(float) * 100))
    planned = {
        structure_id(r.sequence) for g in built.given for rs in g.values() for r in rs if r.outcome == "accepted"
    }
    sequences = atlas.query("SELECT structure_id, sequence FROM sequences").rows()
    assert {i.bytes for i, _ in sequences} == planned and len(sequences) == len(planned)
    embedded = atlas.query("SELECT structure_id, len(mean) FROM embeddings").rows()
    assert len({i for i, _ in embedded}) == len(embedded) > 0 and {n for _, n in embedded} == {8}


def test_views_are_made_only_when_asked_for_and_from_anywhere(
    indexed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(indexed.root.parent)
    with Atlas.open(indexed.root.name) as opened:  # a relative path
        monkeypatch.chdir(indexed.root)
        made = "SELECT getvariable('atlas') IS NOT NULL"
        assert opened.query(made).rows() == [(False,)]
        assert opened.query(made + " -- structures").rows() == [(True,)]
        assert len(opened.query("FROM structures").rows()) == len(indexed.sequences)


def test_missing_embeddings_are_reported(copy: Callable) -> None:
    built = copy()
    (built.root / "plans" / f"{built.plans[1].name}.json").unlink()
    for entry in built.folder.entries().values():
        if "embeddings" in entry.files:
            built.folder.entry_path(entry.shard, 0).unlink()
    build_index(built.folder)
    with Atlas.open(built.root) as opened, pytest.raises(QueryError, match="has no embeddings: fold with --embeddings"):
        opened.query("SELECT * FROM embeddings")


def test_results_may_be_open_side_by_side_and_stream(atlas: Atlas) -> None:
    first = atlas.query("SELECT range AS i FROM range(1000000)").batches()
    assert first.read_next_batch().num_rows <= 10_000
    assert atlas.query("SELECT count(*) FROM proteins").rows()[0][0] > 0
    assert sum(batch.num_rows for batch in first) > 900_000


def test_rows_come_in_the_order_asked_for(atlas: Atlas) -> None:
    values = [v for (v,) in atlas.query("SELECT hash(range) AS h FROM range(200000) ORDER BY h DESC").rows()]
    assert values == sorted(values, reverse=True)


def test_several_processes_read_at_once(indexed) -> None:
    code = (
        "import sys; from foldatlas.atlas.reader import Atlas\n"
        "with Atlas.open(sys.argv[1]) as a: print(a.query('SELECT count(*) FROM proteins').rows()[0][0])"
    )
    with Atlas.open(indexed.root) as mine, Atlas.open(indexed.root) as also_mine:
        expected = mine.query("SELECT count(*) FROM proteins").rows()
        other = subprocess.run(
            [sys.executable, "-c", code, str(indexed.root)], capture_output=True, text=True, check=True
        )
        assert [(int(other.stdout),)] == expected == also_mine.query("SELECT count(*) FROM proteins").rows()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM range(100000000) AS a, range(100000) AS b WHERE hash(a.range + b.range) % 7 = 1",
        "SELECT a.range FROM range(100000000) AS a, range(100000) AS b WHERE hash(a.range + b.range) = 1",
    ],
)
def test_ctrl_c_ends_a_query(indexed, sql: str) -> None:
    code = (
        "import signal, sys; from foldatlas.atlas.reader import Atlas\n"
        # a process inherits that its parent ignores it, as what a script starts in the background does
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with Atlas.open(sys.argv[1]) as a:\n"
        "  try:\n"
        "    print('begun', flush=True)\n"
        "    a.query(sys.argv[2]).rows()\n"
        "  except KeyboardInterrupt: print('ended')"
    )
    command = [sys.executable, "-c", code, str(indexed.root), sql]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        try:
            assert process.communicate(timeout=300)[0] == "ended\n"
        finally:
            process.kill()


def test_folder_without_atlas_or_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAnAtlasError, match="no such folder"):
        Atlas.open(tmp_path / "nothing")
    with pytest.raises(NotAnAtlasError, match="is not an atlas"):
        Atlas.open(tmp_path)
    AtlasFolder(tmp_path / "new").create(Settings("nano", "0", 0, "fp32"))
    with pytest.raises(NotAnAtlasError, match=r"no index yet: run `foldatlas index"):
        Atlas.open(tmp_path / "new")
    (tmp_path / "new" / "atlas.duckdb").write_bytes(b"no database" * 1000)
    with pytest.raises(DamagedAtlasError, match="run `foldatlas index"):
        Atlas.open(tmp_path / "new")


def test_a_stale_index_is_known(copy: Callable) -> None:
    built = copy()
    build_index(built.folder)
    with Atlas.open(built.root) as opened:
        assert not opened.is_stale
        next((built.root / "manifest").iterdir()).unlink()
        assert opened.is_stale


def test_coordinates_by_any_name(built, atlas: Atlas) -> None:
    sequence = built.given[0]["file:///data/a.fasta"][20].sequence
    identity = structure_id(sequence)
    text = format_structure_id(identity)
    for name in ("a20", "a.fasta:a20", "file:///data/a.fasta:a20", text, text.replace("-", "").upper()):
        found = atlas.structure(name)
        assert (found.structure_id, found.sequence) == (identity, sequence)
        np.testing.assert_allclose(found.positions, built.positions[identity], atol=0.00501)
        np.testing.assert_allclose(found.plddt, built.plddt[identity], atol=0.00501)
    assert atlas.structure("b.fasta:a0").sequence != atlas.structure("a.fasta:a0").sequence


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", "no record has this id"),
        ("", "no record has this id|refused"),
        ("digits", r"refused \(digit\)"),
        ("a30", "failed"),
        ("a0", "2 structures .*source:id"),
        ("' OR true --", "no record has this id"),
    ],
)
def test_name_without_one_structure_gives_the_reason(atlas: Atlas, name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        atlas.structure(name)


def test_places_in_any_order_and_wrong_ones(atlas: Atlas) -> None:
    rows = atlas.query("SELECT structure_id, structure_file, structure_row FROM proteins ORDER BY hash(id)").rows()
    places = [StructureLocation(i.bytes, file, row) for i, file, row in rows]
    assert [s.structure_id for s in atlas.structures(places)] == [p.structure_id for p in places]
    assert list(atlas.structures([])) == []
    good = places[0]
    for wrong in (
        StructureLocation(good.structure_id, good.file, good.row + 1),
        StructureLocation(good.structure_id, good.file, 1_000_000),
        StructureLocation(good.structure_id, "structures/nothing.parquet", 0),
    ):
        with pytest.raises(DamagedAtlasError, match=r"foldatlas (index|verify)"):
            list(atlas.structures([wrong]))


def test_the_schema_explains_every_column(atlas: Atlas) -> None:
    """Each table, view and column has a meaning; proteins come first, with units; macros and functions are there."""
    schema = atlas.schema().arrow().to_pylist()
    assert [row for row in schema if not row["meaning"]] == []
    kinds = {(row["kind"], row["table"], row["name"]): row for row in schema}
    assert {kind for kind, _, _ in kinds} == {"table", "view", "column", "macro", "table macro", "function"}
    assert kinds["column", "proteins", "radius_of_gyration"]["unit"] == "angstrom"
    assert kinds["column", "proteins", "mean_plddt"]["range"] == "0 to 100"
    listed = {(table, column) for kind, table, column in kinds if kind == "column"}
    sql = "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal AND database_name = 'atlas'"
    assert set(atlas.query(sql).rows()) <= listed and len(listed) > 100


LONG = "SELECT count(*) FROM range(100_000_000_000) AS a(x) WHERE hash(x) = 1"


def test_a_statement_stops_at_its_time_limit(atlas: Atlas) -> None:
    """One that would take minutes; the connection can be used afterwards."""
    with pytest.raises(QueryError, match=r"stopped at the time limit of 0\.2 s"):
        atlas.sql(LONG, seconds=0.2).rows()
    assert atlas.sql("SELECT 1", seconds=60).rows() == [(1,)]


def test_memory_is_limited(built, tmp_path: Path) -> None:
    """DuckDB has the limit; a wrong one is refused in one line. In an atlas of this test, since all connections of a
    process to one file share it."""
    shutil.copytree(built.root, tmp_path / "atlas")
    build_index(AtlasFolder(tmp_path / "atlas"))
    with Atlas.open(tmp_path / "atlas", memory_limit="123MB") as atlas:
        assert atlas.query("SELECT current_setting('memory_limit')").rows() == [("117.3 MiB",)]
    with pytest.raises(UsageError, match="'much' is not a memory limit such as 4GB"):
        Atlas.open(tmp_path / "atlas", memory_limit="much")


def test_data_frames_have_the_rows(atlas: Atlas) -> None:
    """Of pandas, and of polars if it is installed; else the message says how to install it."""
    frame = atlas.query("SELECT id, structure_id, ptm FROM proteins ORDER BY id LIMIT 3").df()
    rows = atlas.query("SELECT id, structure_id, ptm FROM proteins ORDER BY id LIMIT 3").rows()
    assert frame.shape == (3, 3) and frame["id"].tolist() == [row[0] for row in rows]
    assert frame["structure_id"].tolist() == [str(row[1]) for row in rows]
    if importlib.util.find_spec("polars") is None:
        with pytest.raises(UsageError, match=r"\.pl\(\) needs polars: pip install polars"):
            atlas.query("SELECT 1").pl()


def test_options_of_the_command(indexed, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """`--schema`, `--time-limit`, `--memory-limit` and `--file`, as typed."""
    place = str(indexed.root)
    (tmp_path / "question.sql").write_text("SELECT 41 + 1 AS answer -- a comment")
    assert main(["query", place, "--schema", "--format", "csv"]) == 0
    schema = list(csv.DictReader(io.StringIO(capfdbinary.readouterr().out.decode())))
    assert {row["name"]: row["meaning"] for row in schema if row["table"] == "proteins"}["ptm"] == "predicted TM-score"
    assert (
        main(["query", place, "--file", str(tmp_path / "question.sql"), "--memory-limit", "1GB", "--format", "csv"])
        == 0
    )
    assert capfdbinary.readouterr().out.decode().split() == ['"answer"', "42"]
    assert main(["query", place, LONG, "--time-limit", "0.2"]) == 2
    assert b"time limit of 0.2 s" in capfdbinary.readouterr().err
    assert main(["query", place, "--schema", "SELECT 1"]) == 2
    assert b"give one of" in capfdbinary.readouterr().err
