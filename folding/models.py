"""Loading of models by name, and what planning needs of them without loading.

`settings_of` and `config_of` are for planning: for `nano` they need neither torch nor the weights; for other models
they read the sizes and, for the settings, all weights once, to compute their digest. `load` returns a Predictor.

A model is `nano`, a published name (published.PUBLISHED) or the path of a folder or file; `weights_dir` is the folder
in which published names are looked up before the Hugging Face cache. Nothing here downloads.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from foldatlas.folding.config import ESMFoldConfig, LanguageModelConfig
from foldatlas.folding.planning.cost import NUMBER_BYTES
from foldatlas.folding.weights import model_files, nano, published
from foldatlas.folding.weights.model_files import ModelFiles
from foldatlas.schemas.errors import ModelError
from foldatlas.schemas.records import Settings
from foldatlas.schemas.wording import counted

if TYPE_CHECKING:
    from torch import Tensor

    from foldatlas.folding.language_predictor import LanguagePredictor
    from foldatlas.folding.network.language_model import LanguageModel
    from foldatlas.folding.predictor import Predictor
    from foldatlas.folding.weights.checkpoints import Checkpoint
    from foldatlas.folding.weights.fitting import DtypeOf

PRECISION = "fp32"  # the default

_FOLDING_ONLY: Final = "fp8"
_LEAST_RECYCLES_WITH_TOLERANCE: Final = 2

Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class LoadedLanguageModel:
    """ESM-2, ready to run.

    `name` and `weights` (a digest) identify it. `heads` are the tensors, as stored, of its masked-token and contact
    heads, as far as the files have them, under fair-esm's names: `lm_head.dense.weight`, `lm_head.layer_norm.bias`,
    `contact_head.regression.weight`. `lm_head.weight`, if present, repeats the token embedding.
    """

    name: str
    weights: str
    config: LanguageModelConfig
    network: "LanguageModel"
    heads: "dict[str, Tensor]"

    @property
    def predictor(self) -> "LanguagePredictor":
        """Predictor of embeddings and, if the heads are present, contacts, logits and perplexities.

        Raise ModelError if a head is incomplete.
        """
        from foldatlas.folding.language_predictor import LanguagePredictor
        from foldatlas.folding.network.language_heads import build_heads

        return LanguagePredictor(self.network, build_heads(self.config, self.heads, self.network.embed_tokens.weight))


def config_of(name: str, *, weights_dir: str | None = None) -> ESMFoldConfig:
    """Return the sizes of the folding model `name`.

    Raise ModelError if it does not exist or is a language model, and MissingWeights if its files are not on this
    machine.
    """
    if name == nano.NAME:
        return nano.CONFIG
    refuse_language_model(name)
    files = model_files.find(name, weights_dir)
    config = _config(files, files.stamp())
    if config is None:
        raise _does_not_fold(name)
    return config


def refuse_language_model(name: str) -> None:
    """Raise ModelError if `name` is a published language model, whether or not its files are on this machine."""
    if name in published.LANGUAGE_MODELS:
        raise _does_not_fold(name)


def _does_not_fold(name: str) -> ModelError:
    return ModelError(
        f"{name!r} is a language model, which embeds and does not fold: give a folding model such as esmfold_v1"
    )


def settings_of(
    name: str,
    recycles: int | None = None,
    precision: str = PRECISION,
    *,
    recycle_tolerance: float | None = None,
    weights_dir: str | None = None,
) -> Settings:
    """Return the settings that determine the structures predicted by model `name`.

    `recycles` None means the model's default. `recycle_tolerance`, in angstrom: see Settings. Raise as `config_of`, and
    ModelError for an unknown precision, a negative number of recycles, or a tolerance that could not save a pass.
    """
    config = config_of(name, weights_dir=weights_dir)
    _check_precision(precision)
    if recycles is not None and recycles < 0:
        raise ModelError(f"recycles={recycles} must be 0 or more: it counts the trunk passes after the first")
    recycles = config.recycles if recycles is None else recycles
    if recycle_tolerance is not None:
        recycle_tolerance = float(recycle_tolerance)
        _check_tolerance(recycle_tolerance, recycles)
    files = model_files.find(name, weights_dir)
    digest = nano.WEIGHTS_DIGEST if name == nano.NAME else _read(files, files.stamp(), False).digest
    return Settings(files.name, digest, recycles, precision, recycle_tolerance)


def language_model_of(
    name: str, precision: str = PRECISION, *, weights_dir: str | None = None
) -> tuple[LanguageModelConfig, Settings]:
    """Return sizes and settings of the language model `name`, or of the one inside a folding model.

    The settings determine the hidden states; their recycles are 0. Reads all weights of the language model once.
    Raise as `settings_of`.
    """
    _check_precision(precision)
    if precision == _FOLDING_ONLY:
        raise ModelError(f"precision {precision} is for folding, and embeddings have no such option: use bf16")
    files = model_files.find(name, weights_dir)
    found = _read(files, files.stamp(), True)
    return found.language_model, Settings(files.name, found.digest, 0, precision)


def notes_of(name: str, *, language_model_only: bool = False, weights_dir: str | None = None) -> tuple[str, ...]:
    """Return sentences for the user on tensor names that were changed and tensors that were left out.

    Free after `settings_of`, or after `language_model_of` with `language_model_only`: the files are read once for both.
    """
    if name == nano.NAME:
        return ()
    files = model_files.find(name, weights_dir)
    return _read(files, files.stamp(), language_model_only).notes


def load(
    name: str,
    *,
    recycles: int | None = None,
    recycle_tolerance: float | None = None,
    precision: str = PRECISION,
    device: str = "cpu",
    weights_dir: str | None = None,
) -> "Predictor":
    """Return a Predictor of the folding model `name`, its weights on `device`.

    With `recycle_tolerance`, in angstrom, a protein stops recycling when a pass changed its C-alpha distances by less
    (root mean square). Raise as `settings_of`, and ModelError if the device is not available or the digest of nano's
    weights is wrong.
    """
    settings = settings_of(name, recycles, precision, recycle_tolerance=recycle_tolerance, weights_dir=weights_dir)
    # Imported here because importing torch takes seconds, and planning does not need it.
    from foldatlas.folding.network.language_heads import build_heads
    from foldatlas.folding.network.precision import get
    from foldatlas.folding.predictor import Predictor
    from foldatlas.folding.weights import fitting

    _check_device(device)
    policy = get(precision)
    if policy.fp8_products:
        _check_fp8(device)
    config, checkpoint = config_of(name, weights_dir=weights_dir), open_model(name, weights_dir=weights_dir)
    if name == nano.NAME and (found := fitting.digest(checkpoint.state)) != settings.weights:
        raise ModelError(f"the weights of {name!r} have digest {found}, not {settings.weights}: reinstall FoldAtlas")
    network = fitting.build(config, checkpoint.state, dtype_of=policy.dtype_of, device=device)
    if policy.fp8_products:
        network.esm.use_fp8()
    if device.startswith("cuda"):
        from foldatlas.folding.network.graphs import graphs_on
        from foldatlas.folding.network.kernels.self_check import approve_kernels

        approve_kernels(network)
        network.trunk.graphs = graphs_on(device)
    heads = {key: tensor.to(device) for key, tensor in checkpoint.heads.items()}
    return Predictor(network, settings, build_heads(config.language_model, heads, network.esm.embed_tokens.weight))


def load_language_model(
    name: str, *, device: str = "cpu", weights_dir: str | None = None, dtype_of: "DtypeOf | None" = None
) -> LoadedLanguageModel:
    """Return ESM-2 alone: the language model `name`, or the one inside a folding model.

    `dtype_of` gives the dtype of each tensor by its name in the whole network (`esm.layers.0.fc1.weight`); None means
    float32. Raise as `load`.
    """
    from foldatlas.folding.weights import fitting

    _check_device(device)
    dtype_of = dtype_of or fitting.float32
    files = model_files.find(name, weights_dir)
    checkpoint = _open(files)
    state = checkpoint.language_model_state()
    return LoadedLanguageModel(
        name=files.name,
        weights=fitting.digest(state),
        config=checkpoint.language_model,
        network=fitting.build_language_model(checkpoint.language_model, state, dtype_of=dtype_of, device=device),
        heads={key: tensor.to(device) for key, tensor in checkpoint.heads.items()},
    )


def open_model(name: str, *, weights_dir: str | None = None) -> "Checkpoint":
    """Return sizes and tensors, as stored, of the model `name`. Raise as `load`."""
    return _open(model_files.find(name, weights_dir))


def _open(files: ModelFiles) -> "Checkpoint":
    from foldatlas.folding.weights.checkpoints import open_checkpoint

    return open_checkpoint(files)


@lru_cache(maxsize=16)
def _config(files: ModelFiles, stamp: Stamp) -> ESMFoldConfig | None:
    """Return the sizes of a model. `stamp`, of its files, is part of the cache key: changed files are read again."""
    from foldatlas.folding.weights.checkpoints import read_config

    return read_config(files)


@dataclass(frozen=True)
class _Read:
    """What one reading of a model's weights found."""

    language_model: LanguageModelConfig
    digest: str
    notes: tuple[str, ...]


