"""`foldatlas fold`: the main job. Plans what is new, folds what is missing, builds the index."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foldatlas.jobs import plan as plan_job
from foldatlas.jobs.arguments import path, say
from foldatlas.jobs.weights import provide
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.records import DEFAULT_MAX_LENGTH
from foldatlas.schemas.wording import counted

if TYPE_CHECKING:
    from foldatlas.atlas.accounting import Accounting
    from foldatlas.pipeline.shards.run import FoldReport
    from foldatlas.schemas.manifest import Shard, ShardEntry

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
  foldatlas fold proteins.fasta atlas --model nano --dry-run
  foldatlas fold proteins.fasta atlas --model nano --workers 4
  foldatlas fold proteins.fasta atlas --model nano --runner DaskRunner -- --dask_client_address=tls://host:8786

The same command again folds what is missing, and nothing if nothing is.
"""


@dataclass(frozen=True)
class PartSummary:
    """The part of a plan that a run was asked for, all of it done now: its `shards`, of `planned` ones; the structures
    `folded` and `failed` in it, by whichever run. `left` shards of the atlas are missing still."""

    shards: int
    planned: int
    folded: int
    failed: int
    left: int

    def line(self) -> str:
        """One line for people."""
        return (
            f"part done: {self.shards:,} of {counted(self.planned, 'shard')}, {counted(self.folded, 'structure')} "
            f"folded, {self.failed:,} failed; {counted(self.left, 'shard')} of the atlas still to fold"
        )


@dataclass(frozen=True)
class FoldSummary:
    """What `fold` did in this run (`report`), and what became of every record of the atlas (`accounting`; None after
    one of several parts, `part`, while others are missing)."""

    plan: plan_job.PlanSummary
    report: "FoldReport"
    accounting: "Accounting | None"
    part: PartSummary | None = None


def fold(
    fasta: Sequence[str],
    atlas: str | Path,
    *,
    model: str,
    recycles: int | None = None,
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
    log: str | None = None,
    genes: bool = False,
    name: str | None = None,
    replace: bool = False,
    runner: str | None = None,
    workers: int | None = None,
    beam_options: Sequence[str] = (),
    show_progress: bool = False,
) -> FoldSummary:
    """Folds every protein of `fasta` (paths or patterns) that `atlas` does not have, and indexes the atlas.

    `recycles` are the trunk passes after the first (None: the model's); `max_length` in residues; `embeddings` "none",
    "mean" or "residue"; `pae`: whether to store aligned errors; `add_outputs`: whether to fold again, for these, what
    was folded without them; `weights` the folder in which a model's name is looked for first; `precision` "fp32",
    "bf16" or "fp16" (of the language model alone). `genes`: whether the files are contigs, of which the genes' proteins
    are folded. `shards` ("0-99,150") or `part` ("3/16") say which shards of the plans of `fasta` this run folds (None:
    all of the atlas); it builds the index only if none is missing then. `retry_failed`: whether to try failed proteins
    again, once; `fasta` may be empty then. `name` and `replace` are those of `plan`. `log`: a file to which events are
    appended as JSON lines. `runner`, `workers` and `beam_options` choose the engine (pipeline/engines/engine.py:
    neither is one worker in this process).

    Raises UsageError with the atlas untouched (but planned, where `shards` are not those of the plan); Interrupted
    with every finished shard kept.
    """
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.index.build import build_index, current_accounting
    from foldatlas.atlas.index.needed import left_to_fold
    from foldatlas.folding.models import notes_of, settings_of
    from foldatlas.folding.weights.model_files import absolute
    from foldatlas.pipeline import events
    from foldatlas.pipeline.engines import dispatch
    from foldatlas.pipeline.engines.choose import choose_engine
    from foldatlas.pipeline.planning.planner import plans_of
    from foldatlas.pipeline.planning.selection import chosen
    from foldatlas.pipeline.shards.outputs import chosen_outputs, lacking, refuse_missing_outputs
    from foldatlas.pipeline.shards.run import fold_atlas
    from foldatlas.pipeline.workers.supervisor import WorkerSpec

    engine = choose_engine(runner, workers, beam_options)
    choice = chosen(shards, part)
    if not fasta and not retry_failed:
        raise UsageError(
            "no FASTA file is named before ATLAS: name one, or pass --retry-failed to try failed proteins again"
        )
    plan_job.refuse_genes_alone(genes, fasta)
    if retry_failed and add_outputs:
        raise UsageError("--retry-failed gives a shard the outputs that it has: run --add-outputs before or after it")
    if choice is not None and not fasta:
        raise UsageError("--shards and --part mean shards of the FASTA's plan: name the files")
    folder = AtlasFolder(atlas) if fasta else AtlasFolder.existing(atlas)
    log = events.absolute(log)
    weights_dir = None if weights is None else str(Path(weights).absolute())
    outputs = chosen_outputs(embeddings, pae)
    if add_outputs and not outputs:
        raise UsageError("--add-outputs adds what is asked for: name it with --embeddings or --pae")
    provide(model, weights_dir, before=lambda: plan_job.look_first(folder, fasta, genes, name))
    settings = settings_of(model, recycles, precision, weights_dir=weights_dir)
    say(*(f"{model}: {note}" for note in notes_of(model, weights_dir=weights_dir)))
    if outputs and not add_outputs:
        refuse_missing_outputs(folder.uri, folder.entries().values(), outputs)
    with dispatch.opened(engine, device) as device:
        worker = WorkerSpec(absolute(model), settings, device, weights_dir)
        summary = plan_job.plan(
            fasta,
            atlas,
            model=model,
            recycles=recycles,
            max_length=max_length,
            device=device,
            embeddings=embeddings,
            pae=pae,
            weights=weights_dir,
            precision=precision,
            genes=genes,
            name=name,
            replace=replace,
            runner=runner,
            workers=workers,
            beam_options=beam_options,
        )
        if show_progress:
            say(*summary.lines())
        plans = folder.plans()
        named = plans_of(summary.planned, plans, max_length)
        mine = None if choice is None else choice.of(named)
        report = fold_atlas(
            folder,
            worker,
            outputs=outputs,
            add_outputs=add_outputs,
            show_progress=show_progress,
            shards=None if mine is None else {shard.name for shard in mine},
            retry_failed=retry_failed,
            log=log,
            engine=engine,
        )
    if mine is None:
        return FoldSummary(summary, report, current_accounting(folder) or build_index(folder))
    entries = folder.entries()
    unfolded = {shard.name for shard in left_to_fold(folder, plans, entries)}
    left = sum(
        shard.name in unfolded or bool(add_outputs and shard.name in entries and lacking(entries[shard.name], outputs))
        for plan in plans
        for shard in plan.shards
    )
    done = _part_summary(mine, entries, sum(len(plan.shards) for plan in named), left)
    return FoldSummary(summary, report, None if left else current_accounting(folder) or build_index(folder), done)


