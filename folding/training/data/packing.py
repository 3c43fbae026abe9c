"""Division of sequences into passes: by tokens, without padding, the same number for every process."""

import heapq
from collections.abc import Sequence

from foldatlas.schemas.errors import UsageError


def pack(lengths: Sequence[int], budget: int, multiple: int = 1) -> list[list[int]]:
    """Return indices of `lengths` in packs of at most `budget` tokens; the number of packs is a multiple of `multiple`.

    Each sequence, longest first, is put into the emptiest pack, so that packs, and processes, have about equal work.
    Within a pack, indices are ascending. With too few sequences, some packs are empty. Raise UsageError if a sequence
    is longer than the budget.
    """
    if lengths and max(lengths) > budget:
        raise UsageError(
            f"a sequence of {max(lengths):,} tokens does not fit into a pass of {budget:,}: use more tokens per pass, "
            "or a shorter crop"
        )
    number = 0
    while True:
        number = max(number + multiple, -(-sum(lengths) // (budget * multiple)) * multiple)
        packs = _emptiest_first(lengths, number)
        if all(sum(lengths[index] for index in indices) <= budget for indices in packs):
            return packs


def _emptiest_first(lengths: Sequence[int], number: int) -> list[list[int]]:
    packs: list[list[int]] = [[] for _ in range(number)]
    emptiest = [(0, pack) for pack in range(number)]
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        tokens, pack = heapq.heappop(emptiest)
        packs[pack].append(index)
        heapq.heappush(emptiest, (tokens + lengths[index], pack))
    return [sorted(indices) for indices in packs]
