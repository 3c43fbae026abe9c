"""`foldatlas serve` under mixed load while its index is rebuilt and processes of SQL statements are killed.

    python benchmarks/serve_load.py ATLAS [--seconds 600] [--rebuilds 5] [--kills 10] [--output FOLDER]

ATLAS is copied. Clients fetch structures, read pages, run statements and download a tar again and again. At even
intervals `foldatlas index --full` replaces the index, and the process of a statement that would run for long is
killed. Accepted are 200, 503 for a killed statement, and 503 for places that are taken. Exit code 1: any other status,
a body that is not whole, or memory (PSS of the server and its processes) that grows by more than a quarter from the
second fifth of the run to the last. Writes serve_load.md and serve_load.json.
"""

import argparse
import collections
import contextlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import requests
from machine import add_output, hardware, write_results

from foldatlas.atlas.reader import Atlas

PAUSE = 0.05  # seconds between requests of a client, so that the machine stays usable
SAMPLE_SECONDS = 5.0
GROWTH = 1.25
DOWNLOADED = 100  # proteins of a download
LONG = "SELECT count(*) FROM range(1000000000000) AS t(i) WHERE hash(i) = 7"


def children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def descendants(pid: int) -> list[int]:
    return [pid, *(each for child in children(pid) for each in descendants(child))]


def statements(server: int) -> list[int]:
    """Processes of statements: children of the template, which is a child of the server."""
    return [each for child in children(server) for each in children(child)]


def memory(server: int) -> float:
    """MB of the server and its processes; pages that several share count once."""
    total = 0
    for pid in descendants(server):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total / 1024


class Load:
    """Counts of answers by client and status, and what went wrong."""

    def __init__(self, url: str, server: int, ids: list[str], plddts: list[float]):
        """`ids` and `plddts` are the structure_id and the mean pLDDT of each protein, in the order of pages."""
        self.url, self.server, self.ids, self.plddts = url, server, ids, plddts
        self.downloaded = len(set(ids[:DOWNLOADED]))
        self.counts: collections.Counter[tuple[str, int]] = collections.Counter()
        self.slowest: collections.Counter[str] = collections.Counter()
        self.faults: list[str] = []
        self.stop = threading.Event()
        self.killed: set[int] = set()
        self._lock = threading.Lock()

    def fetch(self, draw: random.Random, session: requests.Session) -> tuple[int, bool]:
        answer = session.get(f"{self.url}/v1/structures/{draw.choice(self.ids)}", timeout=60)
        return answer.status_code, answer.content.rstrip().endswith(b"END")

    def page(self, draw: random.Random, session: requests.Session) -> tuple[int, bool]:
        least = draw.randint(40, 80)
        answer = session.get(f"{self.url}/v1/proteins?size=50&min_plddt={least}", timeout=60)
        expected = min(50, sum(plddt >= least for plddt in self.plddts))
        return answer.status_code, answer.status_code != 200 or len(answer.json()["items"]) == expected

    def sql(self, draw: random.Random, session: requests.Session) -> tuple[int, bool]:
        statement = "SELECT count(*) AS n FROM proteins WHERE mean_plddt > $least"
        least = draw.randint(0, 90)
        answer = session.post(f"{self.url}/v1/sql", json={"sql": statement, "params": {"least": least}}, timeout=60)
        expected = sum(plddt > least for plddt in self.plddts)
        return answer.status_code, answer.status_code != 200 or answer.json()[0]["n"] == expected

    def download(self, draw: random.Random, session: requests.Session) -> tuple[int, bool]:
        answer = session.get(f"{self.url}/v1/downloads/structures.tar?limit={DOWNLOADED}", timeout=120)
        if answer.status_code != 200:
            return answer.status_code, True
        with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
            names = tar.getnames()
        return 200, names[-1] == "manifest.jsonl" and len(names) == self.downloaded + 1

    def kill(self) -> None:
        """Run a long statement, and kill its process: the answer must be 503."""
        outcome: list[requests.Response] = []
        before = set(statements(self.server))
        client = threading.Thread(
            target=lambda: outcome.append(requests.post(f"{self.url}/v1/sql", json={"sql": LONG}, timeout=60))
        )
        client.start()
        while client.is_alive() and not outcome:
            for pid in set(statements(self.server)) - before:
                if _seconds(pid) > 0.5:  # the short ones end before
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                        self.killed.add(pid)
            time.sleep(0.05)
        client.join()
        self._count("killed", outcome[0].status_code, outcome[0].status_code == 503)

    def run(self, name: str, ask: Callable[[random.Random, requests.Session], tuple[int, bool]]) -> None:
        draw, session = random.Random(name), requests.Session()
        while not self.stop.wait(PAUSE):
            begin = time.monotonic()
            try:
                status, whole = ask(draw, session)
            except requests.RequestException as error:
                self.faults.append(f"{name}: {type(error).__name__}: {error}"[:300])
                continue
            self.slowest[name] = max(self.slowest[name], round((time.monotonic() - begin) * 1e3))
            self._count(name, status, whole or status == 503)

    def _count(self, name: str, status: int, is_right: bool) -> None:
        with self._lock:
            self.counts[name, status] += 1
            if not is_right or status not in (200, 503):
                self.faults.append(f"{name}: status {status}")


