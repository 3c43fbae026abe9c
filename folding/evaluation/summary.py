"""Summary statistics of an evaluation: distributions of scores by split and model, calibration, perplexity.

They are the content of summary.json, so they consist of dictionaries, lists, strings and numbers.
"""

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from foldatlas.folding.compare.experimental import Chain
from foldatlas.folding.evaluation import baselines
from foldatlas.folding.evaluation.calibration import Calibration, calibration
from foldatlas.folding.evaluation.measures import Row
from foldatlas.folding.evaluation.unigram import Unigram, num_standard, pooled

MEASURES: Final = (
    "tm_score",
    "gdt_ts",
    "gdt_ha",
    "rmsd",
    "lddt_ca",
    "lddt",
    "contact_precision",
    "contact_precision_distogram",
    "mean_plddt",
    "ptm",
)
TOGETHER: Final = "all splits together"


def summarise(rows: Sequence[Row], chosen: Mapping[str, Sequence[Chain]], training: Sequence[Chain]) -> dict[str, Any]:
    """Return the statistics of `rows` for each label of `chosen`, and for the chains of all labels together.

    The unigram model is fitted to the sequences of `training`; if that is empty, its perplexity is None.
    """
    unigram = Unigram.fit(chain.sequence for chain in training) if training else None
    labels = dict(chosen)
    if len(labels) > 1:
        labels[TOGETHER] = list({chain.name: chain for chains in chosen.values() for chain in chains}.values())
    return {label: _of_label(rows, chains, unigram) for label, chains in labels.items()}


def _of_label(rows: Sequence[Row], chains: Sequence[Chain], unigram: Unigram | None) -> dict[str, Any]:
    names = {chain.name for chain in chains}
    lengths = [len(chain.sequence) for chain in chains]
    by_model: dict[str, list[Row]] = {}
    for row in rows:
        if row.chain in names:
            by_model.setdefault(row.model, []).append(row)
    sequences = {chain.name: chain.sequence for chain in chains}
    return {
        "chains": len(chains),
        "shortest": min(lengths),
        "longest": max(lengths),
        "with_gaps": sum(bool((np.diff(chain.residue_index_L) > 1).any()) for chain in chains),
        "models": {model: _of_model(found, sequences, unigram) for model, found in by_model.items()},
    }


def _of_model(rows: Sequence[Row], sequences: Mapping[str, str], unigram: Unigram | None) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "kind": rows[0].kind,
        "folded": sum(row.tm_score is not None for row in rows),
        "failed": sum(row.tm_score is None for row in rows),
        "measures": {name: _distribution(getattr(row, name) for row in rows) for name in MEASURES},
    }
    if any(row.mean_plddt is not None for row in rows):
        figures["plddt_of_chains"] = _calibration(rows, lambda row: row.mean_plddt, lambda row: row.lddt_ca, 100)
        figures["plddt_of_residues"] = _residues(rows)
        figures["ptm"] = _calibration(rows, lambda row: row.ptm, lambda row: row.tm_score, 1)
    asked = [row for row in rows if row.perplexity is not None]
    if asked:
        figures["perplexity"] = _perplexity(asked, sequences, unigram)
    return figures


def _distribution(values: Iterable[float | None]) -> dict[str, float | int | None]:
    known = [value for value in values if value is not None]
    if not known:
        return {"count": 0, "mean": None, "median": None, "low": None, "high": None}
    low, high = np.quantile(known, [0.1, 0.9])
    return {
        "count": len(known),
        "mean": statistics.fmean(known),
        "median": statistics.median(known),
        "low": float(low),
        "high": float(high),
    }


def _calibration(
    rows: Sequence[Row], claim: Callable[[Row], float | None], truth: Callable[[Row], float | None], scale: float
) -> dict[str, Any]:
    pairs = [(claim(row), truth(row)) for row in rows]
    known = np.array([(one, other) for one, other in pairs if one is not None and other is not None], dtype=np.float64)
    known = known.reshape(-1, 2)
    return _plain(calibration(known[:, 0] / scale, known[:, 1]))


def _residues(rows: Sequence[Row]) -> dict[str, Any]:
    known = [row for row in rows if row.plddt_L is not None and row.lddt_ca_L is not None]
    claimed = np.concatenate([row.plddt_L for row in known if row.plddt_L is not None] or [np.zeros(0)])
    true = np.concatenate([row.lddt_ca_L for row in known if row.lddt_ca_L is not None] or [np.zeros(0)])
    return _plain(calibration(claimed / 100, true))


def _plain(found: Calibration) -> dict[str, Any]:
    return {**dataclasses.asdict(found), "bins": [dataclasses.asdict(part) for part in found.bins]}


def _perplexity(rows: Sequence[Row], sequences: Mapping[str, str], unigram: Unigram | None) -> dict[str, Any]:
    """Return the perplexity of all residues of the chains together, and that of the unigram on the same residues."""
    counts = [row.perplexity_residues or 0 for row in rows]
    values = [row.perplexity for row in rows if row.perplexity is not None]
    figures: dict[str, Any] = {"model": pooled(values, counts), "residues": sum(counts), "unigram": None}
    if unigram is not None:
        same = [sequences[row.chain] for row in rows]
        of_unigram = [unigram.perplexity(sequence) or 1.0 for sequence in same]
        figures["unigram"] = pooled(of_unigram, [num_standard(sequence) for sequence in same])
    return figures


def order_of_models(figures: Mapping[str, Any]) -> list[str]:
    """Return the names in the order of tables and plots: models, then baselines."""
    names = [name for part in figures.values() for name in part["models"]]
    kinds = {name: part["models"][name]["kind"] for part in figures.values() for name in part["models"]}
    models = [name for name in dict.fromkeys(names) if kinds[name] == "model"]
    return models + [name for name in baselines.NAMES if name in kinds]
