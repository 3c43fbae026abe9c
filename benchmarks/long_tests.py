"""Run the tests marked `long`, one file after another, and record outcome, elapsed and processor time of each.

    python benchmarks/long_tests.py [--output FOLDER] [FILE[::TEST] ...]

Without FILE all run. What ran replaces its rows in long_tests.json and other rows remain, so a long run can be
continued, and repeated for what was mended; long_tests.md is written anew after each file. Exit code 1 if a test
failed. Processor time is that of the test, set-up and tear-down included, and of the processes that it waited for.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from machine import add_output, hardware, write_results

ROOT = Path(__file__).parents[1]
PYTEST = [sys.executable, "-m", "pytest", "-m", "long", "-n", "0", "-q"]
NOTES = """Processor time in seconds (CPU s). Load: the machine's in the five minutes before the end of the file; beside
other work elapsed times (s) are upper bounds. A `+` after the commit: with uncommitted changes."""


def output_of(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout.strip()


def run(chosen: str, results: Path) -> dict[str, dict[str, Any]]:
    """Run the long tests of a file, or one of them; return what became of each, by its node id."""
    commit = output_of("git", "rev-parse", "--short", "HEAD") + "+" * bool(output_of("git", "status", "--porcelain"))
    print(output_of(*PYTEST, chosen, f"--junitxml={results}"), flush=True)
    file, load, found = chosen.partition("::")[0], round(os.getloadavg()[1]), {}
    for case in ElementTree.parse(results).iter("testcase"):
        ends = [(element.tag, element.get("message", "")) for element in case if element.tag != "properties"]
        outcome, reason = ends[0] if ends else ("passed", "")
        cpu = case.find("properties/property[@name='cpu_seconds']")
        found[f"{file}::{case.get('name')}"] = {
            "outcome": outcome, "reason": reason, "seconds": round(float(case.get("time", 0))),
            "cpu_seconds": None if cpu is None else round(float(cpu.get("value", 0))), "commit": commit, "load": load,
        }  # fmt: skip
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chosen", nargs="*", metavar="FILE[::TEST]")
    add_output(parser)
    arguments = parser.parse_args()
    record = arguments.output / "long_tests.json"
    rows: dict[str, dict[str, Any]] = json.loads(record.read_text()) if record.exists() else {}
    tests = [line for line in output_of(*PYTEST, "--collect-only").splitlines() if "::" in line]
    failed = False
    for chosen in arguments.chosen or dict.fromkeys(test.partition("::")[0] for test in tests):
        with tempfile.TemporaryDirectory() as folder:
            ran = run(chosen, Path(folder) / "results.xml")
        failed |= any(row["outcome"] not in ("passed", "skipped") for row in ran.values())
        rows = {test: (rows | ran)[test] for test in tests if test in rows | ran}  # without tests that are gone
        lines = ["# Tests marked `long`", "", f"{hardware()}; until {date.today()}", "", NOTES, ""]
        lines += ["| test | outcome | s | CPU s | commit | load |", "|---|---|---|---|---|---|"]
        for test, row in rows.items():
            outcome = " ".join([row["outcome"], *row["reason"].splitlines()[:1]]).replace("|", "/")[:200]
            columns = ("seconds", "cpu_seconds", "commit", "load")
            cells = [test.removeprefix("tests/"), outcome, *(str(row[column]) for column in columns)]
            lines.append(f"| {' | '.join(cells)} |")
        left = [test.removeprefix("tests/") for test in tests if test not in rows]
        write_results(arguments.output, "long_tests", rows, [*lines, "", f"Not run: {', '.join(left) or 'no test'}."])
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
