"""The client against a real server: `foldatlas serve` as a user starts it, in a process of its own."""

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import gemmi
import pytest
import requests
from built_atlas import Built

from foldatlas.atlas import client as client_module
from foldatlas.atlas.client import Client, ServerError
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.serve.cage import landlock
from foldatlas.atlas.serve.search.build import build_search

TOKEN = "t" * 40


@pytest.fixture(scope="module")
def server(indexed: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server that needs a token."""
    temporary = tmp_path_factory.mktemp("temporary")
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.touch(0o600)
    tokens.write_text(TOKEN)
    command = [sys.executable, "-m", "foldatlas.jobs.cli", "serve", str(indexed.root), "--port", "0", "--log-requests"]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    process = subprocess.Popen(
        [*command, "--token-file", str(tokens)], stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stderr is not None
    lines: list[str] = []
    url = next(line for line in process.stderr if not lines.append(line) and line.startswith("serving ")).split()[-1]
    reading = threading.Thread(target=lambda: lines.extend(process.stderr), daemon=True)
    reading.start()
    yield url
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert list(temporary.iterdir()) == []  # its link of the index, and temporary files of statements
    reading.join(60)
    process.stderr.close()
    assert lines[-1].startswith("foldatlas serve: stopped"), lines[-5:]  # nothing of a library follows
    log = "".join(lines)
    assert "GET /v1/structures/{name:path} 200" in log
    assert TOKEN not in log and "a1" not in log and "Traceback" not in log


@pytest.fixture(scope="module")
def client(server: str) -> Client:
    return Client(server, token=TOKEN)


def test_look_ups_and_pages(client: Client, indexed: Built) -> None:
    assert client.health()["status"] == "ok"
    assert [row["id"] for row in client.find("sp|P12345|odd/../name")] == ["sp|P12345|odd/../name"]
    with Atlas.open(indexed.root) as atlas:
        expected = atlas.sql("SELECT id FROM proteins WHERE mean_plddt >= 70 ORDER BY structure_id, id, source").rows()
    assert [row["id"] for row in client.proteins(min_plddt=70, size=9)] == [name for (name,) in expected]
    assert len(client.sequence("a1")) == len(client.confidence("a1")["plddt"])
    assert gemmi.read_pdb_string(client.structure("a1"))[0].count_atom_sites() > 0
    assert client.structure("a1", "cif").startswith("data_")
    assert client.batch(["a1", "nobody"])["missing"] == [{"id": "nobody", "reason": "unknown"}]


@pytest.mark.skipif(landlock.version() < landlock.MIN_VERSION, reason="this kernel has no Landlock, so SQL is off")
def test_sql_gives_a_table(client: Client) -> None:
    table = client.sql("SELECT id FROM proteins WHERE id = $id", id="a1")
    assert table.to_pylist() == [{"id": "a1"}]


def test_a_search_gives_its_hits(client: Client, indexed: Built, server: str) -> None:
    """Without a search database it says how to make one; with one the server needs no restart."""
    sequence = client.sequence("a1")
    with pytest.raises(ServerError, match="foldatlas index --search"):
        client.search("sequence", sequence=sequence)
    build_search(indexed.root, indexed.root / "search")
    try:
        found = client.search("sequence", sequence=sequence, limit=3)
        assert found["state"] == "done" and found["hits"][0]["id"] == "a1" and len(found["hits"]) <= 3
    finally:
        shutil.rmtree(indexed.root / "search")


def test_a_download_appears_when_it_is_complete(client: Client, tmp_path: Path) -> None:
    client.download(tmp_path / "s.tar", max_length=40, format="cif")
    with tarfile.open(tmp_path / "s.tar") as tar:
        assert tar.getnames()[-1] == "manifest.jsonl" and len(tar.getnames()) > 10
    assert os.listdir(tmp_path) == ["s.tar"]


def test_errors_have_details(client: Client, server: str) -> None:
    with pytest.raises(ServerError, match="'nobody'") as error:
        client.structure("nobody")
    assert error.value.status == 404 and error.value.problem["title"] == "Not Found"
    with pytest.raises(ServerError, match="Authorization"):
        Client(server).find("a1")


def test_a_busy_server_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the seconds of Retry-After, unless that is beyond the time limit; other errors are raised at once."""

    def answer(status: int, **headers: str) -> requests.Response:
        made = requests.Response()
        made.status_code, made._content = status, b'{"proteins": 1}'
        made.headers.update(headers)
        made.raw = io.BytesIO()
        return made

    busy = answer(503, **{"Retry-After": "2"})
    slept, answers = [], iter([busy, busy, answer(200), busy, answer(503), answer(503, **{"Retry-After": "600"})])
    monkeypatch.setattr(client_module.time, "sleep", slept.append)
    client = Client("http://localhost:1")
    monkeypatch.setattr(client._session, "request", lambda *arguments, **options: next(answers))
    assert client.health() == {"proteins": 1} and slept == [2, 2]
    for expected in ([2, 2, 2], [2, 2, 2]):
        with pytest.raises(ServerError, match="503"):
            client.health()
        assert slept == expected
