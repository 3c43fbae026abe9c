"""Our network against transformers' EsmForProteinFolding: the same weights and sequences, float32, the same answer."""

import numpy as np
import pytest
import torch

from foldatlas.folding.network.residue_constants import UNKNOWN_AATYPE
from foldatlas.folding.network.tokens import encode

ANGSTROM = 1e-3
SCORE = 1e-4

AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
# Mathematically without effect: each adds the same number to all logits of a softmax, which cancels it.
CANCELLED = ("trunk.structure_module.ipa.linear_b.bias", ".pair_to_sequence.layernorm.bias")


def outputs(folded):
    """What is compared, and at which tolerance: pLDDT as a fraction, PAE as probabilities."""
    return {
        "positions": (folded.positions_BLA3, ANGSTROM),
        "plddt": (folded.plddt_BL / 100, SCORE),
        "ptm": (folded.ptm_B, SCORE),
        "pae": (folded.pae_logits_BLLN.softmax(dim=-1), SCORE),
        "distogram": (folded.distogram_logits_BLLN, SCORE),
    }


def reference_outputs(reference):
    return {
        "positions": reference.positions[-1],
        "plddt": reference.plddt[..., 1],
        "ptm": reference.ptm.reshape(1),
        "pae": reference.aligned_confidence_probs,
        "distogram": reference.distogram_logits,
    }


def assert_equal_to_reference(pair, fold, sequence, recycles):
    theirs = reference_outputs(pair.fold_reference(sequence, recycles))
    # transformers puts the atoms of unknown residues at the origin; ours are tested in test_geometry.py.
    known_BL11 = (encode([sequence]).aatype_BL != UNKNOWN_AATYPE)[..., None, None]
    theirs["positions"] = theirs["positions"] * known_BL11
    for name, (ours, tolerance) in outputs(fold(pair.network, [sequence], recycles)).items():
        if name == "positions":
            ours = ours * known_BL11
        difference = (ours - theirs[name]).abs().max().item()
        assert difference <= tolerance, f"{name} differs by {difference:.2g}"


@pytest.mark.parametrize("recycles", [0, 1, 2, 3])
@pytest.mark.parametrize("length", [1, 2, 17, 64])
def test_equals_transformers(pair, fold, random_sequence, length, recycles):
    assert_equal_to_reference(pair, fold, random_sequence(length), recycles)


@pytest.mark.parametrize("recycles", [0, 3])
def test_equals_transformers_beyond_the_relative_positions(pair, fold, random_sequence, recycles):
    assert_equal_to_reference(pair, fold, random_sequence(130), recycles)


@pytest.mark.parametrize("sequence", ["X", "XX", "MKXAYIXXQRQ", "BJOUXZACDEFGHIKLMNPQRSTVWY"])
def test_equals_transformers_with_unknown_residues(pair, fold, sequence):
    """Also after recycling, where both see unknown residues at the origin."""
    assert_equal_to_reference(pair, fold, sequence, recycles=3)


def test_mean_embedding_averages_the_last_hidden_state(pair, fold, random_sequence):
    sequence = random_sequence(33)
    batch = encode([sequence])
    with torch.inference_mode():
        tokens = pair.reference.af2_idx_to_esm_idx(batch.aatype_BL, batch.mask_BL.long())
        tokens = torch.nn.functional.pad(tokens, (1, 1))
        tokens[:, 0], tokens[:, -1] = 0, 2
        expected = pair.reference.esm(tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state[:, 1:-1].mean(1)
    found = fold(pair.network, [sequence], 0).mean_embedding_BD
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_batch_gives_each_protein_what_it_gets_alone(pair, fold, random_sequence):
    sequences = [random_sequence(length, letters=AMINO_ACIDS + "X") for length in (29, 1, 70, 2, 44)]
    batch = fold(pair.network, sequences, 2)
    for row, sequence in enumerate(sequences):
        length = len(sequence)
        alone = outputs(fold(pair.network, [sequence], 2))
        for name, (of_batch, tolerance) in outputs(batch).items():
            of_protein = of_batch[row]
            for axis in {"positions": [0], "plddt": [0], "ptm": [], "pae": [0, 1], "distogram": [0, 1]}[name]:
                of_protein = of_protein.narrow(axis, 0, length)
            difference = (of_protein - alone[name][0][0]).abs().max().item()
            assert difference <= tolerance, f"{name} of {length} residues differs by {difference:.2g}"
        embedding = fold(pair.network, [sequence], 0).mean_embedding_BD[0]
        torch.testing.assert_close(batch.mean_embedding_BD[row], embedding, atol=1e-5, rtol=0)


def test_ptm_of_a_batch_is_that_of_transformers_alone(pair, fold, random_sequence):
    """transformers gives one pTM for a whole batch, which is that of no protein in it."""
    sequences = [random_sequence(length) for length in (40, 64, 23)]
    found = fold(pair.network, sequences, 0).ptm_B.tolist()
    expected = [pair.fold_reference(sequence, 0).ptm.item() for sequence in sequences]
    assert found == pytest.approx(expected, abs=SCORE)
    assert np.ptp(expected) > 10 * SCORE

    batch = encode(sequences)
    with torch.inference_mode():
        theirs = pair.reference(batch.aatype_BL, batch.mask_BL.long(), num_recycles=0).ptm
    assert theirs.numel() == 1
    assert max(abs(theirs.item() - score) for score in expected) > 10 * SCORE


@pytest.mark.parametrize(
    "size", ["one_block", *(pytest.param(size, marks=pytest.mark.long) for size in ("two_blocks", "four_blocks"))]
)
def test_every_weight_changes_the_outcome(size, request, fold, random_sequence):
    """The comparisons above would see an error in any tensor: 5 % of it moves an output tenfold its tolerance.

    Tensors of a released state that the network lacks are in tensor_names.UNUSED and CanonicalTensors.heads.
    """
    pair = request.getfixturevalue(size)
    sequence = random_sequence(14, letters=AMINO_ACIDS + "X")
    before = [outputs(fold(pair.network, [sequence], recycles)) for recycles in (0, 1)]
    state = pair.network.state_dict()
    assert len(state) > 200
    for name, tensor in state.items():
        original, recycles = tensor.clone(), int("recycle" in name)
        tensor.mul_(1.05)
        after = outputs(fold(pair.network, [sequence], recycles))
        tensor.copy_(original)
        moved = max(
            ((after[output][0] - value).abs().max() / tolerance).item()
            for output, (value, tolerance) in before[recycles].items()
        )
        if name.endswith(CANCELLED):
            assert moved < 1, f"{name} should cancel and moved an output by {moved:.2g} tolerances"
        else:
            assert moved > 10, f"{name} moved no output by more than {moved:.2g} tolerances"
