"""What the commands' parsers share: types of arguments, and messages to people."""

import argparse
import contextlib
import os
import sys
from typing import Final

ATLAS_HELP: Final = "the atlas: a folder, or s3://bucket/prefix"
FASTA_HELP: Final = (
    "protein FASTA or GenBank, plain or compressed (gz, zst, bz2, xz): a path, a folder of such files, an address "
    "(s3, gs, http), a quoted pattern, or - for standard input"
)
PRECISIONS: Final = ("fp32", "bf16", "fp16")
TRAINING_PRECISIONS: Final = ("fp32", "bf16")


def whole_number(text: str, least: int) -> int:
    """A whole number of at least `least`."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
    if number < least:
        raise argparse.ArgumentTypeError(f"{text} must be {least} or more")
    return number


def positive(text: str) -> int:
    return whole_number(text, 1)


def not_negative(text: str) -> int:
    return whole_number(text, 0)


def path(text: str) -> str:
    """The name of a file or folder. An empty one, as of an unset variable in a shell, would mean the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("the name is empty")
    return text


def statement(text: str) -> str:
    """SQL. Python reads what is not ASCII in a C locale as bytes without a meaning; here it is UTF-8, as elsewhere."""
    try:
        return os.fsencode(text).decode("utf-8")
    except UnicodeError:
        raise argparse.ArgumentTypeError("the text is not UTF-8") from None


def add_weights(parser: argparse._ActionsContainer) -> None:
    """Adds `--weights` to a parser, or a group of one: the folder of jobs.weights.provide."""
    parser.add_argument(
        "--weights",
        type=path,
        metavar="DIR",
        help="where a model's name is looked for, before the hub's cache; what is missing is fetched there",
    )


def say(*lines: str) -> None:
    """Tells people on standard error. If nobody is there to be told, the work goes on."""
    with contextlib.suppress(OSError, ValueError):
        for line in lines:
            print(line, file=sys.stderr, flush=True)
