"""Optimisers and their schedule, against torch's own and the paper's numbers; their state comes back bitwise."""

import pytest
import torch
from torch import nn

from foldatlas.folding.training.optimisers import AdamW, Muon, Optimiser
from foldatlas.folding.training.schedule import Schedule
from foldatlas.schemas.errors import UsageError


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(7, 8), nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 3))


def backward(model: nn.Module, step: int) -> None:
    tokens = torch.randint(0, 7, (5,), generator=torch.Generator().manual_seed(step))
    model(tokens).square().sum().backward()


def test_esm2s_learning_rate() -> None:
    # Lin et al. 2023, A.1.1: to 4e-4 over 2,000 updates, to a tenth over 90 % of 500,000
    rate = Schedule(2_000, 450_000, 0.1)
    assert 4e-4 * rate(1) == pytest.approx(2e-7)
    assert 4e-4 * rate(1_000) == pytest.approx(2e-4)
    assert rate(2_000) == 1.0
    assert 4e-4 * rate(226_000) == pytest.approx(2.2e-4)  # half-way down
    assert rate(450_000) == pytest.approx(0.1)
    assert rate(500_000) == pytest.approx(0.1)
    assert Schedule(0, 10, 0.0)(1) == pytest.approx(0.9)
    for warm_up, until, final in ((10, 10, 0.1), (-1, 10, 0.1), (1, 10, 1.5)):
        with pytest.raises(UsageError):
            Schedule(warm_up, until, final)


def test_updates_are_those_of_adam_with_decoupled_decay() -> None:
    ours, theirs = network(), network()
    optimiser = Optimiser(ours.named_parameters(), AdamW(1e-2))
    matrices = [p for p in theirs.parameters() if p.dim() > 1]
    vectors = [p for p in theirs.parameters() if p.dim() == 1]
    decayed = torch.optim.Adam(matrices, lr=0.0, betas=(0.9, 0.98), eps=1e-8)
    plain = torch.optim.Adam(vectors, lr=0.0, betas=(0.9, 0.98), eps=1e-8)
    for step, factor in ((1, 0.5), (2, 1.0), (3, 0.25)):
        backward(ours, step)
        backward(theirs, step)
        optimiser.step(factor)
        rate = 1e-2 * factor
        for other in (decayed, plain):
            other.param_groups[0]["lr"] = rate
        with torch.no_grad():
            for parameter in matrices:
                parameter.mul_(1 - rate * 0.01)
        for other in (decayed, plain):
            other.step()
            other.zero_grad()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-7)


@pytest.mark.parametrize("muon", [None, Muon(5e-3)])
def test_state_comes_back_bitwise(muon: Muon | None) -> None:
    straight = network()
    optimiser = Optimiser(straight.named_parameters(), AdamW(1e-2), muon, lambda name: not name.startswith("0."))
    for step in range(1, 4):
        backward(straight, step)
        optimiser.step(1.0)
    saved = optimiser.state()
    assert ("1.weight:momentum_buffer" in saved) == (muon is not None)
    assert "0.weight:exp_avg" in saved and "1.bias:step" in saved
    resumed = network()
    resumed.load_state_dict(straight.state_dict())
    other = Optimiser(resumed.named_parameters(), AdamW(1e-2), muon, lambda name: not name.startswith("0."))
    other.load(saved)
    for step in range(4, 7):
        for model, its in ((straight, optimiser), (resumed, other)):
            backward(model, step)
            its.clip(0.5)
            its.step(0.5)
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))
    assert all(torch.equal(value, other.state()[key]) for key, value in optimiser.state().items())


def test_optimiser_state_that_does_not_fit_is_refused() -> None:
    model = network()
    optimiser = Optimiser(model.named_parameters(), AdamW(1e-2))
    with pytest.raises(UsageError, match=r"9\.weight:exp_avg"):
        optimiser.load({"9.weight:exp_avg": torch.zeros(3)})
    with pytest.raises(UsageError, match="frozen"):
        Optimiser(model.requires_grad_(False).named_parameters(), AdamW(1e-2))
