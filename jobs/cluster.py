"""`foldatlas cluster`: which family each protein belongs to, by sequence and by structure."""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foldatlas.jobs.arguments import ATLAS_HELP, path, positive, say
from foldatlas.schemas.wording import counted

if TYPE_CHECKING:
    from foldatlas.atlas.clusters.forecast import ClusterForecast
    from foldatlas.pipeline.clustering import ClusterReport

EXAMPLES: Final = """examples:
  foldatlas cluster atlas
  foldatlas cluster atlas --dry-run
  foldatlas cluster atlas --workers 8
  foldatlas cluster atlas --runner DaskRunner -- --dask_client_address=tls://host:8786

Clusters at 90 % and 30 % sequence identity, and of structures of one fold. After more proteins were folded, the same
command compares what is new. docs/clusters.md says what the clusters are, and how to query them.
"""


def cluster(
    atlas: str | Path,
    *,
    full: bool = False,
    threads: int | None = None,
    runner: str | None = None,
    workers: int | None = None,
    beam_options: Sequence[str] = (),
    log: str | None = None,
    show_progress: bool = False,
    on_phase: Callable[[str], None] = lambda name: None,
) -> "ClusterReport":
    """Cluster the structures of `atlas`, and index it, unless its clusters are of these structures already.

    `full`: take no pair of structures over from earlier runs. `threads` are each worker's (None: its share of this
    machine's cores). `runner`, `workers` and `beam_options` choose the engine, as for `fold`. `log`: a file to which
    events are appended as JSON lines.

    Raise UsageError, with nothing made, for an atlas without structures or a machine without MMseqs2; Interrupted with
    every finished shard kept.
    """
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.index.build import build_index, current_accounting
    from foldatlas.pipeline import events
    from foldatlas.pipeline.clustering import cluster_atlas
    from foldatlas.pipeline.engines.choose import choose_engine

    engine = choose_engine(runner, workers, beam_options)
    folder = AtlasFolder.existing(atlas)
    log = events.absolute(log)
    if current_accounting(folder) is None:
        on_phase("indexing")
        build_index(folder)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    report = cluster_atlas(
        folder,
        engine=engine,
        threads=threads or max(1, cores // max(1, engine.workers or 1)),
        from_nothing=full,
        show_progress=show_progress,
        on_phase=on_phase,
        log=log,
    )
    if current_accounting(folder) is None:
        on_phase("indexing")
        build_index(folder)
    return report


def forecast(atlas: str | Path) -> "ClusterForecast":
    """Predict what clustering `atlas` takes, from its index, which is built if it is not current."""
    from foldatlas.atlas.clusters.forecast import predict
    from foldatlas.atlas.clusters.structures import present_structures
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.index.build import build_index, current_accounting
    from foldatlas.atlas.reader import Atlas

    folder = AtlasFolder.existing(atlas)
    if current_accounting(folder) is None:
        build_index(folder)
    with Atlas.open(atlas) as opened:
        return predict(present_structures(opened).lengths_N)


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the engine."""
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="processes on this machine, each with its share of the cores (default: 1)",
    )
    parser.add_argument(
        "--runner",
        metavar="R",
        help="Beam's engine, as for `foldatlas fold`; options of its own follow the rest after --",
    )


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("atlas", type=path, metavar="ATLAS", help=ATLAS_HELP)
    parser.add_argument(
        "--full", action="store_true", help="compare all structures again, in place of what is new alone"
    )
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="of each worker (default: its share of this machine's cores)"
    )
    add_engine(parser)
    parser.add_argument(
        "--log", type=path, metavar="FILE", help="append events to this file as JSON lines (-: to standard error)"
    )
    parser.add_argument("--dry-run", action="store_true", help="predict time, memory and disk, and cluster nothing")


def lines(report: "ClusterReport") -> list[str]:
    """For people: what there is now."""
    short = f" ({report.too_short:,} too short to compare)" if report.too_short else ""
    return [
        f"{counted(report.structures, 'structure')}: {counted(report.clusters90, 'cluster')} at 90 % identity, "
        f"{report.clusters30:,} at 30 %, {report.clusters_structure:,} by structure{short}"
    ]


def run(arguments: argparse.Namespace) -> int:
    from foldatlas.schemas.wording import readable_time

    if arguments.dry_run:
        print("\n".join(forecast(arguments.atlas).lines()))
        return 0
    report = cluster(
        arguments.atlas,
        full=arguments.full,
        threads=arguments.threads,
        runner=arguments.runner,
        workers=arguments.workers,
        beam_options=arguments.beam_options,
        log=arguments.log,
        show_progress=True,
        on_phase=say,
    )
    if report.is_new:
        new = report.pairs - report.taken_over
        taken = f", {report.taken_over:,} taken over" if report.taken_over else ""
        say(f"{counted(new, 'new pair')} of one fold{taken}, in {readable_time(report.seconds)}")
    else:
        say("nothing to cluster: the clusters are of these structures already")
    print("\n".join(lines(report)))
    return 0
