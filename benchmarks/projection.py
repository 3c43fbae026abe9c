"""`foldatlas project` at size: time, memory, and whether the map keeps what is near.

python benchmarks/projection.py --thousands 1000 --folder DIR
python benchmarks/projection.py --thousands 200 --channels 640 --folder DIR      by embeddings

The atlas is made up: sequences of families, each with a composition of its own (or, with --channels, embeddings around
a centre of their own), of real lengths; coordinates and pLDDT of residues are left empty, since no map reads them.
Making the atlas, indexing it, and mapping it are processes of their own. Peak memory is the kernel's figure for the
process (VmHWM), processor time that of the process. Near: of the 15 nearest fitted structures in the map, the fraction
of the same family, for fitted structures and for those that neighbours placed, beside the fraction among all.
"""

import argparse
import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from index import uuids
from machine import add_output, hardware, write_results

SEED: Final = 3
SHARD: Final = 20_000  # structures
FAMILIES: Final = 500
ASKED: Final = 2_000  # structures whose neighbours are compared
NEIGHBOURS: Final = 15
FAMILY: Final = "family.npy"


def make(work: Path, number: int, channels: int) -> dict[str, Any]:
    """Make the atlas, and the family of each structure in the order of structure_id."""
    from foldatlas.atlas.folder import AtlasFolder, now
    from foldatlas.atlas.parquet.files import ParquetFile
    from foldatlas.schemas import manifest
    from foldatlas.schemas.records import STANDARD_RESIDUES, Settings
    from foldatlas.schemas.tables import EMBEDDINGS, FAILURES, RECORDS, SCORES, SEQUENCES, STRUCTURES

    rng = np.random.default_rng(SEED)
    folder = AtlasFolder(work / "atlas")
    settings = Settings("nano", "ab" * 32, 0, "fp32")
    folder.create(settings)
    letters = np.frombuffer(STANDARD_RESIDUES.encode(), np.uint8)
    limits = np.cumsum(rng.dirichlet(np.full(20, 8.0), FAMILIES), axis=1)
    centres = rng.normal(size=(FAMILIES, channels)).astype(np.float32)
    helix = rng.random(FAMILIES) * 0.6
    uri = "file:///benchmark/proteins.fasta"
    source = manifest.Source(uri, 1, 1, "0" * 64, number)
    num_shards = number // SHARD
    ids = rng.integers(0, 256, (num_shards, SHARD, 16), dtype=np.uint8)

    def shards(plan: str) -> tuple[manifest.Shard, ...]:
        return tuple(
            manifest.Shard(f"{plan}-{n:05d}", 0, n, SHARD, SHARD, 30, 1280, SHARD, f"{n:064x}")
            for n in range(num_shards)
        )

    name = manifest.plan_name([source], 1280, shards(""))
    families = []
    records = []
    with ParquetFile(folder.root, f"sequences/{name}-0.parquet", "sequences") as sequence_file:
        for n, shard in enumerate(shards(name)):
            family = rng.integers(0, FAMILIES, SHARD)
            families.append(family)
            lengths = np.clip(rng.gamma(2.2, 115, SHARD).astype(np.int32), 30, 1280)
            ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
            draws = rng.random(ends[-1])
            of = np.repeat(family, lengths)
            order = np.argsort(of, kind="stable")
            bounds = np.searchsorted(of[order], np.arange(FAMILIES + 1))
            codes = np.empty(ends[-1], np.uint8)
            for one in range(FAMILIES):
                rows = order[bounds[one] : bounds[one + 1]]
                codes[rows] = letters[np.minimum(np.searchsorted(limits[one], draws[rows]), 19)]
            sequences = pa.StringArray.from_buffers(SHARD, pa.py_buffer(ends), pa.py_buffer(codes.tobytes()))
            identities = uuids(ids[n])
            sequence_file.write(pa.table([identities, sequences, pa.array(lengths)], schema=SEQUENCES))
            empty = pa.array([[]] * SHARD, pa.list_(pa.int32()))
            plddt = (50 + 40 * rng.random(SHARD)).astype(np.float32)
            made = {
                "length": lengths, "mean_plddt": plddt, "plddt_std": plddt / 9, "num_confident": lengths // 2,
                "fraction_confident": plddt / 100, "fraction_very_high": plddt / 200, "ptm": plddt / 100,
                "num_unknown": lengths * 0, "radius_of_gyration": (2.2 * lengths**0.38).astype(np.float32),
                "helix_fraction": helix[family].astype(np.float32), "strand_fraction": plddt / 300,
                "structure_row": np.arange(SHARD, dtype=np.int32),
            }  # fmt: skip
            tables = {
                "structures": pa.table(
                    [identities, sequences, *(empty.cast(field.type) for field in list(STRUCTURES)[2:])],
                    schema=STRUCTURES,
                ),
                "scores": pa.table([identities, *(pa.array(made[c]) for c in SCORES.names[1:])], schema=SCORES),
                "failures": FAILURES.empty_table(),
            }
            if channels:
                values = centres[family] + rng.normal(size=(SHARD, channels)).astype(np.float32)
                offsets = pa.array(np.arange(SHARD + 1, dtype=np.int32) * channels)
                mean = pa.ListArray.from_arrays(offsets, pa.array(values.ravel()))
                tables["embeddings"] = pa.table(
                    [identities, mean.cast(EMBEDDINGS.field("mean").type)], schema=EMBEDDINGS
                )
            files = {}
            for table, content in tables.items():
                with ParquetFile(folder.root, f"{table}/{shard.name}.a.parquet", table) as file:
                    file.write(content, 64 if table == "structures" else None)
                files[table] = file.entry
            rows = {
                "source": pa.array([uri] * SHARD), "offset": pa.array(np.arange(SHARD) * 400 + n * SHARD * 400),
                "id": pa.array([f"p{n}_{row}" for row in range(SHARD)]), "description": pa.array([""] * SHARD),
                "length": pa.array(lengths), "structure_id": identities,
                "sequence_crc64": pa.array(["0" * 16] * SHARD), "mgyp": pa.nulls(SHARD, pa.int64()),
                "is_fragment": pa.nulls(SHARD, pa.bool_()), "outcome": pa.array(["accepted"] * SHARD),
            }  # fmt: skip
            with ParquetFile(folder.root, f"records/{name}-{n}.parquet", "records") as file:
                file.write(pa.table([rows[c] for c in RECORDS.names], schema=RECORDS))
            records.append(file.entry)
            run = manifest.Run("run-1", "host", "cuda", "0.1.0", "2026-11-01T10:00:00.000+00:00", 60.0)
            folder.commit_entry(
                manifest.ShardEntry(
                    format=1, shard=shard.name, plan=name, generation=0, attempt="a",
                    settings_digest=manifest.settings_digest(settings), shard_digest=shard.digest, folded=SHARD,
                    failed=0, residues=SHARD, cost=SHARD, files=files, run=run,
                )
            )  # fmt: skip
    folder.commit_plan(
        manifest.Plan(
            format=1, name=name, created=now(), max_length=1280, sources=(source,), outcomes={"accepted": number},
            proteins=number, residues=number, cost=number, records=tuple(records), sequences=(sequence_file.entry,),
            shards=shards(name),
        )
    )  # fmt: skip
    order = np.argsort(ids.reshape(-1, 16).copy().view("V16").ravel(), kind="stable")
    np.save(work / FAMILY, np.concatenate(families)[order])
    return {"structures": number, "channels": channels}


