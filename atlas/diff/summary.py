"""Differences as text: the first of each kind, and their number."""

from collections.abc import Iterator
from typing import Any

from foldatlas.atlas.diff.differences import Change, Differences
from foldatlas.atlas.sql.text import escape_controls

_WIDTH = max(map(len, Change)) + 2


def summary_lines(differences: Differences, limit: int) -> Iterator[str]:
    """Yield one line per difference, at most `limit` of each kind, and a last line with the number of each kind."""
    counts = differences.counts()
    for change, number in counts.items():
        for row in differences.result(change, limit).rows():
            yield f"{change:<{_WIDTH}}{_line(change, row)}"
        if number > limit:
            yield f"{change:<{_WIDTH}}... and {number - limit:,} more"
    yield ", ".join(f"{number:,} {change}" for change, number in counts.items()) or "no differences"


def _line(change: Change, row: tuple[Any, ...]) -> str:
    _, name, structure_id, column, before, after, amount = row
    subject = escape_controls(name or (str(structure_id) if structure_id else ""))
    match change:
        case Change.NEW | Change.LOST:
            return f"{subject}: {after or before}"
        case Change.SETTINGS:
            return f"{column}: {_value(before)} -> {_value(after)}"
        case Change.COORDINATES if column == "rmsd":
            return f"{subject}: RMSD {amount:.2f} A"
    shift = f" ({amount:+.3g})" if amount is not None else ""
    return f"{subject}: {column} {_value(before)} -> {_value(after)}{shift}"


def _value(text: str | None) -> str:
    return "NULL" if text is None else escape_controls(text)
