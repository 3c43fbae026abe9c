"""`foldatlas weights` against a hub of our own on this machine, and what is said where there is none."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
NAME = "esm2_t6_8M_UR50D"
COMMIT = "c0ffee" + "0" * 34
FILES = {
    "config.json": b'{"model_type": "esm"}',
    "model.safetensors": b"weights" * 10_000,
    "pytorch_model.bin": b"the same as a pickle",
    "tf_model.h5": b"the same for another library",
    "README.md": b"about it",
}


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's protocol as its client asks for: what is in a repository, and its files."""

    asked: list[str]

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        repository = f"facebook/{NAME}"
        if path.startswith(f"/api/models/{repository}/tree/"):
            entries = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in FILES.items()
            ]
            return self._answer(json.dumps(entries).encode(), "application/json")
        if path.startswith(f"/api/models/{repository}"):
            siblings = [{"rfilename": name} for name in FILES]
            about = {"id": repository, "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}
            return self._answer(json.dumps(about).encode(), "application/json")
        name = path.rpartition("/")[2]
        if path.startswith(f"/{repository}/resolve/") and name in FILES:
            if self.command == "GET":
                self.asked.append(name)
            return self._answer(FILES[name], "application/octet-stream")
        self.send_error(404)

    def _answer(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


@pytest.fixture
def hub() -> Iterator[ThreadingHTTPServer]:
    Hub.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """No cache, and no hub: nobody listens on port 1."""
    return {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": "http://127.0.0.1:1"}


def test_weights_are_fetched_once_and_found(
    hub: ThreadingHTTPServer, environment: dict[str, str], run: Run, tmp_path: Path
) -> None:
    there = {**environment, "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}"}
    done = run("weights", NAME, tmp_path / "models", env=there)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "models" / NAME
    assert done.stdout == f"{folder}\n"
    assert f"--model {NAME} --weights {tmp_path / 'models'}" in done.stderr
    fetched = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert fetched == {name: FILES[name] for name in ("config.json", "model.safetensors")}
    assert "%" in done.stderr, "no progress"

    again = run("weights", NAME, tmp_path / "models", env=there)
    assert again.returncode == 0
    assert sorted(Hub.asked) == ["config.json", "model.safetensors"]

    into_cache = run("weights", NAME, env=there)
    assert into_cache.returncode == 0, into_cache.stderr
    snapshot = Path(into_cache.stdout.strip())
    assert snapshot.is_relative_to(tmp_path / "home")
    assert (snapshot / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_without_a_network_a_person_is_told_what_to_do(environment: dict[str, str], tmp_path: Path) -> None:
    """After all tries of the hub's client, whose pauses of 23 s together are left out."""
    program = "import sys, time; time.sleep = print; from foldatlas.jobs import cli; sys.exit(cli.main())"
    command = [sys.executable, "-c", program, "weights", "esmfold_v1", str(tmp_path / "models")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert done.stdout.split() == ["1", "2", "4", "8", "8"]  # the pauses; else nothing
    assert "config.json and model.safetensors or pytorch_model.bin of facebook/esmfold_v1 into DIR/" in done.stderr
    assert "esmfold_3B_v1.pt and esm2_t36_3B_UR50D.pt into DIR, and pass --weights DIR" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_name_that_is_not_published_is_refused(environment: dict[str, str], run: Run) -> None:
    done = run("weights", "esmfold_v9", env=environment)
    assert done.returncode == 2
    assert "give one of esmfold_v1, esm2_t6_8M_UR50D" in done.stderr


def test_folding_never_downloads(
    hub: ThreadingHTTPServer, environment: dict[str, str], run: Run, tmp_path: Path
) -> None:
    (tmp_path / "q.fasta").write_text(">a\nMKVLAAGIVGLC\n")
    there = {**environment, "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}"}
    done = run("fold", tmp_path / "q.fasta", tmp_path / "atlas", "--model", NAME, env=there)
    assert done.returncode == 2
    assert f"run `foldatlas weights {NAME}`" in done.stderr
    assert not (tmp_path / "atlas").exists()
    assert Hub.asked == []
