"""For all tests, and the processes they start: one thread, and no spinning; and a store on the loopback.

Must be said before torch is loaded. The networks of tests are so small that a second thread costs more than it gives
(on two cores one test took 30 s in place of 9 s), and threads that spin for each other lose whole time slices on a busy
machine (pipeline/supervisor.py).
"""

import contextlib
import http.client
import math
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The address of a real S3 server (moto) on the loopback."""
    pytest.importorskip("boto3")
    moto_server = pytest.importorskip("moto.server")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of the server. This process and those it starts have its settings."""
    import boto3

    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_ENDPOINT_URL", s3_endpoint),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("NO_PROXY", "127.0.0.1"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    return boto3.client("s3", region_name="us-east-1")


@dataclass
class FlakyStore:
    """A way to the server that can be told to misbehave: `fault(method, key)` says, for each request, the status to
    refuse it with, "drop" to close the connection unheard, "deaf" to do it and never answer, or nothing."""

    fault: Callable[[str, str], int | str | None] = lambda method, key: None
    requests: list[tuple[str, str]] = field(default_factory=list)

    def first(self, faults: list[int | str], method: str = "", part: str = "") -> None:
        """`faults` come one after another, on requests of `method` whose key holds `part`."""
        left, lock = list(faults), threading.Lock()

        def fault(given: str, key: str) -> int | str | None:
            with lock:
                return left.pop(0) if left and given.startswith(method) and part in key else None

        self.fault = fault


@pytest.fixture
def flaky(s3: Any, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlakyStore]:
    """AWS_ENDPOINT_URL leads here. Waits are short."""
    from foldatlas.atlas import s3_client

    store, behind = FlakyStore(), urlsplit(s3_endpoint)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def handle_one_request(self) -> None:
            with contextlib.suppress(OSError):
                super().handle_one_request()

        def forward(self) -> None:
            store.requests.append((self.command, self.path))
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fault = store.fault(self.command, self.path)
            if fault == "drop":
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            if isinstance(fault, int):
                self.send_response(fault)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            connection = http.client.HTTPConnection(behind.hostname or "", behind.port, timeout=60)
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
            if fault == "deaf":
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
            else:
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("transfer-encoding", "connection", "server", "date"):
                        self.send_header(name, value)
                if answer.getheader("Content-Length") is None:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(b"" if self.command == "HEAD" else content)
            connection.close()

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = forward

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(s3_client, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(s3_client, "_gave_up", -math.inf)
    yield store
    server.shutdown()
    server.server_close()
    thread.join()
