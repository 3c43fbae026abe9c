"""`foldatlas fold`: plan what is new, fold what is missing, build the index, write the report."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foldatlas.jobs import cluster as cluster_job
from foldatlas.jobs import plan as plan_job
from foldatlas.jobs import report as report_job
from foldatlas.jobs.arguments import add_log, add_no_report, say, say_refused
from foldatlas.jobs.choices import EngineChoice, Inputs, ModelChoice
from foldatlas.jobs.novelty import configure_reference, exit_code, opened, search_each
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.records import DEFAULT_MAX_LENGTH
from foldatlas.schemas.wording import counted

if TYPE_CHECKING:
    from foldatlas.atlas.accounting import Accounting
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.pipeline.clustering import ClusterReport
    from foldatlas.pipeline.planning.selection import Choice
    from foldatlas.pipeline.search.run import SearchReport
    from foldatlas.pipeline.shards.run import FoldReport
    from foldatlas.schemas.manifest import Plan, Shard

EXAMPLES: Final = """examples:
  foldatlas fold proteins.fasta atlas --model nano
  foldatlas fold 'assemblies/*.faa.gz' atlas --model nano --embeddings mean
  foldatlas fold proteins.fasta atlas --model nano --pae --add-outputs
  foldatlas fold assembly.fna atlas --model nano --genes
  foldatlas fold proteins.fasta atlas --model esmfold_v1 --weights models
  foldatlas fold proteins.fasta atlas --model models/my-esmfold
  foldatlas fold proteins.fasta atlas --model nano --part 3/16
  foldatlas fold proteins.fasta atlas --model nano --shards 0-99,150
  foldatlas fold atlas --model nano --retry-failed
  foldatlas fold proteins.fasta atlas --model nano --replace
  foldatlas fold proteins.fasta atlas --model nano --as 'gut, release 3'
  foldatlas fold proteins.fasta atlas --model nano --reference structures
  foldatlas fold proteins.fasta atlas --model nano --dry-run
  foldatlas fold proteins.fasta atlas --model nano --workers 4
  foldatlas fold proteins.fasta atlas --model nano --runner DaskRunner -- --dask_client_address=tls://host:8786

