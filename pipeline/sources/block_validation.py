"""Validation of a block of FASTA records: the result of `validation.check` for each, at a third of the cost.

Nearly all records of a file are valid, so thousands are validated at a time in a few vectorised passes over their
bytes. Records that these passes cannot accept go to `validation.check`, one by one, which alone refuses records.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from foldatlas.pipeline.sources.fasta import WHITE_SPACE, RawBlock, RawRecord
from foldatlas.pipeline.sources.headers import header_text, read_text
from foldatlas.pipeline.sources.nucleotides import NUCLEOTIDE_CODES, Kind, kind_of
from foldatlas.pipeline.sources.validation import DOS_END, UPPER, Record, check, crc64_numbers, without_end
from foldatlas.schemas.records import MIN_NUCLEOTIDES, RESIDUES, Outcome, structure_id
from foldatlas.schemas.tables import STAGING

FIELDS: Final = [field for field in STAGING if field.name != "source"]

_END: Final = b">"  # between sequences; a block in which a sequence contains it is checked record by record
_RESIDUES_AND_END: Final = "".join(sorted(RESIDUES)).encode() + _END
_RESIDUES: Final = _RESIDUES_AND_END[:-1]
_IS_NUCLEOTIDE: Final = np.isin(np.arange(256), list(NUCLEOTIDE_CODES))
_STEP: Final = 6  # letters compared at once; one in twelve proteins has only nucleotide codes in as many
_ID_BYTES: Final = 16
_CRC_DIGITS: Final = 16

Indices = npt.NDArray[np.int64]


class _Letters(NamedTuple):
    """The sequences of a block, in upper case and without white space.

    each: the sequences.
    together: the sequences joined, with _END after each.
    starts, lengths: the start of each in `together`, and its length.
    """

    each: list[bytes]
    together: bytes
    starts: Indices
    lengths: Indices


class CheckedBlock(NamedTuple):
    """A block's records as columns FIELDS, and how many of them (accepted or too long) have letters of Kind DOUBTFUL:
    the other records of the file decide whether these are nucleotides."""

    batch: pa.RecordBatch
    doubtful: int


def check_block(block: RawBlock, max_length: int) -> CheckedBlock:
    """Check a block's records as `validation.check` does. `max_length` in residues."""
    texts = block.texts
    parts = [text.partition(b"\n") for text in texts]
    letters = _letters([body for _, _, body in parts])
    headers = _headers([line for line, _, _ in parts])
    if letters is None or headers is None or block.dropped or block.truncated:
        records = [check(raw, max_length) for raw in block.records()]
        return CheckedBlock(to_batch(records), sum(map(is_doubtful, records, block.texts)))
    read = [read_text(header) for header in headers]
    names, descriptions, mgyps, fragments = (list(column) for column in zip(*read, strict=True))
    offsets = block.offsets()
    lengths, outcomes = letters.lengths, [str(Outcome.ACCEPTED)] * len(texts)
    doubtful = 0
    for index in _perhaps_refused(letters, names, max_length):
        record = check(RawRecord(offsets[index], texts[index], 0, False), max_length)
        doubtful += is_doubtful(record, texts[index])
        if record.sequence is None:
            outcomes[index], letters.each[index] = record.outcome, b""
    refused = np.fromiter((not sequence for sequence in letters.each), bool, len(texts))
    valid = pa.py_buffer(np.packbits(~refused, bitorder="little")) if refused.any() else None
    arrays = [
        pa.array(offsets, pa.int64()),
        pa.array(names, pa.string()),
        pa.array(descriptions, pa.string()),
        pa.array(lengths.astype(np.int32)),
        _structure_ids(letters.each, valid),
        _checksums(letters.each, valid),
        pa.array(mgyps, pa.int64()),
        pa.array(fragments, pa.bool_()),
        pa.array(outcomes, pa.string()),
        _strings(b"".join(letters.each), np.where(refused, 0, lengths), valid),
    ]
    return CheckedBlock(pa.RecordBatch.from_arrays(arrays, schema=pa.schema(FIELDS)), doubtful)


