"""Time of each kernel on a GPU with other block sizes, warps and pipeline stages, beside its bound and plain torch.

    PYTHONPATH=.ide python benchmarks/gpu_sweep.py [--device cuda] [--lengths 128 384] [--width 128]

A batch has some 400,000 pairs. Each line is one kernel with one choice; the first choice is that of block_sizes() in
kernels/attention.py, projections.py and updates.py. The bound is an H200's: bytes read and written once, or operations
of the tensor cores, whichever takes longer. Choices that do not compile or fit are listed as such. Values are not
compared: after a change of block_sizes() run the tests marked `gpu`. With --device cpu and TRITON_INTERPRET=1 the file
can be tried without a GPU; its times mean nothing then.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from typing import Any, Final

import torch
from gpu_models import FLOP_PER_SECOND, HBM_PER_SECOND
from machine import add_output, hardware, write_results
from torch import Tensor

from foldatlas.folding.network.kernels import attention, launch, policy, projections, self_check, updates
from foldatlas.folding.network.kernels.policy import ATTENTION, TO_SEQUENCE, UPDATES, Case

PAIRS: Final = 400_000
CHOICES: Final[tuple[dict[str, int], ...]] = (
    {},
    {"num_stages": 1},
    {"num_stages": 3},
    {"num_stages": 4},
    {"num_warps": 8},
    {"BLOCK_N": 64},
    {"BLOCK_N": 128},
    {"BLOCK_M": 32},
    {"BLOCK_M": 128},
    {"BLOCK_M": 128, "num_warps": 8},
    {"BLOCK_M": 128, "BLOCK_N": 64, "num_warps": 8},
    {"BLOCK_M": 128, "BLOCK_N": 128, "num_warps": 8},
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--lengths", type=int, nargs="+", default=[128, 384])
    parser.add_argument("--width", type=int, default=128, choices=launch.WIDTHS)
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"of a batch (default {PAIRS:,})")
    parser.add_argument("--seconds", type=float, default=500, help="start no measurement after this (default 500)")
    add_output(parser)
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    found: dict[str, Any] = {
        "hardware": torch.cuda.get_device_name() if options.device.startswith("cuda") else hardware(),
        "torch": torch.__version__,
        "kernels": [],
        "updates": [],
    }
    for length in options.lengths:
        for update in UPDATES:
            if time.monotonic() < end:
                measure(update, options.device, options.width, length, options.pairs, found)
                write_results(options.output, "gpu_sweep", found, table(found))


def measure(update: str, device: str, width: int, length: int, pairs: int, found: dict[str, Any]) -> None:
    """Add times of `update` and of its kernels to `found`."""
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    case = Case(device, dtype, width, {ATTENTION: max(1, width // 32), TO_SEQUENCE: 32}.get(update, 0))
    layer = self_check.layers(update, case)[0]
    pair_BLLZ = torch.randn(max(1, pairs // length**2), length, length, width, device=device).to(dtype)
    mask_BL = torch.ones(pair_BLLZ.shape[:2], dtype=torch.bool, device=device)

    def run() -> Any:
        return layer(pair_BLLZ, mask_BL, length)

    row: dict[str, Any] = {"update": update, "length": length, "proteins": len(pair_BLLZ)}
    with torch.inference_mode():
        for name, forced in (("plain_ms", ()), ("kernels_ms", (update,))):
            with policy.forced(*forced):
                row[name] = 1e3 * seconds(run, device)
        found["updates"].append(row)
        for choice in CHOICES:
            made: list[launch.Launch] = []
            with chosen(choice), policy.forced(update), launch.recording(made.append):
                run()
            for one in made:
                is_made = all(one.options.get(name) == value for name, value in choice.items())
                # Channels of a step divide those of a pair, or addresses are outside of the weights.
                is_valid = one.name == "attention_kernel" or one.options.get("BLOCK_N", 0) <= width
                if is_made and is_valid:
                    found["kernels"].append({"length": length, "choice": choice, **timed(one, device)})


def timed(made: launch.Launch, device: str) -> dict[str, Any]:
    """Return the time of a recorded launch and its bound. Its large tensors, unwritten until now, get random values."""
    for value in made.arguments:
        if isinstance(value, Tensor) and value.ndim >= 4:
            value.normal_()
    entry = {"kernel": made.name, "bound_ms": 1e3 * bound(made)}
    try:
        entry["ms"] = 1e3 * seconds(
            lambda: launch.launch(made.kernel, made.grid, *made.arguments, **made.options), device
        )
    except Exception as error:  # of Triton's compiler or the driver: out of shared memory, for example
        entry["note"] = f"{type(error).__name__}: {' '.join(str(error).split())[:80]}"
    return entry


class chosen:
    """In its block, `choice` replaces values of block_sizes() of all kernels."""

    def __init__(self, choice: dict[str, int]):
        self._choice = choice
        self._real: dict[Any, Callable[[int], dict[str, int]]] = {}

    def __enter__(self) -> None:
        for module in (attention, projections, updates):
            real = self._real[module] = module.block_sizes
            module.block_sizes = lambda width, real=real: {**real(width), **self._choice}  # type: ignore[misc]

    def __exit__(self, *error: object) -> None:
        for module, real in self._real.items():
            module.block_sizes = real


def seconds(function: Callable[[], object], device: str) -> float:
    """Return the median time of `function`, of ten runs after two."""
    if not device.startswith("cuda"):
        started = time.perf_counter()
        function()
        return time.perf_counter() - started
    for _ in range(2):
        function()
    times = []
    for _ in range(10):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        function()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop) / 1e3)
    return statistics.median(times)


def bound(made: launch.Launch) -> float:
    """Return the seconds that an H200 needs at least for a launch."""
    tensors = [value for value in made.arguments if isinstance(value, Tensor)]
    width = made.options.get("Z") or made.options["H"] * made.options["K"]
    # of pairs, in the first three axes; the first tensor of other four axes is the product of triangle multiplication
    pair = next(tensor for tensor in tensors if tensor.ndim == 6 or (tensor.ndim == 4 and tensor.shape[3] == width))
    moved = sum(
        tensor.numel() * tensor.element_size() for tensor in {id(tensor): tensor for tensor in tensors}.values()
    )
    if made.name.endswith("update_kernel") or made.name == "transition_kernel":
        moved += max(tensor.numel() * tensor.element_size() for tensor in tensors if tensor.ndim == 4)
    pairs = math.prod(pair.shape[:3])
    products = {
        "attention_kernel": 4 * width * pair.shape[2],
        "projections_kernel": 8 * width**2,
        "factors_kernel": (8 if made.options.get("BOTH") else 4) * width**2,
        "multiplication_update_kernel": 4 * width**2,
        "attention_update_kernel": 2 * width**2,
        "transition_kernel": 16 * width**2,
        "sequence_update_kernel": width**2,
        "bias_kernel": 2 * width * made.options.get("H", 0),
    }[made.name]
    return max(moved / HBM_PER_SECOND, pairs * products / FLOP_PER_SECOND)


def table(found: dict[str, Any]) -> list[str]:
    lines = [
        "# Kernels with other block sizes",
        "",
        f"{found['hardware']}, torch {found['torch']}.",
        "",
        "| update | residues | proteins | plain torch, ms | kernels, ms | faster by |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["updates"]:
        times = f"{row['plain_ms']:.3f} | {row['kernels_ms']:.3f} | {row['plain_ms'] / row['kernels_ms']:.1f}"
        lines.append(f"| {row['update']} | {row['length']} | {row['proteins']} | {times} |")
    lines += ["", "| kernel | residues | choice | ms | share of the bound | |", "|---|---|---|---|---|---|"]
    for row in found["kernels"]:
        choice = ", ".join(f"{name} {value}" for name, value in row["choice"].items()) or "as used"
        times = f"{row['ms']:.3f} | {100 * row['bound_ms'] / row['ms']:.0f} %" if "ms" in row else " | "
        name = row["kernel"].removesuffix("_kernel")
        lines.append(f"| {name} | {row['length']} | {choice} | {times} | {row.get('note', '')} |")
    return lines


if __name__ == "__main__":
    main()
