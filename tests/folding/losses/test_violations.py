"""Violations: nothing on ideal geometry, a known amount on what is broken, and the supplement in plain loops."""

import numpy as np
import pytest
import torch
from transformers.models.esm.openfold_utils import residue_constants

from foldatlas.folding.network.residue_constants import ATOM_EXISTS_RA
from foldatlas.folding.training.losses import geometry_bounds as bounds
from foldatlas.folding.training.losses.violations import violations
from foldatlas.schemas.records import ATOMS, STANDARD_RESIDUES

FIELDS = ("bond_length_B", "bond_angle_B", "clash_B", "within_residue_B")
# Covalent bonds that are not within a backbone: the side chains' rings and branches, by hand.
BONDS = {
    "H": "CG-ND1 CG-CD2 ND1-CE1 CD2-NE2 CE1-NE2",
    "W": "CG-CD1 CG-CD2 CD1-NE1 NE1-CE2 CD2-CE2 CD2-CE3 CE2-CZ2 CE3-CZ3 CZ2-CH2 CZ3-CH2",
    "P": "N-CD CD-CG CG-CB",
    "M": "CG-SD SD-CE",
}


def all_bonds(residue):
    """Number of bonds of a residue: a tree has one less than atoms, and each ring one more."""
    rings = {"F": 1, "Y": 1, "H": 1, "P": 1, "W": 2}
    return len(ATOMS[residue]) - 1 + rings.get(residue, 0)


def test_constants_are_those_of_transformers():
    assert residue_constants.van_der_waals_radius == bounds.VAN_DER_WAALS_RADIUS
    assert residue_constants.between_res_bond_length_c_n == bounds.PEPTIDE_LENGTH
    assert residue_constants.between_res_bond_length_stddev_c_n == bounds.PEPTIDE_DEVIATION
    assert residue_constants.between_res_cos_angles_c_n_ca == bounds.COSINE_C_N_CA
    assert residue_constants.between_res_cos_angles_ca_c_n == bounds.COSINE_CA_C_N


def test_bonds_within_residues():
    lower, upper = bounds.within_residue()
    for aatype, residue in enumerate(STANDARD_RESIDUES):
        middle = (lower[aatype] + upper[aatype]) / 2
        bonded = (middle < 1.95) & (upper[aatype] < np.inf) & ATOM_EXISTS_RA[aatype][:, None]
        bonded &= ATOM_EXISTS_RA[aatype][None]
        np.fill_diagonal(bonded, False)
        assert bonded.sum() == 2 * all_bonds(residue), residue
        for bond in BONDS.get(residue, "").split():
            first, second = (ATOMS[residue].index(name) for name in bond.split("-"))
            assert bonded[first, second]
            assert 1.3 < middle[first, second] < 1.85


def check(structure, **changes):
    arguments = {
        "positions_BLA3": structure.positions,
        "aatype_BL": structure.aatype,
        "mask_BL": structure.mask,
        "bonded_BL": structure.targets().bonded_BL,
    }
    return violations(**{**arguments, **changes})


def without_proline(length, seed=0):
    return np.random.default_rng(seed).permuted(np.arange(length) % 20)[None]


def helix(synthetic, length=40):
    """An ideal helix, alanine in place of proline, whose ring does not close at these torsions."""
    aatype = without_proline(length)
    return synthetic.chain(helix=True, aatype=np.where(aatype == 14, 0, aatype))


def test_a_helix_violates_nothing(synthetic):
    found = check(helix(synthetic))
    for name in FIELDS:
        assert getattr(found, name).item() < 1e-5, name


def test_violations_are_found(synthetic):
    structure = helix(synthetic)
    longer = structure.positions.clone()
    longer[:, 20:] += 1.0  # a bond is 0.2 to 1.7 angstrom too long
    found = check(structure, positions_BLA3=longer)
    assert found.bond_length_B > 0
    assert found.within_residue_B < 1e-5
    # The same chain, known to be in two pieces.
    bonded = structure.targets().bonded_BL.clone()
    bonded[:, 20] = False
    assert check(structure, positions_BLA3=longer, bonded_BL=bonded).bond_length_B < 1e-5
    clash = structure.positions.clone()
    clash[:, 30] = clash[:, 10] + 0.1
    assert check(structure, positions_BLA3=clash).clash_B > 0.01
    stretched = structure.positions.clone()
    stretched[:, 12, 4] += 1.0
    assert check(structure, positions_BLA3=stretched).within_residue_B > 0
    turned = structure.positions.clone()
    turned[:, 21:] = turned[:, 21:].flip(1)
    assert check(structure, positions_BLA3=turned).bond_angle_B > 0


