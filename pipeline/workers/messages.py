"""What the process that owns the device and its parent send each other (wire.py).

The child begins with Ready or NotReady. The parent then sends a Request for each batch, the next before the last is
answered, and the child answers each, in order, with one of `Answer`.
"""

import msgspec

from foldatlas.schemas.records import Settings


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The model is loaded, and computes with these settings."""

    settings: Settings


class NotReady(msgspec.Struct, frozen=True, tag=True):
    """The model could not be loaded."""

    reason: str


class Request(msgspec.Struct, frozen=True, tag=True):
    """Compute one batch: its number, its sequences, and the keyword arguments of the child's function."""

    number: int
    sequences: list[str]
    arguments: dict[str, bool | list[int]]


class Done(msgspec.Struct, frozen=True, tag=True):
    """The batch is computed; its results are the arrays of this message (results.py).

    `seconds` is the time in which the device computed this batch and no other.
    """

    number: int
    seconds: float


class DoesNotFit(msgspec.Struct, frozen=True, tag=True):
    """The batch does not fit into the device's memory."""

    number: int
    seconds: float
    reason: str


class NotFinite(msgspec.Struct, frozen=True, tag=True):
    """A result holds NaN or infinity, or a value too large to be stored."""

    number: int
    seconds: float
    reason: str


class Unexpected(msgspec.Struct, frozen=True, tag=True):
    """Any other error of the computation."""

    number: int
    seconds: float
    reason: str


Answer = Done | DoesNotFit | NotFinite | Unexpected
Message = Ready | NotReady | Request | Answer
