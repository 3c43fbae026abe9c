"""A FASTA record accepted, or refused with its reason.

Accepted without comment: CRLF, lower case, white space inside the sequence, the ends that `without_end` removes, the
unknown residues X, B, Z, U, O and J, and header bytes that are not UTF-8. The checks run in the order of the outcomes
in `schemas.records.Outcome`; `schemas.records.REFUSALS` has the sentence of each.
"""

import string
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import fastcrc
import numpy as np
import numpy.typing as npt

from foldatlas.pipeline.sources.fasta import WHITE_SPACE, RawRecord
from foldatlas.pipeline.sources.headers import read_header
from foldatlas.pipeline.sources.nucleotides import Kind, kind_of
from foldatlas.schemas.records import RESIDUES, Outcome, structure_id

UPPER: Final = bytes.maketrans(string.ascii_lowercase.encode(), string.ascii_uppercase.encode())
_RESIDUES: Final = "".join(sorted(RESIDUES)).encode()
DOS_END: Final = b"\x1a"  # Ctrl-Z, the end of text files in DOS
_DIGITS: Final = string.digits.encode()
_MAX_INT32: Final = 2**31 - 1  # the largest value of the column


class Record(NamedTuple):
    """A checked record: the columns of `schemas.tables.STAGING` except `source`. `sequence` is None if refused."""

    offset: int
    id: str
    description: str
    length: int
    structure_id: bytes | None
    sequence_crc64: str | None
    mgyp: int | None
    is_fragment: bool | None
    outcome: str
    sequence: str | None


def check(raw: RawRecord, max_length: int, *, is_fragment: bool | None = None, fault: Outcome | None = None) -> Record:
    """Read one record and accept or refuse it. `max_length` in residues. Never raises for the content.

    `is_fragment` and `fault` come from other parts of the file, as in GenBank.
    """
    line, _, body = raw.text.partition(b"\n")
    letters = without_end(body.translate(UPPER, WHITE_SPACE))
    name, description, mgyp, header_fragment = read_header(line)
    length = min(len(letters) + raw.dropped, _MAX_INT32)
    fault = fault or _fault(raw, name, letters, length, max_length)
    identity, checksum = (structure_id(letters), crc64(letters)) if fault is None else (None, None)
    return Record(  # positional: keywords would cost as much as a digest
        raw.offset,
        name,
        description,
        length,
        identity,
        checksum,
        mgyp,
        header_fragment if is_fragment is None else is_fragment,
        fault or Outcome.ACCEPTED,
        letters.decode("ascii") if fault is None else None,
    )


def without_end(letters: bytes) -> bytes:
    """Return a sequence without stops ('*') at its end, one full stop (written by old gffread), or Ctrl-Z.

    Two or more full stops are gaps of an alignment and stay.
    """
    letters = letters.rstrip(DOS_END)
    if letters.endswith(b".") and not letters.endswith(b".."):
        return letters[:-1]
    return letters.rstrip(b"*")


def _fault(raw: RawRecord, name: str, letters: bytes, length: int, max_length: int) -> Outcome | None:
    """Return the first reason to refuse, or None."""
    if raw.truncated:
        return Outcome.TRUNCATED
    if not name:
        return Outcome.MISSING_ID
    if b"\0" in raw.text:
        return Outcome.NUL_BYTE
    if not length:
        return Outcome.EMPTY_SEQUENCE
    strange = letters.translate(None, _RESIDUES)
    if strange:
        return _letter_fault(strange)
    if kind_of(letters) is Kind.NUCLEOTIDES:
        return Outcome.NUCLEOTIDES
    if length > max_length:
        return Outcome.TOO_LONG
    return None


def _letter_fault(strange: bytes) -> Outcome:
    """Return why a sequence is refused that contains `strange`: all its bytes that are not residue codes."""
    try:
        strange.decode("utf-8")
    except UnicodeDecodeError:
        return Outcome.NOT_UTF8
    if b":" in strange:
        return Outcome.MULTIMER
    if b"-" in strange or b"." in strange:
        return Outcome.GAP
    if b"*" in strange:
        return Outcome.INTERNAL_STOP
    if strange.translate(None, _DIGITS) != strange:
        return Outcome.DIGIT
    return Outcome.INVALID_CHARACTER


@lru_cache(maxsize=1 << 14)
def _crc64_of_zeros(length: int) -> int:
    return int(fastcrc.crc64.go_iso(bytes(length)))


def crc64(letters: bytes) -> str:
    """Return UniProt's sequence checksum, CRC-64 of ISO 3309 with a zero start, 16 upper-case hexadecimal digits.

    The library's variant starts from all ones and inverts its result. CRC is linear, so XOR with the value of as many
    zero bytes removes both.
    """
    return f"{int(fastcrc.crc64.go_iso(letters)) ^ _crc64_of_zeros(len(letters)):016X}"


def crc64_numbers(sequences: Sequence[bytes]) -> npt.NDArray[np.uint64]:
    """Return `crc64` of many sequences, as numbers."""
    values = np.fromiter(map(fastcrc.crc64.go_iso, sequences), np.uint64, len(sequences))
    zeros = np.fromiter(map(_crc64_of_zeros, map(len, sequences)), np.uint64, len(sequences))
    return values ^ zeros
