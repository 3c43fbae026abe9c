"""Targets, against the frames and torsions that structures were built from and against transformers' constants."""

import numpy as np
import pytest
import torch
from transformers.models.esm.openfold_utils import Rigid as ReferenceRigid
from transformers.models.esm.openfold_utils import Rotation as ReferenceRotation
from transformers.models.esm.openfold_utils import residue_constants, torsion_angles_to_frames
from transformers.models.esm.openfold_utils.feats import pseudo_beta_fn

from foldatlas.folding.compare.atom_layouts import ATOM37
from foldatlas.folding.network.residue_constants import ATOM_EXISTS_RA, UNKNOWN_AATYPE
from foldatlas.folding.training.losses import side_chains
from foldatlas.folding.training.losses.ambiguous_atoms import rename
from foldatlas.folding.training.losses.targets import make_targets
from foldatlas.schemas.records import ATOMS, STANDARD_RESIDUES

CHI = slice(3, 7)
KNOWN = slice(0, UNKNOWN_AATYPE)


@pytest.fixture
def structure(synthetic):
    return synthetic.chain(num_proteins=2, num_residues=60)


def test_tables_are_those_of_transformers():
    np.testing.assert_array_equal(side_chains.TORSION_EXISTS_RT[KNOWN, CHI], residue_constants.chi_angles_mask)
    np.testing.assert_array_equal(side_chains.SYMMETRIC_RT[:, CHI], residue_constants.chi_pi_periodic)
    np.testing.assert_array_equal(side_chains.SWAP_RA, residue_constants.restype_atom14_ambiguous_atoms_swap_idx)
    for aatype, residue in enumerate(STANDARD_RESIDUES):
        chis = residue_constants.chi_angles_atoms[residue_constants.restype_1to3[residue]]
        for number, names in enumerate(chis):
            places = side_chains.TORSION_ATOMS_RT4[aatype, 3 + number] - 14
            assert [ATOMS[residue][place] for place in places] == names
        ambiguous = residue_constants.restype_atom14_ambiguous_atoms[aatype].nonzero()[0]
        assert sorted(side_chains.AMBIGUOUS_ATOMS_R4[aatype]) == sorted([*ambiguous, *[-1] * (4 - len(ambiguous))])


def test_frames_and_torsions_come_back(structure):
    targets = structure.targets()
    assert targets.backbone_mask_BL.all()
    torch.testing.assert_close(targets.backbone.rotation, structure.frames.rotation, atol=1e-4, rtol=0)
    torch.testing.assert_close(targets.backbone.translation, structure.frames.translation, atol=1e-4, rtol=0)
    seen = targets.torsion_mask_BLT
    assert not seen[:, 0, :2].any()
    assert seen[:, 1:, :2].all()
    assert seen[:, :, 2].all()
    np.testing.assert_array_equal(
        seen[:, :, CHI], np.array(residue_constants.chi_angles_mask, bool)[structure.aatype.numpy()]
    )
    torch.testing.assert_close(targets.torsions_BLT2[seen], structure.torsions[seen], atol=1e-4, rtol=0)
    torch.testing.assert_close(targets.torsions_BLT2[~seen], torch.tensor([0.0, 1.0]).expand((~seen).sum(), 2))
    assert targets.bonded_BL.tolist() == [[False] + [True] * 59] * 2


def test_atoms_are_rebuilt_from_targets(structure, synthetic):
    targets = structure.targets()
    rebuilt = synthetic.ideal_residues(torch.float32).atoms(targets.backbone, targets.torsions_BLT2, structure.aatype)
    torch.testing.assert_close(rebuilt, structure.positions, atol=2e-4, rtol=0)


