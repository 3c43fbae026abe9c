"""`foldatlas train`: training, with one subcommand for each part of a model."""

import argparse
import importlib
import os
from typing import Final

PARTS: Final = {
    "lm": "a language model on masked residues, as ESM-2",
    "fold": "a folding head on experimental structures, as ESMFold",
}

EXAMPLES: Final = """examples:
  foldatlas train lm proteins.fasta run --preset nano
  foldatlas train fold chains.parquet head --preset nano --language-model run/model.safetensors

`foldatlas train PART --help` shows the options of training this part.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_subparsers(dest="part", metavar="PART", required=True)
    for name, summary in PARTS.items():
        module = importlib.import_module(f"foldatlas.jobs.train_{name}")
        part = parts.add_parser(
            name,
            help=summary,
            description=f"Train {summary}.",
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.configure(part)
        part.set_defaults(run_part=module.run)


def run(arguments: argparse.Namespace) -> int:
    code = int(arguments.run_part(arguments))
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from foldatlas.folding.training.processes import end_process

        end_process(code)
    return code
