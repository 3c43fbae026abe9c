"""The input files: found, recognised, and cut into ranges that can be read in parallel."""

import codecs
import contextlib
import fnmatch
import glob
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Final, NamedTuple

import smart_open

from foldatlas.pipeline.sources import remote
from foldatlas.pipeline.sources.file_kinds import beginning, content_head, look_at, text_format
from foldatlas.pipeline.sources.pipes import SCHEME, Spool, is_pipe
from foldatlas.pipeline.sources.stores import Version, normalised, scheme_of
from foldatlas.schemas.errors import SourceError

RANGE_BYTES: Final = 64 << 20  # of an uncompressed local file, read by one worker

FASTA: Final = "fasta"
GENBANK: Final = "genbank"
CONTIGS: Final = "contigs"  # FASTA of nucleotides, in which genes are to be found

_GENBANK_SUFFIXES: Final = (".gb", ".gbk", ".gbff", ".genbank")
_PROTEIN_SUFFIXES: Final = (".faa", ".pep", ".mpfa")
_FASTA_SUFFIXES: Final = (".fasta", ".fa", ".fas", ".fsa", ".fna", ".ffn", *_PROTEIN_SUFFIXES)
_COMPRESSION_SUFFIXES: Final = (".gz", ".bgz", ".zst", ".bz2", ".xz")


class SourceWarning(UserWarning):
    """A source was read, but something in it should be checked."""


class SourceFile(NamedTuple):
    """A file as it was found.

    uri: the normalised name that records carry.
    path: opens the file: an absolute path or an address.
    size: in bytes; -1 where a server does not report it.
    mtime_ns: in ns since 1970; 0 where a server does not report it.
    etag: the server's strong ETag of this content, or "".
    compression: one of compression.py's, or "".
    format: FASTA, GENBANK or CONTIGS.
    is_empty: whether there is nothing in it, not even text.
    """

    uri: str
    path: str
    size: int
    mtime_ns: int
    etag: str = ""
    compression: str = ""
    format: str = FASTA
    is_empty: bool = False

    @property
    def is_remote(self) -> bool:
        return "://" in self.path

    @property
    def is_pipe(self) -> bool:
        return self.uri.startswith(SCHEME)

    @property
    def name(self) -> str:
        """The name in messages: the path of a local file without `--as`, else the URI."""
        return self.path if self.uri.startswith("file:") else self.uri

    @property
    def version(self) -> Version:
        return Version(self.size, self.mtime_ns, self.etag)


class SourceRange(NamedTuple):
    """What one worker reads: bytes [start, end) of an uncompressed local FASTA file, or a whole file (end None)."""

    source: SourceFile
    number: int
    start: int
    end: int | None


def find_sources(
    names: Iterable[str], *, genes: bool = False, spool: Spool | None = None, skip_pipes: bool = False
) -> list[SourceFile]:
    """Return the files that `names` (paths, folders, addresses, or patterns of them) refer to, in that order, each
    once.

    A folder stands for its FASTA and GenBank files, sorted by name. With `genes` the files are contigs. Pipes are
    copied into `spool`, or left out with `skip_pipes`.
    Raise one SourceError for all names that are not readable files of a supported format (with `genes`: that are
    GenBank), and if all files are empty.
    """
    found: dict[str, SourceFile] = {}
    faults: list[str] = []
    num_pipes = 0
    for name in names:
        if is_pipe(name):
            num_pipes += 1
            if skip_pipes:
                continue
        try:
            matches = _matches(name, genes)
        except SourceError as error:
            faults.append(str(error))
            continue
        for match in matches:
            try:
                source = _look(match, spool)
                if genes:
                    source = _as_contigs(source)
                found.setdefault(source.uri, source)
            except remote.UnreachableError as error:  # the next file would wait just as long
                raise SourceError(together([*faults, str(error)])) from error
            except SourceError as error:
                faults.append(str(error))
    if faults:
        raise SourceError(together(faults))
    if not found and not num_pipes:
        raise SourceError("no FASTA file was given")
    if found and all(source.is_empty for source in found.values()) and not (skip_pipes and num_pipes):
        empty = [f"{source.name} is empty: give a file with sequences" for source in found.values()]
        raise SourceError(together(empty))
    return list(found.values())


def together(faults: Sequence[str]) -> str:
    """Return one message from several, each on its own line."""
    return faults[0] if len(faults) == 1 else "\n  ".join([f"{len(faults):,} sources cannot be used:", *faults])


def _look(name: str, spool: Spool | None) -> SourceFile:
    if is_pipe(name):
        if spool is None:
            raise SourceError(f"{name} can be read only once: write its content to a file first")
        uri, copy = spool.copy(name)
        source = _look_remotely(copy) if scheme_of(copy) else _look_at(copy, "standard input" if name == "-" else name)
        return source._replace(uri=uri)
    return _look_remotely(name) if scheme_of(name) else _look_at(name, name)


def _as_contigs(source: SourceFile) -> SourceFile:
    if source.format == GENBANK:
        raise SourceError(f"{source.name} is GenBank, which lists its genes: give it without --genes")
    return source._replace(format=CONTIGS)


def _matches(name: str, genes: bool) -> list[str]:
    """Return the files that a name, folder or pattern refers to."""
    if is_pipe(name):
        return [name]
    scheme = scheme_of(name)
    if scheme not in ("", "http", "https") and name.endswith("/"):
        folder = normalised(name)
        keys = [address for address in remote.list_files(folder) if "/" not in address.removeprefix(folder)]
        return _sequence_files(name, keys, genes)
    matches = matching_names(name)
    if not scheme and len(matches) == 1 and Path(matches[0]).is_dir() and matches == [_local_path(name)]:
        return _sequence_files(name, _files_in(matches[0]), genes)
    return matches


