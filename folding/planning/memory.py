"""Free memory of a device, with which planning/cost.py compares the predicted memory of a batch."""

from typing import Final

import torch

from foldatlas.folding.planning import host_memory

# Fraction of the free memory that a batch may use: allocators round sizes up, and other programs need memory too.
USABLE: Final = 0.9


def free_bytes(device: torch.device, enough: int | None = None) -> int:
    """Return the bytes that activations may use on `device`, where the weights already are.

    On a CPU with fewer than `enough` bytes free, memory that malloc keeps for reuse is first returned to the system;
    None means always. This takes about a millisecond, and later page faults.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # Memory that torch's allocator has reserved and does not use is free too.
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(USABLE * (free + unused))
    free = int(USABLE * host_memory.free_bytes())
    if enough is not None and free >= enough:
        return free
    host_memory.trim()
    return int(USABLE * host_memory.free_bytes())
