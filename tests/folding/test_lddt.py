"""lDDT against biotite's, and against plain loops where names of atoms are exchanged."""

import biotite.structure
import numpy as np
import pytest

from foldatlas.folding.compare import lddt
from foldatlas.folding.network.residue_constants import AMBIGUOUS_ATOMS
from foldatlas.schemas.records import ATOMS, THREE_LETTER

CERTAIN = "ARNCQGHILKMPSTWV"  # no residue with exchangeable names


def protein(sequence, seed=0):
    """Atoms scattered about the C-alphas of a compact chain: [L, 14, 3] and the mask of those there are."""
    rng = np.random.default_rng([seed, len(sequence)])
    positions = np.zeros((len(sequence), 14, 3))
    observed = np.zeros((len(sequence), 14), bool)
    place = np.zeros(3)
    for row, residue in enumerate(sequence):
        step = rng.normal(size=3) - 0.1 * place
        place = place + 3.8 * step / np.linalg.norm(step)
        number = len(ATOMS[residue])
        positions[row, :number] = place + rng.normal(size=(number, 3)) * 1.5
        observed[row, :number] = True
    return positions, observed


def as_atoms(sequence, positions, observed):
    residue, place = np.nonzero(observed)
    atoms = biotite.structure.AtomArray(len(residue))
    atoms.coord = positions[residue, place].astype(np.float32)
    atoms.atom_name = np.array([ATOMS[sequence[r]][p] for r, p in zip(residue, place, strict=True)])
    atoms.res_name = np.array([THREE_LETTER[sequence[r]] for r in residue])
    atoms.res_id, atoms.chain_id[:] = residue + 1, "A"
    return atoms


@pytest.mark.parametrize("noise", [0.1, 0.6, 3.0])
def test_all_atom_is_that_of_biotite(random_sequence, noise):
    sequence = random_sequence(70, 1, CERTAIN)
    reference, observed = protein(sequence)
    observed[10:14] = False  # a gap
    observed[20, 5:] = False
    predicted = reference + np.random.default_rng(1).normal(size=reference.shape) * noise
    found = lddt.lddt_all_atom(sequence, predicted, reference, observed)
    one, other = as_atoms(sequence, reference, observed), as_atoms(sequence, predicted, observed)
    assert found.score == pytest.approx(biotite.structure.lddt(one, other), abs=1e-4)
    seen = observed.any(axis=1)
    np.testing.assert_allclose(
        found.per_residue_L[seen], biotite.structure.lddt(one, other, aggregation="residue"), atol=2e-3
    )
    assert np.isnan(found.per_residue_L[~seen]).all()
    assert (found.num_distances_L[~seen] == 0).all()


@pytest.mark.parametrize("noise", [0.3, 2.0])
def test_c_alpha_is_that_of_biotite(random_sequence, noise):
    sequence = random_sequence(90)
    reference, observed = protein(sequence)
    predicted = reference + np.random.default_rng(2).normal(size=reference.shape) * noise
    only = np.zeros_like(observed)
    only[:, 1] = True
    only[[0, 50]] = False
    found = lddt.lddt_ca(predicted[:, 1], reference[:, 1], only[:, 1])
    one, other = as_atoms(sequence, reference, only), as_atoms(sequence, predicted, only)
    assert found.score == pytest.approx(biotite.structure.lddt(one, other), abs=1e-3)
    np.testing.assert_allclose(
        found.per_residue_L[only[:, 1]], biotite.structure.lddt(one, other, aggregation="residue"), atol=0.02
    )


def exchange(sequence, positions, rows):
    changed = positions.copy()
    for row in rows:
        for one, other in AMBIGUOUS_ATOMS.get(sequence[row], ()):
            a, b = ATOMS[sequence[row]].index(one), ATOMS[sequence[row]].index(other)
            changed[row, [a, b]] = positions[row, [b, a]]
    return changed


