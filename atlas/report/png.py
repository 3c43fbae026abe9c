"""A matrix as a PNG image with a colour scale, without an imaging library (PNG: W3C recommendation, third edition)."""

import base64
import struct
import zlib
from typing import Final

import numpy as np
import numpy.typing as npt

MAX_SIDE: Final = 256  # pixels; larger matrices are averaged in blocks

# The scale of the AlphaFold Database: dark green for 0, white from 30 angstrom. Its luminance grows evenly.
_DARK: Final = np.array([0, 68, 27], np.float64)
MAX_PAE: Final = 30.0


def pae_image(pae_LL: npt.NDArray[np.float32]) -> str:
    """Return a `data:` address of a PNG image of predicted aligned errors, in angstrom: row i is aligned residue i."""
    shade = np.clip(_averaged(pae_LL) / MAX_PAE, 0, 1)[..., None]
    pixels = np.rint(_DARK + (255 - _DARK) * shade).astype(np.uint8)
    return "data:image/png;base64," + base64.b64encode(_png(pixels)).decode("ascii")


def _averaged(matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the matrix in at most MAX_SIDE rows and columns, each the mean of a block."""
    step = -(-len(matrix) // MAX_SIDE)
    starts = np.arange(0, len(matrix), step)
    counts = np.diff([*starts, len(matrix)])
    rows = np.add.reduceat(matrix.astype(np.float64), starts, axis=0) / counts[:, None]
    means: npt.NDArray[np.float64] = np.add.reduceat(rows, starts, axis=1) / counts
    return means


def _png(pixels_HW3: npt.NDArray[np.uint8]) -> bytes:
    height, width, _ = pixels_HW3.shape
    lines = b"".join(b"\0" + line.tobytes() for line in pixels_HW3)  # filter type 0 before each line
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
