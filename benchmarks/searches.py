"""Searches over HTTP in an atlas of 100,000 structures: latency, processor time and memory by kind.

    python benchmarks/searches.py ../shared/data/chains.parquet [--structures 100000] [--queries 10] [--atlas FOLDER]

The atlas is that of benchmarks/export.py: experimental chains, perturbed, about 50 of each, with random embeddings.
Queries are random structures of the atlas, one after the other. Latency is from the request to the hits, as a client
sees it, with the load of the machine. Processor time is that of the server and of the processes of searches, the start
of these included; memory is the greatest of a process: private, and with mapped files that it read. Embeddings are
compared by usearch and, in the same process, by numpy. Writes searches.md and searches.json.

    python benchmarks/searches.py ../shared/data/chains.parquet --structures 20000 --times 5 25

measures larger databases without their disk: the segments are listed several times in the database, so that each search
compares with all of them so many times. Processor time and private memory are those of a database of that size;
resident memory and reading from a disk are not. Writes searches_scale.md and searches_scale.json.
"""

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import numpy as np
from export import make_atlas
from machine import add_output, hardware, write_results

from foldatlas.atlas.client import Client
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.serve.search.documents import DOCUMENT, read_database
from foldatlas.atlas.serve.search.embeddings import search_embeddings
from foldatlas.atlas.serve.search.segments import SegmentArrays
from foldatlas.folding.compare.experimental import read_chains

HITS = 100


