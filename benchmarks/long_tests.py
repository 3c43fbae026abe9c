"""Run the tests marked `long`, one file after another, and record outcome, elapsed and processor time of each.

    python benchmarks/long_tests.py [--output FOLDER] [FILE[::TEST] ...]

Each FILE (default: all that have such tests) runs in a process of its own. What ran replaces its rows in
long_tests.json, and other rows remain: so a long run can be continued, and repeated for what was mended.
long_tests.md is written anew after each file. Exit code 1 if a test failed. Processor time is that of the test and of
the processes which it started and waited for, set-up and tear-down included.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from machine import add_output, hardware, write_results

ROOT = Path(__file__).parents[1]
PYTEST = [sys.executable, "-m", "pytest", "-m", "long", "-n", "0", "-q"]
HEADER = "| test | outcome | s | CPU s | commit | load |\n|---|---|---|---|---|---|"
LONG = 300  # seconds of processor time


def output_of(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def long_files() -> list[str]:
    listed = output_of(*PYTEST, "--collect-only").splitlines()
    return sorted({line.partition("::")[0] for line in listed if "::" in line})


def row(case: ElementTree.Element) -> dict[str, Any]:
    """Outcome and times of one test, from JUnit's XML."""
    outcome, reason = "passed", ""
    for element in case:
        if element.tag in ("failure", "error", "skipped"):
            outcome, reason = {"failure": "failed"}.get(element.tag, element.tag), element.get("message", "")
    cpu = case.find("properties/property[@name='cpu_seconds']")
    return {
        "test": case.get("name"), "outcome": outcome, "reason": reason,
        "seconds": float(case.get("time", 0)), "cpu_seconds": None if cpu is None else float(cpu.get("value", 0)),
    }  # fmt: skip


def run(chosen: str, folder: Path) -> list[dict[str, Any]]:
    """Run the long tests of a file, or one test. A run that ends without results is a row of its own."""
    results = folder / "results.xml"
    results.unlink(missing_ok=True)
    run_of = {
        "commit": output_of("git", "rev-parse", "--short", "HEAD"),
        "changed": output_of("git", "status", "--porcelain", "--", ".", ":!benchmarks/results").splitlines(),
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
    }
    done = subprocess.run([*PYTEST, chosen, f"--junitxml={results}"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    print(done.stdout, flush=True)
    load = {"load": os.getloadavg()[1]}  # of the last five minutes
    if not results.exists():
        lost = {"test": "(all)", "outcome": "failed", "reason": f"pytest ended with {done.returncode}, without results"}
        return [{**lost, "seconds": None, "cpu_seconds": None, **run_of, **load}]
    return [{**row(case), **run_of, **load} for case in ElementTree.parse(results).iter("testcase")]


def shown(number: float | None) -> str:
    return "-" if number is None else f"{number:,.0f}"


def table(files: dict[str, list[dict[str, Any]]]) -> list[str]:
    rows = [one for of_file in files.values() for one in of_file]
    counts = {name: sum(one["outcome"] == name for one in rows) for name in ("passed", "failed", "error", "skipped")}
    lines = [
        "# Tests marked `long`", "",
        f"`benchmarks/long_tests.py`, {hardware()}; {', '.join(f'{count} {name}' for name, count in counts.items())}; "
        f"{sum(one['cpu_seconds'] or 0 for one in rows):,.0f} s of processor time. `load` is the average of the "
        "machine's in the five minutes before the file's end: beside other work elapsed times are upper bounds. "
        "A `+` after the commit: with uncommitted changes.", "",
        f"Above {LONG} s of processor time: "
        + (", ".join(one["test"] for one in rows if (one["cpu_seconds"] or 0) > LONG) or "no test") + ".",
    ]  # fmt: skip
    for file, of_file in sorted(files.items()):
        lines += ["", f"## {file}", "", HEADER]
        for one in of_file:
            outcome = f"{one['outcome']}: {one['reason'].splitlines()[0]}" if one["reason"] else one["outcome"]
            commit = one["commit"] + ("+" if one["changed"] else "")
            times = f"{shown(one['seconds'])} | {shown(one['cpu_seconds'])}"
            lines.append(
                f"| {one['test']} | {outcome.replace('|', '/')[:200]} | {times} | {commit} | {one['load']:.0f} |"
            )
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE[::TEST]")
    add_output(parser)
    arguments = parser.parse_args()
    recorded = arguments.output / "long_tests.json"
    files = json.loads(recorded.read_text(encoding="utf-8")) if recorded.exists() else {}
    ran = arguments.files or long_files()
    with tempfile.TemporaryDirectory() as folder:
        failed = False
        for chosen in ran:
            rows = run(chosen, Path(folder))
            file, _, test = chosen.partition("::")
            now = {one["test"] for one in rows}
            files[file] = [one for one in files.get(file, []) if test and one["test"] not in now] + rows
            failed |= any(one["outcome"] in ("failed", "error") for one in rows)
            write_results(arguments.output, "long_tests", files, table(files))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
