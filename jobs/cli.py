"""The `foldatlas` command: one parser a command, errors in one line, exit codes that scripts can use.

0 complete; 1 unexpected error; 2 usage, or a refusal to start; 3 structures failed, or faults found (with --strict:
refused records too); 130 and 143 interrupted. Results go to stdout, messages and progress to stderr.
"""

import argparse
import importlib
import io
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, Final, TextIO

from foldatlas.jobs.arguments import say
from foldatlas.schemas.errors import FoldAtlasError
from foldatlas.schemas.version import program_version

COMMANDS: Final = {
    "fold": "fold every protein of FASTA files into an atlas: the main job",
    "plan": "read and check FASTA, cut shards and predict the cost, without folding",
    "weights": "fetch released weights beforehand, as --model NAME does when they are missing",
    "status": "what is done, what is left, and how long it will take",
    "index": "build the SQL index of an atlas anew",
    "merge": "several atlases of equal settings, or parts of one, into a new atlas",
    "reference": "known structures or sequences into a database that novelty is searched against",
    "novelty": "search structures or sequences of an atlas against a reference",
    "query": "ask an atlas in SQL",
    "export": "write a subset of an atlas as PDB, mmCIF, Foldcomp, FASTA or Parquet files",
    "embed": "embeddings of FASTA by the language model alone, without folding",
    "train": "train a language model on sequences, or a folding head on structures",
    "evaluate": "fold experimental chains and measure models against them, beside baselines",
    "verify": "check every file of an atlas against its digests and its plan",
}


BEAM_COMMANDS: Final = ("fold", "plan", "novelty")  # whose words after `--` are options of Beam's


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


def split_beam_options(words: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """What is ours, and what stands after `--` for Beam. argparse would take the latter for names of files."""
    ours = list(words)
    if not ours or ours[0] not in BEAM_COMMANDS or "--" not in ours:
        return ours, ()
    place = ours.index("--")
    return ours[:place], tuple(ours[place + 1 :])


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    say(f"warning: {message}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    _open_standard_streams()
    words, beam_options = split_beam_options(sys.argv[1:] if arguments is None else arguments)
    parsed = build_parser().parse_args(words)
    parsed.beam_options = beam_options
    warnings.showwarning = _show_warning
    try:
        code = int(parsed.run(parsed))
        sys.stdout.flush()
        return code
    except FoldAtlasError as error:
        say(f"foldatlas {parsed.command}: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        say(f"foldatlas {parsed.command}: stopped on request")
        return 130
    except BrokenPipeError:
        # only results can meet this, messages do not (arguments.say): their reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except UnicodeError as error:
        say(
            f"foldatlas {parsed.command}: a letter cannot be written in this locale ({error}): set LC_ALL=C.UTF-8 or "
            "PYTHONUTF8=1"
        )
        return 1
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        say(f"foldatlas {parsed.command}: {error.strerror or error}{where}")
        return 1


def _open_standard_streams() -> None:
    """Points closed standard streams to nowhere, so that no file of ours gets their numbers, and what is meant for
    people never ends up in it."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for as long as the process lives
        elif isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # of a locale without the letters of an id or a path


if __name__ == "__main__":
    sys.exit(main())
