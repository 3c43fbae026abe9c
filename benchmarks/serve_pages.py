"""Filtered pages of `foldatlas serve` at a given rate, on an index of many records.

    python benchmarks/serve_pages.py ATLAS [--rate 50] [--seconds 30] [--output FOLDER]

ATLAS is one of benchmarks/index.py, of which only the index is read. Each page has 100 proteins, conditions on pLDDT,
pTM and length, and in half of the cases a random key to begin after. Requests are sent at even intervals whether
earlier ones were answered or not; latency counts from when a request was due. Processor time is that of the server,
which a busy machine changes least. Writes serve_pages.md and serve_pages.json.
"""

import argparse
import concurrent.futures
import os
import random
import threading
import time
import uuid
from datetime import date
from pathlib import Path

import requests
from machine import add_output, hardware, write_results
from serve import pages, processor_seconds, serve

THREADS = 32


def measure(port: int, pid: int, paths: list[str], rate: float) -> dict[str, float]:
    """Send a request each 1 / rate seconds. Times are in milliseconds."""
    threads = threading.local()
    begin = time.perf_counter() + 0.5

    def ask(number: int) -> float:
        if not hasattr(threads, "session"):
            threads.session = requests.Session()
        due = begin + number / rate
        time.sleep(max(0.0, due - time.perf_counter()))
        answer = threads.session.get(f"http://127.0.0.1:{port}{paths[number]}", timeout=120)
        assert answer.status_code == 200, answer.text
        return (time.perf_counter() - due) * 1e3

    spent = processor_seconds(pid)
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        taken = sorted(pool.map(ask, range(len(paths))))
    return {
        "requests": len(paths),
        "rate": rate,
        "processor_ms": (processor_seconds(pid) - spent) / len(paths) * 1e3,
        "p50_ms": taken[len(taken) // 2],
        "p90_ms": taken[int(len(taken) * 0.9)],
        "p99_ms": taken[int(len(taken) * 0.99)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("atlas", type=Path)
    parser.add_argument("--rate", type=float, default=50)
    parser.add_argument("--seconds", type=float, default=30)
    add_output(parser)
    arguments = parser.parse_args()
    draw = random.Random(19)
    keys = [str(uuid.UUID(int=draw.getrandbits(128))) for _ in range(10_000)]
    process, port = serve(arguments.atlas)
    try:
        proteins = requests.get(f"http://127.0.0.1:{port}/healthz", timeout=60).json()["proteins"]
        # The table of the explorer is made in the background of a start.
        while requests.get(f"http://127.0.0.1:{port}/v1/explore/columns", timeout=600).status_code == 503:
            time.sleep(1)
        measure(port, process.pid, pages(draw, keys, 100), 10)  # imports, and what the system keeps of the index
        load = os.getloadavg()[0]
        found = measure(port, process.pid, pages(draw, keys, int(arguments.rate * arguments.seconds)), arguments.rate)
    finally:
        process.terminate()
        process.wait()
    result = {
        "date": date.today().isoformat(),
        "hardware": hardware(),
        "load": round(load, 1),
        "proteins": proteins,
        **found,
    }
    lines = [
        f"# Pages of 100 of {proteins:,} proteins, {arguments.rate:g} a second",
        "",
        f"{result['date']}, {result['hardware']}; {result['load']} runnable processes on the machine when it began.",
        "",
        "| requests | processor time, ms | p50, ms | p90, ms | p99, ms |",
        "|---|---|---|---|---|",
        f"| {found['requests']:,} | {found['processor_ms']:.1f} | {found['p50_ms']:.1f} | {found['p90_ms']:.1f} | "
        f"{found['p99_ms']:.1f} |",
    ]
    write_results(arguments.output, "serve_pages", result, lines)


if __name__ == "__main__":
    main()
