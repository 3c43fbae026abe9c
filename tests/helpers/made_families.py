"""An atlas of protein families, written with the project's own writers: relatives by sequence, and by structure alone.

A family has one backbone. Its members' sequences are at 95 % or 60 % identity to one of its two ancestors, which are
not related by sequence; their backbones are noisy, and cut at the ends.
"""

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from made_chains import backbone
from manifest_entries import entry_of

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.parquet.coordinates import encode_structures
from foldatlas.atlas.parquet.files import ParquetFile
from foldatlas.schemas import manifest, tables
from foldatlas.schemas.manifest import Plan, Shard, Source
from foldatlas.schemas.records import ATOMS, STANDARD_RESIDUES, Settings, num_atoms, structure_id

SETTINGS = Settings(model="nano", weights="ab" * 32, recycles=0, precision="fp32")
LETTERS = np.array(list(STANDARD_RESIDUES))


class Protein(NamedTuple):
    """`backbone_4L3` are N, C-alpha, C and C-beta in angstrom; `ptm` and `plddt` what its scores say."""

    name: str
    sequence: str
    backbone_4L3: np.ndarray
    plddt: float
    ptm: float

    @property
    def identity(self) -> bytes:
        return structure_id(self.sequence)


def changed(sequence: str, identity: float, rng: np.random.Generator) -> str:
    """`sequence` with other residues at some places, so that `identity` of it is left: every other block of 16 residues
    stays as it is, so that relatives share words."""
    letters = list(sequence)
    places = [place for place in range(len(letters)) if place // 16 % 2]
    for place in rng.permutation(places)[: round(len(letters) * (1 - identity))]:
        letters[place] = rng.choice([letter for letter in LETTERS if letter != letters[place]])
    return "".join(letters)


def families(number: int, members: int, seed: int = 1) -> list[Protein]:
    """`number` families of `members` proteins of 70 to 150 residues, and a chain of 20 residues."""
    rng = np.random.default_rng(seed)
    found = []
    for family in range(number):
        length = int(rng.integers(70, 150))
        atoms = np.stack(backbone(length, seed=1000 * seed + family))
        ancestors = ["".join(rng.choice(LETTERS, length)) for _ in range(2)]
        for member in range(members):
            sequence = changed(ancestors[member % 2], (0.95, 0.6)[member // 2 % 2], rng)
            begin, end = int(rng.integers(0, 3)), length - int(rng.integers(0, 3))
            noisy = atoms[:, begin:end] + rng.normal(0, 0.3, (4, end - begin, 3))
            found.append(
                Protein(
                    f"f{family}m{member}", sequence[begin:end], noisy,
                    float(rng.uniform(40, 95)), float(rng.uniform(0.3, 0.95)),
                )
            )  # fmt: skip
    short = np.stack(backbone(20, seed=seed))
    return [*found, Protein("short", "".join(rng.choice(LETTERS, 20)), short, 80.0, 0.5)]


def add_plan(folder: AtlasFolder, proteins: list[Protein], source: str, shards: int = 2) -> None:
    """Add a plan of `proteins`, folded, in the order given, which are cut into `shards` shards."""
    cuts = np.linspace(0, len(proteins), shards + 1).astype(int)
    chunks = [proteins[a:b] for a, b in pairwise(cuts) if b > a]
    described = Source(f"file:///{source}", 1, 1, structure_id(source * 9).hex() * 2, len(proteins))

    def made(plan: str) -> tuple[Shard, ...]:
        return tuple(
            Shard(
                name=manifest.shard_name(plan, number), file=0, row_group=number, proteins=len(chunk),
                residues=sum(len(p.sequence) for p in chunk), min_length=min(len(p.sequence) for p in chunk),
                max_length=max(len(p.sequence) for p in chunk), cost=1,
                digest=manifest.shard_digest(p.identity for p in chunk),
            )
            for number, chunk in enumerate(chunks)
        )  # fmt: skip

    name = manifest.plan_name([described], 1000, made(""))
    with ParquetFile(folder.root, f"sequences/{name}-0.parquet", "sequences") as sequences:
        for chunk in chunks:
            texts = [p.sequence for p in chunk]
            sequences.write(_table(tables.SEQUENCES, [_ids(chunk), texts, [len(text) for text in texts]]))
    with ParquetFile(folder.root, f"records/{name}-0.parquet", "records", metadata={"model": "nano"}) as records:
        texts = [p.sequence for p in proteins]
        columns = [
            [described.uri] * len(texts), [*range(len(texts))], [p.name for p in proteins], [""] * len(texts),
            [len(text) for text in texts], _ids(proteins), ["0" * 16] * len(texts), [None] * len(texts),
            [None] * len(texts), ["accepted"] * len(texts),
        ]  # fmt: skip
        records.write(_table(tables.RECORDS, columns))
    plan = Plan(
        format=1, name=name, created=f"2026-11-01T10:00:{len(folder.plans()):02d}.000+00:00", max_length=1000,
        sources=(described,), outcomes={"accepted": len(proteins)}, proteins=len(proteins),
        residues=sum(len(p.sequence) for p in proteins), cost=len(chunks), records=(records.entry,),
        sequences=(sequences.entry,), shards=made(name),
    )  # fmt: skip
    assert folder.commit_plan(plan)
    for shard, chunk in zip(plan.shards, chunks, strict=True):
        _commit(folder, plan, shard, chunk)


def _commit(folder: AtlasFolder, plan: Plan, shard: Shard, chunk: list[Protein]) -> None:
    plddt = [np.full(len(p.sequence), p.plddt, np.float32) for p in chunk]
    positions = [_positions(p) for p in chunk]
    numbers = {name: [0.0] * len(chunk) for name in tables.SCORES.names}
    numbers |= {"length": [len(p.sequence) for p in chunk], "mean_plddt": [p.plddt for p in chunk]}
    numbers |= {"ptm": [p.ptm for p in chunk], "structure_row": [*range(len(chunk))], "structure_id": _ids(chunk)}
    contents = {
        "structures": encode_structures([p.identity for p in chunk], [p.sequence for p in chunk], positions, plddt),
        "scores": _table(tables.SCORES, [numbers[name] for name in tables.SCORES.names]),
        "failures": tables.FAILURES.empty_table(),
    }
    files = {}
    for table, content in contents.items():
        path = folder.shard_file(table, shard.name, "host_1_00")
        with ParquetFile(folder.root, path, table, metadata={"model": "nano"}) as file:
            file.write(content, tables.STRUCTURES_PER_ROW_GROUP if table == "structures" else None)
        files[table] = file.entry
    entry = entry_of(shard, settings_digest=manifest.settings_digest(SETTINGS), folded=len(chunk), files=files)
    assert folder.commit_entry(entry)


def _positions(protein: Protein) -> np.ndarray:
    """All atoms, [A, 3], in the order of the sequence; side chains beyond C-beta are missing."""
    found = np.full((num_atoms(protein.sequence), 3), np.nan, np.float32)
    place = 0
    for residue, letter in enumerate(protein.sequence):
        for name, atom in zip(("N", "CA", "C", "CB"), protein.backbone_4L3[:, residue], strict=True):
            if name in ATOMS[letter]:
                found[place + ATOMS[letter].index(name)] = atom
        place += len(ATOMS[letter])
    return found


def _ids(proteins: list[Protein]) -> pa.Array:
    return pa.ExtensionArray.from_storage(pa.uuid(), pa.array([p.identity for p in proteins], pa.binary(16)))


def _table(schema: pa.Schema, columns: list) -> pa.Table:
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, field.type)
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def make_atlas(root: Path, *plans: list[Protein]) -> AtlasFolder:
    """Make and index an atlas of one plan for each list of proteins."""
    folder = AtlasFolder(root)
    folder.create(SETTINGS)
    for number, proteins in enumerate(plans):
        add_plan(folder, proteins, f"{root.name}{number}")
    build_index(folder)
    return folder
