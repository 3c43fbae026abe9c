"""ESM-2's own heads, which folding does not use: residues behind masks, and contacts from attention.

Lin et al. 2023 (masked residues) and Rao et al. 2021, "Transformer protein language models are unsupervised structure
learners" (contacts: a logistic regression on the attention maps of all layers and heads, symmetrised and corrected by
their average product). Parameters have transformers' names. The heads compute in float32, whatever the model's type.

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
    """Logits of the 33 tokens from the last hidden state of each."""

    def __init__(self, config: LanguageModelConfig):
        super().__init__()
        self.dense = nn.Linear(config.width, config.width)
        self.layer_norm = nn.LayerNorm(config.width)
        self.decoder = nn.Linear(config.width, NUM_TOKENS, bias=False)
        self.bias = nn.Parameter(torch.zeros(NUM_TOKENS))

    def forward(self, state_BTD: Tensor) -> Tensor:
        return self.decoder(self.layer_norm(F.gelu(self.dense(state_BTD.float())))) + self.bias


class ContactHead(nn.Module):
    """Probability that two residues touch (C-betas within 8 angstrom), from every layer's attention."""

    def __init__(self, config: LanguageModelConfig):
        super().__init__()
        self.regression = nn.Linear(config.num_layers * config.num_heads, 1)

    def forward(self, tokens_BT: Tensor, attention_maps: Iterable[Tensor]) -> Tensor:
        """Probabilities [B, L, L], 0 to 1, from the maps [B, H, T, T] of all heads, those of one layer after those of
        the one before, any number at a time; values at padding mean nothing.

        The regression is linear, so maps are added when they come, and no others lie in memory.
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
    """Takes from each entry what its row and column would have by chance (Dunn et al. 2008)."""
    row_BHL1 = symmetric_BHLL.sum(dim=-1, keepdim=True)
    total_BH11 = row_BHL1.sum(dim=-2, keepdim=True)
    return symmetric_BHLL - row_BHL1 * row_BHL1.transpose(-1, -2) / total_BH11


@dataclass(frozen=True, slots=True)
class LanguageHeads:
    """The heads that a model's weights have; None for one that they lack."""

    masked: MaskedHead | None = None
    contact: ContactHead | None = None


def build_heads(config: LanguageModelConfig, state: Mapping[str, Tensor], token_embedding: Tensor) -> LanguageHeads:
    """The heads of which `state` (that of a whole model, too) holds weights, in float32.

    Names are `lm_head.dense.weight`, `lm_head.bias`, `contact_head.regression.weight` and so on, with or without
    `esm.` in front; fair-esm's `lm_head.weight` means `lm_head.decoder.weight`. Where a state has neither, as they
    are one tensor with the token embedding [33, D], that is used. An `lm_head` without `dense` is the folding trunk's,
    not ESM-2's. Raises ModelError that names the tensor when one of a head is missing, unexpected or of another shape.
    """
    masked = _of(MASKED_PREFIX, state)
    if "dense.weight" in masked:
        tied = masked.pop("weight", None)
        masked.setdefault("decoder.weight", token_embedding if tied is None else tied)
    contact = _of(CONTACT_PREFIX, state)
    return LanguageHeads(
        masked=_load(MaskedHead, config, MASKED_PREFIX, masked) if "dense.weight" in masked else None,
        contact=_load(ContactHead, config, CONTACT_PREFIX, contact) if contact else None,
    )


def _of(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    plain = {name.removeprefix("esm."): tensor for name, tensor in state.items()}
    return {name.removeprefix(prefix): tensor for name, tensor in plain.items() if name.startswith(prefix)}


def _load(head_class: type[Head], config: LanguageModelConfig, prefix: str, state: Mapping[str, Tensor]) -> Head:
    with without_values():
        head = head_class(config)
    expected = head.state_dict()
    for name in sorted(expected.keys() ^ state.keys()):
        fault = "lack" if name in expected else "have no place for"
        raise ModelError(f"the weights {fault} {prefix}{name}: give the whole state of an ESM-2 of these sizes")
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            raise ModelError(
                f"{prefix}{name} has shape {tuple(tensor.shape)}, the head needs {tuple(expected[name].shape)}: do the "
                "sizes belong to these weights?"
            )
    head.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=True, assign=True)
    return head.eval().requires_grad_(False)
