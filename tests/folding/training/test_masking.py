"""Masks have the paper's numbers, hit residues alone and belong to an example."""

import numpy as np
import pytest

from foldatlas.folding.network.tokens import AATYPE_TOKENS, CLS, EOS, MASK, encode_language
from foldatlas.folding.training.data.masking import mask

TOKENS = encode_language(["ACDEFGHIKLMNPQRSTVWYX" * 20])[0].numpy()


def test_masks_have_the_numbers_of_the_recipe() -> None:
    asked = hidden = changed = 0
    at_ends = np.zeros(2)
    rounds, length = 2_000, len(TOKENS) - 2
    for seed in range(rounds):
        seen, is_asked = mask(TOKENS, np.random.default_rng(seed))
        asked += is_asked.sum()
        hidden += (seen == MASK).sum()
        changed += ((seen != TOKENS) & (seen != MASK)).sum()
        at_ends += is_asked[[0, -1]]
        assert not ((seen != TOKENS) & ~is_asked).any()
        assert set(np.unique(seen)) <= {CLS, EOS, MASK, *AATYPE_TOKENS}
    assert (at_ends == 0).all()
    assert asked / (rounds * length) == pytest.approx(0.15, abs=1e-4)
    # of 126,000 places asked for, four standard errors; one random residue of twenty is the one that was there
    assert hidden / asked == pytest.approx(0.8, abs=0.0046)
    assert changed / asked == pytest.approx(0.1 * 19.05 / 20, abs=0.0034)


def test_every_residue_is_asked_for_as_often_and_replaced_by_any() -> None:
    count = np.zeros(len(TOKENS))
    found = np.zeros(33)
    for seed in range(4_000):
        seen, is_asked = mask(TOKENS, np.random.default_rng(seed))
        count += is_asked
        found += np.bincount(seen[(seen != TOKENS) & (seen != MASK)], minlength=33)
    places = count[1:-1]
    expected = places.sum() / len(places)
    # chi-square with 419 degrees of freedom: five standard deviations
    assert ((places - expected) ** 2 / expected).sum() < 419 + 5 * (2 * 419) ** 0.5
    standard = found[list(AATYPE_TOKENS[:20])]
    assert found.sum() == standard.sum()
    assert ((standard - standard.mean()) ** 2 / standard.mean()).sum() < 19 + 5 * (2 * 19) ** 0.5


def test_short_sequences_have_their_share_on_average() -> None:
    tokens = encode_language(["MK"])[0].numpy()
    asked = [mask(tokens, np.random.default_rng(seed))[1].sum() for seed in range(4_000)]
    assert set(asked) == {0, 1}
    assert np.mean(asked) == pytest.approx(0.3, abs=0.03)


def test_a_mask_is_a_function_of_its_seed() -> None:
    first, again, other = (mask(TOKENS, np.random.default_rng([1, 2, last])) for last in (3, 3, 4))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (first[1] != other[1]).any()
