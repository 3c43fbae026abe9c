"""Files on Google's store, by Google's own library from a server on the loopback that answers as theirs does.

The library is not among the tests' tools: where it is installed, importing Beam warns of one of its parts.
"""

import base64
import hashlib
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from foldatlas.pipeline.sources import remote
from foldatlas.pipeline.sources.find import find_sources
from foldatlas.pipeline.sources.remote import RemoteStream
from foldatlas.schemas.errors import SourceError

pytest.importorskip("google.cloud.storage")

BODY = (Path(__file__).parents[2] / "examples" / "gut.fasta").read_bytes()


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, tuple[int, bytes]]]:
    """Key -> generation and content of what is in the bucket `proteins`."""
    stored = {"gut.fasta": (1, BODY), "run/a.faa": (2, b">a\nMKVL\n"), "run/deep/b.faa": (3, b">b\nMKWW\n")}

    def described(key: str) -> dict[str, object]:
        generation, body = stored[key]
        return {
            "kind": "storage#object",
            "name": key,
            "bucket": "proteins",
            "generation": str(generation),
            "size": str(len(body)),
            "updated": "2026-01-02T03:04:05.678Z",
            "etag": "abc=",
            "md5Hash": base64.b64encode(hashlib.md5(body).digest()).decode(),
        }

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            asked = dict(urllib.parse.parse_qsl(query))
            if path.endswith("/b/proteins/o"):
                found = [described(key) for key in sorted(stored) if key.startswith(asked.get("prefix", ""))]
                self.answer(200, json.dumps({"kind": "storage#objects", "items": found}).encode())
                return
            key = urllib.parse.unquote(path.rpartition("/o/")[2])
            generation, body = stored.get(key, (0, b""))
            if (
                "/b/proteins/" not in path
                or not generation
                or asked.get("generation", str(generation)) != str(generation)
            ):
                self.answer(404, b'{"error": {"code": 404, "message": "No such object"}}')
            elif asked.get("alt") == "media":
                first, last = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "bytes=0-")).groups()  # type: ignore[union-attr]
                part = body[int(first) : int(last) + 1 if last else None]
                status = 206 if "Range" in self.headers else 200
                self.send_response(status if part else 416)
                self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(body)}")
                self.send_header("Content-Length", str(len(part)))
                self.end_headers()
                self.wfile.write(part)
            else:
                self.answer(200, json.dumps(described(key)).encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(remote, "WAITS", (0.0,))
    yield stored
    server.shutdown()
    server.server_close()


def test_an_object_is_found_and_read(objects: dict[str, tuple[int, bytes]]) -> None:
    (source,) = find_sources(["gcs://proteins/gut.fasta"])
    assert (source.uri, source.size, source.etag) == ("gs://proteins/gut.fasta", len(BODY), "1")
    with RemoteStream(source.path, source.version) as stream:
        data = stream.read(1000)
        stream._drop()  # as when the connection breaks
        while block := stream.read(5000):
            data += block
    assert data == BODY


def test_patterns_and_what_is_not_there(objects: dict[str, tuple[int, bytes]]) -> None:
    assert [source.uri for source in find_sources(["gs://proteins/*/*.faa"])] == ["gs://proteins/run/a.faa"]
    with pytest.raises(SourceError, match="does not exist"):
        find_sources(["gs://proteins/none"])


def test_another_generation_is_a_change(objects: dict[str, tuple[int, bytes]]) -> None:
    (source,) = find_sources(["gs://proteins/gut.fasta"])
    objects["gut.fasta"] = (9, BODY)
    with pytest.raises(SourceError, match="changed while"):
        RemoteStream(source.path, source.version)
