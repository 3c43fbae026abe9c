"""Many small documents of a store in one object, so that reading them all takes few requests.

    packs/<sha256>.jsonl.gz    a line a document: its name, its entity tag, and its text

The documents themselves stay, and the listing alone says which there are. A pack only saves fetching: what it says of a
name counts if the store still has that name under that entity tag, which names this very content. So a pack that is
old, missing, half of another or written twice changes nothing but how long reading takes.
"""

import contextlib
import gzip
import hashlib
import io
import logging
import re
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

import msgspec

from foldatlas.atlas.storage.protocol import ObjectStorage, Stored, is_document
from foldatlas.schemas.errors import StoreError

FOLDER: Final = "packs"
WORTH: int = 500  # documents; fewer are read one by one, and for fewer no pack is written
_LOOSE: Final = 10  # a pack is written when a tenth of all is in none: all that are written are ten times the last
_TRIES: Final = 3  # at packs that others delete meanwhile, having put theirs in the place
_LEVEL: Final = 6
_MOST_REMEMBERED: int = 200_000  # documents, about 1.5 kB each; five generations of the largest atlas
_NAME: Final = re.compile(rf"{FOLDER}/[0-9a-f]{{64}}\.jsonl\.gz")
# A pack of as many takes 60 MB, and 300 unpacked: nobody may put more there and have readers run out of memory.
_MOST_BYTES: int = 1 << 27
_MOST_UNPACKED: int = 1 << 29
_DAMAGE: Final = (ValueError, EOFError, OSError, zlib.error)

# What was read once under an entity tag need not be read again, by place, name and tag: documents never change.
_documents: dict[tuple[str, str, str], bytes] = {}
_packed: dict[tuple[str, str], frozenset[tuple[str, str]]] = {}  # names and tags, by place and pack


class _Packed(msgspec.Struct, frozen=True):
    name: str
    etag: str
    text: str


def remember(place: str, name: str, etag: str, content: bytes) -> None:
    """Keeps a document of `place` for as long as this process lives."""
    if len(_documents) >= _MOST_REMEMBERED:
        _documents.clear()
        _packed.clear()
    _documents[(place, name, etag)] = content


def remembered(place: str, file: Stored) -> bytes | None:
    """The document as it was listed, if this process has it."""
    return _documents.get((place, file.name, file.etag))


def unpack(storage: ObjectStorage, files: Sequence[Stored]) -> None:
    """Remembers what packs hold, if many of `files` are not remembered yet. Packs that a store does not give are none:
    the documents themselves may be had all the same."""

    def few_are_left() -> bool:
        return sum(remembered(storage.place, file) is None for file in files) < WORTH

    if not few_are_left():
        with contextlib.suppress(StoreError):
            _read_packs(storage, few_are_left)


def pack(storage: ObjectStorage, kind: str) -> bool:
    """Puts the documents of the folder `kind` into one pack, if many of them are in none, and deletes the packs that
    it replaces. Returns whether it did. Raises StoreError."""
    files = [file for file in storage.files(kind) if is_document(file.name)]
    known: set[tuple[str, str]] = set()

    def few_are_loose() -> bool:
        loose = sum((file.name, file.etag) not in known for file in files)
        return loose < max(WORTH, len(files) // _LOOSE)

    if few_are_loose() or len(files) > _MOST_REMEMBERED:
        return False
    before = _read_packs(storage, few_are_loose, known)
    if few_are_loose():
        return False
    storage.read_many(files)
    documents = []
    for file in files:
        text = remembered(storage.place, file)  # under this very tag; what was read may be newer than the listing
        with contextlib.suppress(UnicodeDecodeError):  # it is no JSON
            if text is not None:
                documents.append(_Packed(file.name, file.etag, text.decode()))
    content = gzip.compress(msgspec.json.Encoder().encode_lines(documents), _LEVEL, mtime=0)
    name = _name_of(content)
    storage.write(name, content)
    _delete_replaced(storage, {*before} - {name})
    return True


def _delete_replaced(storage: ObjectStorage, replaced: Collection[str]) -> None:
    """Deletes the packs named, and of those that others wrote meanwhile all but the largest, which has most in it. The
    tasks of an array begin and end at once: whoever looks last leaves one pack."""
    there = _packs(storage)
    kept = next((pack.name for pack in there if pack.name not in replaced), None)
    for pack in there:
        if pack.name != kept:
            storage.delete(pack.name)


def _packs(storage: ObjectStorage) -> list[Stored]:
    """What is called as a pack is, the largest first; all else there is somebody else's."""
    found = [file for file in storage.files(FOLDER) if _NAME.fullmatch(file.name)]
    return sorted(found, key=lambda pack: (-pack.bytes, pack.name))


def _read_packs(
    storage: ObjectStorage, enough: Callable[[], bool], known: set[tuple[str, str]] | None = None
) -> list[str]:
    """Remembers the documents of packs, the largest first, until it is `enough()`; adds names and tags to `known`.
    Returns the names of all packs."""
    for _ in range(_TRIES):
        found = _packs(storage)
        with contextlib.suppress(FileNotFoundError):
            for pack in found:
                if enough():
                    break
                key = (storage.place, pack.name)
                if key not in _packed:
                    _packed[key] = frozenset(_read(storage, pack))
                if known is not None:
                    known |= _packed[key]
            return [pack.name for pack in found]
    return []


def told(storage: ObjectStorage) -> Iterator[tuple[str, str, str, bytes]]:
    """All that packs say: a pack, and a document's name, entity tag and content. Those that are damaged, or
    may not be read, say nothing."""
    for pack in _packs(storage):
        with contextlib.suppress(*_DAMAGE, StoreError):
            for document in _documents_of(storage, pack):
                yield pack.name, document.name, document.etag, document.text.encode()


def _name_of(content: bytes) -> str:
    return f"{FOLDER}/{hashlib.sha256(content).hexdigest()}.jsonl.gz"


def _read(storage: ObjectStorage, pack: Stored) -> Sequence[tuple[str, str]]:
    """Remembers the documents of a pack; gives their names and tags. One that is damaged holds nothing."""
    documents: list[_Packed] = []
    try:
        documents = _documents_of(storage, pack)
    except FileNotFoundError:
        raise
    except _DAMAGE as error:  # a shortcut less
        logging.getLogger(__name__).warning("%s/%s is damaged and is not used: %s", storage.place, pack.name, error)
    for document in documents:
        remember(storage.place, document.name, document.etag, document.text.encode())
    return [(document.name, document.etag) for document in documents]


def _documents_of(storage: ObjectStorage, pack: Stored) -> list[_Packed]:
    if pack.bytes > _MOST_BYTES:
        raise ValueError(f"it has {pack.bytes:,} bytes, and none has more than {_MOST_BYTES:,}")
    content = storage.read(pack.name)
    if pack.name != _name_of(content):
        raise ValueError("its digest is another than its name says")
    with gzip.open(io.BytesIO(content)) as file:
        lines = file.read(_MOST_UNPACKED + 1)
    if len(lines) > _MOST_UNPACKED:
        raise ValueError(f"it unpacks to more than {_MOST_UNPACKED:,} bytes")
    return msgspec.json.Decoder(_Packed).decode_lines(lines)
