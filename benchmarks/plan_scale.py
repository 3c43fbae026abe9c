"""Time, memory and disk of planning, by the number of records: a process of its own for each size.

python benchmarks/plan_scale.py --from staged --millions 1 5 20 --folder DIR
python benchmarks/plan_scale.py --from fasta --millions 1 5 --folder DIR

`staged` begins at the staged tables that reading leaves, `fasta` at one FASTA file, so reading and Beam's embedded
engine are in it. The proteins are made up, the same each time: lengths of a metagenome (log-normal, median 160),
Prodigal's headers; a tenth are copies of others under an id of their own, one record in a thousand has the id and the
sequence of another, and one in two thousand its id alone. Peak memory is the kernel's own figure for the whole process
(VmHWM; what is mapped from files counts); disk is looked at ten times a second. About 900 bytes of disk a record are
taken while it runs, 450 more by the FASTA file.
"""

import argparse
import datetime
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from machine import hardware

RESULTS: Final = Path(__file__).with_name("results")
SEED: Final = 7
BLOCK: Final = 200_000  # records made at once, a range's worth
MEDIAN_LENGTH: Final = 160
SPREAD: Final = 0.75  # of the logarithm of the length
MAX_LENGTH: Final = 1280
RESIDUES: Final = "ARNDCQEGHILKMFPSTWYV"
POOL_BYTES: Final = 1 << 24  # sequences are pieces of it: fast to make
COPIES: Final = 0.1
REPEATED: Final = 0.001  # id and sequence of another record
DUPLICATE_IDS: Final = 0.0005  # the id of another record
MODEL: Final = "nano"
DEVICE_MFLOP_PER_SECOND: Final = 20_000.0
Block = list[tuple[str, str]]  # (id, sequence)


