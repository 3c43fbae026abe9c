"""Smooth lDDT, torsions, distogram and confidence, against float64 transcriptions of the papers' algorithms."""

import numpy as np
import pytest
import torch

from foldatlas.folding.network.rigid import Rigid
from foldatlas.folding.training.losses.confidence_losses import aligned_error_bins, aligned_error_loss, plddt_loss
from foldatlas.folding.training.losses.distogram_loss import distance_bins, distogram_loss
from foldatlas.folding.training.losses.lddt_loss import alpha_lddt, smooth_lddt_loss
from foldatlas.folding.training.losses.torsion_loss import torsion_loss


@pytest.fixture
def pair(synthetic):
    structure = synthetic.chain(num_proteins=2, num_residues=30)
    return structure.targets(synthetic.partly_observed(structure)), synthetic.disturbed(structure, shift=1.0)


def logits(*shape):
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(7))


def array(tensor):
    return tensor.detach().double().numpy()


def log_softmax(of_bins):
    of_bins = array(of_bins)
    return of_bins - np.log(np.exp(of_bins).sum(-1, keepdims=True))


def distance(points, i, j):
    return np.linalg.norm(points[i] - points[j])


def neighbours(targets, protein):
    """Pairs of different seen residues within 15 angstrom."""
    true, seen = array(targets.alpha_BL3[protein]), targets.alpha_mask_BL[protein].numpy()
    length = len(true)
    return [
        (i, j)
        for i in range(length)
        for j in range(length)
        if i != j and seen[i] and seen[j] and distance(true, i, j) < 15
    ]


def test_smooth_lddt(pair):
    targets, predicted = pair
    found = smooth_lddt_loss(predicted.frames.translation, targets.alpha_BL3, targets.alpha_mask_BL)
    for protein in range(2):
        here, true = array(predicted.frames.translation[protein]), array(targets.alpha_BL3[protein])
        kept = []
        for i, j in neighbours(targets, protein):
            error = abs(distance(here, i, j) - distance(true, i, j))
            kept.append(sum(1 / (1 + np.exp(-(limit - error))) for limit in (0.5, 1, 2, 4)) / 4)
        assert found[protein].item() == pytest.approx(1 - np.mean(kept), abs=1e-5)


def lddt_by_loops(targets, predicted, protein):
    """lDDT of each residue that has a neighbour."""
    here, true = array(predicted.frames.translation[protein]), array(targets.alpha_BL3[protein])
    kept = {}
    for i, j in neighbours(targets, protein):
        error = abs(distance(here, i, j) - distance(true, i, j))
        kept.setdefault(i, []).append(sum(error < limit for limit in (0.5, 1, 2, 4)) / 4)
    return {residue: np.mean(scores) for residue, scores in kept.items()}


def test_plddt(pair):
    targets, predicted = pair
    of_bins = logits(2, 30, 50)
    scores, mask = alpha_lddt(predicted.frames.translation, targets.alpha_BL3, targets.alpha_mask_BL)
    found = plddt_loss(of_bins, predicted.frames, targets)
    for protein in range(2):
        expected = lddt_by_loops(targets, predicted, protein)
        assert mask[protein].nonzero().flatten().tolist() == sorted(expected)
        entropies = []
        for residue, score in expected.items():
            assert scores[protein, residue].item() == pytest.approx(score, abs=1e-6)
            entropies.append(-log_softmax(of_bins[protein, residue])[min(int(score * 50 + 1e-6), 49)])
        assert found[protein].item() == pytest.approx(np.mean(entropies), abs=1e-5)


def test_a_perfect_prediction_is_in_the_last_bin(pair):
    targets, _ = pair
    sure = torch.full((2, 30, 50), -50.0)
    sure[..., 49] = 50.0
    perfect = Rigid(targets.backbone.rotation, targets.alpha_BL3)
    assert plddt_loss(sure, perfect, targets).max() < 1e-6


def test_torsions(pair):
    targets, predicted = pair
    for count, backbone_only in ((7, False), (3, True)):
        found = torsion_loss(predicted.torsions, targets, backbone_only)
        for protein in range(2):
            vectors = array(predicted.torsions[protein])
            true, other = array(targets.torsions_BLT2[protein]), array(targets.alternative_torsions_BLT2[protein])
            errors, lengths = [], []
            for residue in range(30):
                for torsion in range(count):
                    length = np.linalg.norm(vectors[residue, torsion])
                    lengths.append(abs(length - 1))
                    if targets.torsion_mask_BLT[protein, residue, torsion]:
                        unit = vectors[residue, torsion] / length
                        errors.append(min(np.sum((unit - angle[residue, torsion]) ** 2) for angle in (true, other)))
            assert found[protein].item() == pytest.approx(np.mean(errors) + 0.02 * np.mean(lengths), abs=1e-5)


