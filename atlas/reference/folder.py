"""The files of a reference database.

versions/<number>.json    one document per version (`reference_tables.ReferenceVersion`), written last
data/<folder>/            the files of one version, never changed
.staging/                 files of an unfinished run
.lock                     held by the run that writes
"""

import contextlib
import fcntl
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from foldatlas.atlas.storage.commit import commit_once, hidden_owner
from foldatlas.schemas.errors import DamagedAtlasError, ForeignFolderError, UsageError
from foldatlas.schemas.reference_tables import REFERENCE_FORMAT, ReferenceVersion

_VERSION: Final = re.compile(r"(\d{6})\.json")
_OURS: Final = ("versions", "data", ".staging", ".lock", "downloads")


@dataclass(frozen=True)
class ReferenceFolder:
    """File names and committed versions of a database."""

    root: Path

    @classmethod
    def named(cls, path: str | Path) -> "ReferenceFolder":
        """Return the database at `path`. Raise UsageError for an address, since databases are memory-mapped."""
        if "://" in str(path):
            raise UsageError(f"{path}: a reference database is memory-mapped: give a local folder")
        return cls(Path(path))

    @property
    def staging(self) -> Path:
        return self.root / ".staging"

    @property
    def data(self) -> Path:
        return self.root / "data"

    def document_path(self, version: int) -> Path:
        return self.root / "versions" / f"{version:06d}.json"

    def versions(self) -> list[int]:
        """Return the numbers of the committed versions, increasing."""
        folder = self.root / "versions"
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        return sorted(int(found[1]) for name in names if (found := _VERSION.fullmatch(name)))

    def document(self, version: int | None = None) -> ReferenceVersion:
        """Return the document of a version, by default of the newest.

        Raise UsageError if there is none, DamagedAtlasError if it cannot be read.
        """
        numbers = self.versions()
        if not numbers:
            raise UsageError(f"{self.root} is not a reference database: make one with `foldatlas reference`")
        if version is not None and version not in numbers:
            raise UsageError(f"{self.root} has no version {version}: choose one of {', '.join(map(str, numbers))}")
        path = self.document_path(numbers[-1] if version is None else version)
        try:
            raw: Any = msgspec.json.decode(path.read_bytes())
            number = raw.get("format") if isinstance(raw, dict) else None
            if isinstance(number, int) and number > REFERENCE_FORMAT:
                raise DamagedAtlasError(f"{path} has format {number}, this FoldAtlas reads up to {REFERENCE_FORMAT}")
            document = msgspec.convert(raw, ReferenceVersion)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise DamagedAtlasError(f"{path} is not a valid document ({error}): build the database again") from error
        if document.version != int(path.stem):
            raise DamagedAtlasError(f"{path} is of version {document.version}: build the database again")
        return document

    def commit(self, document: ReferenceVersion) -> None:
        """Commit a version. Raise UsageError if another run has committed the same number meanwhile."""
        content = msgspec.json.format(msgspec.json.encode(document, order="deterministic"), indent=1) + b"\n"
        if not commit_once(self.document_path(document.version), content):
            raise UsageError(f"{self.root}: another run committed version {document.version} meanwhile: run again")

    def refuse_foreign(self) -> None:
        """Raise ForeignFolderError if no database can be created here: the path is a file, or holds other files."""
        if self.root.exists() and not self.root.is_dir():
            raise ForeignFolderError(f"{self.root} is a file: give a folder for the reference database")
        if not self.root.is_dir() or self.versions():
            return
        others = sorted(
            path.name for path in self.root.iterdir() if path.name not in _OURS and hidden_owner(path) is None
        )
        if others:
            raise ForeignFolderError(
                f"{self.root} is not a reference database and is not empty (it contains {others[0]!r}): give a new "
                "folder"
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the database for writing, and delete files of unfinished versions.

        Raise UsageError while another run writes. The system releases the lock of a process that ends.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(f"{self.root} is being written by another run: wait for it, or stop it") from error
            listed = {self.document(version).folder for version in self.versions()}
            for path in self.data.iterdir() if self.data.is_dir() else ():
                if path.name not in listed:
                    shutil.rmtree(path, ignore_errors=True)
            yield

    def forget(self, keep: int) -> list[int]:
        """Delete all but the newest `keep` versions and return their numbers. Open readers keep their arrays."""
        old = self.versions()[:-keep] if keep else []
        for version in old:
            folder = self.document(version).folder
            self.document_path(version).unlink()
            shutil.rmtree(self.data / folder, ignore_errors=True)
        return old
