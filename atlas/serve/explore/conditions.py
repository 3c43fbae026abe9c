"""Conditions that the explorer adds to a filter: ranges of numbers, choices among values, regions of a map.

Each is SQL in two forms that select the same proteins: `shown`, on the view `proteins` of the index, which people see
and edit, and `fast`, on the explorer's table; None where only the index can answer.

    range=COLUMN:LEAST:BELOW     LEAST <= value < BELOW; either may be empty
    choice=COLUMN:VALUE          the value; several choices of one column are alternatives; COLUMN alone: no value
    region=MAP:X,Y,X,Y           two corners of a rectangle, or 3 to 100 corners of a polygon
"""

import functools
import itertools
import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from foldatlas.atlas.serve.explore.columns import NONE, ExploredColumn
from foldatlas.atlas.serve.filters import number_sql
from foldatlas.atlas.sql.text import literal, quoted
from foldatlas.schemas.errors import UsageError

PROJECTION: Final = "projection"
PLDDT_LENGTH: Final = "plddt_length"
MAX_CORNERS: Final = 100
MAX_NUMBER: Final = 1e30
MAX_COMPARISONS: Final = 1_500  # of points with edges in the fast form
_KEY: Final = "id, source, structure_id"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition as SQL in two forms."""

    shown: str
    fast: str | None


@dataclass(frozen=True, slots=True)
class MapOf:
    """Where the positions of a map are: expressions of x and y on the explorer's table and on `table` of the index."""

    name: str
    x: str
    y: str
    shown_x: str
    shown_y: str
    table: str | None


MAPS: Final = {
    PROJECTION: MapOf(PROJECTION, '"map x"', '"map y"', "x", "y", "projection"),
    PLDDT_LENGTH: MapOf(PLDDT_LENGTH, "length", "mean_plddt", "length", "mean_plddt", None),
}


def range_condition(columns: Mapping[str, ExploredColumn], text: str) -> Condition:
    """Return the condition of a `range`. Raise UsageError."""
    name, *bounds = text.rsplit(":", 2)
    column = _column(columns, name)
    if len(bounds) != 2 or column.kind != "number":
        raise UsageError("a range is COLUMN:LEAST:BELOW of a column of numbers, such as mean_plddt:70:90")
    least, below = (_number(bound) if bound else None for bound in bounds)
    parts = []
    if least is not None:
        parts.append(f"{{}} >= {number_sql(least)}")
    if below is not None:
        parts.append(f"{{}} < {number_sql(below)}")
    return _both(column, " AND ".join(parts) or "{} IS NOT NULL")


def choice_conditions(
    columns: Mapping[str, ExploredColumn], values: Mapping[str, Sequence[str]] | None, texts: Iterable[str]
) -> list[Condition]:
    """Return one condition for each column of `choice`s. `values` are the values with codes, by column; without them
    no condition is fast. Raise UsageError."""
    wanted: dict[str, list[str | None]] = {}
    for text in texts:
        name, separator, value = text.partition(":")
        wanted.setdefault(name, []).append(value if separator else None)
    return [_choice(_column(columns, name), values, chosen) for name, chosen in wanted.items()]


def _choice(
    column: ExploredColumn, values: Mapping[str, Sequence[str]] | None, chosen: Sequence[str | None]
) -> Condition:
    texts = list(dict.fromkeys(value for value in chosen if value is not None))
    if column.is_cluster:
        texts = [_uuid(text) for text in texts]
    if any("\0" in text for text in texts):
        raise UsageError("a value has no NUL character")
    if column.kind == "number" and texts:
        raise UsageError(f"{column.name} is a number: filter it with range={column.name}:LEAST:BELOW")
    if column.kind == "flag" and (strange := [text for text in texts if text not in ("true", "false")]):
        raise UsageError(f"{column.name} is true or false, not {strange[0][:80]!r}")
    parts = []
    if texts:
        listed = ", ".join(texts if column.kind == "flag" else [literal(text) for text in texts])
        parts.append(f"{{}} IN ({listed})" if len(texts) > 1 else f"{{}} = {listed}")
    if None in chosen:
        parts.append("{} IS NULL")
    condition = _both(column, " OR ".join(parts))
    if column.kind != "choice" or not texts:
        fast = " OR ".join(part.format(column.selects if column.kind != "choice" else column.code) for part in parts)
        if column.kind == "choice":
            fast = f"{column.code} = {NONE}"
        return Condition(condition.shown, fast)
    known = (values or {}).get(column.name)
    if known is None or any(text not in known for text in texts):
        return Condition(condition.shown, None)
    codes = [known.index(text) for text in texts] + ([NONE] if None in chosen else [])
    return Condition(condition.shown, f"{column.code} IN ({', '.join(map(str, codes))})")


def region_condition(text: str, maps: Iterable[str]) -> Condition:
    """Return the condition of a `region` of a map. Raise UsageError."""
    name, separator, rest = text.partition(":")
    if name not in MAPS or name not in maps:
        raise UsageError(f"there is no map {name[:80]!r} here: GET /v1/explore/columns lists maps")
    numbers = [_number(part) for part in rest.split(",")] if separator and len(rest) <= 10_000 else []
    corners = list(zip(numbers[::2], numbers[1::2], strict=False))
    if len(numbers) % 2 or not 2 <= len(corners) <= MAX_CORNERS:
        raise UsageError(f"a region is MAP:X,Y,X,Y: two corners of a rectangle, or 3 to {MAX_CORNERS} of a polygon")
    place = MAPS[name]
    shown = _inside(place.shown_x, place.shown_y, corners)
    if place.table is not None:
        shown = f"structure_id IN (SELECT structure_id FROM {place.table} WHERE {shown})"
    return Condition(shown, _inside(place.x, place.y, corners, is_fast=True))