def blocks(num_records: int) -> Iterator[Block]:
    """The records in order, a block at a time. Copies are of any earlier block's first records."""
    generator = np.random.default_rng(SEED)
    pool = bytes(generator.choice(np.frombuffer(RESIDUES.encode(), np.uint8), POOL_BYTES)).decode()
    places = np.empty((0, 2), np.int64)  # (start, length) of what copies are taken from
    for first in range(0, num_records, BLOCK):
        count = min(BLOCK, num_records - first)
        lengths = np.exp(generator.normal(np.log(MEDIAN_LENGTH), SPREAD, count)).astype(np.int64)
        mine = np.column_stack([generator.integers(0, POOL_BYTES - 20_000, count), np.clip(lengths, 30, 20_000)])
        places = np.concatenate([places, mine[: BLOCK // 10]])
        is_copy = generator.random(count) < COPIES
        mine[is_copy] = places[generator.integers(0, len(places), int(is_copy.sum()))]
        chance, other = generator.random(count), generator.integers(0, count, count)
        block: Block = []
        for number, (start, length) in enumerate(mine.tolist()):
            record = first + number
            id_ = f"contig_{record // 900}_{record % 900 + 1}"
            if chance[number] < REPEATED + DUPLICATE_IDS and other[number] < number:
                id_, sequence = block[other[number]]
                if chance[number] > REPEATED:
                    sequence = pool[start : start + length]
            else:
                sequence = pool[start : start + length]
            block.append((id_, sequence))
        yield block


def description(record: int, length: int) -> str:
    gene = record % 900 + 1
    return (
        f"# {gene * 1000} # {gene * 1000 + 3 * length} # 1 # ID={record // 900}_{gene};partial=00;"
        "start_type=ATG;rbs_motif=GGAG/GAGG;rbs_spacer=5-10bp;gc_cont=0.482"
    )


def write_fasta(path: Path, num_records: int) -> None:
    record = 0
    with path.open("w", encoding="ascii") as file:
        for block in blocks(num_records):
            for id_, sequence in block:
                lines = "\n".join(sequence[at : at + 60] for at in range(0, len(sequence), 60))
                file.write(f">{id_} {description(record, len(sequence))}\n{lines}\n")
                record += 1


def write_staged(folder: Path, num_records: int) -> list[Path]:
    """What reading such a FASTA file leaves, without reading one; offsets as if its lines were not broken."""
    import fastcrc
    import pyarrow as pa

    from foldatlas.atlas.parquet.files import ParquetFile
    from foldatlas.schemas.tables import STAGING

    paths: list[Path] = []
    record = offset = 0
    for block in blocks(num_records):
        columns: dict[str, list[Any]] = {name: [] for name in STAGING.names}
        for id_, sequence in block:
            text, letters = description(record, len(sequence)), sequence.encode()
            fits = len(letters) <= MAX_LENGTH
            row = {
                "source": "file:///benchmark/proteins.fasta",
                "offset": offset,
                "id": id_,
                "description": text,
                "length": len(letters),
                "structure_id": hashlib.md5(letters, usedforsecurity=False).digest() if fits else None,
                "sequence_crc64": f"{fastcrc.crc64.go_iso(letters):016X}" if fits else None,
                "mgyp": None,
                "is_fragment": False,
                "outcome": "accepted" if fits else "too_long",
                "sequence": sequence if fits else None,
            }
            for name, value in row.items():
                columns[name].append(value)
            record, offset = record + 1, offset + len(id_) + len(text) + len(letters) + 4
        arrays = [pa.array(columns[field.name], field.type) for field in STAGING]
        with ParquetFile(folder, f"{len(paths):06d}.parquet", "staging", schema=STAGING) as file:
            file.write(pa.Table.from_arrays(arrays, schema=STAGING), 20_000)
        paths.append(folder / f"{len(paths):06d}.parquet")
    return paths


class Phases:
    """Seconds of each phase, each begun by a call with its name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._name, self._begun = "", time.perf_counter()

    def __call__(self, name: str) -> None:
        now = time.perf_counter()
        if self._name:
            self.seconds[self._name] = self.seconds.get(self._name, 0.0) + now - self._begun
        self._name, self._begun = name, now


class Disk(threading.Thread):
    """The most bytes that kinds of files under a folder took at once, and all of them together."""

    def __init__(self, folder: Path):
        super().__init__(daemon=True)
        self._folder, self._end = folder, threading.Event()
        self.most: dict[str, int] = {}

    def run(self) -> None:
        while not self._end.wait(0.1):
            now = {"duckdb": 0, "bands": 0, "all": 0}
            for root, _, names in os.walk(self._folder):
                for name in names:
                    try:
                        size = os.stat(os.path.join(root, name)).st_size
                    except OSError:  # gone meanwhile
                        continue
                    now["all"] += size
                    if "spill" in root or ".duckdb" in name:
                        now["duckdb"] += size
                    elif root.endswith("bands"):
                        now["bands"] += size
            self.most = {kind: max(size, self.most.get(kind, 0)) for kind, size in now.items()}

    def end(self) -> dict[str, int]:
        self._end.set()
        self.join()
        return self.most


def peak_bytes() -> int:
    """Of this process: the kernel's high-water mark of resident memory."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) << 10


def measure(way: str, folder: Path) -> dict[str, Any]:
    """Plans what lies in `folder`, in this process."""
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.planning.planned_tables import plan_tables
    from foldatlas.folding.models import config_of, settings_of
    from foldatlas.folding.planning.cost import mflop
    from foldatlas.pipeline.planning import cut, planner

    config, settings = config_of(MODEL), settings_of(MODEL)
    costs = planner.CostModel(
        lambda length: mflop(config, length, settings.recycles), DEVICE_MFLOP_PER_SECOND, 34.0, 80.0
    )
    phases, disk = Phases(), Disk(folder)
    disk.start()
    begun = time.perf_counter()
    if way == "staged":
        made = plan_tables(
            folder,
            sorted(folder.glob("*.parquet")),
            [],
            lambda histogram: cut.cut_shards(
                [cut.LengthCount(*bin_) for bin_ in histogram],
                costs.mflop,
                costs.output_bytes,
                costs.mflop_per_second,
            ),
            memory_bytes=planner.planning_memory_bytes(),
            on_phase=phases,
        )
        records, outcomes, cuts = made.records, made.outcomes, made.shards
        sequences = made.sequences
    else:
        plan = planner.make_plan(
            [str(folder / "proteins.fasta")],
            AtlasFolder(folder / "atlas"),
            settings,
            costs,
            max_length=MAX_LENGTH,
            on_phase=phases,
        ).plan
        assert plan is not None
        records, outcomes, cuts, sequences = plan.records, plan.outcomes, plan.shards, plan.sequences
    phases("end")
    return {
        "seconds": time.perf_counter() - begun,
        "phases": phases.seconds,
        "peak_bytes": peak_bytes(),
        "disk": disk.end(),
        "outcomes": outcomes,
        "proteins": sum(shard.proteins for shard in cuts),
        "residues": sum(shard.residues for shard in cuts),
        "shards": len(cuts),
        "records_bytes": sum(file.bytes for file in records),
        "sequences_bytes": sum(file.bytes for file in sequences),
    }


def in_a_process(*arguments: object) -> str:
    """What this script prints when called with `arguments`: a process that is measured has done nothing else."""
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def run(way: str, num_records: int, folder: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=folder) as inputs:
        in_a_process("--make", way, num_records, inputs)
        size = sum(path.stat().st_size for path in Path(inputs).iterdir())
        load = os.getloadavg()[0]
        found: dict[str, Any] = json.loads(in_a_process("--measure", way, inputs))
        return {"from": way, "records": num_records, "input_bytes": size, "load": load, **found}


def table(result: dict[str, Any]) -> str:
    """The results for people."""
    names = {"ingest": "read", "ids": "ids", "records": "records", "order": "order", "sequences": "sequences"}
    lines = [
        "# Planning by the number of records",
        "",
        f"{result['date']}, {result['hardware']}; {result['versions']}.",
        "Made by `benchmarks/plan_scale.py`. The load average before each run says whether others used the machine.",
        "",
        f"| from | records | {' | '.join(f'{name} s' for name in names.values())} | all s | peak memory | disk: bands "
        "| DuckDB | all | load |",
        f"|---|---|{'---|' * len(names)}---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        phases = " | ".join(f"{row['phases'][name]:.1f}" if name in row["phases"] else "" for name in names)
        disk = " | ".join(f"{row['disk'].get(kind, 0) / 1e9:.2f} GB" for kind in ("bands", "duckdb", "all"))
        lines.append(
            f"| {row['from']} | {row['records']:,} | {phases} | {row['seconds']:.1f} "
            f"| {row['peak_bytes'] / 2**30:.2f} GiB | {disk} | {row['load']:.1f} |"
        )
    lines += [
        "",
        "| from | records | input | accepted | repeated | refused | sequences | shards | in records/ | in sequences/ |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        outcomes = row["outcomes"]
        refused = sum(outcomes.values()) - outcomes["accepted"] - outcomes.get("repeated", 0)
        lines.append(
            f"| {row['from']} | {row['records']:,} | {row['input_bytes'] / 1e9:.2f} GB | {outcomes['accepted']:,} "
            f"| {outcomes.get('repeated', 0):,} | {refused:,} | {row['proteins']:,} | {row['shards']:,} "
            f"| {row['records_bytes'] / 1e9:.2f} GB | {row['sequences_bytes'] / 1e9:.2f} GB |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="way", choices=("staged", "fasta"), default="staged")
    parser.add_argument("--millions", type=float, nargs="+", default=[1.0], help="of records")
    parser.add_argument("--folder", type=Path, help="where to work: a local disk with room")
    parser.add_argument("--name", default="plan_scale", help="of the files in benchmarks/results; rows are added")
    parser.add_argument("--make", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make:
        way, num_records, folder = arguments.make
        if way == "staged":
            write_staged(Path(folder), int(num_records))
        else:
            write_fasta(Path(folder) / "proteins.fasta", int(num_records))
        return
    if arguments.measure:
        print(json.dumps(measure(arguments.measure[0], Path(arguments.measure[1]))))
        return
    folder = arguments.folder or Path(tempfile.gettempdir())
    needed = max(arguments.millions) * 1e6 * (1350 if arguments.way == "fasta" else 900)
    if shutil.disk_usage(folder).free < needed:
        parser.error(f"{folder} has less than {needed / 1e9:.0f} GB free: name another with --folder")
    path = RESULTS / f"{arguments.name}.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    for millions in arguments.millions:
        num_records = round(millions * 1e6)
        row = run(arguments.way, num_records, folder)
        rows = [old for old in rows if (old["from"], old["records"]) != (arguments.way, num_records)] + [row]
        rows.sort(key=lambda row: (row["from"], row["records"]))
        result = {
            "date": datetime.date.today().isoformat(),
            "hardware": hardware(),
            "versions": _versions(),
            "rows": rows,
        }
        RESULTS.mkdir(exist_ok=True)
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        path.with_suffix(".md").write_text(table(result), encoding="utf-8")
        print(table(result))


def _versions() -> str:
    from importlib.metadata import version

    packages = ", ".join(f"{name} {version(name)}" for name in ("duckdb", "pyarrow", "numpy"))
    return f"Python {platform.python_version()}, {packages}"


if __name__ == "__main__":
    main()
