"""The process that owns the device, with random weights of the published sizes: for gpu_job.py.

Run by a WorkerSpec in place of `python -m foldatlas.pipeline.workers.child`; of its arguments the model is "random", or
"random-quick" for small networks.
"""

import sys

from gpu_models import QUICK_SIZES, SETTINGS, SIZES, into_bf16, our_predictor

from foldatlas.pipeline.workers.child import Loaded, Stages, refuse_unusable_gpu, serve
from foldatlas.pipeline.workers.devices import hold_device
from foldatlas.pipeline.workers.inherited import connect


def main() -> None:
    connection, (model, *_, device, _) = connect(sys.argv[1:])

    def load() -> Loaded:
        hold_device(device)  # until this process ends: the descriptor is never closed
        predictor = into_bf16(our_predictor(QUICK_SIZES if model.endswith("quick") else SIZES, device), device)
        refuse_unusable_gpu(device, predictor.fold_batch)
        stages = predictor.stages
        return SETTINGS, Stages(stages.prepare, stages.compute, stages.collect)

    serve(connection, load)


if __name__ == "__main__":
    main()
