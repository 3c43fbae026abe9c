"""Share of the time in which a simulated H200 is busy while a shard is folded: with encoding, Parquet and commit.

    python benchmarks/engine.py [--proteins 20000] [--shards 3] [--batch-tflop 100]

The device is benchmarks/simulated_child.py, a child process that answers each batch after the time that an H200 needs
at least. Proteins are a metagenomic mix: lengths of a gamma distribution, shape 2, mean 200, 16 to 1,024 residues. They
are planned for that device, and shards of about a minute, evenly spaced from the longest proteins to the shortest, are
folded one after the other as a worker does. Busy seconds are those of the bound, not of the clock, so a device that is
late counts as idle. The child is started before the clock. CPU seconds of the worker are all its work beside the
device.
"""

import argparse
import json
import os
import random
import resource
import sys
import tempfile
import time
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from machine import add_output, hardware, write_results
from simulated_child import SETTINGS, bound

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.folding.planning.batching import BATCH_MFLOP
from foldatlas.folding.planning.cost import mflop
from foldatlas.folding.training.recipes import ESMFOLD_V1
from foldatlas.pipeline.planning.costs import CostModel
from foldatlas.pipeline.planning.planner import make_plan
from foldatlas.pipeline.shards import batches
from foldatlas.pipeline.shards.fold import fold_shard
from foldatlas.pipeline.shards.task import FoldOptions, FoldTask
from foldatlas.pipeline.workers.supervisor import WorkerSpec, child_of_this_process, end_children

MEMORY_BYTES = 70 << 30  # half of an H200's
BYTES_PER_RESIDUE = 34.0
RESIDUES = "ACDEFGHIKLMNPQRSTVWY"


def metagenomic_mix(count: int) -> list[str]:
    draw = random.Random(0)
    found: list[str] = []
    while len(found) < count:
        length = round(draw.gammavariate(2, 100))
        if 16 <= length <= 1024:
            found.append("".join(draw.choices(RESIDUES, k=length)))
    return found


class Received:
    """Counts bytes that this process receives through connections."""

    def __init__(self) -> None:
        self.bytes = 0
        real = Connection._recv_bytes  # type: ignore[attr-defined]

        def counting(connection: Connection, maxsize: int | None = None) -> Any:
            buffer = real(connection, maxsize)
            self.bytes += len(buffer.getbuffer())
            return buffer

        Connection._recv_bytes = counting  # type: ignore[attr-defined]


