"""A generated atlas and references for it, in which a search meets every case: known, novel, badly folded, too short.

The atlas is made by the project's planner and writer; its structures are made chains (made_chains.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import made_reference as made
import numpy as np
from quantised import quantised

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.storage.commit import attempt_name
from foldatlas.folding.prediction import Prediction
from foldatlas.pipeline.planning.costs import CostModel
from foldatlas.pipeline.planning.planner import make_plan
from foldatlas.pipeline.shards.writer import ShardWriter
from foldatlas.schemas.manifest import Plan, Run, ShardEntry, settings_digest
from foldatlas.schemas.records import ATOMS, Settings
from foldatlas.schemas.tables import NEEDED_TABLES

SETTINGS = Settings(model="nano", weights="ab" * 32, recycles=0, precision="fp32")
COSTS = CostModel(lambda length: length * length + 1, 1e6, 34.0, 80.0)


@dataclass(frozen=True)
class Protein:
    """A structure to store: sequence and backbone, and one pLDDT and pTM for all of it."""

    chain: tuple[str, made.Atoms]
    plddt: float = 90.0
    ptm: float = 0.9

    @property
    def sequence(self) -> str:
        return self.chain[0]

    def prediction(self) -> Prediction:
        """Side chains are points beside the C-alpha: a search does not look at them."""
        sequence, (n, ca, c, cb) = self.chain
        rng = np.random.default_rng(len(sequence))
        atoms = []
        for row, letter in enumerate(sequence):
            known = {"N": n[row], "CA": ca[row], "C": c[row], "CB": cb[row]}
            atoms += [known.get(name, ca[row] + rng.normal(size=3)) for name in ATOMS[letter]]
        plddt = np.full(len(sequence), self.plddt, np.float32)
        apart = np.abs(np.subtract.outer(np.arange(len(sequence)), np.arange(len(sequence))))
        pae = np.clip(apart / 4, 0.25, 31.75).astype(np.float32)
        return Prediction(sequence, np.array(atoms, np.float32), plddt, self.ptm, None, pae=pae)


def proteins() -> dict[str, Protein]:
    """Proteins by id. `known` resembles entry 0 of `reference`, `helped` entry 3 of its second version."""
    chains = {f"novel{k}": made.made(70 + 5 * k, 500 + k) for k in range(8)}
    return {
        "known": Protein(made.relative(made.made(90, 0), 40, 0.5)),
        "helped": Protein(made.relative(made.made(110, 3), 41, 0.5)),
        "leaver": Protein(made.relative(made.made(75, 1), 42, 0.5)),
        "doubtful": Protein(made.made(80, 99), plddt=45.0, ptm=0.3),
        "short": Protein(made.made(24, 8)),
        **{name: Protein(chain) for name, chain in chains.items()},
    }


def reference(folder: Path) -> made.Reference:
    """A reference of 10 entries in two files."""
    made.build(folder, {"entry0": made.made(90, 0), **{f"other{k}": made.made(60 + 7 * k, 200 + k) for k in range(8)}})
    return made.build(folder, {"entry1": made.made(75, 1)}, "leaving")


def grown(folder: Path) -> made.Reference:
    """The reference without `entry1`, whose file has another content now, and with `entry3`."""
    return made.build(folder, {"entry3": made.made(110, 3)}, "leaving")


def write_atlas(
    folder: AtlasFolder,
    given: Mapping[str, Protein],
    name: str = "proteins",
    *,
    index: bool = True,
    tables: Sequence[str] = NEEDED_TABLES,
) -> None:
    """Add `given` to the atlas as a plan of the file `<name>.fasta`, all of it folded, with `tables`."""
    fasta = folder.root.parent / f"{name}.fasta"
    fasta.write_text("".join(f">{id}\n{protein.sequence}\n" for id, protein in given.items()))
    folder.create(SETTINGS)
    planned = make_plan([str(fasta)], folder, SETTINGS, COSTS, max_length=1280)
    assert planned.plan is not None
    fold_missing(folder, planned.plan, given, tables=tables)
    if index:
        build_index(folder)


def fold_missing(
    folder: AtlasFolder, plan: Plan, given: Mapping[str, Protein], *, tables: Sequence[str] = NEEDED_TABLES
) -> None:
    """Write and commit the shards of `plan` that are not committed, as folding does."""
    committed = folder.entries()
    by_sequence = {protein.sequence: protein for protein in given.values()}
    for shard in plan.shards:
        if shard.name in committed:
            continue
        attempt = attempt_name()
        path = plan.sequences[shard.file].path
        sequences = folder.read_table(path, ["sequence"], shard.row_group)["sequence"].to_pylist()
        writer = ShardWriter(folder, shard.name, attempt, tables=tables, metadata={"model": SETTINGS.model})
        with writer.open():
            for sequence in sequences:
                writer.add(quantised(by_sequence[sequence].prediction()))
        folder.commit_entry(
            ShardEntry(
                format=1,
                shard=shard.name,
                plan=plan.name,
                generation=0,
                attempt=attempt,
                settings_digest=settings_digest(SETTINGS),
                shard_digest=shard.digest,
                folded=writer.num_folded,
                failed=0,
                residues=writer.num_residues,
                cost=shard.cost,
                files=writer.entries(),
                run=Run("run-1", "host", "cpu", "0.1.0", "2026-11-01T10:00:00.000+00:00", 2.5),
            )
        )
