"""A shard's sequences, folded in batches by the process that owns the device, ahead of the thread that writes them."""

from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import closing
from typing import Any, Final

from foldatlas.atlas.forecast.device_rates import device_kind
from foldatlas.atlas.planning.prefetch import prefetched
from foldatlas.folding.config import ESMFoldConfig
from foldatlas.folding.models import config_of
from foldatlas.folding.planning.batching import cut_into_batches, padded_length
from foldatlas.folding.planning.cost import mflop, pair_output_bytes, peak_bytes
from foldatlas.folding.prediction import QuantisedPrediction
from foldatlas.pipeline import progress
from foldatlas.pipeline.interruption import raise_if_stopping
from foldatlas.pipeline.shards.bisection import Failed
from foldatlas.pipeline.shards.in_flight import Work, compute_in_order
from foldatlas.pipeline.shards.outputs import ARGUMENTS
from foldatlas.pipeline.shards.task import FoldOptions
from foldatlas.pipeline.workers.supervisor import child_of_this_process

_AHEAD: Final = 1  # batches with results that wait to be written


def fold_in_batches(
    sequences: Sequence[str], outputs: Collection[str], options: FoldOptions
) -> Generator[QuantisedPrediction | Failed]:
    """Yield a result for each of `sequences`, shortest first, with the data of the optional tables `outputs`.

    A thread computes ahead of the reader: results of two or three batches are in memory at once. Close the generator if
    it is not read to its end. Raise Interrupted when the run is to stop, and ModelError for a model that cannot be
    loaded.
    """
    worker = options.worker
    config, recycles = config_of(worker.model, weights_dir=worker.weights_dir), worker.settings.recycles
    with closing(prefetched(_computed(sequences, outputs, options, config), _AHEAD)) as computed:
        for batch, results in computed:
            raise_if_stopping()
            work_done = sum(mflop(config, len(sequence), recycles) for sequence in batch)
            progress.report(progress.BatchDone(sum(map(len, batch)), work_done))
            yield from results


def _computed(
    sequences: Sequence[str], outputs: Collection[str], options: FoldOptions, config: ESMFoldConfig
) -> Iterator[tuple[list[str], list[Any]]]:
    """Yield batches, shortest proteins first, with a result for each protein."""
    worker = options.worker
    recycles, precision = worker.settings.recycles, worker.settings.precision
    padded = padded_length(device_kind(worker.device))
    output_bytes = pair_output_bytes(pae="pae" in outputs)

    def cost(batch: Sequence[str]) -> int:
        return len(batch) * mflop(config, padded(max(map(len, batch))), recycles)

    def memory(batch: Sequence[str]) -> int:
        length = padded(max(map(len, batch)))
        return peak_bytes(config, len(batch), length, precision=precision, pair_output_bytes=output_bytes)

    ascending = sorted(sequences, key=len)  # stable, so that a shard is always cut into the same batches
    ranges = cut_into_batches(
        [len(sequence) for sequence in ascending],
        config=config,
        recycles=recycles,
        budget_mflop=options.batch_mflop,
        memory_limit=options.memory_bytes,
        precision=precision,
        pair_output_bytes=output_bytes,
        padded=padded,
    )
    batches = (ascending[batch.start : batch.stop] for batch in ranges)
    work = Work(cost, memory, {ARGUMENTS[table]: True for table in outputs})
    with child_of_this_process(worker).session() as device:
        yield from compute_in_order(device, batches, work)
