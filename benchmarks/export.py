"""Export of 20,000 structures to PDB files, all included, beside gemmi's writing alone; other formats for context.

    python benchmarks/export.py ../shared/data/chains.parquet [--structures 20000] [--output FOLDER]

The atlas is not folded, which would take days on a CPU: experimental chains are repeated, D and N, E and Q exchanged
(equal atoms) so that sequences differ, atoms moved by 0.2 A, pLDDT drawn; plan, shards, scores and index are written as
`foldatlas fold` writes them. "All included": selection by SQL, reading, names, text, files, digests, lists. gemmi reads
each file that was written, and the writing of the structure that it then holds is timed. Times are processor time
(user and system, with children) and elapsed time. Writes export.md and export.json.
"""

import argparse
import hashlib
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import gemmi
import numpy as np
import pyarrow as pa
from machine import hardware

from foldatlas.atlas.export.subset import export
from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.parquet.coordinates import encode_structures
from foldatlas.atlas.parquet.files import ParquetFile
from foldatlas.folding.compare.experimental import Chain, read_chains
from foldatlas.schemas import tables
from foldatlas.schemas.manifest import (
    Plan,
    Run,
    Shard,
    ShardEntry,
    Source,
    plan_name,
    settings_digest,
    shard_digest,
    shard_name,
)
from foldatlas.schemas.records import ATOMS, STANDARD_RESIDUES, Settings, structure_id

SETTINGS = Settings(model="perturbed", weights="0" * 64, recycles=0, precision="fp32")
URI = "file:///perturbed.fasta"
PER_SHARD = 2_048
NOISE = 0.2  # angstrom
RUNS = (("pdb", 1), ("pdb", 2), ("cif", 1), ("tar", 1), ("fasta", 1), ("3di", 1), ("parquet", 1))


