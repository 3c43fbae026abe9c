"""The embedded model `nano`: a small trained ESMFold whose weights are a file of this package.

With it everything around a network can be tried and tested without a download. It folds families that were in its
training data and is wrong elsewhere, with low confidence; docs/nano.md describes its training data and its scores.
"""

from pathlib import Path
from typing import Final

from foldatlas.folding.config import ESMFoldConfig, LanguageModelConfig, StructureModuleConfig, TrunkConfig

NAME: Final = "nano"
WEIGHTS: Final = Path(__file__).with_name("nano.safetensors")
# Digest of the file's weights: used by planning without reading the file, and checked by loading.
WEIGHTS_DIGEST: Final = "c4fe0af1dadd57ec04f6d76a903f5182706b40682cf95219784878c6f82b6d4b"

CONFIG: Final = ESMFoldConfig(
    language_model=LanguageModelConfig(num_layers=6, width=128, num_heads=4, transition_width=512),
    trunk=TrunkConfig(
        num_blocks=2,
        single_width=128,
        pair_width=32,
        single_head_width=32,
        pair_head_width=32,
        max_relative_position=32,
    ),
    structure_module=StructureModuleConfig(
        num_iterations=4,
        single_width=128,
        pair_width=32,
        num_heads=8,
        head_width=16,
        num_query_points=4,
        num_value_points=8,
        num_transition_layers=1,
        torsion_width=64,
        num_torsion_blocks=2,
    ),
    plddt_width=64,
    recycles=0,
)
