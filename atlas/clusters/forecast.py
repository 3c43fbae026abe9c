"""Time, memory and disk of clustering, predicted from the lengths of the structures.

The number of representatives at 30 % is not known before, so all values are upper bounds: as if each structure were
one. Rates are of one core, measured by benchmarks/clusters.py and benchmarks/clusters_scale.py.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from foldatlas.atlas.clusters.alignments import ALIGNMENT_COST
from foldatlas.atlas.clusters.results import cost_and_residues
from foldatlas.schemas.manifest import Shard
from foldatlas.schemas.wording import counted, readable_bytes, readable_time

Integers = npt.NDArray[np.integer]

START_SECONDS: Final = 25.0  # of the program, MMseqs2 and the index; of compiling kernels, once a machine
SEQUENCE_SECONDS: Final = 1.9e-4  # a sequence: linclust at both levels and aligning members
READING_SECONDS: Final = 1.0e-5  # a residue of the structures that are compared
PAIR_SECONDS: Final = 5.1e-5  # two structures of 250 residues whose lengths allow a pair

# bytes
WORKER_MEMORY: Final = 700_000_000  # the program with its kernels
DRIVER_MEMORY: Final = 1_400_000_000  # also the index, which is built at the end
SEQUENCE_MEMORY: Final = 1_900  # linclust: 100 k-mers a sequence
WINDOW_MEMORY: Final = 25  # a residue of the chains that a worker holds
PAIR_MEMORY: Final = 60  # a pair found, in set cover
PAIRS_PER_STRUCTURE: Final = 16  # found, as among experimental chains
SEQUENCE_DISK: Final = 600  # of linclust and the index of its input, temporary
RESIDUE_SCRATCH: Final = 1 + 13  # sequences and structures to compare, temporary
RESIDUE_DISK: Final = 7  # in the file of chains
STRUCTURE_DISK: Final = 220  # in the files of members and linclust
PAIR_DISK: Final = 9

_EXACT: Final = 100_000  # structures, above which a part of the lengths is used


@dataclass(frozen=True)
class ClusterForecast:
    """What clustering takes at most. `new` of the `structures` are compared with all, the others only with new ones.
    `seconds` are of one core; bytes of memory of the driver and of a worker, of disk in the atlas and in TMPDIR."""

    structures: int
    new: int
    residues: int
    seconds: float
    bytes: int
    scratch_bytes: int
    memory: int
    driver_memory: int

    def lines(self) -> list[str]:
        """Return lines for the terminal."""
        return [
            f"cluster   {counted(self.structures, 'structure')}, {counted(self.residues, 'residue')}; {self.new:,} new",
            f"time      at most {readable_time(self.seconds)} of one core, as predicted",
            f"on disk   at most {readable_bytes(self.bytes)}, and {readable_bytes(self.scratch_bytes)} in TMPDIR while "
            "it runs, as predicted",
            f"memory    at most {readable_bytes(self.driver_memory)} in the driver, {readable_bytes(self.memory)} a "
            "worker",
        ]


def predict(new_N: Integers, known_N: Integers | None = None) -> ClusterForecast:
    """Predict the clustering of structures of these lengths, in any order, of which `known_N` were clustered before."""
    known = np.empty(0, np.int64) if known_N is None else known_N
    lengths = np.concatenate([new_N, known]).astype(np.int64)
    is_new = np.arange(len(lengths)) < len(new_N)
    number, residues = len(lengths), int(lengths.sum())
    order = np.argsort(-lengths, kind="stable")
    every = max(1, -(-number // _EXACT))
    cost, window = cost_and_residues(lengths[order][::every], is_new[order][::every])
    cost = cost * every**2 + int(ALIGNMENT_COST * (lengths / 250.0) @ (lengths / 250.0))
    pairs = number * PAIRS_PER_STRUCTURE
    return ClusterForecast(
        structures=number,
        new=len(new_N),
        residues=residues,
        seconds=START_SECONDS + number * SEQUENCE_SECONDS + residues * READING_SECONDS + cost * PAIR_SECONDS,
        bytes=residues * RESIDUE_DISK + number * STRUCTURE_DISK + pairs * PAIR_DISK,
        scratch_bytes=number * SEQUENCE_DISK + residues * RESIDUE_SCRATCH,
        memory=WORKER_MEMORY + window * every * WINDOW_MEMORY,
        driver_memory=DRIVER_MEMORY + max(number * SEQUENCE_MEMORY, pairs * PAIR_MEMORY),
    )


def lengths_in(shards: Iterable[Shard]) -> npt.NDArray[np.int64]:
    """Return lengths of the proteins of planned shards, whose sum is right. Shards are cut by length, so those of one
    shard are taken as nearly equal."""
    found = [np.empty(0, np.int64)]
    for shard in shards:
        least, more = divmod(shard.residues, max(1, shard.proteins))
        found.append(least + (np.arange(shard.proteins) < more))
    return np.concatenate(found)
