"""Files that appear whole or not at all, tried by real processes that race and die."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from foldatlas.atlas.parquet.files import ParquetFile
from foldatlas.atlas.storage.commit import attempt_name, commit_once, hidden, hidden_owner, owner_is_dead, replacing
from foldatlas.atlas.storage.protocol import file_sha256
from foldatlas.schemas.errors import FoldAtlasError
from foldatlas.schemas.tables import FAILURES

RACER = """
import os, sys
from pathlib import Path
from foldatlas.atlas.storage.commit import commit_once
path, start, me = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
print("ready", flush=True)
os.read(start, 1)  # returns for all at once
print(int(commit_once(path, (me * 10_000).encode())))
"""


def test_one_of_many_processes_commits(tmp_path: Path) -> None:
    path = tmp_path / "manifest" / "shard.0.json"
    start, gun = os.pipe()
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(path), str(start), chr(65 + n)],
            pass_fds=[start],
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(16)
    ]
    os.close(start)
    assert [racer.stdout.readline() for racer in racers if racer.stdout] == ["ready\n"] * 16
    os.close(gun)
    won = [chr(65 + n) for n, racer in enumerate(racers) if racer.communicate()[0] == "1\n"]
    assert len(won) == 1
    assert path.read_text() == won[0] * 10_000
    assert list(path.parent.iterdir()) == [path]


def test_the_first_content_stays(tmp_path: Path) -> None:
    assert commit_once(tmp_path / "a", b"first")
    assert not commit_once(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first"


def test_a_file_system_without_links_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(FoldAtlasError, match="hard links"):
        commit_once(tmp_path / "a", b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_replacement_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "index"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), replacing(path) as aside:
        aside.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    with replacing(path) as aside:
        aside.write_bytes(b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_owners_are_distinguished(tmp_path: Path) -> None:
    mine = attempt_name()
    assert not owner_is_dead(mine)
    assert hidden_owner(hidden(tmp_path / "a.parquet")) is not None
    assert hidden_owner(tmp_path / "a.parquet") is None
    done = subprocess.run(
        [sys.executable, "-c", "from foldatlas.atlas.storage.commit import attempt_name; print(attempt_name())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert owner_is_dead(done.stdout.strip())
    assert not owner_is_dead(done.stdout.strip().replace("_", "-elsewhere_", 1))  # cannot be checked from here
    assert not owner_is_dead("garbage") and not owner_is_dead("")


def test_a_parquet_file_appears_with_its_digest_or_not_at_all(tmp_path: Path) -> None:
    with ParquetFile(tmp_path, "failures/a.parquet", "failures", metadata={"model": "m"}) as file:
        file.write(FAILURES.empty_table())
        assert not (tmp_path / "failures" / "a.parquet").exists()
    assert file.entry is not None
    path = tmp_path / file.entry.path
    assert (file.entry.sha256, file.entry.bytes) == (file_sha256(path), path.stat().st_size)
    with pytest.raises(RuntimeError), ParquetFile(tmp_path, "failures/b.parquet", "failures") as broken:
        broken.write(FAILURES.empty_table())
        raise RuntimeError
    assert broken.entry is None
    assert [path.name for path in (tmp_path / "failures").iterdir()] == ["a.parquet"]


def test_a_link_whose_answer_was_lost_is_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS may make the link, lose the answer, and say on the second request that the name exists."""
    real = os.link

    def link_and_forget(source: Path, target: Path) -> None:
        real(source, target)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", link_and_forget)
    assert commit_once(tmp_path / "a", b"mine")
    monkeypatch.undo()
    assert not commit_once(tmp_path / "a", b"another's")


def test_process_of_another_user_counts_as_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", deny)
    assert not owner_is_dead(attempt_name())


def test_a_full_disk_leaves_no_hidden_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(OSError, match="No space"),
        ParquetFile(tmp_path, "failures/a.parquet", "failures") as file,
    ):
        file.write(FAILURES.empty_table())
    assert list((tmp_path / "failures").iterdir()) == []
