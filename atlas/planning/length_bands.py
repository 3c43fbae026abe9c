"""Sort any number of sequences by decreasing length and remove duplicates, in bounded memory.

A bucket sort on disk: each accepted record is appended to the file of its band of lengths, and each band is then sorted
in memory. Equal sequences have the same length and id, so they are in the same band. Every sequence is written once and
read once, for any number of bands; an external merge sort reads and writes at least as much.

The keys of a band (structure id and length, 20 bytes per record) and its residues are in two files, so that the records
that stay, and their number by length, are known before the residues are read.
"""

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from foldatlas.schemas.errors import DamagedAtlasError
from foldatlas.schemas.tables import SEQUENCES

MAX_BANDS: Final = 1024  # each batch of records is split into up to so many parts, each appended to a file
_ROWS_PER_BATCH: Final = 50_000
_KEY: Final = np.dtype([("high", "<u8"), ("low", "<u8"), ("length", "<i4")])  # both halves of the id, and residues

Ids = npt.NDArray[np.uint64]  # [records, 2]: both halves of each id as big-endian numbers, which sort as the bytes do


def ids_of(column: pa.ChunkedArray | pa.Array) -> Ids:
    """Return the ids of a UUID column without NULLs."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    storage = array.storage if isinstance(array, pa.ExtensionArray) else array
    raw = np.frombuffer(storage.buffers()[1] or b"", dtype=">u8", count=2 * len(storage), offset=16 * storage.offset)
    return raw.astype(np.uint64).reshape(-1, 2)


class LengthBands:
    """Bands of lengths, longest first, in files of `folder`.

    `lengths` are the numbers of records to be added, as (length, number). A band takes about `band_bytes`: it has
    several neighbouring lengths, or one length, or, of a length with very many records, a range of ids.
    """

    def __init__(self, folder: Path, lengths: Sequence[tuple[int, int]], band_bytes: int):
        self._folder = folder
        folder.mkdir()
        sizes = {length: count * (length + _KEY.itemsize) for length, count in lengths if count}
        band_bytes = max(band_bytes, sum(sizes.values()) // (MAX_BANDS // 2), 1)
        longest = max(sizes, default=0)
        self._first = np.zeros(longest + 1, np.int32)  # first band of each length
        self._parts = np.ones(longest + 1, np.uint64)  # number of bands of each length
        self._kept: list[npt.NDArray[np.uint32]] = []
        self.num_bands, filled = 0, band_bytes
        for length in sorted(sizes, reverse=True):
            parts = -(-sizes[length] // band_bytes)
            if parts > 1 or filled + sizes[length] > band_bytes:
                self._first[length], self._parts[length] = self.num_bands, parts
                self.num_bands, filled = self.num_bands + parts, sizes[length] if parts == 1 else band_bytes
            else:
                self._first[length], filled = self.num_bands - 1, filled + sizes[length]

    def add(self, ids: Ids, sequences: pa.Array) -> None:
        """Append records to their bands. Duplicates within one call are written once."""
        if not len(ids):
            return
        lengths = np.diff(np.frombuffer(sequences.buffers()[1], np.int32, len(sequences) + 1, 4 * sequences.offset))
        high, low = ids[:, 0], ids[:, 1]
        bands = self._first[lengths] + _part_of(high, self._parts[lengths])
        order = np.lexsort((high, bands))
        is_copy = (bands[order][1:] == bands[order][:-1]) & (high[order][1:] == high[order][:-1])
        order = order[np.concatenate([[True], ~(is_copy & (low[order][1:] == low[order][:-1]))])]
        keys = np.empty(len(order), _KEY)
        keys["high"], keys["low"], keys["length"] = high[order], low[order], lengths[order]
        taken = sequences.take(pa.array(order))
        offsets = np.frombuffer(taken.buffers()[1], np.int32, len(taken) + 1, 4 * taken.offset)
        residues = memoryview(taken.buffers()[2] or b"")
        bands = bands[order]
        cuts = [0, *(np.flatnonzero(np.diff(bands)) + 1), len(order)]
        for start, end in itertools.pairwise(cuts):
            keys_path, residues_path = self._paths(int(bands[start]))
            with keys_path.open("ab") as file:
                file.write(keys[start:end].tobytes())
            with residues_path.open("ab") as file:
                file.write(residues[offsets[start] : offsets[end]])

    def settle(self, known: "KnownSequences") -> list[tuple[int, int]]:
        """Decide which records stay: one of each sequence that is not `known`. To be called after the last `add`.

        Return (length, number of sequences) by decreasing length.
        """
        counts: Counter[int] = Counter()
        for band in range(self.num_bands):
            keys = self._keys(band)
            high, low, lengths = (np.ascontiguousarray(keys[name]) for name in ("high", "low", "length"))
            order = np.lexsort((low, high, -lengths))
            high, low, lengths = high[order], low[order], lengths[order]
            stays = np.ones(len(order), np.bool_)
            stays[1:] = (lengths[1:] != lengths[:-1]) | (high[1:] != high[:-1]) | (low[1:] != low[:-1])
            if len(order):
                stays &= ~known.are_in(np.column_stack([high, low]), int(lengths[-1]), int(lengths[0]))
            found, numbers = np.unique(lengths[stays], return_counts=True)
            counts.update(dict(zip(found.tolist(), numbers.tolist(), strict=True)))
            order[stays].astype(np.uint32).tofile(self._order_path(band))
        return sorted(counts.items(), reverse=True)

    def rows(self) -> Iterator[pa.Table]:
        """Yield the records that stay, with the columns of SEQUENCES, by decreasing length, then increasing id.

        To be called after `settle`. The files of each band are deleted when it has been read.
        """
        for band in range(self.num_bands):
            keys, order = self._keys(band), np.fromfile(self._order_path(band), np.uint32)
            keys_path, residues_path = self._paths(band)
            if len(order):
                ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(keys["length"], dtype=np.int64)])
                residues = pa.py_buffer(residues_path.read_bytes())
                texts = pa.Array.from_buffers(pa.large_string(), len(keys), [None, pa.py_buffer(ends), residues])
                for start in range(0, len(order), _ROWS_PER_BATCH):
                    part = order[start : start + _ROWS_PER_BATCH]
                    ids = np.column_stack([keys["high"][part], keys["low"][part]]).astype(">u8")
                    storage = pa.Array.from_buffers(pa.binary(16), len(part), [None, pa.py_buffer(ids.tobytes())])
                    sequences = texts.take(pa.array(part)).cast(pa.string())
                    columns = [pa.ExtensionArray.from_storage(pa.uuid(), storage), sequences]
                    yield pa.Table.from_arrays([*columns, pa.array(keys["length"][part])], schema=SEQUENCES)
            for path in (keys_path, residues_path, self._order_path(band)):
                path.unlink(missing_ok=True)

    def _keys(self, band: int) -> npt.NDArray[np.void]:
        path = self._paths(band)[0]
        return np.fromfile(path, _KEY) if path.exists() else np.empty(0, _KEY)

    def _paths(self, band: int) -> tuple[Path, Path]:
        return self._folder / f"{band:04d}.keys", self._folder / f"{band:04d}.residues"

    def _order_path(self, band: int) -> Path:
        return self._folder / f"{band:04d}.order"


def _part_of(high: npt.NDArray[np.uint64], parts: npt.NDArray[np.uint64]) -> npt.NDArray[np.int32]:
    """Return which of `parts` equal ranges of ids each id is in, from 0, by the upper half of each id.

    The first 32 bits of an id, as a fraction of 2**32, are uniform in [0, 1) because ids are md5 digests. Multiplied by
    the number of parts and rounded down, they give the part: increasing with the id, and without overflow in 64 bits.
    """
    first_bits = high >> np.uint64(32)
    return (first_bits * parts >> np.uint64(32)).astype(np.int32)


class KnownSequences:
    """The sequences files of earlier plans.

    Statistics of row groups give the lengths in each, so that for a band only the row groups with its lengths are read,
    one at a time.
    """

    def __init__(self, paths: Sequence[Path]):
        self._groups: list[tuple[Path, int, int, int]] = []
        for path in paths:
            with _reading(path), pq.ParquetFile(path) as file:
                column = file.schema_arrow.get_field_index("length")
                for number in range(file.metadata.num_row_groups):
                    found = file.metadata.row_group(number).column(column).statistics
                    shortest, longest = (found.min, found.max) if found is not None else (0, np.iinfo(np.int32).max)
                    self._groups.append((path, number, shortest, longest))

    def are_in(self, ids: Ids, shortest: int, longest: int) -> npt.NDArray[np.bool_]:
        """Return which of `ids`, of sequences of `shortest` to `longest` residues, are known."""
        found = np.zeros(len(ids), np.bool_)
        groups = [group for group in self._groups if group[2] <= longest and group[3] >= shortest]
        if not groups:
            return found
        texts = _as_texts(ids)
        order = np.argsort(texts)
        texts = texts[order]
        for path, number, _, _ in groups:
            with _reading(path), pq.ParquetFile(path) as file:
                theirs = _as_texts(ids_of(file.read_row_group(number, columns=["structure_id"])["structure_id"]))
            starts, ends = np.searchsorted(texts, theirs, "left"), np.searchsorted(texts, theirs, "right")
            for copy in range(int((ends - starts).max(initial=0))):  # an id may occur several times
                found[order[starts[ends - starts > copy] + copy]] = True
        return found


def _as_texts(ids: Ids) -> npt.NDArray[np.bytes_]:
    """Return ids as 16 bytes each. numpy ignores trailing NUL bytes when it compares, which keeps the order."""
    return np.ascontiguousarray(ids.astype(">u8")).view("S16").reshape(-1)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn errors of reading `path` into DamagedAtlasError."""
    try:
        yield
    except (OSError, pa.ArrowInvalid) as error:
        raise DamagedAtlasError(
            f"planning stopped: {path} cannot be read ({str(error).splitlines()[0]}); "
            "`foldatlas verify` lists what is missing or damaged"
        ) from error
