"""JSON documents of an atlas: its header, its plans, and a manifest entry for each committed shard.

These documents alone determine the content of an atlas. Each is written once, as a whole; readers ignore files that
none of them lists. Field types are checked when a document is read.
"""

import dataclasses
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeVar

import msgspec

from foldatlas.schemas.errors import DamagedAtlasError
from foldatlas.schemas.formats import NEWEST_FORMAT, PROVENANCE, format_of
from foldatlas.schemas.records import Settings
from foldatlas.schemas.tables import FORMAT_VERSION, NEEDED_TABLES

LINEAGE_FORMAT: Final = 2  # of plans that supersede a version, and of entries that skipped sequences
NAME_DIGITS: Final = 16  # hexadecimal digits of a digest that name a plan: 64 bits

# Names in documents become file names. Documents may be untrusted, so a name must not lead out of the atlas.
_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")

DIGEST_KEY: Final = "document_sha256"  # the last key of a document
END_OF_DOCUMENT: Final = b"\n}\n"
DIGEST_LINE: Final = b',\n "%s": "%%s"\n}\n' % DIGEST_KEY.encode()  # in place of END_OF_DOCUMENT, with a digest
_LAST_LINE: Final = re.compile(rb',\n "([^"\n]*)": "([0-9a-f]{64})"\n}\n\Z')

Document = TypeVar("Document", bound=msgspec.Struct)


def check_name(name: str) -> None:
    """Raise ValueError for a name that no plan, shard, attempt or run has."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a valid name of a plan, a shard, a run or an attempt")


class FileEntry(msgspec.Struct, frozen=True):
    """A Parquet file: path relative to the atlas, number of rows, size in bytes, and sha256."""

    path: str
    rows: int
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        path = PurePosixPath(self.path)
        if path.is_absolute() or ".." in path.parts or not path.parts or not self.path.isprintable():
            raise ValueError(f"path {self.path!r} leaves the atlas")


class Superseded(msgspec.Struct, frozen=True, order=True):
    """An earlier version of a source: the plan that read it, and the sha256 of its bytes."""

    plan: str
    sha256: str

    def __post_init__(self) -> None:
        check_name(self.plan)


class Source(msgspec.Struct, frozen=True):
    """A source as it was read.

    A later change is noticed by `size` and `etag`, or, without an entity tag, `mtime_ns` (0 if unknown); `sha256` is of
    its bytes. With `--genes`, `genes` is the program that found the genes, `contigs` the number of contigs,
    `contigs_without_genes` the number of accepted contigs without genes, and `records` counts genes and refused
    contigs. `supersedes` are the versions of the source that this one replaces, sorted (atlas/index/lineage.py); None
    in a plan of a program that did not record them.
    """

    uri: str
    size: int
    mtime_ns: int
    sha256: str
    records: int
    leading_text: bool = False  # text before the first '>', which is ignored with a warning
    etag: str = ""  # identifies the content on a server
    genes: str = ""
    contigs: int = 0
    contigs_without_genes: int = 0
    supersedes: tuple[Superseded, ...] | None = None


class Shard(msgspec.Struct, frozen=True):
    """A unit of work: one row group of a sequences file.

    `cost` is in predicted MFLOP; `digest` is the sha256 of the structure ids in order.
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
        if self.name:  # shards are named at the end of planning
            check_name(self.name)


class Plan(msgspec.Struct, frozen=True):
    """The sources that were read, the outcomes of their records, and the shards. Immutable, named by its digest.

    `outcomes` counts records by outcome. `shards` are in the order in which they should run. `order` does not affect
    the name: a structure in two plans counts in the plan of the lower order, then in the one created earlier.
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
    order: int = 0  # of the atlas among merged ones, from 0

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.format < LINEAGE_FORMAT and any(source.supersedes for source in self.sources):
            raise ValueError(f"a plan of format {self.format} cannot supersede versions")


class Run(msgspec.Struct, frozen=True):
    """The run that folded a shard, its device and its time. None of it affects results.

    `device` is "cpu", "cuda" or "cuda:1"; `device_name` the device model ("NVIDIA H100 80GB HBM3"; of a CPU with its
    cores), "" if unknown, as in older entries; `device_bytes` its memory, 0 if unknown. Of the `seconds` of the shard,
    `busy_seconds` were spent in batches that succeeded (0: not measured). `trunk_passes` is the sum over the folded
    proteins; it is only recorded if recycling could stop early.
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
    trunk_passes: int | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        if not self.device_name.isprintable():  # it is printed to terminals
            raise ValueError(f"device_name {self.device_name!r} is not printable")


