"""Synthetic proteins for the tests of targets and losses: chains with ideal bonds, angles and chosen torsions."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from foldatlas.folding.network.atoms import IdealResidues
from foldatlas.folding.network.residue_constants import ATOM_EXISTS_RA, ATOM_POSITION_RA3
from foldatlas.folding.network.rigid import Rigid, quaternion_to_rotation
from foldatlas.folding.training.losses.targets import Targets, frames_from_points, make_targets

HELIX = np.radians([180.0, -57.0, -47.0, -65.0, 180.0, 180.0, 180.0])  # omega, phi, psi, chi1 to chi4


def place(a, b, c, length, angle, dihedral):
    """The point `length` from c with the angle b-c-point and the dihedral a-b-c-point."""
    x = (c - b) / np.linalg.norm(c - b)
    normal = np.cross(b - a, x)
    normal /= np.linalg.norm(normal)
    y = np.cross(normal, x)
    return c + length * (-np.cos(angle) * x + np.sin(angle) * (np.cos(dihedral) * y + np.sin(dihedral) * normal))


def angle_at(a, b, c):
    return np.arccos(np.dot(a - b, c - b) / np.linalg.norm(a - b) / np.linalg.norm(c - b))


def backbone_of(aatype, angles):
    """N, CA, C [L, 3, 3] of a chain with Engh and Huber's peptide bonds; angles [L, 7] in radians."""
    atoms = []
    for index, kind in enumerate(aatype):
        n, ca, c = (ATOM_POSITION_RA3[kind, atom].astype(np.float64) for atom in range(3))
        if index:
            before = atoms[-1]
            length = 1.341 if kind == 14 else 1.329
            new_n = place(*before, length, np.radians(116.568), angles[index - 1, 2])
            new_ca = place(*before[1:], new_n, np.linalg.norm(n - ca), np.radians(121.352), angles[index, 0])
            bend = angle_at(n, ca, c)
            new_c = place(before[2], new_n, new_ca, np.linalg.norm(c - ca), bend, angles[index, 1])
            n, ca, c = new_n, new_ca, new_c
        atoms.append(np.stack([n, ca, c]))
    return np.stack(atoms)


@dataclass(frozen=True)
class Structure:
    frames: Rigid
    torsions: torch.Tensor  # [B, L, 7, 2]
    aatype: torch.Tensor
    positions: torch.Tensor  # [B, L, 14, 3]
    observed: torch.Tensor
    mask: torch.Tensor

    def targets(self, observed=None, mask=None) -> Targets:
        observed = self.observed if observed is None else observed
        return make_targets(self.positions, observed, self.aatype, self.mask if mask is None else mask)


def ideal_residues(dtype):
    return IdealResidues().to(dtype)


def finish(backbone, angles, aatype, dtype):
    n, ca, c = torch.as_tensor(backbone).unbind(-2)
    frames, _ = frames_from_points(ca, c, n, ca)
    frames = Rigid(frames.rotation.to(dtype), frames.translation.to(dtype))
    angles = torch.as_tensor(angles)
    torsions = torch.stack((angles.sin(), angles.cos()), dim=-1).to(dtype)
    positions = ideal_residues(dtype).atoms(frames, torsions, aatype)
    observed = torch.from_numpy(ATOM_EXISTS_RA)[aatype]
    return Structure(frames, torsions, aatype, positions, observed, torch.ones_like(aatype, dtype=torch.bool))


def chain(num_proteins=1, num_residues=40, seed=0, dtype=torch.float32, helix=False, aatype=None):
    """Chains of random residues (all twenty where there is room) with random torsions, or helices."""
    random = np.random.default_rng(seed)
    if aatype is None:
        aatype = np.stack([random.permutation(np.arange(num_residues) % 20) for _ in range(num_proteins)])
    angles = np.broadcast_to(HELIX, (*aatype.shape, 7)).copy()
    if not helix:
        angles[..., 1:] = random.uniform(-np.pi, np.pi, angles[..., 1:].shape)
        angles[..., 0] += random.normal(0, 0.1, aatype.shape)
    backbone = np.stack([backbone_of(*row) for row in zip(aatype, angles, strict=True)])
    return finish(backbone, angles, torch.as_tensor(aatype), dtype)


def disturbed(structure, seed=1, shift=3.0, turn=0.3):
    """Another prediction of the same residues: frames moved by `shift` angstrom, other torsions."""
    generator = torch.Generator().manual_seed(seed)
    dtype = structure.positions.dtype
    shape = structure.aatype.shape
    quaternion = torch.cat((torch.ones(*shape, 1), turn * torch.randn(*shape, 3, generator=generator)), dim=-1).to(
        dtype
    )
    rotation = quaternion_to_rotation(torch.nn.functional.normalize(quaternion, dim=-1)) @ structure.frames.rotation
    moved = structure.frames.translation + shift * torch.randn(*shape, 3, generator=generator).to(dtype)
    frames = Rigid(rotation, moved)
    torsions = torch.randn(*shape, 7, 2, generator=generator).to(dtype)
    constants = ideal_residues(dtype)
    unit = torch.nn.functional.normalize(torsions, dim=-1)
    groups = constants.groups(frames, unit, structure.aatype)
    return SimpleNamespace(
        frames=frames,
        torsions=torsions,
        groups=groups,
        positions=constants.atoms(frames, unit, structure.aatype),
    )


def partly_observed(structure, seed=2):
    """`observed` with a tenth of the atoms, and one whole residue, missing."""
    missing = torch.rand(structure.observed.shape, generator=torch.Generator().manual_seed(seed)) < 0.1
    missing[:, 3] = True
    return structure.observed & ~missing


@pytest.fixture
def synthetic():
    """The functions of this file."""
    return SimpleNamespace(
        chain=chain, disturbed=disturbed, partly_observed=partly_observed, place=place, ideal_residues=ideal_residues
    )
