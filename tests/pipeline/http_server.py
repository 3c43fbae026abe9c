"""A real HTTP server on the loopback that injects faults on request."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Server:
    """What is served, and how. `faults` are used up, one a request: a status to answer with, or the number of body
    bytes after which the connection is dropped (negative)."""

    files: dict[str, bytes] = field(default_factory=dict)
    faults: list[int] = field(default_factory=list)
    ranges: bool = True
    etag: str = "strong"  # or "weak", or nothing
    modified: float | None = 1_700_000_000.0
    length: str = "content-length"  # or "chunked", or nothing
    requests: list[tuple[str, int]] = field(default_factory=list)  # range asked for, status given
    address: str = ""

    def url(self, name: str) -> str:
        return f"{self.address}/{name}"


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            fault = server.faults.pop(0) if server.faults else 0
            asked = self.headers.get("Range", "")
            body = server.files.get(self.path.partition("?")[0].lstrip("/"))
            status = fault if fault > 0 else 200 if body is not None else 404
            etag = f'"{hashlib.md5(body or b"").hexdigest()}"'
            if status == 200 and "If-Match" in self.headers and self.headers["If-Match"] != etag:
                status = 412
            if status != 200:
                server.requests.append((asked, status))
                self.send_error(status)
                return
            assert body is not None
            total, start = len(body), 0
            if server.ranges and (match := re.fullmatch(r"bytes=(\d+)-", asked)):
                start, status = int(match[1]), 206
            server.requests.append((asked, status))
            self.send_response(status)
            if status == 206:
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            if server.etag:
                self.send_header("ETag", etag if server.etag == "strong" else f"W/{etag}")
            if server.modified is not None:
                self.send_header("Last-Modified", formatdate(server.modified, usegmt=True))
            body = body[start:]
            if server.length == "content-length":
                self.send_header("Content-Length", str(len(body)))
            elif server.length == "chunked":
                self.send_header("Transfer-Encoding", "chunked")
            self.close_connection = True
            self.end_headers()
            sent = body if fault == 0 else body[:-fault]
            with suppress(ConnectionError):  # who asks may have seen enough
                self._send(sent, whole=fault == 0)

        def _send(self, sent: bytes, *, whole: bool) -> None:
            if server.length == "chunked":
                self.wfile.write(b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in _parts(sent)))
                if whole:
                    self.wfile.write(b"0\r\n\r\n")
            else:
                self.wfile.write(sent)

    def _parts(body: bytes) -> list[bytes]:
        return [body[start : start + 1000] for start in range(0, len(body), 1000)]

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    server.address = f"http://127.0.0.1:{listener.server_port}"
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
