"""Checkpoints: files in any published layout, opened as sizes and tensors that stay in the files.

Tensors are mapped from their files: reading one brings its pages into memory, and the system takes them back when it
needs to. What one must not do is change a file while a network that was loaded from it lives.
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
    """An opened model. `config` is None for a language model alone; `state` has our names, those of the language
    model under `esm.`; `heads` are the language model's, where the files have them: names without `esm.`, as in
    fair-esm (`lm_head.dense.weight`, `contact_head.regression.weight`); `notes` are sentences on what was stripped
    from names and left out."""

    language_model: LanguageModelConfig
    config: ESMFoldConfig | None
    state: dict[str, Tensor]
    heads: dict[str, Tensor]
    notes: tuple[str, ...] = ()

    def language_model_state(self) -> dict[str, Tensor]:
        """The language model's part of `state`."""
        return {name: tensor for name, tensor in self.state.items() if name.startswith(LANGUAGE_MODEL)}


def read_config(place: ModelFiles) -> ESMFoldConfig | None:
    """Sizes of the folding network at `place`, None for a language model alone. Reads no weights."""
    if place.layout == "transformers":
        config = _transformers_config(place)
        return from_transformers(config) if _folds(config) else None
    return _our_config(place)[1] if place.layout == "ours" else open_checkpoint(place).config


def open_checkpoint(place: ModelFiles) -> Checkpoint:
    """The model at `place`. Raises ModelError, naming the file, for one that is damaged or of another model."""
    if place.layout == "fair":
        return _open_fair(place)
    if place.layout == "ours":
        language_model, fold = _our_config(place)
        tensors = _tensors(place.files[0])
        heads = {name: tensor for name, tensor in tensors.items() if name.startswith(MASKED_PREFIX)}
        network = {name: tensor for name, tensor in tensors.items() if name not in heads}
        return Checkpoint(language_model, fold, network, heads)
    sizes = _transformers_config(place)
    fold = from_transformers(sizes) if _folds(sizes) else None
    state: dict[str, Tensor] = {}
    for file in place.files:
        for key, tensor in _tensors(file).items():
            if key in state:
                raise ModelError(f"{file} holds {key}, which another of the model's files holds too: fetch them again")
            state[key] = tensor
    foreign.refuse_tensors(state, place.files[0])
    named = canonical(state, alone=fold is None)
    language_model = fold.language_model if fold else language_model_from_transformers(sizes)
    return Checkpoint(language_model, fold, named.state, named.heads, named.notes)


def _transformers_config(place: ModelFiles) -> dict[str, Any]:
    assert place.config is not None
    foreign.refuse_pointer(place.config)
    try:
        config = json.loads(place.config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{place.config} cannot be read ({error}): fetch it again") from error
    if not isinstance(config, dict):
        raise ModelError(f"{place.config} is no configuration of transformers: fetch it again")
    foreign.refuse_config(config, place.config)
    return config


def _folds(config: dict[str, Any]) -> bool:
    return config.get("esmfold_config") is not None


def _our_config(place: ModelFiles) -> tuple[LanguageModelConfig, ESMFoldConfig | None]:
    """Sizes in a file of ours, of a language model alone without those of the folding network."""
    (path,) = place.files
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
        raise ModelError(f"{path} holds no network that FoldAtlas saved ({error!r}): {advice}") from error


def _tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a file, mapped."""
    foreign.refuse_pointer(path)
    if path.suffix != ".safetensors":
        return _state_of(pickles.read(path), path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is no safetensors file, or not whole ({error}): fetch it again") from error


def _state_of(content: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise ModelError(f"{path} holds something beside tensors by name where a model's weights should be")
    return dict(content)


def _fair_content(path: Path) -> tuple[Any, dict[str, Tensor]]:
    """Configuration and state of one of fair-esm's files."""
    foreign.refuse_pointer(path)
    content = pickles.read(path)
    if not isinstance(content, dict) or "model" not in content:
        if isinstance(content, dict):
            foreign.refuse_tensors(filter(lambda key: isinstance(key, str), content), path)
        raise ModelError(f"{path} is no file of fair-esm: it has no 'model'")
    state = _state_of(content["model"], path)
    foreign.refuse_tensors(state, path)
    return pickles.plain(content.get("cfg")), state


def _open_fair(place: ModelFiles) -> Checkpoint:
    first, *second = place.files
    config, state = _fair_content(first)
    others = {key: tensor for file in second for key, tensor in _fair_content(file)[1].items()}
    if not any(key.removeprefix("module.").removeprefix("_orig_mod.").startswith("trunk.") for key in state):
        named = canonical({**state, **others}, alone=True)
        return Checkpoint(_language_model_sizes(named.state, first), None, named.state, named.heads, named.notes)
    if not second:
        raise ModelError(f"{first} is the folding network alone: name it esmfold_*.pt, its language model beside it")
    folding, language = canonical(state), canonical(others, alone=True)
    if both := sorted(folding.state.keys() & language.state.keys()):
        raise ModelError(f"{first} and {second[0]} both hold {both[0]}: give the files as they were released")
    sizes = _language_model_sizes(language.state, second[0])
    fold = from_fair(config, sizes, str(first))
    return Checkpoint(sizes, fold, {**folding.state, **language.state}, language.heads, folding.notes + language.notes)


def _language_model_sizes(state: dict[str, Tensor], path: Path) -> LanguageModelConfig:
    """Sizes of a language model from the shapes of its tensors: its own configuration is an object of fairseq's."""
    try:
        width = state["esm.embed_tokens.weight"].shape[1]
        return LanguageModelConfig(
            num_layers=sum(name.endswith(".fc1.weight") for name in state),
            width=width,
            num_heads=width // (2 * state["esm.inv_freq"].shape[0]),
            transition_width=state["esm.layers.0.fc1.weight"].shape[0],
        )
    except (KeyError, IndexError, ZeroDivisionError) as error:
        raise ModelError(f"{path} holds no ESM-2: it lacks {error}") from error