def matching_names(name: str) -> list[str]:
    """Return the files and folders that a name or pattern refers to. Raise SourceError where a pattern matches
    nothing."""
    scheme = scheme_of(name)
    if scheme in ("http", "https"):
        return [name]  # HTTP has no listing, and '?' begins a query
    if scheme:
        matches = _matching_keys(normalised(name)) if glob.has_magic(name) else [name]
    else:
        path = _local_path(name)
        matches = sorted(glob.glob(path)) if glob.has_magic(path) and not Path(path).exists() else [path]
    if not matches:
        raise SourceError(f"{name}: no file matches this pattern")
    return matches


def _files_in(folder: str) -> list[str]:
    try:
        return [str(path) for path in Path(folder).iterdir() if path.is_file()]
    except OSError as error:
        raise SourceError(f"{folder} cannot be read ({error.strerror}): check its permissions") from error


def _sequence_files(folder: str, names: Iterable[str], genes: bool) -> list[str]:
    """Return the files of a folder with a suffix of FASTA or GenBank (with `genes`: of contigs), compressed or not."""
    suffixes: tuple[str, ...] = (*_FASTA_SUFFIXES, *_GENBANK_SUFFIXES)
    if genes:
        suffixes = tuple(suffix for suffix in _FASTA_SUFFIXES if suffix not in _PROTEIN_SUFFIXES)
    matches = sorted(
        name
        for name in names
        if not name.rpartition("/")[2].startswith(".") and _without_compression(name).lower().endswith(suffixes)
    )
    if not matches:
        what = "contigs" if genes else "FASTA or GenBank"
        raise SourceError(f"{folder} is a folder without a file of {what} ({', '.join(suffixes)}): give its files")
    return matches


def _without_compression(name: str) -> str:
    """Return a file's name without the suffix of its compression."""
    for suffix in _COMPRESSION_SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def _local_path(name: str) -> str:
    """Return a path as it is, or the path of a file:// URI, as records have it."""
    path = name.removeprefix("file://")
    return urllib.parse.unquote(path) if path != name and not Path(path).exists() else path


def _matching_keys(pattern: str) -> list[str]:
    """Return the addresses of a bucket that match a pattern. As in a folder, * and ? do not match '/'."""
    begin = pattern[: min(pattern.find(letter) for letter in "*?[" if letter in pattern)]
    if begin.count("/") < 3:
        raise SourceError(f"{pattern}: a bucket's name cannot be a pattern: give the bucket")
    parts = pattern.split("/")
    matches = []
    for address in remote.list_files(begin):
        if address == pattern:
            return [address]
        segments = address.split("/")
        if len(segments) == len(parts) and all(map(fnmatch.fnmatchcase, segments, parts)):
            matches.append(address)
    return sorted(matches)


def _look_at(path_name: str, name: str) -> SourceFile:
    """Return a local file; `name` is for messages."""
    path = Path(path_name)
    if path.is_dir():
        raise SourceError(f"{name} is a folder: give the FASTA files in it, for example {name.rstrip('/')}/*.fasta")
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
    """Return `source` with compression and format, by its `first` bytes. Raise SourceError for unsupported formats."""
    found = look_at(first)
    if found.refusal:
        raise SourceError(f"{name} {found.refusal}")
    plain = _without_compression(urllib.parse.urlsplit(name).path if source.is_remote else name)
    text = found.head.removeprefix(codecs.BOM_UTF8).lstrip()
    # a division of GenBank has a title page before its first LOCUS
    is_named_genbank = plain.lower().endswith(_GENBANK_SUFFIXES) and not text.startswith(b">")
    format = GENBANK if text.startswith(b"LOCUS ") or (is_named_genbank and not found.is_empty) else FASTA
    return source._replace(compression=found.compression, format=format, is_empty=found.is_empty)


def is_unchanged(source: SourceFile) -> bool:
    """Return whether the file has not changed since it was found."""
    if source.is_remote:
        with remote.RemoteStream(source.path) as stream:
            return stream.version == source.version
    try:
        status = Path(source.path).stat()
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (source.size, source.mtime_ns)


def what_it_is(source: SourceFile) -> str:
    """Return what a file without any record seems to be, and the next step."""
    if source.format == GENBANK:
        return "it is GenBank without any coding sequence (CDS): give its proteins as FASTA"
    with contextlib.suppress(EOFError, OSError), open_stored(source) as stored:
        head, fault = content_head(beginning(stored))
        if fault and not head:
            return f"it is compressed by {source.compression} and damaged ({fault}): copy it again"
        if named := text_format(head):
            return named
    return "no line begins with '>': give a protein FASTA file"


def cut_ranges(sources: Iterable[SourceFile], range_bytes: int | None = None) -> list[SourceRange]:
    """Return ranges that together cover every byte of every source once, numbered from 0 in order.

    Uncompressed local files are cut every `range_bytes` (default: RANGE_BYTES).
    """
    range_bytes = range_bytes or RANGE_BYTES
    ranges: list[SourceRange] = []
    for source in sources:
        if source.compression or source.is_remote or source.format == GENBANK:
            ranges.append(SourceRange(source, len(ranges), 0, None))
            continue
        for start in range(0, max(source.size, 1), range_bytes):
            ranges.append(SourceRange(source, len(ranges), start, min(start + range_bytes, source.size)))
    return ranges


@contextlib.contextmanager
def open_stored(source: SourceFile) -> Iterator[IO[bytes]]:
    """Open the stored bytes of a source. Raise SourceError if it cannot be opened, or if a remote file has changed."""
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