def index(work: Path) -> dict[str, Any]:
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.index.build import build_index

    return {"folded": build_index(AtlasFolder(work / "atlas")).folded}


def project(work: Path) -> dict[str, Any]:
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.projection.run import project_atlas

    begun = time.process_time()
    phases: dict[str, float] = {}

    def on_phase(name: str) -> None:
        phases[name] = time.process_time() - begun

    made = project_atlas(AtlasFolder(work / "atlas"), on_phase=on_phase)
    ends = [*list(phases.values())[1:], time.process_time() - begun]
    parts = {f"{name}, s": round(end - start, 1) for (name, start), end in zip(phases.items(), ends, strict=True)}
    return {"features": made.features, "fitted": made.fitted, **parts}


def near(work: Path) -> dict[str, Any]:
    """Compare families of neighbours in the map."""
    from sklearn.neighbors import NearestNeighbors

    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.index.build import build_index
    from foldatlas.atlas.reader import Atlas

    folder = AtlasFolder(work / "atlas")
    build_index(folder)
    family = np.load(work / FAMILY)
    with Atlas.open(folder.uri) as atlas:
        table = atlas.query("SELECT x, y, is_fitted FROM projection ORDER BY structure_id").arrow()
    positions = np.column_stack([table.column("x").to_numpy(), table.column("y").to_numpy()])
    is_fitted = table.column("is_fitted").to_numpy(zero_copy_only=False)
    fitted = np.flatnonzero(is_fitted)
    search = NearestNeighbors().fit(positions[fitted])
    rng = np.random.default_rng(SEED)
    found: dict[str, Any] = {"same family, of all": round(1 / FAMILIES, 4)}
    for what, rows in (("fitted", fitted), ("placed", np.flatnonzero(~is_fitted))):
        if len(rows):
            asked = rng.choice(rows, ASKED)
            nearest = fitted[search.kneighbors(positions[asked], NEIGHBOURS + 1, return_distance=False)[:, 1:]]
            found[f"same family, near {what}"] = round(float((family[nearest] == family[asked][:, None]).mean()), 3)
    return found


