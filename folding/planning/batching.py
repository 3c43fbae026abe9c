"""Cutting a list of proteins into batches that a device can fold at once. No torch, so that planning stays light.

A padded batch costs what its longest member costs, times its members. Batches of short proteins share the reading
of the weights; long ones fill the device alone.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from foldatlas.folding.config import ESMFoldConfig
from foldatlas.folding.planning import cost

# Padded cost of one batch, MFLOP. Batches exist to fill the device: a CPU is full with one protein, and larger
# batches only fall out of its caches (docs/log.md); a GPU wants some milliseconds of work for each of its kernels.
BATCH_MFLOP: Final = {"cpu": 2_000, "cuda": 20_000_000}


def cut_into_batches(
    lengths: Sequence[int],
    *,
    config: ESMFoldConfig,
    recycles: int,
    budget_mflop: int,
    memory_limit: int,
    precision: str = "fp32",
    pair_output_bytes: int = 0,
) -> list[range]:
    """Cut proteins, sorted by length, into consecutive batches; each is a range of indices into `lengths`.

    A batch of n proteins, the longest of L residues, keeps n * cost.mflop(L) within `budget_mflop` and
    cost.peak_bytes(n, L), unchunked in `precision`, within `memory_limit` (bytes); `pair_output_bytes` is what
    cost.pair_output_bytes says of the outputs. A single protein beyond either is a batch of its own: the network works
    on fewer rows at a time, or refuses it.

    Raises ValueError when `lengths` fall anywhere, or are not positive.
    """
    if lengths and lengths[0] < 1:
        raise ValueError(f"the first protein has {lengths[0]} residues: proteins have at least 1")
    for index, (shorter, longer) in enumerate(pairwise(lengths)):
        if shorter > longer:
            raise ValueError(
                f"lengths fall from {shorter} to {longer} at index {index + 1}: sort the proteins by length first"
            )
    batches = []
    start = 0
    for index, length in enumerate(lengths):
        num_proteins = index - start + 1
        fits = (
            num_proteins * cost.mflop(config, length, recycles) <= budget_mflop
            and cost.peak_bytes(config, num_proteins, length, precision=precision, pair_output_bytes=pair_output_bytes)
            <= memory_limit
        )
        if num_proteins > 1 and not fits:
            batches.append(range(start, index))
            start = index
    if lengths:
        batches.append(range(start, len(lengths)))
    return batches
