"""Copies between the host and a device for which the host does not wait.

A GPU copies on its own only from and to pinned memory of the host. Any other copy makes the host wait until the GPU has
done all that was launched before, so that it has nothing to do while the host launches what follows.
"""

import torch
from torch import Tensor


def pinned(values: Tensor, device: torch.device) -> Tensor:
    """Return `values` of the host in memory from which `device` copies without the host."""
    if device.type != "cuda":
        return values
    with torch.cuda.device(device):  # a thread begins with the first GPU
        return values.pin_memory()


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Return `values` of the host on `device`."""
    return pinned(values, device).to(device, non_blocking=True)


def to_host(values: Tensor) -> Tensor:
    """Return `values` on the host. Those of a GPU are complete when the work that was launched until now is."""
    if values.device.type != "cuda":
        return values
    with torch.cuda.device(values.device):
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        return host.copy_(values, non_blocking=True)
