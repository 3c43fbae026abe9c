"""Time and memory of the report of a large made-up atlas, that of benchmarks/index.py.

python benchmarks/report.py --millions 10 --folder DIR --note "machine shared with ..."

The atlas is made and indexed unless DIR/atlas exists. Peak memory is the kernel's figure for the process (VmHWM): the
index, which is mapped and cached, counts. The made atlas has no coordinates, so no structure is shown: those of another
atlas cost some 20 ms each, whatever its size. There is no rival: the figures are compared with pyarrow in a test.
"""

import argparse
import datetime
import os
import platform
import sys
import time
from pathlib import Path
from typing import Final

import duckdb
import index
from machine import hardware

from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.report.content import read_content
from foldatlas.atlas.report.page import report_html

RESULT: Final = Path(__file__).with_name("results") / "report.md"


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=float, default=10)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--memory", default="4GB", help="limit of DuckDB's memory")
    parser.add_argument("--note", default="")
    options = parser.parse_args(arguments)
    if not (options.folder / "atlas").exists():
        index.make(options.folder, options.millions)
        index.build(options.folder)

    begun, processor = time.perf_counter(), time.process_time()
    with Atlas.open(options.folder / "atlas", memory_limit=options.memory) as atlas:
        content = read_content(atlas)
        page = report_html(content)
        seconds, processor = time.perf_counter() - begun, time.process_time() - processor
        status = Path("/proc/self/status").read_text(encoding="ascii")
        peak = int(status.partition("VmHWM:")[2].split()[0]) / 1e6
        connection = atlas.cursor("")
        totals = content.figures["summary"].only
        times = {}
        for name, figure in content.figures.items():
            if figure.sql:
                each, used = time.perf_counter(), time.process_time()
                connection.execute(figure.sql).fetchall()
                times[name] = (time.perf_counter() - each, time.process_time() - used)

    lines = [
        "# The report of a large atlas",
        "",
        f"- date: {datetime.date.today()}",
        f"- hardware: {hardware()}",
        f"- python {platform.python_version()}, duckdb {duckdb.__version__}, DuckDB's memory at most {options.memory}",
        f"- load average at the end: {os.getloadavg()[0]:.1f}; {options.note}",
        "",
        f"`benchmarks/report.py --millions {options.millions:g}`: {totals['proteins']:,} proteins, an index of "
        f"{(options.folder / 'atlas' / 'atlas.duckdb').stat().st_size / 1e9:.1f} GB.",
        "",
        f"**{seconds:.1f} s**, {processor:.1f} s of processor time, {peak:.1f} GB at most; a page of "
        f"{len(page.encode()) / 1e6:.2f} MB.",
        "",
        "| figure | s | processor s |",
        "|---|---|---|",
        *(f"| {name} | {wall:.2f} | {used:.2f} |" for name, (wall, used) in times.items()),
    ]
    RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main(sys.argv[1:])
