"""`foldatlas diff` on two atlases whose every difference is known."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import duckdb
import novelty_atlas as made
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from Bio.SVDSuperimposer import SVDSuperimposer
from commands import in_own_process
from msgspec.structs import replace as replaced
from novelty_atlas import Protein

from foldatlas.atlas.diff import coordinates
from foldatlas.atlas.folder import INDEX, AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.sql.result_formats import write_parquet
from foldatlas.folding.prediction import Prediction
from foldatlas.jobs.diff import diff
from foldatlas.pipeline.sources.find import SourceWarning
from foldatlas.schemas.records import format_structure_id, structure_id

Run = Callable[..., Any]
Pair = tuple[Path, Path, dict[str, Protein]]

# Values that searches and clustering would have written to the index: of each atlas, by id.
NOVELTY = {"known": (0.8, "entry0"), "helped": (0.6, "entry3"), "novel1": (0.3, "other1"), "novel2": (0.2, None)}
CLUSTERS = {"novel4": "novel4", "novel5": "novel4", "novel6": "novel4", "novel7": "novel7", "helped": "novel7"}


@dataclass(frozen=True)
class Changed(Protein):
    """A protein whose prediction is changed by `change`, a function of positions and pLDDT."""

    change: Callable[[np.ndarray, np.ndarray], None] = lambda positions, plddt: None

    def prediction(self) -> Prediction:
        found = super().prediction()
        self.change(found.positions, found.plddt)
        return found


def bend(positions: np.ndarray, plddt: np.ndarray) -> None:
    positions[: len(positions) // 2] += (3.0, 0.0, 1.0)


def lose_an_atom(folder: AtlasFolder, protein: Protein) -> None:
    """Commit the shard of a structure again with an atom of it NULL, as in imports."""
    for entry in folder.entries().values():
        path = folder.root / entry.files["structures"].path
        table = pq.read_table(path)
        rows = [str(row) for row in table["structure_id"].to_pylist()]
        if id_of(protein) in rows:
            for axis in "xyz":
                place, values = table.schema.get_field_index(axis), table[axis].to_pylist()
                values[rows.index(id_of(protein))][7] = None
                table = table.set_column(place, table.schema.field(place), pa.array(values, table[axis].type))
            pq.write_table(table, path)
            content = path.read_bytes()
            file = replaced(entry.files["structures"], bytes=len(content), sha256=sha256(content).hexdigest())
            files = {**entry.files, "structures": file}
            folder.commit_entry(replaced(entry, generation=entry.generation + 1, files=files))
            return
    raise AssertionError("no file has the structure")


def doubt_a_residue(positions: np.ndarray, plddt: np.ndarray) -> None:
    plddt[4] -= 5.0
    plddt[5] += 5.0  # the mean stays


def move(positions: np.ndarray, plddt: np.ndarray) -> None:
    """A rigid motion, which is no difference."""
    x, y, z = positions.T.copy()
    positions[:] = np.stack([y + 10.0, -x, z - 3.0], axis=1)


def changed(protein: Protein, change: Callable[[np.ndarray, np.ndarray], None]) -> Changed:
    return Changed(protein.chain, protein.plddt, protein.ptm, change)


def id_of(protein: Protein) -> str:
    return format_structure_id(structure_id(protein.sequence))


def fill(atlas: Path, proteins: dict[str, Protein], novelty: dict[str, Any], clusters: dict[str, str]) -> None:
    with duckdb.connect(str(atlas / INDEX)) as index:
        for name, (tm, target) in novelty.items():
            index.execute(
                "UPDATE scores SET tm_query = ?, nearest_structure = ? WHERE structure_id = ?",
                [tm, target, id_of(proteins[name])],
            )
        for name, representative in clusters.items():
            index.execute(
                "UPDATE scores SET cluster30 = ? WHERE structure_id = ?",
                [id_of(proteins[representative]), id_of(proteins[name])],
            )


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Two atlases and the proteins of the first. Read only."""
    root = tmp_path_factory.mktemp("diff")
    old = made.proteins()
    made.write_atlas(AtlasFolder(root / "old"), old)
    fill(root / "old", old, NOVELTY, CLUSTERS)

    new = {name: protein for name, protein in old.items() if name != "short"}  # lost
    new["added"] = Protein(made.made.made(77, 900))  # new
    new["novel0"] = Protein(made.made.made(70, 901))  # another sequence
    new["known"] = replace(old["known"], plddt=80.0)  # another mean pLDDT
    new["helped"] = replace(old["helped"], ptm=0.7)
    new["leaver"] = changed(old["leaver"], bend)
    new["doubtful"] = changed(old["doubtful"], doubt_a_residue)
    new["novel7"] = changed(old["novel7"], move)  # no difference
    folder = AtlasFolder(root / "new")
    made.write_atlas(folder, new, index=False)
    lose_an_atom(folder, new["novel3"])
    build_index(folder)
    novelty = NOVELTY | {"novel1": (0.55, "other2"), "known": (0.8004, "entry0")}
    clusters = {"novel4": "novel5", "novel5": "novel5", "novel6": "novel7", "novel7": "novel7", "helped": "novel7"}
    fill(root / "new", new, novelty, clusters)
    return root / "old", root / "new", old


