"""A disk that fills up while shards are folded: a clean stop with one error, and the same command goes on."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.verify.atlas import verify
from foldatlas.pipeline.shards.run import fold_atlas
from foldatlas.pipeline.workers.supervisor import WorkerSpec
from foldatlas.schemas.errors import FoldAtlasError
from foldatlas.schemas.tables import SHARD_TABLES

LARGE = 64 << 20  # bytes
ROOM = 384 << 10  # what is left when folding begins: any one shard fits, half of them do not


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={LARGE}", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting needs more rights than these")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.fixture
def many(proteins: list[str]) -> list[str]:
    """240 proteins, about 700 kB of structures, for 8 shards or more."""
    both = [*proteins, *(protein[::-1] for protein in proteins)]
    return [*both, *(f"{protein}G" for protein in both)]


def resize(disk: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)


def files(folder: AtlasFolder) -> set[str]:
    return {
        str(path.relative_to(folder.root))
        for table in (*SHARD_TABLES, "manifest")
        for path in (folder.root / table).rglob("*")
    }


def listed(folder: AtlasFolder) -> set[str]:
    entries = folder.entries().values()
    tables = {file.path for entry in entries for file in entry.files.values()}
    return tables | {f"manifest/{entry.shard}.{entry.generation}.json" for entry in entries}


def test_a_full_disk_stops_the_run_and_loses_nothing(
    disk: Path,
    planned: Callable[..., AtlasFolder],
    many: list[str],
    worker: WorkerSpec,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = planned(many, disk / "atlas")
    (planned,) = folder.plans()
    resize(disk, shutil.disk_usage(disk).used + ROOM)
    with pytest.raises(FoldAtlasError, match=r"could not be written: No space left on device.*run the same command"):
        fold_atlas(folder, worker, show_progress=False)
    done = folder.entries()
    assert 0 < len(done) < len(planned.shards)
    assert files(folder) == listed(folder)  # nothing half-written is left to fill the disk
    assert caplog.records == []  # reported once, by the error
    resize(disk, LARGE)
    fold_atlas(folder, worker, show_progress=False)
    assert {name: entry for name, entry in folder.entries().items() if name in done} == done
    assert sum(entry.folded for entry in folder.entries().values()) == planned.proteins
    assert verify(folder).faults == []


def test_a_file_that_may_not_grow_is_the_same(
    tmp_path: Path,
    planned: Callable[..., AtlasFolder],
    many: list[str],
    worker: WorkerSpec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A quota, here a limit on the size of any file: what a machine without the right to mount can show."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # compiled modules would be cut short, too
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    folder = planned(many)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_192, hard))
    try:
        with pytest.raises(FoldAtlasError, match=rf"could not be written: {os.strerror(27)}.*run the same command"):
            fold_atlas(folder, worker, show_progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(folder) == listed(folder)
    fold_atlas(folder, worker, show_progress=False)
    assert verify(folder).faults == []
