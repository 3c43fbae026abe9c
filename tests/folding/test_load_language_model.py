"""ESM-2 alone, from each published layout, against transformers' EsmForMaskedLM with the same random weights."""

import re
from argparse import Namespace

import pytest
import torch
from transformers import EsmConfig, EsmForMaskedLM

from foldatlas.folding import models
from foldatlas.folding.config import LanguageModelConfig
from foldatlas.folding.network.language_model import LanguageModel
from foldatlas.folding.network.layout import without_values
from foldatlas.folding.network.tokens import encode, language_tokens
from foldatlas.folding.weights import published
from foldatlas.schemas.errors import ModelError

NUM_LAYERS, WIDTH, NUM_HEADS = 3, 48, 4
SEQUENCE = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ"
HEADS = {
    "lm_head.dense.weight", "lm_head.dense.bias", "lm_head.layer_norm.weight", "lm_head.layer_norm.bias",
    "lm_head.bias", "contact_head.regression.weight", "contact_head.regression.bias",
}  # fmt: skip
# Layers, width and heads of the released sizes (Lin et al. 2023, table S1), in the order of places.LANGUAGE_MODELS.
SIZES = [(6, 320, 20), (12, 480, 20), (30, 640, 20), (33, 1280, 20), (36, 2560, 40), (48, 5120, 40)]


