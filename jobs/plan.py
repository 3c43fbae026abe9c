"""`foldatlas plan`: read and check FASTA, cut shards and predict time, bytes and cost, without folding."""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from foldatlas.jobs.arguments import (
    ATLAS_HELP,
    FASTA_HELP,
    PRECISIONS,
    add_device,
    add_weights,
    not_negative,
    not_negative_number,
    path,
    positive,
    positive_number,
    say,
)
from foldatlas.jobs.choices import EngineChoice, Inputs, ModelChoice
from foldatlas.jobs.cluster import forecast_of_plan
from foldatlas.jobs.novelty import configure_reference, opened
from foldatlas.schemas.records import DEFAULT_MAX_LENGTH
from foldatlas.schemas.wording import counted

if TYPE_CHECKING:
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.forecast.estimate import Estimate
    from foldatlas.pipeline.planning.planner import Planned
    from foldatlas.pipeline.search.run import SearchForecast
    from foldatlas.schemas.manifest import Plan, Source

EXAMPLES: Final = """examples:
  foldatlas plan proteins.fasta atlas --model nano
  foldatlas plan 'assemblies/*.faa.gz' atlas --model nano --max-length 600
  foldatlas plan assembly.fna atlas --model nano --genes
  zcat proteins.fasta.gz | foldatlas plan - atlas --model nano
  foldatlas plan proteins.fasta atlas --model esmfold_v1 --device cuda --devices 64 --price 2.50
  foldatlas plan proteins.fasta atlas --model nano --dry-run --json
  foldatlas plan proteins.fasta atlas --model nano --cluster
  foldatlas plan atlas --model nano --devices 64

Without FASTA the command predicts what is left to fold in an atlas.
"""

EMBEDDINGS: Final = ("none", "mean", "residue")


@dataclass(frozen=True)
class PlanSummary:
    """What was planned, an `estimate` for folding it, and one for all that is `left` in the atlas, including it."""

    planned: "Planned"
    estimate: "Estimate"
    left: "Estimate"
    dry_run: bool = False

    def lines(self) -> list[str]:
        """Return a short summary for the terminal."""
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
        """Return the full report for the terminal: refusals by reason, shards, time, bytes, money."""
        plan, left = self.planned.plan, self.left
        both = plan is not None and left.shards > self.estimate.shards
        head = self._known() if plan is None else self._head(plan)
        chosen = self.estimate if plan is not None else left
        lines = [f"proteins  {chosen.proteins:,}, {counted(chosen.residues, 'residue')}", *chosen.lines()]
        if not chosen.shards:
            lines = ["nothing to fold: every accepted sequence is in the atlas"]
        elif plan is None:
            lines = ["left to fold from earlier plans:", *lines]
        if both:
            lines += ["including what is left of earlier plans:", *left.lines()]
        return [*head, *lines]

    def as_json(self) -> dict[str, Any]:
        """Return the summary as JSON objects."""
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
        return [f"{source.name} is already in the atlas: not read again" for source in self.planned.known]

    def _head(self, plan: "Plan") -> list[str]:
        counts = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(plan.outcomes.items()))
        not_kept = " (dry run: not kept)" if self.dry_run else ""
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
    recycle_tolerance: float | None = None,
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
    """Read `fasta` (paths, patterns or addresses) and commit a plan of the sequences that `atlas` does not have yet.

    `genes`: the files are contigs; the sequences are the proteins of genes that Pyrodigal finds in them. `name`
    replaces the URI of the one source as its identity. `replace`: accept a changed file as a new version even if fewer
    than half of its ids remain (docs/files.md). `max_length`: in residues; longer records are refused. `embeddings`
    (one of EMBEDDINGS) and `pae`: outputs that folding will store, which limit the size of a shard. `weights`: a folder
    that is searched for the model first. `precision`: "fp32", "bf16", "fp16" (language model only) or "fp8" (its
    products; bf16 elsewhere). `recycle_tolerance`: as in `fold`; predictions assume that all passes run.
    `dry_run`: leave the atlas unchanged. Without `fasta` the atlas is also unchanged, and what is left to fold is
    predicted.
    `devices`, `price`: predict for this number of devices at this price per hour each. `runner`, `workers`,
    `beam_options`: the engine that reads (pipeline/engines/engine.py). Raise UsageError with the atlas unchanged.
    """
    from foldatlas.pipeline.engines.choose import choose_engine
    from foldatlas.pipeline.shards.outputs import chosen_outputs

    inputs = Inputs(tuple(fasta), max_length, genes, name, replace)
    inputs.check()
    chosen_engine = choose_engine(runner, workers, beam_options)
    outputs = chosen_outputs(embeddings, pae)
    folder = inputs.folder(atlas)
    weights_dir = None if weights is None else str(weights)
    choice = ModelChoice.resolve(
        model,
        recycles,
        precision,
        weights_dir,
        recycle_tolerance=recycle_tolerance,
        before=partial(inputs.check_paths, folder),
    )
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
    from foldatlas.atlas.forecast.device_rates import first_entries, measured_rate
    from foldatlas.atlas.forecast.estimate import estimate
    from foldatlas.atlas.forecast.output_sizes import default_output_bytes, measured_output_bytes
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
    prediction = parser.add_argument_group("prediction")
    prediction.add_argument(
        "--devices", type=positive, default=1, metavar="N", help="predict the wall time on N devices (default: 1)"
    )
    prediction.add_argument(
        "--price", type=not_negative_number, metavar="X", help="price of one device per hour: predict the cost"
    )
    configure_reference(prediction)
    prediction.add_argument(
        "--cluster", action="store_true", help="predict time, memory and disk of clustering all structures, too"
    )
    prediction.add_argument("--json", action="store_true", help="print one JSON object")


