"""Arrays of numbers as text columns of fixed width, for the structure writers.

Numbers are looked up in tables of texts, those with decimals in two parts: array copies instead of one call of a
formatter per number. Rounding is that of gemmi's PDB writer: to nearest, ties upwards, and no minus
sign before a zero. tests/atlas/test_pdb_files.py compares the text with gemmi's.

Shape: `N` numbers, of any shape. Each table is created at its first use and kept: 0.6 MB in total.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Text = npt.NDArray[np.bytes_]  # each element has its full width, without numpy's padding

COORDINATE_WIDTH: Final = 8  # characters: %8.3f
MIN_COORDINATE: Final = -999.999  # angstrom, limits of the width
MAX_COORDINATE: Final = 9_999.999
PLDDT_WIDTH: Final = 6  # characters: %6.2f

_THOUSAND: Final = 1_000
_WHOLES: Final = 10_000  # 0 to 9,999 before the decimal point
_TABLE_DIGITS: Final = 4  # digits of the integers in a table; longer integers are composed of several


def coordinates(angstrom: npt.NDArray[np.float32]) -> Text:
    """Return `%8.3f` of each: [N] of 8 characters. The caller checks MIN_COORDINATE and MAX_COORDINATE."""
    wholes, fractions = _coordinate_tables()
    # exact in float64: the product of 24 bits of a float32 and 10 bits of 1,000
    thousandths = np.floor(angstrom.astype(np.float64) * _THOUSAND + 0.5).astype(np.int32)
    magnitude = np.abs(thousandths)
    whole = magnitude // _THOUSAND
    text = np.empty((*angstrom.shape, 2), np.uint32)
    text[..., 1] = fractions[magnitude - whole * _THOUSAND]
    whole[thousandths < 0] += _WHOLES
    text[..., 0] = wholes[whole]
    return _as_text(text, COORDINATE_WIDTH)


def wide_coordinates(angstrom: npt.NDArray[np.float32]) -> Text:
    """Return `%.3f` of coordinates of any size, formatted one by one: [N], right-justified to the longest."""
    thousandths = np.floor(angstrom.astype(np.float64) * _THOUSAND + 0.5)
    texts = [f"{value:.3f}" for value in (thousandths / _THOUSAND + 0.0).ravel().tolist()]
    width = max(map(len, texts), default=1)
    return np.array([text.rjust(width).encode() for text in texts], f"S{width}").reshape(angstrom.shape)


def plddts(plddt: npt.NDArray[np.float32]) -> Text:
    """Return `%6.2f` of each value, 0 to 100: [N] of 6 characters."""
    return _plddt_table()[np.floor(plddt.astype(np.float64) * 100 + 0.5).astype(np.int32)]


def integers(values: npt.NDArray[np.int64], width: int) -> Text:
    """Return `%{width}d` of each value, 0 or more and of at most `width` digits: [N] of `width` characters."""
    if not values.size or width <= _TABLE_DIGITS or values.max() < _WHOLES:
        return _padded(_integer_table(min(width, _TABLE_DIGITS), " "), values, width)
    high = values // _WHOLES
    text = np.empty((*values.shape, width), np.uint8)
    text[..., :-_TABLE_DIGITS] = _characters(integers(high, width - _TABLE_DIGITS))
    low = values - high * _WHOLES
    text[..., -_TABLE_DIGITS:] = _characters(_integer_table(_TABLE_DIGITS, "0")[low])
    small = high == 0
    text[small] = _characters(_padded(_integer_table(_TABLE_DIGITS, " "), low[small], width))
    return _as_text(text, width)


def _padded(table: Text, values: npt.NDArray[np.int64], width: int) -> Text:
    if table.itemsize == width:
        return table[values]
    text = np.full((*values.shape, width), ord(" "), np.uint8)
    text[..., width - table.itemsize :] = _characters(table[values])
    return _as_text(text, width)


def _characters(text: Text) -> npt.NDArray[np.uint8]:
    """Return [N] texts of `width` characters as [N, width] codes."""
    return np.ascontiguousarray(text).view(np.uint8).reshape(*text.shape, text.itemsize)


def _as_text(parts: npt.NDArray[Any], width: int) -> Text:
    """Return [N, parts] as [N] texts of `width` characters."""
    return parts.view(f"S{width}")[..., 0]


@lru_cache(maxsize=1)
def _coordinate_tables() -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Return texts of 4 characters before the decimal point, negative ones from index _WHOLES on, and of 4 from it."""
    wholes = [f"{value:4d}" for value in range(_WHOLES)] + [f"-{value}".rjust(4) for value in range(_THOUSAND)]
    fractions = [f".{value:03d}" for value in range(_THOUSAND)]
    return np.array(wholes, "S4").view(np.uint32), np.array(fractions, "S4").view(np.uint32)


@lru_cache(maxsize=1)
def _plddt_table() -> Text:
    return np.array([f"{value / 100:6.2f}" for value in range(10_001)], f"S{PLDDT_WIDTH}")


@lru_cache(maxsize=2 * _TABLE_DIGITS)
def _integer_table(width: int, filler: str) -> Text:
    return np.array([str(value).rjust(width, filler) for value in range(10**width)], f"S{width}")


def joined(*columns: Text | str) -> str:
    """Return the text of columns side by side; a column that is a str is the same in every row."""
    (num_rows,) = {len(column) for column in columns if not isinstance(column, str)}
    widths = [len(column) if isinstance(column, str) else column.itemsize for column in columns]
    rows = np.empty((num_rows, sum(widths)), np.uint8)
    begin = 0
    for column, width in zip(columns, widths, strict=True):
        target = rows[:, begin : begin + width]
        target[:] = np.frombuffer(column.encode("ascii"), np.uint8) if isinstance(column, str) else _characters(column)
        begin += width
    return rows.tobytes().decode("ascii")


def as_columns(texts: Sequence[str]) -> Text:
    """Return texts as a column: left-justified, as wide as the longest."""
    width = max(map(len, texts))
    return np.array([text.ljust(width).encode("ascii") for text in texts], f"S{width}")
