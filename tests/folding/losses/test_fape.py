"""FAPE, against algorithm 28 written out in float64."""

import numpy as np
import pytest
import torch

from foldatlas.folding.network.rigid import Rigid, quaternion_to_rotation
from foldatlas.folding.training.losses.ambiguous_atoms import rename
from foldatlas.folding.training.losses.fape import (
    NO_CLAMP,
    backbone_frame_aligned_error,
    frame_aligned_error,
    side_chain_frame_aligned_error,
)
from foldatlas.folding.training.losses.targets import frames_from_points


def by_loops(
    rotation, translation, points, true_rotation, true_translation, true_points, frame_mask, point_mask, clamp
):
    """Algorithm 28 for one protein; arrays, float64."""
    errors = []
    for i in np.flatnonzero(frame_mask):
        for j in np.flatnonzero(point_mask):
            here = rotation[i].T @ (points[j] - translation[i])
            there = true_rotation[i].T @ (true_points[j] - true_translation[i])
            errors.append(min(np.sqrt(np.sum((here - there) ** 2) + 1e-4), clamp))
    return np.mean(errors) / 10.0


def arrays(*tensors):
    return [tensor.double().numpy() if tensor.is_floating_point() else tensor.numpy() for tensor in tensors]


def reference(frames, points, true_frames, true_points, frame_mask, point_mask, clamp, protein):
    tensors = (
        frames.rotation, frames.translation, points, true_frames.rotation, true_frames.translation, true_points,
        frame_mask, point_mask,
    )  # fmt: skip
    return by_loops(*arrays(*(tensor[protein].detach() for tensor in tensors)), clamp)


@pytest.fixture
def pair(synthetic):
    structure = synthetic.chain(num_proteins=2, num_residues=20)
    return structure.targets(synthetic.partly_observed(structure)), synthetic.disturbed(structure, shift=6.0)


@pytest.mark.parametrize("clamp", [10.0, NO_CLAMP])
def test_backbone(pair, clamp):
    targets, predicted = pair
    found = backbone_frame_aligned_error(predicted.frames, targets, ((clamp, 1.0),))
    for protein in range(2):
        expected = reference(
            predicted.frames, predicted.frames.translation, targets.backbone, targets.alpha_BL3,
            targets.backbone_mask_BL, targets.alpha_mask_BL, clamp, protein,
        )  # fmt: skip
        assert found[protein].item() == pytest.approx(expected, abs=1e-5)


def test_side_chains_under_the_names_that_fit(pair):
    targets, predicted = pair
    renamed = rename(predicted.positions, targets)
    assert renamed.is_alternative_BL.any()
    found = side_chain_frame_aligned_error(predicted.groups, predicted.positions, targets, renamed)
    flat = Rigid(predicted.groups.rotation.flatten(1, 2), predicted.groups.translation.flatten(1, 2))
    true = Rigid(renamed.groups.rotation.flatten(1, 2), renamed.groups.translation.flatten(1, 2))
    for protein in range(2):
        expected = reference(
            flat, predicted.positions.flatten(1, 2), true, renamed.positions_BLA3.flatten(1, 2),
            targets.group_mask_BLG.flatten(1), renamed.observed_BLA.flatten(1), 10.0, protein,
        )  # fmt: skip
        assert found[protein].item() == pytest.approx(expected, abs=1e-5)


def test_clamps_of_each_protein_and_in_shares(pair):
    targets, predicted = pair
    clamped, free = (backbone_frame_aligned_error(predicted.frames, targets, ((c, 1.0),)) for c in (10.0, NO_CLAMP))
    assert (clamped < free).all()
    chosen = backbone_frame_aligned_error(predicted.frames, targets, torch.tensor([10.0, NO_CLAMP]))
    torch.testing.assert_close(chosen, torch.stack((clamped[0], free[1])))
    mixed = backbone_frame_aligned_error(predicted.frames, targets, ((10.0, 0.9), (NO_CLAMP, 0.1)))
    torch.testing.assert_close(mixed, 0.9 * clamped + 0.1 * free)


def test_local_counts_near_residues_alone(pair):
    targets, predicted = pair
    found = backbone_frame_aligned_error(predicted.frames, targets, ((NO_CLAMP, 1.0),), max_separation=3)
    rotation, translation, true_rotation, true_points = arrays(
        predicted.frames.rotation, predicted.frames.translation, targets.backbone.rotation, targets.alpha_BL3
    )
    for protein in range(2):
        errors = []
        for i in np.flatnonzero(targets.backbone_mask_BL[protein]):
            for j in np.flatnonzero(targets.alpha_mask_BL[protein]):
                if abs(i - j) <= 3:
                    here = rotation[protein, i].T @ (translation[protein, j] - translation[protein, i])
                    there = true_rotation[protein, i].T @ (true_points[protein, j] - true_points[protein, i])
                    errors.append(np.sqrt(np.sum((here - there) ** 2) + 1e-4))
        assert found[protein].item() == pytest.approx(np.mean(errors) / 10, abs=1e-5)


def test_a_motion_changes_nothing_and_a_mirror_does(pair):
    targets, predicted = pair
    renamed = rename(predicted.positions, targets)
    quaternion = torch.nn.functional.normalize(torch.tensor([[0.3, -0.5, 0.7, 0.2]]), dim=-1)
    motion = Rigid(quaternion_to_rotation(quaternion), torch.tensor([[8.0, -20.0, 13.0]]))

    def losses(frames, groups, positions):
        return torch.stack(
            (
                backbone_frame_aligned_error(frames, targets),
                side_chain_frame_aligned_error(groups, positions, targets, renamed),
            )
        )

    before = losses(predicted.frames, predicted.groups, predicted.positions)
    moved = losses(
        motion.unsqueeze(1).compose(predicted.frames),
        motion.unsqueeze(2).compose(predicted.groups),
        motion.unsqueeze(2).apply(predicted.positions),
    )
    torch.testing.assert_close(moved, before, atol=1e-5, rtol=0)


def test_a_perfect_prediction_and_its_mirror_image(synthetic):
    structure = synthetic.chain(num_residues=20)
    targets = structure.targets()
    perfect = backbone_frame_aligned_error(structure.frames, targets)
    assert perfect.item() == pytest.approx(0.001, abs=1e-4)
    mirror = torch.tensor([-1.0, 1.0, 1.0])
    n, ca, c = (structure.positions[:, :, atom] * mirror for atom in range(3))
    frames, _ = frames_from_points(ca, c, n, ca)
    assert backbone_frame_aligned_error(frames, targets).item() > 0.2


def test_gradients(synthetic):
    structure = synthetic.chain(num_residues=5, dtype=torch.float64)
    targets = structure.targets()
    predicted = synthetic.disturbed(structure, shift=4.0)

    def loss(rotation, translation, points):
        return frame_aligned_error(
            Rigid(rotation, translation), points, targets.backbone, targets.alpha_BL3,
            targets.backbone_mask_BL, targets.alpha_mask_BL, ((10.0, 0.5), (NO_CLAMP, 0.5)),
        )  # fmt: skip

    points = predicted.positions[:, :, 1] + 0.3
    inputs = [tensor.requires_grad_() for tensor in (predicted.frames.rotation, predicted.frames.translation, points)]
    assert torch.autograd.gradcheck(loss, inputs)
