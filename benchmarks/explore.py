"""What the explorer asks of a large atlas, over HTTP: beside the same on the view `proteins`, and beside a lower bound.

    python benchmarks/explore.py --millions 10 --folder DIR --note "machine shared with ..."

The atlas is that of benchmarks/index.py with a made map of 300 groups; it is made and indexed unless DIR/atlas exists.
Each request is asked several times with other numbers, so no answer is a kept one. Elapsed time is what a client
sees, load of the machine included, the least of them; processor time is that of the server, their mean, on two threads.
The bound is the time of one core to sum, with numpy, as many bytes as the columns of the request have uncompressed.
The rival is the histogram of one column, a count, and one page, by SQL on the view, with two threads.
"""

import argparse
import http.client
import json
import math
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import index
import numpy as np
from machine import add_output, hardware, write_results
from serve import processor_seconds

TIMES: Final = 3
GROUPS: Final = 300  # of the made map
RUN: Final = {"method": "tsne", "features": "composition", "seed": 0}


def write_map(atlas: Path, structures: int) -> None:
    """Add a run of `foldatlas project` with made positions of all structures of the first plan."""
    import pyarrow as pa

    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.parquet.files import ParquetFile
    from foldatlas.atlas.stages.run import StageRun
    from foldatlas.schemas.projection_tables import PROJECTION

    folder = AtlasFolder(atlas)
    ids = np.random.default_rng(index.SEED + 1).integers(0, 256, (structures, 16), dtype=np.uint8)  # as write_plan
    rng = np.random.default_rng(index.SEED)
    groups = rng.integers(0, GROUPS, structures)
    places = (rng.normal(0, 40, (GROUPS, 2))[groups] + rng.normal(0, 3, (structures, 2))).astype(np.float32)
    run = StageRun.begin(folder, "projections", settings=RUN, shards=(), notes={"used": [], "dropped": []})
    path = run.data_path("map", "whole", "a")
    with ParquetFile(folder.storage, path, "map", schema=PROJECTION) as file:
        for begin in range(0, structures, 100_000):
            part = slice(begin, begin + 100_000)
            x, y = (pa.array(places[part, axis].copy()) for axis in (0, 1))
            is_fitted = pa.array(np.arange(structures)[part] < 100_000)
            file.write(pa.table([index.uuids(ids[part]), x, y, is_fitted], schema=PROJECTION))
    assert file.entry is not None
    run.complete({"map": [file.entry]}, {"structures": structures, "fitted": 100_000})


