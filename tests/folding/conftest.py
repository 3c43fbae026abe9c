"""Networks that tests share: transformers' ESMFold with random weights as the reference, and ours built from it."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from transformers import EsmConfig, EsmForProteinFolding
from transformers.models.esm.configuration_esm import get_default_vocab_list
from transformers.models.esm.openfold_utils import rigid_utils

from foldatlas.folding.config import from_transformers
from foldatlas.folding.network.esmfold import ESMFold, ESMFoldOutput, OutputFlags
from foldatlas.folding.network.tokens import encode
from foldatlas.folding.weights import fitting, nano

# The widths of the released ESMFold.
RELEASED = dataclasses.replace(
    nano.CONFIG,
    language_model=dataclasses.replace(
        nano.CONFIG.language_model, num_layers=36, width=2560, num_heads=40, transition_width=10240
    ),
    trunk=dataclasses.replace(
        nano.CONFIG.trunk, num_blocks=48, single_width=1024, pair_width=128, single_head_width=32, pair_head_width=32
    ),
    structure_module=dataclasses.replace(
        nano.CONFIG.structure_module, single_width=384, pair_width=128, num_heads=12, head_width=16
    ),
)

EVERYTHING = OutputFlags(mean_embedding=True, pae_logits=True, distogram_logits=True)

_COMMON = {
    "vocab_size": 33,
    "mask_token_id": 32,
    "pad_token_id": 1,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "max_position_embeddings": 1026,
    "layer_norm_eps": 1e-5,
    "position_embedding_type": "rotary",
    "emb_layer_norm_before": False,
    "token_dropout": True,
    "is_folding_model": True,
    "vocab_list": list(get_default_vocab_list()),
}
_TRUNK = {"dropout": 0, "max_recycles": 4, "chunk_size": None}

# transformers' name -> fair-esm's, of the language model.
_FAIR_NAMES = (
    (r"^embeddings\.word_embeddings", "encoder.sentence_encoder.embed_tokens"),
    (r"^encoder\.emb_layer_norm_after", "encoder.sentence_encoder.emb_layer_norm_after"),
    (r"^encoder\.layer\.(\d+)\.attention\.self\.query", r"encoder.sentence_encoder.layers.\1.self_attn.q_proj"),
    (r"^encoder\.layer\.(\d+)\.attention\.self\.key", r"encoder.sentence_encoder.layers.\1.self_attn.k_proj"),
    (r"^encoder\.layer\.(\d+)\.attention\.self\.value", r"encoder.sentence_encoder.layers.\1.self_attn.v_proj"),
    (r"^encoder\.layer\.(\d+)\.attention\.output\.dense", r"encoder.sentence_encoder.layers.\1.self_attn.out_proj"),
    (r"^encoder\.layer\.(\d+)\.attention\.LayerNorm", r"encoder.sentence_encoder.layers.\1.self_attn_layer_norm"),
    (r"^encoder\.layer\.(\d+)\.intermediate\.dense", r"encoder.sentence_encoder.layers.\1.fc1"),
    (r"^encoder\.layer\.(\d+)\.output\.dense", r"encoder.sentence_encoder.layers.\1.fc2"),
    (r"^encoder\.layer\.(\d+)\.LayerNorm", r"encoder.sentence_encoder.layers.\1.final_layer_norm"),
    (r"^lm_head\.", "encoder.lm_head."),
)

# Widths that are equal in one differ in the others, so that none can stand in for another.
CONFIGS: dict[str, dict[str, Any]] = {
    "two_blocks": {
        **_COMMON,
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "esmfold_config": {
            "esm_type": "esm2_3B",
            "fp16_esm": False,
            "lddt_head_hid_dim": 32,
            "trunk": {
                **_TRUNK,
                "num_blocks": 2,
                "sequence_state_dim": 64,
                "pairwise_state_dim": 32,
                "sequence_head_width": 16,
                "pairwise_head_width": 16,
                "position_bins": 32,
                "structure_module": {
                    "sequence_dim": 48,
                    "pairwise_dim": 32,
                    "ipa_dim": 16,
                    "resnet_dim": 32,
                    "num_heads_ipa": 4,
                    "num_qk_points": 4,
                    "num_v_points": 8,
                    "num_blocks": 2,
                },
            },
        },
    },
    "one_block": {
        **_COMMON,
        "hidden_size": 40,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "intermediate_size": 112,
        "esmfold_config": {
            "esm_type": "esm2_3B",
            "fp16_esm": False,
            "lddt_head_hid_dim": 24,
            "trunk": {
                **_TRUNK,
                "max_recycles": 2,
                "num_blocks": 1,
                "sequence_state_dim": 72,
                "pairwise_state_dim": 48,
                "sequence_head_width": 8,
                "pairwise_head_width": 12,
                "position_bins": 24,
                "structure_module": {
                    "sequence_dim": 56,
                    "pairwise_dim": 20,
                    "ipa_dim": 12,
                    "resnet_dim": 24,
                    "num_heads_ipa": 3,
                    "num_qk_points": 5,
                    "num_v_points": 6,
                    "num_blocks": 4,
                },
            },
        },
    },
    "four_blocks": {
        **_COMMON,
        "hidden_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "intermediate_size": 160,
        "esmfold_config": {
            "esm_type": "esm2_3B",
            "fp16_esm": False,
            "lddt_head_hid_dim": 28,
            "trunk": {
                **_TRUNK,
                "num_blocks": 4,
                "sequence_state_dim": 48,
                "pairwise_state_dim": 24,
                "sequence_head_width": 12,
                "pairwise_head_width": 8,
                "position_bins": 16,
                "structure_module": {
                    "sequence_dim": 40,
                    "pairwise_dim": 28,
                    "ipa_dim": 8,
                    "resnet_dim": 36,
                    "num_heads_ipa": 6,
                    "num_qk_points": 3,
                    "num_v_points": 5,
                    "num_blocks": 3,
                    "num_transition_layers": 2,
                    "num_resnet_blocks": 3,
                },
            },
        },
    },
}


@dataclass(frozen=True)
class Pair:
    """transformers' network and ours, with the same weights."""

    config: EsmConfig
    reference: EsmForProteinFolding
    network: ESMFold

    def fold_reference(self, sequence: str, recycles: int) -> dict[str, torch.Tensor]:
        batch = encode([sequence])
        with torch.inference_mode():
            return self.reference(batch.aatype_BL, batch.mask_BL.long(), num_recycles=recycles)


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Give every parameter random values large enough that a change of 5 % shows in the output.

    Most of transformers' own initial values are zero: a comparison with those would compare nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(generator=generator)
            is_layer_norm_scale = parameter.dim() == 1 and name.endswith("weight")  # no other weight has one axis
            if is_layer_norm_scale:
                parameter.mul_(0.3).add_(1.0)
            elif parameter.dim() == 1:
                parameter.mul_(1.5 if "lddt_head" in name else 0.3)
            elif "embed" not in name:
                parameter.mul_(parameter.shape[-1] ** -0.5)