def _seconds(pid: int) -> float:
    """Processor time of a process so far."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


@contextlib.contextmanager
def served(root: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "foldatlas.jobs.cli", "serve", str(root), "--port", "0", "--memory-limit", "1GB"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if line.startswith("serving "):
                threading.Thread(target=process.stderr.read, daemon=True).start()
                yield process, line.split()[-1]
                return
        raise RuntimeError("the server did not start")
    finally:
        process.terminate()
        process.wait(60)


def load(root: Path, seconds: float, rebuilds: int, kills: int) -> dict[str, Any]:
    with Atlas.open(root) as atlas:
        proteins = atlas.sql("SELECT structure_id, mean_plddt FROM proteins ORDER BY structure_id, id, source").rows()
    with served(root) as (process, url):
        run = Load(url, process.pid, [str(identity) for identity, _ in proteins], [plddt for _, plddt in proteins])
        clients = {"fetch": run.fetch, "page": run.page, "sql": run.sql, "download": run.download}
        threads = [threading.Thread(target=run.run, args=each, daemon=True) for each in clients.items()]
        for thread in threads:
            thread.start()
        first = requests.get(f"{url}/healthz", timeout=60).json()
        begin = time.monotonic()
        due = sorted(
            [((n + 0.5) * seconds / rebuilds, "rebuild") for n in range(rebuilds)]
            + [((n + 0.7) * seconds / kills, "kill") for n in range(kills)]
        )
        samples: list[tuple[float, float]] = []
        while (now := time.monotonic() - begin) < seconds:
            samples.append((now, memory(process.pid)))
            while due and due[0][0] <= now:
                _, what = due.pop(0)
                if what == "kill":
                    run.kill()
                else:
                    command = [sys.executable, "-m", "foldatlas.jobs.cli", "index", str(root), "--full"]
                    subprocess.run(command, check=True, capture_output=True)
            time.sleep(min(SAMPLE_SECONDS, seconds / 50))
        samples.append((time.monotonic() - begin, memory(process.pid)))
        run.stop.set()
        for thread in threads:
            thread.join(120)
        last = requests.get(f"{url}/healthz", timeout=60).json()
        opened = next(
            float(line.split()[1])
            for line in requests.get(f"{url}/metrics", timeout=60).text.splitlines()
            if line.startswith("foldatlas_indexes_opened ")
        )

    whole = samples[-1][0]

    def peak(begin: float, end: float) -> float:
        return max(size for at, size in samples if begin * whole <= at <= end * whole)

    early, late = peak(0.2, 0.4), peak(0.8, 1.0)
    faults = list(run.faults)
    if late > GROWTH * early:
        faults.append(f"memory grew from {early:.0f} to {late:.0f} MB")
    if opened != rebuilds + 1 or last["indexed"] == first["indexed"]:
        faults.append(f"{opened:.0f} indexes were opened, {rebuilds + 1} published")
    if len(run.killed) < kills:
        faults.append(f"{len(run.killed)} of {kills} processes were killed")
    return {
        "seconds": seconds, "rebuilds": rebuilds, "killed": len(run.killed), "structures": len(set(run.ids)),
        "answers": {f"{name} {status}": number for (name, status), number in sorted(run.counts.items())},
        "slowest_ms": dict(run.slowest), "memory_mb": {"early": early, "late": late},
        "samples": [[round(at), round(size)] for at, size in samples], "faults": faults,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("atlas", type=Path)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--rebuilds", type=int, default=5)
    parser.add_argument("--kills", type=int, default=10)
    add_output(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        root = Path(work) / "atlas"
        shutil.copytree(arguments.atlas, root)
        found = load(root, arguments.seconds, arguments.rebuilds, arguments.kills)
    found = {"date": date.today().isoformat(), "hardware": hardware(), **found}
    lines = [
        f"# Server under load for {found['seconds']:.0f} s: {found['structures']:,} structures",
        "",
        f"{found['date']}, {found['hardware']} (shared with other work). The index was rebuilt "
        f"{found['rebuilds']} times, {found['killed']} processes of statements were killed.",
        "",
        "| client | status | answers | slowest, ms |",
        "|---|---|---|---|",
        *(
            f"| {name} | {status} | {number:,} | {found['slowest_ms'].get(name, '')} |"
            for (name, status), number in ((each.split(), number) for each, number in found["answers"].items())
        ),
        "",
        f"Memory of the server and its processes: at most {found['memory_mb']['early']:.0f} MB in the second fifth of "
        f"the run, {found['memory_mb']['late']:.0f} MB in the last. Faults: {len(found['faults'])}.",
    ]
    write_results(arguments.output, "serve_load", found, lines)
    for fault in found["faults"][:20]:
        print(fault, file=sys.stderr)
    sys.exit(1 if found["faults"] else 0)


if __name__ == "__main__":
    main()
