"""Copies of many small documents of a store in one object, so that reading them all takes few requests.

    packs/<sha256>.jsonl.gz    one line per document: name, entity tag and text

The documents stay, and the listing of the store alone decides which ones exist. The copy in a pack is used only if the
listing has the same name with the same entity tag, and so the same content. A pack that is out of date, missing,
incomplete or written twice therefore affects only how long reading takes.
"""

import contextlib
import gzip
import hashlib
import io
import logging
import re
import zlib
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import msgspec

from foldatlas.atlas.storage.protocol import ObjectStorage, Stored, is_document
from foldatlas.schemas.errors import StoreError

FOLDER: Final = "packs"
MIN_DOCUMENTS: int = 500  # fewer documents are read one by one, and are not packed
MAX_DOCUMENTS: int = 200_000  # kept in memory, about 1.5 kB each; five generations of the largest atlas
# A new pack is written when one document in ten is in no pack: all packs ever written are ten times the last one.
_LOOSE_FRACTION: Final = 10
_TRIES: Final = 3  # at reading packs while other processes replace them
_GZIP_LEVEL: Final = 6
_NAME: Final = re.compile(rf"{FOLDER}/[0-9a-f]{{64}}\.jsonl\.gz")
# A pack of MAX_DOCUMENTS takes 60 MB, and 300 MB unpacked. Larger objects are not read: they could exhaust memory.
MAX_BYTES: int = 1 << 27
MAX_UNPACKED_BYTES: int = 1 << 29
_DAMAGE: Final = (ValueError, EOFError, OSError, zlib.error)

_Version = tuple[str, str]  # name and entity tag of a document


class _Packed(msgspec.Struct, frozen=True):
    """A line of a pack."""

    name: str
    etag: str
    text: str


