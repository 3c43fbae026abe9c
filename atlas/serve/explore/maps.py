"""What is drawn of a map in a window: points, or where there are too many, the density of cells.

The body is binary, little-endian: 4 bytes `FAM1`, the length of the header (uint32), the header (JSON, padded with
spaces to a multiple of 8 bytes), and arrays one after the other, as the header lists them in `arrays`.

    points    x float32 [N], y float32 [N], color float32 [N], key uint32 [N]
    density   count uint32 [H, W], color float32 [H, W], share float32 [H, W]; row 0 is at y0, the least y

`color` of a point is the value of a number, or the code of a choice or flag: the place among `values`, 254 of other
values; NaN without a value. Of a cell it is the mean of its numbers, or the code of the most frequent value; `share` is
the fraction of its proteins that have a number, or that value.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from foldatlas.atlas.serve.explore.columns import NONE
from foldatlas.atlas.serve.explore.conditions import MAPS, MAX_NUMBER
from foldatlas.atlas.serve.explore.regions import box_sql, double_sql
from foldatlas.atlas.serve.explore.table import ExplorerTable
from foldatlas.schemas.errors import UsageError

MAX_POINTS: Final = 100_000
MAX_CELLS: Final = 1 << 18  # 512 x 512
MAGIC: Final = b"FAM1"

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a map, with the number of cells of its density."""

    x0: float
    x1: float
    y0: float
    y1: float
    width: int
    height: int

    def __post_init__(self) -> None:
        values = (self.x0, self.x1, self.y0, self.y1)
        if not all(abs(value) < MAX_NUMBER for value in values) or not (self.x0 < self.x1 and self.y0 < self.y1):
            raise UsageError("a window has finite x0 < x1 and y0 < y1")
        if self.width < 1 or self.height < 1 or self.width * self.height > MAX_CELLS:
            raise UsageError(f"a density has at most {MAX_CELLS:,} cells")


def map_of(
    table: ExplorerTable,
    name: str,
    window: Window,
    color: str | None,
    condition: str,
    parameters: Sequence[Any],
    max_points: int = MAX_POINTS,
) -> bytes:
    """Return what is drawn of the proteins in a window of a map that meet a condition. Raise UsageError."""
    x, y = place_of(table, name)
    if color is not None and color not in table.columns:
        raise UsageError(f"there is no column {color[:80]!r}: GET /v1/explore/columns lists them")
    inside = f"{box_sql(x, window.x0, window.x1)} AND {box_sql(y, window.y0, window.y1)} AND ({condition})"
    header = {"map": name, "color": color, "window": [window.x0, window.x1, window.y0, window.y1]}
    found = table.execute(
        f"SELECT {x}::FLOAT AS x, {y}::FLOAT AS y, {_color(table, color)} AS color, key FROM proteins WHERE {inside} "
        f"LIMIT {max_points + 1}",
        parameters,
    ).fetchnumpy()
    number = len(found["key"])
    if number <= max_points:
        arrays: dict[str, npt.NDArray[Any]] = {
            **{each: np.ma.filled(found[each], np.nan).astype("<f4") for each in ("x", "y", "color")},
            "key": np.asarray(found["key"]).astype("<u4"),
        }
        return packed({**header, "kind": "points", "matching": number}, arrays)
    counts, colors, shares = _density(table, x, y, window, color, inside, parameters)
    arrays = {"count": counts.astype("<u4"), "color": colors.astype("<f4"), "share": shares.astype("<f4")}
    size = {"width": window.width, "height": window.height}
    return packed({**header, "kind": "density", "matching": int(counts.sum()), **size}, arrays)


def packed(header: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Return a body: see above."""
    listed = [{"name": name, "type": str(array.dtype), "length": int(array.size)} for name, array in arrays.items()]
    text = msgspec.json.encode({**header, "arrays": listed})
    text += b" " * (-len(text) % 8)
    return b"".join([MAGIC, len(text).to_bytes(4, "little"), text, *(array.tobytes() for array in arrays.values())])


def place_of(table: ExplorerTable, name: str) -> tuple[str, str]:
    """Return the expressions of x and y of a map on the table. Raise UsageError."""
    if name not in table.maps:
        raise UsageError(f"there is no map {name[:80]!r} here: GET /v1/explore/columns lists maps")
    return MAPS[name].x, MAPS[name].y


def _color(table: ExplorerTable, color: str | None) -> str:
    if color is None:
        return "'nan'::FLOAT"
    column = table.columns[color].column
    if column.kind == "number":
        return f"{column.selects}::FLOAT"
    return f"nullif({column.code}, {NONE})::FLOAT"


def _density(
    table: ExplorerTable, x: str, y: str, window: Window, color: str | None, inside: str, parameters: Sequence[Any]
) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    """Return the number of proteins, the colour and its share in each cell."""
    row = _cell(y, window.y0, window.y1, window.height)
    cell = f"({row} * {window.width} + {_cell(x, window.x0, window.x1, window.width)})::INTEGER"
    size = window.width * window.height
    counts = np.zeros(size, np.int64)
    colors, shares = np.full(size, np.nan, np.float32), np.zeros(size, np.float32)
    column = table.columns[color].column if color is not None else None
    if column is None or column.kind == "number":
        value = "0" if column is None else f"CASE WHEN isfinite({column.selects}::DOUBLE) THEN {column.selects} END"
        found = table.execute(
            f"SELECT {cell} AS cell, count(*) AS number, avg(({value})::DOUBLE)::FLOAT AS mean, "
            f"count({value}) AS known FROM proteins WHERE {inside} GROUP BY cell",
            parameters,
        ).fetchnumpy()
        cells = np.asarray(found["cell"])
        counts[cells] = found["number"]
        if column is not None:
            colors[cells] = np.ma.filled(found["mean"], np.nan)
            shares[cells] = found["known"] / found["number"]
        return counts, colors, shares
    found = table.execute(
        f"SELECT {cell} AS cell, {column.code} AS code, count(*) AS number FROM proteins WHERE {inside} "
        "GROUP BY cell, code",
        parameters,
    ).fetchnumpy()
    cells, codes, numbers = (np.asarray(found[name]) for name in ("cell", "code", "number"))
    np.add.at(counts, cells, numbers)
    # The most frequent value of each cell: of equals the first.
    order = np.lexsort((codes, -numbers, cells))
    firsts = order[np.concatenate([[True], np.diff(cells[order]) != 0])] if len(order) else order
    colors[cells[firsts]] = np.where(codes[firsts] == NONE, np.nan, codes[firsts])
    shares[cells[firsts]] = numbers[firsts] / counts[cells[firsts]]
    return counts, colors, shares


def _cell(axis: str, low: float, high: float, number: int) -> str:
    """Return SQL of the place of a position among `number` cells of an axis."""
    scale = number / (high - low)
    if not math.isfinite(scale):
        raise UsageError("the window is too narrow")
    return f"least({number - 1}, floor(({axis}::DOUBLE - {double_sql(low)}) * {double_sql(scale)}))"
