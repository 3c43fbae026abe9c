"""Superposition against an SVD, alignment by distance against plain loops, Smith-Waterman against biotite."""

from itertools import pairwise

import biotite.sequence as bs
import biotite.sequence.align as align
import numpy as np
import pytest
from made_chains import rotation

from foldatlas.folding.compare.kernels.alignment_by_distance import (
    CODES,
    align_by_distance,
    fill_scores,
)
from foldatlas.folding.compare.kernels.compilation import kernel
from foldatlas.folding.compare.kernels.quaternion_fit import fit
from foldatlas.folding.compare.kernels.smith_waterman import NUM_ROWS, align_states
from foldatlas.folding.compare.kernels.three_di_tables import SUBSTITUTION_SCORES
from foldatlas.folding.compare.superposition import superpose, tm_score
from foldatlas.folding.compare.tm_align import score_pairs


@kernel
def compiled_fit(sums):
    return fit(sums)


def fitted(a, b):
    """Return rotation and translation of `fit`, from the sums of its docstring about the centres."""
    centre_a, centre_b = a.mean(axis=0), b.mean(axis=0)
    x, y = a - centre_a, b - centre_b
    sums = (len(a), (x * x).sum() + (y * y).sum(), *x.sum(axis=0), *y.sum(axis=0), *(x.T @ y).ravel())
    transform = np.array(compiled_fit(tuple(map(float, sums))))
    matrix = transform[:9].reshape(3, 3)
    return matrix, transform[9:] + centre_b - matrix @ centre_a


def rmsd(a, b, superposed):
    """Return the RMSD in angstrom after superposition by `superposed`, which must return a proper rotation."""
    matrix, translation = superposed(a, b)
    assert np.linalg.det(matrix) == pytest.approx(1)
    return np.sqrt(((a @ matrix.T + translation - b) ** 2).sum(axis=1).mean())


@pytest.mark.parametrize("kind", ["noise", "same", "mirror", "plane", "line", "opposite"])
@pytest.mark.parametrize("number", [1, 2, 3, 4, 30])
def test_superposition_is_as_close_as_svd(kind, number):
    """RMSD within 1e-6 angstrom of the SVD's, also where the best rotation is not unique."""
    for seed in range(20):
        rng = np.random.default_rng([seed, number])
        a = rng.normal(size=(number, 3)) * 10 + rng.normal(size=3) * 50
        b = (a + rng.normal(size=a.shape)) @ rotation(rng).T
        if kind == "same":
            b = a.copy()
        elif kind == "mirror":
            b = a * [1, 1, -1]
        elif kind == "plane":
            a[:, 2] = 0
        elif kind == "line":
            a = np.outer(np.arange(number), [1.0, 2.0, 3.0])
        elif kind == "opposite":
            a = np.outer(np.arange(number), [1.0, 2.0, 3.0])
            b = -a
        assert rmsd(a, b, fitted) <= rmsd(a, b, superpose) + 1e-6


