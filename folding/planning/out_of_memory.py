"""The error for a batch that does not fit into memory."""

import contextlib
import traceback
from collections.abc import Iterator, Sequence

import torch

from foldatlas.schemas.errors import OutOfMemory
from foldatlas.schemas.wording import counted

# torch raises a plain RuntimeError when it cannot allocate memory of the host.
_HOST_OUT_OF_MEMORY = "DefaultCPUAllocator: can't allocate memory"


@contextlib.contextmanager
def describe_out_of_memory(sequences: Sequence[str], device: torch.device) -> Iterator[None]:
    """Raise OutOfMemory, describing batch and device, in place of torch's errors for exhausted memory.

    Local variables of the functions in the error's traceback are cleared: otherwise the tensors of the batch would stay
    in memory as long as the error, while the next batch is computed.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        traceback.clear_frames(error.__traceback__)
        raise _out_of_memory(sequences, device) from error
    except RuntimeError as error:
        if _HOST_OUT_OF_MEMORY in str(error):
            traceback.clear_frames(error.__traceback__)
            raise _out_of_memory(sequences, device) from error
        raise


def _out_of_memory(sequences: Sequence[str], device: torch.device) -> OutOfMemory:
    longest = counted(max(map(len, sequences)), "residue")
    what, advice = f"a protein of {longest} does", ""
    if len(sequences) > 1:
        what, advice = f"{len(sequences)} proteins of up to {longest} do", "process fewer at once, or "
    return OutOfMemory(f"{what} not fit into the memory of {device}: {advice}use a device with more memory")
