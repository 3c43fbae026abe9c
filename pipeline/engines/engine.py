"""A Beam engine: its runner, its workers and its options. choose.py makes one of what was typed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Engine:
    """A Beam engine by its runner's own name, with Beam's own options. `workers` are processes on this machine, 0 where
    the engine has workers of its own."""

    runner: str = "FnApiRunner"
    workers: int = 1
    options: tuple[str, ...] = ()

    @property
    def is_embedded(self) -> bool:
        """Whether the work is done in this very process."""
        return self.runner == "FnApiRunner"

    @property
    def is_known_good(self) -> bool:
        """Whether this engine, as it is run here, was seen to work on every descriptor (docs/decisions/0016)."""
        return self.runner in KNOWN_GOOD

    @property
    def only_describes(self) -> bool:
        """Whether the job is to be written down for Dataflow, and nothing is run."""
        return has_option("--template_location", self.options)


EMBEDDED: Final = Engine()
RUNNERS: Final = ("FnApiRunner", "DaskRunner", "PrismRunner", "FlinkRunner", "SparkRunner", "DataflowRunner")
KNOWN_GOOD: Final = ("FnApiRunner", "DaskRunner", "PrismRunner")


def has_option(name: str, options: Sequence[str]) -> bool:
    """Return whether `options` hold the option `name`, with or without a value."""
    return any(option == name or option.startswith(f"{name}=") for option in options)
