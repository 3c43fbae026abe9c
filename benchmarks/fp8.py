"""Effect of `--precision fp8` on numbers, beside that of bf16, and a bound of its gain.

    PYTHONPATH=.ide python benchmarks/fp8.py [--number 20] [--layers 6]

- nano, end to end: hidden states, pseudo-perplexity, pLDDT and structures of proteins of examples/familiar.fasta and
  examples/gut.fasta, against float32;
- ESM-2 of the 650M model's widths with random weights: hidden states after some layers, with and without outlier
  channels, as trained language models have them;
- the share of the language model in the operations of esmfold_v1, from the formulas of planning/cost.py.

On a CPU the products are computed in float32 from values rounded to FP8. Nothing is timed. The tables go to
benchmarks/results/ as Markdown and JSON.
"""

import argparse
import datetime
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from early_stop import alphas
from machine import add_output, hardware, write_results

from foldatlas.folding.compare.superposition import rmsd, tm_score
from foldatlas.folding.config import (
    ESMFoldConfig,
    LanguageModelConfig,
    StructureModuleConfig,
    TrunkConfig,
)
from foldatlas.folding.models import load
from foldatlas.folding.network.language_model import LanguageModel
from foldatlas.folding.network.tokens import encode_language
from foldatlas.folding.planning import cost

EXAMPLES: Final = Path(__file__).parents[1] / "examples"
PRECISIONS: Final = ("bf16", "fp8")
MAX_LENGTH: Final = 200
OUTLIERS: Final = 8  # channels of the residual stream that are as many times as large
OF_650M: Final = {"width": 1280, "num_heads": 20, "transition_width": 5120}
ESMFOLD_V1: Final = ESMFoldConfig(
    language_model=LanguageModelConfig(num_layers=36, width=2560, num_heads=40, transition_width=10240),
    trunk=TrunkConfig(
        num_blocks=48,
        single_width=1024,
        pair_width=128,
        single_head_width=32,
        pair_head_width=32,
        max_relative_position=32,
    ),
    structure_module=StructureModuleConfig(
        num_iterations=8,
        single_width=384,
        pair_width=128,
        num_heads=12,
        head_width=16,
        num_query_points=4,
        num_value_points=8,
        num_transition_layers=1,
        torsion_width=128,
        num_torsion_blocks=2,
    ),
    plddt_width=128,
    recycles=3,
)


def sequences_of(name: str, number: int) -> list[str]:
    records = (EXAMPLES / name).read_text().split(">")[1:]
    found = ["".join(record.splitlines()[1:]).rstrip("*") for record in records]
    return [sequence for sequence in found if len(sequence) <= MAX_LENGTH][:number]


