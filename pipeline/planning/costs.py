"""What planning takes a protein to cost: operations by the network's shapes, speed and bytes as they were measured."""

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

DEADLINE_MARGIN: Final = 4.0  # another device of the kind, or a busier one, may be slower than those that were measured


@dataclass(frozen=True)
class CostModel:
    """What a protein of a given length costs on the planned device.

    `mflop(length)` of one protein; `mflop_per_second` of the device; `output_bytes_a_residue`,
    `output_bytes_a_protein` and `output_bytes_a_pair` (of residues) of what is written.
    """

    mflop: Callable[[int], int]
    mflop_per_second: float
    output_bytes_a_residue: float
    output_bytes_a_protein: float
    output_bytes_a_pair: float = 0.0

    def output_bytes(self, length: float) -> int:
        """Predicted bytes that a protein of `length` residues writes."""
        by_length = self.output_bytes_a_residue * length + self.output_bytes_a_pair * length * length
        return round(by_length + self.output_bytes_a_protein)


def cost_model(config: ESMFoldConfig, recycles: int, rate: Rate, default: OutputBytes) -> CostModel:
    """The model by which shards are cut.

    A measured rate counts here as the nearest power of two times the default: shards need their size only roughly, and
    two drivers that plan the same files while others fold still make the same plan. Bytes only bound a shard, so they
    are the defaults.
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
    """MFLOP a second that a device of this kind surely reaches, by the shards that the slowest make of such devices
    finished; None if none did."""
    rates = [measured(device, plans, entries, name) for name in device_names(device, entries)]
    return min((rate.slowest / DEADLINE_MARGIN for rate in rates if rate.num_shards), default=None)
