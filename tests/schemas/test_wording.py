"""Numbers, sizes and times in messages."""

import pytest

from foldatlas.schemas.wording import counted, readable_bytes, readable_time


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 shards"), (1, "1 shard"), (2, "2 shards"), (2000, "2,000 shards")]
)
def test_numbers_have_their_nouns(number: int, words: str) -> None:
    assert counted(number, "shard") == words


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_960, "1.0 MB"),
        (2_800_000, "2.8 MB"),
        (15 * 10**12, "15.0 TB"),
    ],
)
def test_bytes_are_formatted_with_units(number: int, text: str) -> None:
    assert readable_bytes(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (30, "30 s"),
        (45, "45 s"),
        (59.6, "1 min"),
        (90, "2 min"),
        (3594, "1 h 00 min"),
        (11_100, "3 h 05 min"),
    ],
)
def test_times_are_formatted_with_units(seconds: float, text: str) -> None:
    assert readable_time(seconds) == text
