"""`foldatlas import`: folders and archives of structures become an atlas, with an outcome for each file."""

import gzip
import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import gemmi
import made_structures
import numpy as np
import pyarrow.parquet as pq
import pytest
from commands import in_this_process as run

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.reference.read import Member
from foldatlas.jobs.import_ import import_structures
from foldatlas.pipeline.importing import reader
from foldatlas.pipeline.importing import run as importing
from foldatlas.pipeline.importing.options import ImportOptions
from foldatlas.pipeline.importing.rows import file_row
from foldatlas.schemas.errors import Interrupted, UsageError
from foldatlas.schemas.records import structure_id

pytestmark = pytest.mark.usefixtures("one_reader")

LENGTHS = (40, 41, 42, 43, 44)
SHARED = made_structures.random_sequence(50, 99)


def structure(sequence: str, seed: int, plddt: float, chains: str = "A") -> gemmi.Structure:
    made = made_structures.structure(
        {chain: (sequence, made_structures.backbone(len(sequence), seed + n)) for n, chain in enumerate(chains)}
    )
    rng = np.random.default_rng(seed)
    for chain in made[0]:
        for residue in chain:
            value = round(float(np.clip(rng.normal(plddt, 3), 0, 100)), 2)
            for atom in residue:
                atom.b_iso = value
    return made


def text(made: gemmi.Structure, ending: str = ".pdb") -> bytes:
    document = made.make_mmcif_document().as_string() if ending == ".cif" else made.make_pdb_string()
    return document.encode()


def files() -> dict[str, bytes]:
    """Names and contents: structures of distinct sequences and of one shared by four files, and others."""
    found = {
        f"p{n}{'.cif' if n % 2 else '.pdb'}": text(
            structure(made_structures.random_sequence(length, n), n, 80), ".cif" if n % 2 else ".pdb"
        )
        for n, length in enumerate(LENGTHS)
    }
    found["deep/p4.pdb.gz"] = gzip.compress(found.pop("p4.pdb"), mtime=0)
    best = text(structure(SHARED, 7, 90))
    return found | {
        "a_paralogue.pdb": text(structure(SHARED, 5, 60)),
        "b_best.pdb": best,
        "copies/b_best.pdb": best,
        "models/b_best.pdb": text(structure(SHARED, 8, 70)),
        "z/p0.pdb": text(structure(SHARED[:44], 3, 70)),
        "dimer.pdb": text(structure(SHARED[:30], 3, 70, "AB")),
        "nothing.pdb": b"HEADER    NOTHING\nEND\n",
        "scores.json": b"{}",
    }


OUTCOMES = {
    "a_paralogue.pdb": "accepted",
    "b_best.pdb": "accepted",
    "copies/b_best.pdb": "repeated",
    "models/b_best.pdb": "alternative_model",
    "z/p0.pdb": "duplicate_id",
    "dimer.pdb": "several_chains",
    "nothing.pdb": "empty",
    "scores.json": "other_file",
    **{f"p{n}{'.cif' if n % 2 else '.pdb'}": "accepted" for n in range(4)},
    "deep/p4.pdb.gz": "accepted",
}