def test_bonded_sulphurs_do_not_clash(synthetic):
    structure = synthetic.chain(aatype=np.array([[4, 0, 0, 0, 0, 0, 0, 4]]), helix=True)
    bridge = structure.positions.clone()
    bridge[:, 0, 5] = torch.tensor([100.0, 0.0, 0.0])  # far from everything else
    bridge[:, 7, 5] = torch.tensor([101.6, 0.0, 0.0])
    assert check(structure, positions_BLA3=bridge).clash_B < 1e-5
    serine = structure.aatype.clone()
    serine[:, 7] = 15  # an oxygen in the place of the second: 1.8 + 1.52 - 1.5 is the least distance
    num_atoms = structure.observed.sum().item()
    found = check(structure, positions_BLA3=bridge, aatype_BL=serine).clash_B
    assert found.item() == pytest.approx(2 * 0.22 / num_atoms, abs=1e-5)


def by_loops(positions, aatype, mask, bonded):
    """Supplement 1.9.11 for one protein: the four sums in float64."""
    length_errors, first_errors, second_errors = [], [], []
    atoms = []
    radius = {"C": 1.7, "N": 1.55, "O": 1.52, "S": 1.8}
    for i, kind in enumerate(aatype):
        if mask[i]:
            atoms += [(i, a, name) for a, name in enumerate(ATOMS[(STANDARD_RESIDUES + "X")[kind]])]
        if i and bonded[i]:
            (ca, c), (n, next_ca) = positions[i - 1, 1:3], positions[i, :2]
            ideal, deviation = (1.341, 0.016) if kind == 14 else (1.329, 0.014)
            length_errors.append(max(abs(np.linalg.norm(n - c) - ideal) - 12 * deviation, 0))

            def cosine(a, b, d):
                return np.dot(a - b, d - b) / np.linalg.norm(a - b) / np.linalg.norm(d - b)

            first_errors.append(max(abs(cosine(ca, c, n) + 0.4473) - 12 * 0.0311, 0))
            second_errors.append(max(abs(cosine(c, n, next_ca) + 0.5203) - 12 * 0.0353, 0))
    lower, upper = bounds.within_residue()
    clash = within = 0.0
    for i, a, name in atoms:
        for j, b, other in atoms:
            distance = np.linalg.norm(positions[i, a] - positions[j, b])
            if i == j and a != b:
                within += max(lower[aatype[i], a, b] - distance, 0) + max(distance - upper[aatype[i], a, b], 0)
            if i == j or name == other == "SG":
                continue
            if (j == i + 1 and bonded[j] and (name, other) == ("C", "N")) or (
                i == j + 1 and bonded[i] and (name, other) == ("N", "C")
            ):
                continue
            clash += max(radius[name[0]] + radius[other[0]] - 1.5 - distance, 0)
    return [
        np.mean(length_errors),
        np.mean(first_errors) + np.mean(second_errors),
        clash / len(atoms),
        within / len(atoms),
    ]


def test_random_structures(synthetic):
    structure = synthetic.chain(num_proteins=2, num_residues=20)
    positions = synthetic.disturbed(structure, shift=0.7).positions
    mask = structure.mask.clone()
    mask[1, 16:] = False
    bonded = structure.targets(mask=mask).bonded_BL.clone()
    bonded[0, 7] = False
    found = check(structure, positions_BLA3=positions, mask_BL=mask, bonded_BL=bonded)
    for protein in range(2):
        tensors = (positions.double(), structure.aatype, mask, bonded)
        expected = by_loops(*(tensor[protein].numpy() for tensor in tensors))
        assert min(expected) > 0
        assert [getattr(found, name)[protein].item() for name in FIELDS] == pytest.approx(expected, abs=1e-5)


def test_gradients(synthetic):
    structure = synthetic.chain(num_residues=3, dtype=torch.float64)
    positions = synthetic.disturbed(structure, shift=0.7).positions.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: check(structure, positions_BLA3=x).total_B, positions)
