"""Which workers a Dask cluster has (hosts, versions, devices), and whether others can use the cluster."""

import ipaddress
import logging
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from foldatlas.pipeline.engines.dask.worker import WorkerInfo, inspect
from foldatlas.pipeline.interruption import raise_if_stopping
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.version import program_version

if TYPE_CHECKING:
    from distributed import Client

NOTICE_SECONDS: Final = 10.0  # without a worker, until a message is logged
_POLL_SECONDS: Final = 0.2
_log = logging.getLogger(__name__)


class EngineWarning(UserWarning):
    """An engine can be used, but something about it should be checked."""


@dataclass(frozen=True)
class WorkerPool:
    """The workers of a cluster.

    workers: how many.
    device: the device of each ("cpu" or "cuda").
    memory: bytes of the smallest device, None where one is unknown; a share of the machine's for CPUs.
    name: the devices' model, "" where they differ.
    """

    workers: int
    device: str
    memory: int | None
    name: str = ""


def inspect_workers(client: "Client", device: str) -> WorkerPool:
    """Wait for the first worker, then ask every worker what it is. `device` is the device that is asked for.

    Raise UsageError, with the host's name, for a worker without FoldAtlas, of another version, or without that device.
    Warn (EngineWarning) of another PyTorch, and of workers with several threads.
    """
    _wait_for_a_worker(client)
    answers = client.run(inspect, device, on_error="return")
    found: list[WorkerInfo] = []
    for address, answer in answers.items():
        if not isinstance(answer, WorkerInfo):
            raise UsageError(
                f"worker {address} cannot run FoldAtlas ({type(answer).__name__}: {answer}): install foldatlas "
                f"{program_version()} in the environment that `dask worker` runs in"
            )
        found.append(answer)
    return check_workers(found)


def check_workers(workers: Sequence[WorkerInfo]) -> WorkerPool:
    """Return the pool of `workers`. Raise and warn as `inspect_workers` does."""
    for worker in workers:
        if worker.version != program_version():
            raise UsageError(
                f"a worker on {worker.host} has FoldAtlas {worker.version}, this is {program_version()}: install one "
                "version everywhere"
            )
        if worker.error:
            raise UsageError(f"a worker on {worker.host}: {worker.error}")
    devices = {worker.device: worker.host for worker in workers}
    if len(devices) > 1:
        found = ", ".join(f"{device} on {host}" for device, host in sorted(devices.items()))
        raise UsageError(f"workers differ in their devices ({found}): choose one with --device, or stop the others")
    for host, torch in {(worker.host, worker.torch) for worker in workers}:
        if torch != version("torch"):
            _warn(f"a worker on {host} has PyTorch {torch}, this is {version('torch')}: structures may differ slightly")
    for worker in {worker for worker in workers if worker.threads > 1}:
        _warn(
            f"a worker on {worker.host} has {worker.threads} threads but folds one shard at a time: start it with "
            "--nthreads 1"
        )
    known = [worker.memory for worker in workers if worker.memory is not None]
    memory = min(known) if len(known) == len(workers) else None
    (device,) = devices
    if memory is not None and device == "cpu":  # workers of one host share it
        memory //= max(sum(other.host == worker.host for other in workers) for worker in workers)
    names = {worker.name for worker in workers}
    return WorkerPool(len(workers), device, memory, names.pop() if len(names) == 1 else "")


def _wait_for_a_worker(client: "Client") -> None:
    started, noticed = time.monotonic(), False
    while not client.scheduler_info(n_workers=-1)["workers"]:
        raise_if_stopping()
        if client.status != "running":
            raise UsageError("the Dask scheduler has ended: start it again, and run the same command")
        if not noticed and time.monotonic() - started > NOTICE_SECONDS:
            _log.error("the Dask cluster has no workers yet: waiting for the first")
            noticed = True
        time.sleep(_POLL_SECONDS)


def warn_if_open(address: str | None) -> None:
    """Warn of a scheduler without TLS that other machines can reach."""
    scheme, _, host_and_port = (address or "").partition("://")
    if scheme != "tcp" or is_loopback(host_and_port.rpartition(":")[0]):
        return
    _warn(
        f"the Dask cluster at {address} is not encrypted: anyone who can reach that port can run programs as you, on "
        "every worker and on this machine: start it with TLS (docs/operations.md, Many workers)"
    )


def is_loopback(host: str) -> bool:
    """Return whether a host, given by name or number, is this machine's own loopback."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _warn(message: str) -> None:
    warnings.warn(message, EngineWarning, stacklevel=3)
