"""A fault that `verify` finds."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

RESTORE: Final = "restore it from a copy"


def restore_or_fold(shard: str) -> str:
    """The next step for a fault of a committed shard."""
    return f"{RESTORE}, or delete manifest/{shard}.*.json and fold again"


class FaultKind(StrEnum):
    """What sort of contradiction it is."""

    DOCUMENT = "document"  # a plan or an entry that cannot be read or contradicts itself
    MISSING = "missing"  # a listed file that does not exist
    DAMAGED = "damaged"  # other bytes than those committed
    SCHEMA = "schema"  # other columns than `schemas.tables` says
    ROWS = "rows"  # other numbers of rows, or other ids, than plan and manifest say
    CONTENT = "content"  # a row that contradicts itself
    SCORES = "scores"  # scores that do not follow from the stored structure
    RECORDS = "records"  # records that plan and sequences contradict
    INDEX = "index"  # an index that says something else than the Parquet files
    STALE_INDEX = "stale_index"  # an index that is older than the newest plan or shard


@dataclass(frozen=True, slots=True)
class Fault:
    """`where` is a path relative to the atlas; `what` is wrong there; `next_step` what to do about it."""

    kind: FaultKind
    where: str
    what: str
    next_step: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what} ({self.kind}); {self.next_step}"