def written(folder: Path, contents: dict[str, bytes]) -> Path:
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def archived(path: Path, contents: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def records(atlas: Path) -> list[dict]:
    """The records of the newest plan."""
    folder = AtlasFolder(atlas)
    return [row for file in folder.plans()[-1].records for row in pq.read_table(atlas / file.path).to_pylist()]


def outcomes(atlas: Path) -> dict[str, str]:
    return {row["path"]: row["outcome"] for row in records(atlas)}


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas of a folder, imported by the command's function."""
    root = tmp_path_factory.mktemp("import")
    summary = import_structures([str(written(root / "files", files()))], root / "atlas", plddt_scale=100)
    assert (summary.accounting.records, summary.accounting.folded) == (len(OUTCOMES), 7)
    return root


def test_each_file_is_a_record_with_an_outcome(imported: Path) -> None:
    assert outcomes(imported / "atlas") == OUTCOMES
    assert not (imported / "atlas" / ".staging").exists()


def test_best_model_of_a_sequence_is_kept(imported: Path) -> None:
    """The ids of all its files share it; each file's own mean pLDDT is in its record."""
    expected = structure(SHARED, 7, 90)[0][0]
    with Atlas.open(imported / "atlas") as atlas:
        stored = atlas.structure("a_paralogue")
    provenance = [
        row
        for entry in AtlasFolder(imported / "atlas").entries().values()
        for row in pq.read_table(imported / "atlas" / entry.files["provenance"].path).to_pylist()
    ]
    [path] = [row["path"] for row in provenance if row["structure_id"].bytes == structure_id(SHARED)]
    means = [(row["path"], row["file_mean_plddt"]) for row in records(imported / "atlas") if row["length"] == 50]
    assert path == "b_best.pdb"
    alphas = [residue.get_ca().pos.tolist() for residue in expected]
    found = stored.positions[[place for place, name in enumerate(names(SHARED)) if name == "CA"]]
    assert np.abs(found - alphas).max() <= 0.0051
    assert np.abs(stored.plddt - [residue[0].b_iso for residue in expected]).max() <= 0.0051
    assert [name for name, _ in means] == ["a_paralogue.pdb", "b_best.pdb", "copies/b_best.pdb", "models/b_best.pdb"]
    assert [round(mean, -1) for _, mean in means] == [60, 90, 90, 70]


def names(sequence: str) -> list[str]:
    from foldatlas.schemas.records import ATOMS

    return [atom for letter in sequence for atom in ATOMS[letter]]


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.zip"])
def test_archives_give_the_records_of_the_folder(name: str, imported: Path, tmp_path: Path) -> None:
    path = archived(tmp_path / name, files())
    import_structures([str(path)], tmp_path / "atlas", plddt_scale=100)
    assert outcomes(tmp_path / "atlas") == OUTCOMES


def test_later_imports_never_replace(imported: Path, tmp_path: Path) -> None:
    """A better model of a sequence that the atlas has: its id is accepted, and shares the structure of before."""
    shutil.copytree(imported / "atlas", tmp_path / "atlas")
    better = written(tmp_path / "more", {"better.pdb": text(structure(SHARED, 1, 97))})
    summary = import_structures([str(better)], tmp_path / "atlas", plddt_scale=100)
    assert summary.report.choice is not None and summary.report.choice.known == 1
    with Atlas.open(tmp_path / "atlas") as atlas, Atlas.open(imported / "atlas") as before:
        assert np.array_equal(atlas.structure("better").positions, before.structure("b_best").positions, equal_nan=True)


def test_changed_source_is_a_new_version(imported: Path, tmp_path: Path) -> None:
    """A file changed, one is gone, one is new; unchanged, nothing is read."""
    shutil.copytree(imported / "atlas", tmp_path / "atlas")
    folder = imported / "files"
    again = import_structures([str(folder)], tmp_path / "atlas", plddt_scale=100)
    assert again.report.known == (str(folder.resolve()),) and again.report.files == 0
    moved = tmp_path / "files"
    shutil.copytree(folder, moved)
    import_structures([str(moved)], tmp_path / "other", plddt_scale=100, name="models")
    (moved / "p1.cif").unlink()
    (moved / "nothing.pdb").write_bytes(text(structure("MKLAGS" * 8, 4, 50)))
    changed = import_structures([str(moved)], tmp_path / "other", plddt_scale=100, name="models")
    assert [(change.new, change.gone) for change in changed.report.changes] == [(1, 1)]
    expected = {name: outcome for name, outcome in OUTCOMES.items() if name != "p1.cif"} | {"nothing.pdb": "accepted"}
    assert outcomes(tmp_path / "other") == expected


def test_interrupted_import_reads_no_file_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after reading, and again after the plan was committed: the same call goes on from there."""
    folder = str(written(tmp_path / "files", files()))

    def stop(*_: object, **__: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patched:
        patched.setattr(importing, "make_import_plan", stop)
        with pytest.raises(Interrupted):
            import_structures([folder], tmp_path / "atlas", plddt_scale=100)
    assert not (tmp_path / "atlas" / "atlas.json").exists()
    monkeypatch.setattr(importing, "read_files", stop)
    with monkeypatch.context() as patched:
        patched.setattr(importing, "_write", stop)
        with pytest.raises(Interrupted):
            import_structures([folder], tmp_path / "atlas", plddt_scale=100)
    assert AtlasFolder(tmp_path / "atlas").plans() and not AtlasFolder(tmp_path / "atlas").entries()
    import_structures([folder], tmp_path / "atlas", plddt_scale=100)
    assert outcomes(tmp_path / "atlas") == OUTCOMES


def test_structures_whose_files_changed_too_early_are_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan was committed, no shard, and then the file of one sequence was changed: that one is lost."""
    folder = written(tmp_path / "files", {name: files()[name] for name in ("p0.pdb", "p1.cif", "p2.pdb")})

    def stop(*_: object, **__: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patched:
        patched.setattr(importing, "_write", stop)
        with pytest.raises(Interrupted):
            import_structures([str(folder)], tmp_path / "atlas", plddt_scale=100)
    (folder / "p0.pdb").write_bytes(text(structure("MKLAGS" * 7, 1, 50)))
    summary = import_structures([str(folder)], tmp_path / "atlas", plddt_scale=100)
    assert (summary.accounting.folded, summary.accounting.failed, summary.accounting.pending) == (3, 0, 0)
    entries = AtlasFolder(tmp_path / "atlas").entries().values()
    assert sum(entry.failed for entry in entries) == 3 and sum(entry.folded for entry in entries) == 3


def test_file_that_crashes_its_reader_has_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader whose process is killed by one file: the file is recorded, and all others are read."""
    program = tmp_path / "crashing.py"
    program.write_text(
        "import os, signal, sys\n"
        "from foldatlas.pipeline.importing import child, rows\n"
        "read = rows.read_content\n"
        "def crash(content, *options):\n"
        "    if b'CRASH' in content:\n"
        "        os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    return read(content, *options)\n"
        "rows.read_content = crash\n"
        "child.main(sys.argv[1:])\n"
    )
    import sys

    monkeypatch.setattr(reader, "_reader", reader.Reader((sys.executable, str(program))))
    contents = {"a.pdb": files()["p0.pdb"], "b.pdb": b"REMARK CRASH\n" + files()["p2.pdb"], "c.pdb": files()["p2.pdb"]}
    import_structures([str(archived(tmp_path / "x.tar", contents))], tmp_path / "atlas", plddt_scale=100)
    reader.end_reader()
    assert outcomes(tmp_path / "atlas") == {"a.pdb": "accepted", "b.pdb": "crashed", "c.pdb": "accepted"}


def test_scores_of_colabfold_declare_plddt(tmp_path: Path) -> None:
    """Five ranks with their scores beside them, of which one is of another structure: that one stays unknown."""
    contents = {}
    for rank, plddt in enumerate((90, 80, 70), 1):
        made = structure(SHARED, rank, plddt)
        values = [residue[0].b_iso for residue in made[0][0]]
        if rank == 3:
            values.reverse()
        contents[f"d1_unrelaxed_rank_00{rank}_model.pdb"] = text(made)
        scores = {"plddt": values, "ptm": 0.8, "max_pae": 31.75, "pae": [[1.5] * 50] * 50}
        contents[f"d1_scores_rank_00{rank}_model.json"] = json.dumps(scores).encode()
    folder = written(tmp_path / "files", contents)
    import_structures([str(folder)], tmp_path / "atlas", id_from="(.+)_unrelaxed", model="AlphaFold 2")
    found = [(row["id"], row["outcome"]) for row in records(tmp_path / "atlas") if row["path"].endswith(".pdb")]
    assert found == [("d1", "accepted"), ("d1", "alternative_model"), ("d1_unrelaxed_rank_003_model", "unknown_plddt")]
    with Atlas.open(tmp_path / "atlas") as atlas:
        [(mean, ptm)] = atlas.query("select mean_plddt, ptm from proteins").rows()
    assert abs(mean - 90) < 2 and abs(ptm - 0.8) < 1e-6


def test_ids_come_from_names_patterns_or_files() -> None:
    header = "TITLE     ALPHAFOLD MONOMER V2.0 PREDICTION FOR SOMETHING (P12345)\n"
    content = header.encode() + text(structure(SHARED, 1, 90))
    found = {}
    for id_from in (None, "AF-([A-Z0-9]+)-F", "header", "nowhere"):
        options = ImportOptions(id_from=id_from)
        row, _ = file_row(0, "AF-P12345-F1-model_v4.pdb", Member("", content), options)
        found[id_from] = (row["id"], row["outcome"])
    assert found == {
        None: ("AF-P12345-F1-model_v4", "accepted"),
        "AF-([A-Z0-9]+)-F": ("P12345", "accepted"),
        "header": ("P12345", "accepted"),
        "nowhere": ("AF-P12345-F1-model_v4", "missing_id"),
    }


def test_wrong_use_is_refused(imported: Path, tmp_path: Path) -> None:
    folder = str(imported / "files")
    cases = (
        ([str(tmp_path / "nowhere")], {}),
        ([str(imported / "atlas")], {}),
        ([folder], {"experimental": True, "plddt_scale": 1}),
        ([folder], {"id_from": "("}),
        ([folder], {"id_from": "(a)(b)"}),
        ([folder, str(imported / "files" / "p0.pdb")], {"name": "one"}),
    )
    for names_, options in cases:
        with pytest.raises(UsageError):
            import_structures(names_, tmp_path / "atlas", **options)
    assert not (tmp_path / "atlas").exists()


def test_command_says_what_was_done(tmp_path: Path) -> None:
    """A file of unknown B-factors is refused: exit code 3 with --strict, 0 without."""
    folder = str(written(tmp_path / "files", {"p0.pdb": files()["p0.pdb"], "notes.txt": b"x"}))
    strict = run("import", folder, str(tmp_path / "atlas"), "--strict")
    assert strict.returncode == 3
    assert strict.stdout == "2 records: 0 folded, 0 repeated, 2 refused (1 other_file, 1 unknown_plddt), 0 failed\n"
    scaled = run("import", folder, str(tmp_path / "atlas"), "--strict", "--plddt-scale", "100")
    assert scaled.returncode == 0 and "imported 1 structure of 2 files" in scaled.stderr
    assert run("import", folder, str(tmp_path / "atlas"), "--plddt-scale", "50").returncode == 2
