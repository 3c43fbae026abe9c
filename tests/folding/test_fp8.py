"""FP8 products of the language model: rounding, the product of torch, and the policy that chooses it."""

import logging

import pytest
import torch

from foldatlas.folding import models
from foldatlas.folding.network import fp8, precision
from foldatlas.folding.network.fp8 import Fp8Linear, plain_product, quantised, scaled_product
from foldatlas.folding.network.kernels import policy, self_check
from foldatlas.folding.network.language_model import LanguageModel
from foldatlas.schemas.errors import ModelError, NonFiniteOutput

SEQUENCES = ["MKTAYIAKQRQISFVKSHFSRQLEERLG", "GSHMRSLEVQA"]


def random(*shape, seed=0, dtype=torch.bfloat16):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def rounded(x):
    """Round to 4 significant bits by arithmetic, not by the format; subnormal below 2^-6."""
    exponent = torch.floor(torch.log2(x.abs().clamp(min=2.0**-6)))
    step = torch.exp2(exponent - 3)
    return (x / step).round() * step


@pytest.mark.parametrize(("dtype", "share"), [(torch.float32, 0.999), (torch.bfloat16, 0.93)])
def test_rows_are_rounded_to_four_significant_bits(dtype, share):
    """In bfloat16 the scaled value is rounded before, so that some values half way between two go the other way."""
    x = random(50, 64, dtype=dtype) * torch.logspace(-6, 6, 50).unsqueeze(1).to(dtype)
    found = quantised(x)
    assert found.values_MK.float().abs().amax(dim=1).tolist() == [448.0] * 50
    expected = rounded(x.double() / found.scale_M1.double())
    torch.testing.assert_close(found.values_MK.double(), expected, rtol=0.13, atol=2.0**-9)  # one step
    assert (found.values_MK.double() == expected).double().mean() >= share
    assert ((found.float() - x.float()).abs() <= x.abs().amax(dim=1, keepdim=True).float() / 14).all()


def test_rows_of_zeros_and_rows_that_are_not_finite():
    x = random(4, 32)
    x[0], x[1, 3], x[2, 5] = 0, float("nan"), float("inf")
    found = quantised(x).float()
    assert (found[0] == 0).all() and found[1].isnan().any() and found[2].isnan().any() and found[3].isfinite().all()


@pytest.mark.parametrize("tokens", [1, 31, 77])
def test_torch_operator_agrees_with_the_plain_product(tokens):
    """On a CPU torch has the operator too. The reference is in float64."""
    x, weight, bias = quantised(random(tokens, 64)), quantised(random(48, 64, seed=1)), random(48, seed=2)
    reference = (x.values_MK.double() * x.scale_M1) @ (weight.values_MK.double() * weight.scale_M1).t() + bias
    for multiply in (scaled_product, plain_product):
        found = multiply(x, weight, bias, torch.bfloat16)
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.double(), reference, rtol=2**-7, atol=0.02)


@pytest.fixture(scope="module")
def predictors():
    return {name: models.load("nano", recycles=0, precision=name) for name in ("fp32", "bf16", "fp8")}


def test_all_products_of_the_language_model_are_fp8_and_no_other(predictors):
    network = predictors["fp8"]._network
    found = {name for name, module in network.named_modules() if isinstance(module, Fp8Linear)}
    layers = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "fc1", "fc2")
    assert found == {f"esm.layers.{number}.{name}" for number in range(6) for name in layers}
    assert network.trunk.dtype == torch.bfloat16 and network.precision == "bf16"
    assert {module.values_OK.dtype for module in network.modules() if isinstance(module, Fp8Linear)} == {fp8.FORMAT}


