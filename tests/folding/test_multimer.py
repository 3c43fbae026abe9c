"""Several chains, against a direct transcription of fair-esm's rule and transformers' network."""

import numpy as np
import pytest
import torch

from foldatlas.folding import models
from foldatlas.folding.multimer import encode_complexes, split_chains
from foldatlas.folding.network.confidence import best_alignment, interface_tm_of_alignments
from foldatlas.folding.network.tokens import NO_CHAIN
from foldatlas.folding.predictor import Predictor
from foldatlas.schemas.errors import SequenceError
from foldatlas.schemas.records import ATOMS, Settings, num_atoms

AF2_ORDER = "ARNDCQEGHILKMFPSTWYVX"
# Of 40 residues or more: below 19 the TM-score's d0 is next to nothing, and so is every score.
COMPLEXES = [
    "MKTAYIAKQRQISFVKSHFSRQLEERLG:GSHMLEVQAPILSRVGDGTQDNLSG",
    "ACDEFGHIKLMNPQRSTVWYACDEFGHIKLMNPQRSTVWY",
    "WXKLVDNPQ:AVLIPGXTNDEERKLYAF:HHHHHHCWQM",
]


def encode_sequence(seq, residue_index_offset=512, chain_linker="G" * 25):
    """`encode_sequence` of fair-esm 2.0.0, esm/esmfold/v1/misc.py (MIT, Meta Platforms), line by line."""
    chains = seq.split(":")
    seq = chain_linker.join(chains)
    encoded = torch.tensor([AF2_ORDER.index(aa) if aa in AF2_ORDER else 20 for aa in seq])
    residx = torch.arange(len(encoded))
    start = 0
    for i, chain in enumerate(chains):
        residx[start : start + len(chain) + len(chain_linker)] += i * residue_index_offset
        start += len(chain) + len(chain_linker)
    linker_mask = torch.ones_like(encoded, dtype=torch.float32)
    offset = 0
    for chain in chains:
        offset += len(chain)
        linker_mask[offset : offset + len(chain_linker)] = 0
        offset += len(chain_linker)
    return encoded, residx, linker_mask


def tm_score(logits, asym_id, *, interface):
    """`predicted_tm_score` of AlphaFold-Multimer's release, alphafold/common/confidence.py (Apache 2.0)."""
    breaks = np.linspace(0, 31, 63)
    step = breaks[1] - breaks[0]
    bin_centers = np.append(breaks + step / 2, breaks[-1] + step / 2 + step)
    num_res = len(asym_id)
    d0 = 1.24 * (max(num_res, 19) - 15) ** (1.0 / 3) - 1.8
    probs = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probs /= probs.sum(axis=-1, keepdims=True)
    predicted_tm_term = np.sum(probs / (1 + np.square(bin_centers) / np.square(d0)), axis=-1)
    pair_mask = np.ones((num_res, num_res), dtype=bool)
    if interface:
        pair_mask *= asym_id[:, None] != asym_id[None, :]
    predicted_tm_term *= pair_mask
    normed_residue_mask = pair_mask / (1e-8 + np.sum(pair_mask, axis=-1, keepdims=True))
    per_alignment = np.sum(predicted_tm_term * normed_residue_mask, axis=-1)
    return per_alignment.max()


def chain_numbers(sequence):
    return np.array([number for number, chain in enumerate(sequence.split(":")) for _ in chain])


def reference_fold(pair, sequence, recycles):
    """transformers' output on fair-esm's input, and True where a residue is no linker."""
    encoded, residx, linker_mask = encode_sequence(sequence)
    with torch.inference_mode():
        folded = pair.reference(
            encoded[None], torch.ones_like(encoded)[None], position_ids=residx[None], num_recycles=recycles
        )
    return folded, linker_mask.bool()


def predictor(pair, recycles):
    return Predictor(pair.network, Settings("random", "0", recycles, "fp32"))


@pytest.mark.parametrize("recycles", [0, 1, 2])
def test_complexes_are_those_of_the_released_rule(pair, recycles):
    """One batch of three proteins with one to three chains, each against the reference alone.

    Three recycles are compared in float64, where it can be done: test_double_precision.py says why.
    """
    found = predictor(pair, recycles).fold_batch(
        COMPLEXES, mean_embedding=True, residue_embedding=True, pae=True, distogram=True
    )
    for complex_, prediction in zip(COMPLEXES, found, strict=True):
        reference, kept = reference_fold(pair, complex_, recycles)
        sequence = complex_.replace(":", "")
        assert prediction.sequence == sequence
        atoms = reference.positions[-1][0, kept].numpy()
        expected = np.concatenate([atoms[i, : len(ATOMS[letter])] for i, letter in enumerate(sequence)])
        known = np.concatenate([np.full(len(ATOMS[letter]), letter != "X") for letter in sequence])
        np.testing.assert_allclose(prediction.positions[known], expected[known], atol=1e-3)
        np.testing.assert_allclose(prediction.plddt / 100, reference.plddt[0, kept, 1], atol=1e-5)
        pae = reference.predicted_aligned_error[0][kept][:, kept]
        np.testing.assert_allclose(prediction.pae, pae, atol=1e-3)
        distogram = reference.distogram_logits[0][kept][:, kept]
        np.testing.assert_allclose(prediction.distogram_logits, distogram, atol=1e-3)
        logits = reference.ptm_logits[0][kept][:, kept].double().numpy()
        assert prediction.ptm == pytest.approx(tm_score(logits, chain_numbers(complex_), interface=False), rel=1e-3)
        if ":" in complex_:
            expected = tm_score(logits, chain_numbers(complex_), interface=True)
            assert prediction.iptm == pytest.approx(expected, rel=1e-3)
            assert prediction.iptm != pytest.approx(prediction.ptm, rel=1e-2)
        else:
            assert prediction.iptm is None


