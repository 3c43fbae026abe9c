"""The `foldatlas` command: one parser a command, errors in one line, exit codes that scripts can use.

0 complete; 1 unexpected error; 2 usage, or a refusal to start; 3 structures failed, or faults found (with --strict:
refused records too); 130 and 143 interrupted. Results go to stdout, messages and progress to stderr.
"""

import argparse
import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, Final, TextIO

from foldatlas.schemas.errors import FoldAtlasError
from foldatlas.schemas.version import program_version

COMMANDS: Final = {
    "fold": "fold every protein of FASTA files into an atlas: the main job",
    "plan": "read and check FASTA, cut shards and predict the cost, without folding",
    "weights": "fetch released weights beforehand: workers never download",
    "status": "what is done, what is left, and how long it will take",
    "index": "build the SQL index of an atlas anew",
    "query": "ask an atlas in SQL",
    "export": "write a subset of an atlas as PDB, FASTA or Parquet files",
    "verify": "check every file of an atlas against its digests and its plan",
}


class CommandParser(argparse.ArgumentParser):
    """A parser that takes options before, between and after the names of files."""

    _inside = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        # argparse's own parser gives all it saw before the first option to the first positionals, so that
        # `fold a.fasta b.fasta --model nano ATLAS` would be an error
        if self._inside or self._subparsers is not None:
            return super().parse_known_args(args, namespace)
        self._inside = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._inside = False


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands. Each command's module adds its own arguments."""
    parser = CommandParser(
        prog="foldatlas",
        description="Fold proteins from FASTA into an atlas that SQL can query.",
        epilog="`foldatlas COMMAND --help` says what a command takes.",
    )
    parser.add_argument("--version", action="version", version=f"foldatlas {program_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        module = importlib.import_module(f"foldatlas.jobs.{name}")
        command = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.configure(command)
        command.set_defaults(run=module.run)
    return parser


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print(f"warning: {message}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    parsed = build_parser().parse_args(arguments)
    warnings.showwarning = _show_warning
    try:
        return int(parsed.run(parsed))
    except FoldAtlasError as error:
        print(f"foldatlas {parsed.command}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"foldatlas {parsed.command}: stopped on request", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader of our output (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        print(f"foldatlas {parsed.command}: {error.strerror or error}{where}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
