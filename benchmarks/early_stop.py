"""Effect of `--recycle-tolerance` on structures, and the trunk passes that it saves.

    PYTHONPATH=.ide python benchmarks/early_stop.py nano [MODEL ...] [--recycles 3] [--chains chains.parquet]

Each protein of examples/gut.fasta, and experimental chains of each split of a table of chains, are folded with all
passes and with each tolerance. The structures are compared with those of all passes: mean pLDDT, RMSD of C-alphas after
superposition, TM-score with residues paired as they are. Passes are counted, not timed. The table goes to
benchmarks/results/ as Markdown and JSON.
"""

import argparse
import datetime
import statistics
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
from machine import add_output, hardware, write_results

from foldatlas.folding.compare.superposition import rmsd, tm_score
from foldatlas.folding.models import load
from foldatlas.folding.network.early_stop import distance_change
from foldatlas.folding.prediction import Prediction
from foldatlas.folding.predictor import Predictor
from foldatlas.schemas.records import RESIDUES, num_atoms

TOLERANCES: Final = (0.25, 0.5, 1.0, 2.0)
GUT: Final = Path(__file__).parents[1] / "examples" / "gut.fasta"
MAX_LENGTH: Final = 100


def alphas(prediction: Prediction) -> Any:
    starts = np.cumsum([0, *(num_atoms(residue) for residue in prediction.sequence[:-1])])
    return prediction.positions[starts + 1]  # N, CA, ...


def sequences_of(chains: Path | None, number: int) -> dict[str, list[str]]:
    """Return sets of sequences by name, each of proteins of up to MAX_LENGTH residues."""
    records = GUT.read_text().split(">")[1:]
    gut = ["".join(record.splitlines()[1:]).rstrip("*") for record in records]
    found = {"gut.fasta": [sequence for sequence in gut if len(sequence) <= MAX_LENGTH][:number]}
    if chains is not None:
        rows = pq.read_table(chains, columns=["split", "sequence"]).to_pylist()
        for split in sorted({row["split"] for row in rows}):
            of_split = sorted({row["sequence"] for row in rows if row["split"] == split})
            fitting = [s for s in of_split if 30 <= len(s) <= MAX_LENGTH and set(s) <= set(RESIDUES)]
            found[f"chains, {split}"] = fitting[:: max(1, len(fitting) // number)][:number]
    return found


def folded(model: str, recycles: int, tolerance: float | None, sequences: Sequence[str]) -> list[Prediction]:
    predictor: Predictor = load(model, recycles=recycles, recycle_tolerance=tolerance)
    return predictor.fold(sequences)


def compared(
    tolerance: float, recycles: int, full: Sequence[Prediction], early: Sequence[Prediction]
) -> dict[str, float]:
    passes = [one.passes or 0 for one in early]
    change = [e.mean_plddt - f.mean_plddt for e, f in zip(early, full, strict=True)]
    distance = [rmsd(alphas(e), alphas(f)) for e, f in zip(early, full, strict=True)]
    similarity = [tm_score(alphas(e), alphas(f)) for e, f in zip(early, full, strict=True)]
    return {
        "tolerance": tolerance,
        "mean_passes": statistics.mean(passes),
        "saved": 1 - statistics.mean(passes) / (recycles + 1),
        "stopped": sum(one <= recycles for one in passes) / len(passes),
        "mean_plddt_change": statistics.mean(change),
        "largest_plddt_change": max(map(abs, change)),
        "median_rmsd": statistics.median(distance),
        "largest_rmsd": max(distance),
        "mean_tm": statistics.mean(similarity),
        "least_tm": min(similarity),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="folding models; NAME=PATH names one in the table")
    parser.add_argument("--recycles", type=int, default=3)
    parser.add_argument("--chains", type=Path, help="table of experimental chains (docs/training.md)")
    parser.add_argument("--number", type=int, default=50, help="proteins of each set")
    add_output(parser)
    arguments = parser.parse_args()

    found: list[dict[str, Any]] = []
    changes: list[dict[str, Any]] = []
    for text in arguments.models:
        name, _, path = text.rpartition("=")
        name = name or path
        for source, sequences in sequences_of(arguments.chains, arguments.number).items():
            each = [folded(path, recycles, None, sequences) for recycles in range(arguments.recycles + 1)]
            changes.append({"model": name, "set": source, "median_change": medians_of_changes(each)})
            for tolerance in TOLERANCES:
                early = folded(path, arguments.recycles, tolerance, sequences)
                row = compared(tolerance, arguments.recycles, each[-1], early)
                found.append({"model": name, "set": source, "proteins": len(sequences), **row})
                print(found[-1], flush=True)
    machine = f"{hardware()}; {datetime.date.today()}"
    result = {"machine": machine, "recycles": arguments.recycles, "changes": changes, "rows": found}
    write_results(arguments.output, "early_stop", result, table(result))


def medians_of_changes(each: Sequence[Sequence[Prediction]]) -> list[float]:
    """Return the median over proteins of the change of C-alpha distances by each pass after the first, angstrom."""
    import torch

    medians = []
    for before, after in pairwise(each):
        points = [tuple(torch.tensor(alphas(one))[None] for one in pair) for pair in zip(before, after, strict=True)]
        of_pass = [float(distance_change(a, b, torch.ones(a.shape[:2], dtype=torch.bool), 64)) for a, b in points]
        medians.append(statistics.median(of_pass))
    return medians


def table(result: dict[str, Any]) -> list[str]:
    lines = [
        "# Early stop of recycling",
        "",
        f"{result['machine']}. `benchmarks/early_stop.py`. {result['recycles']} recycles are {result['recycles'] + 1} "
        "passes; at least 2 run. Differences are to the structures of all passes; pLDDT 0 to 100, RMSD in angstrom.",
        "",
        "| model | proteins | tolerance | mean passes | saved | stopped early | mean pLDDT: mean, largest change "
        "| RMSD: median, largest | TM-score: mean, least |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        lines.append(
            f"| {row['model']} | {row['proteins']} of {row['set']} | {row['tolerance']} | {row['mean_passes']:.2f} "
            f"| {row['saved']:.0%} | {row['stopped']:.0%} | {row['mean_plddt_change']:+.2f}, "
            f"{row['largest_plddt_change']:.2f} | {row['median_rmsd']:.2f}, {row['largest_rmsd']:.2f} "
            f"| {row['mean_tm']:.3f}, {row['least_tm']:.3f} |"
        )
    lines += ["", "Median change of the C-alpha distances by the second and each later pass, angstrom:", ""]
    for one in result["changes"]:
        lines.append(f"- {one['model']}, {one['set']}: {', '.join(f'{x:.2f}' for x in one['median_change'])}")
    return lines


if __name__ == "__main__":
    main()
