"""Choose a Beam engine by `--runner`, `--workers` and Beam's own options.

Engines have different faults (docs/decisions/0016-engines.md): engine.py lists those that can be used, and those that
lost work in tests are refused here with the reason.
"""

from collections.abc import Sequence
from typing import Final

from foldatlas.pipeline.engines.engine import RUNNERS, Engine, has_option
from foldatlas.schemas.errors import UsageError

_BY_LOWER_CASE: Final = {name.lower(): name for name in RUNNERS}

_LOCAL: Final = "omit --runner for one worker, or use --workers N for a Dask cluster on this machine"
REFUSED: Final = {
    "directrunner": "it tries to download a program before it runs: use FnApiRunner, the embedded engine",
    "bundlebaseddirectrunner": f"it runs without the Fn API and was not tested: {_LOCAL}",
    "switchingdirectrunner": f"it is an alias of DirectRunner: {_LOCAL}",
    "rayrunner": f"ray-beam is no longer maintained and does not work with this Beam: {_LOCAL}",
    "pysparkrunner": "beam-pyspark-runner is no longer maintained and does not work with this Beam: SparkRunner goes "
    "through Beam's own job server",
    "interactiverunner": f"it keeps collections in a notebook, but here no data pass through collections: {_LOCAL}",
    "testdataflowrunner": "it is for Beam's own tests: use DataflowRunner",
}
_ALIASES: Final = {"ray": "rayrunner", "raybeamrunner": "rayrunner", "raybeam": "rayrunner",
                   "beampysparkrunner": "pysparkrunner"}  # fmt: skip


def choose_engine(runner: str | None, workers: int | None, options: Sequence[str] = ()) -> Engine:
    """Return the engine that `--runner`, `--workers` and Beam's own `options` mean together.

    Without a runner one worker is embedded and more are a Dask cluster on this machine. Raise UsageError for an
    engine or an option that is unknown or known to lose work, and for options that contradict each other.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers}: give 1 or more")
    name = runner_name(runner) if runner else ("DaskRunner" if (workers or 1) > 1 else "FnApiRunner")
    if options:
        from foldatlas.pipeline.engines.options import check_options

        check_options(name, options)
    if name == "FnApiRunner":
        if (workers or 1) > 1:
            raise UsageError(f"FnApiRunner has one worker, not {workers}: omit --runner, so that --workers uses Dask")
        return Engine(name, 1, tuple(options))
    if name == "DaskRunner":
        return _dask(workers, tuple(options))
    if workers is not None:
        raise UsageError(f"--workers counts processes on this machine, but {name} has its own workers: omit it")
    from foldatlas.pipeline.engines.options import values_of
    from foldatlas.pipeline.engines.portable.options import refuse_incomplete

    refuse_incomplete(name, values_of(name, options))
    return Engine(name, 0, tuple(options))


def runner_name(text: str) -> str:
    """Return the exact name of a runner. As in Beam, case and the ending "Runner" do not matter. Raise UsageError for a
    runner that is unknown or refused."""
    squeezed = text.rpartition(".")[2].lower().replace("-", "").replace("_", "")
    for name in (squeezed, f"{squeezed}runner"):
        if name in _BY_LOWER_CASE:
            return _BY_LOWER_CASE[name]
        reason = REFUSED.get(_ALIASES.get(name, name))
        if reason is not None:
            raise UsageError(f"--runner {text} is refused: {reason}")
    raise UsageError(f"--runner {text} is unknown: choose one of {', '.join(RUNNERS)}")


def _dask(workers: int | None, options: tuple[str, ...]) -> Engine:
    """Return the engine of a Dask cluster with `workers` on this machine, or of the user's cluster in `options`."""
    named = [name for name in ("--dask_client_address", "--dask_scheduler_file") if has_option(name, options)]
    if len(named) > 1:
        raise UsageError(f"{' and '.join(named)} both name a cluster: give only one of them")
    if not named and workers is None:
        raise UsageError(
            "DaskRunner needs workers: --workers N for N processes on this machine, or name your cluster with "
            "-- --dask_client_address=ADDRESS or -- --dask_scheduler_file=FILE"
        )
    if named and workers is not None:
        raise UsageError(
            f"--workers starts a cluster on this machine and {named[0]} names another: give only one of them"
        )
    return Engine("DaskRunner", workers or 0, options)
