"""Attention along rows of pairs against float64."""

import pytest
import torch

from foldatlas.folding.network import attention
from foldatlas.folding.network.attention import attention_along_rows

# bfloat16 has 8 bits: weights are rounded once, the result (of at most about 1) once more.
ROUNDING = 2**-6


@pytest.mark.parametrize("kernel", ["fused", "in parts"])
@pytest.mark.parametrize("logits", [1, 5000, 2**19])
@pytest.mark.parametrize("length", [1, 31, 129])
def test_attention_along_rows(kernel, logits, length, monkeypatch):
    """All parts: one query of one row, some queries, and several rows, of which the last part has fewer."""
    monkeypatch.setattr(attention, "_LOGITS_PER_THREAD", logits)
    generator = torch.Generator().manual_seed(length)
    query, key, value = torch.randn(3, 5, length, 4, 16, generator=generator).bfloat16().transpose(2, 3)
    bias = 3 * torch.randn(4, length, length, generator=generator).bfloat16()
    bias[..., length // 2 + 1 :] = -torch.inf
    expected = torch.nn.functional.scaled_dot_product_attention(
        query.double(), key.double(), value.double(), attn_mask=bias.double().expand(5, -1, -1, -1)
    )
    # With gradients, torch's fused kernel is used.
    with torch.set_grad_enabled(kernel == "fused"):
        found = attention_along_rows(query, key, value, bias)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), expected.transpose(1, 2).flatten(2), atol=ROUNDING, rtol=0)