def test_groups_are_those_of_transformers(structure):
    targets = structure.targets()
    default_frames = torch.tensor(residue_constants.restype_rigid_group_default_frame)
    backbone = ReferenceRigid(ReferenceRotation(rot_mats=structure.frames.rotation), structure.frames.translation)

    def groups(torsions):
        found = torsion_angles_to_frames(backbone, torsions, structure.aatype, default_frames)
        return found.get_rots().get_rot_mats(), found.get_trans()

    mask = targets.group_mask_BLG
    assert mask[:, :, [0, 3]].all()
    assert not mask[:, :, [1, 2]].any()
    assert torch.equal(mask[:, :, 4:], targets.torsion_mask_BLT[:, :, CHI])
    rotation, translation = groups(structure.torsions)
    torch.testing.assert_close(targets.groups.rotation[mask], rotation[mask], atol=2e-4, rtol=0)
    torch.testing.assert_close(targets.groups.translation[mask], translation[mask], atol=2e-4, rtol=0)
    symmetric = torch.tensor(residue_constants.chi_pi_periodic, dtype=torch.bool)[structure.aatype]
    other = structure.torsions.clone()
    other[:, :, CHI][symmetric] *= -1
    rotation, translation = groups(other)
    torch.testing.assert_close(targets.alternative_groups.rotation[mask], rotation[mask], atol=2e-4, rtol=0)
    torch.testing.assert_close(targets.alternative_groups.translation[mask], translation[mask], atol=2e-4, rtol=0)
    assert not torch.equal(targets.alternative_groups.rotation, targets.groups.rotation)


def test_alternative_torsions_turn_symmetric_chis_alone(structure):
    targets = structure.targets()
    for aatype, residue in enumerate(STANDARD_RESIDUES):
        here = structure.aatype == aatype
        turned = (targets.alternative_torsions_BLT2 != targets.torsions_BLT2).any(-1)[here].any(0)
        assert turned.nonzero().flatten().tolist() == {"D": [4], "E": [5], "F": [4], "Y": [4]}.get(residue, [])


def test_pseudo_beta_is_that_of_transformers(structure, synthetic):
    observed = synthetic.partly_observed(structure)
    targets = structure.targets(observed)
    positions, mask = torch.zeros(2, 60, 37, 3), torch.zeros(2, 60, 37)
    for place, name in ((1, "CA"), (4, "CB")):
        has = torch.tensor([name in ATOMS[residue] for residue in STANDARD_RESIDUES])[structure.aatype]
        positions[:, :, ATOM37.index(name)] = structure.positions[:, :, place]
        mask[:, :, ATOM37.index(name)] = (observed[:, :, place] & has).float()
    expected, expected_mask = pseudo_beta_fn(structure.aatype, positions, mask)
    assert torch.equal(targets.beta_mask_BL, expected_mask.bool())
    torch.testing.assert_close(targets.beta_BL3[targets.beta_mask_BL], expected[targets.beta_mask_BL])


def test_every_value_needs_the_atoms_it_is_made_of(structure, synthetic):
    """Each torsion and frame is masked out exactly when one of its atoms is, and nothing else changes."""
    observed = synthetic.partly_observed(structure)
    positions = structure.positions.masked_fill(~observed.unsqueeze(-1), float("nan"))
    found = make_targets(positions, observed, structure.aatype, structure.mask)
    whole = structure.targets()
    for protein in range(2):
        for residue, aatype in enumerate(structure.aatype[protein].tolist()):
            seen = observed[protein, residue].tolist()
            before = observed[protein, residue - 1].tolist() if residue else [False] * 14
            both = before + seen
            for torsion in range(7):
                atoms = side_chains.TORSION_ATOMS_RT4[aatype, torsion]
                expected = bool(side_chains.TORSION_EXISTS_RT[aatype, torsion]) and all(both[atom] for atom in atoms)
                assert bool(found.torsion_mask_BLT[protein, residue, torsion]) == expected
            assert bool(found.backbone_mask_BL[protein, residue]) == all(seen[:3])
            for group in range(4, 8):
                atoms = side_chains.TORSION_ATOMS_RT4[aatype, group - 1] - 14
                expected = bool(side_chains.TORSION_EXISTS_RT[aatype, group - 1]) and all(seen[a] for a in atoms[1:])
                assert bool(found.group_mask_BLG[protein, residue, group]) == expected
    for name in ("torsions_BLT2", "beta_BL3", "positions_BLA3"):
        assert torch.isfinite(getattr(found, name)).all()
    seen = found.torsion_mask_BLT
    assert torch.equal(found.torsions_BLT2[seen], whole.torsions_BLT2[seen])
    assert torch.equal(found.groups.rotation[found.group_mask_BLG], whole.groups.rotation[found.group_mask_BLG])


