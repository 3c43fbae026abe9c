"""A shard's sequences, folded in batches by the process that owns the device."""

from collections.abc import Collection, Iterator, Sequence

from foldatlas.atlas.forecast.device_rates import device_kind
from foldatlas.folding.models import config_of
from foldatlas.folding.planning.batching import cut_into_batches, padded_length
from foldatlas.folding.planning.cost import mflop, pair_output_bytes
from foldatlas.folding.prediction import Prediction
from foldatlas.pipeline import progress
from foldatlas.pipeline.interruption import raise_if_stopping
from foldatlas.pipeline.shards.bisection import Failed, fold_with_bisection
from foldatlas.pipeline.shards.outputs import ARGUMENTS
from foldatlas.pipeline.shards.task import FoldOptions
from foldatlas.pipeline.workers.supervisor import child_of_this_process


def fold_in_batches(
    sequences: Sequence[str], outputs: Collection[str], options: FoldOptions
) -> Iterator[Prediction | Failed]:
    """Yield a result for each of `sequences`, shortest first, with the data of the optional tables `outputs`.

    Raise Interrupted before a batch when the run is to stop, and ModelError for a model that cannot be loaded.
    """
    child = child_of_this_process(options.worker)
    worker = options.worker
    config, recycles = config_of(worker.model, weights_dir=worker.weights_dir), worker.settings.recycles
    padded = padded_length(device_kind(worker.device))
    arguments = {ARGUMENTS[table]: True for table in outputs}

    def fold(batch: list[str]) -> list[Prediction]:
        raise_if_stopping()
        cost = len(batch) * mflop(config, padded(max(map(len, batch))), recycles)
        return child.compute(batch, cost, **arguments)

    ascending = sorted(sequences, key=len)  # stable, so that a shard is always cut into the same batches
    lengths = [len(sequence) for sequence in ascending]
    for batch in cut_into_batches(
        lengths,
        config=config,
        recycles=recycles,
        budget_mflop=options.batch_mflop,
        memory_limit=options.memory_bytes,
        precision=options.worker.settings.precision,
        pair_output_bytes=pair_output_bytes(pae="pae" in outputs),
        padded=padded,
    ):
        results = fold_with_bisection(fold, ascending[batch.start : batch.stop], renew=child.renew)
        batch_lengths = lengths[batch.start : batch.stop]
        progress.report(
            progress.BatchDone(sum(batch_lengths), sum(mflop(config, length, recycles) for length in batch_lengths))
        )
        yield from results
