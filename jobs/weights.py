"""`foldatlas weights`: download published weights in advance.

Other commands download missing weights at their start, with `provide`; workers never download.
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
  foldatlas weights esmfold_v1                 to the Hugging Face cache, where `--model esmfold_v1` finds it
  foldatlas weights esm2_t33_650M_UR50D models     to models/esm2_t33_650M_UR50D, for `--weights models`

Names: esmfold_v1 (8.4 GB), and ESM-2 as esm2_t6_8M_UR50D, esm2_t12_35M_UR50D, esm2_t30_150M_UR50D,
esm2_t33_650M_UR50D, esm2_t36_3B_UR50D, esm2_t48_15B_UR50D. An interrupted download is resumed. `--model NAME` of other
commands also downloads what is missing, to the folder of --weights or the cache.
"""


def weights(name: str, folder: str | Path | None = None) -> "ModelFiles":
    """Download the published model `name` to `folder`/`name`, or to the Hugging Face cache. Raise ModelError."""
    from foldatlas.folding.weights.hub import fetch
    from foldatlas.folding.weights.model_files import find

    fetch(name, folder)
    return find(name, None if folder is None else str(folder))


def provide(
    model: str, folder: str | Path | None, *, to_fold: bool = True, before: Callable[[], object] | None = None
) -> None:
    """Download a published `model` that is not on this machine to `folder`/`model`, or to the Hugging Face cache.

    Other models are left alone. `before` is called before a download, so that its errors cost none. Raise ModelError
    for a language model if `to_fold`, and where the hub cannot be reached (with the files to download by hand);
    UsageError where a local file or folder of that name may be meant.
    """
    from foldatlas.folding.models import refuse_language_model
    from foldatlas.folding.weights.model_files import is_missing

    if to_fold:
        refuse_language_model(model)
    if is_missing(model, None if folder is None else str(folder)):
        if folder is None and Path(model).exists():  # for example after `foldatlas weights NAME .`
            raise UsageError(
                f"{model} is a published model, which would be downloaded, and also a local path: pass --model "
                f"./{model} to use the path, or --weights DIR to download to DIR"
            )
        if before is not None:
            before()
        to = "the Hugging Face cache" if folder is None else folder
        say(f"{model} is not on this machine: downloading it to {to}")
        weights(model, folder)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a published model: esmfold_v1, esm2_t33_650M_UR50D, ...")
    parser.add_argument("dir", nargs="?", metavar="DIR", help="folder of models (default: the Hugging Face cache)")


def run(arguments: argparse.Namespace) -> int:
    place = weights(arguments.name, arguments.dir)
    print(place.files[0].parent)
    option = "" if arguments.dir is None else f" --weights {arguments.dir}"
    print(f"use it with --model {arguments.name}{option}", file=sys.stderr)
    return 0
