"""Time from the start of a child to its first batch, by phase, for weights of esmfold_v1's sizes.

    python benchmarks/warm_up.py [--share 1] [--precision bf16] [--device cpu] [--weights FILE]

Random weights are written as released ones are: the language model in float16, the trunk in float32, `--share` of the
layers and blocks (1: 8.4 GB, for which the machine needs 16 GB of free memory at bf16). With `--weights` they are
written to FILE and kept, or read from it if it exists. The phases run in a fresh process with the environment of a
child, first after the file was dropped from the system's page cache, so that it is read from the disk, then again. CPU
seconds depend less on the load of the machine than elapsed ones; hashing has a thread a core.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from machine import add_output, hardware, write_results

from foldatlas.pipeline.workers.process import CHILD_ENVIRONMENT

READY: Final = ("import", "digest of the weights", "read, convert, build")  # phases until a child on a CPU is ready


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


def drop_from_cache(path: Path) -> None:
    """Let the system forget the pages of a file, which are then read from the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


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
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--weights", type=Path, help="file to keep the weights in")
    parser.add_argument("--phases-of", help=argparse.SUPPRESS)
    add_output(parser)
    arguments = parser.parse_args()
    if arguments.phases_of:
        print(json.dumps(phases(arguments.phases_of, arguments.precision, arguments.device)))
        return
    command = [sys.executable, __file__, "--precision", arguments.precision, "--device", arguments.device]
    found: dict[str, dict[str, tuple[float, float]]] = {}
    with contextlib.ExitStack() as stack:
        path = arguments.weights
        if path is None:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "weights.safetensors"
        if not path.exists():
            write_weights(path, arguments.share)
        size = path.stat().st_size
        for where in ("disk", "memory"):
            if where == "disk":
                drop_from_cache(path)
            done = subprocess.run(
                [*command, "--phases-of", str(path)],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
                env={**CHILD_ENVIRONMENT, **os.environ},
            )
            found[where] = json.loads(done.stdout)
    lines = [
        "# Warm-up of a child",
        "",
        f"{hardware()}. {arguments.device}, {arguments.precision}, {size / 1e9:.2f} GB of weights. "
        f"Load {os.getloadavg()[0]:.0f}.",
        "",
        "| phase | from the disk: elapsed, s | CPU, s | from memory: elapsed, s | CPU, s |",
        "|---|---|---|---|---|",
    ]
    for name in found["disk"]:
        cells = [f"{seconds:.2f}" for where in found.values() for seconds in where[name]]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    totals = [sum(where[name][kind] for name in READY) for where in found.values() for kind in (0, 1)]
    lines += [
        f"| until ready | {' | '.join(f'{seconds:.1f}' for seconds in totals)} |",
        "",
        "A child on a CPU is ready before its first batch. On a GPU the weights are converted there, and a batch like",
        "the first one is part of the start, with CUDA's own start and the compilation of kernels: not measured.",
    ]
    result = {"hardware": hardware(), "load": os.getloadavg(), "bytes": size, "phases": found}
    write_results(arguments.output, "warm_up", result, lines)


if __name__ == "__main__":
    main()
