"""Opening of checkpoints in any published layout, as sizes and memory-mapped tensors.

Reading a mapped tensor loads its pages into memory; the system reclaims them when memory is needed. A file must not be
modified while a network that was loaded from it exists.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from foldatlas.folding.config import (
    ESMFoldConfig,
    LanguageModelConfig,
    from_dict,
    from_fair,
    from_transformers,
    language_model_from_transformers,
)
from foldatlas.folding.network.language_heads import MASKED_PREFIX
from foldatlas.folding.weights import foreign, pickles
from foldatlas.folding.weights.fitting import CONFIG_KEY
from foldatlas.folding.weights.model_files import ModelFiles
from foldatlas.folding.weights.published import CONFIG
from foldatlas.folding.weights.tensor_names import LANGUAGE_MODEL, canonical
from foldatlas.schemas.errors import ModelError


@dataclass(frozen=True)
class Checkpoint:
    """An opened model.

    language_model   sizes of the language model
    config           sizes of the whole network; None for a language model alone
    state            tensors under our names, those of the language model with the prefix `esm.`
    heads            tensors of the language model's heads, if the files have them, under fair-esm's names without
                     `esm.` (`lm_head.dense.weight`, `contact_head.regression.weight`)
    notes            sentences on prefixes that were stripped from names, and tensors that were left out
    """

    language_model: LanguageModelConfig
    config: ESMFoldConfig | None
    state: dict[str, Tensor]
    heads: dict[str, Tensor]
    notes: tuple[str, ...] = ()

    def language_model_state(self) -> dict[str, Tensor]:
        """Return the language model's part of `state`."""
        return {name: tensor for name, tensor in self.state.items() if name.startswith(LANGUAGE_MODEL)}


def read_config(model: ModelFiles) -> ESMFoldConfig | None:
    """Return the sizes of the folding network of `model`, None for a language model alone. Reads no weights."""
    if model.layout == "transformers":
        config = _transformers_config(model)
        return from_transformers(config) if _folds(config) else None
    return _our_config(model)[1] if model.layout == "ours" else open_checkpoint(model).config


def open_checkpoint(model: ModelFiles) -> Checkpoint:
    """Open the files of a model. Raise ModelError, with the file's name, if one is damaged or of another model."""
    if model.layout == "fair":
        return _open_fair(model)
    if model.layout == "ours":
        language_model, fold = _our_config(model)
        tensors = _tensors(model.files[0])
        heads = {name: tensor for name, tensor in tensors.items() if name.startswith(MASKED_PREFIX)}
        network = {name: tensor for name, tensor in tensors.items() if name not in heads}
        return Checkpoint(language_model, fold, network, heads)
    sizes = _transformers_config(model)
    fold = from_transformers(sizes) if _folds(sizes) else None
    state: dict[str, Tensor] = {}
    for file in model.files:
        for key, tensor in _tensors(file).items():
            if key in state:
                raise ModelError(f"{file} has {key}, which another of the model's files has too: fetch them again")
            state[key] = tensor
    foreign.refuse_tensors(state, model.files[0])
    named = canonical(state, alone=fold is None)
    language_model = fold.language_model if fold else language_model_from_transformers(sizes)
    return Checkpoint(language_model, fold, named.state, named.heads, named.notes)


def _transformers_config(model: ModelFiles) -> dict[str, Any]:
    assert model.config is not None
    foreign.refuse_pointer(model.config)
    try:
        config = json.loads(model.config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{model.config} cannot be read ({error}): fetch it again") from error
    if not isinstance(config, dict):
        raise ModelError(f"{model.config} is not a configuration of transformers: fetch it again")
    foreign.refuse_config(config, model.config)
    return config


def _folds(config: dict[str, Any]) -> bool:
    return config.get("esmfold_config") is not None


def _our_config(model: ModelFiles) -> tuple[LanguageModelConfig, ESMFoldConfig | None]:
    """Return the sizes stored in a file of ours; those of the network are None for a language model alone."""
    (path,) = model.files
    foreign.refuse_pointer(path)
    try:
        with safe_open(path, framework="numpy") as file:
            if CONFIG_KEY not in (file.metadata() or {}):
                foreign.refuse_tensors(file.keys(), path)
            fields = json.loads((file.metadata() or {})[CONFIG_KEY])
            if fields.keys() == {"language_model"}:
                return LanguageModelConfig(**fields["language_model"]), None
            config = from_dict(fields)
            return config.language_model, config
    except ModelError:
        raise
    except (OSError, SafetensorError, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        beside = path.with_name(CONFIG)
        advice = (
            f"give its folder, {path.parent}" if beside.is_file() else f"a model of transformers needs its {CONFIG}"
        )
        raise ModelError(f"{path} is not a network saved by FoldAtlas ({error!r}): {advice}") from error


def _tensors(path: Path) -> dict[str, Tensor]:
    """Return all tensors of a file, memory-mapped."""
    foreign.refuse_pointer(path)
    if path.suffix != ".safetensors":
        return _state_of(pickles.read(path), path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is not a safetensors file, or is incomplete ({error}): fetch it again") from error


def _state_of(content: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise ModelError(f"{path} has other values than tensors by name where weights are expected: fetch it again")
    return dict(content)


def _fair_content(path: Path) -> tuple[Any, dict[str, Tensor]]:
    """Return configuration and tensors of one of fair-esm's files."""
    foreign.refuse_pointer(path)
    content = pickles.read(path)
    if not isinstance(content, dict) or "model" not in content:
        if isinstance(content, dict):
            foreign.refuse_tensors(filter(lambda key: isinstance(key, str), content), path)
        raise ModelError(f"{path} is not a file of fair-esm (it has no 'model'): give the file as published")
    state = _state_of(content["model"], path)
    foreign.refuse_tensors(state, path)
    return pickles.plain(content.get("cfg")), state


def _open_fair(model: ModelFiles) -> Checkpoint:
    first, *second = model.files
    config, state = _fair_content(first)
    others = {key: tensor for file in second for key, tensor in _fair_content(file)[1].items()}
    if not any(key.removeprefix("module.").removeprefix("_orig_mod.").startswith("trunk.") for key in state):
        named = canonical({**state, **others}, alone=True)
        return Checkpoint(_language_model_sizes(named.state, first), None, named.state, named.heads, named.notes)
    if not second:
        raise ModelError(
            f"{first} is the folding network alone: rename it to esmfold_*.pt, and put its language model beside it"
        )
    folding, language = canonical(state), canonical(others, alone=True)
    if both := sorted(folding.state.keys() & language.state.keys()):
        raise ModelError(f"{first} and {second[0]} both have {both[0]}: give the files as published")
    sizes = _language_model_sizes(language.state, second[0])
    fold = from_fair(config, sizes, str(first))
    return Checkpoint(sizes, fold, {**folding.state, **language.state}, language.heads, folding.notes + language.notes)


def _language_model_sizes(state: dict[str, Tensor], path: Path) -> LanguageModelConfig:
    """Return the sizes of a language model from its tensors' shapes: its configuration is a pickled fairseq object."""
    try:
        width = state["esm.embed_tokens.weight"].shape[1]
        return LanguageModelConfig(
            num_layers=sum(name.endswith(".fc1.weight") for name in state),
            width=width,
            num_heads=width // (2 * state["esm.inv_freq"].shape[0]),
            transition_width=state["esm.layers.0.fc1.weight"].shape[0],
        )
    except (KeyError, IndexError, ZeroDivisionError) as error:
        raise ModelError(f"{path} is not an ESM-2 (it lacks {error}): give the file as published") from error