def rows_of(run: Run, *words: str | Path) -> list[dict[str, Any]]:
    done = run("diff", *words, "--format", "jsonl")
    assert done.returncode in (0, 3), done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_each_difference_is_named_and_nothing_else(pair: Pair, run: Run) -> None:
    old, new, proteins = pair
    found = [(row["change"], row["id"], row["column"], row["before"], row["after"]) for row in rows_of(run, old, new)]
    other = id_of(Protein(made.made.made(70, 901)))
    atoms = len(proteins["novel3"].prediction().positions)
    ids = {name: id_of(protein) for name, protein in proteins.items()}
    assert found == [
        ("new", "added", "outcome", None, "folded (accepted)"),
        ("lost", "short", "outcome", "folded (accepted)", None),
        ("sequence", "novel0", "structure_id", ids["novel0"], other),
        ("score", "doubtful", "plddt of residue 5", "45.00", "40.00"),
        ("score", "helped", "ptm", "0.9", "0.7"),
        ("score", "known", "mean_plddt", "90.0", "80.0"),
        ("coordinates", "leaver", "rmsd", None, None),
        ("coordinates", "novel3", "atoms", str(atoms), str(atoms - 1)),
        ("novelty", "novel1", "nearest_structure", "other1", "other2"),
        ("novelty", "novel1", "tm_query", "0.3", "0.55"),
        ("cluster", "novel6", "cluster30", ids["novel4"], ids["novel7"]),
        ("representative", "novel4", "cluster30", ids["novel4"], ids["novel5"]),
    ]


def test_rmsd_equals_biopython(pair: Pair, run: Run) -> None:
    old, new, proteins = pair
    [found] = [row for row in rows_of(run, old, new) if row["column"] == "rmsd"]
    before = proteins["leaver"].prediction().positions
    after = changed(proteins["leaver"], bend).prediction().positions
    superimposer = SVDSuperimposer()
    superimposer.set(before.astype(np.float64), after.astype(np.float64))
    superimposer.run()
    assert found["amount"] == pytest.approx(superimposer.get_rms(), abs=0.01)  # stored to 0.01 angstrom
    assert found["amount"] > 0.5


def test_a_copy_has_no_differences(pair: Pair, run: Run, tmp_path: Path) -> None:
    shutil.copytree(pair[0], tmp_path / "copy")
    done = run("diff", pair[0], tmp_path / "copy")
    assert (done.returncode, done.stdout) == (0, "no differences\n")


