"""Weights from a hub on this machine, by `foldatlas weights` and `--model`; messages where it does not answer."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load, save

from foldatlas.folding.config import LanguageModelConfig
from foldatlas.folding.network.language_model import LanguageModel

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
    requests: int
    files: dict[str, bytes]

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        type(self).requests += 1
        repository = f"facebook/{NAME}"
        if path.startswith(f"/api/models/{repository}/tree/"):
            entries = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in self.files.items()
            ]
            return self._answer(json.dumps(entries).encode(), "application/json")
        if path.startswith(f"/api/models/{repository}"):
            siblings = [{"rfilename": name} for name in self.files]
            about = {"id": repository, "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}
            return self._answer(json.dumps(about).encode(), "application/json")
        name = path.rpartition("/")[2]
        if path.startswith(f"/{repository}/resolve/") and name in self.files:
            if self.command == "GET":
                self.asked.append(name)
            return self._answer(self.files[name], "application/octet-stream")
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
    Hub.asked, Hub.requests, Hub.files = [], 0, FILES
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def run(run_process: Run) -> Run:
    """In a process of its own: the hub's library reads the environment when it is imported."""
    return run_process


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """No cache and no hub: no server listens on port 1."""
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


def test_missing_network_names_the_manual_download(environment: dict[str, str], tmp_path: Path) -> None:
    """After all tries of the hub's client, whose pauses of 23 s together are left out."""
    models, files = tmp_path / "models", "config.json and model.safetensors or pytorch_model.bin of facebook/esmfold_v1"
    done = without_pauses(["weights", "esmfold_v1", models], environment)
    assert done.returncode == 2
    assert done.stdout.split() == ["1", "2", "4", "8", "8"]  # the pauses; else nothing
    assert f"{files} into {models}/esmfold_v1, or" in done.stderr
    assert f"esmfold_3B_v1.pt and esm2_t36_3B_UR50D.pt into {models}, and pass --weights {models}" in done.stderr
    assert "Traceback" not in done.stderr

    (tmp_path / "q.fasta").write_text(">a\nMKVLAAGIVGLC\n")
    words = ["fold", tmp_path / "q.fasta", tmp_path / "atlas", "--model", "esmfold_v1"]
    done = without_pauses(words, environment)
    assert done.returncode == 2
    assert "esmfold_v1 could not be downloaded from facebook/esmfold_v1" in done.stderr
    assert f"{files} into DIR/esmfold_v1, or" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("Retrying in 4s") == 1
    assert not (tmp_path / "atlas").exists()


