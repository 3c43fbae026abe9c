"""Folding and measuring of every chain with every model, and the three baselines.

A chain that a model cannot fold becomes a row with the reason. The network runs on the device; scores are computed on
the host, one chain at a time.

Shapes: L residues, A = 14 atoms of a residue (records.ATOMS).
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from foldatlas.folding.compare.atom_layouts import atom14
from foldatlas.folding.compare.contact_precision import contact_probabilities
from foldatlas.folding.compare.experimental import Chain
from foldatlas.folding.evaluation import baselines
from foldatlas.folding.evaluation.measures import Row, empty_row, measure, measure_distogram
from foldatlas.folding.evaluation.unigram import num_standard
from foldatlas.folding.prediction import Prediction
from foldatlas.folding.weights import nano
from foldatlas.schemas.errors import FoldAtlasError, SequenceError, WorkerError
from foldatlas.schemas.records import Settings

if TYPE_CHECKING:
    from foldatlas.folding.predictor import Predictor

Progress = Callable[[str, int, int], None]  # name of the model, chains done, chains in all

_MAX_BATCH_BYTES: Final = 4 << 30  # on the device, so that the distograms of a batch fit into the host's memory


def evaluate_model(
    predictor: "Predictor",
    kind: str,
    chains: Sequence[Chain],
    exact_perplexity: bool = False,
    progress: Progress | None = None,
) -> list[Row]:
    """Return a row for each of `chains`, which must be sorted by length.

    Chains are folded in batches; those of a batch that fails are folded one by one. `kind` is "model" or "baseline".
    """
    rows: list[Row] = []
    name = predictor.settings.model
    lengths = [len(chain.sequence) for chain in chains]
    for batch in predictor.batches(lengths, distogram=True, most_bytes=_MAX_BATCH_BYTES):
        for chain, outcome in _fold(predictor, chains[batch.start : batch.stop]):
            row = empty_row(chain, name, kind)
            if isinstance(outcome, Prediction):
                _measure_prediction(row, chain, outcome)
            else:
                row.failure = outcome
            if predictor.language.has_masked_head:
                _measure_perplexity(row, chain, predictor, exact_perplexity)
            rows.append(row)
            if progress is not None:
                progress(name, len(rows), len(chains))
    return rows


def evaluate_baselines(
    chains: Sequence[Chain], training: Sequence[Chain], progress: Progress | None = None
) -> list[Row]:
    """Return a row for each chain and each baseline without a network."""
    rows = []
    for number, chain in enumerate(chains, start=1):
        helix = empty_row(chain, baselines.HELIX, "baseline")
        measure(helix, chain, baselines.ideal_helix(len(chain.sequence)), has_side_chains=False)
        drawn = empty_row(chain, baselines.RANDOM_CHAIN, "baseline")
        positions_LA3 = baselines.random_chain(chain, training)
        if positions_LA3 is None:
            drawn.failure = f"no training chain of another cluster has {len(chain.sequence)} residues"
        else:
            measure(drawn, chain, positions_LA3, has_side_chains=False)
        rows += [helix, drawn]
        if progress is not None:
            progress("baselines", number, len(chains))
    return rows


def untrained_predictor(device: str, recycles: int | None = None) -> "Predictor":
    """Return an untrained network of nano's sizes, with generated weights."""
    from foldatlas.folding.predictor import Predictor
    from foldatlas.folding.weights import fitting

    network = fitting.generate(nano.CONFIG)
    digest = fitting.digest(network.state_dict())
    recycles = nano.CONFIG.recycles if recycles is None else recycles
    return Predictor(network.to(device), Settings(baselines.UNTRAINED, digest, recycles, "fp32"))


def _fold(predictor: "Predictor", batch: Collection[Chain]) -> Iterator[tuple[Chain, Prediction | str]]:
    """Yield each chain with its prediction or the reason of its failure. A failed batch is retried one by one."""
    try:
        predictions = predictor.fold_batch([chain.sequence for chain in batch], distogram=True)
    except (WorkerError, SequenceError) as error:
        if len(batch) == 1:
            yield from ((chain, _reason(error)) for chain in batch)
        else:
            for chain in batch:
                yield from _fold(predictor, [chain])
        return
    yield from zip(batch, predictions, strict=True)


def _measure_prediction(row: Row, chain: Chain, prediction: Prediction) -> None:
    positions_LA3, exists_LA = atom14(chain.sequence, prediction.positions)
    positions_LA3[~exists_LA] = np.nan
    row.mean_plddt, row.ptm = float(prediction.plddt.mean()), prediction.ptm
    row.plddt_L = prediction.plddt
    measure(row, chain, positions_LA3, has_side_chains=True)
    if prediction.distogram_logits is not None:
        measure_distogram(row, chain, contact_probabilities(prediction.distogram_logits))


def _measure_perplexity(row: Row, chain: Chain, predictor: "Predictor", exact: bool) -> None:
    """Set the perplexity in `row`, unless the chain has no standard residue or does not fit into memory."""
    row.perplexity_residues = num_standard(chain.sequence)
    if not row.perplexity_residues:
        return
    try:
        (row.perplexity,) = predictor.language.perplexity([chain.sequence], in_parts=not exact)
    except WorkerError as error:
        row.failure = row.failure or f"perplexity: {_reason(error)}"


def _reason(error: FoldAtlasError) -> str:
    return str(error).partition("\n")[0]