def measure(folder: Path, proteins: int, shards: int, batch_mflop: int) -> list[dict[str, float]]:
    """Plan `proteins`, fold `shards` of the shards, and return what was measured of each."""
    log = folder / "batches"
    log.touch()
    os.environ["SIMULATED_DEVICE_LOG"] = str(log)
    sequences = metagenomic_mix(proteins)
    fasta = folder / "proteins.fasta"
    fasta.write_text("".join(f">p{number}\n{text}\n" for number, text in enumerate(sequences)))
    per_second = sum(mflop(ESMFOLD_V1, len(text), SETTINGS.recycles) for text in sequences) / sum(
        bound(1, len(text)) for text in sequences
    )
    costs = CostModel(lambda length: mflop(ESMFOLD_V1, length, SETTINGS.recycles), per_second, BYTES_PER_RESIDUE, 80.0)
    atlas = AtlasFolder(folder / "atlas")
    make_plan([str(fasta)], atlas, SETTINGS, costs, max_length=1280)
    batches.config_of = lambda *_, **__: ESMFOLD_V1  # type: ignore[assignment]  # the model has no files
    child_program = str(Path(__file__).with_name("simulated_child.py"))
    worker = WorkerSpec("esmfold_v1", SETTINGS, "cuda", command=(sys.executable, "-P", child_program))
    (plan,) = atlas.plans()
    full_size = [shard for shard in plan.shards if 2 * shard.cost >= max(shard.cost for shard in plan.shards)]
    chosen = [full_size[number * (len(full_size) - 1) // max(1, shards - 1)] for number in range(shards)]
    options = FoldOptions(str(atlas.root), worker, (), "run", "host", batch_mflop, MEMORY_BYTES)
    received = Received()
    child = child_of_this_process(worker)
    child.compute(["MKV"], 1)
    found = []
    for shard in chosen:
        log.write_text("")
        received.bytes = 0
        before, began = _cpu(), time.monotonic()
        fold_shard(FoldTask(options, plan.name, plan.sequences[shard.file].path, shard))
        seconds, cpu = time.monotonic() - began, _cpu() - before
        ended = began + seconds
        times = [[float(time) for time in line.split()] for line in log.read_text().splitlines()]
        busy = [last - first for first, last in times]
        found.append(
            {
                "proteins": shard.proteins,
                "mean_length": shard.residues / shard.proteins,
                "batches": len(busy),
                "seconds": seconds,
                "busy_seconds": sum(busy),
                "busy_share": sum(busy) / seconds,
                "head_seconds": times[0][0] - began,
                "gap_seconds": sum(later[0] - earlier[1] for earlier, later in pairwise(times)),
                "tail_seconds": ended - times[-1][1],
                "device_proteins_per_second": shard.proteins / sum(busy),
                "worker_cpu_seconds": cpu,
                "worker_cpu_ms_per_protein": 1e3 * cpu / shard.proteins,
                "bytes_per_residue": received.bytes / shard.residues,
            }
        )
        print(json.dumps({name: round(value, 4) for name, value in found[-1].items()}), flush=True)
    end_children()
    assert len(atlas.entries()) == shards and all(entry.failed == 0 for entry in atlas.entries().values())
    return found


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def table(runs: dict[str, Any]) -> list[str]:
    """Return the results of all runs as text."""
    lines = [
        "# Share of the time in which a simulated H200 is busy",
        "",
        f"{next(iter(runs.values()))['hardware']}.",
        "The device answers after the time of the bound (790 TFLOP/s, 4.3 TB/s, operations fused); reading, rounding,",
        "encoding, Parquet and commit are real. Nothing ran on a GPU.",
        "",
        "| run | load | proteins | mean length | batches | s | busy | head, ms | gaps, ms | tail, ms "
        "| CPU ms a protein | cores | bytes a residue |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, run in runs.items():
        for shard in run["shards"]:
            cores = shard["worker_cpu_seconds"] / shard["busy_seconds"]
            idle = [shard.get(f"{part}_seconds") for part in ("head", "gap", "tail")]
            parts = " | ".join("" if seconds is None else f"{1e3 * seconds:.0f}" for seconds in idle)
            lines.append(
                f"| {name} | {run['load'][0]:.0f} | {shard['proteins']:,} | {shard['mean_length']:.0f} | "
                f"{shard['batches']:,} | {shard['seconds']:.1f} | {shard['busy_share']:.1%} | {parts} | "
                f"{shard['worker_cpu_ms_per_protein']:.2f} | {cores:.3f} | {shard['bytes_per_residue']:.1f} |"
            )
    return [
        *lines,
        "",
        "A line is a shard. load: at the run's end. The device is idle before its first batch (head), between batches "
        "(gaps)",
        "and after its last one (tail). CPU ms: of the worker, for all beside the device.",
        "cores: CPU seconds of the worker for each second that the device is busy. bytes: received from the child.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--proteins", type=int, default=20_000, help="to plan")
    parser.add_argument("--shards", type=int, default=3, help="to fold")
    parser.add_argument("--batch-tflop", type=float, default=BATCH_MFLOP["cuda"] / 1e6)
    parser.add_argument("--name", default="now", help="of this run in the table")
    parser.add_argument("--keep", action="store_true", help="keep runs of other names in the results")
    add_output(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), arguments.proteins, arguments.shards, round(arguments.batch_tflop * 1e6))
    earlier = arguments.output / "engine.json"
    runs: dict[str, Any] = json.loads(earlier.read_text()) if arguments.keep and earlier.exists() else {}
    runs[arguments.name] = {"hardware": hardware(), "load": os.getloadavg(), "shards": found}
    write_results(arguments.output, "engine", runs, table(runs))


if __name__ == "__main__":
    main()
