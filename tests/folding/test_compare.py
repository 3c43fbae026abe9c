"""Superposition, RMSD, TM-score and GDT against biotite, TM-align (tmtools) and plain loops of the same definitions."""

import biotite.structure
import numpy as np
import pytest
import tmtools

from foldatlas.folding.compare import superposition


def walk(length, seed=0):
    """A compact chain: steps of 3.8 angstrom, drawn back to the middle."""
    rng = np.random.default_rng([seed, length])
    points, position = [], np.zeros(3)
    for _ in range(length):
        step = rng.normal(size=3) - 0.08 * position
        position = position + 3.8 * step / np.linalg.norm(step)
        points.append(position)
    return np.array(points)


def rotation(rng):
    matrix, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return matrix * np.sign(np.linalg.det(matrix))


def moved(points, seed, noise):
    rng = np.random.default_rng(seed)
    return (points + rng.normal(size=points.shape) * noise) @ rotation(rng).T + rng.normal(size=3) * 30


def hinged(length, seed, noise=0.5):
    """A chain, and it with its second half turned about the middle: no one superposition fits both halves."""
    points, rng = walk(length, seed), np.random.default_rng(seed)
    middle = length // 2
    bent = points.copy()
    bent[middle:] = (points[middle:] - points[middle]) @ rotation(rng).T + points[middle]
    return moved(bent, seed, noise), points


# --- plain loops ---------------------------------------------------------------------------------------------------


def plain_superposition(mobile, target):
    """Kabsch, as in the paper: the covariance's singular vectors, with the mirror image excluded."""
    p, q = mobile - mobile.mean(axis=0), target - target.mean(axis=0)
    u, _, vt = np.linalg.svd(p.T @ q)
    d = np.sign(np.linalg.det(vt.T @ u.T))
    matrix = vt.T @ np.diag([1, 1, d]) @ u.T
    return (mobile - mobile.mean(axis=0)) @ matrix.T + target.mean(axis=0)


def plain_fit(mobile, target, chosen):
    """All of `mobile`, placed by the superposition of the chosen pairs."""
    centre_p, centre_q = mobile[chosen].mean(axis=0), target[chosen].mean(axis=0)
    u, _, vt = np.linalg.svd((mobile[chosen] - centre_p).T @ (target[chosen] - centre_q))
    d = np.sign(np.linalg.det(vt.T @ u.T))
    return (mobile - centre_p) @ (vt.T @ np.diag([1, 1, d]) @ u.T).T + centre_q


def plain_search(mobile, target, first, later, score):
    """Zhang & Skolnick's search, one superposition after the other; `score` is given the distances of each."""
    length = len(mobile)
    fragments, size = [], length
    while len(fragments) < 5 and size > 4:
        fragments.append(size)
        size //= 2
    best = 0.0
    for fragment in [*fragments, min(4, length)]:
        for start in range(length - fragment + 1):
            chosen = list(range(start, start + fragment))
            for iteration in range(21):
                placed = plain_fit(mobile, target, chosen)
                distance = [float(np.linalg.norm(placed[i] - target[i])) for i in range(length)]
                best = max(best, score(distance))
                radius = later if iteration else first
                closer = [i for i in range(length) if distance[i] < radius]
                while len(closer) < 3 and length > 3:
                    radius += 0.5
                    closer = [i for i in range(length) if distance[i] < radius]
                if iteration and closer == chosen:
                    break
                chosen = closer
    return best


def plain_tm_score(mobile, target):
    length = len(target)
    d0 = max(0.5, 1.24 * (length - 15) ** (1 / 3) - 1.8) if length > 15 else 0.5
    radius = min(max(d0, 4.5), 8.0)
    return plain_search(
        mobile, target, radius - 1, radius + 1, lambda distance: sum(1 / (1 + (d / d0) ** 2) for d in distance) / length
    )


