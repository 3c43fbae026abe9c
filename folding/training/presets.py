"""Named presets of language model training: ESM-2's six sizes, and `nano`. Does not import torch.

Lin et al. 2023, A.1.1: number of updates, learning rate and weight decay; batches of 2 million tokens, 3.2 million for
the largest model.
"""

from dataclasses import dataclass
from typing import Final

from foldatlas.folding.config import LanguageModelConfig
from foldatlas.folding.weights import nano

WARM_UP_STEPS: Final = 2_000
CROP: Final = 1_024  # tokens, including <cls> and <eos>


@dataclass(frozen=True, slots=True)
class Preset:
    """Sizes, and the defaults of a run: `steps` updates with `tokens_per_batch` each, and the peak learning rate."""

    config: LanguageModelConfig
    steps: int = 500_000
    tokens_per_batch: int = 2_000_000
    learning_rate: float = 4e-4
    weight_decay: float = 0.01
    warm_up_steps: int = WARM_UP_STEPS


def _esm2(num_layers: int, width: int, num_heads: int) -> LanguageModelConfig:
    return LanguageModelConfig(num_layers, width, num_heads, transition_width=4 * width)


PRESETS: Final = {
    nano.NAME: Preset(
        nano.CONFIG.language_model, steps=5_000, tokens_per_batch=16_384, learning_rate=2e-3, warm_up_steps=200
    ),
    "8M": Preset(_esm2(6, 320, 20)),
    "35M": Preset(_esm2(12, 480, 20)),
    "150M": Preset(_esm2(30, 640, 20)),
    "650M": Preset(_esm2(33, 1280, 20)),
    "3B": Preset(_esm2(36, 2560, 40)),
    "15B": Preset(
        _esm2(48, 5120, 40), steps=270_000, tokens_per_batch=3_200_000, learning_rate=1.6e-4, weight_decay=0.1
    ),
}
