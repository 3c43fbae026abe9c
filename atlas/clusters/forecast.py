"""What clustering an atlas takes: time, memory and disk, predicted from the lengths of its structures.

How many representatives there will be at 30 % is not known before, so what depends on them is an upper bound: that
every structure is one. Rates are of one core, measured by benchmarks/clusters.py.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from foldatlas.atlas.clusters.results import cost_and_residues
from foldatlas.schemas.wording import counted, readable_bytes, readable_time

SEQUENCE_SECONDS: Final = 1.8e-4  # a sequence, of linclust at both levels and of aligning members
READING_SECONDS: Final = 2.5e-6  # a residue of the structures that are compared
PAIR_SECONDS: Final = 5.1e-5  # two structures of 250 residues that may be of one fold by their lengths

# bytes
SEQUENCE_MEMORY: Final = 1_100  # linclust's k-mers, 100 a sequence
BASE_MEMORY: Final = 600_000_000  # the program, numba's kernels, the index
WINDOW_MEMORY: Final = 25  # a residue of the chains that a worker holds
PAIR_MEMORY: Final = 60  # a pair of one fold, in set cover
PAIRS_PER_STRUCTURE: Final = 16  # of one fold, as among experimental chains
SEQUENCE_DISK: Final = 3_000  # of linclust, while it works
RESIDUE_DISK: Final = 13 + 7  # staged, and in the file of chains


@dataclass(frozen=True)
class ClusterForecast:
    """What clustering `structures` of `residues` takes at most. `core_seconds` are of one core, in bytes the memory of
    the driver, of a worker, and the disk in the folder for temporary files and in the atlas."""

    structures: int
    residues: int
    core_seconds: float
    driver_memory: int
    worker_memory: int
    scratch_bytes: int
    atlas_bytes: int

    def lines(self) -> list[str]:
        """For people."""
        return [
            f"to cluster: {counted(self.structures, 'structure')}, {counted(self.residues, 'residue')}",
            f"predicted, at most: {readable_time(self.core_seconds)} of one core",
            f"memory: {readable_bytes(self.driver_memory)} where it is started, {readable_bytes(self.worker_memory)} a "
            "worker",
            f"disk: {readable_bytes(self.scratch_bytes)} in the folder for temporary files (TMPDIR), "
            f"{readable_bytes(self.atlas_bytes)} in the atlas",
        ]


def predict(lengths_N: npt.NDArray[np.integer]) -> ClusterForecast:
    """Predict the clustering of structures of these lengths, in any order."""
    lengths = -np.sort(-lengths_N.astype(np.int64))
    number, residues = len(lengths), int(lengths.sum())
    cells, window = cost_and_residues(lengths)
    pairs = number * PAIRS_PER_STRUCTURE
    return ClusterForecast(
        structures=number,
        residues=residues,
        core_seconds=number * SEQUENCE_SECONDS + residues * READING_SECONDS + cells * PAIR_SECONDS,
        driver_memory=BASE_MEMORY + max(number * SEQUENCE_MEMORY, pairs * PAIR_MEMORY),
        worker_memory=BASE_MEMORY + window * WINDOW_MEMORY,
        scratch_bytes=number * SEQUENCE_DISK + residues * RESIDUE_DISK,
        atlas_bytes=residues * 7 + number * 150 + pairs * 8,
    )
