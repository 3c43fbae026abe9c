"""What the workers of a Dask cluster are: which machines, versions and devices; and who else may use the cluster."""

import ipaddress
import logging
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from foldatlas.pipeline.engines.dask.worker import Machine, inspect
from foldatlas.pipeline.interruption import raise_if_stopping
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.version import program_version

if TYPE_CHECKING:
    from distributed import Client

PATIENCE_SECONDS: Final = 10.0  # without a worker, before that is said
_log = logging.getLogger(__name__)


class EngineWarning(UserWarning):
    """An engine can be used, but something about it deserves a look."""


@dataclass(frozen=True)
class Fleet:
    """The workers that there are: how many, their device ("cpu" or "cuda"), the bytes of memory of the least of them
    (None where unknown), and its make if it is one ("" where they differ)."""

    workers: int
    device: str
    memory: int | None
    name: str = ""


def look_at_workers(client: "Client", device: str) -> Fleet:
    """Asks every worker what it is, after waiting for the first. `device` is what is asked for.

    Raises UsageError with the host's name for one that has no FoldAtlas, another version, or not that device. Warns
    (EngineWarning) of another PyTorch, and of workers with several threads.
    """
    _wait_for_a_worker(client)
    answers = client.run(inspect, device, on_error="return")
    machines: list[Machine] = []
    for address, answer in answers.items():
        if not isinstance(answer, Machine):
            raise UsageError(
                f"worker {address} cannot run FoldAtlas ({type(answer).__name__}: {answer}): install foldatlas "
                f"{program_version()} in the environment that `dask worker` runs in"
            )
        machines.append(answer)
    return judge(machines)


def judge(machines: Sequence[Machine]) -> Fleet:
    """The fleet that `machines` make together; raises and warns as `look_at_workers` does."""
    for machine in machines:
        if machine.version != program_version():
            raise UsageError(
                f"a worker on {machine.host} has FoldAtlas {machine.version}, this is {program_version()}: install one "
                "version everywhere"
            )
        if machine.error:
            raise UsageError(f"a worker on {machine.host}: {machine.error}")
    devices = {machine.device: machine.host for machine in machines}
    if len(devices) > 1:
        places = ", ".join(f"{device} on {host}" for device, host in sorted(devices.items()))
        raise UsageError(f"workers differ in their devices ({places}): choose one with --device, or end the others")
    for host, torch in {(machine.host, machine.torch) for machine in machines}:
        if torch != version("torch"):
            _warn(f"a worker on {host} has PyTorch {torch}, this is {version('torch')}: structures may differ slightly")
    for machine in {machine for machine in machines if machine.threads > 1}:
        _warn(
            f"a worker on {machine.host} has {machine.threads} threads and folds one shard at a time all the same: "
            "start it with --nthreads 1"
        )
    known = [machine.memory for machine in machines if machine.memory is not None]
    memory = min(known) if len(known) == len(machines) else None
    (device,) = devices
    if memory is not None and device == "cpu":  # neighbours share it
        memory //= max(sum(other.host == machine.host for other in machines) for machine in machines)
    names = {machine.name for machine in machines}
    return Fleet(len(machines), device, memory, names.pop() if len(names) == 1 else "")


def _wait_for_a_worker(client: "Client") -> None:
    started, said = time.monotonic(), False
    while not client.scheduler_info(n_workers=-1)["workers"]:
        raise_if_stopping()
        if client.status != "running":
            raise UsageError("the Dask scheduler is gone: start it again, and run the same command")
        if not said and time.monotonic() - started > PATIENCE_SECONDS:
            _log.error("the Dask cluster has no workers yet: waiting for the first")
            said = True
        time.sleep(0.2)


def warn_if_open(address: str | None) -> None:
    """Warns of a scheduler without TLS that others can reach."""
    scheme, _, place = (address or "").partition("://")
    if scheme != "tcp" or is_loopback(place.rpartition(":")[0]):
        return
    _warn(
        f"the Dask cluster at {address} is not encrypted: whoever reaches that port can run programs as you, on every "
        "worker and here: start it with TLS (docs/operations.md, Many workers)"
    )


def is_loopback(host: str) -> bool:
    """Whether a host, by name or number, is this machine's own loopback."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _warn(message: str) -> None:
    warnings.warn(message, EngineWarning, stacklevel=3)
