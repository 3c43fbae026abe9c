"""Named presets of folding head training.

`esmfold` has the sizes of the published model and follows Lin et al. 2023, supplement A.3, and Jumper et al. 2021,
supplement 1.11. It was never run, and differs from these: the learning rate decays linearly, gradients are clipped by
the norm of a whole step where AlphaFold 2 clips those of each example, and the PAE head, which pTM needs, is trained
from the start. `nano` trains a network of a million parameters on two cores: its phases are those of the embedded
model, in one run instead of two (docs/training.md).
"""

from dataclasses import dataclass, replace
from typing import Final

from foldatlas.folding.config import ESMFoldConfig, LanguageModelConfig, StructureModuleConfig, TrunkConfig
from foldatlas.folding.training.data.crops import Phase
from foldatlas.folding.training.folding_training import Recipe
from foldatlas.folding.training.losses.structure_loss import ALPHAFOLD2, ALPHAFOLD2_FINE_TUNING, SMALL
from foldatlas.folding.training.optimisers import AdamW, Muon
from foldatlas.folding.weights import nano


@dataclass(frozen=True, slots=True)
class Preset:
    """Sizes of a new network and its training recipe. The language model may have other sizes."""

    config: ESMFoldConfig
    recipe: Recipe


ESMFOLD_V1: Final = ESMFoldConfig(
    language_model=LanguageModelConfig(num_layers=36, width=2560, num_heads=40, transition_width=10240),
    trunk=TrunkConfig(
        num_blocks=48,
        single_width=1024,
        pair_width=128,
        single_head_width=32,
        pair_head_width=32,
        max_relative_position=32,
    ),
    structure_module=StructureModuleConfig(
        num_iterations=8,
        single_width=384,
        pair_width=128,
        num_heads=12,
        head_width=16,
        num_query_points=4,
        num_value_points=8,
        num_transition_layers=1,
        torsion_width=128,
        num_torsion_blocks=2,
    ),
    plddt_width=128,
    recycles=3,
)

PRESETS: Final = {
    "esmfold": Preset(
        ESMFOLD_V1,
        Recipe(
            phases=(Phase(crop=256, batch=128, steps=125_000),),
            loss=replace(ALPHAFOLD2, aligned_error=ALPHAFOLD2_FINE_TUNING.aligned_error),
            adamw=AdamW(learning_rate=5e-4, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0),
            muon=None,
            warm_up_steps=5_000,
        ),
    ),
    nano.NAME: Preset(
        nano.CONFIG,
        Recipe(
            phases=(Phase(crop=64, batch=4, steps=3_000), Phase(crop=150, batch=4, steps=3_000)),
            loss=replace(SMALL, backbone_torsions_only=False),
            adamw=AdamW(learning_rate=2e-3, betas=(0.9, 0.99)),
            muon=Muon(learning_rate=5e-3),
            warm_up_steps=200,
            clip_norm=0.5,
            average_decay=0.998,
            recycles=0,
        ),
    ),
}
