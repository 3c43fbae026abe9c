"""Which numbers have 16 bits, that the others keep 32, and how far results move."""

import copy

import pytest
import torch
from torch import nn

from foldatlas.folding.network import precision
from foldatlas.folding.network.esmfold import OutputFlags
from foldatlas.folding.network.linear import Linear
from foldatlas.folding.network.tokens import encode
from foldatlas.folding.planning import cost
from foldatlas.schemas.errors import ModelError

ROTARY = "esm.inv_freq"
# How far 16 bits may move what float32 gives, positions and pLDDT as the mean over residues: three times the most
# that was measured on these networks (0.10 and 0.011 angstrom; 0.016 and 0.0012 of pLDDT; 4e-4 and 2e-5 of pTM).
ANGSTROM = {"bf16": 0.3, "fp16": 0.03}
PLDDT = {"bf16": 0.05, "fp16": 0.005}
PTM = {"bf16": 1e-3, "fp16": 1e-4}


@pytest.fixture(scope="module")
def converted(two_blocks):
    """The same network in each precision."""
    networks = {}
    for name, policy in precision.PRECISIONS.items():
        networks[name] = copy.deepcopy(two_blocks.network)
        policy.apply(networks[name])
    return networks


@pytest.mark.parametrize(
    ("name", "language_model", "trunk"),
    [
        ("fp32", torch.float32, torch.float32),
        ("bf16", torch.bfloat16, torch.bfloat16),
        ("fp16", torch.float16, torch.float32),
    ],
)
def test_every_tensor_has_the_type_of_its_part(converted, name, language_model, trunk):
    network = converted[name]
    for key, tensor in network.state_dict().items():
        if key.startswith("trunk.blocks."):
            expected = trunk
        elif key.startswith("esm.") and key != ROTARY:
            expected = language_model
        else:
            expected = torch.float32
        assert tensor.dtype == expected == precision.get(name).dtype_of(key), key
    assert network.precision == name
    ideal = network.trunk.structure_module.ideal_residues
    assert ideal.position_RA3.dtype == torch.float32
    assert not ideal.group_RA.is_floating_point()


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_layer_outputs_have_the_dtype_of_their_part(converted, name):
    """Seen from outside: the type that every layer is given and returns, while a protein is folded."""
    network, policy = converted[name], precision.get(name)
    seen = {}

    def note(key):
        def hook(module, arguments, result):
            tensors = [x for x in (*arguments, result) if isinstance(x, torch.Tensor) and x.is_floating_point()]
            seen.setdefault(key, set()).update(tensor.dtype for tensor in tensors)

        return hook

    kinds = (Linear, nn.LayerNorm)
    handles = [
        module.register_forward_hook(note(key)) for key, module in network.named_modules() if isinstance(module, kinds)
    ]
    with torch.inference_mode():
        folded = network(encode(["MKTAYIAKQRQISFVK"]), recycles=1, outputs=OutputFlags(True, True, True))
    for handle in handles:
        handle.remove()
    assert len(seen) > 80
    for key, dtypes in seen.items():
        assert dtypes == {policy.dtype_of(f"{key}.weight")}, key
    for output in ("positions_BLA3", "plddt_BL", "ptm_B", "mean_embedding_BD", "pae_logits_BLLN"):
        assert getattr(folded, output).dtype == torch.float32, output


@pytest.mark.parametrize("name", ["bf16", "fp16"])
@pytest.mark.parametrize("length", [1, 23, 90])
def test_results_stay_near_float32(converted, fold, random_sequence, name, length):
    sequence = random_sequence(length)
    expected, found = (fold(converted[which], [sequence], 3) for which in ("fp32", name))
    moved = (found.positions_BLA3 - expected.positions_BLA3).norm(dim=-1).mean().item()
    assert 0 < moved <= ANGSTROM[name]
    assert (found.plddt_BL - expected.plddt_BL).abs().mean() <= PLDDT[name]
    assert (found.ptm_B - expected.ptm_B).abs() <= PTM[name]
    for value in (found.positions_BLA3, found.plddt_BL, found.ptm_B, found.pae_logits_BLLN):
        assert value.isfinite().all()


def test_layer_norm_and_softmax_add_in_float32():
    """In 16 bits, the mean of 4,096 numbers around 256 would be off by whole units."""
    x = (256 + torch.randn(8, 4096, generator=torch.Generator().manual_seed(0))).bfloat16()
    expected = torch.nn.functional.layer_norm(x.float(), (4096,))
    torch.testing.assert_close(torch.nn.functional.layer_norm(x, (4096,)).float(), expected, atol=0.02, rtol=0)
    total = torch.zeros(1, 4096, dtype=torch.bfloat16).softmax(dim=-1).float().sum().item()
    assert total == pytest.approx(1, abs=1e-3)


def test_rotary_angles_are_exact_at_the_end_of_a_long_protein(converted):
    from foldatlas.folding.network.language_model import Rotation

    rotation = Rotation(converted["fp16"].esm.inv_freq, torch.arange(2048))
    angles = torch.outer(torch.arange(2048, dtype=torch.float64), converted["fp16"].esm.inv_freq.double())
    width = angles.shape[1]
    torch.testing.assert_close(rotation.cos_TK[:, :width].double(), angles.cos(), atol=1e-3, rtol=0)


def test_a_trunk_in_float16_is_refused_with_the_reason():
    with pytest.raises(ModelError, match="65,504"):
        precision.Precision("half", language_model=torch.float16, trunk=torch.float16)


def test_a_network_converted_by_hand_to_float16_is_refused(converted):
    network = copy.deepcopy(converted["fp32"]).half()
    with pytest.raises(ModelError, match="65,504"), torch.inference_mode():
        network(encode(["MKTAY"]), recycles=0, outputs=OutputFlags())


def test_triangle_product_overflows_float16_before_its_norm(converted):
    """The reason is real: this sum is infinite in float16, finite in bfloat16, and its LayerNorm is harmless."""
    module = copy.deepcopy(converted["fp32"].trunk.blocks[0].tri_mul_out)
    pair, mask = torch.randn(1, 300, 300, 32, generator=torch.Generator().manual_seed(0)), torch.ones(1, 300).bool()
    for layer in (module.linear_a_p, module.linear_b_p):
        layer.bias.fill_(40.0)
    with torch.inference_mode():
        updates = {}
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            updates[dtype] = pair.to(dtype)
            module.to(dtype)(updates[dtype], mask, rows=300)
    assert updates[torch.bfloat16].isfinite().all()
    assert not updates[torch.float16].isfinite().all()


def test_names():
    with pytest.raises(ModelError, match=r"'fp4'.*fp32, bf16, fp16, fp8"):
        precision.get("fp4")
    with pytest.raises(ModelError, match="float64"):
        precision.of(torch.float64, torch.float32)
    numbers = {
        name: (policy.language_model.itemsize, policy.trunk.itemsize) for name, policy in precision.PRECISIONS.items()
    }
    assert numbers == cost.NUMBER_BYTES
