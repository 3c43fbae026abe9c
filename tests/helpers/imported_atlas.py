"""A synthetic atlas of format 2, with every score that can be NULL: imported structures as the importer writes them.

full      mean pLDDT 92 and pTM               plddt     pLDDT 85 without pTM, as of AlphaFold DB
part      pLDDT of half of the residues       low       pLDDT 40 and pTM
bare      no pLDDT, no pTM, origin unknown    gaps      the same, without two residues and some side chains
trace     C-alphas alone, no pLDDT            unknown   X and U, pLDDT, pTM
again     another file of `full`'s sequence, whose own model has mean pLDDT 60
gone      lost before it was imported         junk.txt  refused
"""

import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import made_chains
import numpy as np
import pyarrow as pa
from manifest_entries import entry_of, made_run

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.parquet.coordinates import encode_structures
from foldatlas.atlas.parquet.files import ParquetFile
from foldatlas.folding.compare.shape import helix_and_strand_fractions
from foldatlas.schemas import manifest
from foldatlas.schemas.formats import IMPORTED_FORMAT, IMPORTED_SETTINGS, needed_tables, table_schema
from foldatlas.schemas.manifest import FileEntry, Plan, Shard, Source
from foldatlas.schemas.records import ATOMS, STANDARD_RESIDUES, UNKNOWN_RESIDUES, num_atoms, structure_id

SOURCE = "file:///data/proteome"
ALPHAFOLD = {"model": "AlphaFold Monomer v2.0", "model_version": "4", "licence": "CC-BY-4.0", "origin": "AlphaFold DB"}
ESMFOLD = {"model": "ESMFold", "model_version": None, "licence": "CC-BY-SA-4.0", "origin": "ESM Atlas"}
UNKNOWN: dict[str, str | None] = {"model": None, "model_version": None, "licence": None, "origin": None}


@dataclass
class Imported:
    """A structure to be imported. `positions` [A, 3] angstrom, NaN if missing; `plddt` [L], NaN if missing."""

    id: str
    sequence: str
    positions: np.ndarray
    plddt: np.ndarray
    ptm: float | None = None
    stated: Mapping[str, str | None] = field(default_factory=lambda: UNKNOWN)

    @property
    def structure_id(self) -> bytes:
        return structure_id(self.sequence)

    @property
    def alphas(self) -> np.ndarray:
        """C-alphas [L, 3], rounded as they are stored."""
        starts = np.cumsum([0, *(num_atoms(letter) for letter in self.sequence)])[:-1]
        return np.rint(self.positions[starts + 1].astype(np.float64) * 100) / 100


def made(name: str, sequence: str, seed: int, plddt: float | None = None, **fields: object) -> Imported:
    """A protein-like chain with side chains beside its C-betas, and pLDDT about `plddt`."""
    rng = np.random.default_rng(seed)
    n, alpha, c, beta = made_chains.backbone(len(sequence), seed)
    rows = []
    for place, letter in enumerate(sequence):
        for number, atom in enumerate(ATOMS[letter]):
            known = {"N": n, "CA": alpha, "C": c, "CB": beta}.get(atom)
            rows.append(known[place] if known is not None else c[place] + (number - 2.5) * np.array([0.4, 1.1, 0.3]))
    values = np.full(len(sequence), np.nan)
    if plddt is not None:
        values = np.clip(rng.normal(plddt, 2, len(sequence)), 0, 100)
    return Imported(name, sequence, np.array(rows, np.float32), values.astype(np.float32), **fields)  # type: ignore[arg-type]


