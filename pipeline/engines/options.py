"""Beam's own options, as typed after `--`: every one must mean something, and none may break the graph."""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, NoReturn

from apache_beam.options.pipeline_options import _BeamArgumentParser

from foldatlas.pipeline.engines.beam import PipelineOptions, quiet_import
from foldatlas.schemas.errors import UsageError


class Refusal(NamedTuple):
    """Values of an option that are refused, and why, with the next step."""

    refused: Callable[[Any], bool]
    reason: str


# By the name under which Beam keeps the option (for Dask's: as typed, less `--`).
REFUSED: Final = {
    "runner": Refusal(lambda value: value is not None, "name the runner before `--`: --runner R"),
    "streaming": Refusal(bool, "the graph is a batch, and a stream of it never ends: leave it out"),
    "direct_running_mode": Refusal(
        lambda value: value != "in_memory",
        "multi_threading was seen to lose 0.6 to 1.5 % of the work while it reports success, and multi_processing to "
        "wait for ever when a worker is killed: use --workers N",
    ),
    "direct_num_workers": Refusal(
        lambda value: value != 1, "more workers of this kind lose work or wait for ever: use --workers N"
    ),
    "no_wait_until_finish": Refusal(
        bool, "what was done is held against the plan when the engine is done: leave it out"
    ),
    "wait_until_finish_duration": Refusal(
        lambda value: value is not None, "what was done is held against the plan when the engine is done: leave it out"
    ),
    "npartitions": Refusal(lambda value: value is not None, "a partition is one shard: leave it out"),
    "partition_size": Refusal(lambda value: value not in (None, 1), "a partition is one shard: leave it out"),
    "dry_run": Refusal(bool, "it is for Beam's own tests: `foldatlas plan` says what a run would do"),
}


class _Parser(_BeamArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"after --: {message}")


def check_options(runner: str, options: Sequence[str]) -> None:
    """Raise UsageError for an option that Beam does not know, and for one that would break the graph."""
    known = values_of(runner, options)
    for name, (refused, reason) in REFUSED.items():
        if name in known and refused(known[name]):
            raise UsageError(f"{typed(name, options)} is refused: {reason}")


def values_of(runner: str, options: Sequence[str]) -> dict[str, Any]:
    """Every option of Beam's that `runner` can see with its value, the default where it is not given."""
    parser = _Parser(prog="beam", usage="", add_help=False, allow_abbrev=False)
    classes = {str(kind): kind for kind in PipelineOptions.__subclasses__()}
    if runner == "DaskRunner":
        kind = dask_options()
        classes[str(kind)] = kind
    else:
        classes = {name: kind for name, kind in classes.items() if kind.__name__ != "DaskOptions"}
    for kind in classes.values():
        kind._add_argparse_args(parser)
    known, unknown = parser.parse_known_args(list(options))
    if unknown:
        raise UsageError(
            f"{unknown[0]!r} after -- is no option of Beam's with {runner}: files and options of ours stand before --"
        )
    return vars(known)


def dask_options() -> type[PipelineOptions]:
    """Beam's class of options for Dask. Raise UsageError if Dask is not installed."""
    try:
        import distributed  # noqa: F401

        with quiet_import():
            from apache_beam.runners.dask.dask_runner import DaskOptions
    except ImportError as error:
        raise UsageError(
            f"more than one worker needs Dask, which is not installed ({error}): pip install 'foldatlas[dask]'"
        ) from error
    return DaskOptions


def typed(name: str, options: Sequence[str]) -> str:
    """Return the option called `name` as it was typed, for a message."""
    for option in options:
        if option.partition("=")[0].lstrip("-").removeprefix("dask_") == name:
            return option
    return f"--{name}"