def requests() -> dict[str, tuple[Callable[[random.Random], str], int]]:
    """Name -> the path of a request with random numbers, and the bytes that it reads of a row."""

    def brush(generator: random.Random) -> dict[str, str]:
        low = generator.uniform(20, 60)
        return {"range": f"mean_plddt:{low:.2f}:{low + 25:.2f}"}

    def path(route: str, **query: str) -> str:
        return f"/v1/explore/{route}?{urlencode(query)}"

    def lasso(generator: random.Random, corners: int) -> str:
        radius = generator.uniform(40, 60)
        angles = [2 * math.pi * k / corners for k in range(corners)]
        points = [
            (radius * (1 + 0.2 * math.sin(9 * a)) * math.cos(a), radius * (1 + 0.2 * math.sin(7 * a)) * math.sin(a))
            for a in angles
        ]
        return "projection:" + ",".join(f"{x:.3f},{y:.3f}" for x, y in points)

    return {
        "brush: 6 histograms": (lambda g: path("summary", **brush(g)), 6 + 4),
        "brush: all 23 histograms": (lambda g: path("summary", columns="all", **brush(g)), 23 + 4),
        "3 conditions, 6 histograms": (
            lambda g: path("summary", min_ptm=f"{g.uniform(0.2, 0.6):.3f}", choice="known:known", **brush(g)),
            6 + 4 + 4 + 1,
        ),
        "lasso of 100 corners, 6 histograms": (lambda g: path("summary", region=lasso(g, 100)), 6 + 8),
        "map, density, no color": (lambda g: path("map", map="projection", **brush(g)), 8 + 4),
        "map, density, number": (lambda g: path("map", map="projection", color="ptm", **brush(g)), 8 + 4 + 4),
        "map, density, known": (lambda g: path("map", map="projection", color="known", **brush(g)), 8 + 4 + 1),
        "map, density, 20 clusters": (
            lambda g: path("map", map="projection", color="cluster30", **brush(g)),
            8 + 4 + 1,
        ),
        "map, points of a window": (
            lambda g: path(
                "map", map="projection", color="known", x0="0", x1="1.5", y0=f"{g.uniform(0, 9):.3f}", y1="10"
            ),
            8,
        ),
        "rows by pTM": (lambda g: path("rows", sort="ptm", order="desc", **brush(g)), 4 + 4),
        "rows by id": (lambda g: path("rows", sort="id", **brush(g)), 4 + 4),
        "rows by nearest structure": (lambda g: path("rows", sort="nearest_structure", **brush(g)), 4 + 4),
        "members of a cluster: 6 histograms": (lambda g: path("summary", cluster30=str(g.choice(CLUSTERS))), 6),
        "page of 100 with a range": (
            lambda g: f"/v1/proteins?{urlencode(brush(g))}",
            4 + 4,
        ),
        "manifest of 10,000 fragments with a range": (
            lambda g: f"/v1/downloads/manifest.jsonl?limit=10000&fragment=true&{urlencode(brush(g))}",
            4 + 4 + 4 + 1,
        ),
        "typed, of records: id LIKE": (
            lambda g: path("summary", where=f"id LIKE 'contig_{g.randrange(100, 1000)}%'"),
            6 + 8,
        ),
        "typed, of both tables": (
            lambda g: path("summary", where=f"ptm > {g.uniform(0.2, 0.6):.3f} AND is_fragment"),
            6 + 8,
        ),
        "typed: ptm * mean_plddt > N": (
            lambda g: path("summary", where=f"ptm * mean_plddt > {g.uniform(20, 60):.3f}"),
            6 + 8,
        ),
    }


CLUSTERS: Final[list[Any]] = []


