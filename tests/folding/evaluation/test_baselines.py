"""The ideal helix against what is known of alpha helices; the random chain against its promises."""

import biotite.structure
import numpy as np
import pytest

from foldatlas.folding.compare import shape
from foldatlas.folding.compare.experimental import Chain
from foldatlas.folding.evaluation import baselines


def chain(name, length, cluster, seed=0):
    rng = np.random.default_rng([seed, length])
    positions = rng.normal(size=(length, 14, 3)).astype(np.float32)
    observed = np.zeros((length, 14), bool)
    observed[:, :5] = True
    positions[~observed] = 0
    return Chain(name, "A" * length, positions, observed, np.arange(length, dtype=np.int32), "train", cluster)


def test_the_helix_has_the_measures_of_an_alpha_helix():
    helix = baselines.ideal_helix(40)
    assert helix.shape == (40, 14, 3)
    assert np.isfinite(helix[:, :5]).all() and np.isnan(helix[:, 5:]).all()
    c_alphas = helix[:, 1]
    # The axis is that of greatest spread; 1.5 angstrom and 100 degrees a residue, 2.3 angstrom radius.
    centred = c_alphas - c_alphas.mean(axis=0)
    axis = np.linalg.svd(centred)[2][0]
    axis *= np.sign((centred[-1] - centred[0]) @ axis)
    assert np.diff(centred @ axis).mean() == pytest.approx(1.5, abs=0.06)
    radial = centred - np.outer(centred @ axis, axis)
    assert np.linalg.norm(radial, axis=1).mean() == pytest.approx(2.3, abs=0.1)
    turns = np.cross(radial[:-1], radial[1:]) @ axis
    angles = np.degrees(np.arctan2(turns, (radial[:-1] * radial[1:]).sum(axis=1)))
    assert angles.mean() == pytest.approx(100, abs=3)  # positive: right-handed; 98 to 100 in crystals
    helices, _ = shape.helix_and_strand_fractions(c_alphas)
    assert helices > 0.9


def test_the_helix_has_the_torsions_and_bonds_of_biotite():
    helix = baselines.ideal_helix(12)
    atoms = biotite.structure.AtomArray(12 * 4)
    atoms.coord = helix[:, :4].reshape(-1, 3).astype(np.float32)
    atoms.atom_name = np.tile(["N", "CA", "C", "O"], 12)
    atoms.res_id = np.repeat(np.arange(12), 4)
    atoms.res_name[:], atoms.chain_id[:] = "ALA", "A"
    phi, psi, omega = (np.degrees(angle) for angle in biotite.structure.dihedral_backbone(atoms))
    np.testing.assert_allclose(phi[1:], -63, atol=0.1)
    np.testing.assert_allclose(psi[:-1], -43, atol=0.1)
    np.testing.assert_allclose(np.abs(omega[:-1]), 180, atol=0.1)
    # O of residue i accepts the hydrogen of N of residue i + 4.
    np.testing.assert_allclose(np.linalg.norm(helix[:-4, 3] - helix[4:, 0], axis=1), 2.9, atol=0.25)


def test_c_betas_have_the_geometry_of_l_residues():
    """AlphaFold 2's alanine, in the frame of its N, CA and C."""
    nitrogen, c_alpha, carbon, _, c_beta = baselines.ideal_helix(3)[1, :5]
    x = (carbon - c_alpha) / np.linalg.norm(carbon - c_alpha)
    y = nitrogen - c_alpha - ((nitrogen - c_alpha) @ x) * x
    y /= np.linalg.norm(y)
    place = [(c_beta - c_alpha) @ axis for axis in (x, y, np.cross(x, y))]
    np.testing.assert_allclose(place, [-0.529, -0.774, -1.205], atol=0.06)


def test_a_random_chain_is_another_of_at_least_that_length():
    others = [chain(f"other{number}", 20 + number, f"c{number}", number) for number in range(40)]
    query = chain("query", 30, "c12")
    found = baselines.random_chain(query, others)
    assert found.shape == (30, 14, 3)
    sources = [
        other.name
        for other in others
        for start in range(len(other.sequence) - 29)
        if np.allclose(other.positions_LA3[start : start + 30, 1], found[:, 1])
    ]
    (source,) = sources
    assert source in {f"other{number}" for number in (10, 11, *range(13, 21))}  # the ten nearest of other clusters
    assert np.isnan(found[:, 5:]).all()
    np.testing.assert_array_equal(found, baselines.random_chain(query, others[::-1]))


def test_different_chains_draw_differently():
    others = [chain(f"other{number}", 30, f"c{number}", number) for number in range(10)]
    drawn = {baselines.random_chain(chain(f"q{number}", 30, "q"), others)[0, 1, 0] for number in range(30)}
    assert len(drawn) > 5


def test_random_chain_keeps_missing_atoms():
    """Unobserved atoms stay missing; without a long enough chain of another cluster the result is None."""
    other = chain("other", 30, "c")
    other.observed_LA[4, 1] = False
    found = baselines.random_chain(chain("query", 30, "q"), [other])
    assert np.isnan(found[4, 1]).all() and np.isfinite(found[5, 1]).all()
    assert baselines.random_chain(chain("query", 31, "q"), [other]) is None
    assert baselines.random_chain(chain("query", 30, "c"), [other]) is None
