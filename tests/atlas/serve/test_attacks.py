"""A list of attacks, each refused: paths, cursors, ranges, bodies, names of hosts, tokens, SQL, and raw bytes.

Most are asked in process. `real` is a server of uvicorn in a thread, for what a client library would not send.
"""

import asyncio
import contextlib
import json
import socket
import threading
import zlib
from collections.abc import Iterator

import pytest
import uvicorn
from built_atlas import Built
from starlette.testclient import TestClient

from foldatlas.atlas.serve.cage import landlock
from foldatlas.atlas.serve.cage.processes import SqlLimits, SqlProcesses
from foldatlas.atlas.serve.current import CurrentAtlas
from foldatlas.atlas.serve.http.app import create_app
from foldatlas.atlas.serve.http.run import config_of
from foldatlas.atlas.serve.settings import Limits, ServerSettings, token_digest

HAS_CAGE = landlock.version() >= landlock.MIN_VERSION
SECRET = "root:"  # of /etc/passwd
SETTINGS = ServerSettings(limits=Limits(header_seconds=0.5, body_seconds=2))


@pytest.fixture(scope="module")
def processes(indexed: Built) -> Iterator[SqlProcesses]:
    with SqlProcesses(indexed.folder, SqlLimits(memory_bytes=200 << 20, seconds=5, rows=100_000)) as made:
        assert made.problem is None or not HAS_CAGE
        yield made


@pytest.fixture(scope="module")
def attacked(current: CurrentAtlas, processes: SqlProcesses) -> TestClient:
    app = create_app(current, SETTINGS, processes)
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)


PATHS = [
    "/v1/structures/..%2F..%2F..%2Fetc%2Fpasswd",
    "/v1/structures/%2Fetc%2Fpasswd",
    "/v1/structures/%2e%2e%2f%2e%2e%2fatlas.json",
    "/v1/structures/..%5C..%5Catlas.json",
    "/v1/structures/a1%00.pdb",
    "/v1/structures/file:%2F%2F%2Fetc%2Fpasswd",
    "/v1/structures/http:%2F%2F127.0.0.1%2F",
    "/v1/sequences/'%20OR%201=1--",
    "/v1/sequences/a1'%3B%20DROP%20TABLE%20records%3B--",
    "/v1/proteins/%25",
    "/v1/proteins/*",
    "/fetchPredictedStructure/..%2Fatlas.json",
    "/fetchEmbedding/ESM2/..%2F..%2Fetc%2Fpasswd.bin",
    "/files/..%2Fatlas.json",
    "/files/AF-..%2F..%2Fetc%2Fpasswd-F1-model_v1.pdb",
    "/api/prediction/..%2F..%2Fatlas.json",
    "/v1/structures/" + "x" * 5_000,
    "/v1/structures/%F0%28%8C%28",
    "/v1/proteins/" + "%3A" * 900,
    "/esm/protein/api/v1alpha1/proteins/../../../../../etc/passwd",
]
QUERIES = [
    ("/v1/structures/a1", {"format": "../../etc/passwd"}),
    ("/v1/proteins", {"source": "' OR ''='", "size": 1001}),
    ("/v1/proteins", {"size": 10**9}),
    ("/v1/proteins", {"size": -1}),
    ("/v1/proteins", {"min_plddt": "nan"}),
    ("/v1/proteins", {"min_length": 2**63}),
    ("/v1/proteins", {"cluster30": "' OR 1=1"}),
    ("/v1/proteins", {"order_by": "id; DROP TABLE records"}),
    ("/v1/proteins", {"after": "WyIwMCJd"}),
    ("/v1/proteins", {"after": "A" * 5_000}),
    ("/v1/proteins", {"after": "W1sw" * 1_000}),
    ("/v1/proteins", {"after": "gASVAAAAAAAAAACMBXBvc2l4"}),  # a pickle
    ("/v1/downloads/structures.tar", {"limit": 10**12}),
    ("/v1/downloads/structures.tar", {"format": "fcz"}),
    ("/v1/clusters/structure", {"min_size": "1 OR 1=1"}),
    ("/api/sequence/summary", {"id": "MKV; rm -rf /"}),
    ("/api/sequence/summary", {"id": "M" * 20_000}),
]
STATEMENTS = [
    "COPY records TO '/var/foldatlas-attack.csv'",
    "WITH q AS (COPY records TO '/var/foldatlas-attack.csv') SELECT 1",
    "COPY (SELECT 1) TO 'structures/x.parquet'",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_csv_auto('/proc/self/environ')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM glob('/**')",
    "ATTACH '/var/foldatlas-attack.duckdb' AS x",
    "ATTACH 'atlas.duckdb' AS x (READ_ONLY false)",
    "INSTALL httpfs",
    "LOAD '/var/x.duckdb_extension'",
    "SET VARIABLE atlas = {'folder': '/'}",
    "SET enable_external_access = true",
    "PRAGMA enable_profiling",
    "CREATE SECRET s (TYPE s3)",
    "EXPORT DATABASE '/var/foldatlas-attack'",
    "SELECT getvariable('atlas')",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM arrow_scan(1, 2, 3)",
    "SELECT 1; COPY records TO '/var/foldatlas-attack.csv'",
    "SELECT * FROM query('COPY records TO ''/var/x''')",
    "FROM app",  # a variable of Python
    "SELECT * FROM range(1000000000)",
    "SELECT repeat('x', 1000000000)",
    "SELECT " + "(" * 10_000 + "1" + ")" * 10_000,
]
BODIES = [
    (b"{", "application/json"),
    (b'{"ids": []}', "application/json"),
    (json.dumps({"ids": ["x"] * 501}).encode(), "application/json"),
    (b'{"ids": ["' + b"x" * 2_000_000 + b'"]}', "application/json"),
    (b"[" * 100_000, "application/json"),
    (b'{"ids": ["a1"], "__class__": "os.system"}', "application/json"),
    (b'{"ids": [{"$ne": null}]}', "application/json"),
    (b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY y SYSTEM 'file:///etc/passwd'>]><x>&y;</x>", "application/xml"),
    (b"\x80\x04\x95", "application/octet-stream"),
    (b"ids=a1", "application/x-www-form-urlencoded"),
    (zlib.compress(b"[" * 10**7), "application/json"),  # nothing is decompressed
    (b"\xff\xfe\x00", "application/json"),
    (b"{" + b'"ids":["a1"],' * 50_000 + b'"ids":["a1"]}', "application/json"),
]


