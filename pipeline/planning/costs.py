"""Predicted cost of a protein: operations from the network's shapes, speed and output bytes from measurements."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from foldatlas.atlas.forecast.device_rates import DEFAULT_MFLOP_PER_SECOND, Rate, device_names
from foldatlas.atlas.forecast.device_rates import measured_rate as measured
from foldatlas.atlas.forecast.output_sizes import PAIRS, PROTEINS, RESIDUES, OutputBytes
from foldatlas.folding.config import ESMFoldConfig
from foldatlas.folding.planning.cost import mflop
from foldatlas.schemas.manifest import Plan, ShardEntry

DEADLINE_MARGIN: Final = 4.0  # other devices of the kind, or busier ones, may be slower than the measured ones


@dataclass(frozen=True)
class CostModel:
    """Predicted cost of a protein by its length, on the planned device.

    mflop: operations of one protein of a given length, in MFLOP.
    mflop_per_second: of the device.
    output_bytes_a_residue, output_bytes_a_protein, output_bytes_a_pair (of residues): bytes written.
    """

    mflop: Callable[[int], int]
    mflop_per_second: float
    output_bytes_a_residue: float
    output_bytes_a_protein: float
    output_bytes_a_pair: float = 0.0

    def output_bytes(self, length: float) -> int:
        """Return the predicted output of a protein of `length` residues, in bytes."""
        by_length = self.output_bytes_a_residue * length + self.output_bytes_a_pair * length * length
        return round(by_length + self.output_bytes_a_protein)


def cost_model(config: ESMFoldConfig, recycles: int, rate: Rate, default: OutputBytes) -> CostModel:
    """Return the cost model by which shards are cut.

    A measured rate is rounded to a power of two times the default: the size of a shard need not be exact, and two
    drivers that plan the same files while others fold then make the same plan. Bytes are the defaults, since they only
    limit a shard.
    """
    assumed = DEFAULT_MFLOP_PER_SECOND[rate.device]
    return CostModel(
        mflop=lambda length: mflop(config, length, recycles),
        mflop_per_second=assumed * 2.0 ** round(math.log2(rate.typical / assumed)),
        output_bytes_a_residue=default.by(RESIDUES),
        output_bytes_a_protein=default.by(PROTEINS),
        output_bytes_a_pair=default.by(PAIRS),
    )


def deadline_rate(device: str, plans: Sequence[Plan], entries: Mapping[str, ShardEntry]) -> float | None:
    """Return a speed (MFLOP/s) that every device of this kind reaches, from the shards that the slowest device model
    finished; None if no shard was finished."""
    rates = [measured(device, plans, entries, name) for name in device_names(device, entries)]
    return min((rate.slowest / DEADLINE_MARGIN for rate in rates if rate.num_shards), default=None)
