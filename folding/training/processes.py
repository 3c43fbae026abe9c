"""The processes of a run: one, or as many as torchrun started, each with its part of the network and of every batch."""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from foldatlas.folding.training.run_folder import Say
from foldatlas.schemas.errors import FoldAtlasError, UsageError
from foldatlas.schemas.wording import counted

T = TypeVar("T")
# How long a process waits for the others. One of them reads and writes checkpoints of tens of gigabytes while the rest
# wait, for which NCCL's ten minutes are too few. Those that died are torchrun's to find, at once.
_PATIENCE: Final = timedelta(hours=6)


@dataclass(frozen=True)
class Processes:
    """This process is number `rank` of `count`; its tensors are on `device`."""

    rank: int
    count: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def only_first(self, say: Say) -> Say:
        """`say` in the first process; in the others what says nothing."""
        return say if self.is_first else _silence

    def sum(self, values: Tensor) -> Tensor:
        """Sum over all processes, in each."""
        if self.count > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Whether `flag` is set in any process."""
        return flag if self.count == 1 else bool(self.sum(torch.tensor(int(flag), device=self.device)))

    def wait(self) -> None:
        """Until all processes are here."""
        self.any(False)

    def open_first(self, act: Callable[[], T]) -> T | None:
        """What `act` gives, which the first process does alone; None in the others, which wait for it.

        What `act` raises on purpose ends all of them, so that none waits for ever.
        """
        error: FoldAtlasError | OSError | None = None
        found = None
        if self.is_first:
            try:
                found = act()
            except (FoldAtlasError, OSError) as fault:
                error = fault
        if self.any(error is not None):
            raise error or FoldAtlasError("the first process could not begin: it says why")
        return found

    def shard(self, network: nn.Module, layers: nn.ModuleList) -> None:
        """Cuts parameters, gradients and the optimiser's state to come over all processes (FSDP2, Zhao et al. 2023):
        each of `layers` is put together when it is at work, the rest of `network` as one."""
        if self.count == 1:
            return
        mesh = init_device_mesh(self.device.type, (self.count,))
        for layer in layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(network, mesh=mesh)


def _silence(line: str) -> None:
    """What is not to be said."""


@contextlib.contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Joins the processes that torchrun started; without it, this one alone. `device` is "cpu" or "cuda".

    Raises UsageError for a device that is not there.
    """
    count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if device == "cuda":
        number = int(os.environ.get("LOCAL_RANK", "0"))
        if number >= torch.cuda.device_count():
            raise UsageError(
                f"process {number} of this machine has no GPU, of {counted(torch.cuda.device_count(), 'GPU')}: start "
                "fewer, or give --device cpu"
            )
        torch.cuda.set_device(number)
        here = torch.device("cuda", number)
    else:
        here = torch.device("cpu")
    if count == 1:
        yield Processes(0, 1, here)
        return
    dist.init_process_group("nccl" if here.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Processes(rank, count, here)
    finally:
        dist.destroy_process_group()
