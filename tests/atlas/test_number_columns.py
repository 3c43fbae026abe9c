"""Numbers as columns, against Python's own formatting."""

from decimal import ROUND_FLOOR, Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldatlas.atlas.writers import number_columns

finite = st.floats(-999.9990234375, 9_999.9990234375, width=32)  # the float32 nearest to the limits


def nearest(value: float, decimals: int) -> str:
    """To the nearest, ties upwards, exactly; no minus before zero."""
    step = Decimal(1).scaleb(-decimals)
    rounded = ((Decimal(value) / step + Decimal("0.5")).to_integral_value(ROUND_FLOOR) * step).quantize(step)
    return str(abs(rounded) if rounded == 0 else rounded)


@given(st.lists(finite, min_size=1))
def test_coordinates(values: list[float]) -> None:
    array = np.array(values, np.float32)
    expected = [nearest(value, 3).rjust(8).encode() for value in array.tolist()]
    assert number_columns.coordinates(array).tolist() == expected
    wide = number_columns.wide_coordinates(array * 1000)
    assert [text.strip().decode() for text in wide.tolist()] == [nearest(v, 3) for v in (array * 1000).tolist()]
    assert {len(text) for text in wide.tolist()} == {wide.itemsize}


def test_the_ends_of_what_eight_columns_hold() -> None:
    array = np.array([[-999.999, 9_999.999, 0], [-0.0004, 0.0005, -0.0]], np.float32)
    expected = [[b"-999.999", b"9999.999", b"   0.000"], [b"   0.000", b"   0.001", b"   0.000"]]
    assert number_columns.coordinates(array).tolist() == expected
    assert (number_columns.MIN_COORDINATE, number_columns.MAX_COORDINATE) == (-999.999, 9_999.999)


@given(st.lists(st.floats(0, 100, width=32), min_size=1))
def test_plddt(values: list[float]) -> None:
    expected = [nearest(value, 2).rjust(6).encode() for value in values]
    assert number_columns.plddts(np.array(values, np.float32)).tolist() == expected


@given(st.lists(st.integers(0, 10**9), min_size=1), st.integers(0, 3))
def test_integers(values: list[int], more: int) -> None:
    width = len(str(max(values))) + more
    found = number_columns.integers(np.array(values), width).tolist()
    assert found == [str(value).rjust(width).encode() for value in values]


@pytest.mark.parametrize(("first", "width"), [(0, 4), (0, 5), (9_990, 5), (99_990, 6), (99_999_990, 9)])
def test_integers_about_the_pieces_they_are_made_of(first: int, width: int) -> None:
    values = np.arange(first, first + 20)
    assert number_columns.integers(values, width).tolist() == [b"%*d" % (width, value) for value in values.tolist()]


def test_columns_side_by_side() -> None:
    numbers, words = number_columns.integers(np.array([7, 42]), 3), number_columns.as_columns(["a", "long"])
    assert number_columns.joined("<", numbers, "|", words, ">\n") == "<  7|a   >\n< 42|long>\n"
