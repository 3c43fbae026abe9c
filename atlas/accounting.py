"""Numbers of records by state: the summary that every command prints at its end."""

from dataclasses import dataclass, field
from enum import StrEnum

from foldatlas.schemas.wording import counted


class State(StrEnum):
    """The state of a record in the index. Each record has exactly one."""

    FOLDED = "folded"  # accepted, and its structure is in a committed shard
    FAILED = "failed"  # accepted, and folding its sequence failed
    REPEATED = "repeated"  # a repetition of an id with the same sequence in one source
    REFUSED = "refused"  # rejected at planning; the outcome is the reason
    PENDING = "pending"  # accepted; its shard is not committed yet


@dataclass(frozen=True)
class Accounting:
    """Numbers of records by state; `refused` by reason (a `schemas.records.Outcome`)."""

    folded: int = 0
    failed: int = 0
    repeated: int = 0
    pending: int = 0
    refused: dict[str, int] = field(default_factory=dict)

    @property
    def num_refused(self) -> int:
        return sum(self.refused.values())

    @property
    def records(self) -> int:
        return self.folded + self.failed + self.repeated + self.pending + self.num_refused

    def line(self) -> str:
        """Return a summary in one line: `60 records: 58 folded, 1 repeated, 1 refused (1 digit), 0 failed`."""
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.refused.items()))
        parts = [
            f"{self.folded:,} folded",
            f"{self.repeated:,} repeated",
            f"{self.num_refused:,} refused" + (f" ({reasons})" if reasons else ""),
            f"{self.failed:,} failed",
            *([f"{self.pending:,} still to fold"] if self.pending else []),
        ]
        return f"{counted(self.records, 'record')}: {', '.join(parts)}"
