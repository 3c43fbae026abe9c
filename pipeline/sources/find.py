"""The files a person named: found, looked at, and cut into ranges that can be read side by side."""

import contextlib
import fnmatch
import glob
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import smart_open

from foldatlas.pipeline.sources import remote
from foldatlas.pipeline.sources.compression import ZSTD, compression_of, decompressed
from foldatlas.pipeline.sources.stores import Version, normalised, scheme_of
from foldatlas.schemas.errors import SourceError

RANGE_BYTES: Final = 64 << 20  # of a plain local file, read by one worker at a time

FASTA: Final = "fasta"
GENBANK: Final = "genbank"
CONTIGS: Final = "contigs"  # FASTA of nucleotides, of which the genes are to be found

_HEAD_BYTES: Final = 512
_PACKED_HEAD_BYTES: Final = 1 << 18  # zstd gives nothing before a block of up to 128 KiB is whole
_GENBANK_SUFFIXES: Final = (".gb", ".gbk", ".gbff", ".genbank")
_COMPRESSION_SUFFIXES: Final = (".gz", ".zst")
# First bytes of what people hand over in place of FASTA -> what it is and what to do.
_OTHER_FORMATS: Final = {
    b"BZh": "compressed by bzip2: decompress it first (`bunzip2`)",
    b"\xfd7zXZ": "compressed by xz: decompress it first (`xz -d`)",
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"@": "FASTQ, perhaps: reads must be assembled and translated first",
    b"PAR1": "Parquet: write its sequences as FASTA first",
    b"<": "HTML or XML, perhaps a server's message: check the address",
}


class SourceFile(NamedTuple):
    """A file as it was found.

    `uri` is the normalised name that records carry; `path` what opens it, an absolute path or an address; `size` in
    bytes, -1 where a server does not say; `mtime_ns` in ns since 1970, 0 where it does not; `etag` the server's name
    of this very content, or nothing; `compression` "gzip", "zstd" or nothing; `format` FASTA, GENBANK or CONTIGS.
    """

    uri: str
    path: str
    size: int
    mtime_ns: int
    etag: str = ""
    compression: str = ""
    format: str = FASTA

    @property
    def is_remote(self) -> bool:
        return "://" in self.path

    @property
    def name(self) -> str:
        """For people: without what a signed address has after its name."""
        return self.uri if self.is_remote else self.path

    @property
    def version(self) -> Version:
        return Version(self.size, self.mtime_ns, self.etag)


class SourceRange(NamedTuple):
    """What one worker reads: bytes [start, end) of a plain local FASTA file; any other is one range, end None."""

    source: SourceFile
    number: int
    start: int
    end: int | None


def find_sources(names: Iterable[str], *, genes: bool = False) -> list[SourceFile]:
    """The files that `names` (paths, addresses, or patterns of them) mean, in that order, each once. With `genes` they
    are contigs.

    Raises SourceError for a name that is not a readable, non-empty file, and with `genes` for GenBank.
    """
    found: dict[str, SourceFile] = {}
    for name in names:
        for match in matching_names(name):
            source = _look_remotely(match) if scheme_of(match) else _look_at(match)
            if genes:
                source = _as_contigs(source)
            found.setdefault(source.uri, source)
    if not found:
        raise SourceError("no FASTA file was named")
    return list(found.values())


def _as_contigs(source: SourceFile) -> SourceFile:
    if source.format == GENBANK:
        raise SourceError(f"{source.name} is GenBank, which says where its genes are: name it without --genes")
    return source._replace(format=CONTIGS)


def matching_names(name: str) -> list[str]:
    """The files that a name or pattern means."""
    scheme = scheme_of(name)
    if scheme in ("http", "https"):
        return [name]  # nothing there can be listed, and '?' begins a query
    if scheme:
        matches = _matching_keys(normalised(name)) if glob.has_magic(name) else [name]
    else:
        path = _local_path(name)
        matches = sorted(glob.glob(path)) if glob.has_magic(path) and not Path(path).exists() else [path]
    if not matches:
        raise SourceError(f"{name}: no file matches this pattern")
    return matches


def _local_path(name: str) -> str:
    """The path that a name means: itself, or that of a file:// URI, as records have it."""
    path = name.removeprefix("file://")
    return urllib.parse.unquote(path) if path != name and not Path(path).exists() else path


def _matching_keys(pattern: str) -> list[str]:
    """What of a bucket a pattern means. As in a folder, * and ? stand for no '/'."""
    begin = pattern[: min(pattern.find(letter) for letter in "*?[" if letter in pattern)]
    if begin.count("/") < 3:
        raise SourceError(f"{pattern}: a bucket's name cannot be a pattern: name the bucket")
    parts = pattern.split("/")
    matches = []
    for address in remote.list_files(begin):
        if address == pattern:
            return [address]
        segments = address.split("/")
        if len(segments) == len(parts) and all(map(fnmatch.fnmatchcase, segments, parts)):
            matches.append(address)
    return sorted(matches)