def ask(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    while True:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        if response.status != 503:
            assert response.status == 200, (response.status, path, body)
            return body
        time.sleep(1)


def children_seconds(pid: int) -> float:
    """Processor time of a process and of those that it started and that run."""
    total = processor_seconds(pid)
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            total += processor_seconds(int(child))
    return total


def bound(rows: int, row_bytes: int) -> float:
    """Seconds of one core to sum the bytes that a request reads at least."""
    data = np.ones(rows * row_bytes // 8, np.int64)
    taken = []
    for _ in range(3):
        begin = time.perf_counter()
        data.sum()
        taken.append(time.perf_counter() - begin)
    return min(taken)


def view(atlas: Path) -> dict[str, tuple[float, float]]:
    """Elapsed and processor seconds of what the explorer asks, by SQL on the view."""
    from foldatlas.atlas.reader import Atlas

    statements = {
        "histogram of one column": "SELECT floor(ptm * 50), count(*) FROM proteins WHERE mean_plddt BETWEEN 40 AND 65 "
        "GROUP BY 1",
        "page by pTM": "SELECT * FROM proteins WHERE mean_plddt BETWEEN 40 AND 65 ORDER BY ptm DESC, id LIMIT 50",
        "density": "SELECT floor(x), floor(y), count(*) FROM proteins JOIN projection USING (structure_id) "
        "WHERE mean_plddt BETWEEN 40 AND 65 GROUP BY ALL",
    }
    found = {}
    with Atlas.open(atlas) as opened:
        connection = opened.cursor("")
        connection.execute("SET threads = 2")
        for name, sql in statements.items():
            taken = []
            for _ in range(3):
                begin, used = time.perf_counter(), time.process_time()
                connection.execute(sql).fetchall()
                taken.append((time.perf_counter() - begin, time.process_time() - used))
            found[name] = min(wall for wall, _ in taken), statistics.mean(used for _, used in taken)
        CLUSTERS.extend(
            cluster
            for (cluster,) in opened.query(
                "SELECT cluster FROM clusters WHERE level = 'identity30' ORDER BY md5(cluster::VARCHAR) LIMIT 20"
            ).rows()
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=float, default=1)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--note", default="", help="what else the machine did")
    add_output(parser)
    options = parser.parse_args()
    atlas = options.folder / "atlas"
    if not atlas.exists():
        made = index.make(options.folder, options.millions)
        write_map(atlas, made["structures"])
        index.build(options.folder)
    by_view = view(atlas)
    command = [sys.executable, "-m", "foldatlas.jobs.cli", "serve", str(atlas), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    measured: dict[str, dict[str, float]] = {}
    generator = random.Random(20)
    try:
        port = next(int(line.rstrip().rpartition(":")[2]) for line in process.stderr if line.startswith("serving "))
        begin, used = time.perf_counter(), children_seconds(process.pid)
        columns = json.loads(ask(port, "/v1/explore/columns"))
        made_in = time.perf_counter() - begin, children_seconds(process.pid) - used
        for name in ("columns", "summary"):
            begin = time.perf_counter()
            ask(port, f"/v1/explore/{name}")
            print(f"{name}, kept: {time.perf_counter() - begin:.4f} s", flush=True)
        for name, (path, row_bytes) in requests().items():
            ask(port, path(generator))
            walls, sizes, used = [], [], children_seconds(process.pid)
            for _ in range(TIMES):
                asked = path(generator)
                begin = time.perf_counter()
                sizes.append(len(ask(port, asked)))
                walls.append(time.perf_counter() - begin)
            used = (children_seconds(process.pid) - used) / TIMES
            measured[name] = {
                "least_s": min(walls), "median_s": statistics.median(walls), "greatest_s": max(walls),
                "processor_s": used, "answer_bytes": statistics.mean(sizes),
                "bound_s": bound(columns["proteins"], row_bytes),
            }  # fmt: skip
            print(name, {key: round(value, 3) for key, value in measured[name].items()}, flush=True)
        peak = int(Path(f"/proc/{process.pid}/status").read_text().partition("VmHWM:")[2].split()[0]) / 1e6
    finally:
        process.terminate()
        process.wait()
    result = {
        "date": date.today().isoformat(), "hardware": hardware(), "python": platform.python_version(),
        "load": [round(x, 2) for x in os.getloadavg()], "note": options.note, "proteins": columns["proteins"],
        "table_s": made_in[0], "table_processor_s": made_in[1], "peak_gb": peak, "measured": measured, "view": by_view,
    }  # fmt: skip
    lines = [
        f"# The explorer's requests: {columns['proteins']:,} proteins",
        "",
        f"{result['date']}, {result['hardware']}, load {result['load'][0]}; {options.note}",
        "",
        f"Table made in {made_in[0]:.0f} s, {made_in[1]:.0f} s of processor time; memory of the server at most "
        f"{peak:.1f} GB.",
        "",
        "| request | least, s | median, s | greatest, s | processor, s | bound, s | answer, kB |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {row['least_s']:.2f} | {row['median_s']:.2f} | {row['greatest_s']:.2f} | {row['processor_s']:.2f} "
        f"| {row['bound_s']:.3f} | {row['answer_bytes'] / 1e3:,.0f} |"
        for name, row in measured.items()
    ]
    lines += ["", "Of a typed condition the processor time leaves out that of its confined process, which has ended."]
    lines += ["", "| on the view | least, s | processor, s |", "|---|---|---|"]
    lines += [f"| {name} | {wall:.2f} | {used:.2f} |" for name, (wall, used) in by_view.items()]
    write_results(options.output, "explore", result, lines)


if __name__ == "__main__":
    main()
