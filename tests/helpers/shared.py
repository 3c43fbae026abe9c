"""What tests in several processes share: made once in a run of pytest, by the first process that needs it."""

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return the folder `name`, which `make` fills for the first caller among the processes of pytest-xdist.

    Tests only read it. Where `make` fails, the next caller tries again.
    """
    root = factory.getbasetemp()
    if root.name.startswith("popen-"):  # of one process, below that of all
        root = root.parent
    folder, done = root / f"shared-{name}", root / f"shared-{name}.done"
    with (root / f"shared-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
