"""How much memory is free on a device, now: what foldatlas.folding.planning.cost measures a batch against."""

from typing import Final

import torch

from foldatlas.folding.planning import host_memory

# Part of what is free that a plan may use: an allocator rounds sizes up, and other programs want memory too.
USABLE: Final = 0.9


def free_bytes(device: torch.device, enough: int | None = None) -> int:
    """Bytes that activations may take on `device`, weights already there.

    Where fewer than `enough` are free on a CPU, freed memory that malloc holds for reuse is first returned to the
    system; None returns it always. It takes about a millisecond, and the pages are faulted in again.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What torch has taken from the driver and does not use is free too.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(USABLE * (free + kept))
    free = int(USABLE * host_memory.free_bytes())
    if enough is not None and free >= enough:
        return free
    host_memory.trim()
    return int(USABLE * host_memory.free_bytes())
