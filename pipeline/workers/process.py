"""Starting a child process that ends when its worker does."""

import os
import subprocess
import threading
from typing import Final

from foldatlas.schemas.errors import FoldAtlasError

# Threads that wait for each other by spinning lose whole time slices as soon as another program runs on the machine: a
# 150-residue protein took 9.8 s instead of 0.7 s on two busy cores (docs/log.md).
# CUDA numbers GPUs by speed, nvidia-smi, by which devices are chosen and locked, by their place on the bus.
CHILD_ENVIRONMENT: Final = {"OMP_WAIT_POLICY": "passive", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def start_child(command: list[str], descriptor: int) -> subprocess.Popen[bytes]:
    """Start a child, which inherits `descriptor`, from a thread that runs as long as the child.

    The kernel kills the child when the *thread* that forked it ends, and threads of Beam's pools are short-lived:
    children forked by them ended with them.
    """
    started = threading.Event()
    result: list[subprocess.Popen[bytes] | Exception] = []

    def keep() -> None:
        try:
            process = subprocess.Popen(
                command,
                pass_fds=[descriptor],
                stdin=subprocess.DEVNULL,
                stdout=2,  # native code may print, which must not get into a command's results
                env={**CHILD_ENVIRONMENT, **os.environ},
            )
        except Exception as error:
            result.append(error)
            started.set()
            return
        result.append(process)
        started.set()
        process.wait()

    threading.Thread(target=keep, name="foldatlas-keeper", daemon=True).start()
    started.wait()
    if isinstance(result[0], Exception):
        raise FoldAtlasError(f"the child process could not be started: {result[0]}") from result[0]
    return result[0]