def _look_at(name: str) -> SourceFile:
    path = Path(name)
    if path.is_dir():
        raise SourceError(f"{name} is a folder: name the FASTA files in it, for example {name.rstrip('/')}/*.fasta")
    if path.exists() and not path.is_file():  # a pipe cannot be read twice, nor in ranges
        raise SourceError(f"{name} is no regular file: write what it gives to a file first")
    try:
        status = path.stat()
        with path.open("rb") as file:
            first = beginning(file)
    except FileNotFoundError as error:
        raise SourceError(f"{name} does not exist: check the path") from error
    except OSError as error:
        raise SourceError(f"{name} cannot be read ({error.strerror}): check its permissions") from error
    resolved = path.resolve()
    found = SourceFile(resolved.as_uri(), str(resolved), status.st_size, status.st_mtime_ns)
    return _with_kind(found, name, first)


def _look_remotely(address: str) -> SourceFile:
    with remote.RemoteStream(address) as stream:
        version, first = stream.version, beginning(stream)  # type: ignore[arg-type]
    return _with_kind(SourceFile(normalised(address), address, *version), normalised(address), first)


def _with_kind(source: SourceFile, name: str, first: bytes) -> SourceFile:
    """`source` with compression and format, by its `first` bytes. Raises SourceError for what cannot be FASTA."""
    if not first:
        raise SourceError(f"{name} is empty (0 bytes): name a file that holds sequences")
    compression = compression_of(first)
    head, fault = _head(first, compression)
    if compression == ZSTD and "memory" in fault:
        raise SourceError(f"{name} needs a window of more than 128 MiB: compress it without --long or --ultra")
    if head[257:262] == b"ustar":  # records of a tar would hold its file names and padding
        raise SourceError(f"{name} is a tar archive: unpack it first")
    plain = urllib.parse.urlsplit(name).path if source.is_remote else name
    for suffix in _COMPRESSION_SUFFIXES:
        plain = plain.removesuffix(suffix)
    # a division of GenBank has a title page before its first LOCUS
    is_named_genbank = plain.lower().endswith(_GENBANK_SUFFIXES) and not head.lstrip().startswith(b">")
    is_genbank = head.lstrip().startswith(b"LOCUS ") or is_named_genbank
    return source._replace(compression=compression, format=GENBANK if is_genbank else FASTA)


def beginning(stream: IO[bytes]) -> bytes:
    """Enough of a file to tell what it is."""
    first = stream.read(_HEAD_BYTES)
    return first + stream.read(_PACKED_HEAD_BYTES) if compression_of(first) else first


class _Bytes:
    """A stream of the first bytes of a file alone."""

    def __init__(self, first: bytes):
        self._first = first

    def read(self, _size: int) -> bytes:
        first, self._first = self._first, b""
        return first

    def close(self) -> None:
        pass


def _head(first: bytes, compression: str) -> tuple[bytes, str]:
    """The beginning of what is in a file of which `first` is known, and what hindered, if so."""
    stream: Any = decompressed(_Bytes(first), compression)  # type: ignore[arg-type]
    head = b""
    try:
        while len(head) < _HEAD_BYTES and (block := stream.read(_HEAD_BYTES - len(head))):
            head += block
    except (EOFError, OSError) as error:
        return head, str(error)
    return head[:_HEAD_BYTES], ""


def is_unchanged(source: SourceFile) -> bool:
    """Whether the file is still as it was found."""
    if source.is_remote:
        with remote.RemoteStream(source.path) as stream:
            return stream.version == source.version
    try:
        status = Path(source.path).stat()
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (source.size, source.mtime_ns)


def what_it_is(source: SourceFile) -> str:
    """For a file without any record: what it seems to be, and what to do."""
    if source.format == GENBANK:
        return "it is GenBank without any coding sequence (CDS): name its proteins as FASTA"
    with contextlib.suppress(EOFError, OSError), open_stored(source) as stored:
        head, fault = _head(beginning(stored), source.compression)
        if fault and not head:
            return f"it is compressed by {source.compression} and damaged ({fault}): get it again"
        for magic, advice in _OTHER_FORMATS.items():
            if head.startswith(magic):
                return f"it looks like {advice}" if not advice.startswith("compressed") else f"it is {advice}"
    return "no line begins with '>': name a protein FASTA file"


def cut_ranges(sources: Iterable[SourceFile], range_bytes: int = RANGE_BYTES) -> list[SourceRange]:
    """Ranges that together hold every byte of every source once, numbered from 0 in order."""
    ranges: list[SourceRange] = []
    for source in sources:
        if source.compression or source.is_remote or source.format == GENBANK:
            ranges.append(SourceRange(source, len(ranges), 0, None))
            continue
        for start in range(0, source.size, range_bytes):
            ranges.append(SourceRange(source, len(ranges), start, min(start + range_bytes, source.size)))
    return ranges


@contextlib.contextmanager
def open_stored(source: SourceFile) -> Iterator[IO[bytes]]:
    """The bytes of a source as stored. Raises SourceError if it cannot be opened or is no longer as it was found."""
    if source.is_remote:
        with remote.RemoteStream(source.path, source.version) as stream:
            yield stream  # type: ignore[misc]
        return
    try:
        file: IO[bytes] = smart_open.open(source.path, "rb", compression="disable")
    except OSError as error:
        raise SourceError(f"{source.path} cannot be read ({error.strerror}): check its permissions") from error
    with file:
        yield file