# --- superposition and RMSD ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [4, 11, 80])
def test_rmsd_is_that_of_biotite(length):
    target = walk(length)
    mobile = moved(target, 1, 2.0)
    placed, _ = biotite.structure.superimpose(target.astype(np.float32), mobile.astype(np.float32))
    expected = biotite.structure.rmsd(target.astype(np.float32), placed)
    assert superposition.rmsd(mobile, target) == pytest.approx(float(expected), abs=1e-4)


def test_superposition_undoes_a_motion_exactly():
    target = walk(50)
    mobile = moved(target, 2, 0.0)
    turn, shift = superposition.superpose(mobile, target)
    np.testing.assert_allclose(mobile @ turn.T + shift, target, atol=1e-11)
    assert np.linalg.det(turn) == pytest.approx(1, abs=1e-12)


def test_a_mirror_image_is_not_taken_for_the_structure():
    target = walk(60)
    mirrored = target * [1, 1, -1]
    turn, shift = superposition.superpose(mirrored, target)
    assert np.linalg.det(turn) == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(mirrored @ turn.T + shift, plain_superposition(mirrored, target), atol=1e-9)
    assert superposition.rmsd(mirrored, target) > 3
    assert superposition.tm_score(mirrored, target) < 0.5


def test_points_in_a_plane_or_on_a_line_have_a_proper_rotation():
    flat = np.array([[0, 0, 0], [3, 0, 0], [0, 4, 0], [5, 5, 0.0]])
    line = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [5, 0, 0.0]])
    for points in (flat, line, points_at_one_place := np.ones((4, 3))):
        turn, _ = superposition.superpose(moved(points, 3, 0.0), points)
        assert np.linalg.det(turn) == pytest.approx(1, abs=1e-9)
        assert superposition.rmsd(moved(points, 3, 0.0), points) == pytest.approx(0, abs=1e-6)
    assert superposition.rmsd(points_at_one_place[:1] * 7, points_at_one_place[:1]) == pytest.approx(0, abs=1e-9)


# --- TM-score ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [4, 5, 9, 18, 33, 64])
@pytest.mark.parametrize("noise", [0.8, 4.0])
def test_tm_score_is_that_of_plain_loops(length, noise):
    target = walk(length)
    mobile = moved(target, length, noise)
    assert superposition.tm_score(mobile, target) == pytest.approx(plain_tm_score(mobile, target), abs=1e-9)


def test_tm_score_equals_plain_loops_on_hard_pairs():
    """Hard pairs: unrelated chains, and chains that move about a hinge."""
    for mobile, target in [(walk(40, 5), walk(40, 6)), hinged(50, 7)]:
        assert superposition.tm_score(mobile, target) == pytest.approx(plain_tm_score(mobile, target), abs=1e-9)


@pytest.mark.parametrize(("length", "noise"), [(60, 0.7), (120, 1.5), (250, 1.0)])
def test_tm_score_is_that_of_tm_align_where_the_pairing_is_plain(length, noise):
    target = walk(length, 8)
    mobile = moved(target, 9, noise)
    found = tmtools.tm_align(mobile, target, "A" * length, "A" * length)
    assert "-" not in found.seqxA + found.seqyA  # it did not pair anew
    assert superposition.tm_score(mobile, target) == pytest.approx(found.tm_norm_chain2, abs=1e-6)


def test_one_superposition_is_not_enough():
    mobile, target = hinged(120, 3)
    placed = plain_superposition(mobile, target)
    pairs = np.arange(120)
    of_one = biotite.structure.tm_score(as_atoms(target), as_atoms(placed), pairs, pairs)
    assert superposition.tm_score(mobile, target) > of_one + 0.1
    assert superposition.tm_score(mobile, target) > 0.45  # one half fits


