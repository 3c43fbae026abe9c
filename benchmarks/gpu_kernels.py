"""Registers, spills and shared memory of every kernel for compute capabilities 80, 90 and 100, without a GPU.

    PYTHONPATH=.ide python benchmarks/gpu_kernels.py [--widths 32 64 128 256]

Needs Triton (`scripts/install gpu-test`). The table goes to benchmarks/results/gpu_kernels_VERSION.{md,json}, where
VERSION is Triton's: 3.6.0 comes with torch 2.11, 3.7.1 with torch 2.13.
"""

import argparse

import torch
import triton
from machine import add_output, write_results

from foldatlas.folding.network.kernels.resources import SHARED_MEMORY, Resources, launches, resources

HEADS = {32: 1, 64: 2, 128: 4, 256: 8}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=sorted(HEADS), choices=sorted(HEADS))
    add_output(parser)
    options = parser.parse_args()
    found = [
        resources(launch, capability)
        for width in options.widths
        for launch in launches(width, HEADS[width])
        for capability in SHARED_MEMORY
    ]
    versions = {"triton": triton.__version__, "torch": torch.__version__}
    write_results(
        options.output,
        f"gpu_kernels_{triton.__version__}",
        {**versions, "kernels": [one.as_dict() for one in found]},
        [
            f"# Resources of the kernels, Triton {triton.__version__}, torch {torch.__version__}",
            "",
            "Compiled for bfloat16 at 384 residues without a GPU; nothing here was run. `blocks` is how many fit a",
            "multiprocessor at a time. `benchmarks/gpu_kernels.py` makes this table.",
            "",
            "| kernel | channels | capability | registers | spilled bytes | shared memory | threads | blocks | "
            "tensor cores |",
            "|---|---|---|---|---|---|---|---|---|",
            *map(line, found),
        ],
    )


def line(one: Resources) -> str:
    cells = (
        one.kernel.removesuffix("_kernel"),
        one.width,
        one.capability,
        one.registers,
        one.spills,
        f"{one.shared_memory:,}",
        one.threads,
        one.blocks,
        one.instructions or "none",
    )
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
