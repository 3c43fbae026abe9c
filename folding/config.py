"""Sizes of the networks, and reading of published configurations.

Names follow Lin et al. 2023 (ESM-2 and ESMFold). `from_transformers` reads the configuration that transformers
stores beside the weights, `from_fair` the one inside fair-esm's file. Sizes that differ between published models are
fields. Sizes that are the same in all of them are constants of the modules that use them; a configuration with another
value is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from foldatlas.schemas.errors import ModelError

MAX_SIZE: Final = 1_000_000  # of any width or count; those of published models are below 21,000
MAX_LAYERS: Final = 1_000  # published models have fewer than 49; modules are built before the weights are checked
_LAYERS: Final = ("num_layers", "num_blocks", "num_iterations", "num_transition_layers", "num_torsion_blocks")


@dataclass(frozen=True, slots=True)
class LanguageModelConfig:
    """ESM-2: `num_layers` transformer layers of `width` channels."""

    num_layers: int
    width: int
    num_heads: int
    transition_width: int

    def __post_init__(self) -> None:
        _require_sizes(self)
        _require_multiple("language model width", self.width, 2 * self.num_heads)

    @property
    def head_width(self) -> int:
        return self.width // self.num_heads


@dataclass(frozen=True, slots=True)
class StructureModuleConfig:
    """AlphaFold 2's structure module: `num_iterations` iterations that share their weights."""

    num_iterations: int
    single_width: int
    pair_width: int
    num_heads: int
    head_width: int
    num_query_points: int
    num_value_points: int
    num_transition_layers: int
    torsion_width: int
    num_torsion_blocks: int

    def __post_init__(self) -> None:
        _require_sizes(self)


@dataclass(frozen=True, slots=True)
class TrunkConfig:
    """The folding trunk: `num_blocks` blocks that update a single and a pair representation."""

    num_blocks: int
    single_width: int
    pair_width: int
    single_head_width: int
    pair_head_width: int
    max_relative_position: int

    def __post_init__(self) -> None:
        _require_sizes(self)
        _require_multiple("single representation", self.single_width, self.single_head_width)
        _require_multiple("pair representation", self.pair_width, self.pair_head_width)
        _require_multiple("pair representation", self.pair_width, 2)

    @property
    def num_single_heads(self) -> int:
        return self.single_width // self.single_head_width

    @property
    def num_pair_heads(self) -> int:
        return self.pair_width // self.pair_head_width


@dataclass(frozen=True, slots=True)
class ESMFoldConfig:
    """The whole network. `recycles` is the default number of trunk passes after the first."""

    language_model: LanguageModelConfig
    trunk: TrunkConfig
    structure_module: StructureModuleConfig
    plddt_width: int
    recycles: int

    def __post_init__(self) -> None:
        _require_size("plddt_width", self.plddt_width)
        _require_size("recycles", self.recycles, least=0)  # the first trunk pass always runs


def from_dict(sizes: Mapping[str, Any]) -> ESMFoldConfig:
    """Invert `dataclasses.asdict`. Raise KeyError or TypeError for missing or unknown fields."""
    return ESMFoldConfig(
        language_model=LanguageModelConfig(**sizes["language_model"]),
        trunk=TrunkConfig(**sizes["trunk"]),
        structure_module=StructureModuleConfig(**sizes["structure_module"]),
        **{name: value for name, value in sizes.items() if name not in ("language_model", "trunk", "structure_module")},
    )


def from_transformers(config: Mapping[str, Any]) -> ESMFoldConfig:
    """Return the sizes in a transformers configuration: `EsmConfig.to_dict()` or the content of a `config.json`.

    Raise ModelError if a size is missing or a setting is not supported by this network.
    """
    try:
        return _fold_sizes(config["esmfold_config"], _language_model_sizes(config))
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"not a configuration of transformers' EsmForProteinFolding ({error!r}): give the complete config.json "
            "that was published with the weights"
        ) from error


def language_model_from_transformers(config: Mapping[str, Any]) -> LanguageModelConfig:
    """Return the sizes of a language model, transformers' EsmModel or EsmForMaskedLM. Raise as `from_transformers`."""
    try:
        return _language_model_sizes(config)
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"not a configuration of transformers' EsmModel ({error!r}): give the complete config.json that was "
            "published with the weights"
        ) from error


def from_fair(config: Any, language_model: LanguageModelConfig, path: str) -> ESMFoldConfig:
    """Return the sizes in the configuration of fair-esm's ESMFold file, given as plain dictionaries.

    Missing values have fair-esm's defaults. The language model, and its sizes, are in another file. Raise as
    `from_transformers`; the message names `path`.
    """
    try:
        folding = {**_FAIR_DEFAULTS, **config["model"]}
        trunk = {**_FAIR_TRUNK_DEFAULTS, **folding["trunk"]}
        structure = {**_FAIR_STRUCTURE_MODULE_DEFAULTS, **trunk["structure_module"]}
        return _fold_sizes({**folding, "trunk": {**trunk, "structure_module": structure}}, language_model)
    except (KeyError, TypeError) as error:
        raise ModelError(f"{path} has no configuration of ESMFold ({error!r}): give the file as published") from error


