"""Comparison of the kernels with the plain code on the device where a model is loaded.

Whether a kernel is right on a GPU depends on the GPU, its driver and Triton's version, and no test of ours may have run
on that combination. So each update is computed once both ways, on a small random input with odd sizes and padding. A
kernel that does not build, gives a value that is not finite, or is further from the float32 result than plain bfloat16
arithmetic allows, is not used, and a warning is logged.

A kernel that reads or writes outside its tensors may end the process with an error of the driver: this is not caught.
"""

import copy
import logging
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Final

import torch
from torch import Tensor, nn

from foldatlas.folding.network import fp8
from foldatlas.folding.network.esmfold import ESMFold
from foldatlas.folding.network.kernels import policy
from foldatlas.folding.network.kernels.policy import (
    ATTENTION,
    FP8_PRODUCTS,
    FROM_SEQUENCE,
    MULTIPLICATION,
    PACKED_ATTENTION,
    TO_SEQUENCE,
    TRANSITION,
    Case,
)
from foldatlas.folding.network.language_model import LanguageModel
from foldatlas.folding.network.segments import Segments
from foldatlas.folding.network.sequence_and_pair import PairToSequence, SequenceToPair
from foldatlas.folding.network.triangle import TriangleAttention, TriangleMultiplication
from foldatlas.folding.network.trunk import PairTransition
from foldatlas.folding.planning.chunks import slices

# Lengths of two proteins, and rows of a chunk: all rows and a multiple of 8 residues, and chunks that do not divide
# another length. Kernels have a variant for each (launch.py).
_BATCHES: Final = (((72, 50), 72), ((77, 50), 40))
_FP8_TOKENS: Final = (1, 77, 300)
_PACKED_LENGTHS: Final = (77, 3, 130, 3, 50)  # of sequences, for packed attention

# The error of a kernel may be this many times that of plain torch in the same dtype. Both round a few times in a
# different order; a wrong index or a missing synchronisation gives errors of the order of the update itself.
_ERROR_RATIO: Final = 2.0

_logger = logging.getLogger(__name__)
_checked: set[tuple[str, Case]] = set()

Update = Callable[[Tensor, Tensor], Tensor]  # pair representation and mask -> the updated pair representation


def approve_kernels(network: ESMFold) -> None:
    """Compare the kernels that `network` could use with the plain code, and approve those that agree (policy.py)."""
    trunk, weight = network.config.trunk, network.trunk.recycle_disto.weight
    heads = {ATTENTION: trunk.num_pair_heads, TO_SEQUENCE: trunk.num_single_heads}
    for update in policy.UPDATES:
        case = Case(str(weight.device), network.trunk.dtype, trunk.pair_width, heads.get(update, 0))
        if policy.can_run(update, case):
            _approve(update, case, disagreement)
    approve_packed_attention(network.esm)
    approve_fp8_products(network.esm)


def approve_packed_attention(model: LanguageModel, dtype: torch.dtype | None = None) -> None:
    """Do the same for attention of packed sequences in `dtype`, by default that of the weights of `model`."""
    weight = model.embed_tokens.weight
    case = Case(str(weight.device), dtype or weight.dtype, model.config.head_width, model.config.num_heads)
    if policy.can_attend_in_one_call(case):
        _approve(PACKED_ATTENTION, case, disagreement_of_packed_attention)


def approve_fp8_products(model: LanguageModel) -> None:
    """Do the same for products in FP8, if `model` has any: for each number of input channels, with all outputs."""
    layers = [module for module in model.modules() if isinstance(module, fp8.Fp8Linear)]
    if not layers or not policy.can_multiply_in_fp8(str(layers[0].values_OK.device)):
        return
    shapes = sorted({tuple(layer.values_OK.shape) for layer in layers})
    for width in sorted({inputs for _, inputs in shapes}):
        case = Case(str(layers[0].values_OK.device), fp8.FORMAT, width, 0)
        outputs = [number for number, inputs in shapes if inputs == width]
        _approve(FP8_PRODUCTS, case, partial(disagreement_of_fp8_products, outputs))


