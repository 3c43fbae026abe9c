"""`foldatlas serve` under load on loopback, beside a static file server for the same bytes in the same run.

    python benchmarks/serve.py ../shared/data/chains.parquet [--structures 100000] [--requests 3000] [--atlas FOLDER]

The atlas is that of benchmarks/export.py: experimental chains, perturbed. Random structures, none twice, so nothing is
cached but what the system keeps of files; then one structure again and again; then pages of 100 proteins with random
filters and keys. The static server is Starlette's StaticFiles behind uvicorn, with the PDB files of the first requests.
Throughput is requests per processor second of the server, which a busy machine changes least; latency is what a client
sees with two connections, the load of the machine included. Writes serve.md and serve.json.
"""

import argparse
import http.client
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from export import make_atlas
from machine import add_output, hardware, write_results

from foldatlas.atlas.reader import Atlas
from foldatlas.folding.compare.experimental import read_chains

CONNECTIONS = 2
STATIC = """
import sys, uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
app = Starlette(routes=[Mount("/", StaticFiles(directory=sys.argv[1]))])
config = uvicorn.Config(app, port=int(sys.argv[2]), access_log=False, log_level="error", http="h11", loop="asyncio")
uvicorn.Server(config).run()
"""


def processor_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(port: int, pid: int, paths: Sequence[str]) -> dict[str, float]:
    """Ask for every path once, over CONNECTIONS connections. Times are in milliseconds."""
    taken: list[float] = []
    size = 0
    lock = threading.Lock()

    def ask(mine: Sequence[str]) -> None:
        nonlocal size
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        for path in mine:
            begin = time.perf_counter()
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
            took = time.perf_counter() - begin
            assert response.status == 200, (response.status, path)
            with lock:
                taken.append(took)
                size += len(body)

    threads = [threading.Thread(target=ask, args=(paths[n::CONNECTIONS],)) for n in range(CONNECTIONS)]
    spent, begin = processor_seconds(pid), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall, cpu = time.perf_counter() - begin, processor_seconds(pid) - spent
    taken.sort()
    return {
        "requests": len(paths),
        "per_processor_second": len(paths) / cpu,
        "per_second": len(paths) / wall,
        "p50_ms": taken[len(taken) // 2] * 1e3,
        "p99_ms": taken[int(len(taken) * 0.99)] * 1e3,
        "mean_bytes": size / len(paths),
    }


def fetch(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", path)
    return connection.getresponse().read()


def serve(atlas: Path) -> tuple[subprocess.Popen[str], int]:
    """Start the server. Return it and its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "foldatlas.jobs.cli", "serve", str(atlas), "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("serving "):
            return process, int(line.rstrip().rpartition(":")[2])
    raise RuntimeError("the server did not start")


def pages(generator: random.Random, ids: Sequence[str], number: int) -> list[str]:
    """Paths of pages of 100 proteins with a condition each on pLDDT, pTM and length, at the beginning and elsewhere."""
    from uuid import UUID

    from foldatlas.atlas.serve.filters import Key

    paths = []
    for _ in range(number):
        query = (
            f"size=100&min_plddt={generator.uniform(40, 85):.1f}&min_ptm={generator.uniform(0, 0.8):.2f}"
            f"&max_length={generator.randint(100, 600)}"
        )
        if generator.random() < 0.5:
            query += f"&after={Key(UUID(generator.choice(ids)), '', '').text()}"
        paths.append(f"/v1/proteins?{query}")
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("chains")
    parser.add_argument("--structures", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=3_000)
    parser.add_argument("--atlas", type=Path, help="made by an earlier run of this script")
    add_output(parser)
    arguments = parser.parse_args()
    generator = random.Random(19)
    with tempfile.TemporaryDirectory() as work:
        root = arguments.atlas or Path(work) / "atlas"
        if not root.exists():
            make_atlas(root, read_chains(arguments.chains), arguments.structures)
        with Atlas.open(root) as atlas:
            ids = [str(identity) for (identity,) in atlas.sql("SELECT structure_id FROM scores").rows()]
            names = [name for (name,) in atlas.sql("SELECT id FROM proteins").rows()]
            [(residues,)] = atlas.sql("SELECT mean(length) FROM scores").rows()
        chosen = generator.sample(ids, 2 * arguments.requests)
        by_hash, cif = chosen[: arguments.requests], chosen[arguments.requests :]
        process, port = serve(root)
        found: dict[str, dict[str, float]] = {}
        try:
            for path in pages(generator, ids, 20) + [f"/v1/structures/{each}" for each in generator.sample(ids, 50)]:
                fetch(port, path)  # imports, tables of texts
            count = arguments.requests
            found["structures by structure_id"] = load(port, process.pid, [f"/v1/structures/{i}" for i in by_hash])
            found["structures by id"] = load(
                port, process.pid, [f"/fetchPredictedStructure/{i}.pdb" for i in generator.sample(names, count)]
            )
            found["structures as mmCIF"] = load(port, process.pid, [f"/v1/structures/{i}?format=cif" for i in cif])
            found["one structure again"] = load(port, process.pid, [f"/v1/structures/{by_hash[-1]}"] * count)
            found["pages of 100"] = load(port, process.pid, pages(generator, ids, count // 3))
            files = Path(work) / "files"
            files.mkdir()
            for identity in by_hash:
                (files / f"{identity}.pdb").write_bytes(fetch(port, f"/v1/structures/{identity}"))
        finally:
            process.terminate()
            process.wait()
        static = subprocess.Popen([sys.executable, "-c", STATIC, str(files), str(port)])
        try:
            for _ in range(600):
                try:
                    fetch(port, f"/{by_hash[0]}.pdb")
                    break
                except ConnectionError:
                    time.sleep(0.1)
            found["static files"] = load(port, static.pid, [f"/{identity}.pdb" for identity in by_hash])
        finally:
            static.terminate()
            static.wait()
    result: dict[str, Any] = {
        "date": date.today().isoformat(), "hardware": hardware(), "load": [round(x, 2) for x in os.getloadavg()],
        "structures": len(ids), "mean_length": residues, "connections": CONNECTIONS, "measured": found,
    }  # fmt: skip
    lines = [
        f"# Server: {len(ids):,} structures of {residues:.0f} residues on average",
        "",
        f"{result['date']}, {result['hardware']}, load {result['load'][0]} (the machine was shared), {CONNECTIONS} "
        "connections on loopback, one server process.",
        "",
        "| requests | per processor second | per second | p50, ms | p99, ms | mean bytes |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in found.items():
        lines.append(
            f"| {name} | {row['per_processor_second']:.0f} | {row['per_second']:.0f} | {row['p50_ms']:.1f} | "
            f"{row['p99_ms']:.1f} | {row['mean_bytes']:,.0f} |"
        )
    write_results(arguments.output, "serve", result, lines)


if __name__ == "__main__":
    main()
