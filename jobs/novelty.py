"""`foldatlas novelty`: search the structures or sequences of an atlas against a reference database."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foldatlas.jobs.arguments import ATLAS_HELP, add_engine, path, say
from foldatlas.schemas.errors import UsageError

if TYPE_CHECKING:
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.pipeline.engines.engine import Engine
    from foldatlas.pipeline.search.run import SearchForecast, SearchReport, SearchRequest

EXAMPLES: Final = """examples:
  foldatlas novelty atlas --reference structures
  foldatlas novelty atlas --reference structures --reference known_sequences
  foldatlas novelty atlas --reference structures --sensitive --workers 4
  foldatlas novelty atlas --reference structures --dry-run
  foldatlas novelty atlas --reference demo

`foldatlas reference` builds references; "demo" is a small one for trying the search, with which nothing is reported as
novel. After the atlas or the reference has grown, the same command searches only what is new. Results are columns of
`proteins` and the tables `novelty` and `sequence_novelty` (docs/sql.md).
"""


def novelty(
    atlas: str | Path,
    references: Sequence[str | Path],
    *,
    mode: str = "default",
    verdict_only: bool = False,
    each: bool = False,
    full: bool = False,
    runner: str | None = None,
    workers: int | None = None,
    beam_options: Sequence[str] = (),
    log: str | None = None,
    show_progress: bool = False,
) -> "list[SearchReport]":
    """Search `atlas` against each of `references` and update its index. Return one report per reference.

    For references of structures, `mode` is "default", "sensitive" or "exhaustive", and `verdict_only` stops at a
    TM-score of 0.5. `each`: search every structure instead of one per cluster. `full`: search all again, without
    results of earlier runs. `runner`, `workers`, `beam_options`: the engine, as in `fold`. `log`: file to append events
    to, as JSON lines.

    Raise UsageError before anything is searched, and Interrupted with all committed shards kept.
    """
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.pipeline import events
    from foldatlas.pipeline.engines import dispatch
    from foldatlas.pipeline.engines.choose import choose_engine

    engine = choose_engine(runner, workers, beam_options)
    folder = AtlasFolder.existing(atlas)
    log = events.absolute(log)
    requests = opened(references, mode=mode, verdict_only=verdict_only, each=each, full=full)
    with dispatch.opened(engine, "cpu"):
        return search_each(folder, requests, engine, log=log, show_progress=show_progress)


def search_each(
    folder: "AtlasFolder",
    requests: "Sequence[SearchRequest]",
    engine: "Engine",
    *,
    log: str | None = None,
    show_progress: bool = False,
) -> "list[SearchReport]":
    """Search an atlas as `opened` gave it, one request after the other. Return a report for each."""
    from foldatlas.pipeline.search.run import search_atlas

    reports = []
    for request in requests:
        report = search_atlas(folder, request, engine=engine, show_progress=show_progress, log=log)
        reports.append(report)
        if show_progress:
            _say_what_was_done(report, request.reference.is_demo)
    return reports


def dry_run(
    atlas: str | Path,
    references: Sequence[str | Path],
    *,
    mode: str = "default",
    verdict_only: bool = False,
    each: bool = False,
    full: bool = False,
) -> "list[SearchForecast]":
    """Predict time and disk of `novelty` for each reference."""
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.pipeline.search.run import forecast

    folder = AtlasFolder.existing(atlas)
    requests = opened(references, mode=mode, verdict_only=verdict_only, each=each, full=full)
    return [forecast(folder, request) for request in requests]


def opened(
    references: Sequence[str | Path],
    *,
    mode: str = "default",
    verdict_only: bool = False,
    each: bool = False,
    full: bool = False,
) -> "list[SearchRequest]":
    """Open reference databases and check that this machine can search them.

    Return a request for each. Options are those of `novelty`. Raise UsageError.
    """
    from foldatlas.atlas.novelty.sequence_search import SequenceSettings
    from foldatlas.atlas.novelty.settings import SearchSettings
    from foldatlas.atlas.reference.reader import Reference
    from foldatlas.pipeline.search.run import SearchRequest
    from foldatlas.pipeline.search.workers import check_machine

    if not references:
        raise UsageError("no reference was given: pass --reference DB, a database made by `foldatlas reference`")
    settings = SearchSettings(mode=mode, verdict_only=verdict_only)  # type: ignore[arg-type]
    found: list[SearchRequest] = []
    for name in map(str, references):
        reference = Reference.open(name)
        check_machine(reference)
        if any(reference.digest == other.reference.digest for other in found):
            raise UsageError(f"{name} is given twice: give each reference once")
        chosen = settings if reference.kind == "structures" else SequenceSettings()
        found.append(SearchRequest(name, reference, chosen, each=each, full=full))
    if settings != SearchSettings() and all(request.reference.kind == "sequences" for request in found):
        raise UsageError("--sensitive, --exhaustive and --verdict-only need a reference of structures")
    return found


def _say_what_was_done(report: "SearchReport", is_demo: bool) -> None:
    from foldatlas.schemas.wording import counted, readable_time

    if report.error:
        say(report.error, "what was found is kept: run the same command again to continue")
    elif report.now:
        rate = report.now / max(report.seconds, 1e-3)
        say(f"searched {counted(report.now, 'structure')} in {readable_time(report.seconds)} ({rate:.3g}/s)")
    elif report.is_new:
        say("nothing to search: all results are from earlier runs")
    else:
        say("nothing to search: atlas and reference have not changed")
    if is_demo:
        say("the demo reference is small: a structure without a hit may be known, so none is reported as novel")


def configure_reference(parser: argparse._ActionsContainer) -> None:
    """Add `--reference`, which `plan` and `fold` share."""
    parser.add_argument(
        "--reference",
        dest="references",
        action="append",
        type=path,
        default=[],
        metavar="DB",
        help='reference database to search, or "demo"; can be repeated',
    )


def configure_search(parser: argparse.ArgumentParser) -> None:
    """Add the options of a search."""
    configure_reference(parser)
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument(
        "--sensitive", dest="mode", action="store_const", const="sensitive", default="default",
        help="align more candidates per structure: slower, misses fewer best hits",
    )  # fmt: skip
    modes.add_argument(
        "--exhaustive", dest="mode", action="store_const", const="exhaustive",
        help="align each structure with every entry of the reference",
    )  # fmt: skip
    parser.add_argument(
        "--verdict-only",
        action="store_true",
        help="stop at a TM-score of 0.5, without looking for the best hit",
    )
    parser.add_argument("--all", action="store_true", help="search every structure instead of one per 90 %% cluster")
    parser.add_argument("--full", action="store_true", help="search all again, without results of earlier searches")


def search_options(arguments: argparse.Namespace) -> dict[str, object]:
    """Return the options of `configure_search` as arguments of `novelty`."""
    return {
        "mode": arguments.mode,
        "verdict_only": arguments.verdict_only,
        "each": arguments.all,
        "full": arguments.full,
    }


def exit_code(reports: "Sequence[SearchReport]") -> int:
    """Return 3 where a structure could not be searched, or a search did not finish."""
    return 3 if any(report.failed or report.error for report in reports) else 0


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("atlas", type=path, metavar="ATLAS", help=ATLAS_HELP)
    configure_search(parser)
    parser.add_argument("--dry-run", action="store_true", help="predict time and disk without searching")
    add_engine(parser)


def run(arguments: argparse.Namespace) -> int:
    options = search_options(arguments)
    if arguments.dry_run:
        forecasts = dry_run(arguments.atlas, arguments.references, **options)  # type: ignore[arg-type]
        print("\n".join(line for one in forecasts for line in one.lines()))
        return 0
    reports = novelty(
        arguments.atlas,
        arguments.references,
        runner=arguments.runner,
        workers=arguments.workers,
        beam_options=arguments.beam_options,
        log=arguments.log,
        show_progress=True,
        **options,  # type: ignore[arg-type]
    )
    for report in reports:
        print(report.line())
    return exit_code(reports)
