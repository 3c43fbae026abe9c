"""Regions of a map as SQL: rectangles, and polygons by the even-odd rule, in double precision.

The explorer's table has the cell of each point on a grid; a cell that no edge of a polygon is near is inside or outside
as a whole. Points near edges are compared with these once, by numpy, with the same comparisons as the SQL that people
see, and become a mask: as SQL, edges cost five times as much, since DuckDB evaluates each for each of its vectors.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from foldatlas.schemas.errors import UsageError

Corners = Sequence[tuple[float, float]]
Flags = npt.NDArray[np.bool_]
Doubles = npt.NDArray[np.float64]

SIDE: Final = 256  # cells of a side of the grid, so that the number of a cell has two bytes


@dataclass(frozen=True, slots=True)
class Grid:
    """Cells of a map whose positions are from x0 to x1 and y0 to y1. `cell` is their column in the explorer's table."""

    cell: str
    x0: float
    x1: float
    y0: float
    y1: float

    @property
    def width(self) -> float:
        return (self.x1 - self.x0) / SIDE or 1.0

    @property
    def height(self) -> float:
        return (self.y1 - self.y0) / SIDE or 1.0

    def cell_sql(self, x: str, y: str) -> str:
        """Return SQL of the number of a point's cell, row by row from y0."""
        row, column = (
            f"least({SIDE - 1}, floor(({axis}::DOUBLE - {double_sql(low)}) / {double_sql(step)}))"
            for axis, low, step in ((y, self.y0, self.height), (x, self.x0, self.width))
        )
        return f"({row} * {SIDE} + {column})::USMALLINT"


class _Edge(NamedTuple):
    """An edge of a polygon: where it is along y, and x on it as `start + slope * y`."""

    low: float
    high: float
    start: float
    slope: float


class Polygon:
    """A polygon of a map whose points are in cells of a grid: which cells are inside, and which have to be looked at.

    `x` and `y` are expressions of the explorer's table.
    """

    def __init__(self, x: str, y: str, corners: Corners, grid: Grid):
        self.x = x
        self.y = y
        self.corners = tuple(corners)
        self.grid = grid
        self._edges = _edges(corners)
        self._near = _near(grid, corners)
        self._inside = _inside(grid, self._edges) & ~self._near

    @classmethod
    def on(cls, x: str, y: str, corners: Corners, grid: Grid) -> "Polygon | None":
        """Return the polygon, or None if rounding may move an edge by a cell. Raise UsageError."""
        reach = max((abs(edge.slope) for edge in _edges(corners)), default=0) * max(abs(y) for _, y in corners)
        return cls(x, y, corners, grid) if reach * 1e-12 <= grid.width else None

    @property
    def near_sql(self) -> str:
        """SQL of whether a point is near an edge."""
        return _bit(self._near, self.grid.cell)

    def sql(self, of_bit: str) -> str:
        """Return SQL of whether a point is inside, `of_bit` being true of those near edges that are."""
        return f"{_bit(self._inside, self.grid.cell)} OR {of_bit}"

    def contains(self, x: Doubles, y: Doubles) -> Flags:
        """Return whether points are inside, bool [N], by the same comparisons as `inside_sql` makes."""
        order = np.argsort(y)
        xs, ys = x[order], y[order]
        inside = np.zeros(len(xs), np.bool_)
        for edge in self._edges:
            rows = slice(*np.searchsorted(ys, [edge.low, edge.high], side="right"))
            inside[rows] ^= xs[rows] < edge.start + edge.slope * ys[rows]
        (x0, y0), (x1, y1) = np.min(self.corners, axis=0), np.max(self.corners, axis=0)
        inside &= (xs >= x0) & (xs <= x1) & (ys >= y0) & (ys <= y1)
        found = np.empty_like(inside)
        found[order] = inside
        return found


