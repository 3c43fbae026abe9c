"""Stereochemistry of structures: peptide bonds, omega angles, chirality of C-alphas, clashes of heavy atoms.

What is unusual is counted, not refused: experimental structures have gaps and cis peptides too.

Shapes: `A` atoms of all structures given, in the order of their sequences; `R` residues of all of them; `S` structures.
Coordinates are in angstrom, NaN for a missing atom. A value that needs a missing atom is NaN, and is not counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from foldatlas.schemas.records import ATOMS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

MAX_PEPTIDE_BOND: Final = 1.8  # angstrom; longer, the chain is broken (Biopython's PPBuilder has the same limit)
MAX_CIS_OMEGA: Final = 30.0  # degrees from 0
MIN_TRANS_OMEGA: Final = 150.0  # degrees from 0; between the two, a peptide is twisted
RADII: Final = {"C": 1.7, "N": 1.55, "O": 1.52, "S": 1.8}  # angstrom, van der Waals (Bondi 1964)
CLASH_TOLERANCE: Final = 1.5  # angstrom of overlap that are allowed (Jumper et al. 2021, supplement 1.9.11)

_ELEMENTS: Final = "".join(RADII)
_ELEMENT_OF: Final = {residue: [_ELEMENTS.index(atom[0]) for atom in atoms] for residue, atoms in ATOMS.items()}
_RADII: Final = np.array(list(RADII.values()))
_CELL: Final = 2 * max(RADII.values()) - CLASH_TOLERANCE  # no clash is longer than the edge of a cell
_MAX_PARTNERS: Final = 64  # in one cube, of 9 cubic angstrom: more only where atoms coincide, which would take n^2 time
_HALF: Final = [(x, y, z) for x in (0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1) if (x, y, z) > (0, 0, 0)]


@dataclass(frozen=True, slots=True)
class Residues:
    """The geometry of each residue: float64 [R] each.

    `peptide_bond` is the distance from C to the next residue's N; `omega` the angle CA-C-N-CA with the next residue,
    -180 to 180 degrees; `volume` the triple product of the bonds from CA to N, C and CB in cubic angstrom: positive for
    an L-amino acid. NaN where an atom is missing, at the last residue of a chain, and for glycine's `volume`.
    """

    peptide_bond: Floats
    omega: Floats
    volume: Floats


@dataclass(frozen=True, slots=True)
class Counts:
    """What is unusual in each structure: int64 [S] each.

    `breaks` are peptide bonds above MAX_PEPTIDE_BOND; `cis` peptides before another residue than proline; `cis_proline`
    those before proline; `twisted` neither cis nor trans; `d_residues` residues whose C-alpha has the chirality of a
    D-amino acid; `clashes` pairs of atoms of different residues that overlap by more than CLASH_TOLERANCE, peptide
    bonds and disulfides aside. Peptides across a break are not classified.
    """

    breaks: Ints
    cis: Ints
    cis_proline: Ints
    twisted: Ints
    d_residues: Ints
    clashes: Ints


def measure(sequences: Sequence[str], positions_A3: npt.NDArray[np.floating]) -> Residues:
    """Return the geometry of all residues. `positions_A3` are all atoms of all `sequences` (`records.ATOMS`)."""
    first_R, letters = _layout(sequences)
    positions_A3 = np.asarray(positions_A3, np.float64)
    n, ca, c = (positions_A3[first_R + atom] for atom in range(3))
    has_cb = np.array([len(ATOMS[letter]) > 4 for letter in letters], bool)
    cb = positions_A3[np.where(has_cb, first_R + 4, first_R)]
    cb[~has_cb] = np.nan
    next_n, next_ca = (np.roll(atoms, -1, axis=0) for atoms in (n, ca))
    last = np.cumsum([len(sequence) for sequence in sequences]) - 1
    next_n[last] = np.nan
    volume = np.einsum("ri,ri->r", n - ca, np.cross(c - ca, cb - ca))
    return Residues(np.linalg.norm(next_n - c, axis=1), _dihedral(ca, c, next_n, next_ca), volume)


def count(sequences: Sequence[str], positions_A3: npt.NDArray[np.floating]) -> Counts:
    """Return what is unusual in each structure. `positions_A3` as for `measure`."""
    found = measure(sequences, positions_A3)
    begins = np.cumsum([0, *(len(sequence) for sequence in sequences)])[:-1]
    letters = np.array([letter for sequence in sequences for letter in sequence])
    before_proline = np.roll(letters, -1) == "P"
    with np.errstate(invalid="ignore"):  # NaN is in none of the classes
        broken = found.peptide_bond > MAX_PEPTIDE_BOND
        turn = np.where(broken, np.nan, np.abs(found.omega))
        cis = turn < MAX_CIS_OMEGA
        twisted = (turn >= MAX_CIS_OMEGA) & (turn <= MIN_TRANS_OMEGA)
        is_d = found.volume < 0
    pairs = clashes(sequences, positions_A3)
    structure_R = np.repeat(np.arange(len(sequences)), [len(sequence) for sequence in sequences])
    of_pairs = np.bincount(structure_R[pairs[:, 2]], minlength=len(sequences))

    def total(mask: Mask) -> Ints:
        return np.add.reduceat(mask.astype(np.int64), begins)

    return Counts(
        total(broken), total(cis & ~before_proline), total(cis & before_proline), total(twisted), total(is_d), of_pairs
    )


def clashes(sequences: Sequence[str], positions_A3: npt.NDArray[np.floating]) -> Ints:
    """Return the pairs of atoms that clash: [pairs, 3], two rows of `positions_A3` and the residue of the first.

    Atoms are put into cubes of the greatest distance of a clash; each is compared with those of its cube and of half of
    the neighbouring ones, at most 64 of a cube.
    """
    first_R, letters = _layout(sequences)
    sizes = np.array([len(ATOMS[letter]) for letter in letters])
    residue_A = np.repeat(np.arange(len(letters)), sizes)
    radius_A = _RADII[[element for letter in letters for element in _ELEMENT_OF[letter]]]
    structure_R = np.repeat(np.arange(len(sequences)), [len(sequence) for sequence in sequences])
    positions_A3 = np.asarray(positions_A3, np.float64)
    rows = np.flatnonzero(np.isfinite(positions_A3).all(axis=1))
    cubes = np.floor(positions_A3[rows] / _CELL).astype(np.int64)
    if len(rows):
        cubes -= cubes.min(axis=0) - 1
    span = cubes.max(axis=0, initial=0) + 2  # one empty layer on each side: neighbours of structures stay apart
    keys = ((structure_R[residue_A[rows]] * span[0] + cubes[:, 0]) * span[1] + cubes[:, 1]) * span[2] + cubes[:, 2]
    order = np.argsort(keys, kind="stable")
    rows, keys = rows[order], keys[order]
    found = [_within(keys)]
    for x, y, z in _HALF:
        found.append(_between(keys, (x * span[1] + y) * span[2] + z))
    here, there = rows[np.concatenate(found, axis=1)]
    distance = np.linalg.norm(positions_A3[here] - positions_A3[there], axis=1)
    one, other = residue_A[here], residue_A[there]
    close = (
        (one != other)
        & (structure_R[one] == structure_R[other])
        & (distance < radius_A[here] + radius_A[there] - CLASH_TOLERANCE)
    )
    here, there = np.sort(np.stack([here[close], there[close]]), axis=0)
    one, other = residue_A[here], residue_A[there]
    atom, partner = here - first_R[one], there - first_R[other]
    peptide = (other == one + 1) & (atom == 2) & (partner == 0)
    is_cysteine = np.array([letter == "C" for letter in letters], bool)
    disulfide = is_cysteine[one] & is_cysteine[other] & (atom == 5) & (partner == 5)
    kept = ~(peptide | disulfide)
    pairs = np.stack([here[kept], there[kept], one[kept]], axis=1)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _layout(sequences: Sequence[str]) -> tuple[Ints, str]:
    """Return the row of each residue's first atom, [R], and the letters of all residues."""
    letters = "".join(sequences)
    sizes = np.array([len(ATOMS[letter]) for letter in letters], np.int64)
    return np.cumsum(sizes) - sizes, letters


