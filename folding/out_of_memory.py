"""What to say when a batch does not fit into memory."""

import contextlib
from collections.abc import Iterator, Sequence

import torch

from foldatlas.schemas.errors import OutOfMemory

# torch raises a plain RuntimeError when it cannot allocate memory of the host.
_HOST_OUT_OF_MEMORY = "DefaultCPUAllocator: can't allocate memory"


@contextlib.contextmanager
def naming_the_batch(sequences: Sequence[str], device: torch.device) -> Iterator[None]:
    """Raises OutOfMemory, which names the batch and the device, for each way in which memory runs out."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _out_of_memory(sequences, device) from error
    except RuntimeError as error:
        if _HOST_OUT_OF_MEMORY in str(error):
            raise _out_of_memory(sequences, device) from error
        raise


def _out_of_memory(sequences: Sequence[str], device: torch.device) -> OutOfMemory:
    return OutOfMemory(
        f"{len(sequences)} proteins of up to {max(map(len, sequences))} residues do not fit into the memory of "
        f"{device}: take fewer at once, or use a device with more memory"
    )
