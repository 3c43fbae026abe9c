"""What benchmarks say of the machine that they ran on."""

import os
from pathlib import Path


def hardware() -> str:
    """The processor, how many, and those of its instructions that matter here."""
    lines = Path("/proc/cpuinfo").read_text(encoding="ascii").splitlines()
    model = next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    flags = next(line for line in lines if line.startswith("flags")).split()
    found = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{model}, {os.cpu_count()} logical processors, {' '.join(found)}"
