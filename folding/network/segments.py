"""Packed sequences: several sequences concatenated in one row of tokens, without padding, each attending to itself.

All operations on single tokens work on the row as it is; only attention needs the boundaries of the sequences. On a
GPU with 16-bit values it is one call of variable-length flash attention (Dao et al. 2022), if it was approved there
(kernels/policy.py); elsewhere sequences of equal length are batched, which is exact and the reference.

Shapes: N tokens, S sequences, H heads, K head width.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from foldatlas.folding.network.kernels import policy
from foldatlas.folding.network.transfer import to_device


class Segments:
    """The boundaries of S sequences in a pack. `lengths` are their numbers of tokens, 1 or more each; N is the sum."""

    def __init__(self, lengths: Sequence[int], device: torch.device | str = "cpu"):
        assert lengths and min(lengths) > 0, lengths
        self.lengths = tuple(lengths)
        lengths_S, ends = torch.tensor(self.lengths), torch.tensor((0, *self.lengths)).cumsum(0)
        self._starts = ends[:-1].tolist()
        sequence_N = torch.repeat_interleave(torch.arange(len(lengths)), lengths_S)
        positions_N = torch.arange(len(sequence_N)) - ends[sequence_N]
        parts = (lengths_S, ends, sequence_N, positions_N)
        copied = to_device(torch.cat(parts), torch.device(device))  # one copy
        self.lengths_S, ends, self.sequence_N, self.positions_N = copied.split([len(part) for part in parts])
        self._ends_int32 = ends.to(torch.int32)

    def attend(self, query_1HNK: Tensor, key_1HNK: Tensor, value_1HNK: Tensor) -> Tensor:
        """Return softmax attention within each sequence, [1, H, N, K]. The queries must be scaled already."""
        if policy.attends_in_one_call(value_1HNK):
            return self.attend_in_one_call(query_1HNK, key_1HNK, value_1HNK)
        return self.attend_by_length(query_1HNK, key_1HNK, value_1HNK)

    def attend_in_one_call(self, query_1HNK: Tensor, key_1HNK: Tensor, value_1HNK: Tensor) -> Tensor:
        """Return the same as `attend`, by torch's variable-length attention: on a GPU, in 16 bits."""
        from torch.nn.attention.varlen import varlen_attn

        dtype, longest = value_1HNK.dtype, max(self.lengths)
        query, key, value = (x.squeeze(0).transpose(0, 1).to(dtype) for x in (query_1HNK, key_1HNK, value_1HNK))
        ends = self._ends_int32
        attended_NHK = varlen_attn(query, key, value, ends, ends, longest, longest, scale=1.0)
        assert isinstance(attended_NHK, Tensor)
        return attended_NHK.transpose(0, 1).unsqueeze(0)

    def attend_by_length(self, query_1HNK: Tensor, key_1HNK: Tensor, value_1HNK: Tensor) -> Tensor:
        """Return the same as `attend`, with one call for each distinct length."""
        by_length: dict[int, list[int]] = {}
        for number, length in enumerate(self.lengths):
            by_length.setdefault(length, []).append(number)
        parts: list[Tensor | None] = [None] * len(self.lengths)
        for length, numbers in by_length.items():
            # [sequences of this length, H, length, K]
            query, key, value = (
                torch.cat([x_1HNK.narrow(2, self._starts[number], length) for number in numbers])
                for x_1HNK in (query_1HNK, key_1HNK, value_1HNK)
            )
            attended = F.scaled_dot_product_attention(query, key, value, scale=1.0)
            for number, part_HTK in zip(numbers, attended, strict=True):
                parts[number] = part_HTK
        return torch.cat([part for part in parts if part is not None], dim=1).unsqueeze(0)
