"""Predicted aligned errors as a compact matrix of bytes for a page.

    bytes 0-3    n, rows and columns of the matrix
    bytes 4-7    L, residues of the protein
    bytes 8-11   f, residues of a row or column; above 1, a value is the mean of a block of f x f pairs
    bytes 12-15  s, values of one angstrom: an error is value / s
    bytes 16-    n * n values, row by row

All four numbers are unsigned, little-endian, of 32 bits. In row i and column j is the error of residue j if the
structures are aligned on residue i. With f = 1 the values are exactly those that the atlas stores.
"""

import struct
from typing import Final

import numpy as np
import numpy.typing as npt

from foldatlas.schemas.tables import PAE_SCALE

HEADER: Final = struct.Struct("<4I")
DEFAULT_SIDE: Final = 1_024
MAX_SIDE: Final = 4_096

Floats = npt.NDArray[np.float32]


def compact(errors_LL: Floats, side: int) -> bytes:
    """Return the errors, in angstrom, as bytes of at most `side` rows, with the header that describes them."""
    length = len(errors_LL)
    block = max(1, -(-length // side))
    if block > 1:
        errors_LL = _block_means(errors_LL, block)
    values = np.rint(errors_LL * PAE_SCALE).astype(np.uint8)
    return HEADER.pack(len(values), length, block, PAE_SCALE) + values.tobytes()


def _block_means(errors_LL: Floats, block: int) -> Floats:
    """Return the means of blocks; those at the edges may be smaller."""
    starts = np.arange(0, len(errors_LL), block)
    sizes = np.diff([*starts, len(errors_LL)])
    sums = np.add.reduceat(np.add.reduceat(errors_LL, starts, axis=0, dtype=np.float64), starts, axis=1)
    means: Floats = (sums / np.outer(sizes, sizes)).astype(np.float32)
    return means
