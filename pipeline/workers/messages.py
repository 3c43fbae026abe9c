"""What the process that owns the device and its parent send each other, pickled, over a socket.

The child begins with Ready or NotReady. The parent then sends a Request for each batch, and the child answers it with
one of `Answer`.
"""

from typing import Any, NamedTuple

from foldatlas.schemas.records import Settings


class Ready(NamedTuple):
    """The model is loaded, and computes with these settings."""

    settings: Settings


class NotReady(NamedTuple):
    """The model could not be loaded."""

    reason: str


class Request(NamedTuple):
    """Compute one batch: its sequences, and the keyword arguments of the child's function."""

    sequences: list[str]
    arguments: dict[str, Any]


class Done(NamedTuple):
    """One result for each sequence of the request."""

    results: list[Any]


class DoesNotFit(NamedTuple):
    """The batch does not fit into the device's memory."""

    reason: str


class NotFinite(NamedTuple):
    """A result holds NaN or infinity."""

    reason: str


class Unexpected(NamedTuple):
    """Any other error of the computation."""

    reason: str


Answer = Done | DoesNotFit | NotFinite | Unexpected