def _approve(update: str, case: Case, find_disagreement: Callable[[str, Case], str | None]) -> None:
    if (update, case) in _checked:
        return
    _checked.add((update, case))
    reason = find_disagreement(update, case)
    if reason is None:
        policy.approve(update, case)
        _logger.info("%s runs as a kernel on %s", update, case.device)
    else:
        _logger.warning("%s runs by plain torch on %s, more slowly: %s", update, case.device, reason)


def disagreement(update: str, case: Case) -> str | None:
    """Return why the kernels of `update` cannot be used in `case`, or None."""
    try:
        with torch.inference_mode():
            for layer, (lengths, rows) in product(layers(update, case), _BATCHES):
                kernel, plain = errors(update, layer, case, mask_of(lengths), rows)
                if not kernel <= _ERROR_RATIO * plain:
                    return f"its kernel is off by {kernel:.2g} of the update, plain torch by {plain:.2g}"
    except Exception as error:  # of Triton's compiler, assembler or driver, which have no common class
        return _failure(error)
    return None


def disagreement_of_packed_attention(update: str, case: Case) -> str | None:
    """Return why variable-length attention cannot be used in `case`, or None."""
    try:
        with torch.inference_mode():
            segments = Segments(_PACKED_LENGTHS, case.device)
            generator = torch.Generator().manual_seed(0)
            shape = (3, 1, case.heads, sum(_PACKED_LENGTHS), case.width)
            inputs = torch.randn(shape, generator=generator).to(case.device, case.dtype)
            expected = segments.attend_by_length(*inputs.float())
            plain, kernel = (
                float((attend(*inputs) - expected).norm() / expected.norm())
                for attend in (segments.attend_by_length, segments.attend_in_one_call)
            )
            if not kernel <= _ERROR_RATIO * plain:
                return f"its kernel is off by {kernel:.2g}, plain torch by {plain:.2g}"
    except Exception as error:  # of torch's kernels and the driver
        return _failure(error)
    return None


def disagreement_of_fp8_products(outputs: Sequence[int], update: str, case: Case) -> str | None:
    """Return why FP8 units cannot be used for weights with `outputs` channels, or None."""
    try:
        with torch.inference_mode():
            generator = torch.Generator().manual_seed(0)
            for tokens, channels in product(_FP8_TOKENS, outputs):
                x, weight = (
                    fp8.quantised(torch.randn(rows, case.width, generator=generator).to(case.device, torch.bfloat16))
                    for rows in (tokens, channels)
                )
                bias_O = torch.randn(channels, generator=generator).to(case.device, torch.bfloat16)
                expected = fp8.plain_product(x, weight, bias_O, torch.float32)
                plain = float((expected.bfloat16() - expected).norm() / expected.norm())
                found = fp8.scaled_product(x, weight, bias_O, torch.float32)
                kernel = float((found - expected).norm() / expected.norm())
                if not kernel <= _ERROR_RATIO * plain:
                    return f"it is off by {kernel:.2g}, rounding to bfloat16 by {plain:.2g}"
    except Exception as error:  # of torch's kernels and the driver
        return _failure(error)
    return None


def _failure(error: Exception) -> str:
    return f"its kernel fails with {type(error).__name__}: {' '.join(str(error).split())[:300]}"


