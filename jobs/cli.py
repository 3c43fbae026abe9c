"""The `foldatlas` command: one parser for each command, errors in one line, exit codes for scripts.

Results go to standard output, messages and progress to standard error. `EXIT_CODES` lists the exit codes; with
--strict refused records also give 3.
"""

import argparse
import difflib
import importlib
import io
import itertools
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, Final, NoReturn, TextIO

from foldatlas.jobs.arguments import say
from foldatlas.schemas.errors import FoldAtlasError
from foldatlas.schemas.version import program_version

# heading in `foldatlas --help` -> command -> summary
COMMANDS: Final = {
    "make an atlas": {
        "fold": "fold all proteins of FASTA files into an atlas (the main command)",
        "plan": "read and check FASTA, cut shards, predict time, disk and cost",
        "import": "make an atlas of existing structures (PDB, mmCIF, Foldcomp)",
        "merge": "merge atlases of equal settings, or parts of one, into a new one",
        "status": "show what is folded, what is left, and how long it will take",
        "weights": "download published weights in advance",
    },
    "use it": {
        "query": "query an atlas with SQL",
        "export": "write a subset of an atlas as PDB, mmCIF, FASTA, Parquet, ...",
        "report": "write an HTML page: confidence, novelty, clusters, 3D views",
        "serve": "serve an atlas over HTTP: explorer, downloads, SQL, searches",
        "diff": "list what differs between two atlases",
    },
    "analyse and extend it": {
        "reference": "build a reference database of known structures or sequences",
        "novelty": "search an atlas for what is not in a reference database",
        "cluster": "cluster the proteins of an atlas by sequence and by structure",
        "project": "map the proteins of an atlas in two dimensions",
        "annotate": "join tables (biome, taxonomy, domains, ...) to an atlas",
    },
    "maintain it": {
        "index": "build the SQL index of an atlas, or bring it up to date",
        "verify": "check every file of an atlas, and repair what is at fault",
    },
    "models, without an atlas": {
        "embed": "compute embeddings with the language model, without folding",
        "train": "train a language model on sequences, or a folding head",
        "evaluate": "fold experimental chains and compare models with experiment",
    },
}
EXIT_CODES: Final = """exit codes:
  0  complete
  1  unexpected error
  2  wrong usage or input
  3  structures failed, shards are missing, or faults or differences were found
  130, 143  stopped on request
"""
MODULES: Final = {"import": "import_"}  # commands whose module has another name: `import` is a word of Python
# commands that pass arguments after `--` to Beam
BEAM_COMMANDS: Final = ("fold", "plan", "import", "novelty", "cluster")


class CommandParser(argparse.ArgumentParser):
    """A parser that accepts options before, between and after file names."""

    _inside = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        # argparse assigns everything before the first option to the first positionals, so that
        # `fold a.fasta b.fasta --model nano ATLAS` would be an error.
        if self._inside or self._subparsers is not None:
            return super().parse_known_args(args, namespace)
        self._refuse_unknown_options(args)
        self._inside = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._inside = False

    def _refuse_unknown_options(self, words: Sequence[str]) -> None:
        """Stop at an option that does not exist; argparse would first report arguments that are missing."""
        known = self._option_string_actions
        for word in itertools.takewhile("--".__ne__, words):
            name = word.partition("=")[0]
            if name.startswith("--") and " " not in word and not any(option.startswith(name) for option in known):
                close = difflib.get_close_matches(name, known, n=1)
                self.error(f"unknown option {name}" + (f": did you mean {close[0]}?" if close else ""))

    def error(self, message: str) -> NoReturn:
        """Print `message` in one line, without the usage, and exit with code 2."""
        self.exit(2, f"{self.prog}: {message} (see `{self.prog} --help`)\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands. Each command's module adds its own arguments."""
    parser = CommandParser(
        prog="foldatlas",
        usage="foldatlas COMMAND [ARGUMENTS]\n       foldatlas COMMAND --help    options of a command, and examples",
        description=f"Fold proteins from FASTA into an atlas that SQL can query.\n\n{_listing()}",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"foldatlas {program_version()}")
    commands = parser.add_subparsers(
        dest="command", prog="foldatlas", metavar="COMMAND", required=True, help=argparse.SUPPRESS
    )
    for name, summary in [item for group in COMMANDS.values() for item in group.items()]:
        module = importlib.import_module(f"foldatlas.jobs.{MODULES.get(name, name)}")
        command = commands.add_parser(
            name,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.configure(command)
        command.set_defaults(run=module.run)
    return parser


def _listing() -> str:
    """Return the commands by group, for `foldatlas --help`; argparse can list them only in one group."""
    groups = []
    for heading, commands in COMMANDS.items():
        lines = [f"  {name:<11}{summary}" for name, summary in commands.items()]
        groups.append("\n".join([f"{heading}:", *lines]))
    return "\n\n".join(groups)


def split_beam_options(words: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Split `words` at `--` into our arguments and Beam's options, which argparse would read as file names."""
    ours = list(words)
    if not ours or ours[0] not in BEAM_COMMANDS or "--" not in ours:
        return ours, ()
    cut = ours.index("--")
    return ours[:cut], tuple(ours[cut + 1 :])


class _LogFormatter(logging.Formatter):
    """A line of the log as `warnings` are shown here, without the name of the module."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{record.levelname.lower()}: {super().format(record)}"


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
    """Run one command and return its exit code."""
    _open_standard_streams()
    words, beam_options = split_beam_options(sys.argv[1:] if arguments is None else arguments)
    parser = build_parser()
    if not words:
        parser.print_help(sys.stderr)
        return 2
    parsed = parser.parse_args(words)
    parsed.beam_options = beam_options
    warnings.showwarning = _show_warning
    log = logging.StreamHandler()
    log.setFormatter(_LogFormatter())
    logging.basicConfig(handlers=[log])
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
        # The reader of the results (head, less) closed the pipe. Messages ignore that (arguments.say).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except UnicodeError as error:
        say(
            f"foldatlas {parsed.command}: this locale cannot represent a character ({error}): set LC_ALL=C.UTF-8 or "
            "PYTHONUTF8=1"
        )
        return 1
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        say(f"foldatlas {parsed.command}: {error.strerror or error}{where}")
        return 1


def _open_standard_streams() -> None:
    """Open closed standard streams on the null device, so that no file gets their descriptors and then messages."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - open until the process ends
        elif isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # the locale may lack characters of an id or a path


if __name__ == "__main__":
    sys.exit(main())
