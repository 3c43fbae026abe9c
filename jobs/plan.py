"""`foldatlas plan`: read and check FASTA, cut shards and predict time, bytes and cost, without folding."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from foldatlas.jobs.arguments import ATLAS_HELP, FASTA_HELP, PRECISIONS, add_weights, not_negative, path, positive, say
from foldatlas.jobs.choices import EngineChoice, Inputs, ModelChoice
from foldatlas.schemas.records import DEFAULT_MAX_LENGTH
from foldatlas.schemas.wording import counted

if TYPE_CHECKING:
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.forecast.estimate import Estimate
    from foldatlas.pipeline.planning.planner import Planned
    from foldatlas.schemas.manifest import Plan, Source

EXAMPLES: Final = """examples:
  foldatlas plan proteins.fasta atlas --model nano
  foldatlas plan 'assemblies/*.faa.gz' atlas --model nano --max-length 600
  foldatlas plan assembly.fna atlas --model nano --genes
  zcat proteins.fasta.gz | foldatlas plan - atlas --model nano
  foldatlas plan proteins.fasta atlas --model esmfold_v1 --device cuda --devices 64 --price 2.50
  foldatlas plan proteins.fasta atlas --model nano --dry-run --json
  foldatlas plan atlas --model nano --devices 64

Without FASTA it predicts what is left to fold of an atlas.
"""

EMBEDDINGS: Final = ("none", "mean", "residue")


@dataclass(frozen=True)
class PlanSummary:
    """What was planned. `estimate` predicts its folding, `left` that of all that the atlas has to fold, this plan
    included."""

    planned: "Planned"
    estimate: "Estimate"
    left: "Estimate"
    dry_run: bool = False

    def lines(self) -> list[str]:
        """For people, in short."""
        from foldatlas.schemas.wording import readable_bytes, readable_time

        plan = self.planned.plan
        if plan is None:
            return self._known()
        seconds, size = self.estimate.device_seconds, self.estimate.total_bytes
        return [
            *self._head(plan),
            f"to fold: {counted(plan.proteins, 'new sequence')}, {counted(plan.residues, 'residue')}, "
            f"{counted(len(plan.shards), 'shard')}, {plan.cost / 1e6:,.3f} TFLOP",
            f"predicted: {readable_time(seconds)} of one {self.estimate.device}, {readable_bytes(size)} on disk",
        ]

    def report(self) -> list[str]:
        """For people, with everything: refusals by reason, shards, time, bytes, money."""
        plan, left = self.planned.plan, self.left
        both = plan is not None and left.shards > self.estimate.shards
        head = self._known() if plan is None else self._head(plan)
        chosen = self.estimate if plan is not None else left
        lines = [f"proteins  {chosen.proteins:,}, {counted(chosen.residues, 'residue')}", *chosen.lines()]
        if not chosen.shards:
            lines = ["nothing to fold: every accepted sequence is in the atlas"]
        elif plan is None:
            lines = ["left to fold, of earlier plans:", *lines]
        if both:
            lines += ["with what is left of earlier plans:", *left.lines()]
        return [*head, *lines]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        plan = self.planned.plan
        made = None
        if plan is not None:
            made = {"name": plan.name, "records": sum(plan.outcomes.values()), "outcomes": plan.outcomes}
        return {
            "plan": made,
            "dry_run": self.dry_run,
            "known": [source.name for source in self.planned.known],
            "estimate": self.estimate.as_json(),
            "left": self.left.as_json(),
        }

    def _known(self) -> list[str]:
        return [f"{source.name} is in the atlas already: not read again" for source in self.planned.known]

    def _head(self, plan: "Plan") -> list[str]:
        counts = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(plan.outcomes.items()))
        not_kept = " (not kept: a dry run)" if self.dry_run else ""
        records = counted(sum(plan.outcomes.values()), "record")
        genes = [_genes_line(source) for source in plan.sources if source.genes]
        changes = [change.line() for change in self.planned.changes]
        return [*self._known(), *changes, *genes, f"plan {plan.name}{not_kept}: {records} ({counts})"]


def _genes_line(source: "Source") -> str:
    found = f"{counted(source.contigs, 'contig')}, {source.contigs_without_genes:,} without a gene"
    return f"{source.uri}: {counted(source.records, 'record')} from {found} ({source.genes})"


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
    genes: bool = False,
    name: str | None = None,
    replace: bool = False,
    dry_run: bool = False,
    devices: int = 1,
    price: float | None = None,
    runner: str | None = None,
    workers: int | None = None,
    beam_options: Sequence[str] = (),
) -> PlanSummary:
    """Reads `fasta` (paths or patterns) and commits a plan of the sequences that `atlas` does not have yet.

    With `genes` the files are contigs, and the sequences the proteins of the genes that Pyrodigal finds in them.
    `name` takes the place of the URI of the one file as the identity of its source; `replace` lets a file that changed
    be a new version though fewer than half of its ids remain (docs/files.md).
    `max_length` in residues: longer records are refused by this plan. `embeddings` (one of EMBEDDINGS) and `pae` say
    what will be stored, which bounds a shard. `weights` is the folder in which a model's name is looked for first,
    `precision` "fp32", "bf16" or "fp16" (of the language model alone). With `dry_run` the atlas stays as it is, and
    without `fasta` too: then what is left to fold of its plans is predicted.
    Predictions are for `devices` devices at `price` an hour each.
    `runner`, `workers` and `beam_options` choose the engine that reads (pipeline/engines/engine.py).
    Raises UsageError with the atlas untouched.
    """
    from foldatlas.pipeline.engines.choose import choose_engine
    from foldatlas.pipeline.shards.outputs import chosen_outputs

    inputs = Inputs(tuple(fasta), max_length, genes, name, replace)
    inputs.check()
    chosen_engine = choose_engine(runner, workers, beam_options)
    outputs = chosen_outputs(embeddings, pae)
    folder = inputs.folder(atlas)
    weights_dir = None if weights is None else str(weights)
    choice = ModelChoice.resolve(model, recycles, precision, weights_dir, before=partial(inputs.check_paths, folder))
    with EngineChoice.opened(chosen_engine, device) as engine:
        pass  # only the device is needed here; reading files starts the workers again
    return plan_inputs(inputs, folder, choice, engine, outputs, dry_run=dry_run, devices=devices, price=price)


def plan_inputs(
    inputs: Inputs,
    folder: "AtlasFolder",
    model: ModelChoice,
    engine: EngineChoice,
    outputs: Sequence[str],
    *,
    dry_run: bool = False,
    devices: int = 1,
    price: float | None = None,
) -> PlanSummary:
    """Plan `inputs` as `plan` does, from resolved arguments. `outputs` are names of optional tables."""
    from foldatlas.atlas.folder import newest_entries
    from foldatlas.atlas.forecast.calibration import (
        default_output_bytes,
        first_entries,
        measured_output_bytes,
        measured_rate,
    )
    from foldatlas.atlas.forecast.estimate import estimate
    from foldatlas.atlas.index.needed import left_to_fold
    from foldatlas.pipeline.planning.costs import cost_model
    from foldatlas.pipeline.planning.planner import Planned, make_plan
    from foldatlas.pipeline.sources.pipes import Spool

    folder.refuse_foreign()
    plans, histories = folder.plans(), folder.histories()
    entries = newest_entries(histories)
    first = first_entries(histories)
    rate = measured_rate(engine.device, plans, first, engine.device_name)
    default_bytes = default_output_bytes(model.config.language_model.width, outputs)
    # The rate of all devices of the kind, so that two drivers with different device models cut the same shards.
    costs = cost_model(model.config, model.settings.recycles, measured_rate(engine.device, plans, first), default_bytes)
    if not inputs.fasta:
        folder.check_settings(model.settings)
        planned = Planned(None, ())
    else:
        with Spool(folder) as spool:
            planned = make_plan(
                inputs.fasta,
                folder,
                model.settings,
                costs,
                max_length=inputs.max_length,
                genes=inputs.genes,
                name=inputs.name,
                replace=inputs.replace,
                dry_run=dry_run,
                engine=engine.engine,
                spool=spool,
            )
    new = planned.plan.shards if planned.plan is not None else ()
    left = left_to_fold(folder, plans, entries)
    output_bytes = measured_output_bytes(default_bytes, plans, entries)
    of_plan, of_all = (
        estimate(shards, rate, output_bytes, devices=devices, price=price) for shards in (new, [*left, *new])
    )
    return PlanSummary(planned, of_plan, of_all, dry_run)


def configure(parser: argparse.ArgumentParser) -> None:
    configure_planning(parser)
    parser.add_argument(
        "--devices", type=positive, default=1, metavar="N", help="predict the wall time on N devices (default: 1)"
    )
    parser.add_argument("--price", type=_price, metavar="X", help="of one device an hour: predict the cost")
    parser.add_argument("--json", action="store_true", help="one JSON object, for programs")


def configure_planning(parser: argparse.ArgumentParser) -> None:
    """What `plan` and `fold` have in common."""
    parser.add_argument(
        "fasta",
        nargs="*",  # what is left to fold of an atlas, and --retry-failed, need none
        type=path,
        metavar="FASTA",
        help=FASTA_HELP,
    )
    parser.add_argument("atlas", type=path, metavar="ATLAS", help=f"{ATLAS_HELP}; made if it does not exist")
    parser.add_argument(
        "--model",
        type=path,
        required=True,
        metavar="NAME",
        help="the network that folds: nano (small, on board), esmfold_v1, or the path of a model",
    )
    add_weights(parser)
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
    parser.add_argument(
        "--genes",
        action="store_true",
        help="the files are contigs: find their genes by Prodigal, in metagenomic mode, and fold their proteins",
    )
    parser.add_argument(
        "--as",
        dest="name",
        metavar="NAME",
        help="the name of the one file's source in place of its address; later runs repeat it",
    )
    parser.add_argument(
        "--replace",
        action="store_true",
        help="a file that changed is a new version of its source, though fewer than half of its ids remain, and the "
        "only current one",
    )
    parser.add_argument("--pae", action="store_true", help="store the predicted aligned error of each pair of residues")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
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
        help="processes on this machine, each with its share of the cores and a GPU of its own (default: 1)",
    )
    parser.add_argument(
        "--runner",
        metavar="R",
        help="Beam's engine: FnApiRunner, DaskRunner, PrismRunner, FlinkRunner, SparkRunner or DataflowRunner; "
        "options of its own follow the rest after --",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="read, check and predict; leave no plan, and the atlas as it is (a published model that is missing is "
        "fetched, since the digest of its weights belongs to a plan)",
    )


def _price(text: str) -> float:
    """A price: a number of at least 0."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} must be 0 or more")
    return number


def planning_arguments(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what `configure_planning` parsed as keyword arguments of `plan` and `fold`."""
    names = "fasta atlas model recycles max_length device embeddings pae weights precision genes name replace "
    names += "runner workers beam_options"
    return {name: getattr(arguments, name) for name in names.split()}


def run(arguments: argparse.Namespace) -> int:
    summary = plan(
        **planning_arguments(arguments), dry_run=arguments.dry_run, devices=arguments.devices, price=arguments.price
    )
    print(json.dumps(summary.as_json()) if arguments.json else "\n".join(summary.report()))
    if summary.planned.plan is None:
        say("nothing new to plan" if arguments.fasta else "no FASTA file is named before ATLAS: nothing was planned")
    return 0
