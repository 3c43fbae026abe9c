"""What a Dask worker sends to its driver while it works, and what a cluster of our own sends when it has started.

A worker's messages go through events of Dask's scheduler, which carry plain values only: they are tagged structs, of
which `encode` makes a dictionary, and which `decode` checks. The cluster's process sends its one answer, pickled, over
a socket (local.py).
"""

from typing import Any, NamedTuple

import msgspec


class BatchesFolded(msgspec.Struct, frozen=True, tag=True):
    """Batches finished since the last message: their residues, and their predicted cost in MFLOP."""

    residues: int
    cost: int


class ShardCommitted(msgspec.Struct, frozen=True, tag=True):
    """A shard was committed: its proteins folded and failed."""

    folded: int
    failed: int


class TaskFailed(msgspec.Struct, frozen=True, tag=True):
    """The work on one descriptor ended with an error; others are not affected."""

    reason: str


class RunFailed(msgspec.Struct, frozen=True, tag=True):
    """An error that every task would meet, such as a full disk: the run has to end."""

    reason: str


class WorkerUnfit(msgspec.Struct, frozen=True, tag=True):
    """This worker can run no task, since it has another version or cannot load the model."""

    reason: str


Message = BatchesFolded | ShardCommitted | TaskFailed | RunFailed | WorkerUnfit


class Report(msgspec.Struct, frozen=True):
    """A message and its sender: the worker's address in Dask, and its host and process for messages."""

    address: str
    sender: str
    message: Message


class Started(NamedTuple):
    """The cluster is up: the scheduler's address, and Dask's settings for its clients."""

    address: str
    settings: dict[str, Any]


class NotStarted(NamedTuple):
    """Why there is no cluster."""

    reason: str


def encode(report: Report) -> Any:
    """Return `report` as values that Dask's events can carry."""
    return msgspec.to_builtins(report)


def decode(values: Any) -> Report:
    """Return the report that `encode` made `values` of. Raise msgspec.ValidationError for anything else."""
    return msgspec.convert(values, Report)
