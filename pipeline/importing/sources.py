"""The sources of an import: folders, archives and single files.

A folder or an archive is one source, whose records are its files. An archive inside a folder is a source of its own.
A source is unchanged if the names, sizes and times of its files are, or else if their contents are.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from foldatlas.atlas.folder import HEADER
from foldatlas.atlas.importing.confidence_json import confidence_names
from foldatlas.atlas.reference.read import Found
from foldatlas.pipeline.importing.beside import path_beside
from foldatlas.pipeline.sources import remote
from foldatlas.pipeline.sources.find import matching_names
from foldatlas.pipeline.sources.stores import normalised, scheme_of
from foldatlas.pipeline.sources.structure_files import found_file, has_ending_of_archive
from foldatlas.schemas.errors import SourceError

FOLDER: Final = "folder"
ARCHIVE: Final = "archive"
FILE: Final = "file"
_STORES: Final = ("s3", "gs")


@dataclass(frozen=True)
class StructureSource:
    """A source as it was found.

    uri: the normalised name that records carry.
    path: opens it: an absolute path or an address; of a folder, the beginning of the paths of its files.
    kind: FOLDER, ARCHIVE or FILE.
    size: in bytes, of all files of a folder; -1 where a server does not report it.
    mtime_ns: in ns since 1970; 0 for a folder, and where a server does not report it.
    etag: of a folder, the digest of names, sizes and times of its files; of a remote file its strong ETag, or "".
    files: the files of a folder, sorted by name, relative to it.
    beside: of a local file, the name of the JSON file beside it, "" for none.
    """

    uri: str
    path: str
    kind: str
    size: int
    mtime_ns: int
    etag: str = ""
    files: tuple[str, ...] = ()
    beside: str = ""

    @property
    def name(self) -> str:
        """The name in messages: the path of a local source, else the URI."""
        return self.uri if scheme_of(self.path) else self.path

    @property
    def is_remote(self) -> bool:
        return bool(scheme_of(self.path))

    @property
    def file_name(self) -> str:
        """The last part of the path."""
        return self.path.rstrip("/").rpartition("/")[2]

    @property
    def found(self) -> Found:
        """The file or archive, to be opened."""
        return Found(self.uri, self.path, self.size, self.mtime_ns, self.etag)

    def file(self, name: str) -> Found:
        """Return a file of a folder, or beside a file, as it is now. Raise SourceError if it does not exist or is no
        regular file."""
        folder = self.path.rpartition("/")[0] if self.kind == FILE else self.path.rstrip("/")
        return found_file(f"{folder}/{name}")


def find_structure_sources(names: Sequence[str]) -> list[StructureSource]:
    """Return the sources that `names` (files, folders, patterns, addresses) refer to, each once, sorted by URI.

    An address that ends in "/" is a folder of a bucket. Raise SourceError for a name without any file, and for an
    atlas.
    """
    sources: dict[str, StructureSource] = {}
    for name in names:
        found = [source for match in _matches(name) for source in _look(match)]
        if not found:
            raise SourceError(f"{name}: no file found: give structure files, archives, or folders of them")
        for source in found:
            sources.setdefault(source.uri, source)
    return [sources[uri] for uri in sorted(sources)]


def _matches(name: str) -> list[str]:
    return [name] if scheme_of(name) in _STORES and name.endswith("/") else list(matching_names(name))


def _look(name: str) -> Iterator[StructureSource]:
    """Yield the source that `name` is, and the archives in it."""
    if scheme_of(name) in _STORES and name.endswith("/"):
        yield from _bucket_folder(normalised(name))
    elif not scheme_of(name) and Path(name).is_dir():
        yield from _folder(Path(name))
    else:
        yield _single(name)


def _single(name: str) -> StructureSource:
    found = found_file(name)
    if has_ending_of_archive(found.path):
        return StructureSource(found.source, found.path, ARCHIVE, found.size, found.mtime_ns, found.etag)
    beside, etag = "", found.etag
    if not scheme_of(name):
        path = Path(found.path)
        beside = path_beside(path.name, {one for one in confidence_names(path.name) if path.with_name(one).is_file()})
        if beside:
            status = path.with_name(beside).stat()
            etag = hashlib.sha256(f"{beside}\0{status.st_size}\0{status.st_mtime_ns}".encode()).hexdigest()
    return StructureSource(found.source, found.path, FILE, found.size, found.mtime_ns, etag, beside=beside)


def _folder(folder: Path) -> Iterator[StructureSource]:
    if (folder / HEADER).is_file():
        raise SourceError(
            f"{folder} is an atlas, whose structures are in Parquet files: `foldatlas merge` joins atlases of equal "
            "settings, and an export as pdb or cif can be imported"
        )
    names: list[str] = []
    listing = hashlib.sha256()
    total = 0
    for name in sorted(_walk(folder)):
        path = folder / name
        if has_ending_of_archive(name):
            yield _single(str(path))
            continue
        try:
            status = path.stat()
        except OSError:
            continue  # deleted since it was listed
        names.append(name)
        total += status.st_size
        listing.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    if names:
        resolved = folder.resolve()
        uri = resolved.as_uri() + "/"
        yield StructureSource(uri, str(resolved), FOLDER, total, 0, listing.hexdigest(), tuple(names))


def _walk(folder: Path) -> Iterator[str]:
    """Yield the regular files below `folder`, relative to it, without hidden ones."""
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(parent, name)
            if not name.startswith(".") and path.is_file():
                yield path.relative_to(folder).as_posix()


def _bucket_folder(address: str) -> Iterator[StructureSource]:
    names: list[str] = []
    listing = hashlib.sha256()
    total = 0
    for key in sorted(remote.list_files(address)):
        if has_ending_of_archive(key):
            yield _single(key)
            continue
        found = found_file(key)
        names.append(key.removeprefix(address))
        total += max(found.size, 0)
        listing.update(f"{key}\0{found.size}\0{found.etag or found.mtime_ns}\n".encode("utf-8", "surrogateescape"))
    if names:
        yield StructureSource(address, address, FOLDER, total, 0, listing.hexdigest(), tuple(names))
