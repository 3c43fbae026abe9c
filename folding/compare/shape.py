"""Radius of gyration and secondary structure of a chain, from its C-alphas. numpy only.

Secondary structure is assigned by P-SEA (Labesse et al. 1997, CABIOS 13:291, table 1): ranges of distances and angles
along the chain, which is assumed to have no breaks. Tests compare with biotite.structure.annotate_sse.

Shapes: L residues, S = L - 1 steps from one C-alpha to the next.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]
Range = tuple[float, float]

HELIX: Final = "a"
STRAND: Final = "b"
COIL: Final = "c"

_MIN_LENGTH: Final = 6  # residues; shorter chains are coil

# Distances in angstrom from residue i to i + 2, i + 3 and i + 4; angles of three and dihedrals of four consecutive
# residues in degrees.
_HELIX_DISTANCE_3: Final = (5.3 - 0.5, 5.3 + 0.5)
_HELIX_DISTANCE_4: Final = (6.4 - 0.6, 6.4 + 0.6)
_HELIX_ANGLE: Final = (77.0, 101.0)
_HELIX_DIHEDRAL: Final = ((30.0, 70.0),)
_STRAND_DISTANCE_2: Final = (6.7 - 0.6, 6.7 + 0.6)
_STRAND_DISTANCE_3: Final = (9.9 - 0.9, 9.9 + 0.9)
_STRAND_DISTANCE_4: Final = (12.4 - 1.1, 12.4 + 1.1)
_STRAND_ANGLE: Final = (110.0, 138.0)
_STRAND_DIHEDRAL: Final = ((-180.0, -125.0), (145.0, 180.0))

_MIN_HELIX: Final = 5  # residues
_MIN_STRAND: Final = 4
# A strand of three residues is accepted if its C-alphas have this many contacts, at the distance between strands.
_MIN_SHORT_STRAND: Final = 3
_MIN_CONTACTS: Final = 5
_CONTACT: Final = (4.2, 5.2)  # angstrom


def radius_of_gyration(c_alphas_L3: Floats) -> float:
    """Return the root mean square distance of the C-alphas from their centroid, in the unit of the coordinates."""
    from_centre = c_alphas_L3.astype(np.float64) - c_alphas_L3.mean(axis=0, dtype=np.float64)
    return float(np.sqrt((from_centre**2).sum(axis=1).mean()))


def helix_and_strand_fractions(c_alphas_L3: Floats) -> tuple[float, float]:
    """Return the fractions, 0 to 1, of residues in helices and in strands; coordinates in angstrom."""
    states = secondary_structure(c_alphas_L3)
    return float((states == HELIX).mean()), float((states == STRAND).mean())


def secondary_structure(c_alphas_L3: Floats) -> npt.NDArray[np.str_]:
    """Return HELIX, STRAND or COIL for each residue; coordinates in angstrom."""
    length = len(c_alphas_L3)
    states = np.full(length, COIL)
    if length < _MIN_LENGTH:
        return states
    # Single precision, as in biotite, so that values at the limit of a range have the same result.
    c_alphas_L3 = c_alphas_L3.astype(np.float32)
    # A value of several residues is stored at the second of them; NaN at the end of the chain.
    distance_2, distance_3, distance_4 = (_distances(c_alphas_L3, span) for span in (2, 3, 4))
    angle, dihedral = _angles(c_alphas_L3)

    near_helix = _within(distance_3, _HELIX_DISTANCE_3)
    bent_helix = _within(angle, _HELIX_ANGLE)
    helix = (near_helix & _within(distance_4, _HELIX_DISTANCE_4)) | (
        bent_helix & _within_any(dihedral, _HELIX_DIHEDRAL)
    )
    helix = _extend(_runs_of(helix, _MIN_HELIX), near_helix | bent_helix)

    near_strand = _within(distance_3, _STRAND_DISTANCE_3)
    strand = (near_strand & _within(distance_2, _STRAND_DISTANCE_2) & _within(distance_4, _STRAND_DISTANCE_4)) | (
        _within(angle, _STRAND_ANGLE) & _within_any(dihedral, _STRAND_DIHEDRAL)
    )
    paired = _runs_with_contacts(_runs_of(strand, _MIN_SHORT_STRAND), c_alphas_L3)
    strand = _extend(_runs_of(strand, _MIN_STRAND) | paired, near_strand)

    states[helix] = HELIX
    states[strand] = STRAND
    return states


def _distances(c_alphas_L3: Floats, span: int) -> Floats:
    """Return the distance [L] between residues `span` apart."""
    difference = c_alphas_L3[span:] - c_alphas_L3[:-span]
    distances = np.full(len(c_alphas_L3), np.nan)
    distances[1 : 1 + len(difference)] = np.sqrt((difference * difference).sum(axis=1))
    return distances


def _angles(c_alphas_L3: Floats) -> tuple[Floats, Floats]:
    """Return the angle at each residue, and the dihedral of residues i - 1 to i + 2, in degrees."""
    angle, dihedral = np.full((2, len(c_alphas_L3)), np.nan)
    step_S3 = np.diff(c_alphas_L3, axis=0)
    # The direction between equal C-alphas is NaN, which is in no range.
    with np.errstate(invalid="ignore"):
        step_S3 /= np.linalg.norm(step_S3, axis=1, keepdims=True)
        angle[1:-1] = np.arccos(-(step_S3[:-1] * step_S3[1:]).sum(axis=1))
    normal = np.cross(step_S3[:-1], step_S3[1:])
    cosine = (normal[:-1] * normal[1:]).sum(axis=1)
    sine = (np.cross(normal[:-1], normal[1:]) * step_S3[1:-1]).sum(axis=1)
    dihedral[1:-2] = np.arctan2(sine, cosine)
    return np.rad2deg(angle), np.rad2deg(dihedral)


def _within(values: Floats, limits: Range) -> Mask:
    return (values >= limits[0]) & (values <= limits[1])


def _within_any(values: Floats, ranges: Sequence[Range]) -> Mask:
    return np.any([_within(values, limits) for limits in ranges], axis=0)


def _bounds(mask: Mask) -> npt.NDArray[np.intp]:
    """Return start and end (exclusive) of each run of True: [runs, 2]."""
    return np.flatnonzero(np.diff(mask, prepend=False, append=False)).reshape(-1, 2)


def _runs_of(mask: Mask, min_length: int) -> Mask:
    """Return `mask` without runs of True shorter than `min_length`."""
    return _keep(mask, np.diff(_bounds(mask), axis=1).ravel() >= min_length)


def _keep(mask: Mask, is_kept: Mask) -> Mask:
    """Return `mask` without the runs of True whose entry in `is_kept` is False."""
    kept = mask.copy()
    kept[mask] = np.repeat(is_kept, np.diff(_bounds(mask), axis=1).ravel())
    return kept


def _extend(mask: Mask, candidates: Mask) -> Mask:
    """Return `mask` with each run extended by one residue at each end, if that residue is in `candidates`."""
    beside = np.zeros_like(mask)
    beside[:-1] |= mask[1:]
    beside[1:] |= mask[:-1]
    return mask | (beside & candidates)


def _runs_with_contacts(mask: Mask, c_alphas_L3: Floats) -> Mask:
    """Return the runs of `mask` whose residues have together at least _MIN_CONTACTS contacts between C-alphas."""
    if not mask.any():
        return mask
    difference = c_alphas_L3[mask][:, np.newaxis] - c_alphas_L3
    distance = np.sqrt((difference * difference).sum(axis=-1))
    contacts = np.zeros(len(mask), dtype=np.int64)
    contacts[mask] = ((distance > _CONTACT[0]) & (distance <= _CONTACT[1])).sum(axis=1)
    return _keep(mask, np.add.reduceat(contacts, _bounds(mask)[:, 0]) >= _MIN_CONTACTS)
