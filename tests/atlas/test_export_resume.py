"""Exports that are killed, stopped or written by several processes end as one that was not."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from process_workers import Pids

from foldatlas.atlas.export import chunk_writers, subset
from foldatlas.atlas.export.processes import in_processes
from foldatlas.atlas.export.subset import export
from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.storage.protocol import file_sha256
from foldatlas.schemas.errors import ForeignFolderError, UsageError, WorkerDied

# Kills itself when it has written the files of the third chunk, before its document.
KILLED = """
import os, signal, sys
from foldatlas.atlas.export import chunk_writers, subset
subset.ROWS = 20
write = chunk_writers.write_chunk
def write_chunk(storage, number, chunk):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    write(storage, number, chunk)
chunk_writers.write_chunk = write_chunk
subset.PROTEINS_PER_PARQUET_FILE = 20
subset.export(sys.argv[1], sys.argv[2], format=sys.argv[3])
"""

# Kills itself with two processes at work, and prints their ids.
PARENT = """
import os, signal, sys
sys.path[:0] = {path!r}
from itertools import count
from foldatlas.atlas.export.processes import in_processes
from process_workers import Pids
if __name__ == "__main__":
    seen = set()
    for _, pid in in_processes(Pids(), count(), 2):
        seen.add(pid)
        if len(seen) == 2:
            print(*seen, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
"""

TIMED = ("manifest.json", "SHA256SUMS", "atlas.json", "atlas.duckdb", "files.jsonl", "plans")


def digests(folder: Path, timed: tuple[str, ...] = TIMED[:2]) -> dict[str, str]:
    found = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {str(name): "" if name.parts[0] in timed else file_sha256(path) for name, path in found.items()}


def kill_export(atlas: Path, dest: Path, format: str) -> Path:
    done = subprocess.run([sys.executable, "-c", KILLED, atlas, dest, format], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not dest.exists()
    return dest.with_name(f".{dest.name}.exporting")


@pytest.mark.parametrize("format", ["pdb", "tar", "parquet"])
def test_a_killed_export_resumes_to_the_same(
    indexed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    monkeypatch.setattr(subset, "ROWS", 20)
    monkeypatch.setattr(subset, "PROTEINS_PER_PARQUET_FILE", 20)
    unfinished = kill_export(indexed.root, tmp_path / "out", format)
    for name in ("proteins-00002.parquet", "structures/x.parquet", "SHA256SUMS"):  # killed while writing these
        path = unfinished / f"{name.rpartition('/')[0]}/.{name.rpartition('/')[2]}.host_1_00000000.part"
        if path.parent.is_dir():
            path.write_bytes(b"PAR1")
    written: list[int] = []
    write = chunk_writers.write_chunk

    def write_chunk(storage: Any, number: int, chunk: Any) -> None:
        written.append(number)
        write(storage, number, chunk)

    monkeypatch.setattr(chunk_writers, "write_chunk", write_chunk)
    done = export(indexed.root, tmp_path / "out", format=format)
    assert done.resumed == 2 and written == list(range(2, 2 + len(written))) and len(written) > 1
    clean = export(indexed.root, tmp_path / "clean", format=format)
    assert (done.proteins, done.files) == (clean.proteins, clean.files)
    timed = TIMED if format == "parquet" else TIMED[:2]
    ours, theirs = digests(tmp_path / "out", timed), digests(tmp_path / "clean", timed)
    if format == "parquet":  # a plan is named by its contents, not by its time
        assert sorted(os.listdir(tmp_path / "out" / "plans")) == sorted(os.listdir(tmp_path / "clean" / "plans"))
    assert ours == theirs and len(ours) > 10
    summed = (tmp_path / "out" / "SHA256SUMS").read_text().splitlines()
    assert all(file_sha256(tmp_path / "out" / line[66:]) == line[:64] for line in summed)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean", "out"]


@pytest.mark.parametrize(
    "damage",
    [lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"), lambda path: path.write_bytes(b""), Path.unlink],
    ids=["changed", "empty", "gone"],
)
def test_files_that_a_crash_lost_are_written_again(
    indexed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], object]
) -> None:
    monkeypatch.setattr(subset, "ROWS", 20)
    unfinished = kill_export(indexed.root, tmp_path / "out", "pdb")
    finished = json.loads((unfinished / ".export" / "chunks" / "000001.json").read_text())
    damage(unfinished / finished["files"][5]["file"])
    done = export(indexed.root, tmp_path / "out", format="pdb")
    assert done.resumed == 1
    export(indexed.root, tmp_path / "clean", format="pdb")
    assert digests(tmp_path / "out") == digests(tmp_path / "clean")


@pytest.mark.parametrize("change", [{"format": "cif"}, {"format": "pdb", "where": "length < 40"}])
def test_another_export_replaces_an_unfinished_one(
    indexed: Any, tmp_path: Path, change: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subset, "ROWS", 20)
    kill_export(indexed.root, tmp_path / "out", "pdb")
    done = export(indexed.root, tmp_path / "out", **change)
    export(indexed.root, tmp_path / "clean", **change)
    assert done.resumed == 0 and digests(tmp_path / "out") == digests(tmp_path / "clean")


def test_an_atlas_that_changed_is_exported_anew(copy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an export has written is of the index of then: a score that differs now makes it another export."""
    monkeypatch.setattr(subset, "ROWS", 20)
    built = copy()
    build_index(built.folder)
    kill_export(built.root, tmp_path / "out", "pdb")
    with duckdb.connect(str(built.folder.index_path)) as connection:
        connection.execute("UPDATE scores SET ptm = 0.5")
    done = export(built.root, tmp_path / "out", format="pdb")
    assert done.resumed == 0
    assert "PTM: 0.500" in next((tmp_path / "out").glob("*.pdb")).read_text()


def test_two_exports_to_one_folder_do_not_mix(indexed: Any, tmp_path: Path) -> None:
    """The second is refused while the first writes, whatever it selects, and the first ends as if alone."""

    def second(done: int, total: int) -> None:
        for format in ("pdb", "cif"):
            with pytest.raises(UsageError, match="is being written by another process"):
                export(indexed.root, tmp_path / "out", format=format)

    done = export(indexed.root, tmp_path / "out", format="pdb", progress=second)
    assert done.proteins == len(list((tmp_path / "out").glob("*.pdb"))) > 100


def test_a_folder_that_appears_meanwhile_is_kept(indexed: Any, tmp_path: Path) -> None:
    def appears(done: int, total: int) -> None:
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / "mine").write_text("mine")

    with pytest.raises(ForeignFolderError, match="was created by another process"):
        export(indexed.root, tmp_path / "out", format="fasta", progress=appears)
    assert (tmp_path / "out" / "mine").read_text() == "mine"
    (tmp_path / "out" / "mine").unlink()
    assert export(indexed.root, tmp_path / "out", format="fasta").resumed == 1


