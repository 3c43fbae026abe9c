"""The process that owns the device while only the language model runs: child.py for embeddings.

Started with the arguments of child.py; the recycles are ignored.
"""

import sys
from collections.abc import Sequence

from foldatlas.folding.language_predictor import LanguagePredictor
from foldatlas.folding.models import load_language_model
from foldatlas.folding.network.precision import get
from foldatlas.pipeline.workers.child import Loaded, in_one_stage, refuse_unusable_gpu, serve
from foldatlas.pipeline.workers.devices import hold_device
from foldatlas.pipeline.workers.inherited import connect
from foldatlas.schemas.records import Settings


def main(arguments: Sequence[str]) -> None:
    connection, (model, _, _, precision, device, weights_dir) = connect(arguments)

    def load_model() -> Loaded:
        hold_device(device)  # until this process ends: the descriptor is never closed
        dtype_of = get(precision).dtype_of
        loaded = load_language_model(model, device=device, weights_dir=weights_dir or None, dtype_of=dtype_of)
        embed = LanguagePredictor(loaded.network).embed
        refuse_unusable_gpu(device, embed)
        return Settings(loaded.name, loaded.weights, 0, precision), in_one_stage(embed)

    serve(connection, load_model)


if __name__ == "__main__":
    main(sys.argv[1:])
