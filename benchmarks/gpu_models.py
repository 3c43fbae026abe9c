"""Networks of the published sizes with random weights, ours and transformers', and the proteins that benchmarks fold.

Weights are drawn on the device, in seconds. Sequences are random: on equal numbers a GPU is faster than on real data.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import torch

from foldatlas.folding.config import ESMFoldConfig, LanguageModelConfig, StructureModuleConfig, TrunkConfig
from foldatlas.folding.network import precision
from foldatlas.folding.network.esmfold import ESMFold
from foldatlas.folding.network.graphs import graphs_on
from foldatlas.folding.network.kernels import self_check
from foldatlas.folding.network.layout import without_values
from foldatlas.folding.planning import cost
from foldatlas.folding.predictor import Predictor
from foldatlas.schemas.records import STANDARD_RESIDUES, Settings

RECYCLES: Final = 3
# Rates of an H200 that were measured on one: bf16 products of 8,192 x 8,192 matrices, and copies in its memory.
FLOP_PER_SECOND: Final = 790e12
HBM_PER_SECOND: Final = 4.3e12
PAIR_TENSORS_A_BLOCK: Final = 49.5  # read or written by one block with each of its operations fused
SIZES: Final = ESMFoldConfig(
    LanguageModelConfig(num_layers=36, width=2560, num_heads=40, transition_width=10240),
    TrunkConfig(48, 1024, 128, 32, 32, 32),
    StructureModuleConfig(8, 384, 128, 12, 16, 4, 8, 1, 128, 2),
    plddt_width=128,
    recycles=RECYCLES,
)
QUICK_SIZES: Final = replace(
    SIZES,
    language_model=LanguageModelConfig(2, 64, 4, 256),
    trunk=TrunkConfig(1, 64, 32, 16, 16, 32),
    structure_module=StructureModuleConfig(1, 64, 32, 4, 16, 4, 8, 1, 32, 1),
)
SETTINGS: Final = Settings("random", "0" * 64, RECYCLES, "bf16")


def random_sequence(length: int, seed: int = 0) -> str:
    return "".join(random.Random(1_000_003 * seed + length).choices(STANDARD_RESIDUES, k=length))


def metagenomic_mix(count: int, longest: int) -> list[int]:
    """Return `count` ascending lengths of a metagenomic mix: gamma distribution, shape 2, mean 200, from 16 on."""
    draw = random.Random(0)
    return sorted(min(longest, max(16, round(draw.gammavariate(2, 100)))) for _ in range(count))


def bound_seconds(sizes: ESMFoldConfig, lengths: Sequence[int]) -> float:
    """Return the seconds that arithmetic or memory of an H200 need at least, whichever is more for each protein."""
    blocks = (RECYCLES + 1) * sizes.trunk.num_blocks
    return sum(
        max(
            cost.mflop(sizes, length, RECYCLES) * 1e6 / FLOP_PER_SECOND,
            PAIR_TENSORS_A_BLOCK * blocks * 2 * sizes.trunk.pair_width * length**2 / HBM_PER_SECOND,
        )
        for length in lengths
    )


def random_weights(network: torch.nn.Module, device: str) -> None:
    """Draw every parameter, on its device: matrices scaled by their inputs, so that values stay near 1; scales of
    LayerNorm are 1."""
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.5 * parameter.shape[-1] ** -0.5, generator=generator)
            elif name.endswith(".weight"):
                parameter.fill_(1.0)
            else:
                parameter.normal_(0, 0.1, generator=generator)


def our_predictor(sizes: ESMFoldConfig, device: str) -> Predictor:
    """Return a Predictor in float32; `into_bf16` makes it the one for GPUs."""
    with without_values():
        network = ESMFold(sizes)
    tables = {name: buffer for name, buffer in network.named_buffers() if buffer.device.type != "meta"}
    network.to_empty(device=device)
    for name, buffer in network.named_buffers():
        if name in tables:
            buffer.copy_(tables[name])
    half = sizes.language_model.head_width // 2
    network.esm.inv_freq.copy_(10000.0 ** -(torch.arange(half) / half))
    random_weights(network, device)
    return Predictor(network.eval(), replace(SETTINGS, precision="fp32"))


def into_bf16(predictor: Predictor, device: str) -> Predictor:
    """Convert the weights in place, and approve kernels and use graphs as loading does."""
    network = predictor._network
    precision.BF16.apply(network)
    if device.startswith("cuda"):
        self_check.approve_kernels(network)
        network.trunk.graphs = graphs_on(device)
    return Predictor(network, SETTINGS)


def transformers_network(sizes: ESMFoldConfig, device: str) -> Any:
    """Return transformers' EsmForProteinFolding in float32, its default."""
    from transformers import EsmConfig, EsmForProteinFolding
    from transformers.models.esm.configuration_esm import get_default_vocab_list

    language, trunk, module = sizes.language_model, sizes.trunk, sizes.structure_module
    config = EsmConfig(
        vocab_size=33,
        mask_token_id=32,
        pad_token_id=1,
        hidden_size=language.width,
        num_hidden_layers=language.num_layers,
        num_attention_heads=language.num_heads,
        intermediate_size=language.transition_width,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        position_embedding_type="rotary",
        max_position_embeddings=1026,
        token_dropout=True,
        is_folding_model=True,
        vocab_list=list(get_default_vocab_list()),
        esmfold_config={
            "esm_type": "esm2_3B",
            "fp16_esm": False,
            "lddt_head_hid_dim": sizes.plddt_width,
            "trunk": {
                "num_blocks": trunk.num_blocks,
                "sequence_state_dim": trunk.single_width,
                "pairwise_state_dim": trunk.pair_width,
                "sequence_head_width": trunk.single_width // trunk.num_single_heads,
                "pairwise_head_width": trunk.pair_width // trunk.num_pair_heads,
                "max_recycles": RECYCLES + 1,
                "chunk_size": None,
                "structure_module": {
                    "sequence_dim": module.single_width,
                    "pairwise_dim": module.pair_width,
                    "ipa_dim": module.head_width,
                    "num_heads_ipa": module.num_heads,
                    "resnet_dim": module.torsion_width,
                    "num_blocks": module.num_iterations,
                },
            },
        },
    )
    with torch.device(device):
        network = EsmForProteinFolding(config).eval()
    random_weights(network, device)
    return network
