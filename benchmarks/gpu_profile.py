"""Kernels of a computation by time, as torch's profiler counts them: for gpu_fold.py."""

import time
from collections.abc import Callable
from typing import Any, Final

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

_ROWS: Final = 40


def profile_table(compute: Callable[[], object], on_gpu: bool) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the kernels of `compute()` by descending time, on a CPU its operations, and a table of the first ones."""
    activities = [ProfilerActivity.CUDA] if on_gpu else [ProfilerActivity.CPU]
    with profile(activities=[*activities, *([ProfilerActivity.CPU] if on_gpu else [])]) as profiled:
        started = time.perf_counter()
        compute()
        if on_gpu:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
    kernels = []
    for event in profiled.key_averages():
        if on_gpu and event.device_type != DeviceType.CUDA:
            continue  # the operation that launched a kernel
        taken = (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1e6
        if taken > 0:
            kernels.append({"kernel": event.key[:200], "launches": event.count, "seconds": taken})
    kernels.sort(key=lambda kernel: -kernel["seconds"])
    total = sum(kernel["seconds"] for kernel in kernels)
    lines = [
        f"{total:.3f} s in {sum(kernel['launches'] for kernel in kernels):,} kernels, "
        f"{100 * total / seconds:.0f} % of {seconds:.3f} s with the profiler.",
        "",
        "| kernel | launches | ms | share |",
        "|---|---|---|---|",
    ]
    for kernel in kernels[:_ROWS]:
        name = kernel["kernel"][:100].replace("|", "/")
        share = 100 * kernel["seconds"] / total
        lines.append(f"| `{name}` | {kernel['launches']:,} | {1e3 * kernel['seconds']:.2f} | {share:.1f} % |")
    return kernels, lines
