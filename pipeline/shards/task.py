"""The descriptor of one shard's work: the element of the Beam graph."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from foldatlas.pipeline import events
from foldatlas.pipeline.workers.supervisor import WorkerSpec
from foldatlas.schemas.manifest import Shard


@dataclass(frozen=True)
class FoldOptions:
    """What all shards of a run have in common.

    `batch_mflop` and `memory_bytes` bound a padded batch; `outputs` are the optional tables to write; `log` is where
    events go.
    """

    atlas: str
    worker: WorkerSpec
    outputs: tuple[str, ...]
    run_id: str
    host: str
    batch_mflop: int
    memory_bytes: int
    log: events.Log | None = None


class FoldTask(NamedTuple):
    """One shard to work on.

    options: what all shards of the run share.
    plan: name of the shard's plan.
    sequences: path in the atlas of the file that holds the shard's sequences.
    shard: the shard, as the plan describes it.
    retry: path of the failures file whose proteins are to be tried again; "" for none.
    needed: which of the shard's rows belong to a present record, one bit per row (`numpy.packbits`); empty for all.
    """

    options: FoldOptions
    plan: str
    sequences: str
    shard: Shard
    retry: str = ""
    needed: bytes = b""

    def is_needed(self) -> Sequence[bool]:
        """Return whether each row of the shard is needed."""
        if not self.needed:
            return [True] * self.shard.proteins
        bits = np.unpackbits(np.frombuffer(self.needed, np.uint8), count=self.shard.proteins)
        return [bool(bit) for bit in bits]
