"""Exponential moving average of the weights, which becomes the final model.

Jumper et al. 2021, supplement 1.11.7 (there with a decay of 0.999 per step). The decay is lower in the first steps and
rises to its value, so that the initial weights are soon forgotten (as TensorFlow's `ExponentialMovingAverage` does).
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from foldatlas.schemas.errors import UsageError


class Average:
    """Averages of the trained parameters, by name: float32, on the device of the parameters."""

    def __init__(self, parameters: Iterable[tuple[str, nn.Parameter]], decay: float):
        self._decay = decay
        self._parameters = {name: parameter for name, parameter in parameters if parameter.requires_grad}
        self.values = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Include the parameters as they are after update number `step`."""
        decay = min(self._decay, step / (9 + step))
        for name, parameter in self._parameters.items():
            self.values[name].lerp_(parameter, 1 - decay)

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Restore the averages from `values`. Raise UsageError if they are of other parameters."""
        if values.keys() != self.values.keys():
            raise UsageError("the checkpoint has averages of other parameters than this run trains: use another folder")
        for name, value in values.items():
            self.values[name].copy_(value)
