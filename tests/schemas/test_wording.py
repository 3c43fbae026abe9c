"""Messages count as people do."""

import pytest

from foldatlas.schemas.wording import counted


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 shards"), (1, "1 shard"), (2, "2 shards"), (2000, "2,000 shards")]
)
def test_numbers_have_their_nouns(number: int, words: str) -> None:
    assert counted(number, "shard") == words
