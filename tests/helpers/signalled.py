"""`foldatlas ...` in a process that sends itself a signal at a place of its own work, however busy the machine is.

    python signalled.py SIGKILL foldatlas.folding.weights.atomic_files:sync 7 train lm ...

The signal is sent before the seventh call of the function. So a test says where a run is killed, and need not look on
and be in time.
"""

import functools
import importlib
import os
import signal
import subprocess
import sys
from typing import Any

from foldatlas.jobs.cli import main


def send_at(name: str, place: str, number: int) -> None:
    """Has this process sent the signal `name` before call `number`, from 1, of `place`, MODULE:FUNCTION or
    MODULE:CLASS.METHOD."""
    module, _, path = place.partition(":")
    *owners, function = path.split(".")
    owner: Any = functools.reduce(getattr, owners, importlib.import_module(module))
    as_it_was = getattr(owner, function)
    calls = iter(range(1, sys.maxsize))

    def instead(*arguments: Any, **named: Any) -> Any:
        if next(calls) == number:
            os.kill(os.getpid(), signal.Signals[name])
        return as_it_was(*arguments, **named)

    setattr(owner, function, instead)


def kill_at(place: str, number: int, *words: object) -> None:
    """Run `foldatlas WORDS` in a process that kills itself before call `number` of `place`, a name in `foldatlas`.

    Raise AssertionError if it ends otherwise.
    """
    command = [sys.executable, __file__, "SIGKILL", f"foldatlas.{place}", str(number), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, (place, done.stdout + done.stderr)


if __name__ == "__main__":
    send_at(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    sys.exit(main(sys.argv[4:]))
