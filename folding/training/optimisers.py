"""Optimisers: AdamW for all parameters, or Muon for matrices and AdamW for the others; their state as named tensors.

AdamW is Loshchilov & Hutter 2019, with decoupled weight decay like fairseq's "Adam", with which ESM-2 was trained.
fairseq decays every parameter; here tensors with one axis (biases, LayerNorms) are not decayed, because scales and
shifts of normalised activations need not be small. Muon is Jordan et al. 2024, with updates scaled to the size of
AdamW's (Liu et al. 2025), so that learning rates of both have the same order of magnitude.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from foldatlas.schemas.errors import UsageError

Named = tuple[str, nn.Parameter]
_PEAK = "peak"  # key in a parameter group: its peak learning rate, which the schedule multiplies


@dataclass(frozen=True, slots=True)
class AdamW:
    """Settings of AdamW. `learning_rate` is the peak; the defaults are ESM-2's (Lin et al. 2023, A.1.1)."""

    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        _check(self.learning_rate, self.weight_decay)


@dataclass(frozen=True, slots=True)
class Muon:
    """Settings of Muon. `learning_rate` is the peak."""

    learning_rate: float
    momentum: float = 0.95
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        _check(self.learning_rate, self.weight_decay)


def _check(learning_rate: float, weight_decay: float) -> None:
    if not 0 < learning_rate < math.inf:
        raise UsageError(f"learning rate {learning_rate} must be above 0: ESM-2's was 4e-4")
    if not 0 <= weight_decay < math.inf:
        raise UsageError(f"weight decay {weight_decay} must be 0 or more: ESM-2's was 0.01")


def check_norm(max_norm: float | None) -> None:
    """Raise UsageError if `max_norm` is not a valid limit of the gradient norm; None means no limit."""
    if max_norm is not None and not max_norm > 0:
        raise UsageError(f"gradients cannot be clipped to a norm of {max_norm}: give a number above 0, such as 1")


class Optimiser:
    """One or two of torch's optimisers with one interface, over named parameters.

    Muon, if given, updates the tensors with two axes for which `is_matrix` is True, AdamW all others. Parameters that
    do not require gradients are excluded.
    """

    def __init__(
        self,
        parameters: Iterable[Named],
        adamw: AdamW,
        muon: Muon | None = None,
        is_matrix: Callable[[str], bool] = lambda name: "embed" not in name,
    ):
        self._named = {name: parameter for name, parameter in parameters if parameter.requires_grad}
        if not self._named:
            raise UsageError("every parameter is frozen: there is nothing to train")
        matrices = {
            name: parameter
            for name, parameter in self._named.items()
            if muon is not None and parameter.dim() == 2 and is_matrix(name)
        }
        others = {name: parameter for name, parameter in self._named.items() if name not in matrices}
        self._optimisers: list[torch.optim.Optimizer] = []
        if others:
            self._optimisers.append(_adamw(others, adamw))
        if muon is not None and matrices:
            self._optimisers.append(_muon(matrices, muon))
        self._states: dict[str, dict[str, Tensor]] = {}
        names = {id(parameter): name for name, parameter in self._named.items()}
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group[_PEAK] = group["lr"]
                for parameter in group["params"]:
                    self._states[names[id(parameter)]] = optimiser.state[parameter]

    def step(self, factor: float) -> None:
        """Make one update with every learning rate at `factor` of its peak, and clear the gradients."""
        for group in self._groups():
            group["lr"] = group[_PEAK] * factor
        for optimiser in self._optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    def clip(self, max_norm: float) -> Tensor:
        """Scale all gradients so that their global norm is at most `max_norm`; return the norm before scaling."""
        norm = nn.utils.clip_grad_norm_(self._named.values(), max_norm)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def state(self, *, keep: bool = True) -> dict[str, Tensor]:
        """Return all state on the host, bitwise, as `PARAMETER:QUANTITY`; sharded state is gathered.

        Collective: every process must call it. With `keep` False, and before the first update, the result is empty.
        """
        return gathered(
            {f"{name}:{quantity}": value for name, state in self._states.items() for quantity, value in state.items()},
            keep=keep,
        )

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore the state that the method `state` returned, for any number of processes.

        Raise UsageError if it is of other parameters.
        """
        for key, value in state.items():
            name, _, quantity = key.rpartition(":")
            parameter = self._named.get(name)
            if parameter is None or (value.dim() and value.shape != parameter.shape):
                raise UsageError(
                    f"the checkpoint has {key}, which is not of a parameter that this run trains: use another folder"
                )
            self._states[name][quantity] = value.clone() if value.dim() == 0 else like(value, parameter)

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimiser in self._optimisers for group in optimiser.param_groups]


def gathered(tensors: Mapping[str, Tensor], *, keep: bool = True) -> dict[str, Tensor]:
    """Return `tensors` on the host, those that are sharded gathered. Collective: every process must call it.

    With `keep` False, this process takes part in gathering and returns nothing.
    """
    found = {}
    for name, tensor in tensors.items():
        value = tensor.detach()
        if isinstance(value, DTensor):
            value = value.full_tensor()
        if keep:
            found[name] = value.cpu()
    return found


def like(value: Tensor, parameter: Tensor) -> Tensor:
    """Return a copy of `value`, which every process has, on the device of `parameter` and sharded like it."""
    copy = value.to(parameter.device, copy=True)
    if isinstance(parameter, DTensor):
        # Every process has the full tensor, so each takes its own shard without communication.
        return distribute_tensor(copy, parameter.device_mesh, parameter.placements, src_data_rank=None)
    return copy


def _adamw(parameters: Mapping[str, nn.Parameter], settings: AdamW) -> torch.optim.Optimizer:
    decayed = [parameter for parameter in parameters.values() if parameter.dim() > 1]
    others = [parameter for parameter in parameters.values() if parameter.dim() <= 1]
    groups = [
        {"params": of_group, "weight_decay": decay}
        for of_group, decay in ((decayed, settings.weight_decay), (others, 0.0))
        if of_group
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, eps=settings.eps)


def _muon(parameters: Mapping[str, nn.Parameter], settings: Muon) -> torch.optim.Optimizer:
    return torch.optim.Muon(
        list(parameters.values()),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
