"""Loading refuses what does not fit, understands every published spelling, and digests what it loaded."""

import hashlib
import json
import struct
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from foldatlas.folding.config import from_transformers
from foldatlas.folding.weights import fitting, model_files
from foldatlas.folding.weights.checkpoints import open_checkpoint
from foldatlas.folding.weights.tensor_names import canonical_name
from foldatlas.schemas.errors import ModelError


@pytest.fixture
def state(two_blocks):
    return dict(two_blocks.reference.state_dict())


@pytest.fixture
def config(two_blocks):
    return two_blocks.network.config


def test_a_missing_tensor_is_named(config, state):
    del state["trunk.blocks.1.tri_mul_in.linear_z.bias"]
    with pytest.raises(ModelError, match=r"lack trunk\.blocks\.1\.tri_mul_in\.linear_z\.bias:"):
        fitting.build(config, state)


def test_missing_tensors_are_counted(config, state):
    del state["trunk.trunk2sm_s.bias"], state["esm.encoder.layer.0.LayerNorm.weight"]
    with pytest.raises(ModelError, match=r"lack esm\.layers\.0\.final_layer_norm\.weight and 1 more"):
        fitting.build(config, state)


@pytest.mark.parametrize("key", ["trunk.blocks.2.layernorm_1.weight", "esm.pooler.dense.weight", "lm_headless"])
def test_an_unexpected_tensor_is_named(config, state, key):
    state[key] = torch.zeros(64)
    with pytest.raises(ModelError, match=key):
        fitting.build(config, state)


def test_a_misshapen_tensor_is_named_with_both_shapes(config, state):
    state["ptm_head.weight"] = torch.zeros(64, 33)
    with pytest.raises(ModelError, match=r"ptm_head\.weight has shape \(64, 33\), the network needs \(64, 32\)"):
        fitting.build(config, state)


def test_a_tensor_of_integers_is_refused(config, state):
    state["ptm_head.bias"] = torch.zeros(64, dtype=torch.int64)
    with pytest.raises(ModelError, match=r"ptm_head\.bias holds torch\.int64"):
        fitting.build(config, state)


def test_a_tensor_given_twice_is_refused(config, state):
    state["esm.encoder.layer.0.LayerNorm.gamma"] = state["esm.encoder.layer.0.LayerNorm.weight"]
    with pytest.raises(ModelError, match="twice"):
        fitting.build(config, state)


def test_another_vocabulary_is_refused(config, state):
    state["af2_to_esm"] = state["af2_to_esm"].flip(0)
    with pytest.raises(ModelError, match="another vocabulary"):
        fitting.build(config, state)


def test_sizes_of_another_network_are_refused(config, state):
    deeper = replace(config, trunk=replace(config.trunk, num_blocks=3))
    with pytest.raises(ModelError, match=r"lack trunk\.blocks\.2\."):
        fitting.build(deeper, state)


def test_unused_tensors_are_exactly_the_heads_that_folding_skips(two_blocks, state):
    used = {canonical_name(key) for key in state} & set(two_blocks.network.state_dict())
    unused = {key for key in state if canonical_name(key) not in used}
    assert unused == {
        "af2_to_esm",
        "lm_head.weight",
        "lm_head.bias",
        "esm.contact_head.regression.weight",
        "esm.contact_head.regression.bias",
    }
    assert used == set(two_blocks.network.state_dict())


def test_older_spellings_load_to_the_same_network(two_blocks, state):
    older = {}
    for key, tensor in state.items():
        if ".encoder." in key and "LayerNorm" in key:
            key = key.replace("weight", "gamma").replace("bias", "beta")
        older[key] = tensor
    frequencies = older.pop("esm.rotary_embeddings.inv_freq")
    for layer in range(3):
        older[f"esm.encoder.layer.{layer}.attention.self.rotary_embeddings.inv_freq"] = frequencies.clone()
    older["esm.embeddings.position_ids"] = torch.arange(1026).unsqueeze(0)
    network = fitting.build(two_blocks.network.config, older)
    assert fitting.digest(network.state_dict()) == fitting.digest(two_blocks.network.state_dict())

    older["esm.encoder.layer.2.attention.self.rotary_embeddings.inv_freq"] += 1e-3
    with pytest.raises(ModelError, match=r"layer\.1.*layer\.2.*differ"):
        fitting.build(two_blocks.network.config, older)