def test_the_list_is_long() -> None:
    assert len(PATHS) + len(QUERIES) + len(STATEMENTS) + len(BODIES) + len(RAW) + len(HOSTS) >= 40


def is_refusal(response) -> bool:
    """A refusal is a problem of the client's making, and shows nothing of the machine."""
    is_problem = response.headers["content-type"] == "application/problem+json"
    shows = SECRET in response.text or "Traceback" in response.text or "/var/" in response.text
    return 400 <= response.status_code < 500 and is_problem and not shows


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path[:50])
def test_paths_are_refused(attacked: TestClient, path: str) -> None:
    assert is_refusal(attacked.get(path))


@pytest.mark.parametrize(("path", "query"), QUERIES, ids=lambda value: str(value)[:50])
def test_queries_are_refused(attacked: TestClient, path: str, query: dict) -> None:
    assert is_refusal(attacked.get(path, params=query))


def test_a_condition_in_a_value_is_a_value(attacked: TestClient) -> None:
    body = attacked.get("/v1/proteins", params={"source": "' OR ''='"}).json()
    assert body == {"items": [], "next": None}


@pytest.mark.parametrize(("body", "media_type"), BODIES, ids=lambda value: str(value)[:30])
def test_bodies_are_refused(attacked: TestClient, body: bytes, media_type: str) -> None:
    response = attacked.post("/v1/batch/proteins", content=body, headers={"Content-Type": media_type})
    if body.startswith(b'{"ids":["a1"],"ids"'):  # a key that is repeated is a key: answered like one
        assert response.status_code == 200
    else:
        assert is_refusal(response)


@pytest.mark.skipif(not HAS_CAGE, reason="this kernel has no Landlock, so SQL is off")
@pytest.mark.parametrize("sql", STATEMENTS, ids=lambda sql: sql[:50])
def test_statements_are_refused(attacked: TestClient, sql: str) -> None:
    assert is_refusal(attacked.post("/v1/sql", json={"sql": sql}))


@pytest.mark.skipif(not HAS_CAGE, reason="this kernel has no Landlock, so SQL is off")
def test_parameters_do_not_become_sql(attacked: TestClient) -> None:
    given = {"sql": "SELECT count(*) AS n FROM proteins WHERE id = $id", "params": {"id": "' OR ''='"}}
    assert attacked.post("/v1/sql", json=given).json() == [{"n": 0}]


HOSTS = ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "", "[::1",
         "localhost:80:90", "169.254.169.254", "0.0.0.0"]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
def test_other_names_of_hosts_are_refused(attacked: TestClient, host: str) -> None:
    """DNS rebinding: the browser believes that this address is a name of the attacker."""
    for path in ("/healthz", "/v1/proteins", "/openapi.json", "/nowhere"):
        assert attacked.get(path, headers={"Host": host}).status_code == 421


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic YTph", f"bearer  {'a' * 31}", f"Bearer {'A' * 32}", "Bearer " + "x" * 8_000,
     f"Token {'a' * 32}", f"Bearer {'a' * 32}\x80", f"Bearer {'a' * 32} b"],
    ids=lambda header: header[:20],
)  # fmt: skip
def test_wrong_tokens_are_refused(current: CurrentAtlas, header: str) -> None:
    app = create_app(current, ServerSettings(tokens=frozenset({token_digest("a" * 32)})))
    client = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
    response = client.get("/v1/proteins", headers={"Authorization": header.encode("latin-1")})
    assert response.status_code == 401 and "a" * 31 not in response.text


