"""`foldatlas plan`: read and check FASTA, cut shards and predict the cost, without folding."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foldatlas.schemas.records import DEFAULT_MAX_LENGTH

if TYPE_CHECKING:
    from foldatlas.pipeline.planning import Planned

EXAMPLES: Final = """examples:
  foldatlas plan proteins.fasta atlas --model nano
  foldatlas plan 'assemblies/*.faa.gz' atlas --model nano --max-length 600
"""

# What the planned device computes, MFLOP a second, and what an atlas holds: 31.8 bytes a residue of structure and
# pLDDT, 60 of scores a protein, and four bytes a channel where there are embeddings.
MFLOP_PER_SECOND: Final = {"cpu": 20_000.0, "cuda": 200_000_000.0}
STRUCTURE_BYTES_A_RESIDUE: Final = 34.0
SCORE_BYTES_A_PROTEIN: Final = 80.0
EMBEDDING_BYTES_A_CHANNEL: Final = 4.0


@dataclass(frozen=True)
class PlanSummary:
    """What was planned. `seconds` and `bytes` are predictions for the planned device."""

    planned: "Planned"
    device: str
    seconds: float
    bytes: int

    def lines(self) -> list[str]:
        """For people."""
        from foldatlas.atlas.status import readable_bytes, readable_time

        plan = self.planned.plan
        known = [f"{source.path} is in the atlas already: not read again" for source in self.planned.known]
        if plan is None:
            return known
        counts = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(plan.outcomes.items()))
        records = sum(plan.outcomes.values())
        return [
            *known,
            f"plan {plan.name}: {records:,} records ({counts})",
            f"to fold: {plan.proteins:,} distinct new sequences, {plan.residues:,} residues, {len(plan.shards):,} "
            f"shards, {plan.cost / 1e6:,.3f} TFLOP",
            f"predicted: {readable_time(self.seconds)} of one {self.device}, {readable_bytes(self.bytes)} on disk",
        ]


def plan(
    fasta: Sequence[str],
    atlas: str | Path,
    *,
    model: str,
    recycles: int | None = None,
    max_length: int = DEFAULT_MAX_LENGTH,
    device: str = "auto",
    embeddings: str = "none",
    weights: str | Path | None = None,
) -> PlanSummary:
    """Reads `fasta` (paths or patterns) and commits a plan of the sequences that `atlas` does not have yet.

    `max_length` in residues: longer records are refused by this plan. `embeddings` "none" or "mean". `weights` is the
    folder in which a model's name is looked for first. Raises UsageError with the atlas untouched.
    """
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.folding.cost import mflop
    from foldatlas.folding.models import config_of, settings_of
    from foldatlas.pipeline.devices import choose_device
    from foldatlas.pipeline.planning import CostModel, make_plan

    weights_dir = None if weights is None else str(weights)
    settings, config = settings_of(model, recycles, weights_dir=weights_dir), config_of(model, weights_dir=weights_dir)
    device = choose_device(device)
    rate = MFLOP_PER_SECOND[device]
    channels = config.language_model.width if embeddings == "mean" else 0
    costs = CostModel(
        mflop=[0, *(mflop(config, length, settings.recycles) for length in range(1, max_length + 1))],
        mflop_per_second=rate,
        output_bytes_a_residue=STRUCTURE_BYTES_A_RESIDUE,
        output_bytes_a_protein=SCORE_BYTES_A_PROTEIN + EMBEDDING_BYTES_A_CHANNEL * channels,
    )
    planned = make_plan(fasta, AtlasFolder(Path(atlas)), settings, costs, max_length=max_length)
    new = planned.plan
    size = costs.output_bytes_a_residue * new.residues + costs.output_bytes_a_protein * new.proteins if new else 0.0
    return PlanSummary(planned, device, new.cost / rate if new else 0.0, round(size))


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} must be 1 or more")
    return number


def not_negative(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} must be 0 or more")
    return number


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("fasta", nargs="+", metavar="FASTA", help="protein FASTA, plain or gzip; patterns in quotes")
    parser.add_argument("atlas", metavar="ATLAS", help="folder of the atlas; made if it does not exist")
    parser.add_argument(
        "--model",
        required=True,
        metavar="NAME",
        help="the network that folds: nano (untrained yet), esmfold_v1, or the path of a model",
    )
    parser.add_argument(
        "--weights", metavar="DIR", help="where a model's name is looked for, before the cache of the hub"
    )
    parser.add_argument(
        "--recycles", type=not_negative, metavar="N", help="trunk passes after the first (default: the model's, 3)"
    )
    parser.add_argument(
        "--max-length",
        type=positive,
        default=DEFAULT_MAX_LENGTH,
        metavar="N",
        help="refuse longer proteins, residues (default: %(default)s)",
    )
    parser.add_argument(
        "--embeddings",
        choices=("none", "mean"),
        default="none",
        help="store the language model's mean embedding of each protein (default: %(default)s)",
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to fold (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    summary = plan(
        arguments.fasta,
        arguments.atlas,
        model=arguments.model,
        recycles=arguments.recycles,
        max_length=arguments.max_length,
        device=arguments.device,
        embeddings=arguments.embeddings,
        weights=arguments.weights,
    )
    print("\n".join(summary.lines()))
    if summary.planned.plan is None:
        print("nothing new to plan", file=sys.stderr)
    return 0
