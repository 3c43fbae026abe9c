"""The packed network against transformers' EsmForMaskedLM on a padded batch: logits, loss and gradients."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import EsmConfig, EsmForMaskedLM

from foldatlas.folding import models
from foldatlas.folding.config import LanguageModelConfig
from foldatlas.folding.language_predictor import LanguagePredictor
from foldatlas.folding.network.language_heads import build_heads
from foldatlas.folding.network.segments import Segments
from foldatlas.folding.network.tokens import PAD, encode_language
from foldatlas.folding.training.data.masking import mask
from foldatlas.folding.training.masked_model import MaskedLanguageModel, rotary_frequencies, save
from foldatlas.folding.weights.tensor_names import canonical

CONFIG = LanguageModelConfig(num_layers=3, width=48, num_heads=4, transition_width=112)


@pytest.fixture(scope="module")
def reference() -> EsmForMaskedLM:
    config = EsmConfig(
        vocab_size=33,
        mask_token_id=32,
        pad_token_id=1,
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=112,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        max_position_embeddings=1026,
        layer_norm_eps=1e-5,
        position_embedding_type="rotary",
        emb_layer_norm_before=False,
        token_dropout=True,
    )
    model = EsmForMaskedLM(config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(generator=generator)
            if parameter.dim() == 1:
                parameter.mul_(0.3).add_(1.0 if name.endswith("weight") else 0.0)
            else:
                parameter.mul_(0.3 if "embed" in name else parameter.shape[-1] ** -0.5)
    return model


@pytest.fixture
def ours(reference: EsmForMaskedLM) -> MaskedLanguageModel:
    model = MaskedLanguageModel(CONFIG)
    named = canonical(reference.state_dict(), alone=True)
    model.load({**named.state, **named.heads})
    return model


@pytest.fixture(scope="module")
def batch(sequences: list[str]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Nine sequences, two pairs of equal lengths: tokens, what the model sees, and where it is asked, [B, T]."""
    chosen = [*sequences[:7], sequences[3][::-1], sequences[5][::-1]]
    tokens = encode_language(chosen)
    seen, is_asked = tokens.clone(), torch.zeros_like(tokens, dtype=torch.bool)
    for row in range(len(chosen)):
        length = len(chosen[row]) + 2
        masked, asked = mask(tokens[row, :length].numpy(), np.random.default_rng([row, 7]))
        seen[row, :length], is_asked[row, :length] = torch.from_numpy(masked), torch.from_numpy(asked)
    return tokens, seen, is_asked


def packed(batch: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, Segments, torch.Tensor, torch.Tensor]:
    tokens, seen, is_asked = batch
    is_there = tokens != PAD
    at = is_asked[is_there].nonzero().squeeze(1)
    return seen[is_there], Segments(is_there.sum(dim=1).tolist()), at, tokens[is_asked]


def test_logits_and_loss_are_those_of_transformers(
    reference: EsmForMaskedLM, ours: MaskedLanguageModel, batch: tuple[torch.Tensor, ...]
) -> None:
    tokens, seen, is_asked = batch
    labels = tokens.masked_fill(~is_asked, -100)
    with torch.no_grad():
        theirs = reference(seen, attention_mask=(tokens != PAD).long(), labels=labels)
    row, segments, at, wanted = packed(batch)
    logits = ours(row, segments, at)
    torch.testing.assert_close(logits, theirs.logits[is_asked], rtol=0, atol=1e-5)
    assert F.cross_entropy(logits, wanted).item() == pytest.approx(float(theirs.loss), abs=1e-5)


