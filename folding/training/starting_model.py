"""The network that a training of the folding head begins with, and how its result is written.

`recycles` is what it is trained with at most, and the default of the model that comes out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from foldatlas.folding import models
from foldatlas.folding.config import ESMFoldConfig
from foldatlas.folding.network.esmfold import ESMFold
from foldatlas.folding.training import initialization
from foldatlas.folding.weights import fitting, whole_files
from foldatlas.schemas.errors import UsageError


@dataclass(frozen=True, slots=True)
class Start:
    """`digest` says which weights the network has; `heads` are the language model's own, which training leaves."""

    network: ESMFold
    heads: Mapping[str, Tensor]
    digest: str

    def save(self, path: Path) -> None:
        """Writes the network as it is now, with the language model's heads; the file appears whole."""
        written = whole_files.aside(path)
        fitting.save(self.network, written, self.heads)
        whole_files.put(written, path)


def from_language_model(
    config: ESMFoldConfig,
    name: str,
    seed: int,
    *,
    recycles: int,
    weights_dir: str | None = None,
    device: str = "cpu",
) -> Start:
    """A new folding head of the sizes of `config` on the language model called `name` (models.py), of any size.

    Raises ModelError for a language model that is not there or damaged.
    """
    loaded = models.load_language_model(name, weights_dir=weights_dir)
    config = replace(config, language_model=loaded.config, recycles=recycles)
    language_model = {f"esm.{key}": tensor for key, tensor in loaded.network.state_dict().items()}
    return _start(initialization.network(config, language_model, seed), loaded.heads, device)


def from_model(name: str, *, recycles: int, weights_dir: str | None = None, device: str = "cpu") -> Start:
    """The folding model called `name`, to go on with. Raises UsageError for a language model, which does not fold."""
    opened = models.open_model(name, weights_dir=weights_dir)
    if opened.config is None:
        raise UsageError(f"{name} is a language model: give it as --language-model, for a new folding head")
    config = replace(opened.config, recycles=recycles)
    return _start(fitting.build(config, opened.state), opened.heads, device)


def _start(network: ESMFold, heads: Mapping[str, Tensor], device: str) -> Start:
    digest = fitting.digest(network.state_dict())
    # Cloned, because weights may be pages of a file, and nothing of a file is to be trained.
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    return Start(fitting.build(network.config, state, device=device), dict(heads), digest)