@pytest.fixture(scope="module")
def reference():
    config = EsmConfig(
        vocab_size=33, mask_token_id=32, pad_token_id=1, hidden_size=WIDTH, num_hidden_layers=NUM_LAYERS,
        num_attention_heads=NUM_HEADS, intermediate_size=80, position_embedding_type="rotary", token_dropout=True,
        emb_layer_norm_before=False, layer_norm_eps=1e-5, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = EsmForMaskedLM(config).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return model


def assert_loaded(path, reference, heads):
    """What is at `path` gives transformers' last hidden state to 1e-4, and its heads as they are."""
    loaded = models.load_language_model(str(path))
    tokens = language_tokens(encode([SEQUENCE]))
    with torch.inference_mode():
        weights_N = torch.zeros(NUM_LAYERS + 1)
        last_BLD = loaded.network(tokens, weights_N)[1]
        expected = reference.esm(tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state[:, 1:-1]
    torch.testing.assert_close(last_BLD, expected, atol=1e-4, rtol=0)
    assert expected.std() > 0.1
    assert set(loaded.heads) - {"lm_head.weight"} == heads
    published = {key.removeprefix("esm."): tensor for key, tensor in reference.state_dict().items()}
    for name, tensor in loaded.heads.items():
        assert torch.equal(tensor, published[name.replace("lm_head.weight", "lm_head.decoder.weight")])
    return loaded


def test_transformers_layouts(reference, tmp_path):
    reference.save_pretrained(tmp_path / "masked")
    reference.esm.save_pretrained(tmp_path / "bare")
    reference.save_pretrained(tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").unlink()
    torch.save(reference.state_dict(), tmp_path / "pickled" / "pytorch_model.bin")
    masked = assert_loaded(tmp_path / "masked", reference, HEADS)
    pickled = assert_loaded(tmp_path / "pickled", reference, HEADS)
    bare = assert_loaded(tmp_path / "bare", reference, {name for name in HEADS if name.startswith("contact")})
    assert masked.weights == pickled.weights == bare.weights
    assert masked.name == "masked"


def test_fair_layout(reference, fair_language_model, tmp_path):
    reference.save_pretrained(tmp_path / "masked")
    state = {key.removeprefix("esm."): tensor for key, tensor in reference.state_dict().items()}
    fair = fair_language_model(state, NUM_LAYERS)
    fair["encoder.lm_head.weight"] = fair.pop("encoder.lm_head.decoder.weight")
    path = tmp_path / "esm2_t3.pt"
    torch.save({"cfg": {"model": Namespace(encoder_layers=NUM_LAYERS)}, "model": fair}, path)
    alone = assert_loaded(path, reference, {name for name in HEADS if name.startswith("lm_head")})
    contacts = {name: state[name] for name in ("contact_head.regression.weight", "contact_head.regression.bias")}
    torch.save({"model": contacts}, tmp_path / "esm2_t3-contact-regression.pt")
    both = assert_loaded(path, reference, HEADS)
    assert alone.weights == both.weights == models.load_language_model(str(tmp_path / "masked")).weights


def test_settings_are_known_before_anything_is_loaded(reference, two_blocks, tmp_path):
    """Name, digest and sizes of a language model, and of the one inside a folding model."""
    reference.save_pretrained(tmp_path / "alone")
    two_blocks.reference.save_pretrained(tmp_path / "inside")
    for path in (tmp_path / "alone", tmp_path / "inside"):
        config, settings = models.language_model_of(str(path), "bf16")
        loaded = models.load_language_model(str(path))
        assert (settings.model, settings.weights, config) == (loaded.name, loaded.weights, loaded.config)
        assert (settings.recycles, settings.precision) == (0, "bf16")
    with pytest.raises(ModelError, match="unknown precision 'fp4'"):
        models.language_model_of(str(tmp_path / "alone"), "fp4")


def test_the_language_model_of_a_folding_model(two_blocks, tmp_path):
    two_blocks.reference.save_pretrained(tmp_path)
    loaded = models.load_language_model(
        str(tmp_path), dtype_of=lambda name: torch.bfloat16 if "fc1" in name else torch.float32
    )
    expected = two_blocks.network.esm.state_dict()
    for name, tensor in loaded.network.state_dict().items():
        assert tensor.dtype == (torch.bfloat16 if "fc1" in name else torch.float32)
        assert torch.equal(tensor, expected[name].to(tensor.dtype))
    assert set(loaded.heads) == {"contact_head.regression.weight", "contact_head.regression.bias"}
    assert models.load_language_model("nano").config == models.config_of("nano").language_model


def test_a_missing_or_foreign_tensor_is_named(reference, tmp_path):
    for change, message in (
        ({"esm.encoder.layer.1.output.dense.bias": None}, r"lack layers\.1\.fc2\.bias"),
        (
            {"esm.encoder.layer.3.output.dense.bias": torch.zeros(48)},
            r"have layers\.3\.fc2\.bias, which the configuration does not include",
        ),
        ({"lm_head.extra": torch.zeros(48)}, r"lm_head\.extra"),
        ({"esm.encoder.layer.1.output.dense.bias": torch.zeros(5)}, r"layers\.1\.fc2\.bias has shape \(5,\)"),
    ):
        reference.save_pretrained(tmp_path)
        (tmp_path / "model.safetensors").unlink()
        state = {**reference.state_dict(), **change}
        state = {key: tensor for key, tensor in state.items() if tensor is not None}
        torch.save(state, tmp_path / "pytorch_model.bin")
        with pytest.raises(ModelError, match=message):
            models.load_language_model(str(tmp_path))


def test_a_language_model_does_not_fold(reference, tmp_path):
    reference.save_pretrained(tmp_path)
    for call in (models.config_of, models.settings_of, models.load):
        with pytest.raises(ModelError, match="embeds and does not fold"):
            call(str(tmp_path))


@pytest.mark.parametrize(("name", "sizes"), [*zip(published.LANGUAGE_MODELS, SIZES, strict=True)])
def test_released_sizes_have_the_parameters_they_are_named_for(name, sizes):
    layers, width, heads = sizes
    with without_values():
        network = LanguageModel(LanguageModelConfig(layers, width, heads, 4 * width))
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    match = re.fullmatch(r"esm2_t(\d+)_(\d+)([MB])_UR50D", name)
    assert int(match[1]) == layers
    assert millions == pytest.approx(int(match[2]) * (1000 if match[3] == "B" else 1), rel=0.1)