def inside_sql(x: str, y: str, corners: Corners) -> str:
    """Return SQL of whether a point is inside corners: two of a rectangle, or those of a polygon. Raise UsageError."""
    xs, ys = zip(*corners, strict=True)
    box = f"{box_sql(x, min(xs), max(xs))} AND {box_sql(y, min(ys), max(ys))}"
    if len(corners) == 2:
        return box
    edges = _edges(corners)
    return f"{box} AND {_crossed(x, y, edges)}" if edges else "false"


def box_sql(axis: str, low: float, high: float) -> str:
    """Return SQL of whether a position is between two numbers, both included."""
    return f"{axis} >= {double_sql(low)} AND {axis} <= {double_sql(high)}"


def double_sql(value: float) -> str:
    """Return a finite number as SQL of the type DOUBLE."""
    text = repr(float(value))
    return text if "e" in text else f"{text}e0"


def _edges(corners: Corners) -> list[_Edge]:
    """Return the edges of a polygon but those along x. Raise UsageError for corners too far apart."""
    edges = []
    for (x1, y1), (x2, y2) in itertools.pairwise([*corners, corners[0]]):
        if y1 == y2:
            continue
        slope = (x2 - x1) / (y2 - y1)
        start = x1 - slope * y1
        if not (math.isfinite(slope) and math.isfinite(start)):
            raise UsageError("corners of a region are too far apart")
        edges.append(_Edge(min(y1, y2), max(y1, y2), start, slope))
    return edges


def _crossed(x: str, y: str, edges: Sequence[_Edge]) -> str:
    """Return SQL of whether a ray from a point crosses an odd number of edges."""
    crossed = " + ".join(
        f"({y} > {double_sql(edge.low)} AND {y} <= {double_sql(edge.high)} AND "
        f"{x} < {double_sql(edge.start)} + {double_sql(edge.slope)} * {y})::INTEGER"
        for edge in edges
    )
    return f"({crossed}) % 2 = 1"


def _inside(grid: Grid, edges: Sequence[_Edge]) -> Flags:
    """Return whether the middle of each cell is inside, bool [SIDE, SIDE]."""
    xs = grid.x0 + (np.arange(SIDE) + 0.5) * grid.width
    ys = grid.y0 + (np.arange(SIDE) + 0.5) * grid.height
    inside = np.zeros((SIDE, SIDE), np.bool_)
    for edge in edges:
        rows = np.flatnonzero((ys > edge.low) & (ys <= edge.high))
        inside[rows] ^= xs[None] < (edge.start + edge.slope * ys[rows])[:, None]
    return inside


def _near(grid: Grid, corners: Corners) -> Flags:
    """Return which cells an edge is in, or in a cell beside them, bool [SIDE, SIDE]."""
    near = np.zeros((SIDE, SIDE), np.bool_)
    for (x1, y1), (x2, y2) in itertools.pairwise([*corners, corners[0]]):
        # In cells, from the corner of the grid; y1 <= y2.
        (x1, y1), (x2, y2) = sorted(
            [
                ((x1 - grid.x0) / grid.width, (y1 - grid.y0) / grid.height),
                ((x2 - grid.x0) / grid.width, (y2 - grid.y0) / grid.height),
            ],
            key=lambda corner: corner[1],
        )
        for row in range(max(0, math.floor(max(y1, -2)) - 1), min(SIDE, math.floor(min(y2, SIDE + 2)) + 2)):
            ends = [x1, x2]
            if y2 > y1:  # the part of the edge that is in this row or the ones beside it
                ends = [x1 + (x2 - x1) * (min(max(y, y1), y2) - y1) / (y2 - y1) for y in (row - 1, row + 2)]
            left, right = (min(max(end, -2.0), SIDE + 2.0) for end in sorted(ends))
            near[row, max(0, math.floor(left) - 1) : max(0, math.floor(right) + 2)] = True
    return near


def _bit(flags: Flags, cell: str) -> str:
    return f"get_bit(from_hex('{np.packbits(flags).tobytes().hex()}')::BIT, {cell}::INTEGER) = 1"
