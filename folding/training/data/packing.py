"""Sequences into passes through the network: by tokens, without padding, the same number for every process."""

import heapq
from collections.abc import Sequence

from foldatlas.schemas.errors import UsageError


def pack(lengths: Sequence[int], budget: int, multiple: int = 1) -> list[list[int]]:
    """Indices of `lengths` in packs of at most `budget` tokens each; the number of packs is a multiple of `multiple`.

    The longest sequence goes first, always into the emptiest pack, so that packs, and with them processes, have like
    work. Within a pack, indices ascend. Where there are too few sequences some packs are empty. Raises UsageError
    where a sequence is longer than the budget.
    """
    if lengths and max(lengths) > budget:
        raise UsageError(
            f"a sequence of {max(lengths):,} tokens does not fit a pass of {budget:,}: take more tokens a pass, or "
            "crop sequences shorter"
        )
    number = 0
    while True:
        number = max(number + multiple, -(-sum(lengths) // (budget * multiple)) * multiple)
        packs = _emptiest_first(lengths, number)
        if all(sum(lengths[index] for index in indices) <= budget for indices in packs):
            return packs


def _emptiest_first(lengths: Sequence[int], number: int) -> list[list[int]]:
    packs: list[list[int]] = [[] for _ in range(number)]
    emptiest = [(0, place) for place in range(number)]
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        tokens, place = heapq.heappop(emptiest)
        packs[place].append(index)
        heapq.heappush(emptiest, (tokens + lengths[index], place))
    return [sorted(indices) for indices in packs]
