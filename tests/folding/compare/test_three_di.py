"""3Di states against mini3di, residue for residue, on made chains and on real ones where they are present."""

import mini3di
import numpy as np
import pytest
from made_chains import CHAINS, backbone

from foldatlas.folding.compare.three_di import (
    MASKED_STATE,
    three_di_letters,
    three_di_states,
)


def reference(n, c_alpha, c, c_beta):
    return mini3di.Encoder().encode_atoms(ca=c_alpha, cb=c_beta, n=n, c=c).filled()


@pytest.mark.parametrize("length", [3, 4, 5, 30, 120, 300])
def test_states_equal_mini3di(length):
    atoms = backbone(length)
    assert (three_di_states(*atoms) == reference(*atoms)).all()


@pytest.mark.parametrize("seed", range(8))
def test_states_equal_mini3di_with_atoms_missing(seed):
    """One atom in ten is missing; a C-beta that is missing is built, another masks residues."""
    rng = np.random.default_rng(seed)
    atoms = backbone(90, seed)
    for atom in atoms:
        atom[rng.random(len(atom)) < 0.1] = np.nan
    states = three_di_states(*atoms)
    assert (states == reference(*atoms)).all()
    assert len(set(states)) > 1


def test_states_of_glycine_equal_mini3di():
    n, c_alpha, c, c_beta = backbone(60)
    c_beta[:] = np.nan
    assert (three_di_states(n, c_alpha, c, c_beta) == reference(n, c_alpha, c, c_beta)).all()


def test_states_without_any_partner_are_masked():
    n, c_alpha, c, c_beta = backbone(20)
    n[np.r_[:8, 9:20]] = np.nan
    assert (three_di_states(n, c_alpha, c, c_beta) == MASKED_STATE).all()


@pytest.mark.parametrize("length", [0, 1, 2])
def test_chains_without_inner_residues_are_masked(length):
    atoms = tuple(atom[:length] for atom in backbone(5))
    assert three_di_states(*atoms).tolist() == [MASKED_STATE] * length


@pytest.mark.skipif(not CHAINS.exists(), reason="no experimental chains here")
def test_states_equal_mini3di_on_200_chains():
    from foldatlas.folding.compare.experimental import read_chains

    residues = 0
    for chain in read_chains(CHAINS, max_length=400)[:200]:
        positions = np.where(chain.observed_LA[..., None], chain.positions_LA3.astype(np.float64), np.nan)
        atoms = tuple(positions[:, k] for k in (0, 1, 2, 4))
        assert (three_di_states(*atoms) == reference(*atoms)).all(), chain.name
        residues += len(positions)
    assert residues > 20_000


def test_letters_are_those_of_mini3di():
    assert "".join(mini3di.encoder.ALPHABET[:20]) == three_di_letters(np.arange(20, dtype=np.uint8))


def test_states_refuse_shapes_that_differ():
    n, c_alpha, c, c_beta = backbone(5)
    with pytest.raises(ValueError, match="one shape"):
        three_di_states(n, c_alpha, c, c_beta[:4])