class PackedDocuments:
    """Reads documents of a store, from packs where these have them, and keeps them in memory.

    A document with its entity tag never changes, so it is fetched once. Threads may share an instance; a pickled one
    arrives empty.
    """

    def __init__(self, storage: ObjectStorage):
        self._storage = storage
        self._documents: dict[_Version, bytes] = {}
        self._packs: dict[str, frozenset[_Version]] = {}  # contents of each pack that was read

    def __reduce__(self) -> tuple[Any, ...]:
        return PackedDocuments, (self._storage,)

    def read_many(self, files: Sequence[Stored]) -> list[bytes | OSError]:
        """Return the content of each listed document, in order, or the error that reading it raised.

        Packs are read first if MIN_DOCUMENTS or more of `files` are not in memory. A store that refuses to give packs
        is no error: the documents are then read one by one.
        """

        def few_are_missing() -> bool:
            return sum((file.name, file.etag) not in self._documents for file in files) < MIN_DOCUMENTS

        if not few_are_missing():
            with contextlib.suppress(StoreError):
                self._read_packs(few_are_missing)
        known = [self._documents.get((file.name, file.etag)) for file in files]
        missing = [file.name for file, content in zip(files, known, strict=True) if content is None]
        fetched = iter(self._storage.read_versions(missing))
        contents: list[bytes | OSError] = []
        for file, content in zip(files, known, strict=True):
            contents.append(self._keep(file.name, next(fetched)) if content is None else content)
        return contents

    def pack(self, kind: str) -> bool:
        """Write the documents of the folder `kind` into one pack, if many of them are in none. Return whether one was
        written.

        Older packs are deleted. Raise StoreError if the store does not answer.
        """
        files = [file for file in self._storage.files(kind) if is_document(file.name)]
        packed: set[_Version] = set()

        def few_are_loose() -> bool:
            loose = sum((file.name, file.etag) not in packed for file in files)
            return loose < max(MIN_DOCUMENTS, len(files) // _LOOSE_FRACTION)

        if few_are_loose() or len(files) > MAX_DOCUMENTS:
            return False
        before = self._read_packs(few_are_loose, packed)
        if few_are_loose():
            return False
        self.read_many(files)
        lines = []
        for file in files:
            # Under the listed entity tag: a document that was replaced after the listing is left out.
            content = self._documents.get((file.name, file.etag))
            with contextlib.suppress(UnicodeDecodeError):  # not JSON
                if content is not None:
                    lines.append(_Packed(file.name, file.etag, content.decode()))
        text = gzip.compress(msgspec.json.Encoder().encode_lines(lines), _GZIP_LEVEL, mtime=0)
        name = name_of(text)
        self._storage.write(name, text)
        self._delete_replaced({*before} - {name})
        return True

    def false_packs(self) -> dict[str, str]:
        """Return packs that contradict a document, each with the name of that document.

        Only another program, or a person, can have written such a pack. Damaged packs and packs that may not be read
        are left out: they are not used.
        """
        copies: list[tuple[str, _Packed]] = []
        for pack in self._list_packs():
            with contextlib.suppress(*_DAMAGE, StoreError):
                copies += [(pack.name, line) for line in self._lines_of(pack)]
        names = sorted({line.name for _, line in copies})
        actual = dict(zip(names, self._storage.read_versions(names), strict=True))
        found = {}
        for pack_name, line in copies:
            document = actual[line.name]
            if isinstance(document, FileNotFoundError) or document[1] != line.etag:
                continue  # deleted or replaced since: the copy is not used
            if document[0] != line.text.encode():
                found[pack_name] = line.name
        return found

    def _keep(self, name: str, version: tuple[bytes, str] | FileNotFoundError) -> bytes | OSError:
        if isinstance(version, FileNotFoundError):
            return version
        content, etag = version
        self._remember((name, etag), content)
        return content

    def _remember(self, version: _Version, content: bytes) -> None:
        if len(self._documents) >= MAX_DOCUMENTS:
            self._documents.clear()
            self._packs.clear()
        self._documents[version] = content

    def _delete_replaced(self, replaced: Collection[str]) -> None:
        """Delete the packs named, and, of those that other processes wrote meanwhile, all but the largest.

        Tasks of an array begin and end together; the last to list the packs leaves one.
        """
        found = self._list_packs()
        kept = next((pack.name for pack in found if pack.name not in replaced), None)
        for pack in found:
            if pack.name != kept:
                self._storage.delete(pack.name)

    def _list_packs(self) -> list[Stored]:
        """Return the objects that are named as packs, the largest first. Others in the folder are not ours."""
        found = [file for file in self._storage.files(FOLDER) if _NAME.fullmatch(file.name)]
        return sorted(found, key=lambda pack: (-pack.bytes, pack.name))

    def _read_packs(self, enough: Callable[[], bool], packed: set[_Version] | None = None) -> list[str]:
        """Keep the documents of packs, the largest first, until `enough()`; add their versions to `packed`.

        Return the names of all packs.
        """
        for _ in range(_TRIES):
            found = self._list_packs()
            with contextlib.suppress(FileNotFoundError):  # replaced by another process: list again
                for pack in found:
                    if enough():
                        break
                    if pack.name not in self._packs:
                        self._packs[pack.name] = self._read_pack(pack)
                    if packed is not None:
                        packed |= self._packs[pack.name]
                return [pack.name for pack in found]
        return []

    def _read_pack(self, pack: Stored) -> frozenset[_Version]:
        """Keep the documents of a pack and return their versions. A damaged pack has none."""
        lines: list[_Packed] = []
        try:
            lines = self._lines_of(pack)
        except FileNotFoundError:
            raise
        except _DAMAGE as error:
            address = f"{self._storage.uri}/{pack.name}"
            logging.getLogger(__name__).warning("%s is damaged and is not used: %s", address, error)
        for line in lines:
            self._remember((line.name, line.etag), line.text.encode())
        return frozenset((line.name, line.etag) for line in lines)

    def _lines_of(self, pack: Stored) -> list[_Packed]:
        """Return the lines of a pack. Raise one of _DAMAGE if it is damaged or too large."""
        if pack.bytes > MAX_BYTES:
            raise ValueError(f"it has {pack.bytes:,} bytes, the limit is {MAX_BYTES:,}")
        content = self._storage.read(pack.name)
        if pack.name != name_of(content):
            raise ValueError("its digest differs from its name")
        with gzip.open(io.BytesIO(content)) as file:
            text = file.read(MAX_UNPACKED_BYTES + 1)
        if len(text) > MAX_UNPACKED_BYTES:
            raise ValueError(f"it unpacks to more than {MAX_UNPACKED_BYTES:,} bytes")
        return msgspec.json.Decoder(_Packed).decode_lines(text)


def name_of(content: bytes) -> str:
    """Return the name of the pack with this content: its sha256."""
    return f"{FOLDER}/{hashlib.sha256(content).hexdigest()}.jsonl.gz"
