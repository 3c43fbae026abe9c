"""Ideal residue geometry: the rigid group of each atom, its position in that group, and how the groups are linked.

The values are the constants published with AlphaFold 2 (Jumper et al. 2021, supplement 1.8.4 and table 2; averages
over high-resolution structures after Engh and Huber). Rigid groups of a residue, in the order of the network's
frames: 0 backbone, 1 omega, 2 phi, 3 psi, 4 to 7 chi1 to chi4. The origin of a group is the second atom of its torsion
axis, its x axis continues the torsion axis, and the atom that defines the torsion has positive y and z = 0.

Tables are indexed by `aatype`: the index in records.STANDARD_RESIDUES, or UNKNOWN_AATYPE. Unknown residues have the
backbone of alanine: N, CA, C and O.

Shapes: R = 21 residue types, A = 14 atoms, G = 8 rigid groups.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from foldatlas.schemas.records import ATOMS, BACKBONE, STANDARD_RESIDUES

UNKNOWN_AATYPE: Final = len(STANDARD_RESIDUES)
NUM_AATYPES: Final = UNKNOWN_AATYPE + 1
NUM_ATOMS: Final = 14  # the most atoms of any residue (tryptophan)
NUM_GROUPS: Final = 8
NUM_TORSIONS: Final = 7  # every group but the backbone has one

_PHI_GROUP: Final = 2
_PSI_GROUP: Final = 3
_CHI1_GROUP: Final = 4

# Residue -> "group x y z" of each atom in the order of records.ATOMS: rigid group, position in its frame in angstrom.
_IDEAL_ATOMS: Final = {
    "A": "0 -0.525 1.363 0; 0 0 0 0; 0 1.526 0 0; 3 0.627 1.062 0; 0 -0.529 -0.774 -1.205",
    "R": (
        "0 -0.524 1.362 0; 0 0 0 0; 0 1.525 0 0; 3 0.626 1.062 0; 0 -0.524 -0.778 -1.209; 4 0.616 1.39 0; "
        "5 0.564 1.414 0; 6 0.539 1.357 0; 7 0.758 1.093 0; 7 0.206 2.301 0; 7 2.078 0.978 0"
    ),
    "N": (
        "0 -0.536 1.357 0; 0 0 0 0; 0 1.526 0 0; 3 0.625 1.062 0; 0 -0.531 -0.787 -1.2; 4 0.584 1.399 0; "
        "5 0.633 1.059 0; 5 0.593 -1.188 0.001"
    ),
    "D": (
        "0 -0.525 1.362 0; 0 0 0 0; 0 1.527 0 0; 3 0.626 1.062 0; 0 -0.526 -0.778 -1.208; 4 0.593 1.398 0; "
        "5 0.61 1.091 0; 5 0.592 -1.101 -0.003"
    ),
    "C": "0 -0.522 1.362 0; 0 0 0 0; 0 1.524 0 0; 3 0.625 1.062 0; 0 -0.519 -0.773 -1.212; 4 0.728 1.653 0",
    "Q": (
        "0 -0.526 1.361 0; 0 0 0 0; 0 1.526 0 0; 3 0.626 1.062 0; 0 -0.525 -0.779 -1.207; 4 0.615 1.393 0; "
        "5 0.587 1.399 0; 6 0.634 1.06 0; 6 0.593 -1.189 -0.001"
    ),
    "E": (
        "0 -0.528 1.361 0; 0 0 0 0; 0 1.526 0 0; 3 0.626 1.062 0; 0 -0.526 -0.781 -1.207; 4 0.615 1.392 0; "
        "5 0.6 1.397 0; 6 0.607 1.095 0; 6 0.589 -1.104 -0.001"
    ),
    "G": "0 -0.572 1.337 0; 0 0 0 0; 0 1.517 0 0; 3 0.626 1.062 0",
    "H": (
        "0 -0.527 1.36 0; 0 0 0 0; 0 1.525 0 0; 3 0.625 1.063 0; 0 -0.525 -0.778 -1.208; 4 0.6 1.37 0; "
        "5 0.744 1.16 0; 5 0.889 -1.021 0.003; 5 2.03 0.851 0.002; 5 2.145 -0.466 0.004"
    ),
    "I": (
        "0 -0.493 1.373 0; 0 0 0 0; 0 1.527 0 0; 3 0.627 1.062 0; 0 -0.536 -0.793 -1.213; 4 0.534 1.437 0; "
        "4 0.54 -0.785 -1.199; 5 0.619 1.391 0"
    ),
    "L": (
        "0 -0.52 1.363 0; 0 0 0 0; 0 1.525 0 0; 3 0.625 1.063 0; 0 -0.522 -0.773 -1.214; 4 0.678 1.371 0; "
        "5 0.53 1.43 0; 5 0.535 -0.774 1.2"
    ),
    "K": (
        "0 -0.526 1.362 0; 0 0 0 0; 0 1.526 0 0; 3 0.626 1.062 0; 0 -0.524 -0.778 -1.208; 4 0.619 1.39 0; "
        "5 0.559 1.417 0; 6 0.56 1.416 0; 7 0.554 1.387 0"
    ),
    "M": (
        "0 -0.521 1.364 0; 0 0 0 0; 0 1.525 0 0; 3 0.625 1.062 0; 0 -0.523 -0.776 -1.21; 4 0.613 1.391 0; "
        "5 0.703 1.695 0; 6 0.32 1.786 0"
    ),
    "F": (
        "0 -0.518 1.363 0; 0 0 0 0; 0 1.524 0 0; 3 0.626 1.062 0; 0 -0.525 -0.776 -1.212; 4 0.607 1.377 0; "
        "5 0.709 1.195 0; 5 0.706 -1.196 0; 5 2.102 1.198 0; 5 2.098 -1.201 0; 5 2.794 -0.003 -0.001"
    ),
    "P": (
        "0 -0.566 1.351 0; 0 0 0 0; 0 1.527 0 0; 3 0.621 1.066 0; 0 -0.546 -0.611 -1.293; 4 0.382 1.445 0; "
        "5 0.477 1.424 0"
    ),
    "S": "0 -0.529 1.36 0; 0 0 0 0; 0 1.525 0 0; 3 0.626 1.062 0; 0 -0.518 -0.777 -1.211; 4 0.503 1.325 0",
    "T": (
        "0 -0.517 1.364 0; 0 0 0 0; 0 1.526 0 0; 3 0.626 1.062 0; 0 -0.516 -0.793 -1.215; 4 0.472 1.353 0; "
        "4 0.55 -0.718 -1.228"
    ),
    "W": (
        "0 -0.521 1.363 0; 0 0 0 0; 0 1.525 0 0; 3 0.627 1.062 0; 0 -0.523 -0.776 -1.212; 4 0.609 1.37 0; "
        "5 0.824 1.091 0; 5 0.854 -1.148 -0.005; 5 2.14 0.69 -0.004; 5 2.186 -0.678 -0.007; "
        "5 0.622 -2.53 -0.007; 5 3.283 -1.543 -0.011; 5 1.715 -3.389 -0.011; 5 3.028 -2.89 -0.013"
    ),
    "Y": (
        "0 -0.522 1.362 0; 0 0 0 0; 0 1.524 0 0; 3 0.627 1.062 0; 0 -0.522 -0.776 -1.213; 4 0.607 1.382 0; "
        "5 0.716 1.195 0; 5 0.713 -1.194 -0.001; 5 2.107 1.2 -0.002; 5 2.104 -1.201 -0.003; "
        "5 2.791 -0.001 -0.003; 5 4.168 -0.002 -0.005"
    ),
    "V": (
        "0 -0.494 1.373 0; 0 0 0 0; 0 1.527 0 0; 3 0.627 1.062 0; 0 -0.533 -0.795 -1.213; 4 0.54 1.429 0; "
        "4 0.533 -0.776 1.203"
    ),
}


# Atoms that a rotation of the side chain by 180 degrees exchanges, so that their names are arbitrary (table 3).
AMBIGUOUS_ATOMS: Final = {
    "D": (("OD1", "OD2"),),
    "E": (("OE1", "OE2"),),
    "F": (("CD1", "CD2"), ("CE1", "CE2")),
    "Y": (("CD1", "CD2"), ("CE1", "CE2")),
}


def _read_ideal_atoms() -> dict[str, list[tuple[int, npt.NDArray[np.float64]]]]:
    """Parse _IDEAL_ATOMS: residue -> (group, position in angstrom) of each atom; X are unknown residues."""
    parsed = {}
    for residue, text in _IDEAL_ATOMS.items():
        rows = [atom.split() for atom in text.split(";")]
        parsed[residue] = [(int(group), np.array(position, dtype=np.float64)) for group, *position in rows]
    parsed["X"] = parsed["A"][: len(BACKBONE)]
    return parsed


def _frame(x_axis: npt.ArrayLike, xy_plane: npt.ArrayLike, origin: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the 4 x 4 transform with x along `x_axis` and y in the plane of `x_axis` and `xy_plane` (Gram-Schmidt)."""
    x = np.asarray(x_axis) / np.linalg.norm(x_axis)
    y = xy_plane - np.dot(xy_plane, x) * x
    y /= np.linalg.norm(y)
    transform = np.eye(4)
    transform[:3] = np.stack([x, y, np.cross(x, y), np.asarray(origin)], axis=1)
    return transform


