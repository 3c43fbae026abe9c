"""Residue constants, rigid motions, atoms and attention among frames, against transformers' ports of AlphaFold 2."""

import numpy as np
import pytest
import torch
from transformers.models.esm.modeling_esmfold import EsmFoldingTrunk
from transformers.models.esm.openfold_utils import Rigid as ReferenceRigid
from transformers.models.esm.openfold_utils import Rotation as ReferenceRotation
from transformers.models.esm.openfold_utils import (
    frames_and_literature_positions_to_atom14_pos,
    residue_constants,
    torsion_angles_to_frames,
)

from foldatlas.folding.network import residue_constants as ours
from foldatlas.folding.network.atoms import IdealResidues
from foldatlas.folding.network.invariant_point_attention import InvariantPointAttention
from foldatlas.folding.network.rigid import Rigid, quaternion_to_rotation, update_quaternion
from foldatlas.folding.network.trunk import distance_bins, ideal_beta
from foldatlas.schemas.records import ATOMS, STANDARD_RESIDUES

KNOWN = slice(0, ours.UNKNOWN_AATYPE)


def random_frames(*shape, seed=0, scale=10.0):
    generator = torch.Generator().manual_seed(seed)
    quaternion = torch.nn.functional.normalize(torch.randn(*shape, 4, generator=generator), dim=-1)
    return Rigid(quaternion_to_rotation(quaternion), scale * torch.randn(*shape, 3, generator=generator))


def as_reference(frames):
    return ReferenceRigid(ReferenceRotation(rot_mats=frames.rotation), frames.translation)


def test_residue_constants_are_those_of_transformers():
    np.testing.assert_array_equal(ours.ATOM_EXISTS_RA[KNOWN], residue_constants.restype_atom14_mask[KNOWN])
    np.testing.assert_array_equal(ours.ATOM_GROUP_RA[KNOWN], residue_constants.restype_atom14_to_rigid_group[KNOWN])
    np.testing.assert_array_equal(
        ours.ATOM_POSITION_RA3[KNOWN], residue_constants.restype_atom14_rigid_group_positions[KNOWN]
    )
    np.testing.assert_allclose(
        ours.DEFAULT_FRAME_RG44[KNOWN], residue_constants.restype_rigid_group_default_frame[KNOWN], atol=1e-7
    )


def test_atoms_are_in_the_order_of_records():
    for aatype, residue in enumerate(STANDARD_RESIDUES):
        names = residue_constants.restype_name_to_atom14_names[residue_constants.restype_1to3[residue]]
        assert ATOMS[residue] == tuple(filter(None, names))
        assert ours.ATOM_EXISTS_RA[aatype].sum() == len(ATOMS[residue])


def test_unknown_residues_have_the_backbone_of_alanine():
    alanine = STANDARD_RESIDUES.index("A")
    assert ours.ATOM_EXISTS_RA[ours.UNKNOWN_AATYPE].tolist() == [True] * 4 + [False] * 10
    np.testing.assert_array_equal(ours.ATOM_POSITION_RA3[ours.UNKNOWN_AATYPE, :4], ours.ATOM_POSITION_RA3[alanine, :4])


def test_quaternions_turn_as_in_transformers():
    generator = torch.Generator().manual_seed(0)
    quaternion = torch.nn.functional.normalize(torch.randn(50, 4, generator=generator), dim=-1)
    vector = torch.randn(50, 3, generator=generator)
    reference = ReferenceRotation(quats=quaternion)
    torch.testing.assert_close(quaternion_to_rotation(quaternion), reference.get_rot_mats())
    torch.testing.assert_close(
        update_quaternion(quaternion, vector), reference.compose_q_update_vec(vector).get_quats()
    )


def test_rigid_motions_compose_and_invert():
    outer, inner = random_frames(20, seed=1), random_frames(20, seed=2)
    points = torch.randn(20, 3, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(outer.compose(inner).apply(points), outer.apply(inner.apply(points)), atol=1e-4, rtol=0)
    torch.testing.assert_close(outer.apply_inverse(outer.apply(points)), points, atol=1e-5, rtol=0)
    torch.testing.assert_close(outer.apply(points), as_reference(outer).apply(points), atol=1e-5, rtol=0)


@pytest.fixture
def residues():
    """Frames, torsions and types of 4 copies of every known residue, one protein."""
    aatype = torch.arange(20).repeat(4).unsqueeze(0)
    torsions = torch.nn.functional.normalize(
        torch.randn(1, 80, 7, 2, generator=torch.Generator().manual_seed(5)), dim=-1
    )
    return random_frames(1, 80), torsions, aatype


def test_atoms_are_those_of_transformers(residues):
    frames, torsions, aatype = residues
    default_frames = torch.tensor(residue_constants.restype_rigid_group_default_frame)
    groups = torsion_angles_to_frames(as_reference(frames), torsions, aatype, default_frames)
    expected = frames_and_literature_positions_to_atom14_pos(
        groups,
        aatype,
        default_frames,
        torch.tensor(residue_constants.restype_atom14_to_rigid_group),
        torch.tensor(residue_constants.restype_atom14_mask),
        torch.tensor(residue_constants.restype_atom14_rigid_group_positions),
    )
    found = IdealResidues().atoms(frames, torsions, aatype)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)
    torch.testing.assert_close(IdealResidues().backbone(frames, aatype), expected[..., :3, :], atol=2e-5, rtol=0)


def test_unknown_residues_have_alanines_backbone(residues):
    """Unknown residues get alanine's backbone in the output and lie at the origin when recycled."""
    frames, torsions, aatype = residues
    unknown, alanine = torch.full_like(aatype, ours.UNKNOWN_AATYPE), torch.zeros_like(aatype)
    constants = IdealResidues()
    found = constants.atoms(frames, torsions, unknown)
    torch.testing.assert_close(found[..., :4, :], constants.atoms(frames, torsions, alanine)[..., :4, :])
    assert not found[..., 4:, :].any()
    assert not constants.recycled_backbone(frames, unknown).any()


def test_distance_bins_are_those_of_transformers():
    # Far enough apart for all 15 bins, and a few at the origin, as unknown residues are.
    backbone = random_frames(2, 60, scale=6.0).unsqueeze(1).apply(torch.tensor(ours.ATOM_POSITION_RA3[0, :3]))
    backbone[:, ::7] = 0
    beta = ideal_beta(backbone)
    found = distance_bins(beta, beta)
    torch.testing.assert_close(found, EsmFoldingTrunk.distogram(backbone, 3.375, 21.375, 15))
    assert found.unique().tolist() == list(range(15))


def test_invariant_point_attention_is_invariant(two_blocks):
    """Rotating and translating all frames changes nothing; other frames do."""
    attention: InvariantPointAttention = two_blocks.network.trunk.structure_module.ipa
    generator = torch.Generator().manual_seed(0)
    single, pair = torch.randn(1, 25, 48, generator=generator), torch.randn(1, 25, 25, 32, generator=generator)

    def pair_rows(chunk):
        return pair[:, chunk]

    bias = attention.bias(pair_rows, torch.ones(1, 25, dtype=torch.bool), rows=25)
    frames, motion = random_frames(1, 25, scale=1.0), random_frames(1, 1, seed=9, scale=1.0)
    found = attention(single, pair_rows, bias, frames, rows=25)
    torch.testing.assert_close(
        attention(single, pair_rows, bias, motion.compose(frames), rows=7), found, atol=2e-4, rtol=0
    )
    others = attention(single, pair_rows, bias, random_frames(1, 25, seed=4, scale=1.0), rows=25)
    assert (others - found).abs().max() > 0.1
