"""Which shards of an atlas a run takes, where several runs share the work without an engine.

By number, as the shards are named: `0-99,150`. Or as part K of N: shards are dealt in the plan's order, each to the
part with the least cost so far. Full-size shards come first and fine ones, a tenth as large, last (cut.py), so that
parts end equal to within about one fine shard, where equal ranges of numbers would give the last parts a tenth of the
work of the first. Neither looks at what is done: any number of runs, at any time, agree about whose a shard is.
"""

import heapq
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.manifest import Plan, Shard

_RANGE: Final = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")
_PART: Final = re.compile(r"(\d{1,9})/(\d{1,9})")


@dataclass(frozen=True)
class ShardNumbers:
    """Shards by number: `ranges` of first and last, both included; `text` as a person wrote them."""

    text: str
    ranges: tuple[tuple[int, int], ...]

    @classmethod
    def parse(cls, text: str) -> "ShardNumbers":
        """Reads `0-99,150`. Raises UsageError."""
        ranges = []
        for word in text.split(","):
            found = _RANGE.fullmatch(word.strip())
            if not found:
                raise UsageError(f"--shards {text}: {word!r} is neither a number nor a range; write 0-99 or 0-99,150")
            first = int(found[1])
            last = int(found[2]) if found[2] else first
            if last < first:
                raise UsageError(f"--shards {text}: {first}-{last} ends before it begins; write {last}-{first}")
            ranges.append((first, last))
        return cls(text, tuple(ranges))

    def of(self, plans: Sequence[Plan]) -> list[Shard]:
        """The shards of the one plan that they are numbers of. Raises UsageError for a number it does not have."""
        if len(plans) > 1:
            names = ", ".join(plan.name for plan in plans)
            raise UsageError(
                f"--shards {self.text}: the files named were read by {len(plans)} plans ({names}), and each has "
                "shards of these numbers: name the files of one plan, or share the work by --part K/N"
            )
        shards = plans[0].shards
        for first, last in self.ranges:
            if last >= len(shards):
                have = f"shards 0 to {len(shards) - 1}" if shards else "no shards"
                raise UsageError(
                    f"--shards {self.text}: {first}-{last} is outside of plan {plans[0].name}, which has {have}"
                )
        chosen = {number for first, last in self.ranges for number in range(first, last + 1)}
        return [shard for number, shard in enumerate(shards) if number in chosen]


@dataclass(frozen=True)
class Part:
    """Part `number`, from 1, of `total` parts of equal predicted cost."""

    number: int
    total: int

    @classmethod
    def parse(cls, text: str) -> "Part":
        """Reads `3/16`. Raises UsageError."""
        found = _PART.fullmatch(text.strip())
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise UsageError(f"--part {text} is no part: write K/N with K from 1 to N, such as 1/16")
        return cls(int(found[1]), int(found[2]))

    def of(self, plans: Sequence[Plan]) -> list[Shard]:
        """This part of all shards of `plans`; none if there are fewer shards than parts."""
        # parts beyond the number of shards get none, so they need no place; ascending, so a heap
        occupied = min(self.total, sum(len(plan.shards) for plan in plans))
        loads = [(0, part) for part in range(1, occupied + 1)]
        mine = []
        for plan in plans:
            for shard in plan.shards:
                load, part = loads[0]
                heapq.heapreplace(loads, (load + shard.cost, part))
                if part == self.number:
                    mine.append(shard)
        return mine


Choice = ShardNumbers | Part


def chosen(shards: str | None, part: str | None) -> Choice | None:
    """What `--shards` and `--part` say, or None for everything. Raises UsageError."""
    if shards is not None and part is not None:
        raise UsageError("--shards and --part both say which shards to fold: give one of them")
    if shards is not None:
        return ShardNumbers.parse(shards)
    return None if part is None else Part.parse(part)
