"""3Di states: a letter a residue for how it meets its nearest neighbour in space (van Kempen et al. 2024).

A residue's virtual centre stands off its C-alpha; its partner is the residue of the nearest centre, the first and the
last excepted; ten numbers of the C-alphas about both go through a network of three layers to the plane, and the
nearest of twenty centroids is the state. Equal to mini3di, and so to Foldseek, residue for residue, in one pass over
scalars. Computed in float64; what enters the network is rounded to float32, as there.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from foldatlas.folding.compare.kernels import three_di_tables as tables
from foldatlas.folding.compare.kernels.compilation import inner, kernel

Points = npt.NDArray[np.floating]
Doubles = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint8]

LETTERS: Final = tables.LETTERS
MASKED_STATE: Final = tables.MASKED_STATE

_C_ALPHA_C_BETA: Final = 1.5336  # angstrom, where the C-beta is built
_C_ALPHA_CENTRE: Final = 2.0  # times the distance to the C-beta
_MAX_OFFSET: Final = 4  # along the chain, as a feature
_NUM_FEATURES: Final = 10


def three_di_states(n_L3: Points, c_alpha_L3: Points, c_L3: Points, c_beta_L3: Points) -> Codes:
    """Return the 3Di state of each residue, [L] uint8, an index into LETTERS.

    Coordinates in angstrom, NaN where an atom is missing. A missing C-beta is built from the backbone. A residue is
    masked, with the state "D", where it, its partner or a chain neighbour of either lacks N, C-alpha or C, and so are
    the first and the last residue.

    Raise ValueError for shapes that differ or are not [L, 3].
    """
    atoms = [np.ascontiguousarray(a, dtype=np.float64) for a in (n_L3, c_alpha_L3, c_L3, c_beta_L3)]
    shapes = [a.shape for a in atoms]
    if len(set(shapes)) != 1 or len(shapes[0]) != 2 or shapes[0][1] != 3:
        raise ValueError(f"N, C-alpha, C and C-beta must be four arrays of one shape [L, 3], not {shapes}")
    states = np.full(len(atoms[0]), MASKED_STATE, dtype=np.uint8)
    n, c_alpha, c, c_beta = atoms
    _encode(
        n,
        c_alpha,
        c,
        c_beta,
        tables.FIRST_WEIGHTS,
        tables.FIRST_BIASES,
        tables.SECOND_WEIGHTS,
        tables.SECOND_BIASES,
        tables.THIRD_WEIGHTS,
        tables.THIRD_BIASES,
        tables.CENTROIDS,
        states,
    )
    return states


def three_di_letters(states: Codes) -> str:
    """Return the states as letters, as Foldseek and MMseqs2 databases store them."""
    return "".join(LETTERS[state] for state in states)


@kernel
def _encode(
    n: Doubles,
    c_alpha: Doubles,
    c: Doubles,
    c_beta: Doubles,
    first_weights: Doubles,
    first_biases: Doubles,
    second_weights: Doubles,
    second_biases: Doubles,
    third_weights: Doubles,
    third_biases: Doubles,
    centroids: Doubles,
    states: Codes,
) -> None:
    length = len(n)
    centres = np.empty((3, length))
    masked = np.zeros(length, dtype=np.bool_)
    for i in range(length):
        for axis in range(3):
            if np.isnan(n[i, axis]) or np.isnan(c_alpha[i, axis]) or np.isnan(c[i, axis]):
                masked[i] = True
        if masked[i]:
            centres[:, i] = np.inf
        else:
            centres[0, i], centres[1, i], centres[2, i] = _virtual_centre(n[i], c_alpha[i], c[i], c_beta[i])
    squares = np.empty(length)
    features, hidden, plane = np.empty(_NUM_FEATURES), np.empty((2, _NUM_FEATURES)), np.empty(2)
    for i in range(1, length - 1):
        if masked[i - 1] or masked[i] or masked[i + 1]:
            continue
        for j in range(np.uint64(length)):
            e0, e1, e2 = centres[0, i] - centres[0, j], centres[1, i] - centres[1, j], centres[2, i] - centres[2, j]
            squares[j] = e0 * e0 + e1 * e1 + e2 * e2
        squares[i] = np.inf
        partner, nearest = 0, np.inf  # 0 where there is no partner; the residue before it is then the last one
        for j in range(1, length - 1):
            if squares[j] < nearest:
                partner, nearest = j, squares[j]
        before = partner - 1 if partner else length - 1
        if masked[before] or masked[partner] or masked[partner + 1]:
            continue
        _describe(c_alpha, i, before, partner, features)
        _layer(features, first_weights, first_biases, True, hidden[0])
        _layer(hidden[0], second_weights, second_biases, True, hidden[1])
        _layer(hidden[1], third_weights, third_biases, False, plane)
        states[i] = _nearest_centroid(plane, centroids)


@inner
def _unit(x: float, y: float, z: float) -> tuple[float, float, float]:
    norm = np.sqrt(x * x + y * y + z * z)
    return (x / norm, y / norm, z / norm) if norm != 0.0 else (x, y, z)


@inner
def _cross(a: tuple[float, float, float], b: tuple[float, float, float]) -> tuple[float, float, float]:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@inner
def _virtual_centre(n: Doubles, c_alpha: Doubles, c: Doubles, c_beta: Doubles) -> tuple[float, float, float]:
    """Turn C-alpha - C-beta by 270 degrees in the plane of N, C-alpha and C-beta, and double it."""
    to_n = (n[0] - c_alpha[0], n[1] - c_alpha[1], n[2] - c_alpha[2])
    beta = (c_beta[0] - c_alpha[0], c_beta[1] - c_alpha[1], c_beta[2] - c_alpha[2])
    if np.isnan(beta[0]) or np.isnan(beta[1]) or np.isnan(beta[2]):
        # At the corner of a tetrahedron; axes of the C-beta that are given are kept, as mini3di does.
        v1 = _unit(c[0] - c_alpha[0], c[1] - c_alpha[1], c[2] - c_alpha[2])
        v2 = _unit(to_n[0], to_n[1], to_n[2])
        b1 = (v2[0] + v1[0] / 3.0, v2[1] + v1[1] / 3.0, v2[2] + v1[2] / 3.0)
        b2 = _cross(v1, b1)
        u1, u2 = _unit(b1[0], b1[1], b1[2]), _unit(b2[0], b2[1], b2[2])
        k1, k2 = np.sqrt(8.0) / 3.0 / 2.0, np.sqrt(8.0) / 3.0 * np.sqrt(3.0) / 2.0
        d = _C_ALPHA_C_BETA
        built = (
            d * (-k1 * u1[0] - k2 * u2[0] - v1[0] / 3.0),
            d * (-k1 * u1[1] - k2 * u2[1] - v1[1] / 3.0),
            d * (-k1 * u1[2] - k2 * u2[2] - v1[2] / 3.0),
        )
        beta = (
            built[0] if np.isnan(beta[0]) else beta[0],
            built[1] if np.isnan(beta[1]) else beta[1],
            built[2] if np.isnan(beta[2]) else beta[2],
        )
    normal = _cross(beta, to_n)
    turned = _cross(_unit(normal[0], normal[1], normal[2]), beta)
    return (
        c_alpha[0] - _C_ALPHA_CENTRE * turned[0],
        c_alpha[1] - _C_ALPHA_CENTRE * turned[1],
        c_alpha[2] - _C_ALPHA_CENTRE * turned[2],
    )


@inner
def _step(points: Doubles, start: int, end: int) -> tuple[float, float, float]:
    return _unit(
        points[end, 0] - points[start, 0], points[end, 1] - points[start, 1], points[end, 2] - points[start, 2]
    )


@inner
def _dot(a: tuple[float, float, float], b: tuple[float, float, float]) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@inner
def _describe(c_alpha: Doubles, i: int, before: int, j: int, features: Doubles) -> None:
    """Write seven cosines, a distance and two offsets along the chain of residue `i` and its partner `j`."""
    u1, u2 = _step(c_alpha, i - 1, i), _step(c_alpha, i, i + 1)
    u3, u4 = _step(c_alpha, before, j), _step(c_alpha, j, j + 1)
    u5 = _step(c_alpha, i, j)
    features[0], features[1], features[2], features[3] = _dot(u1, u2), _dot(u3, u4), _dot(u1, u5), _dot(u3, u5)
    features[4], features[5], features[6] = _dot(u1, u4), _dot(u2, u3), _dot(u1, u3)
    features[7] = np.sqrt(
        (c_alpha[i, 0] - c_alpha[j, 0]) ** 2
        + (c_alpha[i, 1] - c_alpha[j, 1]) ** 2
        + (c_alpha[i, 2] - c_alpha[j, 2]) ** 2
    )
    offset = j - i
    features[8] = min(max(offset, -_MAX_OFFSET), _MAX_OFFSET)
    features[9] = np.log(abs(offset) + 1.0) * (1.0 if offset >= 0 else -1.0)
    for k in range(_NUM_FEATURES):
        features[k] = np.float32(features[k])


@inner
def _layer(inputs: Doubles, weights: Doubles, biases: Doubles, rectified: bool, outputs: Doubles) -> None:
    for j in range(len(biases)):
        outputs[j] = biases[j]
    for k in range(len(inputs)):
        for j in range(len(biases)):
            outputs[j] += inputs[k] * weights[k, j]
    if rectified:
        for j in range(len(biases)):
            outputs[j] = max(outputs[j], 0.0)


@inner
def _nearest_centroid(plane: Doubles, centroids: Doubles) -> int:
    best, nearest = 0, np.inf
    for state in range(len(centroids)):
        square = (plane[0] - centroids[state, 0]) ** 2 + (plane[1] - centroids[state, 1]) ** 2
        if square < nearest:
            best, nearest = state, square
    return best
