"""Counts and histograms: of all proteins, and of those that meet a filter."""

from collections.abc import Sequence
from typing import Any, Final

from foldatlas.atlas.serve.explore.columns import NONE, OTHER
from foldatlas.atlas.serve.explore.table import Counts, Described, ExplorerTable
from foldatlas.schemas.errors import UsageError

MAX_COLUMNS: Final = 60  # of one summary


def columns_of(table: ExplorerTable, where: str) -> dict[str, Any]:
    """Return what can be filtered, drawn and coloured. `where` says who may type SQL: "public", "token" or "off"."""
    return {
        "indexed": table.indexed,
        "proteins": table.num_proteins,
        "where": where,
        "maps": [
            {
                "name": each.name, "label": each.label, "x_label": each.x_label, "y_label": each.y_label,
                "proteins": each.proteins, "x": each.x, "y": each.y,
            }
            for each in table.maps.values()
        ],
        "columns": [_column(each, table) for each in table.columns.values()],
        "sorts": list(table.orders),
    }  # fmt: skip


def _column(described: Described, table: ExplorerTable) -> dict[str, Any]:
    column = described.column
    least, greatest = column.parameters
    return {
        "name": column.name,
        "label": column.label,
        "type": column.kind,
        "unit": column.unit or None,
        "meaning": column.meaning or None,
        "sql": column.sql or None,
        "annotation": column.view,
        "first": column.is_first,
        "nulls": int(described.counts[NONE]),
        "is_integer": column.is_integer,
        "min": described.least,
        "max": described.greatest,
        "edges": described.edges or None,
        "values": None if column.kind == "number" else list(described.values),
        "counts": counts_of(described, described.counts),
        "others": int(described.counts[OTHER]),
        "parameters": {"min": least, "max": greatest},
    }


def counts_of(described: Described, counts: Counts) -> list[int]:
    """Return the numbers of proteins by bin or by value."""
    found: list[int] = counts[: described.num_codes].tolist()
    return found


def summary_of(table: ExplorerTable, names: Sequence[str], condition: str, parameters: Sequence[Any]) -> dict[str, Any]:
    """Return the number of proteins that meet a condition on the table, and their histograms. Raise UsageError."""
    if strange := [name for name in names if name not in table.columns]:
        raise UsageError(f"there is no column {strange[0][:80]!r}: GET /v1/explore/columns lists them")
    names = list(dict.fromkeys(names))
    if len(names) > MAX_COLUMNS:
        raise UsageError(f"a summary has at most {MAX_COLUMNS} columns")
    if condition == "true":
        counts = {name: table.columns[name].counts for name in names}
        matching = table.num_proteins
    else:
        counts = table.count(names, condition, parameters)
        if names:
            matching = int(counts[names[0]].sum())
        else:
            [(matching,)] = table.execute(f"SELECT count(*) FROM proteins WHERE {condition}", parameters).fetchall()
    return {
        "proteins": table.num_proteins,
        "matching": matching,
        "columns": {
            name: {
                "matching": counts_of(table.columns[name], counts[name]),
                "others": int(counts[name][OTHER]),
                "nulls": int(counts[name][NONE]),
            }
            for name in names
        },
    }
