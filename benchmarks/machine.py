"""What benchmarks have in common: the machine that they ran on, and files of results."""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def hardware() -> str:
    """The processor, how many, and those of its instructions that matter here."""
    lines = Path("/proc/cpuinfo").read_text(encoding="ascii").splitlines()
    model = next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    flags = next(line for line in lines if line.startswith("flags")).split()
    found = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{model}, {os.cpu_count()} logical processors, {' '.join(found)}"


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add `--output`, the folder of results."""
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")


def write_results(folder: Path, name: str, found: Any, lines: Sequence[str]) -> None:
    """Write `found` to NAME.json and `lines` to NAME.md, and print these."""
    (folder / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    text = "\n".join(lines) + "\n"
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)
