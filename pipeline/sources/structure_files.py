"""Structure files as they were named: found in folders, patterns and buckets, and decompressed.

Archives (tar, zip) are never unpacked to the disk. The name of a member is only a label; links, devices, names
that lead out of a folder, and members that expand far too much are refused, each with a row.
"""

import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

from foldatlas.atlas.reference.read import Found, Member
from foldatlas.pipeline.sources import remote
from foldatlas.pipeline.sources.compression import compression_of, decompressed
from foldatlas.pipeline.sources.find import matching_names
from foldatlas.pipeline.sources.stores import Version, normalised, scheme_of
from foldatlas.schemas.errors import SourceError

MAX_TEXT_BYTES: Final = 1 << 30  # of one structure; the largest of the PDB have about 0.5 GB as mmCIF
MAX_RATIO: Final = 200  # structures as text compress 4 to 10 times

_HEAD_BYTES: Final = 512
_MIN_UNPACKED: Final = 64 << 20  # below this, the ratio is not checked
_ARCHIVES: Final = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".zip")
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")  # how a zip archive begins: with a member, or empty


# of zipfile: a damaged file or member, an unknown method of compression, encryption
_ZIP_ERRORS: Final = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, RuntimeError, ValueError)


class TooLarge(OSError):
    """A compressed file expands to more than any structure has."""


def find_structures(names: Sequence[str]) -> list[Found]:
    """Return the files that `names` (files, folders, patterns, addresses) refer to, each once, sorted by URI.

    An address that ends in "/" is a folder of a bucket. Raise SourceError for a name without any file.
    """
    found: dict[str, Found] = {}
    for name in names:
        for match in _expanded(name):
            file = _look(match)
            found.setdefault(file.source, file)
    if not found:
        raise SourceError(f"{', '.join(names)}: no file found: name structure files, or folders of them")
    return [found[source] for source in sorted(found)]


def _expanded(name: str) -> list[str]:
    if scheme_of(name) in ("s3", "gs") and name.endswith("/"):
        return remote.list_files(normalised(name))
    matches = []
    for match in matching_names(name):
        if scheme_of(match) or not Path(match).is_dir():
            matches.append(match)
            continue
        for path in sorted(Path(match).rglob("*")):
            is_hidden = any(part.startswith(".") for part in path.relative_to(match).parts)
            if path.is_file() and not is_hidden:
                matches.append(str(path))
    return matches


def _look(name: str) -> Found:
    if scheme_of(name):
        with remote.RemoteStream(name) as stream:
            return Found(normalised(name), name, *stream.version)
    path = Path(name)
    if not path.is_file():
        raise SourceError(f"{name} does not exist, or is not a regular file: check the path")
    status = path.stat()
    resolved = path.resolve()
    return Found(resolved.as_uri(), str(resolved), status.st_size, status.st_mtime_ns)


def is_archive(found: Found) -> bool:
    """Return whether a file has the name of a tar or zip archive."""
    return found.source.lower().endswith(_ARCHIVES)


def first_bytes(found: Found) -> bytes:
    """Return the beginning of a file, decompressed, to recognise its format."""
    with _opened(found) as stream:
        return _Limited(stream, found.size).read(_HEAD_BYTES)


def open_structures(found: Found) -> Iterator[Member]:
    """Yield the text of a file, or of each member of an archive. Never raises for its content."""
    try:
        with _opened(found) as stream:
            limited = _Limited(stream, found.size)
            head = limited.read(_HEAD_BYTES)
            if head.startswith(_ZIP) and not limited.is_compressed:
                yield from _zip_members(found)
            elif head[257:262] == b"ustar":
                yield from _members(limited.again(head))
            else:
                yield Member("", head + limited.read_all(MAX_TEXT_BYTES - len(head)))
    except TooLarge as error:
        yield Member("", None, "too_large", str(error))
    except (OSError, EOFError, SourceError, tarfile.TarError, *_ZIP_ERRORS) as error:
        yield Member("", None, "unreadable", " ".join(str(error).split())[:200])


def _opened(found: Found) -> IO[bytes]:
    if scheme_of(found.path):
        version = Version(found.size, found.mtime_ns, found.etag)
        return remote.RemoteStream(found.path, version)  # type: ignore[return-value]
    return open(found.path, "rb")


