"""Helices and strands against biotite's P-SEA, residue by residue; size against its definition."""

from pathlib import Path

import biotite.structure
import numpy as np
import pytest

from foldatlas.folding.compare import shape

CHAINS = Path(__file__).parents[3] / "shared" / "data" / "chains.parquet"


def as_atoms(c_alphas):
    atoms = biotite.structure.AtomArray(len(c_alphas))
    atoms.coord = c_alphas.astype(np.float32)
    atoms.atom_name[:], atoms.res_name[:], atoms.chain_id[:], atoms.element[:] = "CA", "ALA", "A", "C"
    atoms.res_id = np.arange(1, len(c_alphas) + 1)
    return atoms


def helix(length):
    """Ideal alpha helix: 2.3 angstrom radius, 100 degrees and 1.5 angstrom a residue."""
    turn = np.deg2rad(100) * np.arange(length)
    return np.stack([2.3 * np.cos(turn), 2.3 * np.sin(turn), 1.5 * np.arange(length)], axis=1)


def strand(length, x=0.0):
    """Ideal strand: 3.3 angstrom a residue, pleated by 0.9 angstrom."""
    index = np.arange(length)
    return np.stack([np.full(length, x), 0.9 * (-1.0) ** index, 3.3 * index], axis=1)


def random_walk(rng, length):
    """Steps of 3.8 angstrom that turn a little: passes through every range of the thresholds."""
    steps = np.cumsum(rng.normal(size=(length, 3)) * rng.uniform(0.5, 2), axis=0) + rng.normal(size=(length, 3)) * 3
    return np.cumsum(3.8 * steps / np.linalg.norm(steps, axis=1, keepdims=True), axis=0)


def assert_like_reference(c_alphas):
    np.testing.assert_array_equal(
        shape.secondary_structure(c_alphas), biotite.structure.annotate_sse(as_atoms(c_alphas))
    )


def test_an_ideal_helix_is_a_helix():
    helices, strands = shape.helix_and_strand_fractions(helix(20))
    assert helices > 0.8
    assert strands == 0
    assert_like_reference(helix(20))


def test_an_ideal_strand_is_a_strand():
    helices, strands = shape.helix_and_strand_fractions(strand(20))
    assert helices == 0
    assert strands > 0.8
    assert_like_reference(strand(20))


@pytest.mark.parametrize("length", range(1, 12))
def test_short_chains(length):
    for c_alphas in (helix(length), strand(length)):
        assert_like_reference(c_alphas)


def test_strands_of_three_count_beside_others():
    sheet = []
    for column in range(4):
        sheet += [strand(7, x=4.8 * column), np.array([[4.8 * column + 2.4, 5.0, 40.0 * (column % 2)]])]
    rng = np.random.default_rng(0)
    for size in np.linspace(0, 0.6, 60):
        c_alphas = np.concatenate(sheet)
        assert_like_reference(c_alphas + size * rng.normal(size=c_alphas.shape))


def test_random_walks_and_noisy_helices_and_strands():
    rng = np.random.default_rng(1)
    kinds = set()
    for _ in range(300):
        length = int(rng.integers(6, 120))
        make = (helix, strand, lambda n: random_walk(rng, n))[rng.integers(3)]
        c_alphas = make(length) + rng.uniform(0, 0.5) * rng.normal(size=(length, 3))
        assert_like_reference(c_alphas)
        kinds.update(shape.secondary_structure(c_alphas))
    assert kinds == {shape.HELIX, shape.STRAND, shape.COIL}


def test_residues_in_one_place_are_coil():
    c_alphas = np.zeros((20, 3))
    assert set(shape.secondary_structure(c_alphas)) == {shape.COIL}
    assert shape.radius_of_gyration(c_alphas) == 0


@pytest.mark.skipif(not CHAINS.exists(), reason="the experimental chains are not on this machine")
def test_experimental_chains():
    pq = pytest.importorskip("pyarrow.parquet")
    table = pq.read_table(CHAINS, columns=["atom_type", "x", "y", "z"]).slice(0, 400)
    c_alpha = 1
    fractions = []
    for row in range(table.num_rows):
        is_c_alpha = table["atom_type"][row].values.to_numpy() == c_alpha
        c_alphas = np.stack([table[axis][row].values.to_numpy()[is_c_alpha] / 1000 for axis in "xyz"], axis=1)
        assert_like_reference(c_alphas)
        fractions.append(shape.helix_and_strand_fractions(c_alphas))
    helices, strands = np.mean(fractions, axis=0)
    assert 0.15 < helices < 0.5
    assert 0.1 < strands < 0.4


def test_radius_of_gyration_is_that_of_a_sphere_and_of_biotite():
    rng = np.random.default_rng(2)
    directions = rng.normal(size=(2000, 3))
    sphere = 7 * directions / np.linalg.norm(directions, axis=1, keepdims=True) + 100
    assert shape.radius_of_gyration(sphere) == pytest.approx(7, rel=1e-3)
    cloud = rng.normal(size=(200, 3))
    assert shape.radius_of_gyration(cloud) == pytest.approx(
        biotite.structure.gyration_radius(as_atoms(cloud)), rel=1e-5
    )
