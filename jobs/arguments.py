"""Argument types and messages that the commands' parsers share."""

import argparse
import contextlib
import math
import os
import re
import shlex
import sys
from typing import Final

ATLAS_HELP: Final = "the atlas: a folder, or s3://bucket/prefix"
FASTA_HELP: Final = (
    "protein FASTA or GenBank, plain or compressed (gz, zst, bz2, xz): a path, a folder, an address (s3, gs, http), a "
    "quoted pattern, or - for standard input"
)
PRECISIONS: Final = ("fp32", "bf16", "fp16", "fp8")
EMBEDDING_PRECISIONS: Final = ("fp32", "bf16", "fp16")
TRAINING_PRECISIONS: Final = ("fp32", "bf16")


def whole_number(text: str, least: int) -> int:
    """Parse a whole number of at least `least`."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if number < least:
        raise argparse.ArgumentTypeError(f"{text} must be {least} or more")
    return number


def positive(text: str) -> int:
    return whole_number(text, 1)


def not_negative(text: str) -> int:
    return whole_number(text, 0)


def not_negative_number(text: str) -> float:
    """Parse a number of at least 0: a price, a tolerance."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} must be a number of at least 0")
    return number


def seconds(text: str) -> float:
    """Parse a time in seconds, more than 0."""
    return positive_number(text, "number of seconds")


def positive_number(text: str, what: str = "number") -> float:
    """Parse a number above 0; `what` describes it in the message."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a {what} above 0")
    return number


def path(text: str) -> str:
    """Check the name of a file or folder. An empty one (an unset shell variable) would mean the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("the name is empty")
    return text


def statement(text: str) -> str:
    """Decode SQL as UTF-8, also in a C locale, where Python keeps bytes that are not ASCII undecoded."""
    try:
        return os.fsencode(text).decode("utf-8")
    except UnicodeError:
        raise argparse.ArgumentTypeError("the text is not UTF-8") from None


def add_weights(parser: argparse._ActionsContainer) -> None:
    """Add `--weights`, the folder of `jobs.weights.provide`, to a parser or an argument group."""
    parser.add_argument(
        "--weights",
        type=path,
        metavar="DIR",
        help="folder of models, searched before the Hugging Face cache; missing published models are downloaded to it",
    )


def memory_size(text: str) -> str:
    """Check a size of memory, such as 500MB or 4GiB, as DuckDB reads it."""
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)? ?[MGT]i?B", text, re.IGNORECASE):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 500MB or 4GB")
    return text


def add_memory_limit(parser: argparse._ActionsContainer, default: str, *aliases: str) -> None:
    """Add `--memory-limit`, of DuckDB's memory; `default` describes the limit without it."""
    parser.add_argument(
        "--memory-limit",
        *aliases,
        type=memory_size,
        metavar="SIZE",
        help=f"memory of DuckDB, such as 4GB (default: {default})",
    )


def add_device(parser: argparse._ActionsContainer) -> None:
    """Add `--device`, where the network runs."""
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where the network runs; auto: on a GPU if there is one (default: %(default)s)",
    )


def add_training(execution: argparse._ActionsContainer, *, log_every: int) -> None:
    """Add what both kinds of training have of the options that do not change a result."""
    add_device(execution)
    execution.add_argument(
        "--recompute", action="store_true", help="recompute activations: a third slower, much less memory"
    )
    for option, what, steps in (
        ("--log-every", "lines of metrics", log_every),
        ("--valid-every", "evaluations of what is held out", 500),
        ("--save-every", "checkpoints", 500),
    ):
        execution.add_argument(
            option, type=positive, default=steps, metavar="N", help=f"steps between {what} (default: %(default)s)"
        )


def add_engine(parser: argparse._ActionsContainer) -> None:
    """Add the options that choose the engine of a stage after folding, and where its events go."""
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="worker processes on this machine, each with its share of the cores (default: 1)",
    )
    parser.add_argument(
        "--runner", metavar="R", help="Beam runner, as for `foldatlas fold`; its options are last, after --"
    )
    add_log(parser)


def add_log(parser: argparse._ActionsContainer) -> None:
    """Add `--log`, the file of `pipeline.events`."""
    parser.add_argument(
        "--log", type=path, metavar="FILE", help="append events to this file as JSON lines (-: standard error)"
    )


def add_no_report(parser: argparse._ActionsContainer) -> None:
    """Add `--no-report` to a command that writes the report at its end."""
    parser.add_argument("--no-report", dest="report", action="store_false", help="do not write report.html at the end")


def say_refused(count: int, atlas: str) -> None:
    """Print how to list the refused records of `atlas`, if there are any."""
    if count:
        sql = "select outcome, reason, count(*) from refused group by all"
        say(f'refused records by reason: foldatlas query {shlex.quote(atlas)} "{sql}"')


def say(*lines: str) -> None:
    """Print `lines` to standard error. A closed standard error is ignored."""
    with contextlib.suppress(OSError, ValueError):
        for line in lines:
            print(line, file=sys.stderr, flush=True)