def test_nothing_crosses_a_gap(structure):
    positions = structure.positions.clone()
    positions[:, 30:] += 5.0
    found = make_targets(positions, structure.observed, structure.aatype, structure.mask)
    assert not found.bonded_BL[:, 30].any()
    assert not found.torsion_mask_BLT[:, 30, :2].any()
    assert found.bonded_BL[:, 1:].sum() == 2 * 58
    # With no nitrogen to measure a bond to, the C-alphas tell.
    observed = structure.observed.clone()
    observed[:, 30, 0] = False
    assert not make_targets(positions, observed, structure.aatype, structure.mask).bonded_BL[:, 30].any()
    assert structure.targets(observed).bonded_BL[:, 30].all()


def test_padding_has_nothing(structure):
    mask = structure.mask.clone()
    mask[1, 50:] = False
    found = structure.targets(mask=mask)
    for name in ("observed_BLA", "bonded_BL", "group_mask_BLG", "torsion_mask_BLT", "beta_mask_BL"):
        assert not getattr(found, name)[1, 50:].any()


def test_atoms_on_a_line_define_no_frame(structure):
    positions = structure.positions.clone()
    positions[0, 5] = 0.0  # all in one place
    positions[0, 9] = torch.arange(14.0).unsqueeze(-1)  # on a line
    found = make_targets(positions, structure.observed, structure.aatype, structure.mask)
    assert not found.group_mask_BLG[0, [5, 9]].any()
    assert not found.torsion_mask_BLT[0, [5, 9]].any()
    assert torch.isfinite(found.groups.rotation).all()
    identity = found.groups.rotation @ found.groups.rotation.transpose(-1, -2)
    torch.testing.assert_close(identity, torch.eye(3).expand_as(identity), atol=1e-5, rtol=0)


def test_unknown_residues_have_a_backbone(structure):
    aatype = structure.aatype.clone()
    aatype[0, 4] = UNKNOWN_AATYPE
    found = make_targets(structure.positions, structure.observed, aatype, structure.mask)
    assert found.observed_BLA[0, 4].tolist() == [True] * 4 + [False] * 10
    assert found.torsion_mask_BLT[0, 4].tolist() == [True] * 3 + [False] * 4
    assert not found.beta_mask_BL[0, 4]


def renamed_by_loops(predicted, targets):
    """Algorithm 26 in float64, one protein: which residues take the other names."""
    predicted = predicted.double().numpy()
    true, other = targets.positions_BLA3[0].double().numpy(), targets.alternative_positions_BLA3[0].double().numpy()
    seen, other_seen = targets.observed_BLA[0].numpy(), targets.alternative_observed_BLA[0].numpy()
    names = residue_constants.restype_atom14_ambiguous_atoms[targets.aatype_BL[0].numpy()].astype(bool)
    taken = []
    for i in range(len(true)):
        error = other_error = 0.0
        for a in np.flatnonzero(names[i] & seen[i] & other_seen[i]):
            for j in range(len(true)):
                for b in np.flatnonzero(~names[j] & seen[j]):
                    distance = np.linalg.norm(predicted[i, a] - predicted[j, b])
                    error += abs(distance - np.linalg.norm(true[i, a] - true[j, b]))
                    other_error += abs(distance - np.linalg.norm(other[i, a] - true[j, b]))
        taken.append(bool(other_error < error))
    return taken


def test_names_are_chosen_by_algorithm_26(synthetic):
    structure = synthetic.chain(num_residues=40)
    targets = structure.targets(synthetic.partly_observed(structure))
    for seed in range(3):
        predicted = synthetic.disturbed(structure, seed, shift=0.2).positions
        found = rename(predicted, targets)
        assert found.is_alternative_BL[0].tolist() == renamed_by_loops(predicted[0], targets)
        chosen = found.is_alternative_BL[..., None, None]
        expected = torch.where(chosen, targets.alternative_positions_BLA3, targets.positions_BLA3)
        assert torch.equal(found.positions_BLA3, expected)


def test_a_side_chain_under_its_other_names_is_recognised(structure):
    targets = structure.targets()
    ambiguous = torch.from_numpy(ATOM_EXISTS_RA.any(1) & (side_chains.AMBIGUOUS_ATOMS_R4[:, 0] >= 0))
    found = rename(targets.alternative_positions_BLA3, targets)
    assert torch.equal(found.is_alternative_BL, ambiguous[structure.aatype])
    assert torch.equal(found.groups.rotation, targets.alternative_groups.rotation)
    assert not rename(targets.positions_BLA3, targets).is_alternative_BL.any()
