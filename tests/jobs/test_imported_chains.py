"""Real chains imported, then compared with a copy in which ten things changed; and damage to imported atlases.

The chains are those of the shared data, where it is present; without it, chains of random walks.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.parquet.coordinates import StoredStructure
from foldatlas.atlas.parquet.structures import StructureLocation
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.writers.pdb_files import pdb_text
from foldatlas.jobs.diff import diff
from foldatlas.jobs.import_ import import_structures
from foldatlas.jobs.verify import repair, verify
from foldatlas.schemas.records import ATOMS, RESIDUES, STANDARD_RESIDUES, num_atoms, structure_id

pytestmark = pytest.mark.usefixtures("one_reader")

CHAINS = Path(__file__).parents[3] / "shared" / "data" / "chains.parquet"
FEW, MOST = 60, 300
RNG = np.random.default_rng(17)


def chains(most: int) -> dict[str, tuple[str, np.ndarray]]:
    """Sequence and atoms by id: the shortest chains of the shared data, NaN for atoms that they lack."""
    if not CHAINS.exists():
        sequences = ["".join(RNG.choice(list(STANDARD_RESIDUES), 30 + number % 40)) for number in range(most)]
        return {
            f"made{number}": (sequence, RNG.normal(0, 20, (num_atoms(sequence), 3)))
            for number, sequence in enumerate(sequences)
        }
    table = pq.read_table(CHAINS)
    names = (table.schema.metadata or {})[b"atom_type"].decode().removeprefix("index into ").split()
    rows = sorted(table.to_pylist(), key=lambda row: (len(row["sequence"]), row["chain_id"]))[:most]
    found = {}
    for row in rows:
        sequence = row["sequence"]
        starts = np.cumsum([0, *(num_atoms(letter) for letter in sequence)])
        positions = np.full((starts[-1], 3), np.nan)
        for residue, atom, *place in zip(
            row["atom_residue"], row["atom_type"], row["x"], row["y"], row["z"], strict=True
        ):
            if names[atom] in ATOMS[sequence[residue]]:
                positions[starts[residue] + ATOMS[sequence[residue]].index(names[atom])] = np.array(place) / 1000
        found[row["chain_id"]] = (sequence, positions)
    return found


def pdb(
    name: str, sequence: str, positions: np.ndarray, plddt: np.ndarray, *, ptm: float = 0.5, model: str = "nano"
) -> str:
    stored = StoredStructure(structure_id(sequence), sequence, positions.astype(np.float32), plddt.astype(np.float32))
    return pdb_text(stored, name=name, model=model, mean_plddt=float(np.nanmean(plddt)), ptm=ptm)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of some chains, and the atlas of them. Read only."""
    return imported(tmp_path_factory.mktemp("chains"), FEW)


def imported(root: Path, most: int) -> Path:
    (root / "files").mkdir()
    for name, (sequence, positions) in chains(most).items():
        plddt = RNG.uniform(30, 95, len(sequence)).round(2)
        (root / "files" / f"{name}.pdb").write_text(pdb(name, sequence, positions, plddt))
    summary = import_structures([str(root / "files")], root / "atlas")
    assert summary.accounting.folded == len(list((root / "files").iterdir())), summary.accounting
    return root


def test_ten_changes_are_named_and_nothing_else(given: Path, tmp_path: Path) -> None:
    check_ten_changes(given, tmp_path)


@pytest.mark.long
def test_ten_changes_among_300_chains(tmp_path: Path) -> None:
    (tmp_path / "before").mkdir()
    check_ten_changes(imported(tmp_path / "before", MOST), tmp_path)