def is_doubtful(record: Record, text: bytes) -> bool:
    """Return whether an accepted or too long record has letters of Kind DOUBTFUL. `text`: as in RawRecord."""
    if record.sequence is not None:
        letters = record.sequence.encode("ascii")
    elif record.outcome == Outcome.TOO_LONG:
        letters = without_end(text.partition(b"\n")[2].translate(UPPER, WHITE_SPACE))
    else:
        return False
    return kind_of(letters) is Kind.DOUBTFUL


def to_batch(records: list[Record]) -> pa.RecordBatch:
    """Return records that were checked one by one in the form of `check_block`."""
    columns = zip(*records, strict=True)
    arrays = [pa.array(values, field.type) for field, values in zip(FIELDS, columns, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(FIELDS))


def _letters(bodies: list[bytes]) -> _Letters | None:
    """Return the sequences below the headers, or None if a sequence contains _END."""
    together = (_END.join(bodies) + _END).translate(UPPER, WHITE_SPACE)
    each = together.split(_END)
    each.pop()
    if len(each) != len(bodies):
        return None
    if b"." in together or DOS_END in together:
        each = list(map(without_end, each))
        together = _END.join(each) + _END
    elif b"*" in together:
        each = [sequence.rstrip(b"*") for sequence in each]
        together = _END.join(each) + _END
    lengths = np.fromiter(map(len, each), np.int64, len(each))
    starts = np.concatenate(([0], np.cumsum(lengths + 1)[:-1]))
    return _Letters(each, together, starts, lengths)


def _headers(lines: list[bytes]) -> list[str] | None:
    """Return the headers as text, or None if one contains a NUL byte."""
    together = b"\n".join(lines)
    return None if b"\0" in together else header_text(together).split("\n")


def _perhaps_refused(letters: _Letters, names: list[str], max_length: int) -> list[int]:
    """Return the indices of records that may have to be refused."""
    found = set(np.flatnonzero((letters.lengths == 0) | (letters.lengths > max_length)).tolist())
    if letters.together.translate(None, _RESIDUES_AND_END):
        found.update(n for n, sequence in enumerate(letters.each) if sequence.translate(None, _RESIDUES))
    if not all(names):
        found.update(n for n, name in enumerate(names) if not name)
    found.update(_perhaps_nucleotides(letters).tolist())
    return sorted(found)


def _perhaps_nucleotides(letters: _Letters) -> Indices:
    """Return the indices of sequences whose first MIN_NUCLEOTIDES letters, or all of fewer, are nucleotide codes.

    Compares _STEP letters of all remaining sequences at a time.
    """
    codes = np.frombuffer(letters.together, np.uint8)
    left = np.flatnonzero(letters.lengths)
    for first in range(0, MIN_NUCLEOTIDES, _STEP):
        last = letters.lengths[left, None] - 1
        columns = letters.starts[left, None] + np.minimum(np.arange(first, first + _STEP), last)
        left = left[_IS_NUCLEOTIDE[codes[columns]].all(axis=1)]
        if not len(left):
            break
    return left


def _structure_ids(sequences: list[bytes], valid: pa.Buffer | None) -> pa.Array:
    digests = pa.py_buffer(b"".join([structure_id(sequence) for sequence in sequences]))
    storage = pa.FixedSizeBinaryArray.from_buffers(pa.binary(_ID_BYTES), len(sequences), [valid, digests])
    return pa.ExtensionArray.from_storage(pa.uuid(), storage)


def _checksums(sequences: list[bytes], valid: pa.Buffer | None) -> pa.Array:
    digits = crc64_numbers(sequences).astype(">u8").tobytes().hex().upper().encode("ascii")
    return _strings(digits, np.full(len(sequences), _CRC_DIGITS), valid)


def _strings(text: bytes, lengths: Indices, valid: pa.Buffer | None) -> pa.Array:
    """Return consecutive pieces of `text`, of the given lengths, as an array of strings."""
    ends = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    return pa.StringArray.from_buffers(len(lengths), pa.py_buffer(ends), pa.py_buffer(text), valid)