def errors(
    update: str,
    layer: nn.Module,
    case: Case,
    mask_BL: Tensor,
    rows: int,
    reference: torch.dtype = torch.float32,
) -> tuple[float, float]:
    """Return the relative errors of the kernel and of plain torch against plain torch in the dtype `reference`.

    `mask_BL` is True at residues. The error is the Frobenius norm of the difference over that of the update, at pairs
    of residues; for the kernel NaN if any value is not finite, at padded pairs or in a protein without residues.
    """
    generator = torch.Generator().manual_seed(mask_BL.shape[1])
    proteins, length = mask_BL.shape
    pair_BLLZ = torch.randn(proteins, length, length, case.width, generator=generator).to(case.device, case.dtype)
    mask_BL = mask_BL.to(case.device)
    rows = min(rows, length)

    with policy.forced():
        wide = copy.deepcopy(layer).to(reference)
        expected_BLLZ = wide(pair_BLLZ.to(reference, copy=True), mask_BL, rows)
        plain_BLLZ = layer(pair_BLLZ.clone(), mask_BL, rows)
    with policy.forced(update):
        kernel_BLLZ = layer(pair_BLLZ.clone(), mask_BL, rows)

    pairs_BLL = mask_BL.unsqueeze(1) & mask_BL.unsqueeze(2)
    size_of_update = (expected_BLLZ - pair_BLLZ)[pairs_BLL].norm()

    def error(result_BLLZ: Tensor) -> float:
        return float((result_BLLZ - expected_BLLZ)[pairs_BLL].norm() / size_of_update)

    return error(kernel_BLLZ) if kernel_BLLZ.isfinite().all() else float("nan"), error(plain_BLLZ)


def mask_of(lengths: Sequence[int]) -> Tensor:
    """Return the mask [B, L] of proteins of these lengths, padded to the longest."""
    return torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)


def layers(update: str, case: Case) -> list[nn.Module]:
    """Return layers of `update` with random weights, in each direction."""
    make: dict[str, list[Callable[[], nn.Module]]] = {
        MULTIPLICATION: [
            lambda: TriangleMultiplication(case.width, outgoing=True),
            lambda: TriangleMultiplication(case.width, outgoing=False),
        ],
        ATTENTION: [
            lambda: TriangleAttention(case.width, case.heads, starting=True),
            lambda: TriangleAttention(case.width, case.heads, starting=False),
        ],
        TRANSITION: [lambda: PairTransition(case.width)],
        FROM_SEQUENCE: [lambda: _FromSequence(case.width)],
        TO_SEQUENCE: [lambda: _ToSequence(case.width, case.heads)],
    }
    return [randomised(build()).to(case.device, case.dtype) for build in make[update]]


class _FromSequence(nn.Module):
    """SequenceToPair as an update of the pairs alone: their first row is the single representation."""

    def __init__(self, width: int):
        super().__init__()
        self.layer = SequenceToPair(width, width)

    def forward(self, pair_BLLZ: Tensor, mask_BL: Tensor, rows: int) -> Tensor:
        return self.layer(pair_BLLZ[:, 0].clone(), pair_BLLZ, rows)


class _ToSequence(nn.Module):
    """PairToSequence as an update of the pairs, whose first channels become the bias. NaN if a mask is wrong."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.layer = PairToSequence(width, heads)

    def forward(self, pair_BLLZ: Tensor, mask_BL: Tensor, rows: int) -> Tensor:
        updated_BLLZ = pair_BLLZ.clone()
        for chunk in slices(mask_BL.shape[1], rows):
            bias_BRLH = self.layer(pair_BLLZ[:, chunk], mask_BL).permute(0, 2, 3, 1)[..., : pair_BLLZ.shape[-1]]
            masked_B1L1 = ~mask_BL[:, None, :, None]
            bias_BRLH = bias_BRLH.masked_fill(bias_BRLH.isneginf() != masked_B1L1, float("nan"))
            updated_BLLZ[:, chunk, :, : bias_BRLH.shape[-1]] = bias_BRLH.masked_fill(masked_B1L1, 0)
        return updated_BLLZ


def randomised(layer: nn.Module) -> nn.Module:
    """Draw the parameters of `layer` so that its update is about as large as its input, and return it."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in layer.parameters():
            scale = parameter.shape[-1] ** -0.5 if parameter.ndim == 2 else 0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
            if parameter.ndim == 1:
                parameter.add_(0.5)
    return layer
