"""A block of FASTA records checked at once: what `validation.check` says of each, at a third of the cost.

Nearly all records of a file are good, and that is told of thousands of them by a few passes over their bytes. What is
not plainly good is judged by `validation.check`, one by one: only there is anything refused.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from foldatlas.pipeline.sources.fasta import WHITE_SPACE, RawBlock, RawRecord
from foldatlas.pipeline.sources.headers import read_text
from foldatlas.pipeline.sources.validation import UPPER, Record, check, crc64_numbers
from foldatlas.schemas.records import MIN_NUCLEOTIDES, NUCLEOTIDES, RESIDUES, Outcome, structure_id
from foldatlas.schemas.tables import STAGING

FIELDS: Final = [field for field in STAGING if field.name != "source"]

_END: Final = b">"  # between sequences: no letter of any, where it is one after all the block is checked one by one
_RESIDUES_AND_END: Final = "".join(sorted(RESIDUES)).encode() + _END
_RESIDUES: Final = _RESIDUES_AND_END[:-1]
_IS_NUCLEOTIDE: Final = np.array([chr(code) in NUCLEOTIDES for code in range(256)])
_ID_BYTES: Final = 16
_CRC_DIGITS: Final = 16

Indices = npt.NDArray[np.int64]


class _Letters(NamedTuple):
    """Sequences in upper case and without white space, one by one, together with an end behind each, and where each
    begins in the latter."""

    each: list[bytes]
    together: bytes
    starts: Indices
    lengths: Indices


def check_block(block: RawBlock, max_length: int) -> pa.RecordBatch:
    """The columns FIELDS of a block's records, as `validation.check` gives them. `max_length` in residues."""
    texts = block.texts
    parts = [text.partition(b"\n") for text in texts]
    letters = _letters([body for _, _, body in parts])
    headers = _headers([line for line, _, _ in parts])
    if letters is None or headers is None or block.dropped or block.truncated:
        return to_batch([check(raw, max_length) for raw in block.records()])
    read = [read_text(header) for header in headers]
    names, descriptions, mgyps, fragments = (list(column) for column in zip(*read, strict=True))
    offsets = block.offsets()
    lengths, outcomes = letters.lengths, [str(Outcome.ACCEPTED)] * len(texts)
    for index in _doubtful(letters, names, max_length):
        record = check(RawRecord(offsets[index], texts[index], 0, False), max_length)
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
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(FIELDS))


def to_batch(records: list[Record]) -> pa.RecordBatch:
    """Records that were checked one by one, as `check_block` gives them."""
    columns = zip(*records, strict=True)
    arrays = [pa.array(values, field.type) for field, values in zip(FIELDS, columns, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(FIELDS))


def _letters(bodies: list[bytes]) -> _Letters | None:
    """What stands below the headers, or None where a sequence holds the end itself."""
    together = (_END.join(bodies) + _END).translate(UPPER, WHITE_SPACE)
    each = together.split(_END)
    each.pop()
    if len(each) != len(bodies):
        return None
    if b"*" in together:
        each = [sequence.removesuffix(b"*") for sequence in each]
        together = _END.join(each) + _END
    lengths = np.fromiter(map(len, each), np.int64, len(each))
    starts = np.concatenate(([0], np.cumsum(lengths + 1)[:-1]))
    return _Letters(each, together, starts, lengths)


def _headers(lines: list[bytes]) -> list[str] | None:
    """Headers as text, or None where one is none."""
    together = b"\n".join(lines)
    if b"\0" in together:
        return None
    try:
        return together.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        return None


def _doubtful(letters: _Letters, names: list[str], max_length: int) -> list[int]:
    """Records that may have to be refused."""
    doubtful = set(np.flatnonzero((letters.lengths == 0) | (letters.lengths > max_length)).tolist())
    if letters.together.translate(None, _RESIDUES_AND_END):
        doubtful.update(n for n, sequence in enumerate(letters.each) if sequence.translate(None, _RESIDUES))
    if not all(names):
        doubtful.update(n for n, name in enumerate(names) if not name)
    doubtful.update(_perhaps_nucleotides(letters).tolist())
    return sorted(doubtful)


def _perhaps_nucleotides(letters: _Letters) -> Indices:
    """Sequences whose first MIN_NUCLEOTIDES letters are nucleotides: a column of letters at a time, of those left."""
    codes = np.frombuffer(letters.together, np.uint8)
    left = np.flatnonzero(letters.lengths >= MIN_NUCLEOTIDES)
    for place in range(MIN_NUCLEOTIDES):
        left = left[_IS_NUCLEOTIDE[codes[letters.starts[left] + place]]]
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
    """Strings that stand behind each other in `text`."""
    ends = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    return pa.StringArray.from_buffers(len(lengths), pa.py_buffer(ends), pa.py_buffer(text), valid)
