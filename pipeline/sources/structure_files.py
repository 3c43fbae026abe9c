"""Structure files as they were named: found in folders, patterns and buckets, and decompressed.

Archives (tar, zip) are never unpacked to the disk. The name of a member is only a label; links, devices, names
that lead out of a folder, and members that expand far too much are refused, each with a row. An archive that is
damaged, or whose own tables are too large, ends with a row that has no name and the reason.
"""

import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final, Self

from foldatlas.atlas.reference.read import Found, Member
from foldatlas.pipeline.sources import remote
from foldatlas.pipeline.sources.compression import compression_of, decompressed
from foldatlas.pipeline.sources.find import matching_names
from foldatlas.pipeline.sources.stores import Version, normalised, scheme_of
from foldatlas.schemas.errors import SourceError

MAX_TEXT_BYTES: Final = 1 << 30  # of one structure; the largest of the PDB have about 0.5 GB as mmCIF
MAX_RATIO: Final = 200  # structures as text compress 4 to 10 times

MAX_HEADER_BYTES: Final = 1 << 20  # of a long name or of attributes of a member of a tar archive
MAX_DIRECTORY_BYTES: Final = 256 << 20  # of a zip archive: some 2 million members, of 0.5 kB each in memory

_HEAD_BYTES: Final = 512
_MIN_UNPACKED: Final = 64 << 20  # below this, the ratio is not checked
_ARCHIVES: Final = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".zip")
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")  # how a zip archive begins: with a member, or empty
_ZIP_END: Final = struct.Struct("<4s4H2LH")  # the end of the directory, before a comment of at most 65,535 bytes
_ZIP64_END: Final = struct.Struct("<4sQ2H2L4Q")
_ZIP64_LOCATOR: Final = struct.Struct("<4sLQL")
# of zipfile: a damaged file or member, an unknown method of compression, encryption
_ZIP_ERRORS: Final = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, RuntimeError, ValueError)

Wanted = Callable[[int], bool]  # whether to read the member of this number, from 0
Named = Callable[[str], bool]  # whether to read the member of this name


def every(number: int) -> bool:
    """Return True: every member is wanted."""
    return True


def of_any_name(name: str) -> bool:
    """Return True: members of every name are wanted."""
    return True


class TooLarge(OSError):
    """A compressed file expands to more than any structure has."""


class _Damaged(OSError):
    """An archive whose members cannot be found beyond some place."""


def find_structures(names: Sequence[str]) -> list[Found]:
    """Return the files that `names` (files, folders, patterns, addresses) refer to, each once, sorted by URI.

    An address that ends in "/" is a folder of a bucket. Raise SourceError for a name without any file.
    """
    found: dict[str, Found] = {}
    for name in names:
        for match in _expanded(name):
            file = found_file(match)
            found.setdefault(file.source, file)
    if not found:
        raise SourceError(f"{', '.join(names)}: no file found: give structure files, or folders of them")
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


def found_file(name: str) -> Found:
    """Return a file as it is now. Raise SourceError if it does not exist or is not a regular file."""
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
    return has_ending_of_archive(found.source)


def has_ending_of_archive(name: str) -> bool:
    """Return whether a file has the name of a tar or zip archive."""
    return name.lower().endswith(_ARCHIVES)


def first_bytes(found: Found) -> bytes:
    """Return the beginning of a file, decompressed, to recognise its format."""
    with _opened(found) as stream:
        return _Limited(stream, found.size).read(_HEAD_BYTES)


def open_structures(found: Found) -> Iterator[Member]:
    """Yield the text of a file, or of each member of an archive. Never raises for its content."""
    for _, member in open_members(found):
        yield member


def open_members(
    found: Found, wanted: Wanted = every, max_bytes: int = MAX_TEXT_BYTES, named: Named = of_any_name
) -> Generator[tuple[int, Member], None, None]:
    """Yield number and text of a file, or of each wanted member of an archive. Never raises for its content.

    Members are numbered from 0, without folders. A last member without a name, and with the next number, has the reason
    why the archive could not be read to its end. Text of more than `max_bytes` is refused. Of archives, members that
    are not `named` are not read.
    """
    number = 0
    try:
        with _opened(found) as stream:
            limited = _Limited(stream, found.size)
            head = limited.read(_HEAD_BYTES)
            if head.startswith(_ZIP) and not limited.is_compressed:
                members = _zip_members(found, wanted, max_bytes, named)
            elif head[257:262] == b"ustar":
                members = _tar_members(found, limited.again(head), wanted, max_bytes, named)
            else:
                yield 0, Member("", head + limited.read_all(max_bytes - len(head)))
                return
            for number, member in enumerate(members):
                if member is not None:
                    yield number, member
                number += 1
            if not number:
                yield 0, Member("", None, "empty", "the archive holds no files")
    except TooLarge as error:
        yield number, Member("", None, "too_large", str(error))
    except (OSError, EOFError, SourceError, tarfile.TarError, *_ZIP_ERRORS) as error:
        yield number, Member("", None, "unreadable", " ".join(str(error).split())[:200])


def _opened(found: Found) -> IO[bytes]:
    if scheme_of(found.path):
        version = Version(found.size, found.mtime_ns, found.etag)
        return remote.RemoteStream(found.path, version)  # type: ignore[return-value]
    return open(found.path, "rb")


