"""`foldatlas weights`: fetch released weights beforehand. Other commands fetch what is missing before they begin, with
`provide`; workers never download.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foldatlas.jobs.arguments import say
from foldatlas.schemas.errors import UsageError

if TYPE_CHECKING:
    from foldatlas.folding.weights.model_files import ModelFiles

EXAMPLES: Final = """examples:
  foldatlas weights esmfold_v1                 into the cache of Hugging Face's hub: `--model esmfold_v1` finds it there
  foldatlas weights esm2_t33_650M_UR50D models     into models/esm2_t33_650M_UR50D, for `--weights models`

Names: esmfold_v1 (8.4 GB), and ESM-2 as esm2_t6_8M_UR50D, esm2_t12_35M_UR50D, esm2_t30_150M_UR50D,
esm2_t33_650M_UR50D, esm2_t36_3B_UR50D, esm2_t48_15B_UR50D. An interrupted download goes on where it stopped.
`--model NAME` of other commands fetches what is missing too, into the folder of --weights or the cache.
"""


def weights(name: str, folder: str | Path | None = None) -> "ModelFiles":
    """Fetches the published model `name` into `folder`/`name`, or the hub's cache. Raises ModelError."""
    from foldatlas.folding.weights.hub import fetch
    from foldatlas.folding.weights.model_files import find

    fetch(name, folder)
    return find(name, None if folder is None else str(folder))


def provide(
    model: str, folder: str | Path | None, *, to_fold: bool = True, before: Callable[[], object] | None = None
) -> None:
    """Fetches a published `model` that is not on this machine into `folder`/`model`, or the hub's cache, and says so.

    Nothing is done for other models. `before` is called before anything is fetched: its errors cost no download.
    Raises ModelError for a language model `to_fold`, and, if the hub is out of reach, one that says which files to put
    where; UsageError where a file or folder of that name may be what is meant.
    """
    from foldatlas.folding.models import refuse_language_model
    from foldatlas.folding.weights.model_files import is_missing

    if to_fold:
        refuse_language_model(model)
    if is_missing(model, None if folder is None else str(folder)):
        if folder is None and Path(model).exists():  # as after `foldatlas weights NAME .`: gigabytes twice
            raise UsageError(
                f"{model} is the name of a published model, which would be fetched, and also of a place here: pass "
                f"--model ./{model} to mean that one, or --weights DIR to fetch into DIR"
            )
        if before is not None:
            before()
        say(f"{model} is not on this machine: fetching it into {'the cache of the hub' if folder is None else folder}")
        weights(model, folder)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a published model: esmfold_v1, esm2_t33_650M_UR50D, ...")
    parser.add_argument("dir", nargs="?", metavar="DIR", help="folder of models (default: the cache of the hub)")


def run(arguments: argparse.Namespace) -> int:
    place = weights(arguments.name, arguments.dir)
    print(place.files[0].parent)
    option = "" if arguments.dir is None else f" --weights {arguments.dir}"
    print(f"use it with --model {arguments.name}{option}", file=sys.stderr)
    return 0
