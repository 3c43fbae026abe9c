"""Decode the structures and arrays of ESM Atlas v1's tables: brotli over MessagePack with NumPy arrays.

A blob is a map, as `ProteinChain.to_blob` of the package esm is said to write it (no blob of the ESM Atlas was at
hand): `atom37_positions` and `atom37_mask`, the positions either of all atoms [L, 37, 3] or of those in the mask
[N, 3]. An array is a map {nd, type, kind, shape, data} (msgpack-numpy). Its own decoder would unpickle arrays of
objects, so it is not used: only numbers are decoded here, and every size is checked before memory is allocated.
"""

import importlib.util
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from foldatlas.atlas.reference.chains import MAX_COORDINATE, StructureFault
from foldatlas.folding.compare.atom_layouts import ATOM37
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.records import ATOMS

Floats = npt.NDArray[np.float32]

PACKAGES: Final = ("lance", "brotli", "msgpack")
ADVICE: Final = "tables of the ESM Atlas need further packages: pip install 'foldatlas[lance]'"

# Limits of one blob. A residue has at most 37 positions of 24 bytes, a mask, and a few numbers.
_BYTES_PER_RESIDUE: Final = 1_200
_BYTES_BESIDE: Final = 64 << 10
MAX_ITEMS: Final = 256  # of a list or map: arrays are not lists
_MAX_TEXT: Final = 1 << 20
_DTYPES: Final = ("<f2", "<f4", "<f8", "|b1", "|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8")
_MAX_DIMENSIONS: Final = 3
_BLOCK: Final = 1 << 16  # bytes of compressed data that are decompressed at once


def check_packages() -> None:
    """Raise UsageError where the extra [lance] is not installed."""
    if not all(importlib.util.find_spec(name) for name in PACKAGES):
        raise UsageError(ADVICE)


def positions_of(blob: bytes, sequence: str) -> Floats:
    """Return the atoms of `sequence` that a blob has, float32 [A, 3] in angstrom in the order of `records.ATOMS`, NaN
    for a missing atom.

    Raise StructureFault: `too_large`, `unsafe` (objects, or types that are not numbers), `unreadable`,
    `other_sequence`, `bad_coordinates`, or `empty`.
    """
    content = decoded(blob, len(sequence) * _BYTES_PER_RESIDUE + _BYTES_BESIDE)
    if not isinstance(content, dict):
        raise StructureFault("unreadable", f"the blob is a {type(content).__name__}, not a map")
    stated = content.get("sequence")
    if isinstance(stated, str) and stated != sequence:
        raise StructureFault("other_sequence", "the structure is of another sequence than its row")
    with np.errstate(invalid="ignore"):  # signalling NaN
        positions = array_of(content.get("atom37_positions"), "atom37_positions").astype(np.float64)
    mask = content.get("atom37_mask")
    shape = (len(sequence), len(ATOM37))
    is_present = np.ones(shape, bool) if mask is None else array_of(mask, "atom37_mask").astype(bool)
    if is_present.shape != shape:
        raise StructureFault("other_sequence", f"it has atoms {is_present.shape}, its sequence {shape}")
    if positions.shape == (int(is_present.sum()), 3) and mask is not None:
        dense = np.full((*shape, 3), np.nan)
        dense[is_present] = positions
    elif positions.shape == (*shape, 3):
        dense = np.where(is_present[..., None], positions, np.nan)
    else:
        raise StructureFault("other_sequence", f"it has positions {positions.shape}, its sequence {shape}")
    return _stored_atoms(dense, sequence)


def array_of(value: Any, name: str) -> npt.NDArray[Any]:
    """Return the array of numbers that `value` describes. Raise StructureFault for anything else."""
    if not isinstance(value, Mapping) or value.get("nd") is not True:
        raise StructureFault("unreadable", f"{name} is not an array")
    kind, dtype, shape, data = (value.get(key) for key in ("kind", "type", "shape", "data"))
    if kind not in (b"", "", None):
        raise StructureFault("unsafe", f"{name} is an array of objects, which are not read")
    if isinstance(dtype, bytes):
        dtype = dtype.decode("latin-1")
    if dtype not in _DTYPES:
        raise StructureFault("unsafe", f"{name} has the type {str(dtype)[:40]!r}, not that of numbers")
    if not isinstance(shape, list) or not isinstance(data, bytes) or not 0 < len(shape) <= _MAX_DIMENSIONS:
        raise StructureFault("unreadable", f"{name} has no shape or no data")
    if any(type(size) is not int or not 0 <= size < 1 << 31 for size in shape):
        raise StructureFault("unreadable", f"{name} has an invalid shape")
    number = 1
    for size in shape:
        number *= size
    if number * np.dtype(dtype).itemsize != len(data):
        raise StructureFault("unreadable", f"{name} has {len(data):,} bytes, which its shape does not fit")
    return np.frombuffer(data, dtype).reshape(shape) if number else np.empty(shape, dtype)


def decoded(blob: bytes, most: int) -> Any:
    """Return the content of a blob: maps with text as keys, lists, text, bytes and numbers.

    `most` is the limit of its decompressed size. Raise StructureFault.
    """
    import msgpack

    content = _decompressed(blob, most)
    try:
        return msgpack.unpackb(
            content,
            raw=False,
            strict_map_key=False,
            object_pairs_hook=_with_text_keys,
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
            max_str_len=_MAX_TEXT,
            max_bin_len=len(content),
            max_ext_len=0,
        )
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError, TypeError, OverflowError) as error:
        raise StructureFault("unreadable", f"it is not MessagePack: {type(error).__name__}: {error}") from error


def _with_text_keys(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    return {key.decode("latin-1") if isinstance(key, bytes) else str(key): value for key, value in pairs}


def _decompressed(blob: bytes, most: int) -> bytes:
    """Return the decompressed blob. Raise StructureFault if it is damaged, or has more than `most` bytes."""
    import brotli

    if len(blob) > most:
        raise StructureFault("too_large", f"the blob has {len(blob):,} bytes, more than {most:,}")
    decompressor = brotli.Decompressor()
    found = bytearray()
    try:
        data = blob
        while not decompressor.is_finished():
            part = decompressor.process(data, output_buffer_limit=_BLOCK)
            data = b""
            found += part
            if len(found) > most:
                raise StructureFault("too_large", f"the blob has more than {most:,} bytes decompressed")
            if not part and decompressor.can_accept_more_data():
                raise StructureFault("unreadable", "the blob ends inside its compressed data")
    except brotli.error as error:
        raise StructureFault("unreadable", f"the blob is not brotli: {error}") from error
    return bytes(found)


def _stored_atoms(dense: npt.NDArray[np.float64], sequence: str) -> Floats:
    parts = [dense[row, _COLUMNS[letter]] for row, letter in enumerate(sequence)]
    positions = np.concatenate(parts) if parts else np.empty((0, 3))
    if (
        not np.isfinite(positions[~np.isnan(positions).any(axis=1)]).all()
        or np.nanmax(np.abs(positions), initial=0.0) > MAX_COORDINATE
    ):
        raise StructureFault("bad_coordinates", f"coordinates beyond {MAX_COORDINATE:,.0f} angstrom")
    if np.isnan(positions).any(axis=1).all():
        raise StructureFault("empty", "it has no atoms")
    positions[np.isnan(positions).any(axis=1)] = np.nan
    return positions.astype(np.float32)


_COLUMNS: Final = {letter: [ATOM37.index(name) for name in names] for letter, names in ATOMS.items()}
