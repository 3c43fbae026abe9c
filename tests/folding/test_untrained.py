"""Generated weights: the same bits everywhere."""

import hashlib

import numpy as np
import pytest

from foldatlas.folding.weights import fitting, nano, untrained

SHAPES = {
    "a.weight": (30, 20),
    "a.bias": (30,),
    "norm.weight": (30,),
    "embedding.weight": (23, 30),
    "esm.inv_freq": (16,),
}


def test_weights_have_the_promised_digest():
    assert fitting.digest(fitting.generate(nano.CONFIG).state_dict()) == untrained.DIGEST


def test_a_tensor_depends_on_its_name_alone():
    together = untrained.generate(SHAPES)
    for name, shape in reversed(SHAPES.items()):
        np.testing.assert_array_equal(untrained.generate({name: shape})[name], together[name])
    assert not np.array_equal(untrained.generate({"b.bias": (30,)})["b.bias"], together["a.bias"])


def test_random_bits_are_those_of_pcg64():
    """From the definition: the top 53 of 64 bits, as a number in [-1, 1), times the square root of 3 / fan-in."""
    seed = int.from_bytes(hashlib.sha256(b"FoldAtlas nano 1 a.weight").digest()[:16], "little")
    uniform = np.random.Generator(np.random.PCG64(seed)).random((30, 20)) * 2 - 1
    np.testing.assert_array_equal(
        untrained.generate(SHAPES)["a.weight"], (uniform * np.sqrt(3 / 20)).astype(np.float32)
    )


def test_rotary_frequencies_are_powers_of_ten_thousand():
    np.testing.assert_allclose(untrained.generate(SHAPES)["esm.inv_freq"], 10_000.0 ** (-np.arange(16) / 16), rtol=1e-6)


def test_layer_norms_scale_by_about_one():
    network = fitting.generate(nano.CONFIG)
    scales = [module.weight.mean().item() for module in network.modules() if type(module).__name__ == "LayerNorm"]
    assert len(scales) > 30
    assert scales == pytest.approx([1.0] * len(scales), abs=0.05)