def check_ten_changes(given: Path, tmp_path: Path) -> None:
    files = tmp_path / "files"
    shutil.copytree(given / "files", files)
    with Atlas.open(given / "atlas") as atlas:
        rows = atlas.query(
            "SELECT id, structure_file, structure_row FROM proteins ORDER BY length DESC LIMIT 10"
        ).rows()
        stored = {name: next(iter(atlas.structures([place]))) for name, *_, place in _places(atlas, rows)}
    names = sorted(stored)
    changes: dict[str, tuple[str, str]] = {}

    def write(number: int, what: tuple[str, str], **changed: Any) -> None:
        one = stored[names[number]]
        of = {"sequence": one.sequence, "positions": one.positions.copy(), "plddt": one.plddt.copy(), **changed}
        (files / f"{names[number]}.pdb").write_text(pdb(names[number], **of))
        changes[names[number]] = what

    (files / f"{names[0]}.pdb").unlink()
    changes[names[0]] = ("lost", "outcome")
    write(1, ("sequence", "structure_id"), sequence=_mutated(stored[names[1]].sequence))
    write(2, ("score", "mean_plddt"), plddt=stored[names[2]].plddt - 5)
    write(3, ("score", "ptm"), ptm=0.9)
    shifted = stored[names[4]].plddt.copy()
    shifted[:2] += (6, -6)
    write(4, ("score", "plddt of residue 1"), plddt=shifted)
    bent = stored[names[5]].positions.copy()
    bent[: len(bent) // 2] += (4, 0, 1)
    write(5, ("coordinates", "rmsd"), positions=bent)
    fewer = stored[names[6]].positions.copy()
    fewer[np.flatnonzero(~np.isnan(fewer).any(axis=1))[-1]] = np.nan
    write(6, ("coordinates", "atoms"), positions=fewer)
    write(7, ("provenance", "model"), model="esmfold_v1")
    (files / f"{names[8]}.pdb").write_text("HEADER\nATOM  broken\n")
    changes[names[8]] = ("outcome", "outcome")
    extra = "MKVLAAGIDE"
    atoms, plddt = RNG.normal(0, 9, (num_atoms(extra), 3)), 60.5 + np.arange(len(extra))
    (files / "another.pdb").write_text(pdb("another", extra, atoms, plddt))
    changes["another"] = ("new", "outcome")
    import_structures([str(files)], tmp_path / "atlas", name="the files")
    with diff(given / "atlas", tmp_path / "atlas") as found:
        listed = {(row[1], row[0], row[3]) for row in found.result().rows()}
    assert listed == {(name, *what) for name, what in changes.items()} and len(changes) == 10


def _places(atlas: Atlas, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    identities = dict(atlas.query("SELECT id, structure_id FROM proteins").rows())
    return [(name, StructureLocation(identities[name].bytes, file, row)) for name, file, row in rows]


def _mutated(sequence: str) -> str:
    """A sequence with another last residue, of as many atoms."""
    letters = {letter: len(ATOMS[letter]) for letter in RESIDUES if letter in STANDARD_RESIDUES}
    for place in reversed(range(len(sequence))):
        for letter, number in letters.items():
            if letter != sequence[place] and number == len(ATOMS[sequence[place]]):
                return sequence[:place] + letter + sequence[place + 1 :]
    raise AssertionError(sequence)


def test_records_and_sequences_are_derived(given: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    """From the index and the structures, byte for byte. What these lack too needs a copy, and no shard is dropped."""
    atlas = Path(shutil.copytree(given / "atlas", tmp_path / "atlas"))
    [plan] = AtlasFolder(atlas).plans()
    [records], [sequences] = plan.records, plan.sequences
    sound = {file.path: (atlas / file.path).read_bytes() for file in (records, sequences)}
    (atlas / records.path).unlink()
    content = bytearray(sound[sequences.path])
    content[len(content) // 2] ^= 4
    (atlas / sequences.path).write_bytes(content)
    done = run("verify", atlas, "--repair")
    assert (done.returncode, done.stdout.rpartition(": ")[2]) == (0, "no fault\n"), done.stderr
    assert done.stderr.count("from the index and the structures") == 2 and "dropped" not in done.stderr
    assert {path: (atlas / path).read_bytes() for path in sound} == sound
    for path in sound:
        (atlas / path).unlink()
    (atlas / "atlas.duckdb").unlink()
    (atlas / next(iter(AtlasFolder(atlas).entries().values())).files["structures"].path).unlink()
    entries = sorted((atlas / "manifest").iterdir())
    done = run("verify", atlas, "--repair")
    assert done.returncode == 3 and "has no index" in done.stderr and "are damaged too" in done.stderr
    assert sorted((atlas / "manifest").iterdir()) == entries


def test_shards_at_fault_are_imported_again_or_lost(given: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    """With the source, the same command brings the structures back. Without it, each is recorded as lost."""
    files = tmp_path / "files"
    files.mkdir()
    for path in sorted((given / "files").iterdir())[:20]:
        shutil.copyfile(path, files / path.name)
    import_structures([str(files)], tmp_path / "atlas")
    assert verify(tmp_path / "atlas").faults == []
    folder = AtlasFolder(tmp_path / "atlas")

    def damage() -> tuple[str, int]:
        entry = next(iter(folder.entries().values()))
        (folder.root / entry.files["structures"].path).unlink()
        return entry.shard, entry.folded

    shard, number = damage()
    done = run("verify", folder.root, "--repair")
    assert f"shard {shard}: dropped" in done.stderr and f"{number} structures: run the same" in done.stderr, done.stderr
    summary = import_structures([str(files)], folder.root)
    assert (summary.accounting.folded, summary.accounting.pending) == (20, 0)
    assert verify(folder.root).faults == []
    shard, number = damage()
    shutil.rmtree(files)
    assert repair(folder.root).faults == []
    entry = folder.entries()[shard]
    assert (entry.folded, entry.failed) == (0, number)
    errors = folder.read_table(entry.files["failures"].path, ["error"])["error"].to_pylist()
    assert len(errors) == number and all(error.startswith("lost: ") for error in errors)
