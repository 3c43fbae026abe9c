"""Published models: their repositories on Hugging Face, and the names of their files. Does not import torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True)
class Published:
    """A published model: its repository on Hugging Face, and its files in fair-esm's release."""

    repository: str
    fair: tuple[str, ...]


LANGUAGE_MODELS: Final = (
    "esm2_t6_8M_UR50D",
    "esm2_t12_35M_UR50D",
    "esm2_t30_150M_UR50D",
    "esm2_t33_650M_UR50D",
    "esm2_t36_3B_UR50D",
    "esm2_t48_15B_UR50D",
)
PUBLISHED: Final = {
    "esmfold_v1": Published("facebook/esmfold_v1", ("esmfold_3B_v1.pt", "esm2_t36_3B_UR50D.pt")),
    **{name: Published(f"facebook/{name}", (f"{name}.pt",)) for name in LANGUAGE_MODELS},
}

MODEL: Final = "model.safetensors"  # the file of a training run's result; transformers uses the same name
CONFIG: Final = "config.json"
# Files of weights that transformers writes, in order of preference: safetensors cannot contain code.
WEIGHTS: Final = (
    MODEL,
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def by_hand(name: str, folder: str | Path | None = None) -> str:
    """Return instructions for users without a network: the files of the published model `name`, and their folder.

    `folder` is the folder given to `--weights`, if any.
    """
    published, root = PUBLISHED[name], Path(folder or "DIR")
    return (
        f"{CONFIG} and {WEIGHTS[0]} or {WEIGHTS[2]} of {published.repository} into {root / name}, or fair-esm's "
        f"{' and '.join(published.fair)} into {root}, and pass --weights {root}"
    )
