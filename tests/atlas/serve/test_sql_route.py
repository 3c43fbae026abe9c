"""SQL over HTTP: formats, limits, the end of a statement when its client leaves."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from built_atlas import Built
from starlette.testclient import TestClient

from foldatlas.atlas.serve.cage import landlock
from foldatlas.atlas.serve.cage.processes import Running, SqlLimits, SqlProcesses
from foldatlas.atlas.serve.current import CurrentAtlas
from foldatlas.atlas.serve.http.app import create_app
from foldatlas.atlas.serve.settings import ServerSettings

pytestmark = pytest.mark.skipif(
    landlock.version() < landlock.MIN_VERSION, reason="this kernel has no Landlock, so SQL is off"
)
ENDLESS = "SELECT count(*) FROM range(100000000000), range(100000)"


@pytest.fixture(scope="module")
def processes(indexed: Built) -> Iterator[SqlProcesses]:
    with SqlProcesses(indexed.folder, SqlLimits(seconds=300, rows=200_000, processes=1, waiting=0)) as made:
        assert made.problem is None
        yield made


@pytest.fixture(scope="module")
def app(current: CurrentAtlas, processes: SqlProcesses):
    return create_app(current, ServerSettings(), processes)


@pytest.fixture(scope="module")
def asked(app) -> TestClient:
    return TestClient(app, base_url="http://localhost")


def test_rows_equal_a_page(asked: TestClient) -> None:
    assert asked.get("/healthz").json()["sql"] is None
    rows = asked.post("/v1/sql", json={"sql": "SELECT id, ptm FROM proteins ORDER BY structure_id, id, source"}).json()
    page = asked.get("/v1/proteins", params={"size": 1000}).json()["items"]
    assert rows == [{"id": row["id"], "ptm": row["ptm"]} for row in page]


def test_formats_have_their_media_types(asked: TestClient) -> None:
    body = {"sql": "SELECT id, length FROM proteins WHERE id = $id", "params": {"id": "a1"}}
    answers = {each: asked.post("/v1/sql", json={**body, "format": each}) for each in ("json", "jsonl", "csv", "arrow")}
    [row] = answers["json"].json()
    assert json.loads(answers["jsonl"].text) == row
    assert answers["csv"].text.splitlines()[1] == f'"a1",{row["length"]}'
    assert pa.ipc.open_stream(answers["arrow"].content).read_all().to_pylist() == [row]
    types = [each.headers["content-type"].partition(";")[0] for each in answers.values()]
    assert types == ["application/json", "application/jsonl", "text/csv", "application/vnd.apache.arrow.stream"]


def test_errors_of_sql_are_400(asked: TestClient) -> None:
    for sql, detail in {
        "SELEC 1": "syntax",
        "SELECT plddt FROM proteins": "plddt",
        "SELECT 'a'::INT": "Could not",
    }.items():
        response = asked.post("/v1/sql", json={"sql": sql})
        assert response.status_code == 400 and detail in response.json()["detail"]


def test_limits_of_a_request(asked: TestClient) -> None:
    assert asked.post("/v1/sql", json={"sql": "SELECT 1", "rows": 200_001}).status_code == 400
    slow = asked.post("/v1/sql", json={"sql": ENDLESS, "seconds": 0.2})
    assert slow.status_code == 400 and "time limit" in slow.json()["detail"]
    many = asked.post("/v1/sql", json={"sql": "FROM range(11)", "rows": 10})
    assert many.status_code == 400 and "more than 10 rows" in many.json()["detail"]


def test_a_large_result_is_streamed(asked: TestClient) -> None:
    response = asked.post("/v1/sql", json={"sql": "FROM range(200000)", "format": "csv", "rows": 200_000})
    assert response.text.count("\n") == 200_001


def test_the_schema_lists_columns_with_units(asked: TestClient) -> None:
    items = asked.get("/v1/schema").json()["items"]
    [column] = [each for each in items if each["table"] == "proteins" and each["name"] == "mean_plddt"]
    assert column["kind"] == "column" and column["unit"] == "pLDDT"


def test_sql_without_a_confinement_is_off(current: CurrentAtlas, indexed: Built) -> None:
    processes = SqlProcesses(indexed.folder)
    processes.problem = "processes cannot be confined: Landlock is off"
    client = TestClient(create_app(current, ServerSettings(), processes), base_url="http://localhost")
    assert client.post("/v1/sql", json={"sql": "SELECT 1"}).status_code == 503
    assert client.get("/healthz").json()["sql"] == processes.problem
    assert client.get("/v1/proteins").status_code == 200


def test_a_client_that_leaves_ends_its_statement(app, monkeypatch: pytest.MonkeyPatch) -> None:
    """The statement would run for hours; the client leaves when its process runs; the route ends and the place is free.

    A second statement, asked meanwhile, is refused, since one may run and none may wait.
    """
    closed: list[Path] = []
    close = Running.close

    def noted(self: Running) -> None:
        closed.append(self._temporary)
        close(self)

    monkeypatch.setattr(Running, "close", noted)

    async def run() -> tuple[list, list]:
        started, leave = asyncio.Event(), asyncio.Event()
        start = SqlProcesses.run

        async def noted_run(self: SqlProcesses, *given: object) -> Running:
            running = await start(self, *given)
            started.set()
            return running

        monkeypatch.setattr(SqlProcesses, "run", noted_run)
        first = asyncio.create_task(ask(app, ENDLESS, leave))
        await asyncio.wait({first, asyncio.ensure_future(started.wait())}, return_when=asyncio.FIRST_COMPLETED)
        assert started.is_set(), "the route ended before its statement began"
        second = await ask(app, "SELECT 1", asyncio.Event())
        leave.set()
        return await first, second

    first, second = asyncio.run(run())
    assert second[0]["status"] == 503 and dict(second[0]["headers"])[b"retry-after"] == b"5"
    assert first[0]["status"] == 204 and len(closed) == 1 and not closed[0].exists()
    assert TestClient(app, base_url="http://localhost").post("/v1/sql", json={"sql": "SELECT 1 AS a"}).json() == [
        {"a": 1}
    ]


async def ask(app, sql: str, leave: asyncio.Event) -> list:
    """What a route sends to a client that leaves at an event."""
    sent: list = []
    waiting = iter([{"type": "http.request", "body": json.dumps({"sql": sql}).encode(), "more_body": False}])

    async def receive() -> dict:
        for message in waiting:
            return message
        await leave.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/v1/sql", "raw_path": b"/v1/sql", "query_string": b"", "root_path": "", "client": ("127.0.0.1", 1),
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")], "server": ("localhost", 80),
    }  # fmt: skip
    await app(scope, receive, send)
    return sent
