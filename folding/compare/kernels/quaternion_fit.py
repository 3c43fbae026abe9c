"""The rotation and translation of the least RMSD between paired points, by quaternions.

The rotation is the eigenvector of the largest eigenvalue of a symmetric 4 x 4 matrix (Horn 1987, J. Opt. Soc. Am. A
4:629). The eigenvalue is found by Newton's iteration on the quartic and the vector from cofactors (Theobald 2005,
Acta Cryst. A61:478); where the eigenvalue is not single, as for points on a line, Jacobi's rotations give both. It is
always a proper rotation: a mirror image is not fitted. All of it is float64.

Sums: what a fit needs of its pairs, a tuple of 17 numbers: how many pairs, the sum of |x|^2 + |y|^2, of x (3), of
y (3), and of x_a y_b (9, row by row), x the mobile points and y the target's.
Transform: a tuple of 12 numbers, the rotation row by row and the translation: x becomes R x + t.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from foldatlas.folding.compare.kernels.compilation import exact

Doubles = npt.NDArray[np.float64]
Sums = tuple[float, ...]
Transform = tuple[float, ...]

_NEWTON_STEPS: Final = 40
_TOLERANCE: Final = 1e-13
_SINGLE: Final = 1e-6  # least cofactor, relative to the cube of the matrix's size, of an eigenvalue that is single
_SWEEPS: Final = 30


@exact
def fit(sums: Sums) -> Transform:
    """Return the transform of the least RMSD. Without a pair, or with a single one, nothing is rotated."""
    n = sums[0]
    if n < 0.5:
        return (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    x0, x1, x2 = sums[2] / n, sums[3] / n, sums[4] / n
    y0, y1, y2 = sums[5] / n, sums[6] / n, sums[7] / n
    sxx, sxy, sxz = sums[8] - sums[2] * y0, sums[9] - sums[2] * y1, sums[10] - sums[2] * y2
    syx, syy, syz = sums[11] - sums[3] * y0, sums[12] - sums[3] * y1, sums[13] - sums[3] * y2
    szx, szy, szz = sums[14] - sums[4] * y0, sums[15] - sums[4] * y1, sums[16] - sums[4] * y2
    spread = sums[1] - n * (x0 * x0 + x1 * x1 + x2 * x2 + y0 * y0 + y1 * y1 + y2 * y2)

    a00, a11 = sxx + syy + szz, sxx - syy - szz
    a22, a33 = -sxx + syy - szz, -sxx - syy + szz
    a01, a02, a03 = syz - szy, szx - sxz, sxy - syx
    a12, a13, a23 = sxy + syx, szx + sxz, syz + szy

    squares = sxx**2 + sxy**2 + sxz**2 + syx**2 + syy**2 + syz**2 + szx**2 + szy**2 + szz**2
    c2 = -2.0 * squares
    c1 = -8.0 * (sxx * (syy * szz - syz * szy) - sxy * (syx * szz - syz * szx) + sxz * (syx * szy - syy * szx))
    # The determinant by minors of the first two and the last two rows.
    c0 = (
        (a00 * a11 - a01 * a01) * (a22 * a33 - a23 * a23)
        - (a00 * a12 - a02 * a01) * (a12 * a33 - a23 * a13)
        + (a00 * a13 - a03 * a01) * (a12 * a23 - a22 * a13)
        + (a01 * a12 - a02 * a11) * (a02 * a33 - a23 * a03)
        - (a01 * a13 - a03 * a11) * (a02 * a23 - a22 * a03)
        + (a02 * a13 - a03 * a12) * (a02 * a13 - a03 * a12)
    )
    size = np.sqrt(squares)
    # Both are upper bounds of the eigenvalue, so Newton's iteration comes down to it.
    largest = min(0.5 * spread, 1.7320508075688774 * size) if spread > 0.0 else 1.7320508075688774 * size
    largest *= 1.0 + 1e-6  # the sums may come from float32
    for _ in range(_NEWTON_STEPS):
        square = largest * largest
        slope = 4.0 * square * largest + 2.0 * c2 * largest + c1
        if slope == 0.0:
            break
        step = (square * square + c2 * square + c1 * largest + c0) / slope
        largest -= step
        if abs(step) <= _TOLERANCE * abs(largest):
            break

    b00, b11, b22, b33 = a00 - largest, a11 - largest, a22 - largest, a33 - largest
    # Minors of rows 2, 3 and of rows 0, 1; the adjugate's columns are all multiples of the eigenvector.
    m01, m02, m03 = a02 * a13 - a12 * a03, a02 * a23 - b22 * a03, a02 * b33 - a23 * a03
    m12, m13, m23 = a12 * a23 - b22 * a13, a12 * b33 - a23 * a13, b22 * b33 - a23 * a23
    k01, k02, k03 = b00 * b11 - a01 * a01, b00 * a12 - a02 * a01, b00 * a13 - a03 * a01
    k12, k13, k23 = a01 * a12 - a02 * b11, a01 * a13 - a03 * b11, a02 * a13 - a03 * a12
    d0 = b11 * m23 - a12 * m13 + a13 * m12
    d1 = b00 * m23 - a02 * m03 + a03 * m02
    d2 = b33 * k01 - a13 * k03 + a03 * k13
    d3 = b22 * k01 - a12 * k02 + a02 * k12
    greatest = max(max(abs(d0), abs(d1)), max(abs(d2), abs(d3)))
    if greatest <= _SINGLE * size * squares:
        w, x, y, z = _leading_vector(a00, a11, a22, a33, a01, a02, a03, a12, a13, a23)
    elif greatest == abs(d0):
        w, x, y, z = d0, -(a01 * m23 - a12 * m03 + a13 * m02), a01 * m13 - b11 * m03 + a13 * m01, 0.0
        z = -(a01 * m12 - b11 * m02 + a12 * m01)
    elif greatest == abs(d1):
        w, x = -(a01 * m23 - a02 * m13 + a03 * m12), d1
        y, z = -(b00 * m13 - a01 * m03 + a03 * m01), b00 * m12 - a01 * m02 + a02 * m01
    elif greatest == abs(d2):
        w, x = a13 * k23 - a23 * k13 + b33 * k12, -(a03 * k23 - a23 * k03 + b33 * k02)
        y, z = d2, -(a03 * k12 - a13 * k02 + a23 * k01)
    else:
        w, x = -(a12 * k23 - b22 * k13 + a23 * k12), a02 * k23 - b22 * k03 + a23 * k02
        y, z = -(a02 * k13 - a12 * k03 + a23 * k01), d3
    norm = np.sqrt(w * w + x * x + y * y + z * z)
    if norm == 0.0:
        w, norm = 1.0, 1.0
    w, x, y, z = w / norm, x / norm, y / norm, z / norm

    r00, r01, r02 = w * w + x * x - y * y - z * z, 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)
    r10, r11, r12 = 2.0 * (x * y + w * z), w * w - x * x + y * y - z * z, 2.0 * (y * z - w * x)
    r20, r21, r22 = 2.0 * (x * z - w * y), 2.0 * (y * z + w * x), w * w - x * x - y * y + z * z
    t0 = y0 - (r00 * x0 + r01 * x1 + r02 * x2)
    t1 = y1 - (r10 * x0 + r11 * x1 + r12 * x2)
    t2 = y2 - (r20 * x0 + r21 * x1 + r22 * x2)
    return (r00, r01, r02, r10, r11, r12, r20, r21, r22, t0, t1, t2)


@exact
def _leading_vector(
    a00: float,
    a11: float,
    a22: float,
    a33: float,
    a01: float,
    a02: float,
    a03: float,
    a12: float,
    a13: float,
    a23: float,
) -> tuple[float, float, float, float]:
    """Return an eigenvector of the largest eigenvalue of the symmetric matrix, by cyclic Jacobi rotations."""
    a = np.array([[a00, a01, a02, a03], [a01, a11, a12, a13], [a02, a12, a22, a23], [a03, a13, a23, a33]])
    v = np.eye(4)
    for _ in range(_SWEEPS):
        rest = 0.0
        for p in range(3):
            for q in range(p + 1, 4):
                rest += a[p, q] ** 2
        if rest == 0.0:
            break
        for p in range(3):
            for q in range(p + 1, 4):
                if a[p, q] == 0.0:
                    continue
                theta = (a[q, q] - a[p, p]) / (2.0 * a[p, q])
                sign = 1.0 if theta >= 0.0 else -1.0
                t = sign / (abs(theta) + np.sqrt(theta * theta + 1.0))
                c = 1.0 / np.sqrt(t * t + 1.0)
                s = t * c
                for k in range(4):
                    left, right = a[k, p], a[k, q]
                    a[k, p], a[k, q] = c * left - s * right, s * left + c * right
                for k in range(4):
                    left, right = a[p, k], a[q, k]
                    a[p, k], a[q, k] = c * left - s * right, s * left + c * right
                a[p, q] = a[q, p] = 0.0
                for k in range(4):
                    left, right = v[k, p], v[k, q]
                    v[k, p], v[k, q] = c * left - s * right, s * left + c * right
    best = 0
    for k in range(1, 4):
        if a[k, k] > a[best, best]:
            best = k
    return v[0, best], v[1, best], v[2, best], v[3, best]