STEPS: Final = ("make", "index", "project", "near")


def step(name: str, work: Path, number: int, channels: int) -> None:
    """Run one step in this process and print what it gives."""
    begun = time.perf_counter()
    result = make(work, number, channels) if name == "make" else globals()[name](work)
    used = resource.getrusage(resource.RUSAGE_SELF)
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    result |= {
        "seconds": round(time.perf_counter() - begun, 1),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_mb": round(peak / 1024),
        "load": os.getloadavg()[0],
    }
    print(json.dumps(result))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--thousands", type=int, default=1_000, help="structures, a multiple of 20")
    parser.add_argument("--channels", type=int, default=0, help="of embeddings; 0: map by composition")
    parser.add_argument("--folder", type=Path, required=True, help="new folder for the atlas")
    parser.add_argument("--note", default="")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    add_output(parser)
    arguments = parser.parse_args()
    number = arguments.thousands * 1_000
    if arguments.step:
        step(arguments.step, arguments.folder, number, arguments.channels)
        return
    arguments.folder.mkdir(parents=True)
    found: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "hardware": hardware(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("openTSNE", "scikit-learn", "numpy", "duckdb")},
        "note": arguments.note,
    }
    for name in STEPS:
        words = [sys.executable, __file__, "--step", name, "--folder", str(arguments.folder)]
        words += ["--thousands", str(arguments.thousands), "--channels", str(arguments.channels)]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        found[name] = json.loads(done.stdout.splitlines()[-1])
    title = f"projection_{'embeddings' if arguments.channels else 'composition'}"
    lines = [f"# A map of {number:,} structures", ""]
    lines += [f"- {key}: {value}" for key, value in found.items() if not isinstance(value, dict)]
    lines += ["", "| step | seconds | processor seconds | peak memory, MB | load |", "|---|---|---|---|---|"]
    for name in STEPS:
        one = found[name]
        lines.append(
            f"| {name} | {one['seconds']} | {one['processor_seconds']} | {one['peak_mb']:,} | {one['load']:.1f} |"
        )
    lines += ["", "| | |", "|---|---|"]
    shown = {**found["make"], **found["project"], **found["near"]}
    apart = ("seconds", "processor_seconds", "peak_mb", "load")
    lines += [f"| {key} | {value} |" for key, value in shown.items() if key not in apart]
    write_results(arguments.output, title, found, lines)


if __name__ == "__main__":
    main()
