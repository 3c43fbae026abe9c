"""Contact precision against loops over pairs."""

import numpy as np
import pytest

from foldatlas.folding.compare import contact_precision as contacts


def plain_precision(rank, points, observed):
    length = len(points)
    pairs = [
        (-rank[i, j], i, j) for i in range(length) for j in range(length) if j - i >= 24 and observed[i] and observed[j]
    ]
    first = sorted(pairs)[: max(1, length // 5)]
    return np.mean([np.linalg.norm(points[i] - points[j]) < 8 for _, i, j in first])


def compact(length, seed):
    return np.random.default_rng(seed).normal(size=(length, 3)) * 8


@pytest.mark.parametrize("length", [25, 60, 103])
def test_precision_is_that_of_loops(length):
    points = compact(length, 0)
    rank = -contacts.distances(points + np.random.default_rng(1).normal(size=points.shape) * 6)
    observed = np.ones(length, bool)
    observed[2:5] = False
    points[24:] += points[0] - points[24] + 1 if length == 25 else 0  # one contact at least
    expected = plain_precision(rank, points, observed)
    assert contacts.contact_precision(rank, points, observed) == pytest.approx(expected, abs=1e-12)


def test_precision_of_the_truth_is_one_of_its_opposite_zero():
    points = compact(80, 3)
    observed = np.ones(80, bool)
    assert contacts.contact_precision(-contacts.distances(points), points, observed) == 1
    assert contacts.contact_precision(contacts.distances(points), points, observed) == 0


def test_precision_is_undefined_without_contacts():
    line = np.arange(60)[:, np.newaxis] * [3.8, 0, 0]
    assert np.isnan(contacts.contact_precision(-contacts.distances(line), line, np.ones(60, bool)))
    assert np.isnan(contacts.contact_precision(np.zeros((9, 9)), np.zeros((9, 3)), np.ones(9, bool)))


def test_glycine_has_its_c_alpha():
    positions = np.arange(3 * 14 * 3, dtype=float).reshape(3, 14, 3)
    observed = np.ones((3, 14), bool)
    observed[2, 4] = False
    points, there = contacts.c_betas("GAV", positions, observed)
    np.testing.assert_array_equal(points[:2], [positions[0, 1], positions[1, 4]])
    assert there.tolist() == [True, True, False]


def test_probability_is_that_of_the_bins_within_eight_angstrom():
    logits = np.full((1, 2, 64), -30.0)
    logits[0, 0, 18] = 30  # 7.625 to 7.9375
    logits[0, 1, 19] = 30  # 7.9375 to 8.25
    np.testing.assert_allclose(contacts.contact_probabilities(logits), [[1, 0]], atol=1e-12)
    even = contacts.contact_probabilities(np.zeros((1, 1, 64)))
    assert even[0, 0] == pytest.approx(19 / 64)
