"""TM-align against tmtools, and what must hold of every alignment: its transform, invariance, threads, odd chains."""

import numpy as np
import pytest
import tmtools
from made_chains import backbone, chain, relative, rotation

from foldatlas.folding.compare.superposition import tm_d0
from foldatlas.folding.compare.three_di import three_di_states
from foldatlas.folding.compare.tm_align import (
    Chains,
    lower_bounds,
    secondary_structure,
    tm_align,
    tm_align_many,
)


def theirs(a, b):
    result = tmtools.tm_align(a.astype(np.float64), b.astype(np.float64), "A" * len(a), "A" * len(b))
    return result.tm_norm_chain1, result.tm_norm_chain2


def many(pairs):
    return Chains(
        np.concatenate([points for points, _ in pairs]).astype(np.float32),
        np.concatenate([states for _, states in pairs]),
        np.cumsum([0, *(len(points) for points, _ in pairs)]),
    )


def scores(alignment):
    return alignment.tm_query_P[0], alignment.tm_target_P[0]


def check_transforms(query, target, alignment, place=0):
    """Both scores and the RMSD follow from partners, rotations and translations alone."""
    partners = alignment.partners_PL[place]
    rows = np.flatnonzero(partners >= 0)
    assert len(rows) == alignment.aligned_P[place]
    assert (np.diff(partners[rows]) > 0).all()
    for kind, (score, length) in enumerate(
        ((alignment.tm_query_P[place], len(query)), (alignment.tm_target_P[place], len(target)))
    ):
        matrix = alignment.rotation_P233[place, kind]
        assert np.linalg.det(matrix) == pytest.approx(1, abs=1e-9)
        moved = query[rows] @ matrix.T + alignment.translation_P23[place, kind]
        squares = ((moved - target[partners[rows]]) ** 2).sum(axis=1)
        d0 = 0.5 if length <= 21 else tm_d0(length)
        assert (1 / (1 + squares / d0**2)).sum() / length == pytest.approx(score, abs=1e-5)
        if kind == 0:
            assert np.sqrt(squares.mean()) == pytest.approx(alignment.rmsd_P[place], abs=1e-4)


@pytest.mark.parametrize("noise", [0.5, 2.0, 3.0])
def test_related_chains_score_as_tmtools(noise):
    """Not below tmtools by more than 0.01, by either length."""
    for seed in range(6):
        points, states = chain(90 + 30 * seed, seed)
        other, other_states = relative(points, states, seed, noise)
        alignment = tm_align(points, states, other, other_states)
        assert np.greater_equal(scores(alignment), np.subtract(theirs(points, other), 0.01)).all()
        check_transforms(points, other, alignment)


def test_unrelated_chains_score_as_tmtools():
    """Below 0.4 alignments differ: not below tmtools by more than 0.08, and on average by no more than 0.02."""
    differences = []
    for seed in range(12):
        (a, a_states), (b, b_states) = chain(80 + 5 * seed, seed), chain(150 - 5 * seed, seed + 50)
        alignment = tm_align(a, a_states, b, b_states)
        check_transforms(a, b, alignment)
        differences.append(np.subtract(scores(alignment), theirs(a, b)))
    assert np.min(differences) > -0.08
    assert np.mean(differences) > -0.02


@pytest.mark.parametrize("length", [3, 5, 30, 200])
def test_a_chain_against_itself_scores_one(length):
    points, states = chain(length)
    alignment = tm_align(points, states, points, states)
    assert scores(alignment) == pytest.approx((1, 1), abs=1e-6)
    assert alignment.partners_PL[0].tolist() == list(range(length))
    assert lower_bounds(points, states, many([(points, states)]))[0] <= 1 + 1e-6


def test_rotation_and_translation_change_nothing():
    """Within 0.002, which float32 coordinates far from the origin allow for; the partners stay."""
    points, states = chain(150)
    other, other_states = relative(points, states)
    before = tm_align(points, states, other, other_states)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        moved = points @ rotation(rng).T + rng.normal(size=3) * 300
        after = tm_align(moved, states, other, other_states)
        assert scores(after) == pytest.approx(scores(before), abs=2e-3)
        assert (after.partners_PL == before.partners_PL).mean() > 0.98


def test_mirror_image_is_not_a_hit():
    """Its 3Di states hardly differ, its superposition does."""
    n, c_alpha, c, c_beta = backbone(150)
    mirrored = [atom * [1, 1, -1] for atom in (n, c_alpha, c, c_beta)]
    alignment = tm_align(c_alpha, three_di_states(n, c_alpha, c, c_beta), mirrored[1], three_di_states(*mirrored))
    assert max(scores(alignment)) < 0.5


def test_missing_c_alphas_take_no_part():
    """The others score as a chain without those residues; partners keep the given numbering."""
    points, states = chain(120)
    other, other_states = relative(points, states)
    holes = points.copy()
    holes[[0, 50, 51, 119]] = np.nan
    kept = np.isfinite(holes[:, 0])
    with_holes = tm_align(holes, states, other, other_states)
    without = tm_align(points[kept], states[kept], other, other_states)
    assert scores(with_holes) == scores(without)
    assert with_holes.partners_PL[0][kept].tolist() == without.partners_PL[0].tolist()
    assert (with_holes.partners_PL[0][~kept] == -1).all()
    nothing = tm_align(points, states, np.full((40, 3), np.nan), np.zeros(40, np.uint8))
    assert scores(nothing) == (0, 0)
    assert nothing.aligned_P[0] == 0


