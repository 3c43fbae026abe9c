"""A fault that `verify` finds."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

RESTORE: Final = "restore it from a copy"


def restore_or_fold(shard: str) -> str:
    """Return the next step for a fault of a committed shard."""
    return f"{RESTORE}, or delete manifest/{shard}.*.json and fold again"


class FaultKind(StrEnum):
    """The kind of a fault."""

    DOCUMENT = "document"  # a plan or manifest entry that cannot be read or contradicts itself
    MISSING = "missing"  # a listed file that does not exist
    DAMAGED = "damaged"  # bytes that differ from those committed
    SCHEMA = "schema"  # columns that differ from `schemas.tables`
    ROWS = "rows"  # numbers of rows, or ids, that differ from plan and manifest
    CONTENT = "content"  # a row that contradicts itself
    SCORES = "scores"  # scores that differ from those computed from the stored structure
    RECORDS = "records"  # records that contradict plan or sequences
    INDEX = "index"  # an index that differs from the Parquet files
    STALE_INDEX = "stale_index"  # an index older than the newest plan or shard


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault: `where` is a path relative to the atlas, `what` is wrong there, `next_step` is what the user can do."""

    kind: FaultKind
    where: str
    what: str
    next_step: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what} ({self.kind}); {self.next_step}"
