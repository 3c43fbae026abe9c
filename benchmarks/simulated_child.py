"""A child that answers after the time that a device would need at least, with made-up results: for engine.py.

Run by a WorkerSpec in place of `python -m foldatlas.pipeline.workers.child`. SIMULATED_DEVICE_LOG names a file to which
it appends, for each batch, when the device begins and ends with it, on the clock of time.monotonic().
"""

import os
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from foldatlas.folding.planning import cost
from foldatlas.folding.prediction import QuantisedPrediction
from foldatlas.folding.training.recipes import ESMFOLD_V1
from foldatlas.pipeline.workers.child import Stages, serve
from foldatlas.pipeline.workers.inherited import connect
from foldatlas.schemas.records import COORDINATE_SCALE, PLDDT_SCALE, Settings, num_atoms

SETTINGS: Final = Settings("esmfold_v1", "0" * 64, ESMFOLD_V1.recycles, "bf16")
# An H200, as measured: products in bf16, and memory.
FLOP_PER_SECOND: Final = 790e12
BYTES_PER_SECOND: Final = 4.3e12
PAIR_TENSORS_PER_BLOCK: Final = 49.5  # read and written, with each operation fused
WEIGHTS_SECONDS: Final = 2.6e-3  # to read the weights, once a batch

_LONGEST: Final = 1024
_ATOM_STEP: Final = 0.85  # angstrom an axis, so that neighbours are 1.5 angstrom apart


def bound(num_proteins: int, length: int) -> float:
    """Return the seconds that an H200 needs at least for a batch padded to `length`."""
    trunk, passes = ESMFOLD_V1.trunk, ESMFOLD_V1.recycles + 1
    flop = num_proteins * cost.mflop(ESMFOLD_V1, length, ESMFOLD_V1.recycles) * 1e6
    pair_bytes = 2 * trunk.pair_width * length * length
    moved = num_proteins * passes * trunk.num_blocks * PAIR_TENSORS_PER_BLOCK * pair_bytes
    return max(flop / FLOP_PER_SECOND, moved / BYTES_PER_SECOND) + WEIGHTS_SECONDS


class Simulated:
    def __init__(self, log: str) -> None:
        draw = np.random.default_rng(0)
        # atoms of the longest protein: a walk, so that coordinates take as many bytes as those of a chain
        atoms = np.cumsum(draw.normal(scale=_ATOM_STEP, size=(14 * _LONGEST, 3)), axis=0)
        plddt = np.clip(80 + np.cumsum(draw.normal(scale=2.0, size=_LONGEST)), 20, 98)
        self._coordinates = np.rint(atoms * COORDINATE_SCALE).astype(np.int16)
        self._plddt = np.rint(plddt * PLDDT_SCALE).astype(np.uint16)
        self._log = log
        self._free = 0.0  # when all batches are computed

    def compute(self, prepared: tuple[Sequence[str], dict[str, Any]]) -> tuple[Sequence[str], float]:
        """Put a batch behind the ones before it, as launching its kernels does. Return when it will be computed."""
        sequences, _ = prepared
        seconds = bound(len(sequences), max(map(len, sequences)))
        began = max(self._free, time.monotonic())
        self._free = began + seconds
        with open(self._log, "a") as file:
            file.write(f"{began} {self._free}\n")
        return sequences, self._free

    def collect(self, computed: tuple[Sequence[str], float]) -> list[QuantisedPrediction]:
        """Wait for a batch, as for an event of CUDA, and return its results."""
        sequences, end = computed
        time.sleep(max(0.0, end - time.monotonic()))
        return [
            QuantisedPrediction(sequence, self._coordinates[: num_atoms(sequence)], self._plddt[: len(sequence)], 0.75)
            for sequence in sequences
        ]


def load() -> tuple[Settings, Stages]:
    device = Simulated(os.environ["SIMULATED_DEVICE_LOG"])
    return SETTINGS, Stages(lambda sequences, **outputs: (sequences, outputs), device.compute, device.collect)


if __name__ == "__main__":
    connection, _ = connect(sys.argv[1:])
    serve(connection, load)