def _language_model_sizes(config: Mapping[str, Any]) -> LanguageModelConfig:
    _require_constants(config, _LANGUAGE_MODEL_CONSTANTS)
    return LanguageModelConfig(
        num_layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        num_heads=config["num_attention_heads"],
        transition_width=config["intermediate_size"],
    )


def _fold_sizes(folding: Mapping[str, Any], language_model: LanguageModelConfig) -> ESMFoldConfig:
    """Return the sizes in a section with the names that fair-esm and transformers share."""
    trunk = folding["trunk"]
    structure = trunk["structure_module"]
    _require_constants(folding, _FOLDING_CONSTANTS)
    _require_constants(structure, _STRUCTURE_MODULE_CONSTANTS)
    return ESMFoldConfig(
        language_model=language_model,
        trunk=TrunkConfig(
            num_blocks=trunk["num_blocks"],
            single_width=trunk["sequence_state_dim"],
            pair_width=trunk["pairwise_state_dim"],
            single_head_width=trunk["sequence_head_width"],
            pair_head_width=trunk["pairwise_head_width"],
            max_relative_position=trunk["position_bins"],
        ),
        structure_module=StructureModuleConfig(
            num_iterations=structure["num_blocks"],
            single_width=structure["sequence_dim"],
            pair_width=structure["pairwise_dim"],
            num_heads=structure["num_heads_ipa"],
            head_width=structure["ipa_dim"],
            num_query_points=structure["num_qk_points"],
            num_value_points=structure["num_v_points"],
            num_transition_layers=structure["num_transition_layers"],
            torsion_width=structure["resnet_dim"],
            num_torsion_blocks=structure["num_resnet_blocks"],
        ),
        plddt_width=folding["lddt_head_hid_dim"],
        # `max_recycles` counts all passes, in both; their argument `num_recycles` counts those after the first.
        recycles=trunk["max_recycles"] - 1,
    )


# The defaults of fair-esm's ESMFoldConfig, FoldingTrunkConfig and StructureModuleConfig: esmfold_v1's sizes.
_FAIR_DEFAULTS: Final = {"lddt_head_hid_dim": 128, "trunk": {}}
_FAIR_TRUNK_DEFAULTS: Final = {
    "num_blocks": 48,
    "sequence_state_dim": 1024,
    "pairwise_state_dim": 128,
    "sequence_head_width": 32,
    "pairwise_head_width": 32,
    "position_bins": 32,
    "max_recycles": 4,
    "structure_module": {},
}
_FAIR_STRUCTURE_MODULE_DEFAULTS: Final = {
    "num_blocks": 8,
    "sequence_dim": 384,
    "pairwise_dim": 128,
    "ipa_dim": 16,
    "resnet_dim": 128,
    "num_heads_ipa": 12,
    "num_qk_points": 4,
    "num_v_points": 8,
    "num_transition_layers": 1,
    "num_resnet_blocks": 2,
}

_LANGUAGE_MODEL_CONSTANTS = {
    "vocab_size": 33,
    "position_embedding_type": "rotary",
    "layer_norm_eps": 1e-5,
    "token_dropout": True,
    "emb_layer_norm_before": False,
}
_FOLDING_CONSTANTS = {
    "embed_aa": True,
    "bypass_lm": False,
    "esm_ablate_sequence": False,
    "use_esm_attn_map": False,
}
_STRUCTURE_MODULE_CONSTANTS = {"num_angles": 7, "trans_scale_factor": 10, "epsilon": 1e-8}


def _require_constants(section: Mapping[str, Any], constants: Mapping[str, Any]) -> None:
    """Raise ModelError where `section` sets one of `constants` to another value."""
    for name, value in constants.items():
        if name in section and section[name] != value:
            raise ModelError(
                f"the configuration sets {name}={section[name]!r}; only {name}={value!r} is supported, the value of "
                "every published ESMFold"
            )


def _require_sizes(config: Any) -> None:
    for field in fields(config):
        _require_size(field.name, getattr(config, field.name), most=MAX_LAYERS if field.name in _LAYERS else MAX_SIZE)


def _require_size(name: str, size: object, least: int = 1, most: int = MAX_SIZE) -> None:
    """Raise ModelError if `size`, from an untrusted file, is not an integer from `least` to `most`."""
    if type(size) is not int or not least <= size <= most:
        raise ModelError(
            f"{name}={size!r} must be a whole number from {least} to {most:,}: fetch the configuration again"
        )


def _require_multiple(what: str, width: int, divisor: int) -> None:
    if width <= 0 or divisor <= 0 or width % divisor:
        raise ModelError(f"{what}: {width} channels are not a multiple of {divisor}: fetch the configuration again")
