"""The FASTA files a person named: found, opened, and cut into ranges that can be read side by side."""

import glob
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Final, NamedTuple

import smart_open

from foldatlas.schemas.errors import SourceError

RANGE_BYTES: Final = 64 << 20  # of a plain file, read by one worker at a time

_GZIP: Final = b"\x1f\x8b"
# First bytes of what people hand over in place of FASTA -> what it is and what to do.
_OTHER_FORMATS: Final = {
    b"\x28\xb5\x2f\xfd": "compressed by zstd: decompress it first (`zstd -d`)",
    b"BZh": "compressed by bzip2: decompress it first (`bunzip2`)",
    b"\xfd7zXZ": "compressed by xz: decompress it first (`xz -d`)",
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"LOCUS": "GenBank: convert it to protein FASTA first",
    b"@": "FASTQ, perhaps: reads must be assembled and translated first",
    b"PAR1": "Parquet: write its sequences as FASTA first",
}


class SourceFile(NamedTuple):
    """A file as it was found. `uri` is the normalised name that records carry; `mtime_ns` in ns since 1970."""

    uri: str
    path: str
    size: int
    mtime_ns: int
    compressed: bool


class SourceRange(NamedTuple):
    """What one worker reads: bytes [start, end) of a plain file; a compressed file is one range, end None."""

    source: SourceFile
    number: int
    start: int
    end: int | None


def find_sources(names: Iterable[str]) -> list[SourceFile]:
    """The files that `names` (paths or patterns) mean, in that order, each once.

    Raises SourceError for a name that is not a readable, non-empty local file.
    """
    found: dict[str, SourceFile] = {}
    for name in names:
        if "://" in name and not name.startswith("file://"):
            raise SourceError(f"{name}: only local files can be read: download it first")
        path = name.removeprefix("file://")
        matches = sorted(glob.glob(path)) if glob.has_magic(path) and not Path(path).exists() else [path]
        if not matches:
            raise SourceError(f"{name}: no file matches this pattern")
        for match in matches:
            source = _look_at(match)
            found.setdefault(source.uri, source)
    if not found:
        raise SourceError("no FASTA file was named")
    return list(found.values())


def _look_at(name: str) -> SourceFile:
    path = Path(name)
    if path.is_dir():
        raise SourceError(f"{name} is a folder: name the FASTA files in it, for example {name.rstrip('/')}/*.fasta")
    if path.exists() and not path.is_file():  # a pipe cannot be read twice, nor in ranges
        raise SourceError(f"{name} is no regular file: write what it gives to a file first")
    try:
        status = path.stat()
        with path.open("rb") as file:
            first = file.read(8)
    except FileNotFoundError as error:
        raise SourceError(f"{name} does not exist: check the path") from error
    except OSError as error:
        raise SourceError(f"{name} cannot be read ({error.strerror}): check its permissions") from error
    if not status.st_size:
        raise SourceError(f"{name} is empty (0 bytes): nothing to fold")
    resolved = path.resolve()
    return SourceFile(
        uri=resolved.as_uri(),
        path=str(resolved),
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        compressed=first.startswith(_GZIP),
    )


def is_unchanged(source: SourceFile) -> bool:
    """Whether the file is still as it was found."""
    try:
        status = Path(source.path).stat()
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (source.size, source.mtime_ns)


def what_it_is(source: SourceFile) -> str:
    """For a file without any record: what it seems to be, and what to do."""
    with Path(source.path).open("rb") as file:
        first = file.read(16)
    for magic, advice in _OTHER_FORMATS.items():
        if first.startswith(magic):
            return f"it looks like {advice}" if not advice.startswith("compressed") else f"it is {advice}"
    return "no line begins with '>': name a protein FASTA file"


def cut_ranges(sources: Iterable[SourceFile], range_bytes: int = RANGE_BYTES) -> list[SourceRange]:
    """Ranges that together hold every byte of every source once, numbered from 0 in order."""
    ranges: list[SourceRange] = []
    for source in sources:
        if source.compressed:
            ranges.append(SourceRange(source, len(ranges), 0, None))
            continue
        for start in range(0, source.size, range_bytes):
            ranges.append(SourceRange(source, len(ranges), start, min(start + range_bytes, source.size)))
    return ranges


def open_source(source: SourceFile) -> IO[bytes]:
    """The bytes of a source as text would have them: gzip is undone. The caller closes it."""
    stream: IO[bytes] = smart_open.open(source.path, "rb", compression="disable")
    return GzipStream(stream) if source.compressed else stream  # type: ignore[return-value]


class GzipStream:
    """Reads gzip, of one member or many, and gives all that can be decompressed before it reports a break.

    `gzip.GzipFile` drops up to a block of good data when the file ends early; here the EOFError comes after it.
    """

    _CHUNK: Final = 1 << 16

    def __init__(self, stream: IO[bytes]):
        self._stream = stream
        self._inflate = zlib.decompressobj(wbits=31)
        self._pending = b""
        self._started = False

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, nothing at the end. Raises EOFError for a cut file, zlib.error for a damaged one."""
        while True:
            if self._inflate.eof:
                self._pending = self._inflate.unused_data.lstrip(b"\0")
                self._inflate = zlib.decompressobj(wbits=31)
                self._started = False
            if not self._pending:
                self._pending = self._stream.read(self._CHUNK)
                if not self._pending:
                    rest = self._inflate.flush() if self._started else b""
                    if not rest and self._started and not self._inflate.eof:
                        raise EOFError("the compressed file ends early")
                    return rest
            self._started = True
            data = self._inflate.decompress(self._pending, size)
            self._pending = self._inflate.unconsumed_tail
            if data:
                return data

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> "GzipStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