def processor_seconds(pid: int) -> float:
    """User and system time of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


class Memory:
    """Samples the processes below `pid`: the greatest private and resident memory of one, in MB."""

    def __init__(self, pid: int):
        self._pid = pid
        self.private = self.resident = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(0.02):
            waiting = [self._pid]
            while waiting:
                pid = waiting.pop()
                try:
                    for task in Path(f"/proc/{pid}/task").iterdir():
                        waiting += map(int, (task / "children").read_text().split())
                    values = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
                except (OSError, ValueError):
                    continue
                if pid != self._pid and "RssAnon" in values:
                    self.private = max(self.private, int(values["RssAnon"].split()[0]) / 1000)
                    self.resident = max(self.resident, int(values["VmRSS"].split()[0]) / 1000)


def build(atlas: Path, root: Path) -> dict[str, float]:
    """Build the search database in a process of its own."""
    command = [sys.executable, "-m", "foldatlas.jobs.cli", "index", str(atlas), "--search-folder", str(root)]
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    database = read_database(root)
    assert database is not None
    return {
        "processor_seconds": spent, "seconds": time.perf_counter() - begin, "peak_mb": after.ru_maxrss / 1000,
        "structures": database.structures, "residues": database.residues, "dimension": database.dimension,
        "bytes": sum(segment.bytes for segment in database.segments),
        "embedding_bytes": 2 * database.embeddings * database.dimension,
    }  # fmt: skip


def ask(client: Client, server: int, queries: list[dict[str, Any]]) -> dict[str, float]:
    """Search with each query; the first is not counted."""
    client.search(**queries[0])
    taken, hits = [], []
    with Memory(server) as memory:
        begin = processor_seconds(server)
        for query in queries[1:]:
            start = time.perf_counter()
            found = client.search(**query)
            taken.append(time.perf_counter() - start)
            assert found["state"] == "done", found
            hits.append(len(found["hits"]))
        spent = processor_seconds(server) - begin
    return {
        "processor_seconds": spent / len(taken), "median": median(taken), "greatest": max(taken),
        "hits": median(hits), "private_mb": memory.private, "resident_mb": memory.resident,
    }  # fmt: skip


def measure(atlas: Path, root: Path, chosen: list[tuple[str, str]]) -> dict[str, dict[str, float]]:
    """Search with each kind of query on a server of its own. Return what was measured, by kind."""
    command = [sys.executable, "-m", "foldatlas.jobs.cli", "serve", str(atlas), "--port", "0"]
    with subprocess.Popen([*command, "--search-folder", str(root)], stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        client = Client(next(line for line in server.stderr if line.startswith("serving ")).split()[-1])
        kinds = {
            "sequence": [{"kind": "sequence", "sequence": sequence, "limit": HITS} for _, sequence in chosen],
            "structure": [{"kind": "structure", "name": name, "limit": HITS} for name, _ in chosen],
            "uploaded structure": [
                {"kind": "structure", "structure": client.structure(name), "limit": HITS} for name, _ in chosen
            ],
            "embedding": [{"kind": "embedding", "name": name, "limit": HITS} for name, _ in chosen],
        }
        asked = {kind: ask(client, server.pid, queries) for kind, queries in kinds.items()}
        server.terminate()
    return asked


def measure_scale(
    atlas: Path, root: Path, chosen: list[tuple[str, str]], times: list[int]
) -> tuple[dict[str, Any], list[str]]:
    """Measure with the segments listed so many times. Return what was measured, and lines of a table."""
    database = read_database(root)
    assert database is not None
    found: dict[str, Any] = {}
    for number in times:
        larger = msgspec.structs.replace(database, segments=database.segments * number)
        (root / DOCUMENT).write_bytes(msgspec.json.encode(larger))
        found[f"{database.structures * number:,}"] = measure(atlas, root, chosen)
    lines = [
        f"# Searches of more structures: segments of {database.structures:,} structures, listed several times",
        "",
        f"{date.today()}, {hardware()}, load {os.getloadavg()[0]:.0f}, {len(chosen) - 1} queries of a kind, "
        f"{HITS} hits, embeddings of {database.dimension:,} channels. Processor time and private memory are those of a "
        "database of that size whose pages are in memory.",
        "",
        "| structures | kind | processor seconds | median latency, s | greatest, s | private memory, MB |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {structures} | {kind} | {one['processor_seconds']:.2f} | {one['median']:.2f} | {one['greatest']:.2f} "
        f"| {one['private_mb']:.0f} |"
        for structures, asked in found.items()
        for kind, one in asked.items()
    ]
    return found, lines


def compare_embeddings(root: Path, repeats: int = 5) -> dict[str, float]:
    """Processor seconds of one query by usearch and by numpy, over the same mapped vectors."""
    database = read_database(root)
    assert database is not None
    segments = [SegmentArrays(root, segment) for segment in database.segments]
    vector = np.random.default_rng(0).normal(size=database.dimension).astype(np.float32)

    def by_numpy() -> None:
        for one in segments:
            for start in range(0, one.segment.embeddings, 16_384):
                one.embeddings[start : start + 16_384].astype(np.float32) @ vector

    def by_usearch() -> None:
        search_embeddings(segments, vector, limit=HITS, on_progress=lambda phase, fraction: None)

    found = {}
    for name, work in (("usearch", by_usearch), ("numpy", by_numpy)):
        work()
        begin = time.process_time()
        for _ in range(repeats):
            work()
        found[name] = (time.process_time() - begin) / repeats
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chains", type=Path)
    parser.add_argument("--structures", type=int, default=100_000)
    parser.add_argument("--channels", type=int, default=2_560, help="of embeddings; 2,560 as ESM-2 of 3 B parameters")
    parser.add_argument("--queries", type=int, default=10)
    parser.add_argument("--times", type=int, nargs="*", default=[], help="how often the segments are listed")
    parser.add_argument("--atlas", type=Path, help="folder of the atlas, which is made unless it exists")
    add_output(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        atlas, root = arguments.atlas or Path(work, "atlas"), Path(work, "search")
        if not atlas.exists():
            make_atlas(atlas, read_chains(arguments.chains), arguments.structures, arguments.channels)
        built = build(atlas, root)
        with Atlas.open(atlas) as opened:
            rows = opened.sql(
                "SELECT id, sequence FROM proteins JOIN sequences USING (structure_id) ORDER BY id"
            ).rows()
        chosen = random.Random(1).sample(rows, arguments.queries + 1)
        if arguments.times:
            write_results(arguments.output, "searches_scale", *measure_scale(atlas, root, chosen, arguments.times))
            return
        asked = measure(atlas, root, chosen)
        vectors = compare_embeddings(root)
    lines = [
        f"# Searches: {built['structures']:,} structures, {built['residues']:,} residues, embeddings of "
        f"{built['dimension']:,} channels",
        "",
        f"{date.today()}, {hardware()}, load {os.getloadavg()[0]:.0f}, {arguments.queries} queries "
        f"of a kind, one after the other, {HITS} hits.",
        "",
        f"The search database: {built['processor_seconds']:.0f} processor seconds, {built['seconds']:.0f} s elapsed, "
        f"{built['peak_mb']:,.0f} MB, {built['bytes'] / 1e6:,.0f} MB on disk, "
        f"{(built['bytes'] - built['embedding_bytes']) / built['residues']:.1f} bytes a residue without embeddings.",
        "",
        "| kind | processor seconds | median latency, s | greatest, s | hits | private memory, MB | resident, MB |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {kind} | {one['processor_seconds']:.2f} | {one['median']:.2f} | {one['greatest']:.2f} | "
            f"{one['hits']:.0f} | {one['private_mb']:.0f} | {one['resident_mb']:.0f} |"
            for kind, one in asked.items()
        ),
        "",
        f"Cosines of one vector to all: usearch {vectors['usearch']:.3f} processor seconds, numpy "
        f"{vectors['numpy']:.3f}, ratio {vectors['numpy'] / vectors['usearch']:.1f}.",
    ]
    write_results(arguments.output, "searches", {"built": built, "asked": asked, "embeddings": vectors}, lines)


if __name__ == "__main__":
    main()
