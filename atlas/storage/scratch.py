"""Temporary folders on this machine, and local copies of files of a store."""

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
    """Create a folder under TMPDIR that only this user can read; delete it at the end."""
    work = Path(tempfile.gettempdir()) / f"{_PREFIX}{attempt_name()}"
    work.mkdir(mode=0o700)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def sweep_work_folders() -> None:
    """Delete work folders of this user's processes that have ended."""
    for old in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            is_ours = old.is_dir() and not old.is_symlink() and old.stat().st_uid == os.getuid()
            if is_ours and owner_is_dead(old.name.removeprefix(_PREFIX)):
                shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def attempt_folder(parent: Path, prefix: str, suffix: str = "") -> Iterator[Path]:
    """Create the folder `<prefix><attempt><suffix>` in `parent`; delete it at the end unless it was renamed.

    Folders of the same kind whose processes have ended are deleted first.
    """
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
    """Files of an atlas as local files: those of a folder in place, those of a store copied into `work`.

    DuckDB needs local files to read with bounded memory and to name the file of each row.
    """

    def __init__(self, storage: Storage, work: Path):
        self._storage = storage
        self._root = storage.root.resolve() if storage.root is not None else None
        self._folder = work / "copies"
        self._stopped = threading.Event()

    def path(self, name: str) -> Path:
        """Return the local path that a file has or will have."""
        return (self._root if self._root is not None else self._folder) / name

    def have(self, names: Iterable[str]) -> list[Path]:
        """Return the local paths of files, copied if necessary. Raise FileNotFoundError for a missing file."""
        names = list(names)
        if self._root is None:
            self._storage.fetch(
                [name for name in names if not self.path(name).exists()], self._folder, self._stopped.is_set
            )
        return [self.path(name) for name in names]

    def stop(self) -> None:
        """Interrupt copying, from another thread."""
        self._stopped.set()

    def drop(self, table: str) -> None:
        """Delete the copies of a table."""
        if self._root is None:
            shutil.rmtree(self._folder / table, ignore_errors=True)
