"""Options that change numbers, on a GPU: FP8 products, and early stop of recycling. Run by scripts/gpu-check.

As test_gpu.py: everything needed is in this file, and FOLDATLAS_CHECK_DEVICE=cpu runs it on a CPU.
"""

import os

import numpy as np
import pytest
import torch

from foldatlas.folding.models import load
from foldatlas.folding.network import fp8
from foldatlas.folding.network.kernels import policy, self_check
from foldatlas.folding.network.kernels.policy import FP8_PRODUCTS, Case

DEVICE = os.environ.get("FOLDATLAS_CHECK_DEVICE", "cuda")
ON_GPU = DEVICE.startswith("cuda")
SEQUENCES = (
    "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ",
    "GSHMRSLEVQAPILSRVGDGTQDNLSGAEKAV",
    "MKV",
    "ACDEFGHIKLMNPQRSTVWYACDEFGHIKLMNPQRSTVWY",
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(ON_GPU and not torch.cuda.is_available(), reason="no GPU"),
]
needs_fp8 = pytest.mark.skipif(
    ON_GPU and torch.cuda.is_available() and not policy.can_multiply_in_fp8(DEVICE), reason="a GPU without FP8 units"
)


@needs_fp8
@pytest.mark.parametrize(("inputs", "outputs"), [(128, 512), (1280, 1280), (2560, 10240), (10240, 2560)])
def test_fp8_products_agree(inputs: int, outputs: int) -> None:
    if not ON_GPU:
        inputs, outputs = inputs // 16 * 2, outputs // 16 * 2
    found = self_check.disagreement_of_fp8_products([outputs], FP8_PRODUCTS, Case(DEVICE, fp8.FORMAT, inputs, 0))
    assert found is None, found


@needs_fp8
def test_structures_in_fp8_are_near_those_of_the_cpu() -> None:
    """Values that are rounded to another FP8 number make small differences."""
    expected, found = (load("nano", precision="fp8", device=device).fold(SEQUENCES) for device in ("cpu", DEVICE))
    for one, of_cpu in zip(found, expected, strict=True):
        assert abs(one.mean_plddt - of_cpu.mean_plddt) < 2


def test_recycling_stops_as_on_the_cpu() -> None:
    """In float32; the last repeats run from CUDA graphs."""
    options = {"recycles": 5, "recycle_tolerance": 2.0}
    expected = load("nano", **options).fold_batch(SEQUENCES, pae=True)
    on_device = load("nano", device=DEVICE, **options)
    assert len({one.passes for one in expected}) > 2
    for _ in range(6 if ON_GPU else 1):
        for one, of_cpu in zip(on_device.fold_batch(SEQUENCES, pae=True), expected, strict=True):
            assert one.passes == of_cpu.passes
            assert np.abs(one.positions - of_cpu.positions).max() < 0.05
            assert np.abs(one.plddt - of_cpu.plddt).max() < 0.05
