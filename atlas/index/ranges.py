"""Ranges of structure_id, by which large tables are joined and sorted piece by piece.

Hash joins of one statement hold their tables at the same time, and cannot all use temporary files. Ids are digests, so
ranges of equal width have about equal numbers of rows. Pieces that are sorted, in the order of their ranges, are a
sorted table.
"""

import itertools
import uuid
from typing import Final, NamedTuple

ROWS_PER_RANGE: Final = 2_000_000
_IDS: Final = 1 << 128


class IdRange(NamedTuple):
    """The ids from `first` to `last`."""

    first: uuid.UUID
    last: uuid.UUID

    def of(self, table: str, column: str = "structure_id") -> str:
        """Return SQL of the rows of `table` whose `column` is in this range, under the name `table`."""
        return f"(FROM {table} WHERE {column} BETWEEN '{self.first}'::UUID AND '{self.last}'::UUID) AS {table}"


def id_ranges(rows: int) -> list[IdRange]:
    """Return consecutive ranges of all ids, of at most about ROWS_PER_RANGE of `rows` rows each."""
    number = max(1, -(-rows // ROWS_PER_RANGE))
    bounds = [_IDS * n // number for n in range(number + 1)]
    return [IdRange(uuid.UUID(int=first), uuid.UUID(int=end - 1)) for first, end in itertools.pairwise(bounds)]
