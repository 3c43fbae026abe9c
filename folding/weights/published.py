"""Released models: their repositories on the hub, and the names of the files that hold them (no torch)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True)
class Published:
    """A released model: its repository on the hub, and its files among those that fair-esm gives out."""

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

MODEL: Final = "model.safetensors"  # what a training run of ours makes in its folder; transformers call theirs so too
CONFIG: Final = "config.json"
# What transformers may have written beside it, the best first: safetensors hold no code.
WEIGHTS: Final = (
    MODEL,
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def by_hand(name: str, folder: str | Path | None = None) -> str:
    """Which files of the published model `name` a person without a network puts where: into `folder`, if there is one
    for `--weights`."""
    published, root = PUBLISHED[name], Path(folder or "DIR")
    return (
        f"{CONFIG} and {WEIGHTS[0]} or {WEIGHTS[2]} of {published.repository} into {root / name}, or fair-esm's "
        f"{' and '.join(published.fair)} into {root}, and pass --weights {root}"
    )
