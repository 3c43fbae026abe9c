"""Unknown residues are kept: no letter silently breaks a chain.

transformers leaves them out of its structures; here each has N, CA, C and O in its predicted frame.
"""

import numpy as np
import pytest
import torch

from foldatlas.folding.compare.atom_layouts import ATOM37, atom14, atom37
from foldatlas.folding.network.residue_constants import ATOM_POSITION_RA3, UNKNOWN_AATYPE
from foldatlas.folding.network.tokens import encode
from foldatlas.folding.predictor import Predictor
from foldatlas.schemas.records import ATOMS, STANDARD_RESIDUES, UNKNOWN_RESIDUES, Settings, num_atoms

SEQUENCES = ["X", "XX", "MXK", "XMKTAYX", "MKT" + "X" * 20 + "AYI", UNKNOWN_RESIDUES, "AX:XC"]


@pytest.fixture(scope="module")
def predictions(two_blocks):
    return Predictor(two_blocks.network, Settings("random", "0", 1, "fp32")).fold_batch(SEQUENCES)


def test_every_residue_has_a_whole_backbone(predictions):
    """Of the ideal lengths: N-CA, CA-C and C=O, in every residue of every chain."""
    for prediction in predictions:
        positions, mask = atom37(prediction.sequence, prediction.positions)
        assert mask[:, [0, 1, 2, 4]].all()
        assert len(prediction.positions) == num_atoms(prediction.sequence)
        for first, second, length in ((0, 1, 1.46), (1, 2, 1.525), (2, 4, 1.23)):
            bonds = np.linalg.norm(positions[:, first] - positions[:, second], axis=-1)
            np.testing.assert_allclose(bonds, length, atol=0.02)


def test_unknown_residues_have_no_side_chain_and_their_own_place(predictions):
    for prediction in predictions:
        positions, mask = atom37(prediction.sequence, prediction.positions)
        unknown = np.array([letter in UNKNOWN_RESIDUES for letter in prediction.sequence])
        assert (mask[unknown].sum(axis=1) == 4).all()
        assert (
            mask[~unknown].sum(axis=1) == [len(ATOMS[x]) for x in prediction.sequence if x in STANDARD_RESIDUES]
        ).all()
        # None lies at the origin, as transformers' do, nor on another.
        apart = np.linalg.norm(positions[:, None, 1] - positions[None, :, 1], axis=-1)
        assert (apart[~np.eye(len(apart), dtype=bool)] > 1e-3).all()
        assert np.isfinite(prediction.positions).all() and np.isfinite(prediction.plddt).all()


def test_unknown_residue_has_alanines_backbone_in_its_frame(two_blocks):
    """From transformers' own frames: its rotation and translation of the residue applied to alanine's N, CA, C."""
    sequence = "MKXAYXI"
    reference = two_blocks.fold_reference(sequence, recycles=0)
    quaternion, translation = reference.frames[-1][0, :, :4].double(), reference.frames[-1][0, :, 4:].double()
    w, x, y, z = (quaternion / quaternion.norm(dim=-1, keepdim=True)).unbind(-1)
    rotation = torch.stack(
        [
            torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
            torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
            torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
        ],
        -2,
    )
    ideal = torch.tensor(ATOM_POSITION_RA3[STANDARD_RESIDUES.index("A"), :3]).double()
    expected = torch.einsum("lij,aj->lai", rotation, ideal) + translation.unsqueeze(1)
    (found,) = Predictor(two_blocks.network, Settings("random", "0", 0, "fp32")).fold([sequence])
    positions, _ = atom37(sequence, found.positions)
    for place in (2, 5):
        np.testing.assert_allclose(positions[place, :3], expected[place], atol=1e-3)


def test_letters_that_are_unknown_fold_alike(two_blocks):
    predictor = Predictor(two_blocks.network, Settings("random", "0", 1, "fp32"))
    structures = [predictor.fold([f"MK{letter}AY"])[0] for letter in UNKNOWN_RESIDUES]
    for other in structures[1:]:
        np.testing.assert_array_equal(other.positions, structures[0].positions)
    assert [structure.sequence[2] for structure in structures] == list(UNKNOWN_RESIDUES)
    assert (encode([UNKNOWN_RESIDUES]).aatype_BL == UNKNOWN_AATYPE).all()


def test_layouts_are_alphafolds():
    from transformers.models.esm.openfold_utils import residue_constants as theirs

    assert list(ATOM37) == theirs.atom_types
    sequence = STANDARD_RESIDUES + "X"
    positions = np.arange(3 * num_atoms(sequence), dtype=np.float32).reshape(-1, 3) + 1
    spread, mask = atom37(sequence, positions)
    np.testing.assert_array_equal(mask[:20], theirs.STANDARD_ATOM_MASK[:20].astype(bool))
    compact, present = atom14(sequence, positions)
    np.testing.assert_array_equal(compact[present], positions)
    names = theirs.restype_name_to_atom14_names
    for row, letter in enumerate(STANDARD_RESIDUES):
        for place, name in enumerate(names[theirs.restype_1to3[letter]]):
            assert present[row, place] == bool(name)
            if name:
                np.testing.assert_array_equal(compact[row, place], spread[row, ATOM37.index(name)])
    with pytest.raises(ValueError, match="atoms"):
        atom14("AA", positions)