@lru_cache(maxsize=16)
def _read(files: ModelFiles, stamp: Stamp, language_model_only: bool) -> _Read:
    """Read all weights of a model, or those of its language model, for their digest. `stamp` as for `_config`.

    All arguments are required, because lru_cache distinguishes a default from the same value given.
    """
    from foldatlas.folding.weights import fitting

    checkpoint = _open(files)
    state = checkpoint.language_model_state() if language_model_only else checkpoint.state
    return _Read(checkpoint.language_model, fitting.digest(state), checkpoint.notes)


def _check_precision(precision: str) -> None:
    if precision not in NUMBER_BYTES:
        raise ModelError(f"unknown precision {precision!r}: use one of {', '.join(NUMBER_BYTES)}")


def _check_tolerance(tolerance: float, recycles: int) -> None:
    if not 0 < tolerance < float("inf"):
        raise ModelError(f"a recycle tolerance of {tolerance} angstrom is not possible: it must be greater than 0")
    if recycles < _LEAST_RECYCLES_WITH_TOLERANCE:
        raise ModelError(
            f"a recycle tolerance has no effect with {counted(recycles, 'recycle')}: two passes are needed to see a "
            f"change, and the last one is never skipped, so use {_LEAST_RECYCLES_WITH_TOLERANCE} recycles or more"
        )


def _check_fp8(device: str) -> None:
    """Raise ModelError for a GPU without FP8 units. On a CPU the same numbers are computed in float32."""
    import torch

    from foldatlas.folding.network.kernels.policy import FP8_CAPABILITY

    if device.startswith("cuda") and (found := torch.cuda.get_device_capability(device)) < FP8_CAPABILITY:
        raise ModelError(
            f"precision fp8 needs a GPU of compute capability {_dotted(FP8_CAPABILITY)} (Ada, Hopper) or later, and "
            f"{device} has {_dotted(found)}: use bf16"
        )


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _check_device(device: str) -> None:
    """Raise ModelError, with torch's reason, if tensors cannot be put on `device`."""
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(f"device {device!r} cannot be used ({reason}): give --device cpu") from error
