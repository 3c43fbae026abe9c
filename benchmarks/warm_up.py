"""Time from the start of a child to its first batch, by phase, for weights of esmfold_v1's widths and fewer layers.

    python benchmarks/warm_up.py [--share 0.1667] [--precision bf16] [--device cpu]

Random weights are written as released ones are: the language model in float16, the trunk in float32, `--share` of the
layers and blocks (1: 8.4 GB). Each phase is timed in a fresh process, after the file was written, so that it is read
from memory and not from a disk. CPU seconds do not depend on the load of the machine; hashing has a thread a core.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from machine import add_output, hardware, write_results

WHOLE_BYTES: Final = 8.4e9
OF_WEIGHTS: Final = ("digest of the weights", "read, convert, build")  # phases that grow with the weights


def write_weights(path: Path, share: float) -> int:
    """Write random weights to `path`, and return their bytes."""
    import torch
    from safetensors.torch import save_file

    from foldatlas.folding.network.esmfold import ESMFold
    from foldatlas.folding.network.layout import without_values
    from foldatlas.folding.training.recipes import ESMFOLD_V1
    from foldatlas.folding.weights import fitting

    model, trunk = ESMFOLD_V1.language_model, ESMFOLD_V1.trunk
    config = dataclasses.replace(
        ESMFOLD_V1,
        language_model=dataclasses.replace(model, num_layers=max(1, round(share * model.num_layers))),
        trunk=dataclasses.replace(trunk, num_blocks=max(1, round(share * trunk.num_blocks))),
    )
    with without_values():
        shapes = {name: tensor.shape for name, tensor in ESMFold(config).state_dict().items()}
    draw = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in shapes.items():
        is_half = name.startswith("esm.") and not name.endswith("inv_freq")
        state[name] = (torch.randn(shape, generator=draw) * 0.02).to(torch.float16 if is_half else torch.float32)
    save_file(state, path, metadata={fitting.CONFIG_KEY: json.dumps(dataclasses.asdict(config))})
    return sum(tensor.nbytes for tensor in state.values())


def phases(path: str, precision: str, device: str) -> dict[str, tuple[float, float]]:
    """Return (elapsed, CPU) seconds of each phase, in this process."""
    found: dict[str, tuple[float, float]] = {}
    began = time.perf_counter(), time.process_time()

    def note(name: str) -> None:
        nonlocal began
        now = time.perf_counter(), time.process_time()
        found[name] = now[0] - began[0], now[1] - began[1]
        began = now

    import foldatlas.pipeline.workers.child  # noqa: F401
    from foldatlas.folding import models
    from foldatlas.folding.network import esmfold  # noqa: F401
    from foldatlas.folding.weights import fitting  # noqa: F401

    note("import")
    models.settings_of(path, None, precision)
    note("digest of the weights")
    predictor = models.load(path, precision=precision, device=device)
    note("read, convert, build")
    for name in ("first batch", "second batch"):
        stages = predictor.stages
        stages.collect(stages.compute(stages.prepare(["MKTAYIAKQRQISFVK"])))
        note(name)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--share", type=float, default=1 / 6)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--phases-of", help=argparse.SUPPRESS)
    add_output(parser)
    arguments = parser.parse_args()
    if arguments.phases_of:
        print(json.dumps(phases(arguments.phases_of, arguments.precision, arguments.device)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        size = write_weights(path, arguments.share)
        command = [sys.executable, __file__, "--phases-of", str(path)]
        command += ["--precision", arguments.precision, "--device", arguments.device]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, Any] = json.loads(done.stdout)
    lines = [
        "# Warm-up of a child",
        "",
        f"{hardware()}. {arguments.device}, {arguments.precision}, {size / 1e9:.2f} GB of weights, in memory.",
        "",
        "| phase | elapsed, s | CPU, s |",
        "|---|---|---|",
        *(f"| {name} | {elapsed:.2f} | {cpu:.2f} |" for name, (elapsed, cpu) in measured.items()),
        "",
        f"esmfold_v1 has {WHOLE_BYTES / size:.1f} times as many bytes. In proportion, which was not measured: "
        f"{sum(measured[name][1] for name in OF_WEIGHTS) * WHOLE_BYTES / size:.0f} CPU seconds for the digest, reading",
        "and converting, of which the digest runs on up to 8 cores; beside them the disk, and on a GPU its own start,",
        "the copies and the kernels' compilation.",
    ]
    result = {"hardware": hardware(), "bytes": size, "share": arguments.share, "phases": measured}
    write_results(arguments.output, "warm_up", result, lines)


if __name__ == "__main__":
    main()