The same command again folds only what is missing.
"""


@dataclass(frozen=True)
class PartSummary:
    """What is committed of the part of a plan that `--part` or `--shards` selected, by this run or others.

    The part has `shards` of `planned` shards, with `folded` structures and `failed` sequences; `left` shards of the
    whole atlas are still to fold.
    """

    shards: int
    planned: int
    folded: int
    failed: int
    left: int

    def line(self) -> str:
        """Return a summary of one line."""
        return (
            f"part done: {self.shards:,} of {counted(self.planned, 'shard')}, {counted(self.folded, 'structure')} "
            f"folded, {self.failed:,} failed; {counted(self.left, 'shard')} of the atlas still to fold"
        )


@dataclass(frozen=True)
class FoldSummary:
    """What `fold` did in this run (`plan`, `report`), and the `accounting` of all records of the atlas.

    `part` describes the selected part, if any; then `accounting` is None while other parts are missing. `clusters` is
    None where they were not asked for, or there is no index or no structure yet. `searches` are those against each
    reference, which wait for the last part.
    """

    plan: plan_job.PlanSummary
    report: "FoldReport"
    accounting: "Accounting | None"
    part: PartSummary | None = None
    clusters: "ClusterReport | None" = None
    searches: "tuple[SearchReport, ...]" = ()


def fold(
    fasta: Sequence[str],
    atlas: str | Path,
    *,
    model: str,
    recycles: int | None = None,
    recycle_tolerance: float | None = None,
    max_length: int = DEFAULT_MAX_LENGTH,
    embeddings: str = "none",
    pae: bool = False,
    add_outputs: bool = False,
    device: str = "auto",
    weights: str | Path | None = None,
    precision: str = "fp32",
    shards: str | None = None,
    part: str | None = None,
    retry_failed: bool = False,
    cluster: bool = False,
    references: Sequence[str | Path] = (),
    log: str | None = None,
    genes: bool = False,
    name: str | None = None,
    replace: bool = False,
    runner: str | None = None,
    workers: int | None = None,
    beam_options: Sequence[str] = (),
    show_progress: bool = False,
) -> FoldSummary:
    """Fold the proteins of `fasta` (paths, patterns or addresses) that `atlas` does not have yet; build the index.

    `recycles`: trunk passes after the first (None: the model's default). `recycle_tolerance`: a protein stops recycling
    when a pass changed its C-alpha distances by less, in angstrom (None: never). `max_length`: in residues; longer
    records are refused. `embeddings`: "none", "mean" or "residue". `pae`: store predicted aligned errors.
    `add_outputs`: fold committed shards again that lack these outputs. `weights`: a folder that is searched for the
    model first. `precision`: "fp32", "bf16", "fp16" (language model only) or "fp8" (its products; bf16 elsewhere).
    `genes`: the files are contigs; fold their genes.
    `shards` ("0-99,150") or `part` ("3/16"): fold only these shards of the plans of `fasta` (None: all shards of the
    atlas), and build the index only if no shard is missing afterwards. `retry_failed`: retry failed sequences once;
    `fasta` may be empty. `cluster`: cluster the atlas once it is indexed (jobs/cluster.py). `references`: reference
    databases to search the structures against (jobs/novelty.py); a search that fails leaves structures and index, and
    its report has an `error`. `name`, `replace`: as in `plan`. `log`: file to append events to, as JSON lines.
    `runner`, `workers`, `beam_options`: the engine
    (pipeline/engines/engine.py; by default one worker in this process).

    Raise UsageError with the atlas unchanged (or only planned, if `shards` does not fit the plan), and Interrupted
    with all committed shards kept.
    """
    from foldatlas.atlas.index.build import up_to_date
    from foldatlas.folding.models import notes_of
    from foldatlas.folding.weights.model_files import absolute
    from foldatlas.pipeline import events
    from foldatlas.pipeline.engines.choose import choose_engine
    from foldatlas.pipeline.planning.selection import chosen
    from foldatlas.pipeline.shards.outputs import chosen_outputs, refuse_missing_outputs
    from foldatlas.pipeline.shards.run import fold_atlas
    from foldatlas.pipeline.workers.supervisor import WorkerSpec

    # Resolve and check every argument before anything is written or downloaded.
    if cluster:
        cluster_job.check_program()
    chosen_engine = choose_engine(runner, workers, beam_options)
    selection = chosen(shards, part)
    inputs = Inputs(tuple(fasta), max_length, genes, name, replace)
    outputs = chosen_outputs(embeddings, pae)
    _refuse_contradictions(inputs, outputs, selection, add_outputs=add_outputs, retry_failed=retry_failed)
    folder = inputs.folder(atlas)
    log = events.absolute(log)
    searches = opened(references) if references else []
    weights_dir = None if weights is None else str(Path(weights).absolute())
    choice = ModelChoice.resolve(
        model,
        recycles,
        precision,
        weights_dir,
        recycle_tolerance=recycle_tolerance,
        before=partial(inputs.check_paths, folder),
    )
    say(*(f"{model}: {note}" for note in notes_of(model, weights_dir=weights_dir)))
    if outputs and not add_outputs:
        refuse_missing_outputs(folder.uri, folder.entries().values(), outputs)

    # Plan what is new, then fold what is missing of the selected shards.
    with EngineChoice.opened(chosen_engine, device) as engine:
        summary = plan_job.plan_inputs(inputs, folder, choice, engine, outputs)
        if show_progress:
            say(*summary.lines())
        share = None if selection is None else _Share.of(selection, summary, folder, max_length)
        report = fold_atlas(
            folder,
            WorkerSpec(absolute(model), choice.settings, engine.device, weights_dir),
            outputs=outputs,
            add_outputs=add_outputs,
            show_progress=show_progress,
            shards=None if share is None else {shard.name for shard in share.shards},
            retry_failed=retry_failed,
            log=log,
            engine=engine.engine,
        )

    # Build the index, unless shards of other parts are missing; then cluster and search what is indexed.
    done = None if share is None else share.summary(folder, outputs if add_outputs else ())
    if done is not None and done.left:
        return FoldSummary(summary, report, None, done)
    accounting, clusters = up_to_date(folder), None
    if cluster and accounting.folded:
        clusters = cluster_job.cluster(
            atlas,
            runner=runner,
            workers=workers,
            beam_options=beam_options,
            log=log,
            show_progress=show_progress,
            on_phase=say if show_progress else lambda name: None,
        )
    found = search_each(folder, searches, chosen_engine, log=log, show_progress=show_progress)
    return FoldSummary(summary, report, accounting, done, clusters, tuple(found))


def _refuse_contradictions(
    inputs: Inputs, outputs: Sequence[str], selection: "Choice | None", *, add_outputs: bool, retry_failed: bool
) -> None:
    """Raise UsageError for arguments that do not go together."""
    if not inputs.fasta and not retry_failed:
        raise UsageError("no FASTA file is given before ATLAS: give one, or pass --retry-failed to retry failures")
    inputs.check()
    if retry_failed and add_outputs:
        raise UsageError("--retry-failed and --add-outputs cannot be combined: run one after the other")
    if selection is not None and not inputs.fasta:
        raise UsageError("--shards and --part select shards of the plan of FASTA files: give the files")
    if add_outputs and not outputs:
        raise UsageError("--add-outputs does not say which output to add: pass --embeddings or --pae too")


@dataclass(frozen=True)
class _Share:
    """The `shards` that `--shards` or `--part` selects, of `planned` shards of the atlas's `plans`."""

    shards: "Sequence[Shard]"
    planned: int
    plans: "Sequence[Plan]"

    @classmethod
    def of(cls, selection: "Choice", summary: plan_job.PlanSummary, folder: "AtlasFolder", max_length: int) -> "_Share":
        from foldatlas.pipeline.planning.planner import plans_of

        plans = folder.plans()
        named = plans_of(summary.planned, plans, max_length)
        return cls(selection.of(named), sum(len(plan.shards) for plan in named), plans)

    def summary(self, folder: "AtlasFolder", outputs: Sequence[str]) -> PartSummary:
        """Count what is committed of the share, and the shards of the atlas that are not folded or lack `outputs`."""
        from foldatlas.atlas.index.needed import left_to_fold
        from foldatlas.pipeline.shards.outputs import lacking

        entries = folder.entries()
        unfolded = {shard.name for shard in left_to_fold(folder, self.plans, entries)}
        left = sum(
            shard.name in unfolded or bool(shard.name in entries and lacking(entries[shard.name], outputs))
            for plan in self.plans
            for shard in plan.shards
        )
        done = [entries[shard.name] for shard in self.shards if shard.name in entries]  # the others are not needed
        folded, failed = sum(entry.folded for entry in done), sum(entry.failed for entry in done)
        return PartSummary(len(self.shards), self.planned, folded, failed, left)


def configure(parser: argparse.ArgumentParser) -> None:
    plan_job.configure_planning(parser)
    parser.add_argument("--strict", action="store_true", help="exit with code 3 if any record is refused")
    add_log(parser)
    selection = parser.add_argument_group("what to fold", "default: all that the atlas lacks")
    selection.add_argument(
        "--shards", metavar="A-B", help="fold only these shards of the plan, by number: 0-99 or 0-99,150"
    )
    selection.add_argument("--part", metavar="K/N", help="fold only part K of N parts of equal predicted cost: 3/16")
    selection.add_argument(
        "--retry-failed",
        action="store_true",
        help="retry failed proteins once, for example on a device with more memory; FASTA may be omitted",
    )
    selection.add_argument(
        "--add-outputs",
        action="store_true",
        help="fold again the shards without the tables of --embeddings or --pae; their structures are kept",
    )
    after = parser.add_argument_group("after folding")
    configure_reference(after)
    after.add_argument(
        "--cluster",
        action="store_true",
        help="cluster the atlas by sequence and structure, as `foldatlas cluster` does",
    )
    add_no_report(after)


# arguments that plan does not have, or does not act on
ASKED: Final = ("add_outputs", "shards", "part", "retry_failed", "cluster", "log")


def _refuse_beside_dry_run(arguments: argparse.Namespace) -> None:
    """Raise UsageError for an option that `--dry-run` would ignore."""
    for name in (*ASKED, "strict"):
        if name != "cluster" and getattr(arguments, name):
            option = "--" + name.replace("_", "-")
            raise UsageError(
                f"--dry-run predicts the folding of everything and does not support {option}: omit one of them"
            )


def run(arguments: argparse.Namespace) -> int:
    if arguments.dry_run:
        _refuse_beside_dry_run(arguments)
        planned = plan_job.plan(**plan_job.planning_arguments(arguments), dry_run=True)
        forecasts = plan_job.search_forecasts(arguments.references, arguments.atlas, planned)
        lines = [*planned.report(), *(line for one in forecasts for line in one.lines())]
        if arguments.cluster:
            lines += cluster_job.forecast_of_plan(arguments.atlas, planned.planned.plan).lines()
        print("\n".join(lines))
        return 0
    asked = {name: getattr(arguments, name) for name in ASKED}
    summary = fold(
        **plan_job.planning_arguments(arguments), **asked, references=arguments.references, show_progress=True
    )
    report, accounting = summary.report, summary.accounting
    from foldatlas.schemas.wording import readable_time

    if report.shards:
        rate = report.residues / max(report.seconds, 1e-3)
        folded = [f"folded {counted(report.folded, 'structure')}"] if report.folded or not report.added else []
        added = [f"added outputs to {counted(report.added, 'structure')}"] if report.added else []
        took = f"in {readable_time(report.seconds)} ({rate:,.0f} residues/s)"
        say(f"{' and '.join(folded + added)} {took}")
        if report.trunk_passes is not None:
            say(f"recycling stopped after {report.trunk_passes:.2f} trunk passes on average")
    elif accounting is not None:
        accepted = accounting.folded + accounting.failed
        say(f"nothing to fold: {'every sequence is in the atlas' if accepted else 'no record was accepted'}")
    part = summary.part
    if accounting is None:
        assert part is not None, "a run without parts has an index"
        print(part.line())
        say(f"the index is built by the run that folds the last shard, or by: foldatlas index {arguments.atlas}")
        return 3 if part.failed else 0
    if part is not None:
        say(part.line())
    if accounting.failed and not arguments.retry_failed:
        say("to retry failed proteins, for example on a device with more memory: --retry-failed")
    if summary.clusters is not None:
        say(*cluster_job.lines(summary.clusters))
    elif report.folded and cluster_job.is_clustered(arguments.atlas):
        say(f"the clusters are of earlier structures; to renew them: foldatlas cluster {arguments.atlas}")
    print(accounting.line())
    say_refused(accounting.num_refused, arguments.atlas)
    for search in summary.searches:
        print(search.line())
    if arguments.report:
        report_job.attempt(arguments.atlas)
    failed = (accounting.failed if part is None else part.failed) or exit_code(summary.searches)
    return 3 if failed or (arguments.strict and accounting.num_refused) else 0