def test_processes_write_what_one_does(indexed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subset, "ROWS", 20)
    monkeypatch.setattr(subset, "RECORDS_PER_PROCESS", 10)
    seen: list[int] = []
    export(indexed.root, tmp_path / "two", format="pdb", workers=2, progress=lambda done, total: seen.append(done))
    export(indexed.root, tmp_path / "one", format="pdb")
    assert digests(tmp_path / "two") == digests(tmp_path / "one")
    assert seen == sorted(seen) and seen[0] == 0 and seen[-1] > 100


def test_errors_and_deaths_of_processes_are_raised() -> None:
    results = sorted(in_processes(Pids(), range(20), 3))
    assert [item for item, _ in results] == list(range(20))
    pids = {pid for _, pid in results}
    assert len(pids) == 3 and os.getpid() not in pids
    with pytest.raises(UsageError, match="item 7 is refused"):
        list(in_processes(Pids(refused=7), range(20), 2))
    with pytest.raises(WorkerDied, match=r"was killed \(SIGKILL; .* run the same command again to resume"):
        list(in_processes(Pids(killed_at=7), range(20), 2))
    assert {pid for _, pid in in_processes(Pids(), range(1), 2)} == {os.getpid()}  # not worth a process
    assert list(in_processes(Pids(), [], 2)) == []


def test_processes_that_cannot_start_are_an_error(tmp_path: Path) -> None:
    """A script without a guarded main module starts itself again in each process, which Python refuses."""
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import sys\n"
        f"sys.path[:0] = [{str(Path(__file__).parents[1] / 'helpers')!r}]\n"
        "from foldatlas.atlas.export.processes import in_processes\n"
        "from foldatlas.schemas.errors import WorkerDied\n"
        "from process_workers import Pids\n"
        "try:\n"
        "    list(in_processes(Pids(), [bytes(1 << 20)] * 4, 2))\n"
        "except WorkerDied as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert "ended with exit code 1: run the same command again" in done.stdout, done.stderr


def test_processes_end_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(path=[str(Path(__file__).parents[1] / "helpers")]))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2
    deadline = time.monotonic() + 60
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline, "processes outlive their parent"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_subset_folds_its_whole_source_later(indexed: Any, tmp_path: Path) -> None:
    """Its source is recorded as another version, so that the file counts as changed, not as read."""
    export(indexed.root, tmp_path / "out", format="parquet", where="length < 40")
    subset_sources = AtlasFolder(tmp_path / "out").plans()[0].sources
    whole = {source.uri: source.sha256 for plan in AtlasFolder(indexed.root).plans() for source in plan.sources}
    assert {source.uri for source in subset_sources} <= set(whole)
    assert all(source.sha256 != whole[source.uri] for source in subset_sources)
    assert all(len(source.sha256) == len(hashlib.sha256().hexdigest()) for source in subset_sources)
