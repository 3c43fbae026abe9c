"""The model that training of the folding head starts from, and writing of the trained model.

`recycles` is the maximum in training and the default of the trained model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from foldatlas.folding import models
from foldatlas.folding.config import ESMFoldConfig
from foldatlas.folding.network.esmfold import ESMFold
from foldatlas.folding.training import initialization
from foldatlas.folding.weights import atomic_files, fitting
from foldatlas.schemas.errors import UsageError


@dataclass(frozen=True, slots=True)
class StartingModel:
    """A network with its initial weights.

    `heads` are the tensors of the language model's own heads, which training does not change; `digest` identifies the
    initial weights.
    """

    network: ESMFold
    heads: Mapping[str, Tensor]
    digest: str

    def save(self, path: Path) -> None:
        """Write the network with its present weights, and the language model's heads, to `path` atomically."""
        temporary = atomic_files.temporary_path(path)
        fitting.save(self.network, temporary, self.heads)
        atomic_files.rename_into_place(temporary, path)


def from_language_model(
    config: ESMFoldConfig,
    name: str,
    seed: int,
    *,
    recycles: int,
    weights_dir: str | None = None,
    device: str = "cpu",
) -> StartingModel:
    """Return a new folding head with the sizes of `config` on the language model `name`, of any size.

    Raise ModelError if the language model is missing or damaged.
    """
    loaded = models.load_language_model(name, weights_dir=weights_dir)
    config = replace(config, language_model=loaded.config, recycles=recycles)
    language_model = {f"esm.{key}": tensor for key, tensor in loaded.network.state_dict().items()}
    return _starting_model(initialization.network(config, language_model, seed), loaded.heads, device)


def from_model(name: str, *, recycles: int, weights_dir: str | None = None, device: str = "cpu") -> StartingModel:
    """Return the folding model `name` as the model to start from. Raise UsageError for a language model."""
    opened = models.open_model(name, weights_dir=weights_dir)
    if opened.config is None:
        raise UsageError(f"{name} is a language model: give it as --language-model, for a new folding head")
    config = replace(opened.config, recycles=recycles)
    return _starting_model(fitting.build(config, opened.state), opened.heads, device)


def _starting_model(network: ESMFold, heads: Mapping[str, Tensor], device: str) -> StartingModel:
    digest = fitting.digest(network.state_dict())
    # Copied, because the weights may be mapped from a file, which training must not modify.
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    return StartingModel(fitting.build(network.config, state, device=device), dict(heads), digest)
