"""What an export has written so far: one document per chunk, from which the lists of files are made at the end.

A chunk's document is written after its files, so a killed export finds in these documents what it need not write again.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from foldatlas.atlas.storage.protocol import ObjectStorage, Storage
from foldatlas.schemas.manifest import FileEntry

WORK: Final = ".export"  # the folder of what is deleted when the export is complete
REQUEST: Final = f"{WORK}/request.json"


class WrittenFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of files.jsonl; of a file of one record also its id, source and structure_id."""

    file: str
    bytes: int
    sha256: str
    id: str | None = None
    source: str | None = None
    structure_id: str | None = None


class Member(msgspec.Struct, frozen=True):
    """A line of members.jsonl: a file in the tar bundle `file`."""

    file: str
    member: str
    bytes: int
    sha256: str
    id: str
    source: str
    structure_id: str


class Part(msgspec.Struct, frozen=True):
    """A chunk's part `file` of the file `whole`, which is all chunks' parts in order."""

    whole: str
    file: str
    bytes: int
    sha256: str


class Unwritable(msgspec.Struct, frozen=True):
    """A record whose structure the format cannot represent, and why."""

    id: str
    source: str
    why: str


class SubsetShard(msgspec.Struct, frozen=True):
    """A shard of an exported atlas: structures of one run. `seconds` is their share of the time of folding."""

    run_id: str
    proteins: int
    residues: int
    min_length: int
    max_length: int
    cost: int
    seconds: float
    digest: str
    row_group: int
    files: dict[str, FileEntry]


class SubsetAtlas(msgspec.Struct, frozen=True):
    """A chunk of an exported atlas: its shards, and how many records it has of each source."""

    records: FileEntry
    sequences: FileEntry
    shards: list[SubsetShard]
    sources: dict[str, int]

    def files(self) -> Iterator[FileEntry]:
        """Yield every file of the chunk in a table of the atlas."""
        yield from (self.records, self.sequences)
        for shard in self.shards:
            yield from shard.files.values()


class Chunk(msgspec.Struct, frozen=True):
    """What was written for a chunk of the selection."""

    proteins: int
    files: list[WrittenFile] = []
    parts: list[Part] = []
    members: list[Member] = []
    unwritable: list[Unwritable] = []
    atlas: SubsetAtlas | None = None

    def contents(self) -> Iterator[tuple[str, int, str]]:
        """Yield name, bytes and sha256 of every file that the chunk wrote."""
        for file in self.files:
            yield file.file, file.bytes, file.sha256
        for part in self.parts:
            yield part.file, part.bytes, part.sha256
        if self.atlas is not None:
            for entry in self.atlas.files():
                yield entry.path, entry.bytes, entry.sha256


def chunk_name(number: int) -> str:
    """Return the name of a chunk's document in the folder of the export."""
    return f"{WORK}/chunks/{number:06d}.json"


def parts_folder(whole: str) -> str:
    """Return the folder of the parts of a file that is put together from all chunks."""
    return f"{WORK}/parts/{whole}"


def write_file(storage: Storage, name: str, content: bytes) -> None:
    """Write a file of an unfinished export. In a folder it is not synced: resuming compares digests."""
    if isinstance(storage, ObjectStorage):
        storage.write(name, content)
        return
    assert storage.root is not None
    path = storage.root / name
    try:
        path.write_bytes(content)
    except FileNotFoundError:  # the first file of its folder
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def write_chunk(storage: Storage, number: int, chunk: Chunk) -> None:
    """Write a chunk's document, which appears whole or not at all."""
    with storage.building(chunk_name(number)) as path:
        path.write_bytes(msgspec.json.encode(chunk))


def read_chunk(storage: Storage, number: int) -> Chunk | None:
    """Return a chunk's document, or None if the chunk was not finished."""
    try:
        return msgspec.json.decode(storage.read(chunk_name(number)), type=Chunk)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def finished_chunk(storage: Storage, number: int) -> Chunk | None:
    """Return the document of a chunk whose files are all as they were written, or None.

    A crash of the machine may leave files without their content, so digests are compared; on a store, where an object
    is written as a whole, sizes.
    """
    chunk = read_chunk(storage, number)
    if chunk is None:
        return None
    by_size = isinstance(storage, ObjectStorage)
    for name, size, sha256 in chunk.contents():
        try:
            same = storage.size(name) == size and (by_size or storage.sha256(name) == sha256)
        except FileNotFoundError:
            return None
        if not same:
            return None
    return chunk
