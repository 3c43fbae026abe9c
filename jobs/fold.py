"""`foldatlas fold`: the main job. Plans what is new, folds what is missing, builds the index."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foldatlas.jobs import plan as plan_job
from foldatlas.jobs.arguments import counted, say
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.records import DEFAULT_MAX_LENGTH

if TYPE_CHECKING:
    from foldatlas.atlas.accounting import Accounting
    from foldatlas.pipeline.folding_run import FoldReport

EXAMPLES: Final = """examples:
  foldatlas fold proteins.fasta atlas --model nano
  foldatlas fold 'assemblies/*.faa.gz' atlas --model nano --embeddings mean
  foldatlas fold proteins.fasta atlas --model nano --pae --add-outputs
  foldatlas fold proteins.fasta atlas --model esmfold_v1 --weights models
  foldatlas fold proteins.fasta atlas --model models/my-esmfold
  foldatlas fold proteins.fasta atlas --model nano --workers 4
  foldatlas fold proteins.fasta atlas --model nano --runner DaskRunner -- --dask_client_address=tls://host:8786

The same command again folds what is missing, and nothing if nothing is.
"""


@dataclass(frozen=True)
class FoldSummary:
    """What `fold` did in this run (`report`), and what became of every record of the atlas (`accounting`)."""

    plan: plan_job.PlanSummary
    report: "FoldReport"
    accounting: "Accounting"


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
    runner: str | None = None,
    workers: int | None = None,
    beam_options: Sequence[str] = (),
    show_progress: bool = False,
) -> FoldSummary:
    """Folds every protein of `fasta` (paths or patterns) that `atlas` does not have, and indexes the atlas.

    `recycles` are the trunk passes after the first (None: the model's); `max_length` in residues; `embeddings` "none",
    "mean" or "residue"; `pae`: whether to store aligned errors; `add_outputs`: whether to fold again, for these, what
    was folded without them; `weights` the folder in which a model's name is looked for first; `precision` "fp32",
    "bf16" or "fp16" (of the language model alone); `runner`, `workers` and `beam_options` choose the engine
    (pipeline/engine.py: neither is one worker in this process). Raises UsageError with the atlas untouched;
    Interrupted with every finished shard kept.
    """
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.index import build_index, current_accounting
    from foldatlas.folding.models import settings_of
    from foldatlas.folding.places import absolute
    from foldatlas.pipeline import graphs
    from foldatlas.pipeline.engine import choose_engine
    from foldatlas.pipeline.folding_run import fold_atlas
    from foldatlas.pipeline.outputs import chosen_outputs, refuse_missing_outputs
    from foldatlas.pipeline.supervisor import WorkerSpec

    engine = choose_engine(runner, workers, beam_options)
    folder = AtlasFolder(Path(atlas))
    weights_dir = None if weights is None else str(Path(weights).absolute())
    settings = settings_of(model, recycles, precision, weights_dir=weights_dir)
    outputs = chosen_outputs(embeddings, pae)
    if add_outputs and not outputs:
        raise UsageError("--add-outputs adds what is asked for: name it with --embeddings or --pae")
    if outputs and not add_outputs:
        refuse_missing_outputs(folder.root, folder.entries().values(), outputs)
    with graphs.opened(engine, device) as device:
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
            runner=runner,
            workers=workers,
            beam_options=beam_options,
        )
        if show_progress:
            say(*summary.lines())
        report = fold_atlas(
            folder, worker, outputs=outputs, add_outputs=add_outputs, show_progress=show_progress, engine=engine
        )
    return FoldSummary(summary, report, current_accounting(folder) or build_index(folder))


def configure(parser: argparse.ArgumentParser) -> None:
    plan_job.configure(parser)
    parser.add_argument(
        "--add-outputs",
        action="store_true",
        help="fold shards again that lack --embeddings or --pae; structures stay as they are",
    )
    parser.add_argument("--strict", action="store_true", help="exit with 3 if any record was refused")


def run(arguments: argparse.Namespace) -> int:
    summary = fold(**plan_job.chosen(arguments), add_outputs=arguments.add_outputs, show_progress=True)
    report, accounting = summary.report, summary.accounting
    from foldatlas.atlas.status import readable_time

    if report.shards:
        rate = report.residues / max(report.seconds, 1e-3)
        folded = [f"folded {counted(report.folded, 'structure')}"] if report.folded or not report.added else []
        added = [f"added outputs to {counted(report.added, 'structure')}"] if report.added else []
        took = f"in {readable_time(report.seconds)} ({rate:,.0f} residues/s)"
        say(f"{' and '.join(folded + added)} {took}")
    else:
        accepted = accounting.folded + accounting.failed
        say(f"nothing to fold: {'every sequence is in the atlas' if accepted else 'no record was accepted'}")
    print(accounting.line())
    return 3 if accounting.failed or (arguments.strict and accounting.num_refused) else 0