def relative(found: Any, exact: Any) -> float:
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def end_to_end(sequences: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the effect of each precision on nano's outputs, for `sequences`."""
    exact = load("nano")
    folded = exact.fold(sequences, residue_embedding=True)
    perplexity = exact.perplexity(sequences)
    for precision in PRECISIONS:
        predictor = load("nano", precision=precision)
        pairs = list(zip(predictor.fold(sequences, residue_embedding=True), folded, strict=True))
        change = [one.mean_plddt - of.mean_plddt for one, of in pairs]
        ratios = [p / e - 1 for p, e in zip(predictor.perplexity(sequences), perplexity, strict=True)]
        distance = [rmsd(alphas(one), alphas(of)) for one, of in pairs]
        similarity = [tm_score(alphas(one), alphas(of)) for one, of in pairs]
        yield {
            "precision": precision,
            "proteins": len(pairs),
            "states": statistics.mean(relative(one.residue_embedding, of.residue_embedding) for one, of in pairs),
            "perplexity_mean": statistics.mean(ratios),
            "perplexity_largest": max(map(abs, ratios)),
            "plddt_mean": statistics.mean(change),
            "plddt_largest": max(map(abs, change)),
            "rmsd_median": statistics.median(distance),
            "rmsd_largest": max(distance),
            "tm_mean": statistics.mean(similarity),
            "tm_least": min(similarity),
        }


def random_model(num_layers: int, outliers: bool) -> LanguageModel:
    """Return a language model of the 650M model's widths with random weights.

    With `outliers`, some channels of the embedding and of each layer's LayerNorms are larger by a factor.
    """
    generator = torch.Generator().manual_seed(0)
    model = LanguageModel(LanguageModelConfig(num_layers=num_layers, **OF_650M)).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        scale = parameter.shape[-1] ** -0.5 if parameter.ndim == 2 and "embed" not in name else 1.0
        if parameter.ndim == 1:
            scale = 0.1
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
        if parameter.ndim == 1 and name.endswith("weight"):
            parameter.add_(1)
            if outliers and "layer_norm" in name:
                parameter[:OUTLIERS].mul_(OUTLIERS)
    model.inv_freq.copy_(1e4 ** -(torch.arange(32) / 32))
    return model


def of_random_model(num_layers: int, outliers: bool, sequence: str) -> Iterator[dict[str, Any]]:
    """Yield the relative error of the hidden state after each layer, by precision."""
    tokens_BT = encode_language([sequence])
    with torch.inference_mode():
        model = random_model(num_layers, outliers)
        exact = [state.clone() for state in model.hidden_states(tokens_BT)]
        model.bfloat16()
        model.inv_freq = model.inv_freq.float()
        for precision in PRECISIONS:
            if precision == "fp8":
                model.use_fp8()
            states = [state.float() for state in model.hidden_states(tokens_BT)]
            found = [relative(state.numpy(), of.numpy()) for state, of in zip(states, exact, strict=True)]
            yield {"precision": precision, "outliers": outliers, "states": found[1:]}


def bounds() -> Iterator[dict[str, Any]]:
    """Yield the share of the language model in the operations of esmfold_v1, and what FP8 can save at most."""
    model = ESMFOLD_V1.language_model
    for length in (64, 128, 256, 384, 512, 1024):
        whole, of_model = cost.mflop(ESMFOLD_V1, length, 3), cost.language_mflop(model, length)
        tokens = length + 2
        products = model.num_layers * 2 * tokens * (4 * model.width**2 + 2 * model.width * model.transition_width) / 1e6
        yield {
            "length": length,
            "share": of_model / whole,
            "products": products / whole,
            "saved": products / whole / 2,
        }


def table(result: dict[str, Any]) -> list[str]:
    lines = [
        "# FP8 products of the language model",
        "",
        f"{result['machine']}. `benchmarks/fp8.py`. FP8 rounding, products in float32; nothing was timed. Differences "
        "are to float32. Errors of hidden states are relative, by the Frobenius norm.",
        "",
        "nano, end to end:",
        "",
        "| proteins | precision | last hidden state | pseudo-perplexity: mean, largest change | mean pLDDT: mean, "
        "largest change | RMSD, angstrom: median, largest | TM-score: mean, least |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, rows in result["nano"].items():
        for row in rows:
            lines.append(
                f"| {row['proteins']} of {name} | {row['precision']} | {row['states']:.4f} | "
                f"{row['perplexity_mean']:+.2%}, {row['perplexity_largest']:.2%} | {row['plddt_mean']:+.2f}, "
                f"{row['plddt_largest']:.2f} | {row['rmsd_median']:.2f}, {row['rmsd_largest']:.2f} | "
                f"{row['tm_mean']:.3f}, {row['tm_least']:.3f} |"
            )
    lines += ["", "Random weights, width 1,280 (ESM-2 650M), error of the hidden state after each layer:", ""]
    lines += ["| weights | precision | " + " | ".join(map(str, range(1, result["layers"] + 1))) + " |"]
    lines += ["|---|---|" + "---|" * result["layers"]]
    for row in result["random"]:
        of = f"{OUTLIERS} channels {OUTLIERS} times as large" if row["outliers"] else "no outliers"
        lines.append(f"| {of} | {row['precision']} | " + " | ".join(f"{x:.4f}" for x in row["states"]) + " |")
    lines += [
        "",
        "Bound of the gain for esmfold_v1, 4 passes, if time is proportional to operations and FP8 has twice the rate:",
        "",
        "| residues | language model's share | of these products | saved at most |",
        "|---|---|---|---|",
    ]
    for row in result["bounds"]:
        lines.append(f"| {row['length']:,} | {row['share']:.1%} | {row['products']:.1%} | {row['saved']:.1%} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=20, help="proteins of each file")
    parser.add_argument("--layers", type=int, default=6, help="layers of the random model")
    add_output(parser)
    arguments = parser.parse_args()
    files = {name: sequences_of(name, arguments.number) for name in ("familiar.fasta", "gut.fasta")}
    sequence = files["gut.fasta"][0]
    result = {
        "machine": f"{hardware()}; {datetime.date.today()}",
        "layers": arguments.layers,
        "nano": {name: list(end_to_end(sequences)) for name, sequences in files.items()},
        "random": [row for outliers in (False, True) for row in of_random_model(arguments.layers, outliers, sequence)],
        "bounds": list(bounds()),
    }
    write_results(arguments.output, "fp8", result, table(result))


if __name__ == "__main__":
    main()
