"""A Beam engine: its runner, its workers and its options. choose.py makes one from the command line."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Engine:
    """A Beam engine: the name of its runner, worker processes on this machine (0 for an engine with workers of its
    own), and Beam's own options."""

    runner: str = "FnApiRunner"
    workers: int = 1
    options: tuple[str, ...] = ()

    @property
    def is_embedded(self) -> bool:
        """Whether the work is done in this process."""
        return self.runner == "FnApiRunner"

    @property
    def is_known_good(self) -> bool:
        """Whether this engine was shown to work on every descriptor (docs/decisions/0016)."""
        return self.runner in KNOWN_GOOD

    @property
    def only_describes(self) -> bool:
        """Whether a Dataflow template is to be written, and nothing is run."""
        return has_option("--template_location", self.options)


EMBEDDED: Final = Engine()
RUNNERS: Final = ("FnApiRunner", "DaskRunner", "PrismRunner", "FlinkRunner", "SparkRunner", "DataflowRunner")
KNOWN_GOOD: Final = ("FnApiRunner", "DaskRunner", "PrismRunner")


def has_option(name: str, options: Sequence[str]) -> bool:
    """Return whether `options` contain the option `name`, with or without a value."""
    return any(option == name or option.startswith(f"{name}=") for option in options)