def test_a_token_in_the_query_is_none(current: CurrentAtlas) -> None:
    app = create_app(current, ServerSettings(tokens=frozenset({token_digest("a" * 32)})))
    client = TestClient(app, base_url="http://localhost")
    assert client.get("/v1/sequences/a1", params={"token": "a" * 32, "access_token": "a" * 32}).status_code == 401


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "PROPFIND"])
def test_other_methods_are_refused(attacked: TestClient, method: str) -> None:
    assert attacked.request(method, "/v1/proteins").status_code == 405


def test_sql_for_others_needs_a_token_or_a_word(current: CurrentAtlas, processes: SqlProcesses) -> None:
    """Off loopback it is off, unless the operator names it."""
    open_to_all = create_app(current, ServerSettings(host="0.0.0.0"), processes)
    client = TestClient(open_to_all, base_url="http://localhost")
    assert client.get("/healthz").json()["access"] == {
        "read": "public",
        "sql": "off",
        "search": "off",
        "fold": "off",
        "metrics": "public",
    }
    assert client.post("/v1/sql", json={"sql": "SELECT 1"}).status_code == 403
    named = ServerSettings(host="0.0.0.0", public=frozenset({"sql"}))
    assert named.access("sql") == "public"
    assert ServerSettings(host="0.0.0.0", tokens=frozenset({token_digest("a" * 32)})).access("sql") == "token"


@pytest.fixture(scope="module")
def real(current: CurrentAtlas) -> Iterator[int]:
    """The port of a real server, whose limits of time are half a second."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(config_of(create_app(current, SETTINGS), SETTINGS))
    ready = threading.Event()
    started = server.startup

    async def startup(sockets=None) -> None:
        await started(sockets)
        ready.set()

    server.startup = startup
    server.capture_signals = lambda: _nothing()
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    assert ready.wait(60)
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(60)
    assert not thread.is_alive()


class _nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *error: object) -> None: ...


def sent(port: int, data: bytes) -> bytes:
    """What the server answers to bytes, until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(data)
        answer = b""
        with contextlib.suppress(ConnectionResetError):  # closed with bytes of the client unread
            while part := connection.recv(65_536):
                answer += part
        return answer


END = b"\r\nHost: localhost\r\nConnection: close\r\n\r\n"
RAW = {
    "a line break in a header": (b"GET /healthz HTTP/1.1\r\nX: a\nHost: evil" + END, 400),
    "two hosts": (b"GET /healthz HTTP/1.1\r\nHost: evil.example" + END, 400),
    "no host": (b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
    "a host in the target": (b"GET http://evil.example/healthz HTTP/1.1" + END, 404),
    "a giant header": (b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 40_000 + END, 431),
    "a giant target": (b"GET /" + b"x" * 40_000 + b" HTTP/1.1" + END, 431),
    "an endless header": (b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 400_000, 400),
    "two lengths": (b"POST /v1/sql HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2" + END, 400),
    "a length and chunks": (
        b"POST /v1/batch/proteins HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked" + END + b"0\r\n\r\n",
        422,
    ),
    "a negative length": (b"POST /v1/batch/proteins HTTP/1.1\r\nContent-Length: -1" + END, 400),
    "a giant length": (b"POST /v1/batch/proteins HTTP/1.1\r\nContent-Length: 99999999999" + END, 413),
    "a giant chunk": (
        b"POST /v1/batch/proteins HTTP/1.1\r\nTransfer-Encoding: chunked" + END + b"FFFFFF\r\n" + b"x" * 2_000_000,
        413,
    ),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 10 + b"\r\n\r\n", 400),
    "a body that does not come": (b"POST /v1/batch/proteins HTTP/1.1\r\nContent-Length: 100" + END + b"{", 408),
}


@pytest.mark.parametrize("name", RAW)
def test_raw_requests_are_refused(real: int, name: str) -> None:
    """What arrives after the limit may be answered by a reset, which can overtake the refusal."""
    data, status = RAW[name]
    answer = sent(real, data)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()) or (answer == b"" and len(data) > 100_000), answer[:200]


@pytest.mark.parametrize("data", [b"", b"GET /heal", b"GET /healthz HTTP/1.1\r\nX: "], ids=["none", "line", "header"])
def test_a_slow_header_is_cut_off(real: int, data: bytes) -> None:
    """The connection ends by the server's limit: the client sends no more and waits."""
    assert sent(real, data) == b""


def test_a_slow_second_request_is_cut_off(real: int) -> None:
    """After a whole request on the same connection, too, by the limit of headers and not of idle connections."""
    answer = sent(real, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /heal")
    assert answer.startswith(b"HTTP/1.1 200") and answer.count(b"HTTP/1.1") == 1


def test_header_injection_by_names_is_impossible(attacked: TestClient, real: int) -> None:
    """Names come back in headers only as structure ids."""
    answer = sent(real, b"GET /v1/structures/a1%0d%0aX-Injected:%20yes HTTP/1.1" + END)
    assert answer.startswith(b"HTTP/1.1 404") and b"\r\nX-Injected" not in answer
    assert attacked.get("/v1/structures/a1").headers["content-disposition"].count('"') == 2
