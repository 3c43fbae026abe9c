"""Division of a list of proteins into batches that a device can fold at once. Does not import torch.

The cost of a padded batch is that of its longest member times the number of its members. A batch of short proteins
reads the weights once for all of them; a long protein fills the device alone.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

from foldatlas.folding.config import ESMFoldConfig
from foldatlas.folding.planning import cost
from foldatlas.folding.planning.buckets import bucket

# Padded cost of a batch, MFLOP, that fills the device. One protein fills a CPU, and larger batches only exceed its
# caches (docs/log.md). On a GPU a batch should compute for longer than its kernels take to launch: 11,215 launches of
# esmfold_v1 (benchmarks/results/gpu_counts.md) take some 56 ms at 5 us each, and an H200 does at most 790 TFLOP/s.
BATCH_MFLOP: Final = {"cpu": 2_000, "cuda": 100_000_000}

# Kernels have a block for each protein, or each head of one, along an axis of CUDA's grid with at most 65,535 blocks.
MOST_PROTEINS: Final = 2048


def padded_length(device_kind: str) -> Callable[[int], int]:
    """Return the function that gives the length to which a batch is padded on a device, "cpu" or "cuda", from the
    length of its longest protein."""
    return bucket if device_kind == "cuda" else int


def cut_into_batches(
    lengths: Sequence[int],
    *,
    config: ESMFoldConfig,
    recycles: int,
    budget_mflop: int,
    memory_limit: int,
    precision: str = "fp32",
    pair_output_bytes: int = 0,
    padded: Callable[[int], int] = int,
) -> list[range]:
    """Divide proteins, sorted by length, into consecutive batches; return ranges of indices into `lengths`.

    For a batch of n proteins that is padded to L residues, n is at most MOST_PROTEINS, n * cost.mflop(L) is at most
    `budget_mflop`, and the unchunked cost.peak_bytes(n, L) in `precision` is at most `memory_limit` bytes. `padded` is
    the function that gives L for the longest protein's length (`padded_length`). `pair_output_bytes` is
    cost.pair_output_bytes of the requested outputs. A single protein that exceeds a limit is a batch of its own: the
    network then processes fewer rows at a time, or raises OutOfMemory.

    Raise ValueError if `lengths` are not ascending or not positive.
    """
    if lengths and lengths[0] < 1:
        raise ValueError(f"the first protein has {lengths[0]} residues: lengths must be 1 or more")
    for index, (shorter, longer) in enumerate(pairwise(lengths)):
        if shorter > longer:
            raise ValueError(
                f"lengths decrease from {shorter} to {longer} at index {index + 1}: sort the proteins by length first"
            )
    batches = []
    start = 0
    for index, length in enumerate(lengths):
        num_proteins, longest = index - start + 1, padded(length)
        fits = (
            num_proteins <= MOST_PROTEINS
            and num_proteins * cost.mflop(config, longest, recycles) <= budget_mflop
            and cost.peak_bytes(config, num_proteins, longest, precision=precision, pair_output_bytes=pair_output_bytes)
            <= memory_limit
        )
        if num_proteins > 1 and not fits:
            batches.append(range(start, index))
            start = index
    if lengths:
        batches.append(range(start, len(lengths)))
    return batches
