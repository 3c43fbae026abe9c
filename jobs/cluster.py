"""`foldatlas cluster`: cluster the proteins of an atlas, by sequence and by structure."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foldatlas.jobs.arguments import ATLAS_HELP, add_engine, path, positive, say
from foldatlas.schemas.wording import counted

if TYPE_CHECKING:
    from foldatlas.atlas.clusters.forecast import ClusterForecast
    from foldatlas.pipeline.clustering import ClusterReport
    from foldatlas.schemas.manifest import Plan

EXAMPLES: Final = """examples:
  foldatlas cluster atlas
  foldatlas cluster atlas --dry-run
  foldatlas cluster atlas --workers 8
  foldatlas cluster atlas --runner DaskRunner -- --dask_client_address=tls://host:8786

Clusters sequences at 90 % and 30 % identity, and structures by TM-score. After more proteins were folded, the same
command compares only what is new. docs/clusters.md describes the clusters and how to query them.
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
    """Cluster the structures of `atlas` and update its index, unless its clusters are up to date.

    `full`: do not reuse pairs of structures from earlier runs. `threads`: threads per worker (None: its share of this
    machine's cores). `runner`, `workers`, `beam_options`: the engine, as for `fold`. `log`: file to append events to,
    as JSON lines.

    Raise UsageError, with nothing written, for an atlas without structures or a machine without MMseqs2, and
    Interrupted with all committed shards kept.
    """
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.index.build import up_to_date
    from foldatlas.pipeline import events
    from foldatlas.pipeline.clustering import cluster_atlas
    from foldatlas.pipeline.engines.choose import choose_engine
    from foldatlas.pipeline.workers.devices import own_cores

    engine = choose_engine(runner, workers, beam_options)
    folder = AtlasFolder.existing(atlas)
    log = events.absolute(log)
    up_to_date(folder, on_phase)
    report = cluster_atlas(
        folder,
        engine=engine,
        threads=threads or max(1, own_cores() // max(1, engine.workers or 1)),
        from_nothing=full,
        show_progress=show_progress,
        on_phase=on_phase,
        log=log,
    )
    up_to_date(folder, on_phase)
    return report


def check_program() -> None:
    """Raise UsageError where MMseqs2 is missing or cannot run on this machine."""
    from foldatlas.atlas.reference.mmseqs2 import program_version

    program_version()


def is_clustered(atlas: str | Path) -> bool:
    """Return whether the atlas has clusters, of all or some of its structures."""
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.stages.runs import latest_complete

    return latest_complete(AtlasFolder.existing(atlas), "clusters") is not None


def forecast(atlas: str | Path) -> "ClusterForecast | None":
    """Predict time, memory and disk for clustering `atlas`, or return None if its clusters are up to date.

    The prediction is from the index, which is built if it is out of date.
    """
    import numpy as np

    from foldatlas.atlas.clusters.forecast import predict
    from foldatlas.atlas.clusters.results import KIND, clustered_ids, is_current, run_settings
    from foldatlas.atlas.clusters.structures import present_structures
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.index.build import up_to_date
    from foldatlas.atlas.reader import Atlas
    from foldatlas.atlas.stages.runs import latest_complete

    folder = AtlasFolder.existing(atlas)
    up_to_date(folder)
    with Atlas.open(atlas) as opened:
        structures = present_structures(opened)
    settings, latest = run_settings(structures.ids_N), latest_complete(folder, KIND)
    if latest is not None and is_current(latest, settings):
        return None
    is_known = np.isin(structures.ids_N, clustered_ids(folder, settings))
    return predict(structures.lengths_N[~is_known], structures.lengths_N[is_known])


def forecast_of_plan(atlas: str | Path, planned: "Plan | None") -> "ClusterForecast":
    """Predict the clustering of `atlas` when all its plans, and `planned`, are folded, from the lengths that plans
    record. The atlas need not exist."""
    from foldatlas.atlas.clusters.forecast import lengths_in, predict
    from foldatlas.atlas.folder import AtlasFolder

    folder = AtlasFolder(atlas)
    plans = {plan.name: plan for plan in folder.plans()} if folder.exists() else {}
    if planned is not None:
        plans[planned.name] = planned
    shards = [shard for plan in plans.values() for shard in plan.shards]
    if not folder.exists() or not is_clustered(atlas):
        return predict(lengths_in(shards))
    committed = folder.entries()
    known = [shard for shard in shards if shard.name in committed]
    return predict(lengths_in(shard for shard in shards if shard.name not in committed), lengths_in(known))


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("atlas", type=path, metavar="ATLAS", help=ATLAS_HELP)
    parser.add_argument("--full", action="store_true", help="compare all structures again instead of only new ones")
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="threads per worker (default: its share of this machine's cores)"
    )
    add_engine(parser)
    parser.add_argument("--dry-run", action="store_true", help="predict time, memory and disk without clustering")


def lines(report: "ClusterReport") -> list[str]:
    """Return the numbers of clusters, for the terminal."""
    short = f" ({report.too_short:,} too short to compare)" if report.too_short else ""
    return [
        f"{counted(report.structures, 'structure')}: {counted(report.clusters90, 'cluster')} at 90 % identity, "
        f"{report.clusters30:,} at 30 %, {report.clusters_structure:,} by structure{short}"
    ]


def run(arguments: argparse.Namespace) -> int:
    from foldatlas.schemas.wording import readable_time

    if arguments.dry_run:
        predicted = forecast(arguments.atlas)
        print(
            "\n".join(["nothing to cluster: the clusters are up to date"] if predicted is None else predicted.lines())
        )
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
        taken = f", {report.taken_over:,} reused" if report.taken_over else ""
        say(f"{counted(new, 'new pair')} of similar structures{taken}, in {readable_time(report.seconds)}")
    else:
        say("nothing to cluster: the clusters are up to date")
    print("\n".join(lines(report)))
    return 0