def test_tm_score_search_agrees_with_reference():
    """`score_pairs` of identical pairs is within 2e-3 of `superposition.tm_score`."""
    rng = np.random.default_rng(0)
    for number in (1, 2, 3, 5, 40, 150):
        a = np.cumsum(rng.normal(size=(number, 3)) * 2.2, axis=0)
        b = a.copy()
        b[number // 2 :] = b[number // 2 :] @ rotation(rng).T
        b += rng.normal(size=a.shape)
        assert score_pairs(a, b, number) == pytest.approx(tm_score(a, b), abs=2e-3)


def plain_alignment(scores, gap):
    """Return the partners by TM-align's dynamic programming, cell by cell, in float32 as in the kernel."""
    n, m = scores.shape
    value, paired = np.zeros((n + 1, m + 1), np.float32), np.zeros((n + 1, m + 1), bool)
    gap = np.float32(gap)
    zero = np.float32(0)
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            pair = value[i - 1, j - 1] + scores[i - 1, j - 1]
            up = value[i - 1, j] + (gap if paired[i - 1, j] else zero)
            left = value[i, j - 1] + (gap if paired[i, j - 1] else zero)
            paired[i, j] = pair >= up and pair >= left
            value[i, j] = max(pair, up, left)
    partners, i, j = np.full(n, -1), n, m
    while i and j:
        if paired[i, j]:
            i, j = i - 1, j - 1
            partners[i] = j
        else:
            up = value[i - 1, j] + (gap if paired[i - 1, j] else zero)
            left = value[i, j - 1] + (gap if paired[i, j - 1] else zero)
            i, j = (i, j - 1) if left >= up else (i - 1, j)
    return partners


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 9), (9, 1), (5, 30), (30, 5), (40, 33), (33, 40)])
@pytest.mark.parametrize("gap", [-0.6, 0.0, -1.0])
def test_distance_alignment_equals_plain_loops(n, m, gap):
    """The partners are equal, without and with a bonus for equal codes."""
    rng = np.random.default_rng([n, m])
    x = (rng.normal(size=(3, n)) * 8).astype(np.float32)
    y = (rng.normal(size=(3, m)) * 8).astype(np.float32)
    codes, others = rng.integers(0, 3, n).astype(np.uint8), rng.integers(0, 3, m).astype(np.uint8)
    values, origins = np.empty((5, n + 1), np.float32), np.empty((n + m + 1) * (n + 1), np.uint8)
    scores, partners = np.empty(len(origins), np.int8), np.empty(n, np.int32)
    distances = 1 / (1 + ((x[:, :, None] - y[:, None]) ** 2).sum(axis=0) / np.float32(25.0))
    reversed_y = np.ascontiguousarray(y[:, ::-1])

    align_by_distance(x, reversed_y, n, m, 5.0, gap, values, origins, partners)
    assert partners.tolist() == plain_alignment(distances, gap).tolist()

    same = np.eye(CODES, dtype=np.int8)
    fill_scores(codes, others[::-1].copy(), n, m, same.ravel(), scores)
    align_by_distance(x, reversed_y, n, m, 5.0, gap, values, origins, partners, scores, 1.0, 0.5)
    bonus = np.float32(0.5) * (codes[:, None] == others)
    assert partners.tolist() == plain_alignment(distances + bonus.astype(np.float32), gap).tolist()


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 40), (40, 1), (25, 60), (60, 25), (80, 80)])
def test_smith_waterman_scores_as_biotite(n, m):
    """The score equals biotite's, and the returned alignment has this score."""
    letters = bs.LetterAlphabet("acdefghiklmnpqrstvwy")
    matrix = align.SubstitutionMatrix.std_3di_matrix()
    assert (matrix.score_matrix() == SUBSTITUTION_SCORES).all()
    table = np.zeros((CODES, CODES), np.int8)
    table[:20, :20] = SUBSTITUTION_SCORES
    for seed in range(15):
        rng = np.random.default_rng([seed, n, m])
        x = rng.integers(0, 20, n).astype(np.uint8)
        y = rng.integers(0, 20, m).astype(np.uint8)
        if min(n, m) > 20:  # related, with a gap on either side
            y[: min(n, m) - 8] = np.r_[x[:10], x[14 : min(n, m) - 2], x[:6]][: min(n, m) - 8]
        rows, origins = np.empty((NUM_ROWS, n + 1), np.int32), np.empty((n + m + 1) * (n + 1), np.uint8)
        scores, partners = np.empty(len(origins), np.int8), np.empty(n, np.int32)
        fill_scores(x, y[::-1].copy(), n, m, table.ravel(), scores)
        score = align_states(scores, n, m, 10, 1, rows, origins, partners)
        sequences = [bs.GeneralSequence(letters) for _ in range(2)]
        sequences[0].code, sequences[1].code = x, y
        expected = align.align_optimal(*sequences, matrix, gap_penalty=(-10, -1), local=True, max_number=1)
        assert score == (expected[0].score if expected else 0)
        assert score == alignment_score(x, y, partners)


def alignment_score(x, y, partners):
    """Return the score of an alignment: substitutions, less 10 for each opened gap and 1 for each further residue."""
    rows = np.flatnonzero(partners >= 0)
    total = sum(int(SUBSTITUTION_SCORES[x[i], y[partners[i]]]) for i in rows)
    for before, after in pairwise(rows):
        for gap in (after - before - 1, partners[after] - partners[before] - 1):
            total -= 10 + (gap - 1) if gap else 0
    return total