def _default_frames(residue: str, atoms: list[tuple[int, npt.NDArray[np.float64]]]) -> npt.NDArray[np.float64]:
    """Return the transform of each group into its parent at torsion angle 0, [G, 4, 4].

    The parent of chi2, chi3 and chi4 is the previous chi; that of every other group is the backbone.
    """
    frames = np.zeros((NUM_GROUPS, 4, 4))
    frames[:_PHI_GROUP] = np.eye(4)
    position = dict(zip(ATOMS[residue], (xyz for _, xyz in atoms), strict=True))
    nitrogen, carbon = position["N"], position["C"]  # relative to the C-alpha, which is the origin
    frames[_PHI_GROUP] = _frame(nitrogen, np.array([1.0, 0.0, 0.0]), nitrogen)
    frames[_PSI_GROUP] = _frame(carbon, -nitrogen, carbon)
    if "CB" in position:
        beta = position["CB"]
        side_chain_groups = sorted({group for group, _ in atoms if group >= _CHI1_GROUP})
        for group in side_chain_groups:
            if group == _CHI1_GROUP:
                frames[group] = _frame(beta, nitrogen, beta)
            else:
                # The axis goes from the origin of the previous chi group to the first atom of that group.
                axis_end = next(xyz for parent, xyz in atoms if parent == group - 1)
                frames[group] = _frame(axis_end, np.array([-1.0, 0.0, 0.0]), axis_end)
    return frames


def _build_tables() -> tuple[
    npt.NDArray[np.bool_], npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.float32]
]:
    exists = np.zeros((NUM_AATYPES, NUM_ATOMS), dtype=np.bool_)
    group = np.zeros((NUM_AATYPES, NUM_ATOMS), dtype=np.int64)
    position = np.zeros((NUM_AATYPES, NUM_ATOMS, 3), dtype=np.float32)
    frames = np.zeros((NUM_AATYPES, NUM_GROUPS, 4, 4), dtype=np.float32)
    ideal = _read_ideal_atoms()
    for aatype, residue in enumerate(STANDARD_RESIDUES + "X"):
        for index, (atom_group, atom_position) in enumerate(ideal[residue]):
            exists[aatype, index] = True
            group[aatype, index] = atom_group
            position[aatype, index] = atom_position
        frames[aatype] = _default_frames(residue, ideal[residue])
    return exists, group, position, frames


ATOM_EXISTS_RA, ATOM_GROUP_RA, ATOM_POSITION_RA3, DEFAULT_FRAME_RG44 = _build_tables()
"""Whether the atom exists; its rigid group; its position there in angstrom; each group's transform to its parent."""
