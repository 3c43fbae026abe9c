"""The models people can name, and how one is made ready.

`settings_of` and `config_of` answer for those who plan: of `nano` without torch or weights, of a model in a folder
from its sizes and, for the settings, one reading of its weights. `load` is for those who fold.

A model is `nano`, a published name (places.PUBLISHED) or the path of a folder or file; `weights_dir` is where
published names are looked for before the hub's cache. Nothing here fetches anything.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from foldatlas.folding.config import ESMFoldConfig, LanguageModelConfig
from foldatlas.folding.planning.cost import NUMBER_BYTES
from foldatlas.folding.weights import model_files, nano, published
from foldatlas.folding.weights.model_files import Place
from foldatlas.schemas.errors import ModelError
from foldatlas.schemas.records import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from foldatlas.folding.language_predictor import LanguagePredictor
    from foldatlas.folding.network.language_model import LanguageModel
    from foldatlas.folding.predictor import Predictor
    from foldatlas.folding.weights.checkpoints import Checkpoint
    from foldatlas.folding.weights.fitting import DtypeOf

PRECISION = "fp32"  # unless another one is asked for

Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class LoadedLanguageModel:
    """ESM-2 ready to run. `name` and `weights` (a digest) say which; `heads` are the tensors, as stored, of its
    masked-token and contact heads where the files have them, by fair-esm's names: `lm_head.dense.weight`,
    `lm_head.layer_norm.bias`, `contact_head.regression.weight`. `lm_head.weight`, if there, repeats the token
    embedding."""

    name: str
    weights: str
    config: LanguageModelConfig
    network: "LanguageModel"
    heads: "dict[str, Tensor]"

    @property
    def predictor(self) -> "LanguagePredictor":
        """What computes embeddings, and with the heads contacts, logits and perplexities. Raises ModelError for heads
        that are not whole."""
        from foldatlas.folding.language_predictor import LanguagePredictor
        from foldatlas.folding.network.language_heads import build_heads

        return LanguagePredictor(self.network, build_heads(self.config, self.heads, self.network.embed_tokens.weight))


def config_of(name: str, *, weights_dir: str | None = None) -> ESMFoldConfig:
    """Sizes of the model called `name`. Raises ModelError for one that does not exist or does not fold."""
    if name == nano.NAME:
        return nano.CONFIG
    refuse_language_model(name)
    place = model_files.find(name, weights_dir)
    config = _config(place, place.stamp())
    if config is None:
        raise _does_not_fold(name)
    return config


def refuse_language_model(name: str) -> None:
    """Raises ModelError for the name of a published language model, whether or not it is on this machine."""
    if name in published.LANGUAGE_MODELS:
        raise _does_not_fold(name)


def _does_not_fold(name: str) -> ModelError:
    return ModelError(
        f"{name!r} is a language model, which embeds and does not fold: give a folding model such as esmfold_v1"
    )


def settings_of(
    name: str, recycles: int | None = None, precision: str = PRECISION, *, weights_dir: str | None = None
) -> Settings:
    """What decides the structures that model `name` predicts; `recycles` None means the model's default.

    Raises ModelError for a model or precision that does not exist or fewer than 0 recycles.
    """
    config = config_of(name, weights_dir=weights_dir)
    _check_precision(precision)
    if recycles is not None and recycles < 0:
        raise ModelError(f"recycles={recycles} must be 0 or more: it counts the trunk passes after the first")
    recycles = config.recycles if recycles is None else recycles
    place = model_files.find(name, weights_dir)
    if name == nano.NAME:
        return Settings(place.name, nano.WEIGHTS_DIGEST, recycles, precision)
    return Settings(place.name, _digest(place, place.stamp()), recycles, precision)


def language_model_of(
    name: str, precision: str = PRECISION, *, weights_dir: str | None = None
) -> tuple[LanguageModelConfig, Settings]:
    """Sizes of the language model called `name`, or of the one inside a folding model, and what decides its states:
    as settings without recycles. Reads all its weights once; raises ModelError as `settings_of` does."""
    from foldatlas.folding.weights import fitting as weights

    _check_precision(precision)
    place = model_files.find(name, weights_dir)
    checkpoint = _open(place)
    digest = weights.digest(checkpoint.language_model_state())
    return checkpoint.language_model, Settings(place.name, digest, 0, precision)


def load(
    name: str,
    *,
    recycles: int | None = None,
    precision: str = PRECISION,
    device: str = "cpu",
    weights_dir: str | None = None,
) -> "Predictor":
    """A predictor of model `name`, its weights on `device`.

    Raises ModelError as `settings_of` does, for a device that this machine does not have, and when the weights are
    not those that their digest promises.
    """
    settings = settings_of(name, recycles, precision, weights_dir=weights_dir)
    # Here, not above: importing torch takes seconds, which planning should not pay.
    from foldatlas.folding.network.language_heads import build_heads
    from foldatlas.folding.network.precision import get
    from foldatlas.folding.predictor import Predictor
    from foldatlas.folding.weights import fitting as weights

    _check_device(device)
    policy = get(precision)
    config, checkpoint = config_of(name, weights_dir=weights_dir), open_model(name, weights_dir=weights_dir)
    if name == nano.NAME and (found := weights.digest(checkpoint.state)) != settings.weights:
        raise ModelError(f"the weights of {name!r} have digest {found}, not {settings.weights}: reinstall FoldAtlas")
    network = weights.build(config, checkpoint.state, dtype_of=policy.dtype_of, device=device)
    of_heads = {key: tensor.to(device) for key, tensor in checkpoint.heads.items()}
    return Predictor(network, settings, build_heads(config.language_model, of_heads, network.esm.embed_tokens.weight))


def load_language_model(
    name: str, *, device: str = "cpu", weights_dir: str | None = None, dtype_of: "DtypeOf | None" = None
) -> LoadedLanguageModel:
    """ESM-2 alone: a language model by name or path, or the one inside a folding model.

    `dtype_of` says the type of each tensor by its name in the whole network (`esm.layers.0.fc1.weight`); None means
    float32. Raises ModelError as `load` does.
    """
    from foldatlas.folding.weights import fitting as weights

    _check_device(device)
    dtype_of = dtype_of or weights.float32
    place = model_files.find(name, weights_dir)
    checkpoint = _open(place)
    part = checkpoint.language_model_state()
    return LoadedLanguageModel(
        name=place.name,
        weights=weights.digest(part),
        config=checkpoint.language_model,
        network=weights.build_language_model(checkpoint.language_model, part, dtype_of=dtype_of, device=device),
        heads={key: tensor.to(device) for key, tensor in checkpoint.heads.items()},
    )


def notes_of(name: str, *, weights_dir: str | None = None) -> tuple[str, ...]:
    """What was stripped from the names of the weights of model `name`, and left out of them: sentences for people."""
    return () if name == nano.NAME else open_model(name, weights_dir=weights_dir).notes


def open_model(name: str, *, weights_dir: str | None = None) -> "Checkpoint":
    """Sizes and tensors, as stored, of the model called `name`. Raises ModelError as `load` does."""
    return _open(model_files.find(name, weights_dir))


def _open(place: Place) -> "Checkpoint":
    from foldatlas.folding.weights.checkpoints import open_checkpoint

    return open_checkpoint(place)


@lru_cache(maxsize=16)
def _config(place: Place, stamp: Stamp) -> ESMFoldConfig | None:
    """Sizes of the model at `place`; `stamp`, its files' sizes and times, has changed weights read again."""
    from foldatlas.folding.weights.checkpoints import read_config

    return read_config(place)


@lru_cache(maxsize=16)
def _digest(place: Place, stamp: Stamp) -> str:
    """Digest of the weights at `place`, all of which this reads."""
    from foldatlas.folding.weights import fitting as weights

    return weights.digest(_open(place).state)


def _check_precision(precision: str) -> None:
    if precision not in NUMBER_BYTES:
        raise ModelError(f"there is no precision {precision!r}: give one of {', '.join(NUMBER_BYTES)}")


def _check_device(device: str) -> None:
    """Raises ModelError, with torch's reason, if nothing can be put on `device`."""
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(f"device {device!r} cannot be used ({reason}): give --device cpu") from error
