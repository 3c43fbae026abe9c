"""Sizes are read from transformers' configuration, and what this network does not compute is refused."""

import copy
from dataclasses import asdict, replace

import pytest
from transformers import EsmConfig

from foldatlas.folding.config import from_dict, from_transformers
from foldatlas.folding.weights import nano
from foldatlas.schemas.errors import ModelError

RELEASED = {
    "hidden_size": 2560,
    "num_hidden_layers": 36,
    "num_attention_heads": 40,
    "intermediate_size": 10240,
    "vocab_size": 33,
    "position_embedding_type": "rotary",
    "layer_norm_eps": 1e-5,
    "token_dropout": True,
    "emb_layer_norm_before": False,
    "is_folding_model": True,
}


@pytest.fixture
def released():
    """The configuration of esmfold_v1: transformers' defaults for the trunk."""
    return EsmConfig(**RELEASED, esmfold_config={}).to_dict()


def test_the_released_network(released):
    config = from_transformers(released)
    assert config.language_model.head_width == 64
    assert (config.trunk.num_blocks, config.trunk.num_single_heads, config.trunk.num_pair_heads) == (48, 32, 4)
    assert (config.structure_module.num_iterations, config.structure_module.num_heads) == (8, 12)
    assert config.recycles == 3


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("position_embedding_type",), "absolute"),
        (("token_dropout",), False),
        (("layer_norm_eps",), 1e-12),
        (("esmfold_config", "embed_aa"), False),
        (("esmfold_config", "bypass_lm"), True),
        (("esmfold_config", "trunk", "structure_module", "num_angles"), 5),
    ],
)
def test_unsupported_network_options_are_refused(released, path, value):
    section = config = copy.deepcopy(released)
    for name in path[:-1]:
        section = section[name]
    section[path[-1]] = value
    with pytest.raises(ModelError, match=f"{path[-1]}={value!r}"):
        from_transformers(config)


@pytest.mark.parametrize("path", [("hidden_size",), ("esmfold_config",), ("esmfold_config", "trunk", "num_blocks")])
def test_a_missing_size_is_named(released, path):
    section = config = copy.deepcopy(released)
    for name in path[:-1]:
        section = section[name]
    del section[path[-1]]
    with pytest.raises(ModelError, match=path[-1]):
        from_transformers(config)


@pytest.mark.parametrize("value", [0, -3, 2.0, 2.5, True, "40", 40 * 10**9])
@pytest.mark.parametrize(
    "path",
    [
        ("num_hidden_layers",),
        ("num_attention_heads",),
        ("esmfold_config", "lddt_head_hid_dim"),
        ("esmfold_config", "trunk", "num_blocks"),
        ("esmfold_config", "trunk", "pairwise_state_dim"),
        ("esmfold_config", "trunk", "structure_module", "ipa_dim"),
    ],
)
def test_invalid_size_is_refused(released, path, value):
    section = config = copy.deepcopy(released)
    for name in path[:-1]:
        section = section[name]
    section[path[-1]] = value
    with pytest.raises(ModelError, match="must be a whole number"):
        from_transformers(config)


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("language_model", "num_layers"),
        ("trunk", "num_blocks"),
        ("structure_module", "num_iterations"),
        ("structure_module", "num_transition_layers"),
        ("structure_module", "num_torsion_blocks"),
    ],
)
def test_more_layers_than_any_model_has_are_refused(part, name):
    """Each would be laid out before the weights are looked at: 999,999 of them took 7 GB and did not end."""
    config = getattr(nano.CONFIG, part)
    replace(config, **{name: 1_000})
    with pytest.raises(ModelError, match=f"{name}=1001 must be a whole number from 1 to 1,000"):
        replace(config, **{name: 1_001})


def test_recycles_may_be_zero():
    assert replace(nano.CONFIG, recycles=0).recycles == 0
    with pytest.raises(ModelError, match="recycles=-1 must be a whole number from 0"):
        replace(nano.CONFIG, recycles=-1)


def test_heads_must_divide_widths():
    with pytest.raises(ModelError, match="128 channels are not a multiple of 24"):
        replace(nano.CONFIG.trunk, single_head_width=24)
    with pytest.raises(ModelError, match="128 channels are not a multiple of 6"):
        replace(nano.CONFIG.language_model, num_heads=3)


def test_configurations_round_trip_through_dictionaries():
    assert from_dict(asdict(nano.CONFIG)) == nano.CONFIG