@pytest.mark.parametrize("recomputes", [False, True])
def test_gradients_are_those_of_transformers(
    reference: EsmForMaskedLM, ours: MaskedLanguageModel, batch: tuple[torch.Tensor, ...], recomputes: bool
) -> None:
    tokens, seen, is_asked = batch
    for layer in ours.esm.layers:
        layer.recomputes = recomputes
    reference.zero_grad()
    labels = tokens.masked_fill(~is_asked, -100)
    reference(seen, attention_mask=(tokens != PAD).long(), labels=labels).loss.backward()
    row, segments, at, wanted = packed(batch)
    F.cross_entropy(ours(row, segments, at), wanted).backward()
    theirs = {name: parameter.grad for name, parameter in reference.named_parameters() if parameter.grad is not None}
    named = canonical(theirs, alone=True)
    expected = {**named.state, **named.heads}
    expected.pop("lm_head.weight", None)  # the embedding again
    own = {name: parameter.grad for name, parameter in ours.named_parameters()}
    contact = {name for name in expected if name.startswith("contact_head")}
    assert own.keys() == expected.keys() - contact
    for name, gradient in own.items():
        assert gradient is not None
        torch.testing.assert_close(
            gradient, expected[name], rtol=1e-4, atol=1e-6, msg=lambda text, n=name: f"{n} {text}"
        )


def test_no_sequence_sees_another(ours: MaskedLanguageModel, batch: tuple[torch.Tensor, ...]) -> None:
    row, segments, _, _ = packed(batch)
    with torch.no_grad():
        state = ours.esm.packed_state(row, segments)
        start = 0
        for length in segments.lengths:
            alone = ours.esm.packed_state(row[start : start + length], Segments([length]))
            *_, padded = ours.esm.hidden_states(row[start : start + length].unsqueeze(0))
            torch.testing.assert_close(state[start : start + length], alone, rtol=0, atol=1e-5)
            torch.testing.assert_close(alone, padded[0], rtol=0, atol=1e-5)
            start += length


def test_bf16_stays_near(ours: MaskedLanguageModel, batch: tuple[torch.Tensor, ...]) -> None:
    row, segments, at, wanted = packed(batch)
    exact = F.cross_entropy(ours(row, segments, at), wanted)
    with torch.autocast("cpu", torch.bfloat16):
        logits = ours(row, segments, at)
    assert logits.dtype == torch.float32
    loss = F.cross_entropy(logits, wanted)
    assert loss.item() == pytest.approx(exact.item(), rel=0.02)
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.dtype == torch.float32 for parameter in ours.parameters())


def test_first_values_are_a_function_of_the_seed() -> None:
    one, again, other = MaskedLanguageModel(CONFIG), MaskedLanguageModel(CONFIG), MaskedLanguageModel(CONFIG)
    for model, seed in ((one, 1), (again, 1), (other, 2)):
        model.initialise(seed)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True))
    assert not torch.equal(one.esm.layers[0].fc1.weight, other.esm.layers[0].fc1.weight)
    assert one.esm.layers[0].fc1.weight.std().item() == pytest.approx(0.02 * (1_024 / 48) ** 0.5, rel=0.05)
    assert torch.equal(one.esm.layers[1].fc1.bias, torch.zeros(112))
    assert torch.equal(one.lm_head.layer_norm.weight, torch.ones(48))
    torch.testing.assert_close(one.esm.inv_freq, 10_000.0 ** (-torch.arange(0, 12, 2) / 12), rtol=1e-6, atol=0)


def test_saved_file_embeds_and_gives_perplexity(
    reference: EsmForMaskedLM, ours: MaskedLanguageModel, sequences: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "small.safetensors"
    save(ours.parameters_on_host(), CONFIG, path)
    loaded = models.load_language_model(str(path))
    assert (loaded.name, loaded.config) == ("small", CONFIG)
    assert torch.equal(loaded.network.inv_freq, rotary_frequencies(CONFIG))
    heads = build_heads(loaded.config, loaded.heads, loaded.network.embed_tokens.weight)
    predictor = LanguagePredictor(loaded.network, heads)
    tokens = encode_language([sequences[0]])
    with torch.no_grad():
        theirs = reference(tokens).logits
    (found,) = predictor.masked_logits([sequences[0]])
    np.testing.assert_allclose(found, theirs[0, 1:-1].numpy(), rtol=0, atol=1e-5)
    (perplexity,) = predictor.perplexity([sequences[0]])
    assert perplexity > 1