def configure_planning(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that `plan` and `fold` share."""
    parser.add_argument(
        "fasta",
        nargs="*",  # predicting what is left, and --retry-failed, need none
        type=path,
        metavar="FASTA",
        help=FASTA_HELP,
    )
    parser.add_argument("atlas", type=path, metavar="ATLAS", help=f"{ATLAS_HELP}; created if it does not exist")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="read, check and predict without changing the atlas (a published model that is missing is downloaded, "
        "because a plan needs the digest of its weights)",
    )
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model",
        type=path,
        required=True,
        metavar="NAME",
        help="folding model: nano (small, included), esmfold_v1, or a path",
    )
    add_weights(model)
    model.add_argument(
        "--recycles",
        type=not_negative,
        metavar="N",
        help="trunk passes after the first (default: the model's; 3 for ESMFold)",
    )
    model.add_argument(
        "--recycle-tolerance",
        type=positive_number,
        metavar="A",
        help="stop recycling a protein when a pass changed its C-alpha distances by less than A angstrom, root mean "
        "square; changes results (default: run all passes)",
    )
    model.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="fp32",
        help="precision of the arithmetic; fp16 applies to the language model only, fp8 to "
        "its matrix products, with bf16 elsewhere (default: %(default)s)",
    )
    files = parser.add_argument_group("input")
    files.add_argument(
        "--max-length",
        type=positive,
        default=DEFAULT_MAX_LENGTH,
        metavar="N",
        help="refuse proteins longer than this, in residues (default: %(default)s)",
    )
    files.add_argument(
        "--genes",
        action="store_true",
        help="the files are contigs: find genes with Prodigal (metagenomic mode) and fold their proteins",
    )
    files.add_argument(
        "--as",
        dest="name",
        metavar="NAME",
        help="name of the source instead of the path or address of its file; repeat it in later runs",
    )
    files.add_argument(
        "--replace",
        action="store_true",
        help="accept a changed file as the only current version, even if fewer than half of its ids remain",
    )
    outputs = parser.add_argument_group("outputs")
    outputs.add_argument(
        "--embeddings",
        choices=EMBEDDINGS,
        default="none",
        help="store the language model's last layer: the mean, or also each residue (default: %(default)s)",
    )
    outputs.add_argument(
        "--pae", action="store_true", help="store the predicted aligned error of each pair of residues"
    )
    engine = parser.add_argument_group("execution")
    add_device(engine)
    engine.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="worker processes on this machine, each with its share of the cores and its own GPU (default: 1)",
    )
    engine.add_argument(
        "--runner",
        metavar="R",
        help="Beam runner: FnApiRunner, DaskRunner, PrismRunner, FlinkRunner, SparkRunner or DataflowRunner; its "
        "options are last, after --",
    )


def search_forecasts(references: Sequence[str], atlas: str | Path, summary: PlanSummary) -> "list[SearchForecast]":
    """Predict the search of what is left to fold against `references`. Raise UsageError."""
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.novelty.planning import Todo
    from foldatlas.pipeline.search.run import predict

    if not references:
        return []
    folder, left = AtlasFolder(atlas), summary.left
    todo = Todo(full=left.proteins, newer=0, kept=0, members=0)
    existing = folder if folder.exists() else None
    return [
        predict(existing, request.reference, todo, left.residues / max(1, left.proteins))
        for request in opened(references)
    ]


def planning_arguments(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what `configure_planning` parsed as keyword arguments of `plan` and `fold`."""
    names = "fasta atlas model recycles recycle_tolerance max_length device embeddings pae weights precision genes "
    names += "name replace runner workers beam_options"
    return {name: getattr(arguments, name) for name in names.split()}


def run(arguments: argparse.Namespace) -> int:
    summary = plan(
        **planning_arguments(arguments), dry_run=arguments.dry_run, devices=arguments.devices, price=arguments.price
    )
    searches = search_forecasts(arguments.references, arguments.atlas, summary)
    clusters = forecast_of_plan(arguments.atlas, summary.planned.plan) if arguments.cluster else None
    if arguments.json:
        more: dict[str, Any] = {"searches": [dataclasses.asdict(one) for one in searches]} if searches else {}
        if clusters is not None:
            more["clusters"] = dataclasses.asdict(clusters)
        print(json.dumps({**summary.as_json(), **more}))
    else:
        predicted = [line for one in searches for line in one.lines()]
        print("\n".join([*summary.report(), *predicted, *(clusters.lines() if clusters is not None else ())]))
    if summary.planned.plan is None:
        say("nothing new to plan" if arguments.fasta else "no FASTA file is given before ATLAS: nothing was planned")
    return 0