def _members(stream: Any) -> Iterator[Member]:
    count = 0
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for info in archive:
            if info.isdir():
                continue
            count += 1
            name = _label(info.name)
            if refused := _refused(name, info.isreg(), info.size):
                yield refused
                continue
            file = archive.extractfile(info)
            assert file is not None
            yield _unpacked(name, file, info.size)
    if not count:
        yield Member("", None, "empty", "the archive holds no files")


def _zip_members(found: Found) -> Iterator[Member]:
    """Yield the members of a zip archive, which is not read as a stream: its directory is at its end."""
    if scheme_of(found.path):
        raise SourceError("zip archives are read from local files: copy it to this machine, or pack it as tar")
    with zipfile.ZipFile(found.path) as archive:
        members = [info for info in archive.infolist() if not info.is_dir()]
        if sum(info.compress_size for info in members) > found.size:
            raise zipfile.BadZipFile("its members overlap")
        for info in members:
            name, mode = _label(info.filename), info.external_attr >> 16
            is_file = stat.S_IFMT(mode) in (0, stat.S_IFREG)
            if refused := _refused(name, is_file, info.file_size):
                yield refused
            elif info.file_size > max(_MIN_UNPACKED, MAX_RATIO * info.compress_size):
                yield Member(name, None, "too_large", f"it expands to {info.file_size:,} bytes")
            else:
                try:
                    with archive.open(info) as file:  # it ends after `file_size` bytes, whatever it would expand to
                        yield _unpacked(name, file, info.compress_size)
                except _ZIP_ERRORS as error:
                    yield Member(name, None, "unreadable", " ".join(str(error).split())[:200])
        if not members:
            yield Member("", None, "empty", "the archive holds no files")


def _label(name: str) -> str:
    return "".join(letter if letter.isprintable() else "_" for letter in name)


def _refused(name: str, is_file: bool, size: int) -> Member | None:
    """Return the row of a member that is not read, or None."""
    path = PurePosixPath(name)
    if not is_file or path.is_absolute() or ".." in path.parts:
        return Member(name, None, "unsafe", "its name leads out of the archive" if is_file else "not a regular file")
    if size > MAX_TEXT_BYTES:
        return Member(name, None, "too_large", f"{size:,} bytes, more than {MAX_TEXT_BYTES:,}")
    return None


def _unpacked(name: str, file: IO[bytes], size: int) -> Member:
    limited = _Limited(file, size)
    try:
        return Member(name, limited.read_all(MAX_TEXT_BYTES))
    except TooLarge as error:
        return Member(name, None, "too_large", str(error))
    except (OSError, EOFError) as error:
        return Member(name, None, "unreadable", " ".join(str(error).split())[:200])


class _Limited:
    """The content of a file, decompressed. Raises TooLarge beyond MAX_RATIO times `size`, its bytes."""

    def __init__(self, stream: IO[bytes], size: int):
        first = b""
        while len(first) < 4 and (block := stream.read(4 - len(first))):
            first += block
        self._compression = compression_of(first)
        self._stream = decompressed(_Again(first, stream), self._compression)  # type: ignore[arg-type]
        self._limit = max(_MIN_UNPACKED, MAX_RATIO * size)
        self._given = 0
        self._pending = b""

    @property
    def is_compressed(self) -> bool:
        return bool(self._compression)

    def again(self, head: bytes) -> "_Limited":
        """Put `head` back, to be read again."""
        self._pending = head + self._pending
        return self

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer at the end."""
        parts = [self._pending[:size]]
        self._pending = self._pending[size:]
        left = size - len(parts[0])
        while left and (block := self._stream.read(min(left, 1 << 20))):
            parts.append(block)
            left -= len(block)
            self._given += len(block)
            if self._compression and self._given > self._limit:
                raise TooLarge(f"it expands to more than {self._limit:,} bytes")
        return b"".join(parts)

    def read_all(self, limit: int) -> bytes:
        """Return the rest. Raise TooLarge for more than `limit` bytes."""
        content = self.read(limit + 1)
        if len(content) > limit:
            raise TooLarge(f"more than {limit:,} bytes of text")
        return content


class _Again:
    """A stream whose first bytes were read already: they are returned first."""

    def __init__(self, first: bytes, stream: IO[bytes]):
        self._first = first
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if self._first:
            first, self._first = self._first, b""
            return first
        return self._stream.read(size)

    def close(self) -> None:
        self._stream.close()
