"""The confinement of SQL: what the parser refuses, and what the operating system refuses without it."""

import asyncio
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from built_atlas import Built

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.serve.cage import landlock
from foldatlas.atlas.serve.cage.frames import DATA, HEAD
from foldatlas.atlas.serve.cage.processes import CageError, SqlLimits, SqlProcesses
from foldatlas.atlas.serve.cage.query import SqlRequest
from foldatlas.atlas.serve.cage.statement import check, columns_of
from foldatlas.schemas.errors import QueryError

pytestmark = pytest.mark.skipif(
    landlock.version() < landlock.MIN_VERSION, reason="this kernel has no Landlock, so SQL is off"
)

TABLES = {"proteins", "records", "annotation.biome"}


def rows(processes: SqlProcesses, sql: str, *, params=None, format: str = "json", limit: int = 1000, seconds=20.0):
    """The result of a statement; raises what the process reports."""

    async def collect() -> bytes:
        running = await processes.run(SqlRequest(sql, params, format, limit, seconds))
        try:
            return b"".join([data async for kind, data in running.frames() if kind == DATA])
        finally:
            running.close()

    data = asyncio.run(collect())
    return json.loads(data) if format == "json" else data


@pytest.fixture(scope="module")
def unchecked(indexed: Built) -> Iterator[SqlProcesses]:
    """Processes without the parser's check: only DuckDB and the operating system are left."""
    limits = SqlLimits(memory_bytes=200 << 20, temporary_bytes=16 << 20)
    with SqlProcesses(indexed.folder, limits, checked=False) as made:
        assert made.problem is None
        yield made


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "FROM proteins",
        "WITH a AS (SELECT id FROM proteins) SELECT * FROM a JOIN records USING (id)",
        "SELECT * FROM Proteins p, unnest([1, 2]) u WHERE p.id IN (SELECT id FROM records)",
        "VALUES (1), (2)",
        "DESCRIBE proteins",
        "SUMMARIZE SELECT length FROM proteins",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 5) FROM r",
        "SELECT id FROM proteins UNION SELECT id FROM records ORDER BY ALL LIMIT 3",
        "FROM annotation.biome",
        "FROM main.proteins",
        "SELECT * FROM residues('a1') -- a comment; with a semicolon",
    ],
)
def test_a_select_of_tables_is_accepted(sql: str) -> None:
    check(duckdb.connect(), sql, TABLES)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1; SELECT 2",
        "COPY proteins TO '/var/x'",
        "WITH q AS (COPY proteins TO '/var/x') SELECT 1",
        "WITH q AS (INSERT INTO records VALUES (1) RETURNING *) FROM q",
        "INSERT INTO records VALUES (1)",
        "UPDATE records SET id = 1",
        "DELETE FROM records",
        "CREATE TABLE x AS SELECT 1",
        "DROP TABLE records",
        "ATTACH '/var/x.duckdb'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET VARIABLE atlas = 1",
        "SET memory_limit = '1TB'",
        "RESET memory_limit",
        "PRAGMA database_list",
        "CALL pragma_version()",
        "EXPORT DATABASE '/var/x'",
        "CHECKPOINT",
        "USE memory",
        "PREPARE x AS SELECT 1",
        "EXECUTE x",
        "EXPLAIN ANALYZE SELECT 1",
        "BEGIN",
        "FROM read_csv('/etc/passwd')",
        "FROM read_text('/etc/passwd')",
        "FROM read_blob('/etc/passwd')",
        "FROM read_parquet('structures/*')",
        "FROM parquet_metadata('x')",
        "FROM glob('/*')",
        "FROM '/etc/passwd'",
        "FROM 'x.csv'",
        'FROM "structures/a.parquet"',
        "FROM sniff_csv('/etc/passwd')",
        "FROM query('SELECT 1')",
        "FROM query_table('records')",
        "FROM duckdb_settings()",
        "FROM duckdb_secrets()",
        "FROM arrow_scan(1, 2, 3)",
        "FROM python_map_function(1)",
        "FROM json_execute_serialized_sql('x')",
        "FROM seq_scan('x')",
        "FROM information_schema.tables",
        "FROM sqlite_master",
        "FROM pg_catalog.pg_class",
        "FROM files",
        "SHOW TABLES",
        "SHOW ALL TABLES",
        "SELECT getvariable('atlas')",
        "SELECT current_setting('temp_directory')",
        "SELECT getenv('HOME')",
        "SELECT files_at('/')",
        "SELECT write_log('x')",
        "SELECT (SELECT content FROM read_text('/etc/passwd'))",
        "SELECT * FROM proteins WHERE id IN (FROM '/etc/passwd')",
        "SELECT system.main.getvariable('atlas')",
        "FROM proteins JOIN read_text('/etc/passwd') ON true",
        "FROM (PIVOT '/etc/passwd' ON a USING sum(b))",
        "SELECT list_transform([1], x -> getvariable('atlas'))",
        "SELECT $a",
        "SELECT 1 FROM os",
        'WITH "/etc/passwd" AS (SELECT 1) FROM "/etc/passwd"',
        "SELECT * FROM (WITH \"x.csv\" AS (SELECT 1) SELECT 1), 'x.csv'",
        "SELEC 1",
        "",
        "SELECT '\0'",
        "SELECT " + "(" * 5000 + "1" + ")" * 5000,
        "SELECT '" + "x" * 200_000 + "'",
    ],
)
def test_anything_else_is_refused(sql: str) -> None:
    with pytest.raises((QueryError, duckdb.Error)):
        check(duckdb.connect(), sql, TABLES)