def perturbed(chains: list[Chain], number: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Sequence, atoms [A, 3] and pLDDT [L] of `number` structures with distinct sequences."""
    generator = np.random.default_rng(0)
    exchanged = str.maketrans("DNEQ", "NDQE")
    counts = {letter: len(atoms) for letter, atoms in ATOMS.items()}
    usable = [chain for chain in chains if set(chain.sequence) <= set(STANDARD_RESIDUES)]
    seen: set[str] = set()
    while len(seen) < number:
        chain = usable[int(generator.integers(len(usable)))]
        flips = generator.random(len(chain.sequence)) < 0.3
        sequence = "".join(
            letter.translate(exchanged) if flip else letter for letter, flip in zip(chain.sequence, flips, strict=True)
        )
        if sequence in seen:
            continue
        seen.add(sequence)
        has = np.arange(14) < np.array([counts[letter] for letter in sequence])[:, None]
        atoms = np.where(chain.observed_LA[..., None], chain.positions_LA3, np.nan)[has]
        plddt = np.clip(generator.normal(generator.uniform(40, 95), 10, len(sequence)), 0, 100)
        yield sequence, (atoms + generator.normal(0, NOISE, atoms.shape)).astype(np.float32), plddt.astype(np.float32)


def scores_of(identities: list[bytes], lengths: list[int], plddt: list[np.ndarray]) -> pa.Table:
    generator = np.random.default_rng(len(identities))
    stored = [np.rint(values.astype(np.float64) * 100) / 100 for values in plddt]
    columns = {
        "structure_id": pa.ExtensionArray.from_storage(pa.uuid(), pa.array(identities, pa.binary(16))),
        "length": lengths,
        "mean_plddt": [float(values.mean()) for values in stored],
        "plddt_std": [float(values.std()) for values in stored],
        "num_confident": [int((values > 70).sum()) for values in stored],
        "fraction_confident": [float((values > 70).mean()) for values in stored],
        "fraction_very_high": [float((values > 90).mean()) for values in stored],
        "ptm": generator.uniform(0.1, 0.95, len(lengths)),
        "structure_row": range(len(lengths)),
    }
    zeros = [0] * len(lengths)
    arrays = [
        given if isinstance(given := columns.get(field.name, zeros), pa.Array) else pa.array(given).cast(field.type)
        for field in tables.SCORES
    ]
    return pa.Table.from_arrays(arrays, schema=tables.SCORES)


def make_atlas(root: Path, chains: list[Chain], number: int, channels: int = 0) -> int:
    """Write an atlas of perturbed chains, with random embeddings of `channels`, and index it. Return its residues."""
    folder = AtlasFolder(root)
    folder.create(SETTINGS)
    everything = sorted(perturbed(chains, number), key=lambda one: len(one[0]))
    parts = [everything[begin : begin + PER_SHARD] for begin in range(0, number, PER_SHARD)]
    identities = [[structure_id(sequence) for sequence, _, _ in part] for part in parts]
    source = Source(URI, 1, 1, hashlib.sha256(b"perturbed").hexdigest(), number)

    def shards(plan: str) -> tuple[Shard, ...]:
        return tuple(
            Shard(
                name=shard_name(plan, k), file=0, row_group=k, proteins=len(part),
                residues=sum(len(one[0]) for one in part), min_length=len(part[0][0]), max_length=len(part[-1][0]),
                cost=sum(len(one[0]) for one in part), digest=shard_digest(ids),
            )
            for k, (part, ids) in enumerate(zip(parts, identities, strict=True))
        )  # fmt: skip

    name = plan_name([source], 5_000, shards(""))
    rows = [
        {
            "source": URI, "offset": 100 * k, "id": f"protein_{k:06d}", "description": "", "length": len(sequence),
            "sequence_crc64": f"{k:016X}", "mgyp": None, "is_fragment": None, "outcome": "accepted",
        }
        for k, (sequence, _, _) in enumerate(everything)
    ]  # fmt: skip
    ids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([i for part in identities for i in part], pa.binary(16)))
    columns = [
        ids if field.name == "structure_id" else pa.array([row[field.name] for row in rows], field.type)
        for field in tables.RECORDS
    ]
    with ParquetFile(root, f"records/{name}-0.parquet", "records", metadata={"model": SETTINGS.model}) as records:
        records.write(pa.Table.from_arrays(columns, schema=tables.RECORDS))
    with ParquetFile(root, f"sequences/{name}-0.parquet", "sequences") as sequences:
        for part, part_ids in zip(parts, identities, strict=True):
            uuids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array(part_ids, pa.binary(16)))
            texts = [one[0] for one in part]
            lengths = pa.array(map(len, texts), pa.int32())
            sequences.write(pa.Table.from_arrays([uuids, pa.array(texts), lengths], schema=tables.SEQUENCES))
    assert records.entry is not None and sequences.entry is not None
    residues = sum(len(one[0]) for one in everything)
    plan = Plan(
        format=1, name=name, created="2026-11-29T00:00:00.000+00:00", max_length=5_000, sources=(source,),
        outcomes={"accepted": number}, proteins=number, residues=residues, cost=residues,
        records=(records.entry,), sequences=(sequences.entry,), shards=shards(name),
    )  # fmt: skip
    folder.commit_plan(plan)
    for shard, part, part_ids in zip(plan.shards, parts, identities, strict=True):
        texts, atoms, plddt = (list(column) for column in zip(*part, strict=True))
        contents = {
            "structures": encode_structures(part_ids, texts, atoms, plddt),
            "scores": scores_of(part_ids, [len(text) for text in texts], plddt),
            "failures": tables.FAILURES.empty_table(),
        }
        if channels:
            drawn = np.random.default_rng(list(part_ids[0])).normal(size=(len(part), channels)).astype(np.float32)
            mean = pa.ListArray.from_arrays(np.arange(len(part) + 1, dtype=np.int32) * channels, drawn.ravel())
            contents["embeddings"] = pa.Table.from_arrays(
                [pa.ExtensionArray.from_storage(pa.uuid(), pa.array(part_ids, pa.binary(16))),
                 mean.cast(tables.EMBEDDINGS.field("mean").type)], schema=tables.EMBEDDINGS,
            )  # fmt: skip
        files = {}
        for table, content in contents.items():
            path = folder.shard_file(table, shard.name, "made_0_0")
            with ParquetFile(root, path, table, metadata={"model": SETTINGS.model}) as file:
                file.write(content, tables.STRUCTURES_PER_ROW_GROUP if table == "structures" else None)
            assert file.entry is not None
            files[table] = file.entry
        folder.commit_entry(
            ShardEntry(
                format=1, shard=shard.name, plan=name, generation=0, attempt="made_0_0",
                settings_digest=settings_digest(SETTINGS), shard_digest=shard.digest, folded=shard.proteins, failed=0,
                residues=shard.residues, cost=shard.cost, files=files,
                run=Run("made", "", "cpu", "", "2026-11-29T00:00:00.000+00:00", 1.0),
            )
        )  # fmt: skip
    build_index(folder)
    return residues


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Processor seconds, children included, and elapsed seconds of a call."""

    def spent() -> float:
        return sum(
            used.ru_utime + used.ru_stime
            for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        )

    begun, wall = spent(), time.perf_counter()
    work()
    return spent() - begun, time.perf_counter() - wall


def gemmi_alone(folder: Path) -> dict[str, float]:
    """Processor seconds in which gemmi makes the text of every file of an export, and in which it writes files."""
    text = files = 0.0
    with tempfile.TemporaryDirectory() as there:
        path = Path(there) / "x.pdb"
        for line in (folder / "files.jsonl").read_text().splitlines():
            structure = gemmi.read_pdb(str(folder / json.loads(line)["file"]))
            begun = time.process_time()
            structure.make_pdb_string()
            text += time.process_time() - begun
            begun = time.process_time()
            structure.write_pdb(str(path))
            files += time.process_time() - begun
    return {"text": text, "files": files}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("chains")
    parser.add_argument("--structures", type=int, default=20_000)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    chains = read_chains(arguments.chains)
    with tempfile.TemporaryDirectory() as work:
        atlas = Path(work) / "atlas"
        residues = make_atlas(atlas, chains, arguments.structures)
        print(f"{arguments.structures:,} structures, {residues:,} residues", file=sys.stderr)
        export(atlas, Path(work) / "warm", format="pdb", limit=100)  # tables of texts, files in the cache
        export(atlas, Path(work) / "warm3", format="3di", limit=100)  # compiles
        result: dict[str, object] = {
            "date": date.today().isoformat(), "hardware": hardware(), "load": [round(x, 2) for x in os.getloadavg()],
            "structures": arguments.structures, "residues": residues, "formats": {},
        }  # fmt: skip
        rows = []
        for format, workers in RUNS:
            out = Path(work) / f"{format}-{workers}"
            cpu, wall = timed(lambda f=format, n=workers, o=out: export(atlas, o, format=f, workers=n))
            size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
            rows.append(
                {
                    "format": format, "workers": workers, "cpu_us_per_residue": cpu / residues * 1e6,
                    "wall_us_per_residue": wall / residues * 1e6, "bytes_per_residue": size / residues,
                    "structures_per_second": arguments.structures / wall,
                }
            )  # fmt: skip
            print(rows[-1], file=sys.stderr)
            if (format, workers) != ("pdb", 1):
                shutil.rmtree(out)
        gemmi_seconds = gemmi_alone(Path(work) / "pdb-1")
        theirs = {name: seconds / residues * 1e6 for name, seconds in gemmi_seconds.items()}
        result |= {
            "formats": rows,
            "gemmi_us_per_residue": theirs,
            "load_after": [round(x, 2) for x in os.getloadavg()],
        }
    ours = rows[0]["cpu_us_per_residue"]
    result["ratio_to_gemmi_text"] = ours / theirs["text"]
    result["ratio_to_gemmi_files"] = ours / theirs["files"]
    (arguments.output / "export.json").write_text(json.dumps(result, indent=1) + "\n")
    head = (
        "| format | processes | processor us a residue | elapsed us a residue | structures a second | bytes a residue |"
    )
    lines = [
        "# Export",
        "",
        f"`python benchmarks/export.py`, {result['date']}, {result['hardware']}. Load before and after (1, 5, 15 min): "
        f"{result['load']}, {result['load_after']}; the machine was shared, so processor time is what compares.",
        "",
        f"{arguments.structures:,} structures, {residues:,} residues, made from experimental chains, not folded (see "
        "the script). One process; selection, reading, files, digests and lists included:",
        "",
        f"- FoldAtlas, PDB files: **{ours:.2f} us a residue** of processor time",
        f"- gemmi, text of a structure that it holds: {theirs['text']:.2f} us; ratio {ours / theirs['text']:.2f}",
        f"- gemmi, the same as a file, always under one name: {theirs['files']:.2f} us; ratio "
        f"{ours / theirs['files']:.2f}",
        "",
        head,
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['format']} | {row['workers']} | {row['cpu_us_per_residue']:.2f} | {row['wall_us_per_residue']:.2f} | "
        f"{row['structures_per_second']:,.0f} | {row['bytes_per_residue']:,.1f} |"
        for row in rows
    ]
    (arguments.output / "export.md").write_text("\n".join(lines) + "\n")
    print(f"ours {ours:.2f}, gemmi {theirs['text']:.2f} us a residue: ratio {ours / theirs['text']:.2f}")


if __name__ == "__main__":
    main()
