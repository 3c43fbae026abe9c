"""Invariant point attention (IPA): attention that also depends on distances between points in the residues' frames.

Jumper et al. 2021, algorithm 22. The output is invariant to a rigid motion of all frames together.

Shapes: B batch, L residues, R queries of a chunk, C single channels, Z pair channels, H heads, K head width,
P points of a head.
"""

import math
from collections.abc import Callable
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foldatlas.folding.config import StructureModuleConfig
from foldatlas.folding.network.attention import attention_bias
from foldatlas.folding.network.in_place import joined, multiply, square
from foldatlas.folding.network.linear import Linear
from foldatlas.folding.network.rigid import Rigid
from foldatlas.folding.planning.chunks import slices

# Logits are the sum of three terms (products, bias, points) of about equal variance, so each is scaled by 1/sqrt(3).
NUM_LOGIT_TERMS: Final = 3
# Variance of the squared distance between two points, per point.
POINT_VARIANCE: Final = 9 / 2
# Keeps the gradient of a norm finite at zero.
NORM_EPSILON: Final = 1e-8

PairRows = Callable[[slice], Tensor]  # rows i of a chunk -> the pair representation [B, R, L, Z] there


class InvariantPointAttention(nn.Module):
    """Returns the update of the single representation. All projections have a bias, as in the published weights."""

    def __init__(self, config: StructureModuleConfig):
        super().__init__()
        self.num_heads = config.num_heads
        self.num_query_points = config.num_query_points
        self.num_value_points = config.num_value_points
        width, heads = config.single_width, config.num_heads
        self.linear_q = Linear(width, heads * config.head_width)
        self.linear_kv = Linear(width, heads * 2 * config.head_width)
        self.linear_q_points = Linear(width, heads * self.num_query_points * 3)
        self.linear_kv_points = Linear(width, heads * (self.num_query_points + self.num_value_points) * 3)
        self.linear_b = Linear(config.pair_width, heads)
        self.head_weights = nn.Parameter(torch.zeros(heads))
        value_width = config.pair_width + config.head_width + 4 * self.num_value_points  # 4: x, y, z and the norm
        self.linear_out = Linear(heads * value_width, width)

    def bias(self, pair_rows: PairRows, mask_BL: Tensor, rows: int) -> Tensor:
        """Return the pair term of the logits, [B, H, L, L]. It is the same in every iteration."""
        length = mask_BL.shape[1]
        bias_chunks = (
            attention_bias(self.linear_b(pair_rows(chunk)).mul_(NUM_LOGIT_TERMS**-0.5), mask_BL)
            for chunk in slices(length, rows)
        )
        return joined(bias_chunks, length, axis=2)

    def forward(
        self, single_BLC: Tensor, pair_rows: PairRows, bias_BHLL: Tensor, frames_BL: Rigid, rows: int
    ) -> Tensor:
        query_BHLK = self._heads(self.linear_q(single_BLC))
        key_BHLK, value_BHLK = self._heads(self.linear_kv(single_BLC)).chunk(2, dim=-1)
        query_BHLQ = self._points(self.linear_q_points(single_BLC), frames_BL).flatten(-2)
        key_points_BHLP3, value_points_BHLP3 = self._points(self.linear_kv_points(single_BLC), frames_BL).split(
            [self.num_query_points, self.num_value_points], dim=-2
        )
        key_BHLQ = key_points_BHLP3.flatten(-2)
        value_BHLV = torch.cat((value_BHLK, value_points_BHLP3.flatten(-2)), dim=-1)
        query_BHLK = query_BHLK * (NUM_LOGIT_TERMS * query_BHLK.shape[-1]) ** -0.5

        attended, attended_pair = [], []
        for chunk in slices(single_BLC.shape[1], rows):
            logits_BHRL = query_BHLK[:, :, chunk] @ key_BHLK.transpose(-1, -2)
            logits_BHRL += bias_BHLL[:, :, chunk]
            logits_BHRL -= self._point_term(query_BHLQ[:, :, chunk], key_BHLQ)
            weights_BHRL = logits_BHRL.softmax(dim=-1)
            attended.append(weights_BHRL @ value_BHLV)
            attended_pair.append(weights_BHRL.transpose(1, 2) @ pair_rows(chunk))
        attended_BHLV, pair_BLHZ = torch.cat(attended, dim=2), torch.cat(attended_pair, dim=1)

        value_BLHK, points_BLHQ = attended_BHLV.transpose(1, 2).split(
            [value_BHLK.shape[-1], 3 * self.num_value_points], dim=-1
        )
        points_BLHP3 = points_BLHQ.unflatten(-1, (self.num_value_points, 3))
        points_BLHP3 = frames_BL.unsqueeze(2).apply_inverse(points_BLHP3)
        norm_BLHP = (points_BLHP3.square().sum(dim=-1) + NORM_EPSILON).sqrt()

        # Features of all heads, part by part; coordinates are three parts: all x, then all y, then all z.
        parts = (value_BLHK, *points_BLHP3.unbind(dim=-1), norm_BLHP, pair_BLHZ)
        return self.linear_out(torch.cat([part.flatten(2) for part in parts], dim=-1))

    def _heads(self, x_BLC: Tensor) -> Tensor:
        """[B, L, H * K] -> [B, H, L, K]."""
        return x_BLC.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def _points(self, x_BLC: Tensor, frames_BL: Rigid) -> Tensor:
        """Transform local points, stored as all x, all y, all z, to global points [B, H, L, P, 3]."""
        local_BLQ3 = torch.stack(x_BLC.chunk(3, dim=-1), dim=-1)
        global_BLQ3 = frames_BL.unsqueeze(1).apply(local_BLQ3)
        return global_BLQ3.unflatten(2, (self.num_heads, -1)).transpose(1, 2)

    def _point_term(self, query_BHRQ: Tensor, key_BHLQ: Tensor) -> Tensor:
        """Return the point term [B, H, R, L], subtracted from the logits: scaled squared distances between points."""
        # The sum over points is one squared distance in Q = 3 P dimensions. It is computed from differences: the
        # expanded square would lose precision for close points far from the origin.
        distance_BHRL = torch.cdist(query_BHRQ, key_BHLQ, compute_mode="donot_use_mm_for_euclid_dist")
        scale = math.sqrt(1 / (NUM_LOGIT_TERMS * self.num_query_points * POINT_VARIANCE)) / 2
        return multiply(square(distance_BHRL), (scale * F.softplus(self.head_weights))[:, None, None])
