"""The processes of a training run: this one alone, or those that torchrun started, which share every batch."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from foldatlas.folding.training.run_folder import Log
from foldatlas.schemas.errors import FoldAtlasError, UsageError
from foldatlas.schemas.wording import counted

T = TypeVar("T")
# The others wait while one process reads or writes a checkpoint of tens of gigabytes, which may take longer than NCCL's
# default of ten minutes. torchrun itself detects dead processes at once.
_TIMEOUT: Final = timedelta(hours=6)


@dataclass(frozen=True)
class Processes:
    """Rank of this process among the `count` processes of the run; its tensors are on `device`."""

    rank: int
    count: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def only_first(self, log: Log) -> Log:
        """Return `log` in the first process, and a function that does nothing in the others."""
        return log if self.is_first else _log_nothing

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of `values` over all processes, in every process."""
        if self.count > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Return whether `flag` is True in any process."""
        return flag if self.count == 1 else bool(self.sum(torch.tensor(int(flag), device=self.device)))

    def wait(self) -> None:
        """Block until every process has called this method."""
        self.any(False)

    def run_on_first(self, function: Callable[[], T]) -> T | None:
        """Call `function` in the first process and return its result; return None in the others, which wait.

        A FoldAtlasError or OSError that `function` raises is raised in the first process, and a FoldAtlasError in the
        others, so that no process waits forever.
        """
        error: FoldAtlasError | OSError | None = None
        result = None
        if self.is_first:
            try:
                result = function()
            except (FoldAtlasError, OSError) as caught:
                error = caught
        if self.any(error is not None):
            raise error or FoldAtlasError("the first process failed to start: see its error message")
        return result

    def shard(self, network: nn.Module, layers: nn.ModuleList) -> None:
        """Shard parameters, gradients and the future optimiser state over all processes (FSDP2, Zhao et al. 2023).

        Each of `layers` is gathered when it runs; the rest of `network` is one unit.
        """
        if self.count == 1:
            return
        mesh = init_device_mesh(self.device.type, (self.count,))
        for layer in layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(network, mesh=mesh)


def _log_nothing(line: str) -> None:
    """Discard a line: the log of every process but the first."""


@contextlib.contextmanager
def process_group(device: str) -> Iterator[Processes]:
    """Join the processes that torchrun started, or run alone without torchrun. `device` is "cpu" or "cuda".

    Raise UsageError if there is no GPU for this process.
    """
    count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if device == "cuda":
        number = int(os.environ.get("LOCAL_RANK", "0"))
        if number >= torch.cuda.device_count():
            raise UsageError(
                f"local rank {number} has no GPU: this machine has {counted(torch.cuda.device_count(), 'GPU')}; start "
                "fewer processes, or pass --device cpu"
            )
        torch.cuda.set_device(number)
        own_device = torch.device("cuda", number)
    else:
        own_device = torch.device("cpu")
    if count == 1:
        yield Processes(0, 1, own_device)
        return
    dist.init_process_group("nccl" if own_device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield Processes(rank, count, own_device)
    finally:
        dist.destroy_process_group()


def end_process(code: int) -> NoReturn:
    """End this process, one of several, with the exit code `code` and without finalizing the interpreter.

    Sharded layers keep gloo's threads beyond `destroy_process_group`. If such a thread destroys a tensor while the
    interpreter is finalized, the process is aborted, and torchrun reports a run that is complete as failed.
    """
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