def test_the_process_answers_like_the_atlas(unchecked: SqlProcesses) -> None:
    assert rows(unchecked, "SELECT count(*) AS n FROM proteins") == [{"n": 195}]
    assert rows(unchecked, "SELECT id FROM proteins WHERE id = $id", params={"id": "a1"}) == [{"id": "a1"}]
    assert rows(unchecked, "SELECT len(c_alphas(s)) AS n FROM structure('a1') AS s")[0]["n"] > 4
    assert rows(unchecked, "SELECT round(tm_score(s, s), 3) AS tm FROM structure('a1') AS s") == [{"tm": 1.0}]


OUTSIDE = "/etc/hostname"


def state_of(root: Path) -> dict[Path, tuple[int, int]]:
    """Each file and folder with its size and time."""
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(root.rglob("*"))}


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT * FROM read_text('{OUTSIDE}')",
        "SELECT * FROM read_csv('/proc/self/environ')",
        "SELECT * FROM read_text('../' || 'outside.txt')",
        "SELECT * FROM glob('/*')",
        "COPY (SELECT 1) TO '{temporary}/written.csv'",
        "COPY (SELECT 1) TO 'structures/written.parquet'",
        "COPY (SELECT 1) TO '{victim}'",
        "ATTACH '{temporary}/new.duckdb'",
        "EXPORT DATABASE '{temporary}/exported'",
        "INSTALL httpfs",
        "SELECT * FROM 'https://example.org/x.csv'",
    ],
)
def test_without_the_parser_the_system_refuses(
    unchecked: SqlProcesses, indexed: Built, tmp_path: Path, sql: str
) -> None:
    """DuckDB's own settings are inside the process that may be taken over, so `escapes` shows the rest."""
    victim = next((indexed.root / "structures").iterdir())
    before = state_of(indexed.root)
    with pytest.raises((QueryError, CageError)):
        rows(unchecked, sql.format(temporary=tmp_path, victim=victim))
    assert state_of(indexed.root) == before
    assert list(tmp_path.iterdir()) == []


ALONE = """
import json, os, sys, tempfile
from pathlib import Path
import duckdb
from foldatlas.atlas.serve.cage.confine import Confinement, confine
from foldatlas.atlas.serve.cage.template import CONTROL_GROUPS

root, victim, outside, temporary = map(Path, sys.argv[1:5])
readable = (*CONTROL_GROUPS, root / "atlas.duckdb", root / "structures")
confine(Confinement(readable, temporary, 1 << 30, 60, 1 << 20))
found = {}
for sql in json.loads(sys.argv[5]):
    connection = duckdb.connect(str(root / "atlas.duckdb"), read_only=True, config={"temp_directory": str(temporary)})
    try:
        connection.execute(sql).fetchall()
        found[sql] = "done"
    except duckdb.Error as error:
        found[sql] = str(error)
    connection.close()
sys.stdout.write(json.dumps(found))
"""


