"""What was committed: the atlas's header, its plans, and one entry a finished shard.

These JSON documents are the only truth about what an atlas holds. Each is written whole and once; a file that none
of them lists does not exist for a reader. Field types are checked when they are read.
"""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeVar

import msgspec

from foldatlas.schemas.errors import DamagedAtlasError
from foldatlas.schemas.records import Settings
from foldatlas.schemas.tables import FORMAT_VERSION, NEEDED_TABLES

LINEAGE_FORMAT: Final = 2  # of a plan that supersedes another, and of an entry that left sequences out
NAME_DIGITS: Final = 16  # hexadecimal digits of a digest that name a plan: 64 bits

# What files are named by. A document may come from elsewhere, and no name in it may lead out of the atlas.
_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")

Document = TypeVar("Document", bound=msgspec.Struct)


def check_name(name: str) -> None:
    """Raise ValueError for a name that no plan, shard, attempt or run has."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a valid name of a plan, a shard, a run or an attempt")


class FileEntry(msgspec.Struct, frozen=True):
    """One Parquet file: path relative to the atlas, rows, bytes, and the sha256 of its bytes."""

    path: str
    rows: int
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        path = PurePosixPath(self.path)
        if path.is_absolute() or ".." in path.parts or not path.parts or not self.path.isprintable():
            raise ValueError(f"path {self.path!r} leaves the atlas")


class Superseded(msgspec.Struct, frozen=True, order=True):
    """An earlier version of a source: the plan that read it, and the sha256 of the bytes that it read."""

    plan: str
    sha256: str

    def __post_init__(self) -> None:
        check_name(self.plan)


class Source(msgspec.Struct, frozen=True):
    """One file as it was read: `size` with `etag` or, where there is none, `mtime_ns` (0 where nobody says) tells later
    whether it changed; `sha256` proves it.

    With `--genes` `genes` says what found the genes of its contigs, `contigs` how many there were, and
    `contigs_without_genes` how many of them are good and have none; `records` are the genes, and contigs refused.
    `supersedes` are the versions of the source that this one takes the place of, sorted (atlas/index/lineage.py); None
    in a plan of a program that did not record it.
    """

    uri: str
    size: int
    mtime_ns: int
    sha256: str
    records: int
    leading_text: bool = False  # there was text before the first '>': no record, a warning
    etag: str = ""  # a server's name of this very content
    genes: str = ""
    contigs: int = 0
    contigs_without_genes: int = 0
    supersedes: tuple[Superseded, ...] | None = None


class Shard(msgspec.Struct, frozen=True):
    """A piece of work: one row group of a sequences file.

    `cost` is predicted MFLOP; `digest` the sha256 of the structure ids in order.
    """

    name: str
    file: int
    row_group: int
    proteins: int
    residues: int
    min_length: int
    max_length: int
    cost: int
    digest: str

    def __post_init__(self) -> None:
        if self.name:  # planning gives shards their names last
            check_name(self.name)


class Plan(msgspec.Struct, frozen=True):
    """What was read, what was accepted, and the shards that it makes. Immutable; named by its content's digest.

    `outcomes` counts records by outcome. `shards` are in the order in which they should run. `order` is no part of the
    content: of a structure in two plans of an atlas the one of the lower order counts, then the one created earlier.
    """

    format: int
    name: str
    created: str
    max_length: int
    sources: tuple[Source, ...]
    outcomes: dict[str, int]
    proteins: int
    residues: int
    cost: int
    records: tuple[FileEntry, ...]
    sequences: tuple[FileEntry, ...]
    shards: tuple[Shard, ...]
    order: int = 0  # where atlases were merged: 0 is that of the first

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.format < LINEAGE_FORMAT and any(source.supersedes for source in self.sources):
            raise ValueError(f"a plan of format {self.format} cannot supersede a version")


class Run(msgspec.Struct, frozen=True):
    """Who folded a shard and how long it took. Nothing here changes a result.

    `device` is "cpu", "cuda" or "cuda:1", `device_name` the make ("NVIDIA H100 80GB HBM3"; a CPU's with its cores), ""
    where it is not known, as in entries of before it was recorded; `device_bytes` its memory, 0 where not known. Of the
    `seconds` that the shard took, `busy_seconds` went into batches that the device answered (0: not measured).
    """

    run_id: str
    host: str
    device: str
    version: str
    started: str
    seconds: float
    busy_seconds: float = 0.0
    device_name: str = ""
    device_bytes: int = 0

    def __post_init__(self) -> None:
        if not self.device_name.isprintable():  # it is shown on terminals
            raise ValueError(f"device_name {self.device_name!r} is not printable")


class ShardEntry(msgspec.Struct, frozen=True):
    """A committed shard: the files of the attempt that won, by table name.

    `residues` are those that this generation folded. Where it wrote the structures anew, `kept` of them, the first
    ones, are rows of the generation before. `skipped` proteins of the shard were not needed, because no present record
    had them, and were not tried; `folded`, `failed` and `skipped` add up to the shard's proteins.
    """

    format: int
    shard: str
    plan: str
    generation: int
    attempt: str
    settings_digest: str
    shard_digest: str
    folded: int
    failed: int
    residues: int
    cost: int
    files: dict[str, FileEntry]
    run: Run
    kept: int = 0
    skipped: int = 0

    def __post_init__(self) -> None:
        check_name(self.shard)
        check_name(self.plan)
        if self.format < LINEAGE_FORMAT and self.skipped:
            raise ValueError(f"an entry of format {self.format} cannot have skipped sequences")

    @property
    def outputs(self) -> frozenset[str]:
        """Names of the optional tables that this shard has."""
        return frozenset(self.files) - frozenset(NEEDED_TABLES)


class AtlasHeader(msgspec.Struct, frozen=True):
    """`atlas.json`: what all structures of the atlas have in common."""

    format: int
    created: str
    version: str
    settings: Settings
    settings_digest: str


class IndexPointer(msgspec.Struct, frozen=True):
    """`index.json` of an atlas on a store: which file of `index/` is the index, and what it says.

    `contents` is the digest of the names of `documents` plans and entries that it was built from. The others count
    records by state (`refused` by reason), so that a run that finds nothing to do need not fetch the index.
    """

    format: int
    sha256: str
    bytes: int
    indexed: str
    contents: str
    documents: int
    folded: int
    failed: int
    repeated: int
    pending: int
    refused: dict[str, int]
    stages: str = ""  # digest of the names of complete runs of derived stages, of which `documents` counts the marks

    def __post_init__(self) -> None:
        if not _DIGEST.fullmatch(self.sha256):  # names the file in the cache
            raise ValueError(f"{self.sha256!r} is not a sha256")


_NEWEST_FORMATS: Final[dict[type[msgspec.Struct], int]] = {Plan: LINEAGE_FORMAT, ShardEntry: LINEAGE_FORMAT}


def settings_digest(settings: Settings) -> str:
    """sha256 of the settings, 64 hexadecimal digits: equal digests mean comparable structures."""
    return hashlib.sha256(msgspec.json.encode(settings, order="deterministic")).hexdigest()


def shard_digest(structure_ids: Iterable[bytes]) -> str:
    """sha256 of a shard's structure ids in order."""
    digest = hashlib.sha256()
    for structure_id in structure_ids:
        digest.update(structure_id)
    return digest.hexdigest()


def plan_name(sources: Iterable[Source], max_length: int, shards: Iterable[Shard]) -> str:
    """A plan's name: the digest of its sources' content and lineage, its limit, its sequence list and its shard
    boundaries.

    Two machines that plan the same files alike make the same plan, whatever the paths' times. A source without lineage
    adds nothing for it, so that plans from before lineage keep their names.
    """
    content = {
        "sources": [
            [
                source.uri,
                source.sha256,
                *([source.genes] if source.genes else []),
                *([[[old.plan, old.sha256] for old in source.supersedes]] if source.supersedes else []),
            ]
            for source in sources
        ],
        "max_length": max_length,
        "shards": [[shard.digest, shard.proteins] for shard in shards],
    }
    return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()[:NAME_DIGITS]


def shard_name(plan: str, number: int) -> str:
    return f"{plan}-{number:05d}"


def encode(document: msgspec.Struct) -> bytes:
    """The JSON text of a document, indented for people, keys in a fixed order."""
    return msgspec.json.format(msgspec.json.encode(document, order="deterministic"), indent=1) + b"\n"


def decode(text: bytes, kind: type[Document], path: Path | str) -> Document:
    """Reads a document and checks every field.

    Raises DamagedAtlasError, naming `path`, for text that is not such a document or is of a newer format.
    """
    try:
        raw: Any = msgspec.json.decode(text)
        version = raw.get("format") if isinstance(raw, dict) else None
        newest = _NEWEST_FORMATS.get(kind, FORMAT_VERSION)
        if isinstance(version, int) and version > newest:
            raise DamagedAtlasError(
                f"{path} has format {version}, this FoldAtlas reads up to {newest}: upgrade FoldAtlas"
            )
        return msgspec.convert(raw, kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DamagedAtlasError(
            f"{path} is not a valid {kind.__name__} ({error}): restore it or fold into a new atlas"
        ) from error
