"""The additive attention bias that the pair representation gives to the attentions of the trunk.

Shapes: B batch, L residues, H heads, K head width.
"""

from torch import Tensor


def attention_bias(bias_BLLH: Tensor, mask_BL: Tensor) -> Tensor:
    """Return the bias [B, H, L, L] (query, key) of each head, minus infinity at padded keys (`mask_BL` False).

    Rows of padded queries keep the unmasked keys, so that no row is empty and every result is finite.
    """
    return bias_BLLH.permute(0, 3, 1, 2).masked_fill(~mask_BL[:, None, None, :], float("-inf")).contiguous()
