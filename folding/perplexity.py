"""Pseudo-perplexity of a sequence under a masked language model: exact, in parts, and in one pass.

Exact (Salazar et al. 2020; Lin et al. 2023 report it for ESM-2): each residue is masked in turn, which takes one pass
for each residue. In parts: about 15 % of the residues, as in training, are masked at a time until each was masked once,
in seven passes; the values are higher than the exact ones. In one pass ("wild-type marginals" of Meier et al. 2021):
nothing is masked, so the model reads the residue that it predicts; the values are lower than the exact ones, for
ranking of sequences and not for comparison with exact values.

Probabilities are over all 33 tokens. Non-standard residues are read by the model but not scored.

Shapes: T tokens of one protein, P scored residues, M of them masked in one pass, D channels.
"""

import math
from typing import Final

import torch
from torch import Tensor

from foldatlas.folding.network.language_heads import MaskedHead
from foldatlas.folding.network.language_model import LanguageModel
from foldatlas.folding.network.tokens import AATYPE_TOKENS, MASK
from foldatlas.schemas.records import STANDARD_RESIDUES

MASKED_FRACTION: Final = 0.15
TOKENS_PER_PASS: Final = 8192  # all masked copies of a sequence in one pass; one copy at least

_STANDARD_TOKENS: Final = AATYPE_TOKENS[: len(STANDARD_RESIDUES)]


def exact(model: LanguageModel, head: MaskedHead, tokens_T: Tensor, tokens_per_pass: int = TOKENS_PER_PASS) -> float:
    """Return the pseudo-perplexity, 1 or more, of one protein, with each residue masked in turn.

    `tokens_T` must have a standard residue.
    """
    positions_P = _scored_positions(tokens_T)
    log_probabilities = []
    for positions_M in positions_P.split(max(1, tokens_per_pass // len(tokens_T))):
        rows_M = torch.arange(len(positions_M), device=tokens_T.device)
        masked_MT = tokens_T.repeat(len(positions_M), 1)
        masked_MT[rows_M, positions_M] = MASK
        state_MD = _last_state(model, masked_MT)[rows_M, positions_M]
        log_probabilities.append(_log_probability(head, state_MD, tokens_T[positions_M]))
    return _perplexity(log_probabilities)


def in_parts(
    model: LanguageModel, head: MaskedHead, tokens_T: Tensor, masked_fraction: float = MASKED_FRACTION
) -> float:
    """Return the same, with the residues masked in ceil(1 / `masked_fraction`) random parts, drawn by a fixed seed.

    The value is higher than the exact one, because the model sees fewer residues.
    """
    positions_P = _scored_positions(tokens_T)
    generator = torch.Generator().manual_seed(len(tokens_T))
    order_P = torch.randperm(len(positions_P), generator=generator).to(tokens_T.device)
    log_probabilities = []
    for part in order_P.tensor_split(min(math.ceil(1 / masked_fraction), len(order_P))):
        positions_M = positions_P[part]
        masked_T = tokens_T.clone()
        masked_T[positions_M] = MASK
        state_MD = _last_state(model, masked_T.unsqueeze(0))[0, positions_M]
        log_probabilities.append(_log_probability(head, state_MD, tokens_T[positions_M]))
    return _perplexity(log_probabilities)


def one_pass(model: LanguageModel, head: MaskedHead, tokens_T: Tensor) -> float:
    """Return the same from a single pass with nothing masked; lower, because the model sees the residue it predicts."""
    positions_P = _scored_positions(tokens_T)
    state_PD = _last_state(model, tokens_T.unsqueeze(0))[0, positions_P]
    return _perplexity([_log_probability(head, state_PD, tokens_T[positions_P])])


def _scored_positions(tokens_T: Tensor) -> Tensor:
    return torch.isin(tokens_T, tokens_T.new_tensor(_STANDARD_TOKENS)).nonzero().squeeze(-1)


def _last_state(model: LanguageModel, tokens_BT: Tensor) -> Tensor:
    *_, state_BTD = model.hidden_states(tokens_BT)
    return state_BTD


def _log_probability(head: MaskedHead, state_PD: Tensor, tokens_P: Tensor) -> Tensor:
    return head(state_PD).float().log_softmax(dim=-1).gather(1, tokens_P.unsqueeze(1)).squeeze(1)


def _perplexity(log_probabilities: list[Tensor]) -> float:
    return math.exp(-torch.cat(log_probabilities).double().mean().item())
