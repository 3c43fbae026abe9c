"""Workers for tests of atlas.export.processes: processes that are started anew import them from here."""

import os
import signal
from dataclasses import dataclass

from foldatlas.schemas.errors import UsageError


@dataclass
class Pids:
    """Gives each item back with the process's id; is killed at the item `killed_at`, refuses `refused`."""

    killed_at: int = -1
    refused: int = -1

    def __enter__(self):
        return self.work

    def __exit__(self, *_):
        pass

    def work(self, item: int) -> tuple[int, int]:
        if item == self.killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if item == self.refused:
            raise UsageError(f"item {item} is refused")
        return item, os.getpid()