def test_weights_saved_by_transformers_load_to_the_same_network(two_blocks, tmp_path):
    two_blocks.reference.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    config = from_transformers(json.loads((tmp_path / "config.json").read_text()))
    network = fitting.build(config, saved)
    assert config == two_blocks.network.config
    assert fitting.digest(network.state_dict()) == fitting.digest(two_blocks.network.state_dict())


def test_stored_rotary_frequencies_are_used_as_they_are(config, state):
    """Released ones were rounded to half precision in training; computing them anew would change the angles."""
    halved = state["esm.rotary_embeddings.inv_freq"].half()
    state["esm.rotary_embeddings.inv_freq"] = halved
    network = fitting.build(config, state)
    assert torch.equal(network.esm.inv_freq, halved.float())


def test_half_precision_weights_are_computed_in_single_precision(config, state):
    network = fitting.build(config, {k: t.half() if t.is_floating_point() else t for k, t in state.items()})
    assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float32}


def test_our_own_files_round_trip(two_blocks, tmp_path):
    path = tmp_path / "network.safetensors"
    fitting.save(two_blocks.network, path)
    checkpoint = open_checkpoint(model_files.find(str(path)))
    assert checkpoint.config == two_blocks.network.config
    assert fitting.digest(checkpoint.state) == fitting.digest(two_blocks.network.state_dict())


def test_other_files_are_refused(tmp_path):
    def save_torch(path):
        torch.save({"a": torch.zeros(1)}, path)

    for name, write in (
        ("text", lambda path: path.write_text("no weights")),
        ("foreign", lambda path: save_file({"a": torch.zeros(1)}, path)),
        ("pickle", save_torch),
    ):
        path = tmp_path / f"{name}.safetensors"
        write(path)
        with pytest.raises(ModelError, match=name):
            open_checkpoint(model_files.find(str(path)))


def test_tensors_of_the_requested_dtype_are_not_copied(config, state):
    """A tensor that has its type already is assigned, not copied: that is how mapped weights stay in their file."""

    def dtype_of(name):
        return torch.bfloat16 if name.startswith("trunk.blocks.") else torch.float32

    network = fitting.build(config, state, dtype_of=dtype_of)
    for name, tensor in network.state_dict().items():
        assert tensor.dtype == dtype_of(name)
    assert network.ptm_head.weight.data_ptr() == state["ptm_head.weight"].data_ptr()
    assert torch.equal(
        network.trunk.blocks[1].mlp_pair.mlp[1].weight, state["trunk.blocks.1.mlp_pair.mlp.1.weight"].bfloat16()
    )


def test_digest_is_of_names_shapes_and_values_alone():
    state = {"b": torch.tensor([[1.0, 2.0]]), "a": torch.tensor([3.0])}
    digest = fitting.digest(state)
    lines = f"a (1,) {sha256(struct.pack('<f', 3.0))}\nb (1, 2) {sha256(struct.pack('<2f', 1.0, 2.0))}\n"
    assert digest == sha256(lines.encode())
    same = [
        dict(reversed(state.items())),
        {"a": state["a"], "b": torch.tensor([[1.0], [2.0]]).t()},
        {"a": state["a"].half(), "b": state["b"].bfloat16()},
    ]
    assert {fitting.digest(other) for other in same} == {digest}
    others = [
        {**state, "b": torch.tensor([1.0, 2.0])},
        {**state, "b": torch.tensor([[1.0], [2.0]])},
        {**state, "b": torch.tensor([[1.0, 2.0000002]])},
        {"c": state["b"], "a": state["a"]},
        {"b": state["b"]},
    ]
    assert len({fitting.digest(other) for other in others} - {digest}) == len(others)


def test_digest_of_a_tensor_of_several_chunks(monkeypatch):
    values = torch.arange(1000, dtype=torch.float32)
    monkeypatch.setattr(fitting, "DIGEST_CHUNK", 7)
    assert fitting.digest({"a": values}) == sha256(f"a (1000,) {sha256(values.numpy().tobytes())}\n".encode())


def sha256(content):
    return hashlib.sha256(content).hexdigest()