@pytest.mark.parametrize("length", [1, 2, 5, 30])
def test_short_chains_are_aligned(length):
    points, states = chain(100)
    piece, piece_states = points[40 : 40 + length], states[40 : 40 + length]
    for a, b in (((piece, piece_states), (points, states)), ((points, states), (piece, piece_states))):
        alignment = tm_align(*a, *b)
        check_transforms(a[0], b[0], alignment)
    assert alignment.tm_target_P[0] > 0.9


def test_a_long_chain_is_aligned():
    """2,500 residues against a relative of 600 of them: fragments are capped."""
    points, states = chain(2500)
    other, other_states = relative(points[900:1500], states[900:1500], noise=0.5)
    alignment = tm_align(points, states, other, other_states)
    assert alignment.tm_target_P[0] > 0.9
    check_transforms(points, other, alignment)


def test_results_do_not_depend_on_threads_or_order():
    """Bitwise, with arrays mapped from a file as a reference's are, and with candidates in another order."""
    pairs = [relative(*chain(60 + 7 * k, k % 3), k, 1.5) for k in range(60)]
    query = chain(180, 1)
    chains = many(pairs)
    one, two = (tm_align_many(*query, chains, threads=threads) for threads in (1, 2))
    candidates = np.arange(len(pairs))[::-1]
    turned = tm_align_many(*query, chains, candidates)
    for name in one.__slots__:
        assert (getattr(one, name) == getattr(two, name)).all(), name
        assert (getattr(one, name) == getattr(turned, name)[::-1]).all(), name
    bounds = lower_bounds(*query, chains)
    assert (bounds == lower_bounds(*query, chains, threads=2)).all()
    assert (bounds <= one.tm_query_P + 0.01).all()
    alone = tm_align(*query, *pairs[5])
    assert alone.tm_query_P[0] == one.tm_query_P[5]


def test_quick_alignments_reach_the_lower_bounds():
    """To 0.005, as both end with a search of their own; the transforms and partners give the scores."""
    query = chain(150, 2)
    pairs = [relative(*query, k, 0.5 + k / 4) for k in range(8)] + [chain(60 + 20 * k, k) for k in range(4)]
    chains = many(pairs)
    found = tm_align_many(*query, chains, quick=True)
    for place, (target, _) in enumerate(pairs):
        check_transforms(query[0], target, found, place)
    assert (found.tm_query_P >= lower_bounds(*query, chains) - 0.005).all()


def test_bounds_do_not_depend_on_company():
    """Bitwise: alone (3Di states aligned by pairs), and with others (in lanes), in two groups and a part of one.

    Chains of two kinds of states have many alignments of one score; others hold a piece of the query, so that gaps are
    worth it. Missing C-alphas, a chain of them alone and chains of 1 residue are among them.
    """
    rng = np.random.default_rng(33)
    query = chain(90, 4)
    pairs = [chain(int(length), k) for k, length in enumerate(rng.integers(1, 260, 70))]
    for k, (points, states) in enumerate(pairs):
        if k % 3 == 0:
            states[:] = rng.choice(states[:2], len(states))
        elif len(states) > 100:
            states[5:40], states[47:92] = query[1][2:37], query[1][40:85]
        points[rng.random(len(points)) < 0.03] = np.nan
    pairs[7][0][:] = np.nan
    for points, states in (query, (query[0], rng.choice(query[1][:2], 90)), chain(1)):
        together = lower_bounds(points, states, many(pairs))
        alone = [lower_bounds(points, states, many([pair]))[0] for pair in pairs]
        assert together.tolist() == alone
        assert lower_bounds(points, states, many(pairs[:3])).tolist() == alone[:3]


def test_mapped_chains_are_read(tmp_path):
    chains = many([chain(50), chain(70)])
    for name in ("c_alphas_T3", "states_T", "offsets_K1"):
        np.save(tmp_path / f"{name}.npy", getattr(chains, name))
    mapped = Chains(*(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in chains.__slots__))
    query = chain(60)
    assert (tm_align_many(*query, mapped).tm_query_P == tm_align_many(*query, chains).tm_query_P).all()


def test_secondary_structure_of_ideal_chains():
    turn = np.radians(100)
    k = np.arange(20)
    helix = np.stack([2.3 * np.cos(turn * k), 2.3 * np.sin(turn * k), 1.5 * k], axis=1)
    strand = np.stack([3.3 * k, 0.9 * (k % 2), 0 * k], axis=1)
    assert secondary_structure(helix).tolist() == [0, 0] + [1] * 16 + [0, 0]
    assert secondary_structure(strand).tolist() == [0, 0] + [3] * 16 + [0, 0]


def test_wrong_input_is_refused():
    points, states = chain(10)
    chains = many([(points, states)])
    with pytest.raises(ValueError, match="a query is"):
        tm_align_many(points, states[:5], chains)
    with pytest.raises(ValueError, match="candidates must be 0 to 0"):
        tm_align_many(points, states, chains, np.array([1]))
    with pytest.raises(ValueError, match="threads must be 1 or more"):
        lower_bounds(points, states, chains, threads=0)
    with pytest.raises(ValueError, match="offsets must rise"):
        Chains(chains.c_alphas_T3, chains.states_T, np.array([0, 5]))
    with pytest.raises(ValueError, match="contiguous float32"):
        Chains(points, states, np.array([0, 10]))
