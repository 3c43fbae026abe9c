"""What a machine must have to search: the reference, memory, and for sequences MMseqs2 and a CPU that runs it."""

import os
import sys
from functools import lru_cache
from typing import Final, NamedTuple

from foldatlas.atlas.novelty.sequence_search import memory_bytes as sequence_memory
from foldatlas.atlas.reference.mmseqs2 import program
from foldatlas.atlas.reference.reader import Reference, open_shared
from foldatlas.folding.planning import host_memory
from foldatlas.pipeline.workers.devices import own_cores
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.wording import readable_bytes

# Beside the mapped reference: libraries, compiled kernels, a group of structures. An allowance, not measured.
STRUCTURE_SEARCH_BYTES: Final = 1 << 30


class Requirements(NamedTuple):
    """The reference that workers search: its folder, version and digest."""

    place: str
    version: int
    digest: str


def check_machine(reference: Reference) -> int:
    """Return the bytes of memory that one worker's search takes, at most: mapped arrays, which the workers of a machine
    share and which are dropped when memory is short, and its own.

    Raise UsageError where this machine cannot search: less memory; for sequences no MMseqs2, or a CPU without AVX2.
    """
    if reference.kind == "sequences":
        program()
        own = shared = sequence_memory(reference)
    else:
        own = STRUCTURE_SEARCH_BYTES
        shared = own + reference.memory_bytes()
    there = host_memory.total_bytes()
    if own > there:
        raise UsageError(
            f"a search of {reference.root} takes {readable_bytes(own)} of memory, this machine has "
            f"{readable_bytes(there)}: use a larger one"
        )
    return shared


@lru_cache(maxsize=4)
def ready_reference(needs: Requirements) -> Reference:
    """Return the reference, mapped once a process, after this machine was checked. Raise UsageError."""
    reference = open_shared(needs.place, needs.version)
    if reference.digest != needs.digest:
        raise UsageError(f"{needs.place} has another version {needs.version} here than where the run began")
    check_machine(reference)
    return reference


def peak_bytes() -> int:
    """Return the most memory that this process has had so far, in bytes, including pages of mapped files."""
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def num_threads(workers: int) -> int:
    """Return the threads of one of so many workers of this machine: its share of the cores, or OMP_NUM_THREADS."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit() and int(threads) > 0:
        return int(threads)
    return max(1, own_cores() // max(1, workers))