def without_pauses(words: list[str | Path], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    program = "import sys, time; time.sleep = print; from foldatlas.jobs import cli; sys.exit(cli.main())"
    command = [sys.executable, "-c", program, *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_folder_named_like_a_published_model_is_not_ignored(
    hub: ThreadingHTTPServer, environment: dict[str, str], run: Run, tmp_path: Path
) -> None:
    """After `foldatlas weights NAME .` in the current folder, leaving out `--weights .` is an error that names the
    folder.
    """
    there = {**environment, "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}"}
    (tmp_path / NAME).mkdir()
    (tmp_path / "q.fasta").write_text(">a\nMKVLAAGIVGLC\n")
    done = run("embed", "q.fasta", "out.parquet", "--model", NAME, env=there, cwd=tmp_path)
    assert done.returncode == 2
    assert f"pass --model ./{NAME} to use the path" in done.stderr
    assert Hub.requests == 0


def test_a_name_that_is_not_published_is_refused(environment: dict[str, str], run: Run) -> None:
    done = run("weights", "esmfold_v9", env=environment)
    assert done.returncode == 2
    assert "use one of esmfold_v1, esm2_t6_8M_UR50D" in done.stderr


@pytest.fixture
def language_model() -> dict[str, bytes]:
    """The files of a small one, as the hub has them."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    network = LanguageModel(LanguageModelConfig(2, 16, 2, 24))
    state = {f"esm.{name}": torch.full_like(tensor, 0.5) for name, tensor in network.state_dict().items()}
    return {"config.json": json.dumps({"model_type": "esm", **sizes}).encode(), "model.safetensors": save(state)}


def test_a_model_that_is_missing_is_fetched_before_the_work(
    hub: ThreadingHTTPServer, environment: dict[str, str], language_model: dict[str, bytes], run: Run, tmp_path: Path
) -> None:
    Hub.files = language_model
    (tmp_path / "q.fasta").write_text(">a\nMKVLAAGIVGLC\n")
    embed = ("embed", tmp_path / "q.fasta", tmp_path / "out.parquet", "--model", NAME, "--weights", "models")
    there = {**environment, "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}"}
    done = run(*embed, env=there, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1 record: 1 embedded, 0 refused, 0 failed\n"
    assert f"{NAME} is not on this machine: downloading it to {tmp_path / 'models'}\n" in done.stderr
    assert "%" in done.stderr, "no progress"
    assert sorted(Hub.asked) == ["config.json", "model.safetensors"]
    assert (tmp_path / "models" / NAME / "model.safetensors").read_bytes() == Hub.files["model.safetensors"]

    fetched = Hub.requests
    (tmp_path / "out.parquet").rename(tmp_path / "first.parquet")
    assert run(*embed, env=there, cwd=tmp_path).returncode == 0
    assert Hub.requests == fetched, "what is there was asked for again"
    first, again = (pq.read_table(tmp_path / name) for name in ("first.parquet", "out.parquet"))
    assert first.equals(again) and len(first["mean"][0]) == 16


def test_a_language_model_is_fetched_for_a_new_folding_head(
    hub: ThreadingHTTPServer, environment: dict[str, str], language_model: dict[str, bytes], run: Run, tmp_path: Path
) -> None:
    Hub.files = language_model
    letters, atoms = "MKVLAAGIVGLC", 3 * 12
    chain = {
        "chain_id": "a", "cluster30": "a", "split": "train", "sequence": letters, "residue_index": list(range(12)),
        "atom_residue": [row for row in range(12) for _ in range(3)], "atom_type": [0, 1, 2] * 12,
        **{axis: [1_000 * step * (at + 1) for at in range(atoms)] for step, axis in enumerate("xyz")},
    }  # fmt: skip
    said = {"atom_type": "index into N CA C O", "coordinates": "made up, 0.001 angstrom"}
    pq.write_table(pa.Table.from_pylist([chain]).replace_schema_metadata(said), tmp_path / "chains.parquet")
    there = {**environment, "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}"}
    train = ("train", "fold", tmp_path / "chains.parquet", tmp_path / "run", "--preset", "nano", "--phases", "8x1x1")
    done = run(*train, "--language-model", NAME, "--weights", "models", "--device", "cpu", env=there, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{NAME} is not on this machine: downloading it to models\n" in done.stderr
    assert (tmp_path / "models" / NAME / "model.safetensors").read_bytes() == language_model["model.safetensors"]
    trained = load((tmp_path / "run" / "model.safetensors").read_bytes())
    fetched = load(language_model["model.safetensors"])
    assert all(torch.equal(trained[name], fetched[name]) for name in fetched if "inv_freq" not in name)


def test_a_language_model_is_not_fetched_to_fold(
    hub: ThreadingHTTPServer, environment: dict[str, str], run: Run, tmp_path: Path
) -> None:
    (tmp_path / "q.fasta").write_text(">a\nMKVLAAGIVGLC\n")
    there = {**environment, "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}"}
    done = run("fold", tmp_path / "q.fasta", tmp_path / "atlas", "--model", NAME, env=there)
    assert done.returncode == 2
    assert "is a language model, which embeds and does not fold" in done.stderr
    assert not (tmp_path / "atlas").exists()
    assert Hub.requests == 0


def test_nothing_is_fetched_for_input_that_is_not_there(
    hub: ThreadingHTTPServer, environment: dict[str, str], tmp_path: Path
) -> None:
    """Six commands in one process, which has read the hub's address."""
    files = [str(tmp_path / "none"), str(tmp_path / "out")]
    folding, language = ["--model", "esmfold_v1"], ["--model", NAME]
    commands = [
        ["fold", *files, *folding],
        ["plan", *files, *folding],
        ["embed", *files, *language],
        ["evaluate", *files, *folding],
        ["train", "lm", *files, "--preset", "nano"],
        ["train", "fold", *files, "--preset", "nano", "--language-model", NAME],
    ]
    program = f"from foldatlas.jobs.cli import main\nfor words in {commands}: print(main(words), flush=True)"
    there = {**environment, "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=there, timeout=300)
    assert done.stdout.split() == ["2"] * len(commands), done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("foldatlas ")]
    assert len(lines) == len(commands)
    for words, line in zip(commands, lines, strict=True):
        assert line.startswith(f"foldatlas {words[0]}: {tmp_path / 'none'} ")
    assert Hub.requests == 0
    assert not (tmp_path / "out").exists()


def test_nothing_is_fetched_for_a_folder_of_other_things(
    hub: ThreadingHTTPServer, environment: dict[str, str], run: Run, tmp_path: Path
) -> None:
    (tmp_path / "q.fasta").write_text(">a\nMKVLAAGIVGLC\n")
    there = {**environment, "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}"}
    done = run("fold", tmp_path / "q.fasta", tmp_path, "--model", "esmfold_v1", env=there)
    assert done.returncode == 2
    assert "q.fasta" in done.stderr and "foldatlas fold" in done.stderr
    assert Hub.requests == 0


def test_workers_never_download(hub: ThreadingHTTPServer, environment: dict[str, str]) -> None:
    """What a worker's process does to have its model, where the hub could be reached."""
    there = {**environment, "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}"}
    program = f"from foldatlas.folding import models\nmodels.load_language_model({NAME!r})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=there)
    assert f"run `foldatlas weights {NAME}`" in done.stderr
    assert Hub.requests == 0
