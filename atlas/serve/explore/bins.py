"""Bins of histograms: edges that people can read, and SQL that finds the bin of a value exactly as its edges say."""

import math
from collections.abc import Sequence
from typing import Final

from foldatlas.atlas.serve.explore.columns import NONE
from foldatlas.atlas.serve.filters import number_sql

MAX_BINS: Final = 60
_FIXED_BINS: Final = 50  # of columns whose values have a fixed range


def nice_edges(low: float, high: float, *, is_integer: bool = False, is_fixed: bool = False) -> tuple[float, ...]:
    """Return the edges of at most MAX_BINS equal bins from `low` to `high`. A value belongs to the bin whose lower edge
    it is; the last bin has its upper edge too."""
    if is_fixed:
        return tuple(round(low + (high - low) * number / _FIXED_BINS, 10) for number in range(_FIXED_BINS + 1))
    if not high > low:
        return (low, low + 1) if is_integer or abs(low) < 1e15 else (low, math.nextafter(low, math.inf))
    step = _step((high - low) / MAX_BINS)
    if is_integer:
        step = max(1.0, step) if step != 2.5 else 5.0
    while True:
        first = math.floor(low / step)
        last = math.ceil(high / step)
        if last - first <= MAX_BINS:
            break
        step = _step(step * 1.01)
    digits = max(0, 12 - math.floor(math.log10(max(abs(low), abs(high), step))))
    edges = tuple(round(number * step, digits) for number in range(first, last + 1))
    return edges if len(set(edges)) == len(edges) else (low, high)


def _step(least: float) -> float:
    """Return the least of 1, 2, 2.5, 5 times a power of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= least)


def bin_sql(value: str, edges: Sequence[float], *, may_be_infinite: bool) -> str:
    """Return SQL of the bin of a value: 0 to len(edges) - 2, NONE for NULL and what is not finite.

    Comparisons with the edges, so that a bin has exactly what `value >= edge AND value < next` selects.
    """

    def tree(first: int, last: int) -> str:
        if first == last:
            return str(first)
        middle = (first + last + 1) // 2
        return (
            f"CASE WHEN {value} < {number_sql(edges[middle])} THEN {tree(first, middle - 1)} "
            f"ELSE {tree(middle, last)} END"
        )

    missing = f"{value} IS NULL" + (f" OR NOT isfinite({value})" if may_be_infinite else "")
    return f"(CASE WHEN {missing} THEN {NONE} ELSE {tree(0, len(edges) - 2)} END)::UTINYINT"
