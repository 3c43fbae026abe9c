"""The busy share of a GPU while a shard is folded, encoded, written and committed, as a worker does it.

    python benchmarks/gpu_job.py plan FOLDER [--proteins 1500]     needs Beam and DuckDB
    python benchmarks/gpu_job.py fold FOLDER [--device cuda]       needs msgspec and pyarrow beside torch and Triton

The two can run on different machines: FOLDER has the plan of a metagenomic mix (gpu_models.py) for random weights of
the published sizes. `fold` starts the process that owns the device (gpu_child.py) before the clock, and folds one
shard, of 413 proteins of 186 to 314 residues, twice, into copies of the atlas: the first time kernels are compiled and
graphs recorded, the second time they exist. By the bound it takes 13.8 s.

busy     seconds of the child with a batch, over seconds of the shard
active   mean of `nvidia-smi`'s utilization.gpu, the share of the time with a kernel on the GPU, every 0.2 s
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from gpu_models import QUICK_SIZES, RECYCLES, SETTINGS, SIZES, bound_seconds, metagenomic_mix, random_sequence
from machine import add_output, hardware, write_results

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.folding.planning.batching import BATCH_MFLOP
from foldatlas.folding.planning.cost import mflop

MEMORY_BYTES: Final = 50 << 30  # of a batch
BYTES_PER_RESIDUE: Final = 34.0
BYTES_PER_PROTEIN: Final = 80.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("plan", "fold"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--proteins", type=int, default=1500, help="to plan (default 1500)")
    parser.add_argument("--longest", type=int, default=1024, help="residues of a planned protein (default 1024)")
    parser.add_argument("--device", default="cuda", help="to fold on (default cuda)")
    parser.add_argument("--quick", action="store_true", help="fold with small networks, for trying this file on a CPU")
    add_output(parser)
    options = parser.parse_args()
    if options.step == "plan":
        plan(options.folder, options.proteins, options.longest)
    else:
        fold(options.folder, options.device, options.quick, options.output)


def plan(folder: Path, proteins: int, longest: int) -> None:
    from foldatlas.pipeline.planning.costs import CostModel
    from foldatlas.pipeline.planning.planner import make_plan

    lengths = metagenomic_mix(proteins, longest)
    folder.mkdir(parents=True)
    fasta = folder / "proteins.fasta"
    sequences = [random_sequence(length, seed) for seed, length in enumerate(lengths)]
    fasta.write_text("".join(f">p{number}\n{text}\n" for number, text in enumerate(sequences)), encoding="utf-8")
    per_second = sum(mflop(SIZES, length, RECYCLES) for length in lengths) / bound_seconds(SIZES, lengths)
    costs = CostModel(lambda length: mflop(SIZES, length, RECYCLES), per_second, BYTES_PER_RESIDUE, BYTES_PER_PROTEIN)
    make_plan([str(fasta)], AtlasFolder(folder / "atlas"), SETTINGS, costs, max_length=1280)


def fold(folder: Path, device: str, quick: bool, output: Path) -> None:
    from foldatlas.pipeline.shards import batches
    from foldatlas.pipeline.workers.supervisor import WorkerSpec, child_of_this_process, end_children

    sizes = QUICK_SIZES if quick else SIZES
    batches.config_of = lambda *_, **__: sizes  # type: ignore[assignment]  # the model has no files
    program = str(Path(__file__).with_name("gpu_child.py"))
    model = "random-quick" if quick else "random"
    worker = WorkerSpec(model, SETTINGS, device, command=(sys.executable, program))
    child = child_of_this_process(worker)
    began = time.monotonic()
    child.compute(["MKV"], 1)
    found: dict[str, Any] = {
        "hardware": gpu_name() if device.startswith("cuda") else hardware(),
        "quick": quick,
        "seconds_until_ready": time.monotonic() - began,
        "shards": [],
    }
    print(f"the process that owns the device was ready after {found['seconds_until_ready']:.0f} s", flush=True)
    try:
        for run in ("first", "second"):
            with tempfile.TemporaryDirectory() as copy:
                shutil.copytree(folder / "atlas", Path(copy) / "atlas")
                measured = fold_one(Path(copy) / "atlas", worker, child, sizes)
            found["shards"].append({"run": run, **measured})
            write_results(output, "gpu_job", found, table(found))
    finally:
        end_children()


def fold_one(root: Path, worker: Any, child: Any, sizes: Any) -> dict[str, Any]:
    from foldatlas.pipeline.shards.fold import fold_shard
    from foldatlas.pipeline.shards.task import FoldOptions, FoldTask

    atlas = AtlasFolder(root)
    (planned,) = atlas.plans()
    options = FoldOptions(str(root), worker, (), "run", "host", BATCH_MFLOP["cuda"], MEMORY_BYTES)
    # of those of full size the one with the shortest proteins
    most = max(shard.cost for shard in planned.shards)
    shard = [shard for shard in planned.shards if 2 * shard.cost >= most][-1]
    path = planned.sequences[shard.file].path
    lengths = [len(text) for text in atlas.read_table(path, ["sequence"], shard.row_group)["sequence"].to_pylist()]
    busy, began = child.busy_seconds, time.monotonic()
    with Utilization() as utilization:
        fold_shard(FoldTask(options, planned.name, path, shard))
    seconds = time.monotonic() - began
    (entry,) = atlas.entries().values()
    return {
        "proteins": shard.proteins,
        "failed": entry.failed,
        "mean_length": shard.residues / shard.proteins,
        "seconds": seconds,
        "per_second": shard.proteins / seconds,
        "busy": (child.busy_seconds - busy) / seconds,
        "active": utilization.mean,
        "share_of_bound": bound_seconds(sizes, lengths) / seconds,
    }


class Utilization:
    """In its block, reads the utilization of the first GPU every 0.2 s. `mean` is None where that is not possible."""

    def __init__(self) -> None:
        self.mean: float | None = None
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Utilization":
        command = [
            "nvidia-smi",
            "--query-gpu=utilization.gpu",
            "--format=csv,noheader,nounits",
            "--id=0",
            "-lms",
            "200",
        ]
        try:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        except OSError:
            self._process = None
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is None:
            return
        self._process.terminate()
        text, _ = self._process.communicate(timeout=30)
        read = [int(line) for line in text.split() if line.isdigit()]
        self.mean = statistics.mean(read) / 100 if read else None


def gpu_name() -> str:
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader", "--id=0"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout.strip() or "a GPU"


def table(found: dict[str, Any]) -> list[str]:
    lines = [
        "# Busy share of a GPU while shards are folded and written",
        "",
        f"{found['hardware']}, random weights, 4 passes. Ready after {found['seconds_until_ready']:.0f} s."
        + (" QUICK: small networks, the figures mean nothing." if found["quick"] else ""),
        "",
        "| run | proteins | failed | mean length | s | proteins/s | busy | active | share of the bound |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for shard in found["shards"]:
        active = "" if shard["active"] is None else f"{shard['active']:.1%}"
        lines.append(
            f"| {shard['run']} | {shard['proteins']:,} | {shard['failed']} | {shard['mean_length']:.0f} | "
            f"{shard['seconds']:.1f} | {shard['per_second']:.3g} | {shard['busy']:.1%} | {active} | "
            f"{shard['share_of_bound']:.1%} |"
        )
    return [*lines, "", "busy: the child has a batch. active: a kernel runs, by nvidia-smi. See gpu_job.py."]


if __name__ == "__main__":
    main()
