"""Sampling of experimental chains and crops for each training step.

The crops of a step are a function of the seed and the step number, so a resumed run continues exactly, with any number
of processes. Each epoch takes every chain in proportion to its weight, rounded down or up (systematic resampling), in a
random order.

Weights follow Jumper et al. 2021, supplement 1.2.5: chains with many relatives are sampled less often, long chains more
often. Crops are contiguous (1.2.8), and the number of recycles is random (algorithm 31, line 3).
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foldatlas.folding.compare.experimental import Chain
from foldatlas.schemas.errors import UsageError

_EPOCH, _STEP = 0, 1  # part of the seed: separate random streams
_PHASE_NUMBER = re.compile("[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class Phase:
    """`steps` updates with `batch` crops of at most `crop` residues each."""

    crop: int
    batch: int
    steps: int

    def __str__(self) -> str:
        return f"{self.crop}x{self.batch}x{self.steps}"


def parse_phase(text: str) -> Phase:
    """Parse `CROPxBATCHxSTEPS`, such as 64x4x6000. Raise UsageError for other text."""
    parts = text.split("x")
    if len(parts) != 3 or not all(_PHASE_NUMBER.fullmatch(part) for part in parts):
        raise UsageError(f"{text!r} is not a phase: give CROPxBATCHxSTEPS, such as 64x4x6000, all above 0")
    return Phase(*map(int, parts))


@dataclass(frozen=True, slots=True)
class Crop:
    """`length` residues from `start` of the chain with index `chain`."""

    chain: int
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Step:
    """The crops and the number of recycles of one update."""

    crops: list[Crop]
    recycles: int  # trunk passes after the first


class CropSampler:
    """Sampler of the steps of a run over `chains`, in several phases; each step draws one of `recycles`.

    The weight of a cluster is the square root of its size; the weight of a chain is proportional to its length, between
    the crop of the phase and twice the crop.
    """

    def __init__(self, chains: Sequence[Chain], phases: Sequence[Phase], *, seed: int, recycles: range):
        if not chains:
            raise UsageError("there is no chain to train on: check the file, --split and --max-length")
        self._lengths = np.array([len(chain.sequence) for chain in chains])
        sizes = Counter(chain.cluster for chain in chains)
        self._weights = np.array([sizes[chain.cluster] ** -0.5 for chain in chains])
        self._phases = phases
        self._seed = seed
        self._recycles = recycles
        self._order: tuple[tuple[int, int], npt.NDArray[np.int64]] | None = None  # of the last epoch that was used

    @property
    def num_steps(self) -> int:
        return sum(phase.steps for phase in self._phases)

    def step(self, number: int) -> Step:
        """Return step `number`, from 1 to `num_steps`."""
        before = 0
        for index, phase in enumerate(self._phases):
            if number <= before + phase.steps:
                return self._step(number, number - before - 1, index, phase)
            before += phase.steps
        raise ValueError(f"step {number} of {before}")

    def _step(self, number: int, in_phase: int, index: int, phase: Phase) -> Step:
        generator = np.random.default_rng((self._seed, _STEP, number))
        crops = []
        for draw in range(in_phase * phase.batch, (in_phase + 1) * phase.batch):
            chain = self._chain(draw, index, phase)
            length = min(phase.crop, int(self._lengths[chain]))
            start = int(generator.integers(self._lengths[chain] - length + 1))
            crops.append(Crop(chain, start, length))
        return Step(crops, int(generator.choice(self._recycles)))

    def _chain(self, draw: int, index: int, phase: Phase) -> int:
        """Return the chain of draw number `draw` of the phase with this index."""
        epoch, position = divmod(draw, len(self._lengths))
        if self._order is None or self._order[0] != (index, epoch):
            weights = self._weights * np.clip(self._lengths, phase.crop, 2 * phase.crop)
            generator = np.random.default_rng((self._seed, _EPOCH, index, epoch))
            self._order = (index, epoch), generator.permutation(systematic(weights, generator.random()))
        return int(self._order[1][position])


def systematic(weights: npt.NDArray[np.floating], offset: float) -> npt.NDArray[np.int64]:
    """Return len(weights) indices, each in proportion to its weight, rounded down or up; `offset` is 0 to 1."""
    ends = np.cumsum(weights / weights.sum()) * len(weights)
    return np.minimum(np.searchsorted(ends, np.arange(len(weights)) + offset, side="right"), len(weights) - 1)
