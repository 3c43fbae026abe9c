"""How likely a sequence is to a masked language model: pseudo-perplexity, exact, in parts and in one pass.

Exact (Salazar et al. 2020; Lin et al. 2023 report ESM-2's): each residue is hidden in turn, and asked for; one pass
through the model a residue. In parts: some 15 % of the residues, as in training, are hidden at a time, until each has
been asked for once; seven passes. In one pass (the "wild-type marginal" of Meier et al. 2021): nothing is hidden, so
the model sees the residue that it is asked for. That is an approximation from below: for ranking sequences, not for
comparing with exact values.

The probability is among all 33 tokens. Residues that are not standard are seen and not asked for.

Shapes: T tokens of one protein, P residues asked for, M of them masked in one pass, D channels.
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
TOKENS_A_PASS: Final = 8192  # masked copies of a sequence, tokens together; one copy at least

_STANDARD_TOKENS: Final = AATYPE_TOKENS[: len(STANDARD_RESIDUES)]


def exact(model: LanguageModel, head: MaskedHead, tokens_T: Tensor, tokens_a_pass: int = TOKENS_A_PASS) -> float:
    """Pseudo-perplexity, 1 or more, of one protein, each residue masked in turn.

    `tokens_T` must hold a standard residue.
    """
    positions_P = _asked_for(tokens_T)
    log_probabilities = []
    for positions_M in positions_P.split(max(1, tokens_a_pass // len(tokens_T))):
        rows_M = torch.arange(len(positions_M), device=tokens_T.device)
        masked_MT = tokens_T.repeat(len(positions_M), 1)
        masked_MT[rows_M, positions_M] = MASK
        state_MD = _last_state(model, masked_MT)[rows_M, positions_M]
        log_probabilities.append(_log_probability(head, state_MD, tokens_T[positions_M]))
    return _perplexity(log_probabilities)


def in_parts(
    model: LanguageModel, head: MaskedHead, tokens_T: Tensor, masked_fraction: float = MASKED_FRACTION
) -> float:
    """The same with the residues masked in ceil(1 / `masked_fraction`) parts, drawn by a fixed seed: a higher value
    than the exact one, as there is less to go by."""
    positions_P = _asked_for(tokens_T)
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
    """The same from a single pass with nothing masked: a lower value, as each residue is seen when asked for."""
    positions_P = _asked_for(tokens_T)
    state_PD = _last_state(model, tokens_T.unsqueeze(0))[0, positions_P]
    return _perplexity([_log_probability(head, state_PD, tokens_T[positions_P])])


def _asked_for(tokens_T: Tensor) -> Tensor:
    return torch.isin(tokens_T, tokens_T.new_tensor(_STANDARD_TOKENS)).nonzero().squeeze(-1)


def _last_state(model: LanguageModel, tokens_BT: Tensor) -> Tensor:
    *_, state_BTD = model.hidden_states(tokens_BT)
    return state_BTD


def _log_probability(head: MaskedHead, state_PD: Tensor, tokens_P: Tensor) -> Tensor:
    return head(state_PD).float().log_softmax(dim=-1).gather(1, tokens_P.unsqueeze(1)).squeeze(1)


def _perplexity(log_probabilities: list[Tensor]) -> float:
    return math.exp(-torch.cat(log_probabilities).double().mean().item())
