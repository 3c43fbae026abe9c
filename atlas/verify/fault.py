"""A fault that `verify` finds, and what mends it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Mend(StrEnum):
    """How `--repair` mends a fault."""

    FOLD = "fold"  # drop a committed shard, and fold it again
    RUN = "run"  # drop a run of novelty or clusters, for the same command to run again
    PLAN = "plan"  # plan its sources again, for records and sequences
    ANNOTATION = "annotation"  # write its table again from the index
    INDEX = "index"  # build the index again
    DELETE = "delete"  # delete a file that holds copies only
    NONE = "none"  # by a copy alone


@dataclass(frozen=True, slots=True)
class Step:
    """The next step for a fault: as text, and for `--repair`. `subject` is the shard, run, plan, annotation or
    file."""

    text: str
    mend: Mend = Mend.NONE
    subject: str = ""

    def __str__(self) -> str:
        return self.text


RESTORE: Final = Step("restore it from a copy")


def restore_or_fold(shard: str) -> Step:
    """Return the next step for a fault of a committed shard."""
    return Step(f"{RESTORE}, or fold it again with --repair", Mend.FOLD, shard)


def restore_or_plan(plan: str) -> Step:
    """Return the next step for a fault of records or sequences of a plan."""
    return Step(f"{RESTORE}, or make it again with --repair", Mend.PLAN, plan)


def restore_or_run(kind: str, name: str) -> Step:
    """Return the next step for a fault of a run of a derived stage."""
    text = f"{RESTORE}, or drop {kind}/{name} with --repair and run it again"
    return Step(text, Mend.RUN, f"{kind}/{name}")


def rebuild_index(atlas: str) -> Step:
    """Return the next step for an index that differs from the atlas."""
    return Step(f"run `foldatlas index {atlas}`", Mend.INDEX)


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
    next_step: Step

    def __str__(self) -> str:
        return f"{self.where}: {self.what} ({self.kind}); {self.next_step}"
