"""Tokens and ESM-2, against transformers."""

import pytest
import torch
from transformers.models.esm.modeling_esm import EsmRotaryEmbedding, apply_rotary_pos_emb

from foldatlas.folding.network.language_model import Rotation
from foldatlas.folding.network.tokens import AATYPE_TOKENS, CLS, EOS, PAD, encode, language_tokens
from foldatlas.schemas.errors import SequenceError
from foldatlas.schemas.records import STANDARD_RESIDUES


def test_tokens_of_residues_are_those_of_transformers(two_blocks):
    assert [PAD, *AATYPE_TOKENS] == two_blocks.reference.af2_to_esm.tolist()
    vocabulary = two_blocks.config.vocab_list
    assert "".join(vocabulary[token] for token in AATYPE_TOKENS) == STANDARD_RESIDUES + "X"
    assert (vocabulary[CLS], vocabulary[PAD], vocabulary[EOS]) == ("<cls>", "<pad>", "<eos>")


def test_each_protein_ends_directly_after_its_last_residue():
    tokens = language_tokens(encode(["A", "ACD"])).tolist()
    assert tokens == [[CLS, 5, EOS, PAD, PAD], [CLS, 5, 23, 13, EOS]]


def test_letters_without_a_residue_type_of_their_own_are_unknown():
    assert encode(["BJOUXZ"]).aatype_BL.tolist() == [[20] * 6]


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        ([], "no sequences"),
        ([""], "empty"),
        (["ACD", ""], "empty"),
        (["ACd"], "position 3 of 3 has 'd'"),
        (["AC-D"], "'-'"),
        (["AC*"], r"'\*'"),
        (["A:C"], "':'"),
        (["A C"], "' '"),
        (["AÉ"], "'É'"),
    ],
)
def test_invalid_sequence_is_refused(sequences, message):
    with pytest.raises(SequenceError, match=message):
        encode(sequences)


def test_rotation_is_that_of_transformers(two_blocks):
    query = torch.randn(2, 4, 300, 16, generator=torch.Generator().manual_seed(0))
    reference = EsmRotaryEmbedding(two_blocks.config)
    cosine, sine = reference(query, torch.arange(300).unsqueeze(0))
    expected, _ = apply_rotary_pos_emb(query, query, cosine, sine)
    torch.testing.assert_close(Rotation(reference.inv_freq, torch.arange(300))(query), expected, atol=1e-6, rtol=0)


def test_attention_after_rotation_depends_on_distance_alone():
    query, key = torch.randn(2, 1, 1, 1, 16, generator=torch.Generator().manual_seed(0))
    rotation = Rotation(10_000.0 ** (-torch.arange(8) / 8), torch.arange(100))
    product = rotation(query.expand(-1, -1, 100, -1)) @ rotation(key.expand(-1, -1, 100, -1)).transpose(-1, -2)
    for distance in (-30, 0, 7):
        along = product[0, 0].diagonal(distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), atol=1e-4, rtol=0)


def test_states_are_those_of_transformers(pair, random_sequence):
    batch = encode([random_sequence(40), random_sequence(12)])
    tokens = language_tokens(batch)
    weights = pair.network.esm_s_combine.softmax(dim=0)
    with torch.inference_mode():
        weighted, last = pair.network.esm(tokens, weights)
        states = pair.reference.esm(tokens, attention_mask=tokens != PAD, output_hidden_states=True).hidden_states
    expected = torch.stack(states, dim=-1) @ weights
    for row, length in enumerate((40, 12)):
        torch.testing.assert_close(weighted[row, :length], expected[row, 1 : length + 1], atol=1e-5, rtol=0)
        torch.testing.assert_close(last[row, :length], states[-1][row, 1 : length + 1], atol=2e-5, rtol=0)
