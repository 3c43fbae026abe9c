"""`foldatlas train`: training, with one subcommand for each recipe."""

import argparse
import importlib
from typing import Final

RECIPES: Final = {
    "lm": "a language model on masked residues, as ESM-2",
    "fold": "a folding head on experimental structures, as ESMFold",
}

EXAMPLES: Final = """examples:
  foldatlas train lm proteins.fasta run --preset nano
  foldatlas train fold chains.parquet head --preset nano --language-model run/model.safetensors

`foldatlas train RECIPE --help` shows the options of a recipe.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    recipes = parser.add_subparsers(dest="recipe", metavar="RECIPE", required=True)
    for name, summary in RECIPES.items():
        module = importlib.import_module(f"foldatlas.jobs.train_{name}")
        recipe = recipes.add_parser(
            name,
            help=summary,
            description=f"Train {summary}.",
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.configure(recipe)
        recipe.set_defaults(run_recipe=module.run)


def run(arguments: argparse.Namespace) -> int:
    return int(arguments.run_recipe(arguments))