def _part_summary(mine: "Sequence[Shard]", entries: "Mapping[str, ShardEntry]", planned: int, left: int) -> PartSummary:
    done = [entries[shard.name] for shard in mine if shard.name in entries]  # the others are not needed
    folded, failed = (sum(getattr(entry, what) for entry in done) for what in ("folded", "failed"))
    return PartSummary(len(mine), planned, folded, failed, left)


def configure(parser: argparse.ArgumentParser) -> None:
    plan_job.configure_planning(parser)
    parser.add_argument(
        "--add-outputs",
        action="store_true",
        help="fold shards again that lack --embeddings or --pae; structures stay as they are",
    )
    parser.add_argument(
        "--shards", metavar="A-B", help="fold only these shards of the FASTA's plan, by number: 0-99 or 0-99,150"
    )
    parser.add_argument(
        "--part", metavar="K/N", help="fold only the K-th of N parts of equal predicted cost, K from 1: 3/16"
    )
    parser.add_argument(
        "--retry-failed",
        action="store_true",
        help="try failed proteins again, once, as on a device with more memory; FASTA may be left out",
    )
    parser.add_argument(
        "--log", type=path, metavar="FILE", help="append events to this file as JSON lines (-: to standard error)"
    )
    parser.add_argument("--strict", action="store_true", help="exit with 3 if any record was refused")


def _refuse_beside_dry_run(arguments: argparse.Namespace) -> None:
    """What a dry run would not heed must not be thought to be predicted."""
    for name in ("add_outputs", "shards", "part", "retry_failed", "log", "strict"):
        if getattr(arguments, name):
            option = "--" + name.replace("_", "-")
            raise UsageError(
                f"--dry-run predicts what folding all takes, and nothing of {option}: leave one of them out"
            )


def run(arguments: argparse.Namespace) -> int:
    if arguments.dry_run:
        _refuse_beside_dry_run(arguments)
        print("\n".join(plan_job.plan(**plan_job.chosen(arguments), dry_run=True).report()))
        return 0
    asked = {name: getattr(arguments, name) for name in ("add_outputs", "shards", "part", "retry_failed", "log")}
    summary = fold(**plan_job.chosen(arguments), **asked, show_progress=True)
    report, accounting = summary.report, summary.accounting
    from foldatlas.schemas.wording import readable_time

    if report.shards:
        rate = report.residues / max(report.seconds, 1e-3)
        folded = [f"folded {counted(report.folded, 'structure')}"] if report.folded or not report.added else []
        added = [f"added outputs to {counted(report.added, 'structure')}"] if report.added else []
        took = f"in {readable_time(report.seconds)} ({rate:,.0f} residues/s)"
        say(f"{' and '.join(folded + added)} {took}")
    elif accounting is not None:
        accepted = accounting.folded + accounting.failed
        say(f"nothing to fold: {'every sequence is in the atlas' if accepted else 'no record was accepted'}")
    part = summary.part
    if accounting is None:
        assert part is not None, "a run without parts has an index"
        print(part.line())
        say(f"the run that folds the last of them builds the index; earlier: foldatlas index {arguments.atlas}")
        return 3 if part.failed else 0
    if part is not None:
        say(part.line())
    if accounting.failed and not arguments.retry_failed:
        say("to try failed proteins again, on a device with more memory perhaps: --retry-failed")
    print(accounting.line())
    failed = accounting.failed if part is None else part.failed
    return 3 if failed or (arguments.strict and accounting.num_refused) else 0
