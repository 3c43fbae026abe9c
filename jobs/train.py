"""`foldatlas train`: the training recipes, a command below this one each."""

import argparse
import importlib
from typing import Final

RECIPES: Final = {
    "lm": "the language model, on masked residues: ESM-2's recipe",
    "fold": "the folding head, on experimental structures: ESMFold's recipe",
}

EXAMPLES: Final = """examples:
  foldatlas train lm proteins.fasta run --preset nano
  foldatlas train fold chains.parquet head --preset nano --language-model run/model.safetensors

`foldatlas train RECIPE --help` says what a recipe takes.
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
