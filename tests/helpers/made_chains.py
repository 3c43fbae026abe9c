"""Protein-like chains for tests of structure comparison: helices and strands joined by turns, with a full backbone."""

from pathlib import Path

import numpy as np

CHAINS = Path(__file__).parents[3] / "shared" / "data" / "chains.parquet"

# N, C-alpha - C, C-alpha - N bond lengths (angstrom), angles at the atom placed from (degrees)
_BONDS = {"N": (1.33, 116.6), "CA": (1.46, 121.7), "C": (1.52, 111.0)}
_TORSIONS = {"helix": (-60.0, -45.0), "strand": (-120.0, 130.0)}


def _place(a, b, c, length, angle, torsion):
    """The point at `length` from c, with the angle b-c-d and the torsion a-b-c-d (degrees)."""
    angle, torsion = np.radians(180 - angle), np.radians(torsion)
    bc = (c - b) / np.linalg.norm(c - b)
    normal = np.cross(b - a, bc)
    normal /= np.linalg.norm(normal)
    return c + length * (
        np.cos(angle) * bc + np.sin(angle) * (np.cos(torsion) * np.cross(normal, bc) + np.sin(torsion) * normal)
    )


def backbone(length, seed=0):
    """N, C-alpha, C and C-beta, four arrays [L, 3] in angstrom, of a chain of random helices, strands and turns."""
    rng = np.random.default_rng([seed, length])
    torsions = []
    while len(torsions) < length:
        kind = _TORSIONS[str(rng.choice(list(_TORSIONS)))]
        torsions += [kind] * int(rng.integers(5, 14))
        torsions += [tuple(rng.uniform(-170, 170, 2)) for _ in range(rng.integers(2, 5))]
    atoms = [np.array([0.0, 0.0, 0.0]), np.array([1.46, 0.0, 0.0]), np.array([2.0, 1.42, 0.0])]
    for residue in range(1, length):
        for name, torsion in (("N", torsions[residue - 1][1]), ("CA", 180.0), ("C", torsions[residue][0])):
            atoms.append(_place(*atoms[-3:], *_BONDS[name], torsion))
    n, c_alpha, c = (np.array(atoms[k::3]) for k in range(3))
    b, v = c_alpha - n, c - c_alpha
    c_beta = c_alpha - 0.58273431 * np.cross(b, v) + 0.56802827 * b - 0.54067466 * v
    # Ideal geometry has neighbours that are equally near: which of them is first would be a matter of rounding.
    return tuple(atom + rng.normal(size=atom.shape) * 0.05 for atom in (n, c_alpha, c, c_beta))


def rotation(rng):
    matrix, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return matrix * np.sign(np.linalg.det(matrix))


def chain(length, seed=0):
    """C-alphas [L, 3] and 3Di states [L] of `backbone`."""
    from foldatlas.folding.compare.three_di import three_di_states

    n, c_alpha, c, c_beta = backbone(length, seed)
    return c_alpha, three_di_states(n, c_alpha, c, c_beta)


def relative(points, states, seed=0, noise=1.0):
    """A relative of a chain: residues 20 to 27 left out, moved at random, as a whole and each residue by `noise`."""
    rng = np.random.default_rng(seed)
    kept = np.r_[0 : min(20, len(points)), min(28, len(points)) : len(points)]
    moved = points[kept] + rng.normal(size=(len(kept), 3)) * noise
    return moved @ rotation(rng).T + rng.normal(size=3) * 40, states[kept]