def _dihedral(a: Any, b: Any, c: Any, d: Any) -> Floats:
    """Return the dihedral angle of each four points, -180 to 180 degrees."""
    first, axis, last = b - a, c - b, d - c
    left, right = np.cross(first, axis), np.cross(axis, last)
    with np.errstate(invalid="ignore"):  # 0 / 0, where two points coincide, is NaN
        unit = axis / np.linalg.norm(axis, axis=1, keepdims=True)
    sine = np.einsum("ri,ri->r", np.cross(left, right), unit)
    return np.degrees(np.arctan2(sine, np.einsum("ri,ri->r", left, right)))


def _within(keys: Ints) -> Ints:
    """Return all pairs of places with equal keys, [2, pairs]; `keys` are sorted."""
    places = np.arange(len(keys))
    ends = np.searchsorted(keys, keys, side="right")
    return _expand(places, places + 1, ends)


def _between(keys: Ints, step: int) -> Ints:
    """Return all pairs of places whose keys differ by `step`, [2, pairs]; `keys` are sorted."""
    begins, ends = (np.searchsorted(keys, keys + step, side=side) for side in ("left", "right"))
    return _expand(np.arange(len(keys)), begins, ends)


def _expand(places: Ints, begins: Ints, ends: Ints) -> Ints:
    """Return each of `places` beside each number from its begin up to its end, [2, pairs]."""
    number = np.clip(ends - begins, 0, _MAX_PARTNERS)
    first = np.repeat(places, number)
    offset = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
    return np.stack([first, np.repeat(begins, number) + offset])