def test_true_torsions_cost_nothing_under_either_name(pair):
    targets, _ = pair
    for vectors in (targets.torsions_BLT2, targets.alternative_torsions_BLT2):
        assert torsion_loss(vectors, targets).max() < 1e-6


def test_distogram(pair):
    targets, _ = pair
    of_bins = logits(2, 30, 30, 64)
    found = distogram_loss(of_bins, targets)
    edges = [2.3125 + 0.3125 * k for k in range(63)]
    for protein in range(2):
        beta, seen = array(targets.beta_BL3[protein]), targets.beta_mask_BL[protein].numpy()
        entropies = []
        for i in np.flatnonzero(seen):
            for j in np.flatnonzero(seen):
                which = sum(distance(beta, i, j) > edge for edge in edges)
                entropies.append(-log_softmax(of_bins[protein, i, j])[which])
        assert found[protein].item() == pytest.approx(np.mean(entropies), abs=1e-5)


def test_distogram_bins_at_their_edges():
    places = torch.tensor([0.0, 2.31, 2.32, 2.64, 21.68, 21.69, 400.0])
    points = torch.stack((places, 0 * places, 0 * places), dim=-1).unsqueeze(0)
    assert distance_bins(points)[0, 0].tolist() == [0, 0, 1, 2, 62, 63, 63]


def test_aligned_error(synthetic):
    structure = synthetic.chain(num_proteins=2, num_residues=30)
    targets = structure.targets(synthetic.partly_observed(structure))
    predicted = synthetic.disturbed(structure, shift=5.0, turn=0.5)
    of_bins = logits(2, 30, 30, 64)
    found = aligned_error_loss(of_bins, predicted.frames, targets)
    for protein in range(2):
        rotation, translation = array(predicted.frames.rotation[protein]), array(predicted.frames.translation[protein])
        true_rotation, true = array(targets.backbone.rotation[protein]), array(targets.alpha_BL3[protein])
        entropies, bins = [], set()
        for i in np.flatnonzero(targets.backbone_mask_BL[protein]):
            for j in np.flatnonzero(targets.alpha_mask_BL[protein]):
                here = rotation[i].T @ (translation[j] - translation[i])
                there = true_rotation[i].T @ (true[j] - true[i])
                which = min(int(np.linalg.norm(here - there) / 0.5), 63)
                bins.add(which)
                entropies.append(-log_softmax(of_bins[protein, i, j])[which])
        assert {0, 63} <= bins
        assert len(bins) > 50
        assert found[protein].item() == pytest.approx(np.mean(entropies), abs=1e-4)


def test_a_shift_of_one_residue_is_seen_from_the_others(pair):
    targets, _ = pair
    moved = targets.alpha_BL3.clone()
    moved[0, 8] += torch.tensor([0.0, 0.0, 2.2])
    bins = aligned_error_bins(Rigid(targets.backbone.rotation, moved), targets)
    assert bins[0, 5, 8] == 4  # seen from residue 5, 8 is off
    assert bins[0, 5, 6] == 0


def test_gradients(synthetic):
    structure = synthetic.chain(num_residues=6, dtype=torch.float64)
    targets = structure.targets()
    predicted = synthetic.disturbed(structure, shift=1.0)
    alpha = predicted.frames.translation.requires_grad_()
    true = targets.alpha_BL3, targets.alpha_mask_BL
    assert torch.autograd.gradcheck(lambda x: smooth_lddt_loss(x, *true), alpha)
    assert torch.autograd.gradcheck(lambda x: torsion_loss(x, targets), predicted.torsions.requires_grad_())
    pairs = logits(1, 6, 6, 64).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: distogram_loss(x, targets), pairs)
    assert torch.autograd.gradcheck(lambda x: aligned_error_loss(x, predicted.frames, targets), pairs)
    singles = logits(1, 6, 50).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: plddt_loss(x, predicted.frames, targets), singles)


def test_confidence_passes_no_gradient_to_the_structure(pair):
    targets, predicted = pair
    frames = Rigid(predicted.frames.rotation.requires_grad_(), predicted.frames.translation.requires_grad_())
    singles, pairs = logits(2, 30, 50).requires_grad_(), logits(2, 30, 30, 64).requires_grad_()
    (plddt_loss(singles, frames, targets) + aligned_error_loss(pairs, frames, targets)).sum().backward()
    assert singles.grad is not None
    assert pairs.grad is not None
    assert frames.rotation.grad is None
    assert frames.translation.grad is None
