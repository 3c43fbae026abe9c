"""An atlas in a folder of a file system with hard links."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from foldatlas.atlas.storage.commit import (
    commit_once,
    files_of_dead_processes,
    hidden_owner,
    owner_is_dead,
    replacing,
    sync_folder,
)
from foldatlas.atlas.storage.protocol import STAGING, Storage, Stored, file_sha256, never
from foldatlas.atlas.storage.scratch import attempt_folder
from foldatlas.schemas.errors import ForeignFolderError, UsageError


@dataclass(frozen=True)
class LocalStorage:
    """A folder of a file system with hard links."""

    root: Path

    @property
    def uri(self) -> str:
        return str(self.root)

    def resolved(self) -> "LocalStorage":
        return LocalStorage(self.root.resolve())

    def contains(self, other: Storage) -> bool:
        return other.root is not None and other.root.resolve().is_relative_to(self.root.resolve())

    def refuse_foreign(self, document: str) -> None:
        path = str(self.root.absolute())
        if "?" in path or not path.isprintable():
            raise UsageError(
                f"{path!r} contains '?' or a character that is not printable, which DuckDB cannot open: give another "
                "folder"
            )
        if self.root.exists() and not self.root.is_dir():
            raise ForeignFolderError(f"{self.root} is a file: give a folder for the atlas")
        if self.root.is_dir() and not self.exists(document):
            names = (path.name for path in self.root.iterdir() if path.name != STAGING and hidden_owner(path) is None)
            if others := sorted(names):
                raise ForeignFolderError(
                    f"{self.root} is not an atlas and is not empty (it contains {others[0]!r}): give a new folder"
                )

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def read_many(self, files: Sequence[Stored]) -> list[bytes | OSError]:
        found: list[bytes | OSError] = []
        for file in files:
            try:
                found.append(self.read(file.name))
            except OSError as error:
                found.append(error)
        return found

    def exists(self, name: str) -> bool:
        return (self.root / name).exists()

    def size(self, name: str) -> int:
        return (self.root / name).stat().st_size

    def files(self, folder: str = "", *, hidden: bool = False) -> list[Stored]:
        found = []
        for parent, folders, names in os.walk(self.root / folder):
            if not hidden:
                folders[:] = [name for name in folders if not name.startswith(".")]
                names = [name for name in names if not name.startswith(".")]
            for file in names:
                path = Path(parent, file)
                with contextlib.suppress(FileNotFoundError):  # deleted since os.walk listed it
                    status = path.stat()
                    name = path.relative_to(self.root).as_posix()
                    found.append(Stored(name, status.st_size, max(0.0, time.time() - status.st_mtime)))
        return sorted(found)

    def open(self, name: str, size: int | None = None) -> IO[bytes]:
        return (self.root / name).open("rb")

    def sha256(self, name: str) -> str:
        return file_sha256(self.root / name)

    def fetch(self, names: Iterable[str], folder: Path, stop: Callable[[], bool] = never) -> None:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.root / name, folder / name)

    def work_folder(self, prefix: str) -> contextlib.AbstractContextManager[Path]:
        return attempt_folder(self.root, prefix)

    def building(self, name: str) -> contextlib.AbstractContextManager[Path]:
        return replacing(self.root / name)

    def put(self, path: Path, name: str) -> None:
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)
        sync_folder(target.parent)

    def commit_once(self, name: str, content: bytes) -> bool:
        return commit_once(self.root / name, content)

    def delete(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    def leftovers(self, tables: Iterable[str]) -> list[str]:
        folders = [self.root / table for table in (*tables, "plans", "manifest", ".")]
        return [
            path.relative_to(self.root).as_posix() for folder in folders for path in files_of_dead_processes(folder)
        ]

    def sweep_work(self) -> None:
        staging = self.root / STAGING
        for old in staging.iterdir() if staging.is_dir() else ():
            if owner_is_dead(old.name):
                shutil.rmtree(old, ignore_errors=True)
        with contextlib.suppress(OSError):  # missing, or another driver is planning
            staging.rmdir()

    def check_commits(self, name: str) -> None:
        """Do nothing: every file system that has hard links refuses a link whose name exists."""
