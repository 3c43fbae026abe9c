"""Which parts of which chains a step sees: as often as it should, and a function of the seed and the step alone."""

import numpy as np

from foldatlas.folding.compare.experimental import Chain
from foldatlas.folding.training.data.crops import CropSampler, Phase, systematic

LENGTHS = (20, 20, 20, 20, 20, 40, 100)
CLUSTERS = "aaaabcd"
PHASES = (Phase(16, 2, 5), Phase(24, 4, 3))


def chain(number: int, length: int, cluster: str) -> Chain:
    """A chain whose atoms are not used."""
    nowhere, index = np.zeros((length, 14, 3), np.float32), np.arange(length, dtype=np.int32)
    return Chain(f"made{number}", "A" * length, nowhere, np.zeros((length, 14), bool), index, "train", cluster)


CHAINS = [chain(number, *parts) for number, parts in enumerate(zip(LENGTHS, CLUSTERS, strict=True))]


def test_chains_come_as_often_as_their_weight_says() -> None:
    weights = np.array([1.0, 2.0, 5.0, 0.5, 1.5])
    for offset in np.linspace(0, 0.999, 11):
        times = np.bincount(systematic(weights, offset), minlength=5)
        assert times.sum() == 5
        assert (np.abs(times - weights / 2) < 1).all()


def test_small_clusters_and_long_chains_come_more_often() -> None:
    """Of crops of 20: a cluster of four chains counts twice what one alone does, a chain of 40 or more residues twice
    what one of 20 does."""
    epochs = 40
    sampler = CropSampler(CHAINS, [Phase(20, len(CHAINS), epochs)], seed=0, recycles=range(1))
    seen = np.bincount([crop.chain for number in range(1, epochs + 1) for crop in sampler.step(number).crops])
    np.testing.assert_allclose(seen / epochs, [0.5, 0.5, 0.5, 0.5, 1, 2, 2], atol=0.2)


def test_every_chain_is_seen_in_an_epoch_of_equal_weights() -> None:
    alone = [chain(number, 20, f"cluster{number}") for number in range(6)]
    sampler = CropSampler(alone, [Phase(64, 1, 6)], seed=0, recycles=range(1))
    assert sorted(sampler.step(number).crops[0].chain for number in range(1, 7)) == list(range(6))


def test_steps_are_functions_of_seed_and_number() -> None:
    def steps(seed=3, numbers=range(1, 9)):
        sampler = CropSampler(CHAINS, PHASES, seed=seed, recycles=range(3))
        return {number: sampler.step(number) for number in numbers}

    assert steps() == steps(numbers=reversed(range(1, 9)))
    assert steps() != steps(seed=4)
    for number, step in steps().items():
        phase = PHASES[number > 5]
        assert len(step.crops) == phase.batch
        for crop in step.crops:
            assert crop.length == min(phase.crop, LENGTHS[crop.chain])
            assert 0 <= crop.start <= LENGTHS[crop.chain] - crop.length
    assert {step.recycles for step in steps().values()} == {0, 1, 2}
