"""Which Beam engine runs the graphs, and with what options."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Engine:
    """A Beam engine by its runner's own name, with Beam's own options. `workers` are processes on this machine, 0 where
    the engine has workers of its own."""

    runner: str = "FnApiRunner"
    workers: int = 1
    options: tuple[str, ...] = ()


EMBEDDED: Final = Engine()