def test_the_system_alone_refuses(indexed: Built, tmp_path: Path) -> None:
    """DuckDB without any lock of its own, in a confined process: it reads the atlas and nothing else, it writes to its
    temporary folder and nowhere else, and there only files up to the limit."""
    victim = next((indexed.root / "structures").iterdir())
    outside, temporary, new = tmp_path / "outside.csv", tmp_path / "temporary", tmp_path / "new"
    outside.write_text("a,b\n1,2\n")
    temporary.mkdir()
    may = {
        "SELECT count(*) FROM scores",
        f"SELECT count(*) FROM read_parquet('structures/{victim.name}')",
        f"COPY (SELECT 1 AS a) TO '{temporary}/small.csv'",
    }
    may_not = {
        f"SELECT * FROM read_csv('{outside}')",
        f"SELECT * FROM read_text('{OUTSIDE}')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_blob('/proc/self/environ')",
        "SELECT * FROM read_text('/proc/1/cmdline')",
        f"SELECT * FROM read_text('{indexed.root}/atlas.json')",
        f"COPY (SELECT 1 AS a) TO '{victim}'",
        f"COPY (SELECT 1 AS a) TO '{indexed.root}/structures/new.parquet'",
        f"COPY (SELECT 1 AS a) TO '{new}.csv'",
        f"COPY (SELECT repeat('x', 1000) FROM range(100000)) TO '{temporary}/large.csv'",
        f"ATTACH '{new}.duckdb'",
        f"EXPORT DATABASE '{new}'",
        "INSTALL httpfs FROM 'http://127.0.0.1:9'",
    }
    before = state_of(indexed.root)
    arguments = [indexed.root, victim, outside, temporary, json.dumps([*may, *may_not])]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
    ran = subprocess.run(
        [sys.executable, "-c", ALONE, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=indexed.root,
    )
    found = json.loads(ran.stdout)
    assert {sql for sql, answer in found.items() if answer == "done"} == may, ran.stderr
    assert state_of(indexed.root) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside.csv", "temporary"]


def test_a_confinement_with_a_hole_turns_sql_off(indexed: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe reports what a process can do: here its parent lets it."""
    monkeypatch.setattr(SqlProcesses, "_probe", _probe_with_a_hole)
    with SqlProcesses(indexed.folder) as processes:
        assert processes.problem == "the confinement does not hold: a process could read /etc/passwd"
        with pytest.raises(CageError, match="does not hold"):
            asyncio.run(processes.run(SqlRequest("SELECT 1", None, "json", 1, 1)))


async def _probe_with_a_hole(self: SqlProcesses) -> list[str]:
    return ["read /etc/passwd"]


def test_an_unconfined_process_fails_the_probe(indexed: Built) -> None:
    """Without confinement nearly everything of the list is possible, so the list can fail. In a copy, in a process."""
    script = (
        "import json, sys; from pathlib import Path; from foldatlas.atlas.serve.cage.confine import escapes;"
        "print(json.dumps(escapes(Path(sys.argv[1]), Path(sys.argv[1]) / 'index')))"
    )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "index").write_bytes(b"x")
        ran = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True)
    possible = json.loads(ran.stdout)
    Path("/tmp/.foldatlas-cage").unlink(missing_ok=True)
    assert {"read /etc/passwd", "write the index", "open a socket", "run a program", "write into the atlas"} <= set(
        possible
    )


def test_memory_and_time_are_limited(unchecked: SqlProcesses) -> None:
    large = "SELECT len(list(repeat(i::VARCHAR, 1000))) FROM range(10000000) t(i)"
    with pytest.raises((QueryError, CageError), match=r"memory|Memory|Out of"):
        rows(unchecked, large)
    with pytest.raises(QueryError, match=r"time limit of 0\.2 s"):
        rows(unchecked, "SELECT count(*) FROM range(100000000000), range(100000)", seconds=0.2)
    assert rows(unchecked, "SELECT 1 AS a") == [{"a": 1}]


def test_more_rows_than_allowed_are_an_error(unchecked: SqlProcesses) -> None:
    assert len(rows(unchecked, "FROM range(10)", limit=10)) == 10
    with pytest.raises(QueryError, match="more than 10 rows"):
        rows(unchecked, "FROM range(11)", limit=10)


def test_formats_are_those_of_query(unchecked: SqlProcesses) -> None:
    sql = "SELECT i, i::VARCHAR AS t, [i] AS l FROM range(3) AS r(i)"
    assert rows(unchecked, sql, format="csv").decode().splitlines()[1] == '0,"0","[0]"'
    assert [json.loads(line) for line in rows(unchecked, sql, format="jsonl").splitlines()] == rows(unchecked, sql)
    table = pa.ipc.open_stream(rows(unchecked, sql, format="arrow")).read_all()
    assert table.to_pylist() == rows(unchecked, sql)


def test_a_new_index_is_read_by_the_next_statement(built: Built, tmp_path: Path) -> None:
    root = tmp_path / "atlas"
    shutil.copytree(built.root, root)
    entry = root / "manifest" / f"{built.plans[1].shards[2].name}.0.json"
    shutil.move(entry, tmp_path)
    build_index(AtlasFolder(root))
    with SqlProcesses(AtlasFolder(root)) as processes:
        [before] = rows(processes, "SELECT count(*) AS n FROM scores")
        shutil.move(tmp_path / entry.name, entry)
        build_index(AtlasFolder(root))
        [after] = rows(processes, "SELECT count(*) AS n FROM scores")
        assert after["n"] > before["n"] > 0


def test_a_killed_template_is_started_again(unchecked: SqlProcesses) -> None:
    assert unchecked._template is not None
    unchecked._template.kill()
    unchecked._template.wait()
    assert rows(unchecked, "SELECT 1 AS a") == [{"a": 1}]


def test_a_killed_process_is_an_error(unchecked: SqlProcesses) -> None:
    """Killed before it can answer: it counts for minutes."""

    async def kill() -> None:
        running = await unchecked.run(
            SqlRequest("SELECT count(*) FROM range(100000000000), range(100000)", None, "json", 1, 300)
        )
        signal.pidfd_send_signal(running._process, signal.SIGKILL)
        try:
            with pytest.raises(CageError, match="ended before its result"):
                await anext(running.frames())
        finally:
            running.close()

    asyncio.run(kill())


def test_closing_kills_the_process(unchecked: SqlProcesses) -> None:
    """The process that nobody waits for any more is gone, and so are its temporary files."""

    async def leave() -> tuple[int, Path]:
        running = await unchecked.run(
            SqlRequest("SELECT count(*) FROM range(100000000000), range(100000)", None, "json", 1, 300)
        )
        process = os.dup(running._process)
        running.close()
        return process, running._temporary

    process, temporary = asyncio.run(leave())
    assert select.select([process], [], [], 60)[0] == [process]  # readable: the process has ended
    os.close(process)
    assert not temporary.exists()


def test_head_has_columns_and_types(unchecked: SqlProcesses) -> None:
    async def first() -> tuple[bytes, bytes]:
        running = await unchecked.run(SqlRequest("SELECT 1 AS a, 'x' AS b", None, "json", 1, 10))
        try:
            return await anext(running.frames())
        finally:
            running.close()

    kind, data = asyncio.run(first())
    assert kind == HEAD and json.loads(data) == {"columns": ["a", "b"], "types": ["INTEGER", "VARCHAR"]}


@pytest.mark.parametrize(
    ("expression", "columns"),
    [
        ("ptm > 0.5 AND Length::INTEGER IN (1, 2)", {"ptm", "length"}),
        ("proteins.id LIKE 'a%' OR CASE WHEN ptm IS NULL THEN true END", {"id", "ptm"}),
        ("true", set()),
        ("id IN (SELECT id FROM sites)", None),
        ("COLUMNS('ptm|id') > 1", None),
        ("#1 > 2", None),
        ("list_filter([1], x -> x > ptm) = [1]", None),
        ("other.ptm > 1", None),
        ("max(ptm) OVER () > 1", None),
    ],
)
def test_columns_of_a_condition_are_known_or_not(expression: str, columns: set[str] | None) -> None:
    """Not where other columns than those that are named could decide what it means."""
    assert columns_of(duckdb.connect(), f"(\n{expression}\n)") == columns