def test_exchanged_names_cost_nothing(random_sequence):
    sequence = random_sequence(60, 3, "DEFYAL")
    reference, observed = protein(sequence)
    predicted = reference + np.random.default_rng(3).normal(size=reference.shape) * 0.2
    rows = range(0, 60, 2)
    exchanged = exchange(sequence, predicted, rows)
    one, other = as_atoms(sequence, reference, observed), as_atoms(sequence, predicted, observed)
    wrong = biotite.structure.lddt(one, as_atoms(sequence, exchanged, observed))
    found = lddt.lddt_all_atom(sequence, exchanged, reference, observed)
    assert found.score == pytest.approx(biotite.structure.lddt(one, other), abs=1e-4)
    assert found.score > wrong + 0.02
    assert found.score == lddt.lddt_all_atom(sequence, predicted, reference, observed).score


def plain_choice(sequence, predicted, reference, observed):
    """The better naming of each residue by loops over its distances to atoms with certain names."""
    uncertain = {
        (row, ATOMS[residue].index(atom))
        for row, residue in enumerate(sequence)
        for pair in AMBIGUOUS_ATOMS.get(residue, ())
        for atom in pair
    }
    chosen = predicted.copy()
    for row in range(len(sequence)):
        counts = []
        for naming in (predicted, exchange(sequence, predicted, [row])):
            count = 0.0
            for place in range(14):
                if (row, place) not in uncertain or not observed[row, place]:
                    continue
                for other in range(len(sequence)):
                    for atom in range(14):
                        if other == row or not observed[other, atom] or (other, atom) in uncertain:
                            continue
                        true = np.linalg.norm(reference[row, place] - reference[other, atom])
                        if true < 15:
                            error = abs(true - np.linalg.norm(naming[row, place] - predicted[other, atom]))
                            count += sum(error < threshold for threshold in (0.5, 1, 2, 4)) / 4
            counts.append(count)
        if counts[1] > counts[0]:
            chosen[row] = exchange(sequence, predicted, [row])[row]
    return chosen


def test_the_better_naming_is_chosen_by_certain_atoms(random_sequence):
    sequence = random_sequence(16, 4, "DEFYK")
    reference, observed = protein(sequence)
    observed[3, 4:] = False
    predicted = reference + np.random.default_rng(4).normal(size=reference.shape) * 1.5
    chosen = plain_choice(sequence, predicted, reference, observed)
    assert (chosen != predicted).any()
    one = as_atoms(sequence, reference, observed)
    expected = biotite.structure.lddt(one, as_atoms(sequence, chosen, observed))
    assert lddt.lddt_all_atom(sequence, predicted, reference, observed).score == pytest.approx(expected, abs=2e-4)


def test_lddt_counts_missing_atoms_as_lost(random_sequence):
    sequence = random_sequence(40, 5, "AG")
    reference, observed = protein(sequence)
    predicted = reference.copy()
    predicted[::2] = np.nan
    found = lddt.lddt_all_atom(sequence, predicted, reference, observed)
    one, other = as_atoms(sequence, reference, observed), as_atoms(sequence, predicted, observed)
    assert found.score == pytest.approx(biotite.structure.lddt(one, other), abs=1e-6)
    assert (found.per_residue_L[::2] == 0).all()


def test_a_small_memory_gives_the_same(random_sequence, monkeypatch):
    sequence = random_sequence(50, 6)
    reference, observed = protein(sequence)
    predicted = reference + np.random.default_rng(6).normal(size=reference.shape)
    before = lddt.lddt_all_atom(sequence, predicted, reference, observed)
    monkeypatch.setattr(lddt, "_BLOCK", 1)
    after = lddt.lddt_all_atom(sequence, predicted, reference, observed)
    assert after.score == pytest.approx(before.score, abs=1e-12)
    np.testing.assert_allclose(after.per_residue_L, before.per_residue_L, atol=1e-12)


def test_a_chain_without_distances_has_no_score():
    assert np.isnan(lddt.lddt_ca(np.zeros((1, 3)), np.zeros((1, 3))).score)
    far = np.array([[0, 0, 0], [20, 0, 0.0]])
    assert np.isnan(lddt.lddt_ca(far, far).score)
    assert lddt.lddt_ca(far * 0.7, far * 0.7).score == 1


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="one shape"):
        lddt.lddt_ca(np.zeros((3, 3)), np.zeros((4, 3)))
    with pytest.raises(ValueError, match="2 residues need arrays"):
        lddt.lddt_all_atom("AA", np.zeros((3, 14, 3)), np.zeros((3, 14, 3)), np.ones((3, 14), bool))
