"""Attention among residues with an additive bias from the pair representation: what trunk attentions share.

Shapes: B batch, L residues, H heads, K head width.
"""

from torch import Tensor


def attention_bias(bias_BLLH: Tensor, mask_BL: Tensor) -> Tensor:
    """Bias [B, H, L, L] (query, key) of each head, minus infinity at keys that are padding (False in `mask_BL`).

    Rows whose query is padding keep their real keys, so that no row is empty and every value stays finite.
    """
    return bias_BLLH.permute(0, 3, 1, 2).masked_fill(~mask_BL[:, None, None, :], float("-inf")).contiguous()
