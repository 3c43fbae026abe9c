"""Correct a single flipped bit of a document by its digest of itself.

Memory and disks flip bits one at a time. A document is small, so that every text that differs from it by one bit can be
tried: the one whose sha256 is the stated digest is what was written. Larger damage is left to the other repairs.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.schemas.manifest import DIGEST_LINE, END_OF_DOCUMENT

MAX_DOCUMENT_BYTES: Final = 128 << 10  # up to a minute on one core; time grows with the square

_DIGEST_BYTES: Final = len(DIGEST_LINE % (b"0" * 64))
_BITS: Final = 8


def correct_documents(folder: AtlasFolder, names: Iterable[str]) -> list[str]:
    """Write documents back whose flipped bit can be found, and return their names."""
    found = []
    for name in dict.fromkeys(names):
        try:
            text = folder.storage.read(name)
        except OSError:
            continue
        right = corrected(text)
        if right is not None:
            with folder.storage.building(name) as path:
                path.write_bytes(right)
            found.append(name)
    return found


def corrected(text: bytes) -> bytes | None:
    """Return the document that `text` differs from by one bit, or None: it is sound, has no digest, or differs by more
    than one bit."""
    if not _DIGEST_BYTES < len(text) <= MAX_DOCUMENT_BYTES:
        return None
    body, line = text[:-_DIGEST_BYTES], text[-_DIGEST_BYTES:]
    right_line = DIGEST_LINE % hashlib.sha256(body + END_OF_DOCUMENT).hexdigest().encode()
    if _different_bits(line, right_line) == 1:
        return body + right_line
    prefix, _, suffix = DIGEST_LINE.partition(b"%s")
    if not (line.startswith(prefix) and line.endswith(suffix)) or line == right_line:
        return None
    place = _flipped_bit(body + END_OF_DOCUMENT, line[len(prefix) : len(prefix) + 64])
    if place is None:
        return None
    right = bytearray(text)
    right[place // _BITS] ^= 1 << place % _BITS
    return bytes(right)


def _different_bits(first: bytes, second: bytes) -> int:
    return sum((a ^ b).bit_count() for a, b in zip(first, second, strict=True))


def _flipped_bit(text: bytes, digest: bytes) -> int | None:
    """Return the bit of `text` whose change gives it this sha256 (64 hexadecimal digits), or None."""
    try:
        wanted = bytes.fromhex(digest.decode())
    except ValueError:
        return None
    before, rest = hashlib.sha256(), memoryview(text)
    for number, byte in enumerate(text):
        for bit in range(_BITS):
            tried = before.copy()
            tried.update(bytes([byte ^ 1 << bit]))
            tried.update(rest[number + 1 :])
            if tried.digest() == wanted:
                return number * _BITS + bit
        before.update(text[number : number + 1])
    return None
