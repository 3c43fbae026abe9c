"""An average of the weights over the steps of training, which is what is kept in the end.

Exponential, as in Jumper et al. 2021, supplement 1.11.7 (there with a decay of 0.999 a step). While few steps were
done the average is over those few: the decay begins low and rises to its value (as in Abadi et al. 2016, TensorFlow's
`ExponentialMovingAverage`).
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from foldatlas.schemas.errors import UsageError


class Average:
    """The average of the parameters that are trained, by name; float32, where the parameters are."""

    def __init__(self, parameters: Iterable[tuple[str, nn.Parameter]], decay: float):
        self._decay = decay
        self._parameters = {name: parameter for name, parameter in parameters if parameter.requires_grad}
        self.values = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes the parameters after update `step` in."""
        decay = min(self._decay, step / (9 + step))
        for name, parameter in self._parameters.items():
            self.values[name].lerp_(parameter, 1 - decay)

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Takes up what `values` was. Raises UsageError for averages of other parameters."""
        if values.keys() != self.values.keys():
            raise UsageError("the checkpoint holds averages of other parameters than are trained now")
        for name, value in values.items():
            self.values[name].copy_(value)