def test_chains_are_distinguished(pair):
    pair_, single = predictor(pair, 0).fold_batch(["ACDEF:GHI", "ACDEFGHI"])
    assert pair_.chain_lengths == (5, 3)
    assert single.chain_lengths is None
    assert pair_.sequence == single.sequence
    assert len(pair_.positions) == num_atoms("ACDEFGHI")
    assert np.abs(pair_.positions - single.positions).max() > 0.1


def test_the_index_jump_and_the_linker_both_count(pair):
    """Neither the chains set end to end nor the glycines written out give the complex."""
    complex_, chains = "MKTAYIAKQR:GSHMLE", ("MKTAYIAKQR", "GSHMLE")
    (found,) = predictor(pair, 0).fold([complex_])
    (spelled,) = predictor(pair, 0).fold([("G" * 25).join(chains)])
    kept = np.r_[: len(chains[0]), len(chains[0]) + 25 : len(spelled.plddt)]
    assert np.abs(spelled.plddt[kept] - found.plddt).max() > 1e-2


def test_outputs_have_no_linker(pair):
    (found,) = predictor(pair, 0).fold(["ACD:EF:G"], residue_embedding=True, mean_embedding=True, pae=True)
    width = pair.network.config.language_model.width
    assert found.pae.shape == (6, 6)
    assert found.residue_embedding.shape == (6, width)
    np.testing.assert_allclose(found.mean_embedding, found.residue_embedding.mean(axis=0), atol=1e-5)


@pytest.mark.parametrize("complex_", COMPLEXES)
def test_encoding_is_the_released_one(complex_):
    encoded, residx, linker_mask = encode_sequence(complex_)
    batch = encode_complexes([split_chains(complex_), ["A", "A"]])
    length = len(encoded)
    assert batch.aatype_BL[0, :length].tolist() == encoded.tolist()
    assert batch.residue_index_BL[0, :length].tolist() == residx.tolist()
    assert batch.is_residue_BL[0, :length].tolist() == linker_mask.bool().tolist()
    assert not batch.is_residue_BL[0, length:].any()
    assert batch.mask_BL[0].sum() == length  # linkers take part in the network
    chains = batch.chain_BL[0]
    assert chains[chains != NO_CHAIN].tolist() == chain_numbers(complex_).tolist()


def test_single_chains_need_no_index():
    batch = encode_complexes([["ACD"], ["A"]])
    assert batch.residue_index_BL is None and batch.chain_BL is None


@pytest.mark.parametrize(
    ("complex_", "message"),
    [
        ("A:", "chain 2 of 2: the sequence is empty"),
        (":A", "chain 1 of 2"),
        ("A::C", "chain 2 of 3"),
        ("A:c", "chain 2 of 2: position 1 of 1 has 'c'"),
        ("", "^the sequence is empty"),
    ],
)
def test_invalid_chain_is_named(complex_, message):
    with pytest.raises(SequenceError, match=message):
        split_chains(complex_)


def test_interface_score_of_a_batch_with_padding():
    generator = torch.Generator().manual_seed(5)
    logits = 3 * torch.randn(3, 12, 12, 64, generator=generator)
    chains = torch.full((3, 12), NO_CHAIN)
    chains[0, :5], chains[0, 7:12] = 0, 1
    chains[1, :3], chains[1, 3:4], chains[1, 6:9] = 0, 1, 2
    chains[2, :8] = 0
    found = best_alignment(interface_tm_of_alignments(logits, chains, chains), chains >= 0).tolist()
    for row in (0, 1):
        kept = chains[row] != NO_CHAIN
        of_residues = logits[row][kept][:, kept].double().numpy()
        assert found[row] == pytest.approx(tm_score(of_residues, chains[row][kept].numpy(), interface=True), abs=1e-6)
    assert found[2] == 0


def test_a_complex_in_the_embedded_model():
    (found,) = models.load("nano", recycles=0).fold(["MKTAYIAK:XXGSH"])
    assert found.chain_lengths == (8, 5)
    assert 0 < found.iptm < 1
