"""Baselines without a network: an ideal alpha helix, and a random training chain of about the same length. numpy only.

They show which scores are reached without information on the chain. An ideal helix has the short distances of every
helix; a random chain has the properties of all proteins: it is compact, with helices and strands. The third baseline,
an untrained network, is folded like a model (run.py).

Shapes: L residues, A = 14 atoms of a residue (records.ATOMS).
"""

import hashlib
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from foldatlas.folding.compare.experimental import NUM_ATOMS, Chain

Doubles = npt.NDArray[np.float64]

HELIX: Final = "ideal helix"
RANDOM_CHAIN: Final = "random training chain"
UNTRAINED: Final = "untrained network"
NAMES: Final = (UNTRAINED, HELIX, RANDOM_CHAIN)

# Bond lengths (angstrom) and angles (degrees) of the peptide backbone after Engh & Huber 1991; the most frequent
# torsions of alpha helices in crystal structures (Hollingsworth & Karplus 2010).
_N_CA, _CA_C, _C_N = 1.458, 1.525, 1.329
_N_CA_C, _CA_C_N, _C_N_CA = 111.0, 116.9, 121.7
_PHI, _PSI, _OMEGA = -63.0, -43.0, 180.0
_C_O, _CA_C_O = 1.231, 120.4
_CA_CB, _C_CA_CB, _CB_TORSION = 1.53, 110.4, 122.6  # the torsion N-C-CA-CB of L-amino acids

_CANDIDATES: Final = 10  # chains closest in length, of which one is drawn


def ideal_helix(length: int) -> Doubles:
    """Return N, CA, C, O and CB of an alpha helix of `length` residues, [L, A, 3] in angstrom; NaN elsewhere."""
    atoms = [np.array([0.0, 0, 0]), np.array([_N_CA, 0, 0])]
    angle = np.deg2rad(180 - _N_CA_C)
    atoms.append(atoms[1] + _CA_C * np.array([np.cos(angle), np.sin(angle), 0]))
    for _ in range(length - 1):
        atoms.append(_place(atoms[-3:], _C_N, _CA_C_N, _PSI))
        atoms.append(_place(atoms[-3:], _N_CA, _C_N_CA, _OMEGA))
        atoms.append(_place(atoms[-3:], _CA_C, _N_CA_C, _PHI))
    positions_LA3 = np.full((length, NUM_ATOMS, 3), np.nan)
    for row in range(length):
        nitrogen, c_alpha, carbon = atoms[3 * row : 3 * row + 3]
        oxygen = _place((nitrogen, c_alpha, carbon), _C_O, _CA_C_O, _PSI + 180)
        c_beta = _place((nitrogen, carbon, c_alpha), _CA_CB, _C_CA_CB, _CB_TORSION)
        positions_LA3[row, :5] = nitrogen, c_alpha, carbon, oxygen, c_beta
    return positions_LA3


def _place(previous: Sequence[Doubles], length: float, angle: float, torsion: float) -> Doubles:
    """Return the point d that follows a, b, c at distance `length` from c, with angle b-c-d and torsion a-b-c-d in
    degrees."""
    a, b, c = previous
    bend, turn = np.deg2rad(angle), np.deg2rad(torsion)
    along = (c - b) / np.linalg.norm(c - b)
    normal = np.cross(b - a, along)
    normal /= np.linalg.norm(normal)
    across = np.cross(normal, along)
    direction = -np.cos(bend) * along + np.sin(bend) * (np.cos(turn) * across + np.sin(turn) * normal)
    point: Doubles = c + length * direction
    return point


def random_chain(chain: Chain, others: Sequence[Chain]) -> Doubles | None:
    """Return backbone and C-betas of another chain, cut to the length of `chain`: [L, A, 3] angstrom; NaN elsewhere.

    It is drawn from the ten of `others` that are of another cluster, not shorter, and closest in length. The seed is
    the chain's name, so that every run draws the same. Return None if no other chain is long enough.
    """
    length = len(chain.sequence)
    longer = [other for other in others if len(other.sequence) >= length and other.cluster != chain.cluster]
    if not longer:
        return None
    nearest = sorted(longer, key=lambda other: (len(other.sequence), other.name))[:_CANDIDATES]
    seed = int.from_bytes(hashlib.sha256(chain.name.encode()).digest()[:8], "little")
    rng = np.random.default_rng(seed)
    drawn = nearest[rng.integers(len(nearest))]
    start = int(rng.integers(len(drawn.sequence) - length + 1))
    positions_LA3 = np.full((length, NUM_ATOMS, 3), np.nan)
    cut = slice(start, start + length)
    observed_L5 = drawn.observed_LA[cut, :5]
    positions_LA3[:, :5][observed_L5] = drawn.positions_LA3[cut, :5][observed_L5]
    return positions_LA3