class _Edge(NamedTuple):
    """An edge of a polygon: where it is along y, and x on it as `start + slope * y`."""

    low: float
    high: float
    start: float
    slope: float


def _inside(x: str, y: str, corners: Sequence[tuple[float, float]], *, is_fast: bool = False) -> str:
    """Return SQL of whether a point is inside corners, by the even-odd rule, in double precision.

    The fast form makes the same comparisons, but of each point only with the edges that are at its y.
    """
    xs, ys = zip(*corners, strict=True)
    box = f"{box_sql(x, min(xs), max(xs))} AND {box_sql(y, min(ys), max(ys))}"
    if len(corners) == 2:
        return box
    edges = _edges(corners)
    if not edges:
        return "false"
    if is_fast and (found := _slabs(x, y, edges)) is not None:
        return f"{box} AND {found}"
    crossed = " + ".join(
        f"({y} > {double_sql(edge.low)} AND {y} <= {double_sql(edge.high)} AND {_is_left(x, y, edge)})::INTEGER"
        for edge in edges
    )
    return f"{box} AND ({crossed}) % 2 = 1"


def _edges(corners: Sequence[tuple[float, float]]) -> list[_Edge]:
    """Return the edges of a polygon but those along x. Raise UsageError for corners too far apart."""
    edges = []
    for (x1, y1), (x2, y2) in zip(corners, [*corners[1:], corners[0]], strict=True):
        if y1 == y2:
            continue
        slope = (x2 - x1) / (y2 - y1)
        start = x1 - slope * y1
        if not (math.isfinite(slope) and math.isfinite(start)):
            raise UsageError("corners of a region are too far apart")
        edges.append(_Edge(min(y1, y2), max(y1, y2), start, slope))
    return edges


def _slabs(x: str, y: str, edges: Sequence[_Edge]) -> str | None:
    """Return SQL that finds the edges at the y of a point by bisection; None if it would be too long."""
    ends = sorted({end for edge in edges for end in (edge.low, edge.high)})
    slabs = [
        [edge for edge in edges if edge.low <= low and edge.high >= high] for low, high in itertools.pairwise(ends)
    ]
    if sum(map(len, slabs)) > MAX_COMPARISONS:
        return None

    def tree(first: int, last: int) -> str:
        if first == last:
            parities = [_is_left(x, y, edge) for edge in slabs[first]]
            return functools.reduce("({}) <> ({})".format, parities) if parities else "false"
        middle = (first + last) // 2
        return (
            f"CASE WHEN {y} <= {double_sql(ends[middle + 1])} THEN {tree(first, middle)} "
            f"ELSE {tree(middle + 1, last)} END"
        )

    return f"{y} > {double_sql(ends[0])} AND ({tree(0, len(slabs) - 1)})"


def _is_left(x: str, y: str, edge: _Edge) -> str:
    return f"{x} < {double_sql(edge.start)} + {double_sql(edge.slope)} * {y}"


def _both(column: ExploredColumn, pattern: str) -> Condition:
    """Return a condition on a column; {} in `pattern` is its value."""
    fast = pattern.replace("{}", column.selects)
    if column.view is None or column.given is None:
        shown = pattern.replace("{}", f"({column.sql})" if column.is_computed else column.sql)
        return Condition(shown, fast)
    value = f"min({quoted(column.given)})"
    having = pattern.replace("{}", value)
    found = f"SELECT {_KEY} FROM {quoted(column.view)} GROUP BY {_KEY} HAVING "
    if "IS NULL" not in pattern:
        return Condition(f"({_KEY}) IN ({found}{having})", fast)
    parts = [f"({_KEY}) NOT IN ({found}{value} IS NOT NULL)"]
    if " OR " in pattern:  # the values, or none
        parts.append(f"({_KEY}) IN ({found}{having.rpartition(' OR ')[0]})")
    return Condition(" OR ".join(parts), fast)


def _column(columns: Mapping[str, ExploredColumn], name: str) -> ExploredColumn:
    if name not in columns:
        raise UsageError(f"there is no column {name[:80]!r}: GET /v1/explore/columns lists them")
    return columns[name]


def _number(text: str) -> float:
    try:
        value = float(text) if len(text) <= 40 and text.isascii() and "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not abs(value) < MAX_NUMBER:
        raise UsageError(f"{text[:80]!r} is not a finite number")
    return value


def _uuid(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise UsageError(f"{text[:80]!r} is not a structure_id") from None


def box_sql(axis: str, low: float, high: float) -> str:
    """Return SQL of whether a position is between two numbers, both included."""
    return f"{axis} >= {double_sql(low)} AND {axis} <= {double_sql(high)}"


def double_sql(value: float) -> str:
    """Return a finite number as SQL of the type DOUBLE."""
    text = repr(float(value))
    return text if "e" in text else f"{text}e0"