def proteins() -> list[Imported]:
    """The structures of the atlas, in no order."""
    rng = np.random.default_rng(17)
    drawn = ["".join(rng.choice(list(STANDARD_RESIDUES), length)) for length in (60, 66, 48, 50, 52, 40, 44, 38)]
    full, plddt, part, low, bare, gaps, trace, unknown = drawn
    found = [
        made("full", full, 1, 92, ptm=0.9, stated=ESMFOLD),
        made("plddt", plddt, 2, 85, stated=ALPHAFOLD),
        made("part", part, 3, 88, stated=ALPHAFOLD),
        made("low", low, 4, 40, ptm=0.3, stated=ESMFOLD),
        made("bare", bare, 5),
        made("gaps", gaps, 6),
        made("trace", trace, 7),
        made("unknown", f"XU{unknown}", 8, 95, ptm=0.8, stated=ESMFOLD),
    ]
    by_id = {one.id: one for one in found}
    by_id["part"].plddt[::2] = np.nan
    starts = np.cumsum([0, *(num_atoms(letter) for letter in gaps)])
    by_id["gaps"].positions[starts[9] : starts[11]] = np.nan  # two residues
    by_id["gaps"].positions[starts[20] + 4 : starts[21]] = np.nan  # a side chain
    is_alpha = np.concatenate([np.arange(num_atoms(letter)) == 1 for letter in trace])
    by_id["trace"].positions[~is_alpha] = np.nan
    return found


def scores_of(one: Imported, row: int) -> dict[str, object]:
    """A row of scores but for its id, computed here and not by the program."""
    known = np.rint(one.plddt[~np.isnan(one.plddt)].astype(np.float64) * 100) / 100
    alphas = one.alphas[~np.isnan(one.alphas).any(axis=1)]
    helix, strand = helix_and_strand_fractions(one.alphas)
    length = len(one.sequence)
    return {
        "length": length,
        "mean_plddt": known.mean() if len(known) else None,
        "plddt_std": known.std() if len(known) else None,
        "num_confident": int((known > 70).sum()) if len(known) else None,
        "fraction_confident": (known > 70).sum() / length if len(known) else None,
        "fraction_very_high": (known > 90).sum() / length if len(known) else None,
        "ptm": one.ptm,
        "num_unknown": sum(letter in UNKNOWN_RESIDUES for letter in one.sequence),
        "radius_of_gyration": np.sqrt(((alphas - alphas.mean(axis=0)) ** 2).sum(axis=1).mean()),
        "helix_fraction": helix,
        "strand_fraction": strand,
        "structure_row": row,
    }


def provenance_of(one: Imported, source: str) -> dict[str, object]:
    starts = np.cumsum([0, *(num_atoms(letter) for letter in one.sequence)])
    missing = np.isnan(one.positions).any(axis=1)
    return {
        "source": source,
        "path": f"{one.id}.pdb",
        "file_sha256": digest_of(one.id),
        "chain": "A",
        **one.stated,
        "plddt_source": "none" if np.isnan(one.plddt).all() else "declared",
        "unobserved": sum(bool(missing[a:b].all()) for a, b in itertools.pairwise(starts)),
        "breaks": 1 if one.id == "gaps" else 0,
        "hydrogens": 0,
        "other_atoms": 1,
        "models": 1,
    }