def test_the_term_of_each_distance_is_that_of_biotite():
    target = walk(100)
    shifted = target + np.repeat([[0.0], [6.0]], 50, axis=0) * [1, 0, 0]
    d0 = superposition.tm_d0(100)
    expected = (50 + 50 / (1 + (6 / d0) ** 2)) / 100
    pairs = np.arange(100)
    assert biotite.structure.tm_score(as_atoms(target), as_atoms(shifted), pairs, pairs) == pytest.approx(
        expected, abs=1e-6
    )
    assert superposition.tm_score(shifted, target) >= expected - 1e-12


def test_missing_residues_count_as_lost():
    target = walk(100)
    assert superposition.tm_score(target[:50], target[:50], length=100) == pytest.approx(0.5, abs=1e-12)
    with pytest.raises(ValueError, match="less than the 50 pairs"):
        superposition.tm_score(target[:50], target[:50], length=49)


def test_a_structure_equals_itself_at_every_length():
    for length in (1, 2, 3, 4, 15, 16, 21, 300):
        points = walk(length)
        assert superposition.tm_score(moved(points, 1, 0), points) == pytest.approx(1, abs=1e-9)
        assert superposition.gdt_ha(moved(points, 1, 0), points) == 1


def test_a_small_memory_gives_the_same(monkeypatch):
    mobile, target = hinged(70, 4, 2.0)
    before = superposition.tm_score(mobile, target), superposition.gdt_ts(mobile, target)
    monkeypatch.setattr(superposition, "_BLOCK", 700)
    assert (superposition.tm_score(mobile, target), superposition.gdt_ts(mobile, target)) == pytest.approx(
        before, abs=1e-12
    )


# --- GDT -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "noise"), [(5, 1.0), (30, 1.5), (48, 4.0)])
def test_gdt_is_that_of_plain_loops(length, noise):
    target = walk(length)
    mobile = moved(target, 11, noise)
    expected = {}
    for cutoff in (0.5, 1.0, 2.0, 4.0, 8.0):
        within = {}
        for radius in (0.5, 1.0, 2.0, 4.0, 8.0):
            within[radius] = plain_search(
                mobile, target, radius, radius, lambda distance, c=cutoff: sum(d <= c for d in distance) / length
            )
        expected[cutoff] = within
    of_ts = [max(expected[c][r] for r in (1.0, 2.0, 4.0, 8.0)) for c in (1.0, 2.0, 4.0, 8.0)]
    of_ha = [max(expected[c][r] for r in (0.5, 1.0, 2.0, 4.0)) for c in (0.5, 1.0, 2.0, 4.0)]
    assert superposition.gdt_ts(mobile, target) == pytest.approx(np.mean(of_ts), abs=1e-9)
    assert superposition.gdt_ha(mobile, target) == pytest.approx(np.mean(of_ha), abs=1e-9)


def test_gdt_counts_what_one_superposition_brings_close():
    """Half of the chain is as it was, the other half far away: every fraction is a half."""
    target = walk(80)
    mobile = target.copy()
    mobile[40:] += np.random.default_rng(0).normal(size=(40, 3)) * 200
    fractions = superposition.fractions_within(moved(mobile, 2, 0), target, (0.5, 1, 2, 4, 8))
    np.testing.assert_allclose(fractions, 0.5, atol=0.02)
    assert superposition.fractions_within(target[:40], target[:40], (1.0,), length=80)[0] == 0.5


def test_shapes_are_checked():
    for one, other in [((4, 3), (5, 3)), ((0, 3), (0, 3)), ((4, 2), (4, 2))]:
        with pytest.raises(ValueError, match="one shape"):
            superposition.rmsd(np.zeros(one), np.zeros(other))


def as_atoms(c_alphas):
    atoms = biotite.structure.AtomArray(len(c_alphas))
    atoms.coord = c_alphas.astype(np.float32)
    atoms.atom_name[:], atoms.res_name[:], atoms.chain_id[:], atoms.element[:] = "CA", "ALA", "A", "C"
    atoms.res_id = np.arange(1, len(c_alphas) + 1)
    return atoms