def test_text_parquet_and_tolerances(pair: Pair, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new, _ = pair
    done = run("diff", old, new, "--limit", "1")
    assert done.returncode == 3
    lines = done.stdout.splitlines()
    assert lines[-1] == ("1 new, 1 lost, 1 sequence, 3 score, 2 coordinates, 2 novelty, 1 cluster, 1 representative")
    assert "score           ... and 2 more" in lines
    assert [line for line in lines if line.startswith("coordinates     leaver: RMSD ")]

    quiet = rows_of(run, old, new, "--plddt", "10", "--ptm", "0.3", "--rmsd", "9", "--similarity", "0.3")
    assert [row["id"] for row in quiet if row["change"] in ("score", "coordinates")] == ["novel3"]
    assert [row["column"] for row in quiet if row["change"] == "novelty"] == ["nearest_structure"]
    quick = rows_of(run, old, new, "--quick")
    assert [row["column"] for row in quick if row["change"] in ("score", "coordinates")] == ["ptm", "mean_plddt"]

    monkeypatch.setattr(coordinates, "STRUCTURES_PER_BATCH", 2)  # several batches, of which one has no differences
    whole = rows_of(run, old, new)
    monkeypatch.undo()
    assert whole == rows_of(run, old, new)


def test_outcomes_and_settings(pair: Pair, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that is refused in one atlas, one that stands twice, and another model."""
    proteins = pair[2]
    few = {name: proteins[name] for name in ("known", "helped")}
    first, second = AtlasFolder(tmp_path / "first"), AtlasFolder(tmp_path / "second")
    made.write_atlas(first, few)
    monkeypatch.setattr(made, "SETTINGS", replace(made.SETTINGS, model="other"))
    made.write_atlas(second, {"known": few["known"]})
    with pytest.warns(SourceWarning, match="has the same bytes"):
        made.write_atlas(second, {"known": few["known"]}, "again")
    with duckdb.connect(str(first.root / INDEX)) as index:
        index.execute(
            "UPDATE records SET state = 'refused', outcome = 'digit', structure_id = NULL WHERE id = 'helped'"
        )
    found = [
        (row["change"], row["id"], row["column"], row["before"], row["after"])
        for row in rows_of(run, first.root, second.root)
    ]
    assert found == [
        ("settings", None, "model", "nano", "other"),
        ("lost", "helped", "outcome", "refused (digit)", None),
        ("outcome", "known", "outcome", "folded (accepted)", "2 folded (accepted)"),
    ]


def test_wrong_use_is_one_line(pair: Pair, run: Run, tmp_path: Path) -> None:
    old, new, _ = pair
    for words, text in (
        ((old, old), "give two"),
        ((old, tmp_path / "nothing"), "no such folder"),
        ((old, new, "--rmsd", "nan"), "must be a number of at least 0"),
        ((old, new, "--rmsd", "one"), "is not a number"),
        ((old,), "required"),
    ):
        done = run("diff", *words)
        assert done.returncode == 2 and text in done.stderr and "Traceback" not in done.stderr


def test_an_atlas_on_a_store(pair: Pair, run: Run, s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second atlas on a store gives the same rows; there the index is made anew, without novelty and clusters."""
    monkeypatch.setenv("FOLDATLAS_CACHE", str(tmp_path / "cache"))
    s3.create_bucket(Bucket="atlases")
    store = AtlasFolder("s3://atlases/new")
    for file in AtlasFolder(pair[1]).storage.files():
        if file.name != INDEX:
            with store.storage.building(file.name) as path:
                path.write_bytes(AtlasFolder(pair[1]).storage.read(file.name))
    build_index(store)
    kept = ("new", "lost", "sequence", "score", "coordinates")
    expected = [row for row in rows_of(run, pair[0], pair[1]) if row["change"] in kept]
    assert [row for row in rows_of(run, pair[0], "s3://atlases/new") if row["change"] in kept] == expected


def test_parquet_is_read_by_another_reader(pair: Pair, tmp_path: Path) -> None:
    done = in_own_process("diff", pair[0], pair[1], "--format", "csv")
    assert done.returncode == 3 and len(done.stdout.splitlines()) == 13
    path = tmp_path / "differences.parquet"
    with diff(pair[0], pair[1]) as differences, path.open("wb") as file:
        assert write_parquet(differences.result(), file).rows == 12
    assert pq.read_table(path).column_names == ["change", "id", "structure_id", "column", "before", "after", "amount"]
