"""The `foldatlas` command: one parser for each command, errors in one line, exit codes for scripts.

0 complete; 1 unexpected error; 2 wrong usage or input, nothing changed; 3 structures failed or faults found (with
--strict also refused records); 130 and 143 interrupted. Results go to stdout, messages and progress to stderr.
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
    "fold": "fold all proteins of FASTA files into an atlas (the main command)",
    "plan": "read and check FASTA, cut shards and predict time and cost, without folding",
    "import": "build an atlas from structures that exist already: PDB, mmCIF, Foldcomp, archives",
    "weights": "download published weights in advance; --model NAME downloads them when they are missing",
    "status": "show what is folded, what is left, and how long it will take",
    "index": "build the SQL index of an atlas, or bring it up to date",
    "merge": "merge several atlases of equal settings, or parts of one, into a new atlas",
    "cluster": "cluster the proteins of an atlas by sequence and by structure",
    "reference": "build a reference database of known structures or sequences, to search for novelty",
    "novelty": "search structures or sequences of an atlas against a reference database",
    "report": "write one HTML page about an atlas: confidence, novelty, clusters, structures in 3D",
    "project": "map the proteins of an atlas in two dimensions, by embedding or by composition and shape",
    "annotate": "join tables (biome, taxonomy, domains, cross-references) to an atlas",
    "query": "query an atlas with SQL",
    "serve": "serve an atlas over HTTP: structures, pages of proteins, downloads, SQL, searches",
    "export": "write a subset of an atlas as PDB, mmCIF, Foldcomp, FASTA, 3Di or Parquet files, or tar bundles",
    "embed": "compute embeddings with the language model, without folding",
    "train": "train a language model on sequences, or a folding head on structures",
    "evaluate": "fold experimental chains and compare models and baselines with experiment",
    "diff": "list what differs between two atlases",
    "verify": "check every file of an atlas against its digests and its plan",
}


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
        self._inside = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._inside = False


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands. Each command's module adds its own arguments."""
    parser = CommandParser(
        prog="foldatlas",
        description="Fold proteins from FASTA into an atlas that SQL can query.",
        epilog="`foldatlas COMMAND --help` shows the options of a command and examples.",
    )
    parser.add_argument("--version", action="version", version=f"foldatlas {program_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        module = importlib.import_module(f"foldatlas.jobs.{MODULES.get(name, name)}")
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
    """Split `words` at `--` into our arguments and Beam's options, which argparse would read as file names."""
    ours = list(words)
    if not ours or ours[0] not in BEAM_COMMANDS or "--" not in ours:
        return ours, ()
    cut = ours.index("--")
    return ours[:cut], tuple(ours[cut + 1 :])


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
