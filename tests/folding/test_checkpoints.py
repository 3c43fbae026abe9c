"""Every published layout of one network opens to the same numbers, and what is damaged or foreign is refused.

The layouts are written here as their publishers write them: transformers' by transformers, fair-esm's from the table
of names in its source (facebookresearch/esm, esm/pretrained.py and esm/model/esm2.py), not from ours.
"""

import json
import re
import sys
from argparse import Namespace
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file

from foldatlas.folding import models
from foldatlas.folding.config import from_transformers
from foldatlas.folding.predictor import Predictor
from foldatlas.folding.weights import fitting, model_files
from foldatlas.folding.weights.checkpoints import open_checkpoint
from foldatlas.schemas.errors import ModelError

OMEGACONF = {
    "omegaconf.dictconfig": ["DictConfig"],
    "omegaconf.listconfig": ["ListConfig"],
    "omegaconf.nodes": ["AnyNode"],
    "omegaconf.base": ["ContainerMetadata", "Metadata"],
}


@pytest.fixture
def omegaconf(monkeypatch):
    """Classes under omegaconf's names that are written as its own are (seen with omegaconf 2.4): a node's content in
    `_content`, a leaf's value in `_val`, metadata beside them. Gone again before anything is read."""

    def write(config, content, path):
        classes = {}
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "omegaconf", ModuleType("omegaconf"))
            for module, names in OMEGACONF.items():
                made = ModuleType(module)
                for name in names:
                    classes[name] = type(name, (), {"__module__": module, "__qualname__": name})
                    setattr(made, name, classes[name])
                patch.setitem(sys.modules, module, made)

            def node(value):
                kind = {dict: "DictConfig", list: "ListConfig"}.get(type(value), "AnyNode")
                made = classes[kind]()
                made._metadata = classes["Metadata" if kind == "AnyNode" else "ContainerMetadata"]()
                made._metadata.__dict__.update(ref_type=dict, object_type=dict, optional=True, key=None)
                if kind == "AnyNode":
                    made._val = value
                elif kind == "DictConfig":
                    made._content = {key: node(item) for key, item in value.items()}
                else:
                    made._content = [node(item) for item in value]
                return made

            torch.save({"cfg": {"model": node(config)}, **content}, path)
        assert not any(name.startswith("omegaconf") for name in sys.modules)

    return write


@pytest.fixture
def fair_folder(four_blocks, omegaconf, fair_language_model, tmp_path):
    """The two files of fair-esm, with the weights of `four_blocks`."""
    state = four_blocks.reference.state_dict()
    folder = tmp_path / "fair"
    folder.mkdir()
    folding = {key: tensor for key, tensor in state.items() if not key.startswith("esm.")}
    config = four_blocks.config.to_dict()["esmfold_config"]
    omegaconf({"_name": "esmfold", **config}, {"model": folding}, folder / "esmfold_3B_v1.pt")
    language = {key.removeprefix("esm."): tensor for key, tensor in state.items() if key.startswith("esm.")}
    cfg = {"model": Namespace(encoder_layers=2, encoder_embed_dim=96, encoder_attention_heads=6, token_dropout=True)}
    fair = fair_language_model(language, 2)
    torch.save({"cfg": cfg, "model": fair}, folder / "esm2_t36_3B_UR50D.pt")
    return folder


def transformers_folder(pair, folder, layout):
    """The same network as transformers 5 writes it, or as its older releases did."""
    pair.reference.save_pretrained(folder, **({"max_shard_size": "150KB"} if layout == "sharded" else {}))
    if layout in ("whole", "sharded"):
        assert (folder / "model.safetensors.index.json").exists() == (layout == "sharded")
        return
    (folder / "model.safetensors").unlink()
    state = dict(pair.reference.state_dict())
    frequencies = state.pop("esm.rotary_embeddings.inv_freq")
    for layer in range(pair.config.num_hidden_layers):
        state[f"esm.encoder.layer.{layer}.attention.self.rotary_embeddings.inv_freq"] = frequencies.clone()
    if layout == "pickled":
        torch.save(state, folder / "pytorch_model.bin")
        return
    parts = [f"pytorch_model-0000{part}-of-00003.bin" for part in (1, 2, 3)]
    place = {key: parts[number % 3] for number, key in enumerate(state)}
    for part in parts:
        torch.save({key: tensor for key, tensor in state.items() if place[key] == part}, folder / part)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": place}))


@pytest.mark.parametrize("layout", ["whole", "sharded", "pickled", "pickled_sharded"])
def test_checkpoint_of_transformers_opens_to_the_same_network(pair, layout, tmp_path):
    transformers_folder(pair, tmp_path / "m", layout)
    same_network(pair, str(tmp_path / "m"))


def test_fair_esm_two_files_open_to_the_same_network(four_blocks, fair_folder):
    same_network(four_blocks, str(fair_folder))
    same_network(four_blocks, str(fair_folder / "esmfold_3B_v1.pt"))


def test_our_own_file_opens_to_the_same_network(pair, tmp_path):
    fitting.save(pair.network, tmp_path / "ours.safetensors")
    same_network(pair, str(tmp_path / "ours.safetensors"))


def same_network(pair, path):
    """The model at `path` has the sizes, each weight and the digest of `pair`'s."""
    predictor = models.load(path)
    expected = pair.network.state_dict()
    assert predictor.config == models.config_of(path) == from_transformers(pair.config.to_dict())
    found = predictor._network.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert models.settings_of(path).weights == predictor.settings.weights == fitting.digest(expected)


