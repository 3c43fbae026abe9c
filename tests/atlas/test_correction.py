"""Flipped bits of documents, corrected by their digest."""

import random

import pytest

from foldatlas.atlas.verify.correction import MAX_DOCUMENT_BYTES, corrected
from foldatlas.schemas.manifest import AtlasHeader, encode, settings_digest
from foldatlas.schemas.records import Settings

SETTINGS = Settings(model="nano", weights="ab" * 32, recycles=0, precision="fp32")
TEXT = encode(AtlasHeader(1, "2026-11-01T09:00:00.000+00:00", "1.0", SETTINGS, settings_digest(SETTINGS)))


def flipped(text: bytes, *places: int) -> bytes:
    damaged = bytearray(text)
    for place in places:
        damaged[place // 8] ^= 1 << place % 8
    return bytes(damaged)


def test_every_flipped_bit_is_corrected() -> None:
    """Of the body, of the digest, and of the key between them."""
    begin = len(TEXT) - 100
    for place in [*range(0, 8 * begin, 97), *range(8 * begin, 8 * len(TEXT))]:
        assert corrected(flipped(TEXT, place)) == TEXT, place


def test_larger_damage_is_left() -> None:
    """Two flipped bits, a text cut short, a sound one, one without a digest, and a large one."""
    draw = random.Random(1)
    for _ in range(4):
        assert corrected(flipped(TEXT, *draw.sample(range(8 * len(TEXT)), 2))) is None
    for text in (TEXT, TEXT[:-1], TEXT[:40], b"", b"{}\n", b"x" * (MAX_DOCUMENT_BYTES + 1)):
        assert corrected(text) is None


@pytest.mark.parametrize("line", [b'"document_sha256": "zz', b'"other": "'])
def test_a_last_line_of_another_kind(line: bytes) -> None:
    assert corrected(TEXT.replace(b'"document_sha256": "', line, 1)) is None
