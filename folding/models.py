"""The models people can name, and how one is made ready.

`settings_of` and `config_of` answer without torch or weights, for those who plan; `load` is for those who fold.
"""

from typing import TYPE_CHECKING

from foldatlas.folding import nano
from foldatlas.folding.config import ESMFoldConfig
from foldatlas.schemas.errors import ModelError
from foldatlas.schemas.records import Settings

if TYPE_CHECKING:
    from foldatlas.folding.predictor import Predictor

PRECISION = "fp32"


def config_of(name: str) -> ESMFoldConfig:
    """Sizes of the model called `name`. Raises ModelError for one that does not exist."""
    if name != nano.NAME:
        raise ModelError(
            f"there is no model {name!r}: give {nano.NAME!r}, a small untrained network that comes with FoldAtlas "
            "(released weights such as esmfold_v1 follow in a later version)"
        )
    return nano.CONFIG


def settings_of(name: str, recycles: int | None = None, precision: str = PRECISION) -> Settings:
    """What decides the structures that model `name` predicts; `recycles` None means the model's default.

    Raises ModelError for a model or precision that does not exist or fewer than 0 recycles.
    """
    config = config_of(name)
    if precision != PRECISION:
        raise ModelError(f"there is no precision {precision!r} yet: give {PRECISION!r}")
    if recycles is not None and recycles < 0:
        raise ModelError(f"recycles={recycles} must be 0 or more: it counts the trunk passes after the first")
    return Settings(
        model=nano.MODEL_NAME,
        weights=nano.WEIGHTS_DIGEST,
        recycles=config.recycles if recycles is None else recycles,
        precision=precision,
    )


def load(name: str, *, recycles: int | None = None, precision: str = PRECISION, device: str = "cpu") -> "Predictor":
    """A predictor of model `name`, its weights on `device`.

    Raises ModelError as `settings_of` does, for a device that this machine does not have, and when the weights are
    not those that their digest promises.
    """
    settings = settings_of(name, recycles, precision)
    # Here, not above: importing torch takes seconds, which planning should not pay.
    from foldatlas.folding import weights
    from foldatlas.folding.predictor import Predictor

    _check_device(device)
    network = weights.generate_nano()
    found = weights.digest(network.state_dict())
    if found != settings.weights:
        raise ModelError(f"the weights of {name!r} have digest {found}, not {settings.weights}: reinstall FoldAtlas")
    return Predictor(network.to(device), settings)


def _check_device(device: str) -> None:
    """Raises ModelError, with torch's reason, if nothing can be put on `device`."""
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(f"device {device!r} cannot be used ({reason}): give --device cpu") from error
