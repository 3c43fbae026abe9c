"""Resident memory and speed of a process that folds proteins of many lengths, with and without bounded caches.

    python benchmarks/worker_memory.py [--proteins 2000] [--pairs 3]

Each run is a process of its own, one thread, model nano: it folds one protein of 400 residues, then `--proteins` of
30 to 400 in random order, one at a time. Runs alternate between the bounds of folding/planning/primitive_caches.py and
torch's defaults (1,024 each). Prints a line of JSON for each, then ratios: memory to the longest protein's, and the
median over pairs of CPU and wall time.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

LONGEST, SHORTEST, WARM_UP = 400, 30, 100
TORCH_DEFAULTS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "1024", "LRU_CACHE_CAPACITY": "1024"}


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def fold(num_proteins: int) -> dict[str, float]:
    """Fold in this process. Megabytes after the longest, the most after WARM_UP proteins, and seconds of folding."""
    from foldatlas.folding.models import load

    draw = random.Random(0)
    predictor = load("nano")
    lengths = [draw.randint(SHORTEST, LONGEST) for _ in range(num_proteins)]
    sequences = ["M" + "".join(draw.choices("ACDEFGHIKLMNPQRSTVWY", k=length - 1)) for length in lengths]
    predictor.fold(["M" * LONGEST])
    after_longest, most = resident_mb(), 0.0
    wall, cpu = time.perf_counter(), time.process_time()
    for number, sequence in enumerate(sequences):
        predictor.fold([sequence])
        if number >= WARM_UP:
            most = max(most, resident_mb())
    return {
        "longest_mb": after_longest,
        "most_mb": most,
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.perf_counter() - wall,
    }


def run(num_proteins: int, capacities: dict[str, str]) -> dict[str, float]:
    environment = {name: value for name, value in os.environ.items() if "CACHE_CAPACITY" not in name}
    environment |= {"OMP_NUM_THREADS": "1", **capacities}
    command = [sys.executable, __file__, "--proteins", str(num_proteins), "--here"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--proteins", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=3, help="0: the bounded run alone, once")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.proteins <= WARM_UP:
        parser.error(f"--proteins must be more than {WARM_UP}: memory counts after the first {WARM_UP}")
    if arguments.here:
        print(json.dumps(fold(arguments.proteins)))
        return
    kinds: dict[str, dict[str, str]] = {"bounded": {}, "defaults": TORCH_DEFAULTS}
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    for number in range(max(1, arguments.pairs)):
        order = ["bounded", "defaults"] if number % 2 == 0 else ["defaults", "bounded"]
        for kind in order if arguments.pairs else ["bounded"]:
            measured = run(arguments.proteins, kinds[kind])
            runs[kind].append(measured)
            print(json.dumps({"kind": kind} | measured), flush=True)
    for kind, done in runs.items():
        if done:
            print(f"{kind}: memory {max(one['most_mb'] / one['longest_mb'] for one in done):.3f} x the longest's")
    if arguments.pairs:
        for clock in ("cpu_s", "wall_s"):
            ratios = [b[clock] / d[clock] for b, d in zip(runs["bounded"], runs["defaults"], strict=True)]
            print(f"{clock}: bounded / defaults, median of {len(ratios)} pairs: {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
