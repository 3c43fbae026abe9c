"""Folders on this machine's disk to work in, where the atlas itself is on a store."""

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from foldatlas.atlas.storage.commit import attempt_name, owner_is_dead
from foldatlas.atlas.storage.protocol import Storage

_PREFIX: Final = "foldatlas-"


@contextlib.contextmanager
def work_folder() -> Iterator[Path]:
    """A new folder under TMPDIR, for this user alone, deleted at the end."""
    work = Path(tempfile.gettempdir()) / f"{_PREFIX}{attempt_name()}"
    work.mkdir(mode=0o700)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def sweep_work_folders() -> None:
    """Deletes those that dead processes of this user left behind."""
    for old in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            is_ours = old.is_dir() and not old.is_symlink() and old.stat().st_uid == os.getuid()
            if is_ours and owner_is_dead(old.name.removeprefix(_PREFIX)):
                shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def attempt_folder(parent: Path, prefix: str, suffix: str = "") -> Iterator[Path]:
    """A new folder in `parent`, named by this attempt between `prefix` and `suffix`, deleted at the end unless it was
    renamed; those of dead processes go first."""
    for old in parent.iterdir():
        is_one = old.name.startswith(prefix) and old.name.endswith(suffix)
        if is_one and owner_is_dead(old.name.removeprefix(prefix).removesuffix(suffix)):
            shutil.rmtree(old, ignore_errors=True)
    work = parent / f"{prefix}{attempt_name()}{suffix}"
    work.mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


class LocalCopies:
    """Files of an atlas as local files: those of a folder where they are, those of a store copied into `work`.

    DuckDB reads local files alone, with bounded memory and by file name.
    """

    def __init__(self, storage: Storage, work: Path):
        self._storage = storage
        self._root = storage.root.resolve() if storage.root is not None else None
        self._folder = work / "copies"
        self._stopped = threading.Event()

    def path(self, name: str) -> Path:
        """Where the file is, or will be."""
        return (self._root if self._root is not None else self._folder) / name

    def have(self, names: Iterable[str]) -> list[Path]:
        """Local paths of files, copied now if they have to be. Raises FileNotFoundError for one that is missing."""
        names = list(names)
        if self._root is None:
            self._storage.fetch(
                [name for name in names if not self.path(name).exists()], self._folder, self._stopped.is_set
            )
        return [self.path(name) for name in names]

    def stop(self) -> None:
        """Ends copying, from another thread."""
        self._stopped.set()

    def drop(self, table: str) -> None:
        """Deletes the copies of a table."""
        if self._root is None:
            shutil.rmtree(self._folder / table, ignore_errors=True)
