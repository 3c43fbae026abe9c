"""Which updates run as kernels, and what the comparison at load finds. No Triton is needed: kernels are replaced."""

import logging
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from foldatlas.folding.models import load
from foldatlas.folding.network.in_place import add_updates
from foldatlas.folding.network.kernels import policy, self_check
from foldatlas.folding.network.kernels.policy import ATTENTION, MULTIPLICATION, TRANSITION, UPDATES, Case
from foldatlas.folding.network.triangle import TriangleAttention, TriangleMultiplication

CASE = Case("cpu", torch.bfloat16, 32, 2)


@pytest.fixture(autouse=True)
def nothing_approved(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(policy, "_approved", set())
    monkeypatch.setattr(self_check, "_checked", set())
    yield


def plain_attention(layer: TriangleAttention, pair_BLLZ: Tensor, mask_BL: Tensor, rows: int) -> None:
    add_updates(pair_BLLZ, layer._updates(pair_BLLZ, mask_BL, rows))


def without_mask(layer: TriangleAttention, pair_BLLZ: Tensor, mask_BL: Tensor, rows: int) -> None:
    plain_attention(layer, pair_BLLZ, torch.ones_like(mask_BL), rows)


def with_nan_at_padding(layer: TriangleAttention, pair_BLLZ: Tensor, mask_BL: Tensor, rows: int) -> None:
    plain_attention(layer, pair_BLLZ, mask_BL, rows)
    pair_BLLZ[~mask_BL] = float("nan")


def broken(layer: TriangleAttention, pair_BLLZ: Tensor, mask_BL: Tensor, rows: int) -> None:
    raise RuntimeError("ptxas fatal: no\nregisters")


def test_nothing_is_used_before_its_check() -> None:
    pair_BLLZ = torch.zeros(1, 3, 3, 32, dtype=torch.bfloat16)
    assert not any(policy.uses_kernel(update, pair_BLLZ) for update in UPDATES)
    policy.approve(ATTENTION, CASE)
    assert policy.uses_kernel(ATTENTION, pair_BLLZ, heads=2)
    assert not policy.uses_kernel(ATTENTION, pair_BLLZ, heads=1)
    assert not policy.uses_kernel(ATTENTION, pair_BLLZ.float(), heads=2)
    assert not policy.uses_kernel(TRANSITION, pair_BLLZ)


def test_gradients_need_the_plain_code() -> None:
    layer = TriangleMultiplication(32, outgoing=True)
    pair_BLLZ = torch.randn(1, 3, 3, 32, requires_grad=True)
    with policy.forced(*UPDATES):
        layer(pair_BLLZ, torch.ones(1, 3, dtype=torch.bool), 3).sum().backward()
    assert pair_BLLZ.grad is not None and pair_BLLZ.grad.isfinite().all()


@pytest.mark.parametrize(
    ("case", "usable"),
    [
        (Case("cuda:0", torch.bfloat16, 128, 4), True),
        (Case("cuda:0", torch.bfloat16, 256, 8), True),
        (Case("cuda:0", torch.float32, 128, 4), False),
        (Case("cpu", torch.bfloat16, 128, 4), False),
        (Case("cuda:0", torch.bfloat16, 96, 4), False),
        (Case("cuda:0", torch.bfloat16, 128, 1), False),
    ],
)
def test_kernels_exist_for_these_cases(case: Case, usable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "installed", lambda: True)
    assert policy.can_run(ATTENTION, case) == usable
    monkeypatch.setenv("FOLDATLAS_KERNELS", "off")
    assert not policy.can_run(ATTENTION, case)


def test_no_kernels_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "installed", lambda: False)
    assert not policy.can_run(TRANSITION, Case("cuda:0", torch.bfloat16, 128, 4))


def test_right_kernel_is_approved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TriangleAttention, "_add_by_kernels", plain_attention)
    assert self_check.disagreement(ATTENTION, CASE) is None


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (without_mask, "its kernel is off by 0."),
        (with_nan_at_padding, "its kernel is off by nan"),
        (broken, "its kernel fails with RuntimeError: ptxas fatal: no registers"),
    ],
)
def test_wrong_kernel_is_found(kernel: object, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TriangleAttention, "_add_by_kernels", kernel)
    assert reason in str(self_check.disagreement(ATTENTION, CASE))


def test_check_approves_what_agrees_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """One wrong kernel is logged and not used; the others are; a second network of the same sizes is not checked."""
    network = load("nano")._network
    checked = []

    def disagreement(update: str, case: Case) -> str | None:
        checked.append(update)
        return "it is wrong" if update == MULTIPLICATION else None

    monkeypatch.setattr(policy, "can_run", lambda update, case: True)
    monkeypatch.setattr(self_check, "disagreement", disagreement)
    with caplog.at_level(logging.INFO, logger=self_check.__name__):
        self_check.approve_kernels(network)
        self_check.approve_kernels(network)
    assert checked == list(UPDATES)
    assert {update for update, _ in policy._approved} == set(UPDATES) - {MULTIPLICATION}
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "triangle multiplication runs by plain torch on cpu, more slowly: it is wrong" in warning.message
