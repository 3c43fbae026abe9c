"""Cut a sorted list of proteins into shards of equal predicted cost.

The list is sorted by falling length, so that a histogram of lengths suffices: 600 million proteins are cut without
reading one of them. The first nine tenths of the cost go into full-size shards, the last tenth into shards
a tenth of that size, run last, so that all workers end at about the same time (simulated on 2,000 workers: 0.5 % over
the ideal, where equal shards cost 4-6 %).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

SHARDS_PER_RUN: Final = 256  # full-size shards aimed at, within the time limits below
MIN_SHARD_SECONDS: Final = 60.0  # below this, starting and committing would take a visible share
MAX_SHARD_SECONDS: Final = 1800.0  # above this, a lost worker would lose too much work
MAX_SHARD_BYTES: Final = 256 << 20
MIN_SHARDS: Final = 8  # if there are as many proteins, so that a small run can resume too
FINE_DIVISOR: Final = 10  # the last tenth of the cost, in shards of a tenth of the size


class LengthCount(NamedTuple):
    """`proteins` of `length` residues."""

    length: int
    proteins: int


class Cut(NamedTuple):
    """A shard as ranks [start, end) of the sorted list, and its predicted cost in MFLOP."""

    start: int
    end: int
    cost: int


@dataclass
class _Cursor:
    """A position in the histogram: a bin, and how many of its proteins are in earlier shards."""

    histogram: Sequence[LengthCount]
    costs: Sequence[int]
    sizes: Sequence[int]
    bin: int = 0
    taken: int = 0
    rank: int = 0

    def take(self, target: float, max_bytes: int, max_count: int) -> Cut:
        """Return the next shard: at least one protein, at most `max_count` and `max_bytes`, with a cost close to
        `target`."""
        start, cost, size = self.rank, 0, 0
        while self.bin < len(self.histogram):
            each, width = self.costs[self.bin], self.sizes[self.bin]
            available = self.histogram[self.bin].proteins - self.taken
            room = max_count - (self.rank - start)
            by_cost = math.floor((target - cost) / each + 0.5)  # the boundary closest to the target
            by_bytes = (max_bytes - size) // width
            count = min(available, room, by_cost, by_bytes)
            if self.rank == start:
                count = max(count, 1)
            count = max(count, 0)
            self.rank, self.taken = self.rank + count, self.taken + count
            cost, size = cost + count * each, size + count * width
            if count < available:
                break
            self.bin, self.taken = self.bin + 1, 0
        return Cut(start, self.rank, cost)


def cut_shards(
    histogram: Sequence[LengthCount],
    cost: Callable[[int], int],
    output_bytes: Callable[[int], int],
    mflop_per_second: float,
) -> list[Cut]:
    """Cut proteins, sorted by falling length as `histogram` counts them, into shards.

    `cost(length)` is a protein's predicted MFLOP, `output_bytes(length)` its output in bytes, and `mflop_per_second`
    the speed of the planned device. Shards of a size class are equal to within the cost of one protein, unless the
    limit on bytes ends one earlier. They are in the order of the list, longest proteins first.
    """
    histogram = [bin_ for bin_ in histogram if bin_.proteins]
    costs = [max(1, cost(length)) for length, _ in histogram]
    sizes = [max(1, output_bytes(length)) for length, _ in histogram]
    num_proteins = sum(count for _, count in histogram)
    if not num_proteins:
        return []
    total = sum(each * count for each, (_, count) in zip(costs, histogram, strict=True))
    num_coarse, num_fine, coarse_proteins = _count_shards(histogram, costs, total, num_proteins, mflop_per_second)

    cursor = _Cursor(histogram, costs, sizes)
    cuts: list[Cut] = []
    done = 0
    for num_shards, last_rank in ((num_coarse, coarse_proteins), (num_fine, num_proteins)):
        class_cost = _cost_of_ranks(histogram, costs, cursor.rank, last_rank)
        done, left = 0, num_shards
        while cursor.rank < last_rank:
            # aim at an equal part of the remaining cost, and leave a protein for each remaining shard
            reserve = max(left - 1, 0)
            proteins = last_rank - cursor.rank
            part = (class_cost - done) / max(left, 1) if left > 1 else math.inf
            shard = cursor.take(min(part, 1e30), MAX_SHARD_BYTES, max(1, proteins - reserve))
            cuts.append(shard)
            done += shard.cost
            left -= 1
    return cuts


def _count_shards(
    histogram: Sequence[LengthCount], costs: Sequence[int], total: int, num_proteins: int, mflop_per_second: float
) -> tuple[int, int, int]:
    """Return the numbers of full-size and of fine shards, and how many proteins (the longest) are in full-size ones."""
    shortest, longest = MIN_SHARD_SECONDS * mflop_per_second, MAX_SHARD_SECONDS * mflop_per_second
    size = min(max(total / SHARDS_PER_RUN, shortest), longest)
    coarse_cost = total * (1 - 1 / FINE_DIVISOR)
    coarse_proteins = _ranks_of_cost(histogram, costs, coarse_cost)
    fine_proteins = num_proteins - coarse_proteins
    num_coarse = min(coarse_proteins, max(1, round(coarse_cost / size)))
    num_fine = min(fine_proteins, max(1, round((total - coarse_cost) / (size / FINE_DIVISOR))))
    wanted = min(MIN_SHARDS, num_proteins)
    if num_coarse + num_fine < wanted:
        # a small run: half of the shards in each class, as far as there are proteins for them
        num_fine = min(fine_proteins, max(num_fine, wanted // 2, wanted - coarse_proteins))
        num_coarse = min(coarse_proteins, max(num_coarse, wanted - num_fine))
    return num_coarse, num_fine, coarse_proteins


def _ranks_of_cost(histogram: Sequence[LengthCount], costs: Sequence[int], wanted: float) -> int:
    """Return how many of the longest proteins cost `wanted` together; at least one."""
    rank, left = 0, wanted
    for each, (_, count) in zip(costs, histogram, strict=True):
        if each * count >= left:
            return max(1, rank + math.floor(left / each + 0.5))
        rank, left = rank + count, left - each * count
    return rank


def _cost_of_ranks(histogram: Sequence[LengthCount], costs: Sequence[int], start: int, end: int) -> int:
    """Return the cost of the proteins of ranks [start, end)."""
    total, first = 0, 0
    for each, (_, count) in zip(costs, histogram, strict=True):
        total += each * max(0, min(end, first + count) - max(start, first))
        first += count
    return total
