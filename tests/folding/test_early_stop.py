"""Recycling that stops early: each protein gets what it gets alone with as many recycles as it needs."""

import numpy as np
import pytest
import torch

from foldatlas.folding.models import load, settings_of
from foldatlas.folding.network.early_stop import distance_change
from foldatlas.folding.predictor import Predictor
from foldatlas.folding.stages import FoldingStages
from foldatlas.pipeline.workers.results import pack, unpack
from foldatlas.schemas.errors import ModelError, NonFiniteOutput
from foldatlas.schemas.records import Settings, num_atoms

# With nano and a tolerance of 2 angstrom they stop after different numbers of passes.
SEQUENCES = [
    "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ",
    "GSHMRSLEVQAPILSRVGDGTQDNLSGAEKAV",
    "MKV",
    "ACDEFGHIKLMNPQRSTVWYACDEFGHIKLMNPQRSTVWY",
]
RECYCLES, TOLERANCE = 5, 2.0
OUTPUTS = {"mean_embedding": True, "residue_embedding": True, "pae": True}


@pytest.fixture(scope="module")
def network():
    return load("nano")._network


def predictor(network, recycles, tolerance=None):
    return Predictor(network, Settings("nano", "0", recycles, "fp32", tolerance))


def rms_change(before, after):
    """Return the root mean square change of all C-alpha distances of a protein, by numpy."""
    starts = np.cumsum([0, *(num_atoms(residue) for residue in before.sequence[:-1])])
    alphas = [one.positions[starts + 1].astype(np.float64) for one in (before, after)]  # N, CA, ...
    first, second = (np.linalg.norm(points[:, None] - points, axis=-1) for points in alphas)
    return np.sqrt(np.mean((second - first) ** 2))


def expected_of(network, sequence):
    """Return the prediction of `sequence` alone after the first pass that changes it by less than the tolerance."""
    before = None
    for recycles in range(RECYCLES + 1):
        [found] = predictor(network, recycles).fold_batch([sequence], **OUTPUTS)
        if before is not None and rms_change(before, found) < TOLERANCE:
            break
        before = found
    return found, recycles + 1


def assert_close(found, expected):
    assert found.sequence == expected.sequence
    np.testing.assert_allclose(found.positions, expected.positions, atol=2e-3)
    np.testing.assert_allclose(found.plddt, expected.plddt, atol=2e-3)
    np.testing.assert_allclose(found.pae, expected.pae, atol=2e-3)
    np.testing.assert_allclose(found.residue_embedding, expected.residue_embedding, atol=1e-4)
    assert found.ptm == pytest.approx(expected.ptm, abs=1e-4)


def test_protein_in_a_batch_stops_as_it_does_alone(network):
    together = predictor(network, RECYCLES, TOLERANCE).fold_batch(SEQUENCES, **OUTPUTS)
    passes = [one.passes for one in together]
    assert len(set(passes)) >= 3, f"the test needs proteins that stop at different passes, not {passes}"
    for sequence, found in zip(SEQUENCES, together, strict=True):
        expected, after = expected_of(network, sequence)
        assert found.passes == after
        assert_close(found, expected)


def test_all_passes_run_below_the_tolerance(network):
    together = predictor(network, 2, 1e-3).fold_batch(SEQUENCES[:2], pae=True, residue_embedding=True)
    plain = predictor(network, 2).fold_batch(SEQUENCES[:2], pae=True, residue_embedding=True)
    assert [one.passes for one in together] == [3, 3] and [one.passes for one in plain] == [None, None]
    for found, expected in zip(together, plain, strict=True):
        assert_close(found, expected)


def test_complex_stops_by_its_chains(network):
    complexes = ["MKTAYIAKQRQ:GSHMRSLE", SEQUENCES[2]]
    found = predictor(network, RECYCLES, 4.0).fold_batch(complexes, pae=True)
    assert found[0].passes < RECYCLES + 1
    for one, text in zip(found, complexes, strict=True):
        [alone] = predictor(network, one.passes - 1).fold_batch([text], pae=True)
        np.testing.assert_allclose(one.positions, alone.positions, atol=2e-3)
        assert one.iptm == (None if alone.iptm is None else pytest.approx(alone.iptm, abs=1e-4))
        assert one.chain_lengths == alone.chain_lengths


def test_stages_report_the_passes(network):
    stages = FoldingStages(network, RECYCLES, TOLERANCE)
    found = stages.collect(stages.compute(stages.prepare(SEQUENCES)))
    expected = predictor(network, RECYCLES, TOLERANCE).fold_batch(SEQUENCES)
    assert [one.passes for one in found] == [one.passes for one in expected]
    back = unpack(SEQUENCES, pack(found))
    assert [one.passes for one in back] == [one.passes for one in found]


def test_distance_change_is_that_of_numpy():
    generator = torch.Generator().manual_seed(0)
    before, after = (torch.randn(3, 7, 3, generator=generator) * 9 for _ in range(2))
    lengths = (7, 4, 1)
    mask = torch.arange(7) < torch.tensor(lengths).unsqueeze(1)
    for rows in (1, 3, 7):
        found = distance_change(before, after, mask, rows)
        for row, length in enumerate(lengths):
            first, second = (
                np.linalg.norm(points[:, None] - points, axis=-1)
                for points in (x[row, :length].double().numpy() for x in (before, after))
            )
            assert float(found[row]) == pytest.approx(np.sqrt(np.mean((second - first) ** 2)), abs=1e-5)


def test_structure_that_is_not_finite_is_an_error_as_before(network):
    """NaN is never below a tolerance, and does not stop the other protein of the batch."""
    broken = load("nano")._network
    broken.trunk.recycle_z_norm.weight.fill_(float("nan"))
    with pytest.raises(NonFiniteOutput, match="protein 1 of 2"):
        predictor(broken, 2, 1e9).fold_batch(SEQUENCES[:2])


@pytest.mark.parametrize(
    ("recycles", "tolerance", "reason"),
    [(1, 0.5, "has no effect with 1 recycle"), (3, 0.0, "greater than 0"), (3, float("nan"), "greater than 0")],
)
def test_tolerance_that_cannot_work_is_refused(recycles, tolerance, reason):
    with pytest.raises(ModelError, match=reason):
        settings_of("nano", recycles, recycle_tolerance=tolerance)
    assert settings_of("nano", 2, recycle_tolerance=1).recycle_tolerance == 1.0