class ShardEntry(msgspec.Struct, frozen=True):
    """The manifest entry of a committed shard: the files of the attempt that won, by table name.

    `residues` counts those that this generation folded. If it rewrote the structures, the first `kept` rows are from
    the previous generation. `skipped` proteins were not tried, because no present record had them; `folded`, `failed`
    and `skipped` add up to the shard's proteins.
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
            raise ValueError(f"an entry of format {self.format} cannot skip proteins")

    @property
    def outputs(self) -> frozenset[str]:
        """The names of the optional tables of this shard."""
        return frozenset(self.files) - frozenset((*NEEDED_TABLES, PROVENANCE))


class AtlasHeader(msgspec.Struct, frozen=True):
    """`atlas.json`: the settings of all structures of the atlas, and the format of its tables (schemas.formats)."""

    format: int
    created: str
    version: str
    settings: Settings
    settings_digest: str

    def __post_init__(self) -> None:
        if self.format != format_of(self.settings):
            raise ValueError(
                f"an atlas of format {self.format} cannot have the settings of model {self.settings.model!r}"
            )


class IndexPointer(msgspec.Struct, frozen=True):
    """`index.json` of an atlas on a store: which file of `index/` is the index, and a summary of it.

    `contents` is the digest of the names of the plans and manifest entries that it was built from, `documents` their
    number. The other fields count records by state (`refused` by reason), so that a run without work need not fetch
    the index.
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
    annotations: str = ""  # digest of the names of documents of annotations, which `documents` counts too
    projections: str = ""  # digest of the names of the marks of complete projections, likewise

    def __post_init__(self) -> None:
        if not _DIGEST.fullmatch(self.sha256):  # it becomes a file name in the cache
            raise ValueError(f"{self.sha256!r} is not a sha256")


_NEWEST_FORMATS: Final[dict[type[msgspec.Struct], int]] = {
    AtlasHeader: NEWEST_FORMAT,
    Plan: LINEAGE_FORMAT,
    ShardEntry: LINEAGE_FORMAT,
}


def settings_digest(settings: Settings) -> str:
    """Return the sha256 of the settings, 64 hexadecimal digits. Equal digests mean comparable structures."""
    return hashlib.sha256(msgspec.json.encode(_without_unused(settings), order="deterministic")).hexdigest()


def _without_unused(settings: Settings) -> Settings:
    """Return settings whose encoding lacks the options that are off, so that documents without them do not change."""
    if settings.recycle_tolerance is not None:
        return settings
    return dataclasses.replace(settings, recycle_tolerance=msgspec.UNSET)  # type: ignore[arg-type]


def shard_digest(structure_ids: Iterable[bytes]) -> str:
    """Return the sha256 of a shard's structure ids in order."""
    digest = hashlib.sha256()
    for structure_id in structure_ids:
        digest.update(structure_id)
    return digest.hexdigest()


def plan_name(sources: Iterable[Source], max_length: int, shards: Iterable[Shard]) -> str:
    """Return a plan's name: the digest of its sources' contents and lineage, its maximal length, its sequences and its
    shard boundaries.

    Two machines that plan the same files make the same plan; times of files do not count. A source without lineage adds
    nothing to the digest, so that plans of older programs keep their names.
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


def plan_of_shard(shard: str) -> str:
    """Return the name of the plan of a shard."""
    return shard.rpartition("-")[0]


def encode(document: msgspec.Struct) -> bytes:
    """Return the JSON text of a document, indented, with keys in a fixed order.

    The last key, `document_sha256`, is the digest of the text without it. Earlier programs ignore it.
    """
    if isinstance(document, AtlasHeader):
        document = msgspec.structs.replace(document, settings=_without_unused(document.settings))
    text = msgspec.json.format(msgspec.json.encode(document, order="deterministic"), indent=1) + b"\n"
    return text.removesuffix(END_OF_DOCUMENT) + DIGEST_LINE % hashlib.sha256(text).hexdigest().encode()


def has_digest(text: bytes) -> bool:
    """Return whether a document ends with a digest of itself. Earlier programs wrote none."""
    found = _LAST_LINE.search(text)
    return found is not None and found[1].decode() == DIGEST_KEY


def _check_digest(text: bytes, raw: dict[str, Any], kind: type[msgspec.Struct]) -> None:
    """Raise ValueError if a document's digest of itself is that of another text, or is no longer where it was."""
    found = _LAST_LINE.search(text)
    if found is None or (key := found[1].decode("utf-8", "replace")) in kind.__struct_encode_fields__:
        if DIGEST_KEY in raw:
            raise ValueError(f"its {DIGEST_KEY} is not at its end: it was changed")
        return  # written by an earlier program
    if key != DIGEST_KEY or hashlib.sha256(text[: found.start()] + END_OF_DOCUMENT).hexdigest() != found[2].decode():
        raise ValueError(f"its last key is not the {DIGEST_KEY} of its text: it was changed or damaged")


def decode(text: bytes, kind: type[Document], path: Path | str) -> Document:
    """Return the document in a JSON text, with every field checked.

    Raise DamagedAtlasError, with `path` in the message, for text that is not such a document, has a newer format, or
    has a digest of itself that differs.
    """
    try:
        raw: Any = msgspec.json.decode(text)
        version = raw.get("format") if isinstance(raw, dict) else None
        newest = _NEWEST_FORMATS.get(kind, FORMAT_VERSION)
        if isinstance(version, int) and version > newest:
            raise DamagedAtlasError(
                f"{path} has format {version}, this FoldAtlas reads up to {newest}: upgrade FoldAtlas"
            )
        document = msgspec.convert(raw, kind)
        _check_digest(text, raw, kind)
        return document
    except (msgspec.MsgspecError, ValueError) as error:
        raise DamagedAtlasError(
            f"{path} is not a valid {kind.__name__} ({error}): restore it or fold into a new atlas"
        ) from error