class _TarInfo(tarfile.TarInfo):
    """The header of a member. Raises OSError where tarfile would end silently at a damaged header, or read a name or
    attributes of any size into memory."""

    _LONG: Final = (
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
    )

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            raise _Damaged(f"the archive is damaged ({error}); its other members were not read") from error

    def _proc_member(self, tarfile_: tarfile.TarFile) -> Any:  # tarfile calls it, to be overridden, for each header
        if self.type in self._LONG and self.size > MAX_HEADER_BYTES:
            raise TooLarge(f"the header of a member has {self.size:,} bytes")
        return super()._proc_member(tarfile_)  # type: ignore[misc]


def _tar_members(
    found: Found, limited: "_Limited", wanted: Wanted, max_bytes: int, named: Named
) -> Iterator[Member | None]:
    """Yield each member; None for one that is not wanted, which a local file without compression need not read."""
    number = 0
    with _opened_tar(found, limited) as archive:
        while (info := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # otherwise it keeps every header in memory
            if info.isdir():
                continue
            is_wanted = wanted(number) and named(info.name)
            number += 1
            if not is_wanted:
                yield None
                continue
            name = _label(info.name)
            if refused := _refused(name, info.isreg() and not info.issparse(), info.size, max_bytes):
                yield refused
                continue
            file = archive.extractfile(info)
            assert file is not None
            yield _unpacked(name, file, info.size, max_bytes)


def _opened_tar(found: Found, limited: "_Limited") -> tarfile.TarFile:
    if limited.is_compressed or scheme_of(found.path):
        return tarfile.open(fileobj=limited, mode="r|", tarinfo=_TarInfo)  # type: ignore[call-overload, no-any-return]
    return tarfile.open(found.path, mode="r:", tarinfo=_TarInfo)


def _zip_members(found: Found, wanted: Wanted, max_bytes: int, named: Named) -> Iterator[Member | None]:
    """Yield each member of a zip archive, None for one that is not wanted. Its directory is at its end, so it is not
    read as a stream."""
    if scheme_of(found.path):
        raise SourceError("zip archives are read from local files: copy it to this machine, or pack it as tar")
    if (size := _zip_directory_bytes(found.path)) > MAX_DIRECTORY_BYTES:
        raise TooLarge(f"its directory has {size:,} bytes, more than {MAX_DIRECTORY_BYTES:,}")
    with zipfile.ZipFile(found.path) as archive:
        members = [info for info in archive.infolist() if not info.is_dir()]
        if sum(info.compress_size for info in members) > found.size:
            raise zipfile.BadZipFile("its members overlap")
        for number, info in enumerate(members):
            if not wanted(number) or not named(info.filename):
                yield None
                continue
            name, mode = _label(info.filename), info.external_attr >> 16
            is_file = stat.S_IFMT(mode) in (0, stat.S_IFREG)
            if refused := _refused(name, is_file, info.file_size, max_bytes):
                yield refused
            elif info.file_size > max(_MIN_UNPACKED, MAX_RATIO * info.compress_size):
                yield Member(name, None, "too_large", f"it expands to {info.file_size:,} bytes")
            else:
                try:
                    with archive.open(info) as file:  # it ends after `file_size` bytes, whatever it would expand to
                        yield _unpacked(name, file, info.compress_size, max_bytes)
                except _ZIP_ERRORS as error:
                    yield Member(name, None, "unreadable", " ".join(str(error).split())[:200])


def _zip_directory_bytes(path: str) -> int:
    """Return the size that a zip archive states of its directory; 0 if the end of the directory is not found."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _ZIP_END.size - 0xFFFF - _ZIP64_LOCATOR.size))
        tail = file.read()
        end = tail.rfind(b"PK\x05\x06")
        if end < 0 or len(tail) - end < _ZIP_END.size:
            return 0
        stated = int(_ZIP_END.unpack_from(tail, end)[5])
        locator = end - _ZIP64_LOCATOR.size
        if locator >= 0 and tail.startswith(b"PK\x06\x07", locator):
            offset = _ZIP64_LOCATOR.unpack_from(tail, locator)[2]
            file.seek(min(offset, size))
            found = file.read(_ZIP64_END.size)
            if len(found) == _ZIP64_END.size and found.startswith(b"PK\x06\x06"):
                stated = max(stated if stated != 0xFFFFFFFF else 0, int(_ZIP64_END.unpack(found)[8]))
        return stated


def _label(name: str) -> str:
    return "".join(letter if letter.isprintable() else "_" for letter in name)


def _refused(name: str, is_file: bool, size: int, max_bytes: int) -> Member | None:
    """Return the row of a member that is not read, or None."""
    path = PurePosixPath(name)
    if not is_file or path.is_absolute() or ".." in path.parts:
        return Member(name, None, "unsafe", "its name leads out of the archive" if is_file else "not a regular file")
    if size > max_bytes:
        return Member(name, None, "too_large", f"{size:,} bytes, more than {max_bytes:,}")
    return None


def _unpacked(name: str, file: IO[bytes], size: int, max_bytes: int) -> Member:
    limited = _Limited(file, size)
    try:
        return Member(name, limited.read_all(max_bytes))
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
