"""A Dask cluster on this machine for one run: scheduler and workers in a process group of their own.

The group is not the driver's, because Ctrl-C goes to a terminal's whole group, and because one signal then ends the
whole cluster. The process is not the driver's, because a scheduler that shares the driver's interpreter waits for it.
Only connections over loopback with a certificate made for this run are accepted: a Dask scheduler runs any code it
is sent.

Started by `start_cluster` as `python -m foldatlas.pipeline.engines.dask.local DESCRIPTOR`. It ends when the other end
of the descriptor is closed, and so with the driver, however the driver ends.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final

from foldatlas.pipeline.engines.dask.messages import NotStarted, Started
from foldatlas.pipeline.engines.dask.preload import SILENT, be_quiet
from foldatlas.pipeline.workers.devices import own_cores, visible_gpus
from foldatlas.schemas.errors import FoldAtlasError, UsageError
from foldatlas.schemas.wording import counted

START_SECONDS: Final = 120.0  # importing Beam and Dask in every worker, on a busy machine
STOP_SECONDS: Final = 10.0
QUIET: Final = {"DASK_LOGGING__DISTRIBUTED": str(SILENT)}  # as preload.py, from the first import on
PRELOAD: Final = "foldatlas.pipeline.engines.dask.preload"


@dataclass
class LocalCluster:
    """A running cluster: its address, and the Dask settings with the certificate that clients need. `close` ends it."""

    address: str
    settings: dict[str, Any]
    _process: subprocess.Popen[bytes]
    _connection: Connection

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """End every process of the cluster, and wait for it."""
        self._connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def start_cluster(workers: int, device: str) -> LocalCluster:
    """Start `workers` worker processes, each with a share of the cores, and with a GPU of its own if `device` is
    "cuda". Raise UsageError if there are fewer GPUs, or no Dask."""
    environments = worker_environments(workers, device)
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "foldatlas.pipeline.engines.dask.local", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=2,  # what libraries print must not get into a command's results
            start_new_session=True,
            env={**QUIET, **os.environ},
        )
    connection = Connection(ours.detach())
    answer: Started | NotStarted = NotStarted(f"it did not answer within {START_SECONDS:.0f} s")
    try:
        connection.send(environments)
        if connection.poll(START_SECONDS):
            answer = connection.recv()
    except (EOFError, OSError):
        answer = NotStarted(f"it ended with exit code {process.wait(STOP_SECONDS)}")
    match answer:
        case Started(address, settings):
            return LocalCluster(address, settings, process, connection)
        case NotStarted(reason):
            LocalCluster("", {}, process, connection).close()
            raise FoldAtlasError(f"the Dask cluster on this machine could not be started: {reason}")


def worker_environments(workers: int, device: str) -> list[dict[str, str]]:
    """Return each worker's environment variables: its share of the cores, for arithmetic and for finding genes, and
    its GPU."""
    # a value that the user has set is kept
    cores = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(share_of_cores(workers)))}
    if device.startswith("cuda"):
        gpus = visible_gpus()
        if workers > len(gpus):
            raise UsageError(
                f"--workers {workers}: this machine has {counted(len(gpus), 'GPU')}, and each worker needs its own: "
                f"pass --workers {len(gpus)}, or --device cpu"
            )
        return [{**cores, "CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus[:workers]]
    return [cores] * workers


def share_of_cores(workers: int) -> int:
    """Return how many cores each of `workers` workers has."""
    return max(1, own_cores() // workers)


def main(arguments: Sequence[str]) -> None:
    """Start the cluster in this process, send its address, wait for the driver to end, and end every process."""
    connection = Connection(int(arguments[0]))
    os.set_inheritable(int(arguments[0]), False)
    scratch = tempfile.mkdtemp(prefix="foldatlas-dask-")
    try:
        environments: list[dict[str, str]] = connection.recv()
        try:
            cluster, settings = _start(environments, scratch)
            connection.send(Started(cluster.scheduler_address, settings))
        except Exception as error:
            connection.send(NotStarted(f"{type(error).__name__}: {error}"))
        with contextlib.suppress(EOFError, OSError):
            connection.recv()  # nothing is sent: this returns when the other end is closed
    finally:
        _kill_descendants()
        shutil.rmtree(scratch, ignore_errors=True)
        os.killpg(0, signal.SIGKILL)  # processes that were started meanwhile, and this one


def _start(environments: Sequence[dict[str, str]], scratch: str) -> tuple[Any, dict[str, Any]]:
    import dask
    from distributed import Nanny, Scheduler, SpecCluster
    from distributed.security import Security

    be_quiet()
    security = Security.temporary()  # type: ignore[no-untyped-call]
    # Dask would set OMP_NUM_THREADS=1 for every worker; worker_environments sets it
    dask.config.set({"distributed.nanny.pre-spawn-environ": {"MALLOC_TRIM_THRESHOLD_": 65536}})
    # no web pages, which Dask would serve without TLS
    dask.config.set({"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []})
    common = {"host": "127.0.0.1", "protocol": "tls", "security": security, "dashboard_address": "127.0.0.1:0"}
    workers = {
        number: {
            "cls": Nanny,
            "options": {
                **common,
                "nthreads": 1,
                "memory_limit": 0,  # a child process folds, whose memory the nanny does not measure
                "local_directory": scratch,
                "env": environment,
                "preload": [PRELOAD],
            },
        }
        for number, environment in enumerate(environments)
    }
    scheduler = {"cls": Scheduler, "options": {**common, "port": 0, "dashboard": False}}
    cluster = SpecCluster(workers=workers, scheduler=scheduler, security=security)  # type: ignore[no-untyped-call]
    return cluster, {
        "distributed.comm.require-encryption": True,
        "distributed.comm.tls.ca-file": security.tls_ca_file,
        "distributed.comm.tls.client.cert": security.tls_client_cert,
        "distributed.comm.tls.client.key": security.tls_client_key,
    }


def _kill_descendants() -> None:
    """End workers and their children and wait, so that no file that they were writing looks as if it is in use."""
    import psutil  # type: ignore[import-untyped]  # Dask's

    # the semaphore tracker would print what the others leave; it is ended with this process
    descendants = [process for process in psutil.Process().children(recursive=True) if not _is_tracker(process)]
    for process in descendants:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(descendants, timeout=STOP_SECONDS / 2)


def _is_tracker(process: Any) -> bool:
    import psutil

    try:
        return "resource_tracker" in " ".join(process.cmdline())
    except psutil.Error:
        return False


if __name__ == "__main__":
    main(sys.argv[1:])
