"""`foldatlas plan`: read and check FASTA, cut shards and predict the cost, without folding."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from foldatlas.jobs.arguments import counted, not_negative, path, positive, say
from foldatlas.schemas.records import DEFAULT_MAX_LENGTH

if TYPE_CHECKING:
    from foldatlas.pipeline.planning import Planned

EXAMPLES: Final = """examples:
  foldatlas plan proteins.fasta atlas --model nano
  foldatlas plan 'assemblies/*.faa.gz' atlas --model nano --max-length 600
"""

# What the planned device computes, MFLOP a second, and what an atlas holds: 31.8 bytes a residue of structure and
# pLDDT, 60 of scores a protein; on request four bytes a channel of a mean embedding, 1.85 bytes a channel and residue
# of embeddings of residues, a byte a pair of aligned errors (0.73 smooth, 1.15 as noisy as an untrained model's).
MFLOP_PER_SECOND: Final = {"cpu": 20_000.0, "cuda": 200_000_000.0}
STRUCTURE_BYTES_A_RESIDUE: Final = 34.0
SCORE_BYTES_A_PROTEIN: Final = 80.0
EMBEDDING_BYTES_A_CHANNEL: Final = 4.0
RESIDUE_EMBEDDING_BYTES_A_CHANNEL: Final = 1.85
PAE_BYTES_A_PAIR: Final = 1.0
EMBEDDINGS: Final = ("none", "mean", "residue")


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
        known = [f"{source.name} is in the atlas already: not read again" for source in self.planned.known]
        if plan is None:
            return known
        counts = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(plan.outcomes.items()))
        records = sum(plan.outcomes.values())
        return [
            *known,
            f"plan {plan.name}: {counted(records, 'record')} ({counts})",
            f"to fold: {counted(plan.proteins, 'new sequence')}, {counted(plan.residues, 'residue')}, "
            f"{counted(len(plan.shards), 'shard')}, {plan.cost / 1e6:,.3f} TFLOP",
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
    pae: bool = False,
    weights: str | Path | None = None,
    precision: str = "fp32",
    runner: str | None = None,
    workers: int | None = None,
    beam_options: Sequence[str] = (),
) -> PlanSummary:
    """Reads `fasta` (paths or patterns) and commits a plan of the sequences that `atlas` does not have yet.

    `max_length` in residues: longer records are refused by this plan. `embeddings` (one of EMBEDDINGS) and `pae` say
    what will be stored, which bounds a shard. `weights` is the folder in which a model's name is looked for first,
    `precision` "fp32", "bf16" or "fp16" (of the language model alone).
    `runner`, `workers` and `beam_options` choose the engine that reads (pipeline/engine.py).
    Raises UsageError with the atlas untouched.
    """
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.folding.cost import mflop
    from foldatlas.folding.models import config_of, settings_of
    from foldatlas.pipeline import graphs
    from foldatlas.pipeline.engine import choose_engine
    from foldatlas.pipeline.outputs import chosen_outputs
    from foldatlas.pipeline.planning import CostModel, make_plan

    engine = choose_engine(runner, workers, beam_options)
    weights_dir = None if weights is None else str(weights)
    settings = settings_of(model, recycles, precision, weights_dir=weights_dir)
    config = config_of(model, weights_dir=weights_dir)
    device = graphs.device_of(engine, device)
    rate = MFLOP_PER_SECOND[device]
    outputs, width = chosen_outputs(embeddings, pae), config.language_model.width
    mean_channels = width if "embeddings" in outputs else 0
    residue_channels = width if "residue_embeddings" in outputs else 0
    costs = CostModel(
        mflop=lambda length: mflop(config, length, settings.recycles),
        mflop_per_second=rate,
        output_bytes_a_residue=STRUCTURE_BYTES_A_RESIDUE + RESIDUE_EMBEDDING_BYTES_A_CHANNEL * residue_channels,
        output_bytes_a_protein=SCORE_BYTES_A_PROTEIN + EMBEDDING_BYTES_A_CHANNEL * mean_channels,
        output_bytes_a_pair=PAE_BYTES_A_PAIR if "pae" in outputs else 0.0,
    )
    planned = make_plan(fasta, AtlasFolder(Path(atlas)), settings, costs, max_length=max_length, engine=engine)
    new = planned.plan
    # The proteins of a shard are of about one length.
    sizes = (
        [shard.proteins * costs.output_bytes(shard.residues / shard.proteins) for shard in new.shards] if new else []
    )
    return PlanSummary(planned, device, new.cost / rate if new else 0.0, sum(sizes))


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "fasta",
        nargs="+",
        type=path,
        metavar="FASTA",
        help="protein FASTA or GenBank, plain, gz or zst: a path, an address (s3, gs, http) or a quoted pattern",
    )
    parser.add_argument("atlas", type=path, metavar="ATLAS", help="folder of the atlas; made if it does not exist")
    parser.add_argument(
        "--model",
        type=path,
        required=True,
        metavar="NAME",
        help="the network that folds: nano (small, on board), esmfold_v1, or the path of a model",
    )
    parser.add_argument(
        "--weights", type=path, metavar="DIR", help="where a model's name is looked for, before the cache of the hub"
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
        choices=EMBEDDINGS,
        default="none",
        help="store the language model's last layer: its mean, or that of each residue too (default: %(default)s)",
    )
    parser.add_argument("--pae", action="store_true", help="store the predicted aligned error of each pair of residues")
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16", "fp16"),
        default="fp32",
        help="of the arithmetic; fp16: of the language model alone (default: %(default)s)",
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to fold (default: %(default)s)"
    )
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="processes on this machine, each with a GPU of its own or its share of the cores (default: 1)",
    )
    parser.add_argument(
        "--runner",
        metavar="R",
        help="Beam's engine: FnApiRunner, DaskRunner, PrismRunner, FlinkRunner, SparkRunner or DataflowRunner; "
        "options of its own follow the rest after --",
    )


def chosen(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `configure` asked for, as the arguments of `plan` (and of `fold`)."""
    names = "fasta atlas model recycles max_length device embeddings pae weights precision "
    names += "runner workers beam_options"
    return {name: getattr(arguments, name) for name in names.split()}


def run(arguments: argparse.Namespace) -> int:
    summary = plan(**chosen(arguments))
    print("\n".join(summary.lines()))
    if summary.planned.plan is None:
        say("nothing new to plan")
    return 0
