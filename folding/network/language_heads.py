"""ESM-2's own heads, which folding does not use: masked-token prediction, and contacts from attention maps.

Lin et al. 2023 (masked tokens) and Rao et al. 2021, "Transformer protein language models are unsupervised structure
learners" (contacts: a logistic regression on the attention maps of all layers and heads, symmetrised, with average
product correction). Parameters have transformers' names. The heads compute in float32 for models of any dtype.

Shapes: B batch, T tokens (residues and the two ends), L = T - 2 residues, D channels, H heads.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foldatlas.folding.config import LanguageModelConfig
from foldatlas.folding.network.layout import without_values
from foldatlas.folding.network.tokens import EOS, NUM_TOKENS, PAD
from foldatlas.schemas.errors import ModelError

MASKED_PREFIX: Final = "lm_head."
CONTACT_PREFIX: Final = "contact_head."

Head = TypeVar("Head", bound=nn.Module)


class MaskedHead(nn.Module):
    """Logits of the 33 tokens at each position, from the last hidden state."""

    def __init__(self, config: LanguageModelConfig):
        super().__init__()
        self.dense = nn.Linear(config.width, config.width)
        self.layer_norm = nn.LayerNorm(config.width)
        self.decoder = nn.Linear(config.width, NUM_TOKENS, bias=False)
        self.bias = nn.Parameter(torch.zeros(NUM_TOKENS))

    def forward(self, state_BTD: Tensor) -> Tensor:
        return self.decoder(self.layer_norm(F.gelu(self.dense(state_BTD.float())))) + self.bias


class ContactHead(nn.Module):
    """Probability that two residues are in contact (C-betas within 8 angstrom), from the attention of all layers."""

    def __init__(self, config: LanguageModelConfig):
        super().__init__()
        self.regression = nn.Linear(config.num_layers * config.num_heads, 1)

    def forward(self, tokens_BT: Tensor, attention_maps: Iterable[Tensor]) -> Tensor:
        """Return contact probabilities [B, L, L], 0 to 1; values at padding have no meaning.

        `attention_maps` yields the maps [B, H, T, T] of all heads in the order of the layers, any number at a time. The
        regression is linear, so each map is added to the logits as it comes and only that one is in memory.
        """
        is_residue_BL = ((tokens_BT != PAD) & (tokens_BT != EOS))[:, 1:-1]
        pairs_B1LL = (is_residue_BL.unsqueeze(1) & is_residue_BL.unsqueeze(2)).unsqueeze(1)
        logits_BLL = self.regression.bias.expand(pairs_B1LL[:, 0].shape)
        weights, done = self.regression.weight[0], 0
        for map_BHTT in attention_maps:
            weight_H = weights[done : done + map_BHTT.shape[1]]
            done += len(weight_H)
            map_BHLL = map_BHTT[:, :, 1:-1, 1:-1] * pairs_B1LL
            corrected_BHLL = average_product_correct(map_BHLL + map_BHLL.transpose(-1, -2))
            logits_BLL = logits_BLL + torch.einsum("h,bhij->bij", weight_H, corrected_BHLL)
        assert done == len(weights)
        return logits_BLL.sigmoid()


def average_product_correct(symmetric_BHLL: Tensor) -> Tensor:
    """Average product correction (Dunn et al. 2008): subtract from each entry the product of its row and column sums
    divided by the total."""
    row_BHL1 = symmetric_BHLL.sum(dim=-1, keepdim=True)
    total_BH11 = row_BHL1.sum(dim=-2, keepdim=True)
    return symmetric_BHLL - row_BHL1 * row_BHL1.transpose(-1, -2) / total_BH11


@dataclass(frozen=True, slots=True)
class LanguageHeads:
    """The heads that a model has weights for; None for a head without weights."""

    masked: MaskedHead | None = None
    contact: ContactHead | None = None


def build_heads(config: LanguageModelConfig, state: Mapping[str, Tensor], token_embedding: Tensor) -> LanguageHeads:
    """Return the heads that `state`, possibly of a whole model, has weights for, in float32.

    Names are `lm_head.dense.weight`, `lm_head.bias`, `contact_head.regression.weight` and so on, with or without the
    prefix `esm.`. fair-esm's `lm_head.weight` means `lm_head.decoder.weight`; without either, the decoder is tied to
    the token embedding [33, D]. An `lm_head` without `dense` belongs to the folding trunk, and is ignored.

    Raise ModelError, with the tensor's name, if a tensor of a head is missing, unexpected or has a wrong shape.
    """
    masked = _with_prefix(MASKED_PREFIX, state)
    if "dense.weight" in masked:
        tied = masked.pop("weight", None)
        masked.setdefault("decoder.weight", token_embedding if tied is None else tied)
    contact = _with_prefix(CONTACT_PREFIX, state)
    return LanguageHeads(
        masked=_load(MaskedHead, config, MASKED_PREFIX, masked) if "dense.weight" in masked else None,
        contact=_load(ContactHead, config, CONTACT_PREFIX, contact) if contact else None,
    )


def _with_prefix(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    plain = {name.removeprefix("esm."): tensor for name, tensor in state.items()}
    return {name.removeprefix(prefix): tensor for name, tensor in plain.items() if name.startswith(prefix)}


def _load(head_class: type[Head], config: LanguageModelConfig, prefix: str, state: Mapping[str, Tensor]) -> Head:
    with without_values():
        head = head_class(config)
    expected = head.state_dict()
    for name in sorted(expected.keys() ^ state.keys()):
        problem = "lack" if name in expected else "have an unexpected tensor"
        raise ModelError(f"the weights {problem} {prefix}{name}: give the complete weights of an ESM-2 of these sizes")
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            raise ModelError(
                f"{prefix}{name} has shape {tuple(tensor.shape)}, but the configuration requires "
                f"{tuple(expected[name].shape)}: use the config.json that was published with these weights"
            )
    head.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=True, assign=True)
    return head.eval().requires_grad_(False)
