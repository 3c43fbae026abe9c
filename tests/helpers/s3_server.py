"""A real S3 server (moto) on the loopback, and a proxy in front of it that injects faults."""

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock
from urllib.parse import urlsplit


@contextlib.contextmanager
def served() -> Iterator[str]:
    """The address of the server, which ends with the block.

    Every request is one of S3: to find out which service is meant takes moto a fifth of the processor time of client
    and server together.
    """
    from moto.server import DomainDispatcherApplication, ThreadedMotoServer

    with mock.patch.object(DomainDispatcherApplication, "get_backend_for_host", return_value="s3"):
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        try:
            yield f"http://{host}:{port}"
        finally:
            server.stop()


def settings(endpoint: str, nowhere: Path) -> dict[str, str]:
    """The environment of a client of the server. `nowhere` is a file that does not exist."""
    return {
        "AWS_CONFIG_FILE": str(nowhere),
        "AWS_SHARED_CREDENTIALS_FILE": str(nowhere),
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }


@dataclass
class FlakyStore:
    """A proxy in front of the server that injects faults: `fault(method, key)` gives, for each request, the status to
    refuse it with, "drop" to close the connection unheard, "deaf" to do it and never answer, or nothing."""

    fault: Callable[[str, str], int | str | None] = lambda method, key: None
    requests: list[tuple[str, str]] = field(default_factory=list)
    address: str = ""

    def first(self, faults: list[int | str], method: str = "", part: str = "") -> None:
        """`faults` come one after another, on requests of `method` whose key holds `part`."""
        left, lock = list(faults), threading.Lock()

        def fault(given: str, key: str) -> int | str | None:
            with lock:
                return left.pop(0) if left and given.startswith(method) and part in key else None

        self.fault = fault


class WaitingClock:
    """In place of the module `time`: only what a thread waits counts, so that how long a busy machine takes for a
    request is no part of a test."""

    def __init__(self) -> None:
        self._thread = threading.local()

    def monotonic(self) -> float:
        return float(getattr(self._thread, "waited", 0.0))

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
        self._thread.waited = self.monotonic() + seconds


@contextlib.contextmanager
def on_the_way_to(endpoint: str) -> Iterator[FlakyStore]:
    """A way to the server at `endpoint`, which ends with the block."""
    store, behind = FlakyStore(), urlsplit(endpoint)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def handle_one_request(self) -> None:
            with contextlib.suppress(OSError):
                super().handle_one_request()

        def forward(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            store.requests.append((self.command, self.path))
            body = self.rfile.read(length)
            if len(body) < length:  # the sender was killed: a store keeps no partial object
                self.close_connection = True
                return
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

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass  # of a client that was killed

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    store.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
