"""Conditions that the explorer adds to a filter: ranges of numbers, choices among values, regions of a map.

Each is SQL in two forms that select the same proteins: `shown`, on the view `proteins` of the index, which people see
and edit, and `fast`, on the explorer's table; None where only the index can answer.

    range=COLUMN:LEAST:BELOW     LEAST <= value < BELOW; either may be empty
    choice=COLUMN:VALUE          the value; several choices of one column are alternatives; COLUMN alone: no value
    region=MAP:X,Y,X,Y           two corners of a rectangle, or 3 to 100 corners of a polygon
"""

import math
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from foldatlas.atlas.serve.explore.columns import NONE, ExploredColumn
from foldatlas.atlas.serve.explore.regions import Grid, Polygon, inside_sql
from foldatlas.atlas.serve.filters import OF_BIT, number_sql
from foldatlas.atlas.sql.text import literal, quoted
from foldatlas.schemas.errors import UsageError

PROJECTION: Final = "projection"
PLDDT_LENGTH: Final = "plddt_length"
MAX_CORNERS: Final = 100
MAX_NUMBER: Final = 1e30
_KEY: Final = "id, source, structure_id"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition as SQL in two forms. With `of_records`, records of one structure may differ in it.

    `fast` has a parameter if there is a `polygon`: the mask of the points near its edges that are inside.
    """

    shown: str
    fast: str | None
    of_records: bool = False
    polygon: Polygon | None = None


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

    def within(value: str) -> str:
        parts = [f"{value} >= {number_sql(least)}"] if least is not None else []
        parts += [f"{value} < {number_sql(below)}"] if below is not None else []
        return " AND ".join(parts) or f"{value} IS NOT NULL"

    return Condition(_shown(column, within), within(column.selects), column.of_records)


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
    listed = texts if column.kind == "flag" else [literal(text) for text in texts]

    def equals(value: str) -> str:
        return f"{value} IN ({', '.join(listed)})" if len(listed) > 1 else f"{value} = {listed[0]}"

    has_none = None in chosen
    shown = _shown(column, equals if listed else None, or_none=has_none)
    if column.kind != "choice":
        parts = [equals(column.selects)] if listed else []
        return Condition(shown, " OR ".join(parts + [f"{column.selects} IS NULL"] * has_none), column.of_records)
    known = (values or {}).get(column.name, ())
    if any(text not in known for text in texts):
        return Condition(shown, None, column.of_records)
    codes = [known.index(text) for text in texts] + [NONE] * has_none
    return Condition(shown, f"{column.code} IN ({', '.join(map(str, codes))})", column.of_records)


def region_condition(text: str, maps: Iterable[str], grids: Mapping[str, Grid] | None = None) -> Condition:
    """Return the condition of a `region` of a map; `grids` make it faster on the explorer's table. Raise UsageError."""
    name, separator, rest = text.partition(":")
    if name not in MAPS or name not in maps:
        raise UsageError(f"there is no map {name[:80]!r} here: GET /v1/explore/columns lists maps")
    numbers = [_number(part) for part in rest.split(",")] if separator and len(rest) <= 10_000 else []
    corners = list(zip(numbers[::2], numbers[1::2], strict=False))
    if len(numbers) % 2 or not 2 <= len(corners) <= MAX_CORNERS:
        raise UsageError(f"a region is MAP:X,Y,X,Y: two corners of a rectangle, or 3 to {MAX_CORNERS} of a polygon")
    place = MAPS[name]
    shown = inside_sql(place.shown_x, place.shown_y, corners)
    if place.table is not None:
        shown = f"structure_id IN (SELECT structure_id FROM {place.table} WHERE {shown})"
    polygon = None
    if len(corners) > 2 and grids is not None and name in grids:
        polygon = Polygon.on(place.x, place.y, corners, grids[name])
    if polygon is None:
        return Condition(shown, inside_sql(place.x, place.y, corners))
    return Condition(shown, polygon.sql(OF_BIT.format("key")), polygon=polygon)


def _shown(column: ExploredColumn, meets: Callable[[str], str] | None, *, or_none: bool = False) -> str:
    """Return SQL of the index that a column's value meets a condition, or, with `or_none`, that it has no value."""
    parts = []
    if column.view is None or column.given is None:
        value = f"({column.sql})" if column.is_computed else column.sql
        parts += [meets(value)] if meets is not None else []
        parts += [f"{value} IS NULL"] if or_none else []
    else:
        value = f"min({quoted(column.given)})"
        found = f"SELECT {_KEY} FROM {quoted(column.view)} GROUP BY {_KEY} HAVING"
        parts += [f"({_KEY}) NOT IN ({found} {value} IS NOT NULL)"] if or_none else []
        parts += [f"({_KEY}) IN ({found} {meets(value)})"] if meets is not None else []
    return " OR ".join(parts)


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