def test_effect_is_small_and_greater_than_that_of_bf16(predictors):
    """A change of no product, or of the wrong scale, would show here."""
    states = {
        name: predictor.embed(SEQUENCES[:1], layers=[1, 6], per_residue=True)[0].residues
        for name, predictor in predictors.items()
    }

    def error(name, layer):
        exact = torch.tensor(states["fp32"][layer])
        return float((torch.tensor(states[name][layer]) - exact).norm() / exact.norm())

    for layer in (1, 6):
        assert 2 * error("bf16", layer) < error("fp8", layer) < 0.2
    folded = {name: predictor.fold(SEQUENCES) for name, predictor in predictors.items()}
    for one, exact in zip(folded["fp8"], folded["fp32"], strict=True):
        assert abs(one.mean_plddt - exact.mean_plddt) < 5


def test_protein_does_not_depend_on_its_batch_in_fp8(predictors):
    together = predictors["fp8"].fold_batch(SEQUENCES, mean_embedding=True)
    for sequence, found in zip(SEQUENCES, together, strict=True):
        [alone] = predictors["fp8"].fold_batch([sequence], mean_embedding=True)
        assert abs(found.mean_embedding - alone.mean_embedding).max() < 0.02
        assert abs(found.mean_plddt - alone.mean_plddt) < 0.5


def test_weights_that_are_not_finite_are_an_error_in_fp8():
    predictor = models.load("nano", recycles=0, precision="fp8")
    predictor._network.esm.layers[0].final_layer_norm.weight[0] = float("nan")
    with pytest.raises(NonFiniteOutput):
        predictor.fold(SEQUENCES)


@pytest.fixture
def nothing_approved(monkeypatch):
    monkeypatch.setattr(policy, "_approved", set())
    monkeypatch.setattr(self_check, "_checked", set())


@pytest.mark.usefixtures("nothing_approved")
def test_operator_that_agrees_is_used(monkeypatch):
    model = LanguageModel(models.config_of("nano").language_model).bfloat16()
    model.use_fp8()
    monkeypatch.setattr(policy, "can_multiply_in_fp8", lambda device: True)
    assert not policy.multiplies_in_fp8(model.layers[0].fc1.values_OK)
    self_check.approve_fp8_products(model)
    assert policy.multiplies_in_fp8(model.layers[0].fc1.values_OK)
    assert policy.multiplies_in_fp8(model.layers[0].fc2.values_OK)


@pytest.mark.usefixtures("nothing_approved")
@pytest.mark.parametrize("fault", ["wrong", "fails"])
def test_operator_that_is_wrong_is_not_used(monkeypatch, caplog, fault):
    model = LanguageModel(models.config_of("nano").language_model).bfloat16()
    model.use_fp8()

    def scaled(x, weight, bias_O, dtype):
        if fault == "fails":
            raise RuntimeError("CUBLAS_STATUS_NOT_SUPPORTED")
        return plain_product(x, weight, bias_O, dtype) * 1.02

    monkeypatch.setattr(policy, "can_multiply_in_fp8", lambda device: True)
    monkeypatch.setattr(fp8, "scaled_product", scaled)
    with caplog.at_level(logging.WARNING):
        self_check.approve_fp8_products(model)
    assert not policy.multiplies_in_fp8(model.layers[0].fc1.values_OK)
    assert "FP8 product of the language model runs by plain torch on cpu, more slowly" in caplog.text


def test_only_a_gpu_with_fp8_units_is_asked(monkeypatch):
    assert not policy.can_multiply_in_fp8("cpu")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (8, 9))
    assert policy.can_multiply_in_fp8("cuda:0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (8, 0))
    assert not policy.can_multiply_in_fp8("cuda:0")
    with pytest.raises(ModelError, match=r"compute capability 8\.9.* has 8\.0: use bf16"):
        models._check_fp8("cuda:0")


def test_fp8_is_for_folding_alone():
    with pytest.raises(ModelError, match="embeddings"):
        models.language_model_of("nano", "fp8")
    layer = torch.nn.Linear(24, 32)
    with pytest.raises(ModelError, match="multiples of 16"):
        Fp8Linear(layer)
    assert precision.get("fp8").fp8_products