# With these seeds and sizes a change of 5 % in any tensor shows (test_parity.py). Biases that attention compares in the
# deepest language model show least, so they are larger there.
SEEDS = {"one_block": 3, "two_blocks": 1, "four_blocks": 1}
COMPARED_BIAS = {"one_block": 3.0, "two_blocks": 1.0, "four_blocks": 1.0}


def _make_pair(name: str) -> Pair:
    config = EsmConfig(**CONFIGS[name])
    reference = EsmForProteinFolding(config).eval()
    randomise(reference, seed=SEEDS[name])
    with torch.no_grad():
        for parameter_name, parameter in reference.named_parameters():
            if parameter_name.endswith(("query.bias", "key.bias")):
                parameter.mul_(COMPARED_BIAS[name])
    return Pair(config, reference, fitting.build(from_transformers(config.to_dict()), reference.state_dict()))


@pytest.fixture(scope="session")
def two_blocks() -> Pair:
    return _make_pair("two_blocks")


@pytest.fixture(scope="session")
def one_block() -> Pair:
    return _make_pair("one_block")


@pytest.fixture(scope="session")
def four_blocks() -> Pair:
    return _make_pair("four_blocks")


@pytest.fixture(scope="session", params=CONFIGS)
def pair(request: pytest.FixtureRequest) -> Pair:
    """Each of the sizes in turn."""
    made: Pair = request.getfixturevalue(request.param)
    return made


@pytest.fixture
def trainable() -> Iterator[Pair]:
    """A pair of its own, asked for gradients of all weights. transformers keeps what its first pass made, which in
    inference mode cannot be trained through afterwards."""
    kept = (
        rigid_utils.identity_rot_mats,
        rigid_utils.identity_trans,
        rigid_utils.identity_quats,
        rigid_utils._get_quat,
    )
    pair = _make_pair("two_blocks")
    for network in (pair.network, pair.reference):
        network.requires_grad_(True)
    for made in kept:
        made.cache_clear()
    yield pair
    for made in kept:
        made.cache_clear()


@pytest.fixture(scope="session")
def fold() -> Callable[..., ESMFoldOutput]:
    """Run our network on sequences, every output asked for."""

    def fold(network: ESMFold, sequences: list[str], recycles: int) -> ESMFoldOutput:
        with torch.inference_mode():
            return network(encode(sequences), recycles=recycles, outputs=EVERYTHING)

    return fold


@pytest.fixture(scope="session")
def random_sequence() -> Callable[..., str]:
    """A sequence of a length from a seed; `letters` to draw from."""

    def random_sequence(length: int, seed: int = 0, letters: str = "ACDEFGHIKLMNPQRSTVWY") -> str:
        return "".join(np.random.default_rng([seed, length]).choice(list(letters), length))

    return random_sequence


@pytest.fixture(scope="session")
def fair_language_model() -> Callable[..., dict[str, torch.Tensor]]:
    """A function: a language model's state, as transformers names it without `esm.`, under the names in fair-esm's
    files. The table is written down from its source (esm/pretrained.py, esm/model/esm2.py), not from ours."""

    def rename(state: dict[str, torch.Tensor], num_layers: int) -> dict[str, torch.Tensor]:
        """State under fair-esm's names, with the frequencies that each layer repeats there."""
        fair = {}
        frequencies = state["rotary_embeddings.inv_freq"]
        for key, tensor in state.items():
            for pattern, replacement in _FAIR_NAMES:
                renamed, count = re.subn(pattern, replacement, key)
                if count:
                    fair[renamed] = tensor
                    break
        for layer in range(num_layers):
            fair[f"encoder.sentence_encoder.layers.{layer}.self_attn.rot_emb.inv_freq"] = frequencies.clone()
        return fair

    return rename