def test_the_fair_layout_folds_as_transformers(four_blocks, fair_folder, random_sequence):
    sequence = random_sequence(41)
    (found,) = models.load(str(fair_folder), recycles=1).fold([sequence])
    (ours,) = Predictor(four_blocks.network, models.settings_of(str(fair_folder), 1)).fold([sequence])
    theirs = four_blocks.fold_reference(sequence, 1)
    assert (found.positions == ours.positions).all()
    assert abs(found.ptm - theirs.ptm.item()) < 1e-4
    assert abs(found.plddt / 100 - theirs.plddt[0, :, 1].numpy()).max() < 1e-4


def test_half_precision_files_have_the_digest_of_their_values(two_blocks, tmp_path):
    """float16 weights, as released, and the same numbers saved again as float32 are one network."""
    two_blocks.reference.save_pretrained(tmp_path / "a")
    state = load_file(tmp_path / "a" / "model.safetensors")
    digests = set()
    for name, dtype in (("narrow", torch.float16), ("wide", torch.float32)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text((tmp_path / "a" / "config.json").read_text())
        rounded = {k: t.half().to(dtype) if t.is_floating_point() else t for k, t in state.items()}
        save_file(rounded, tmp_path / name / "model.safetensors")
        digests.add(models.settings_of(str(tmp_path / name)).weights)
    assert len(digests) == 1
    assert digests != {fitting.digest(two_blocks.network.state_dict())}


def test_changed_weights_in_the_same_place_have_another_digest(two_blocks, tmp_path):
    path = tmp_path / "m.safetensors"
    fitting.save(two_blocks.network, path)
    before = models.settings_of(str(path)).weights
    state = load_file(path)
    state["ptm_head.bias"] = state["ptm_head.bias"] + 1
    network = fitting.build(two_blocks.network.config, state)
    path.unlink()
    fitting.save(network, path)
    assert models.settings_of(str(path)).weights not in (before, None)


@pytest.fixture
def folder(two_blocks, tmp_path):
    transformers_folder(two_blocks, tmp_path / "m", "pickled_sharded")
    return tmp_path / "m"


def test_a_missing_part_is_named(folder):
    (folder / "pytorch_model-00002-of-00003.bin").unlink()
    with pytest.raises(ModelError, match=r"lists pytorch_model-00002-of-00003\.bin, which is not beside it"):
        models.settings_of(str(folder))


def test_a_part_outside_the_folder_is_refused(folder, tmp_path):
    index = folder / "pytorch_model.bin.index.json"
    torch.save({}, tmp_path / "elsewhere.bin")
    index.write_text(json.dumps({"weight_map": {"a": "../elsewhere.bin"}}))
    with pytest.raises(ModelError, match=r"'\.\./elsewhere\.bin', which is outside its folder"):
        models.settings_of(str(folder))


def test_a_tensor_in_two_parts_is_named(folder):
    part = folder / "pytorch_model-00001-of-00003.bin"
    first, second = (torch.load(folder / f"pytorch_model-0000{n}-of-00003.bin", weights_only=True) for n in (1, 2))
    key = next(iter(second))
    torch.save({**first, key: second[key]}, part)
    with pytest.raises(ModelError, match=rf"has {re.escape(key)}, which another"):
        models.load(str(folder))


def test_a_tensor_that_no_part_holds_is_named(folder):
    part = folder / "pytorch_model-00003-of-00003.bin"
    state = torch.load(part, weights_only=True)
    lost = next(key for key in state if key.startswith("trunk."))
    torch.save({key: tensor for key, tensor in state.items() if key != lost}, part)
    with pytest.raises(ModelError, match=rf"lack {re.escape(lost)}:"):
        models.load(str(folder))


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_a_file_cut_short_is_named(two_blocks, tmp_path, file):
    transformers_folder(two_blocks, tmp_path / "m", "whole" if "safe" in file else "pickled")
    path = tmp_path / "m" / file
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ModelError, match=rf"{file}.*fetch it again"):
        models.load(str(tmp_path / "m"))


def test_folding_file_names_its_missing_language_model(fair_folder):
    (fair_folder / "esm2_t36_3B_UR50D.pt").unlink()
    with pytest.raises(ModelError, match=r"put its language model, esm2_t36_3B_UR50D\.pt, beside it"):
        models.config_of(str(fair_folder))


def test_another_kind_of_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="another type of model"):
        models.config_of(str(tmp_path))


def test_a_checkpoint_stays_in_its_file(two_blocks, tmp_path):
    """Opening maps: a change of the file is seen in a tensor that was opened before."""
    for layout, file in (("whole", "model.safetensors"), ("pickled", "pytorch_model.bin")):
        transformers_folder(two_blocks, tmp_path / layout, layout)
        path = tmp_path / layout / file
        tensor = open_checkpoint(model_files.find(str(tmp_path / layout))).state["ptm_head.weight"]
        before = tensor.clone()
        old = before.numpy().tobytes()
        content = path.read_bytes()
        assert content.count(old) == 1
        with path.open("r+b") as written:
            written.seek(content.index(old))
            written.write(bytes(len(old)))
        assert tensor.abs().max() == 0 and before.abs().max() > 0
