"""`foldatlas report`: one HTML page about an atlas, or the same figures as text."""

import argparse
from pathlib import Path
from typing import Final

from foldatlas.jobs.arguments import ATLAS_HELP, path, say
from foldatlas.schemas.errors import UsageError

EXAMPLES: Final = """examples:
  foldatlas report atlas
  foldatlas report atlas my-atlas.html
  foldatlas report atlas --text

`foldatlas fold` writes atlas/report.html at its end. Run this after clustering, a search or an import, to renew it.
"""


def report(atlas: str | Path, file: str | Path | None = None) -> str:
    """Write the report of `atlas` to `file`, or to report.html in the atlas, and return where it was written.

    Raise NotAnAtlasError if there is no atlas or no index yet.
    """
    from foldatlas.atlas.report.report import write_report

    return write_report(atlas, file)


def attempt(atlas: str | Path) -> None:
    """Write report.html in `atlas` and print where it is. An error is printed, not raised: the atlas is complete."""
    try:
        say(f"open {report(atlas)}")
    except Exception as error:  # the structures are committed and indexed all the same
        say(f"the report could not be made ({error}); to try again: foldatlas report {atlas}")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("atlas", type=path, metavar="ATLAS", help=ATLAS_HELP)
    parser.add_argument(
        "file", type=path, metavar="FILE", nargs="?", help="HTML file to write (default: report.html in the atlas)"
    )
    parser.add_argument("--text", action="store_true", help="print the figures as text, and write no file")


def run(arguments: argparse.Namespace) -> int:
    from foldatlas.atlas.report.report import text_report

    if arguments.text:
        if arguments.file is not None:
            raise UsageError("--text prints the figures and writes no FILE: omit one of them")
        print(text_report(arguments.atlas), end="")
        return 0
    print(report(arguments.atlas, arguments.file))
    return 0
