"""Beam's own options, as typed after `--`: unknown options are refused, and those that would break the graph."""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, NoReturn

from apache_beam.options.pipeline_options import _BeamArgumentParser

from foldatlas.pipeline.engines.beam import PipelineOptions, quiet_import
from foldatlas.schemas.errors import UsageError


class Refusal(NamedTuple):
    """A test for values of an option that are refused, and the reason, with the next step."""

    refused: Callable[[Any], bool]
    reason: str


# By the name of Beam's attribute for the option (Dask's: as typed, without `--dask_`).
REFUSED: Final = {
    "runner": Refusal(lambda value: value is not None, "give the runner before `--`: --runner R"),
    "streaming": Refusal(bool, "the graph is a batch, and as a stream it would never end: omit it"),
    "direct_running_mode": Refusal(
        lambda value: value != "in_memory",
        "in tests multi_threading lost 0.6 to 1.5 % of the work while it reported success, and multi_processing "
        "waited for ever when a worker was killed: use --workers N",
    ),
    "direct_num_workers": Refusal(
        lambda value: value != 1, "more workers of this kind lose work or hang: use --workers N"
    ),
    "no_wait_until_finish": Refusal(bool, "the driver compares manifest and plan when the engine is done: omit it"),
    "wait_until_finish_duration": Refusal(
        lambda value: value is not None, "the driver compares manifest and plan when the engine is done: omit it"
    ),
    "npartitions": Refusal(lambda value: value is not None, "a partition is one shard: omit it"),
    "partition_size": Refusal(lambda value: value not in (None, 1), "a partition is one shard: omit it"),
    "dry_run": Refusal(bool, "it is for Beam's own tests: `foldatlas plan` shows what a run would do"),
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
    """Return every Beam option that `runner` has, with its value, or the default where it is not given."""
    parser = _Parser(prog="beam", usage="", add_help=False, allow_abbrev=False)
    classes = {str(each): each for each in PipelineOptions.__subclasses__()}
    if runner == "DaskRunner":
        dask = dask_options()
        classes[str(dask)] = dask
    else:
        classes = {name: each for name, each in classes.items() if each.__name__ != "DaskOptions"}
    for each in classes.values():
        each._add_argparse_args(parser)
    known, unknown = parser.parse_known_args(list(options))
    if unknown:
        raise UsageError(
            f"{unknown[0]!r} after -- is not an option of Beam with {runner}: files and FoldAtlas options go before --"
        )
    return vars(known)


def dask_options() -> type[PipelineOptions]:
    """Return Beam's class of options for Dask. Raise UsageError if Dask is not installed."""
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
