"""Both kernels of a linear layer against each other and float64, and when which of them is used."""

import pytest
import torch

from foldatlas.folding.network import linear as linear_module
from foldatlas.folding.network.linear import Linear, has_onednn, linear, products

# Sums of 300 float32 numbers of about 1.
ROUNDING = 1e-4
# Of one bfloat16 number, relative: 8 bits.
HALF_ROUNDING = 2**-8
TORCH = torch.nn.functional.linear
ONEDNN = linear_module._by_onednn


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def used(monkeypatch):
    """Names of the kernels that are called, in order."""
    seen = []

    def noting(name, kernel):
        def call(*arguments):
            seen.append(name)
            return kernel(*arguments)

        return call

    for dtype in (torch.float32, torch.bfloat16):
        has_onednn(dtype)  # tried before the kernels are wrapped
    monkeypatch.setattr(linear_module, "_by_onednn", noting("onednn", ONEDNN))
    monkeypatch.setattr(linear_module.F, "linear", noting("torch", TORCH))
    return seen


@pytest.fixture
def forgetting():
    """The trial of the operator is made anew in the test, and again after it."""
    has_onednn.cache_clear()
    yield
    has_onednn.cache_clear()


NEEDS_ONEDNN = pytest.mark.skipif(not has_onednn(torch.float32), reason="this torch has no oneDNN")
KERNELS = [TORCH, pytest.param(ONEDNN, marks=NEEDS_ONEDNN)]


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("shape", [(1, 300), (7, 300), (2, 5, 3, 300)])
@pytest.mark.parametrize("kernel", KERNELS)
def test_each_kernel_is_the_product(kernel, shape, with_bias):
    x, weight, bias = draw(*shape), draw(40, 300, seed=1), draw(40, seed=2) if with_bias else None
    expected = x.double() @ weight.double().T + (0 if bias is None else bias.double())
    with torch.inference_mode():
        found = kernel(x, weight, bias)
    assert found.dtype == torch.float32 and found.shape == (*shape[:-1], 40)
    torch.testing.assert_close(found.double(), expected, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("kernel", KERNELS)
def test_strided_and_transposed_inputs_are_read_in_place(kernel):
    x, weight = draw(6, 8, 50), draw(30, 50, seed=1)
    with torch.inference_mode():
        for view in (x[:, 2:5], x.transpose(0, 1), x[..., ::2]):
            narrow = weight[:, : view.shape[-1]]
            expected = view.double() @ narrow.double().T
            torch.testing.assert_close(kernel(view, narrow, None).double(), expected, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("grad", [False, True])
def test_relu(grad):
    """Finite numbers and NaN: a weight that is NaN must show in the output."""
    x, weight = draw(50, 30), draw(20, 30, seed=1)
    with torch.set_grad_enabled(grad):
        torch.testing.assert_close(linear(x, weight, relu=True), (x @ weight.T).clamp(min=0), atol=ROUNDING, rtol=0)
        weight[3, 4] = torch.nan
        assert linear(x, weight, relu=True).isnan().any(dim=0).nonzero().tolist() == [[3]]


@NEEDS_ONEDNN
@pytest.mark.parametrize("size", [20, 96, 130])
def test_products_of_a_batch(size, used):
    a, b = draw(3, size, size), draw(3, size, size, seed=1)
    with torch.inference_mode():
        found = products(a, b)
    torch.testing.assert_close(found.double(), a.double() @ b.double().mT, atol=ROUNDING, rtol=0)
    assert used == (["onednn"] * 3 if size >= 96 else [])
    found = products(a.requires_grad_(), b)
    torch.testing.assert_close(found.double(), a.double() @ b.double().mT, atol=ROUNDING, rtol=0)
    assert found.grad_fn is not None


def test_with_gradients_torch_multiplies(used):
    x, weight, bias = draw(5, 8).requires_grad_(), draw(3, 8).requires_grad_(), draw(3).requires_grad_()
    linear(x, weight, bias, relu=True).square().sum().backward()
    assert used == ["torch"]
    found = [tensor.grad.clone() for tensor in (x, weight, bias)]
    reference = [tensor.detach().double().requires_grad_() for tensor in (x, weight, bias)]
    (reference[0] @ reference[1].T + reference[2]).relu().square().sum().backward()
    for ours, theirs in zip(found, reference, strict=True):
        torch.testing.assert_close(ours.double(), theirs.grad, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_without_gradients_onednn_multiplies(dtype, used):
    """Not float64: oneDNN has none."""
    with torch.no_grad():
        linear(draw(2, 8).to(dtype), draw(3, 8).to(dtype))
    assert used == ["onednn" if dtype != torch.float64 and has_onednn(dtype) else "torch"]


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sigmoid_and_factor(dtype, grad):
    """Against float64; in bfloat16 rounded once by oneDNN, and after every step by torch with gradients."""
    layer = Linear(30, 20).to(dtype)
    x, factor = draw(2, 7, 30).to(dtype), draw(2, 7, 20, seed=1).to(dtype)
    y = torch.nn.functional.linear(x.double(), layer.weight.double(), layer.bias.double())
    rounding = {torch.float32: ROUNDING, torch.bfloat16: (1 + 2 * grad) * HALF_ROUNDING}[dtype]
    with torch.set_grad_enabled(grad):
        torch.testing.assert_close(layer.sigmoid(x).double(), y.sigmoid(), atol=rounding, rtol=0)
        torch.testing.assert_close(layer.times(x, factor).double(), y * factor, atol=rounding, rtol=rounding)


def test_float32_has_the_bits_of_separate_steps():
    layer, x, factor = Linear(128, 128), draw(50, 128), draw(50, 128, seed=1)
    with torch.inference_mode():
        y = linear(x, layer.weight, layer.bias)
        assert torch.equal(layer.sigmoid(x), y.sigmoid())
        assert torch.equal(layer.times(x, factor), y * factor)


def test_nan_shows_through_the_sigmoid():
    layer = Linear(30, 20).bfloat16().requires_grad_(False)
    layer.weight[3, 4] = torch.nan
    with torch.inference_mode():
        assert layer.sigmoid(draw(50, 30).bfloat16()).isnan().any(dim=0).nonzero().tolist() == [[3]]


def other_signature(x, weight):
    raise AssertionError("never called: too many arguments are given")


def raising(*_):
    raise RuntimeError("mkldnn::_linear_pointwise() is missing value for argument 'scale'")


@pytest.mark.parametrize(
    "kernel", [other_signature, raising, lambda x, weight, *_: x @ weight.T, lambda *_: torch.zeros(2, 2, 4)]
)
def test_an_operator_that_changed_is_not_used(kernel, monkeypatch, forgetting):
    """It raises, wants other arguments, forgets the bias, or gives other numbers: torch's own product instead."""
    monkeypatch.setattr(linear_module, "_by_onednn", kernel)
    assert not has_onednn(torch.float32)
    x, weight, bias = draw(4, 8), draw(3, 8, seed=1), draw(3, seed=2)
    with torch.inference_mode():
        torch.testing.assert_close(linear(x, weight, bias), x @ weight.T + bias)


def test_a_torch_without_onednn(monkeypatch, forgetting):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not has_onednn(torch.float32)
