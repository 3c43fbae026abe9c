"""Calibration against plain loops; unigram and pooled perplexity against their definitions."""

import math

import numpy as np
import pytest

from foldatlas.folding.evaluation.calibration import calibration, rank_correlation
from foldatlas.folding.evaluation.unigram import Unigram, num_standard, pooled


def plain_spearman(one, other):
    """Pearson's correlation of ranks, a value's rank being one more than those below it and half those equal to it."""
    ranks = [
        [sum(b < a for b in values) + (sum(b == a for b in values) + 1) / 2 for a in values] for values in (one, other)
    ]
    return np.corrcoef(ranks)[0, 1]


@pytest.mark.parametrize("rounded", [False, True])
def test_rank_correlation_is_that_of_loops(rounded):
    rng = np.random.default_rng(0)
    one = rng.normal(size=300)
    other = one + rng.normal(size=300)
    if rounded:  # many ties
        one, other = one.round(), other.round()
    assert rank_correlation(one, other) == pytest.approx(plain_spearman(one, other), abs=1e-12)
    assert rank_correlation(np.ones(5), np.arange(5)) is None
    assert rank_correlation(np.array([]), np.array([])) is None


def test_bins_and_error_are_those_of_loops():
    rng = np.random.default_rng(1)
    claimed, true = rng.uniform(size=300).astype(np.float32), rng.uniform(size=300)
    claimed[:3] = [0, 1, 0.3]
    true[7] = np.nan
    found = calibration(claimed, true, num_bins=5)
    pairs = [(c, t) for c, t in zip(claimed.astype(float), true, strict=True) if not math.isnan(t)]
    error = 0.0
    for number, part in enumerate(found.bins):
        inside = [(c, t) for c, t in pairs if number / 5 <= c < (number + 1) / 5 or (number == 4 and c == 1)]
        assert (part.low, part.high, part.count) == (
            pytest.approx(number / 5),
            pytest.approx((number + 1) / 5),
            len(inside),
        )
        assert part.mean_claimed == pytest.approx(np.mean([c for c, _ in inside]))
        assert part.mean_true == pytest.approx(np.mean([t for _, t in inside]))
        error += len(inside) / len(pairs) * abs(np.mean([c - t for c, t in inside]))
    assert found.count == 299
    assert found.expected_calibration_error == pytest.approx(error, abs=1e-9)
    assert found.mean_difference == pytest.approx(np.mean([c - t for c, t in pairs]), abs=1e-9)


def test_a_perfect_claim_has_no_error_and_no_claim_no_figures():
    values = np.linspace(0, 1, 50)
    perfect = calibration(values, values)
    assert perfect.expected_calibration_error == pytest.approx(0, abs=1e-12)
    assert perfect.rank_correlation == pytest.approx(1)
    none = calibration(np.array([np.nan]), np.array([0.5]))
    assert (none.count, none.mean_true, none.rank_correlation) == (0, None, None)
    with pytest.raises(ValueError, match="0 to 1, not 50 to 70"):
        calibration(np.array([50.0, 70]), np.array([0.5, 0.7]))


def test_unigram_is_the_frequency_of_residues():
    unigram = Unigram.fit(["AAAX", "AC"])
    a, c, other = math.log(5 / 25), math.log(2 / 25), math.log(1 / 25)  # each counted once more
    assert unigram.log_probability["A"] == pytest.approx(a)
    assert unigram.perplexity("ACXW") == pytest.approx(math.exp(-(a + c + other) / 3))
    assert unigram.perplexity("XX") is None
    assert sum(map(math.exp, unigram.log_probability.values())) == pytest.approx(1)


def test_pooled_perplexity_weighs_residues():
    assert num_standard("ACXU") == 2
    assert pooled([2.0, 8.0], [3, 1]) == pytest.approx(math.exp((3 * math.log(2) + math.log(8)) / 4))
    assert pooled([], []) is None