def digest_of(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def write_table(folder: AtlasFolder, path: str, table: str, *groups: list[dict[str, object]]) -> FileEntry:
    """Write rows of format 2, a row group for each list."""
    schema = table_schema(table, IMPORTED_FORMAT)
    with ParquetFile(
        folder.root, path, table, metadata={"model": IMPORTED_SETTINGS.model}, format=IMPORTED_FORMAT
    ) as file:
        for rows in groups:
            file.write(pa.Table.from_pylist(rows, schema=schema))
    assert file.entry
    return file.entry


def record_of(name: str, offset: int, sequence: str, plddt: float | None, outcome: str, source: str) -> dict:
    known = outcome == "accepted"
    return {
        "source": source,
        "offset": offset,
        "id": name,
        "description": "",
        "length": len(sequence),
        "structure_id": structure_id(sequence) if known else None,
        "sequence_crc64": f"{len(sequence):016X}" if known else None,
        "mgyp": None,
        "is_fragment": None,
        "outcome": outcome,
        "path": name if "." in name else f"{name}.pdb",
        "file_sha256": digest_of(name),
        "file_mean_plddt": plddt,
    }


def make_imported(
    root: Path, given: list[Imported] | None = None, *, source: str = SOURCE, created: str = "2026-11-01"
) -> AtlasFolder:
    """Make the atlas, without an index. `given` replaces its structures; then only those are in it."""
    folder = AtlasFolder(root)
    folder.create(IMPORTED_SETTINGS)
    found = proteins() if given is None else given
    lost = "MKVLAA" if given is None else ""
    records = [
        record_of(one.id, number, one.sequence, scores_of(one, 0)["mean_plddt"], "accepted", source)  # type: ignore[arg-type]
        for number, one in enumerate(found)
    ]
    if lost:
        records += [
            record_of("again", 20, found[0].sequence, 60.0, "accepted", source),
            record_of("gone", 21, lost, 50.0, "accepted", source),
            record_of("junk.txt", 22, "", None, "empty_sequence", source),
        ]
    ordered = sorted([*(one.sequence for one in found), *([lost] if lost else [])], key=len)
    chunks = [ordered[: len(ordered) // 2], ordered[len(ordered) // 2 :]] if len(ordered) > 1 else [ordered]
    by_sequence = {one.sequence: one for one in found}

    def shards(plan: str) -> tuple[Shard, ...]:
        return tuple(
            Shard(
                name=manifest.shard_name(plan, number),
                file=0,
                row_group=number,
                proteins=len(chunk),
                residues=sum(map(len, chunk)),
                min_length=len(chunk[0]),
                max_length=len(chunk[-1]),
                cost=sum(map(len, chunk)),
                digest=manifest.shard_digest(map(structure_id, chunk)),
            )
            for number, chunk in enumerate(chunks)
        )

    described = (Source(source, 1000, 1, digest_of(source), len(records)),)
    name = manifest.plan_name(described, 1280, shards(""))
    outcomes: dict[str, int] = {}
    for record in records:
        outcomes[record["outcome"]] = outcomes.get(record["outcome"], 0) + 1
    sequences = [
        [{"structure_id": structure_id(s), "sequence": s, "length": len(s)} for s in chunk] for chunk in chunks
    ]
    plan = Plan(
        format=1,
        name=name,
        created=f"{created}T09:00:00.000+00:00",
        max_length=1280,
        sources=described,
        outcomes=outcomes,
        proteins=len(ordered),
        residues=sum(map(len, ordered)),
        cost=sum(shard.cost for shard in shards(name)),
        records=(write_table(folder, f"records/{name}-0.parquet", "records", records),),
        sequences=(write_table(folder, f"sequences/{name}-0.parquet", "sequences", *sequences),),
        shards=shards(name),
    )
    assert folder.commit_plan(plan)
    for number, chunk in enumerate(chunks):
        inside = [by_sequence[sequence] for sequence in chunk if sequence != lost]
        _write_shard(folder, plan, number, inside, [sequence for sequence in chunk if sequence == lost], source)
    return folder


def _write_shard(
    folder: AtlasFolder, plan: Plan, number: int, inside: list[Imported], failed: list[str], source: str
) -> None:
    shard = plan.shards[number]
    rows: dict[str, list[dict[str, object]]] = {
        "scores": [{"structure_id": one.structure_id, **scores_of(one, row)} for row, one in enumerate(inside)],
        "provenance": [{"structure_id": one.structure_id, **provenance_of(one, source)} for one in inside],
        "failures": [
            {"structure_id": structure_id(sequence), "stage": "import", "error": "the file was removed", "attempts": 1}
            for sequence in failed
        ],
    }
    files = {}
    for table in needed_tables(IMPORTED_FORMAT):
        path = folder.shard_file(table, shard.name, f"host_{number}_0")
        if table == "structures":
            metadata = {"model": IMPORTED_SETTINGS.model}
            with ParquetFile(folder.root, path, table, metadata=metadata, format=IMPORTED_FORMAT) as file:
                file.write(
                    encode_structures(
                        [one.structure_id for one in inside],
                        [one.sequence for one in inside],
                        [one.positions for one in inside],
                        [one.plddt for one in inside],
                    )
                )
            assert file.entry
            files[table] = file.entry
        else:
            files[table] = write_table(folder, path, table, rows[table])
    entry = entry_of(
        shard,
        plan=plan.name,
        attempt=f"host_{number}_0",
        settings_digest=manifest.settings_digest(IMPORTED_SETTINGS),
        folded=len(inside),
        failed=len(failed),
        residues=sum(len(one.sequence) for one in inside),
        files=files,
        run=made_run(run_id="import-1"),
    )
    assert folder.commit_entry(entry)
