"""Which parts of which experimental chains a training step sees.

Every step's crops are a function of the seed and the step's number alone, so that a run goes on exactly, with any
number of processes. Chains come as often as their weight says, evenly: each epoch takes every chain the rounded-down
or rounded-up number of times (systematic resampling), in a random order.

Weights follow Jumper et al. 2021, supplement 1.2.5: related chains less often each, long ones more often. Crops are
contiguous (1.2.8), and the number of recycles is random (algorithm 31, line 3).
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foldatlas.folding.compare.experimental import Chain
from foldatlas.schemas.errors import UsageError

_EPOCH, _STEP = 0, 1  # which stream of random numbers
_PHASE_NUMBER = re.compile("[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class Phase:
    """`steps` updates from `batch` crops each, of at most `crop` residues."""

    crop: int
    batch: int
    steps: int

    def __str__(self) -> str:
        return f"{self.crop}x{self.batch}x{self.steps}"


def parse_phase(text: str) -> Phase:
    """`CROPxBATCHxSTEPS`, such as 64x4x6000. Raises UsageError for anything else."""
    parts = text.split("x")
    if len(parts) != 3 or not all(_PHASE_NUMBER.fullmatch(part) for part in parts):
        raise UsageError(f"{text!r} is no phase: write CROPxBATCHxSTEPS, such as 64x4x6000, all above 0")
    return Phase(*map(int, parts))


@dataclass(frozen=True, slots=True)
class Crop:
    """`length` residues from `start` on, of the chain with this number."""

    chain: int
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Step:
    """What one update is made of."""

    crops: list[Crop]
    recycles: int  # trunk passes after the first


class CropSampler:
    """The steps of a run over `chains` in its phases; a step's number of recycles is one of `recycles`.

    Clusters count by the square root of their size; of chains up to twice a phase's crop, longer ones come more often
    in proportion.
    """

    def __init__(self, chains: Sequence[Chain], phases: Sequence[Phase], *, seed: int, recycles: range):
        if not chains:
            raise UsageError("there is no chain to train on: check the file, its splits and --max-length")
        self._lengths = np.array([len(chain.sequence) for chain in chains])
        sizes = Counter(chain.cluster for chain in chains)
        self._weights = np.array([sizes[chain.cluster] ** -0.5 for chain in chains])
        self._phases = phases
        self._seed = seed
        self._recycles = recycles
        self._order: tuple[tuple[int, int], npt.NDArray[np.int64]] | None = None  # of the epoch used last

    @property
    def num_steps(self) -> int:
        return sum(phase.steps for phase in self._phases)

    def step(self, number: int) -> Step:
        """The step `number`, from 1 to `num_steps`."""
        before = 0
        for index, phase in enumerate(self._phases):
            if number <= before + phase.steps:
                return self._step(number, number - before - 1, index, phase)
            before += phase.steps
        raise ValueError(f"step {number} of {before}")

    def _step(self, number: int, in_phase: int, index: int, phase: Phase) -> Step:
        generator = np.random.default_rng((self._seed, _STEP, number))
        crops = []
        for place in range(in_phase * phase.batch, (in_phase + 1) * phase.batch):
            chain = self._chain(place, index, phase)
            length = min(phase.crop, int(self._lengths[chain]))
            start = int(generator.integers(self._lengths[chain] - length + 1))
            crops.append(Crop(chain, start, length))
        return Step(crops, int(generator.choice(self._recycles)))

    def _chain(self, place: int, index: int, phase: Phase) -> int:
        epoch, place = divmod(place, len(self._lengths))
        if self._order is None or self._order[0] != (index, epoch):
            weights = self._weights * np.clip(self._lengths, phase.crop, 2 * phase.crop)
            generator = np.random.default_rng((self._seed, _EPOCH, index, epoch))
            self._order = (index, epoch), generator.permutation(systematic(weights, generator.random()))
        return int(self._order[1][place])


def systematic(weights: npt.NDArray[np.floating], offset: float) -> npt.NDArray[np.int64]:
    """As many indices as weights, each as often as its weight says, rounded down or up; `offset` is 0 to 1."""
    ends = np.cumsum(weights / weights.sum()) * len(weights)
    return np.minimum(np.searchsorted(ends, np.arange(len(weights)) + offset, side="right"), len(weights) - 1)
