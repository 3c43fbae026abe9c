"""The shards that a run works on, where several runs share an atlas without an engine.

They are given by number, `0-99,150`, or as part K of N. Parts are made in the order of the plan: each shard goes to the
part with the least cost so far. Full-size shards come first and fine ones, a tenth as large, last (cut.py), so that
parts are equal to within about one fine shard; equal ranges of numbers would give the last parts a tenth of the work of
the first. Neither depends on what is done, so that any number of runs, at any time, agree on the owner of a shard.
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
    """Shards by number: `ranges` of first and last, both included; `text` as typed."""

    text: str
    ranges: tuple[tuple[int, int], ...]

    @classmethod
    def parse(cls, text: str) -> "ShardNumbers":
        """Read `0-99,150`. Raise UsageError."""
        ranges = []
        for word in text.split(","):
            found = _RANGE.fullmatch(word.strip())
            if not found:
                raise UsageError(f"--shards {text}: {word!r} is neither a number nor a range; write 0-99 or 0-99,150")
            first = int(found[1])
            last = int(found[2]) if found[2] else first
            if last < first:
                raise UsageError(f"--shards {text}: {first}-{last} ends before it starts; write {last}-{first}")
            ranges.append((first, last))
        return cls(text, tuple(ranges))

    def of(self, plans: Sequence[Plan]) -> list[Shard]:
        """Return these shards of the one plan. Raise UsageError for several plans, and for a number that is not
        there."""
        if len(plans) > 1:
            names = ", ".join(plan.name for plan in plans)
            raise UsageError(
                f"--shards {self.text}: the files named were read by {len(plans)} plans ({names}), and each has "
                "shards of these numbers: give the files of one plan, or share the work by --part K/N"
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
        """Read `3/16`. Raise UsageError."""
        found = _PART.fullmatch(text.strip())
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise UsageError(f"--part {text} is not valid: write K/N with K from 1 to N, such as 1/16")
        return cls(int(found[1]), int(found[2]))

    def of(self, plans: Sequence[Plan]) -> list[Shard]:
        """Return this part of all shards of `plans`; it is empty for the last parts if there are more parts than
        shards."""
        # a heap of (cost, part); parts beyond the number of shards get none and are left out
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
    """Return the choice that `--shards` or `--part` makes, or None for all shards. Raise UsageError."""
    if shards is not None and part is not None:
        raise UsageError("--shards and --part both choose shards: give only one of them")
    if shards is not None:
        return ShardNumbers.parse(shards)
    return None if part is None else Part.parse(part)
