"""Structure files and archives made to do harm: each becomes a row with a reason, and costs no other file."""

import gzip
import io
import resource
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import made_structures
import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from foldatlas.atlas.reference.read import Member
from foldatlas.pipeline.importing.options import ImportOptions
from foldatlas.pipeline.importing.reading import ReadTask, read_task
from foldatlas.pipeline.importing.rows import MAX_TEXT_BYTES, file_row
from foldatlas.pipeline.importing.sources import find_structure_sources
from foldatlas.schemas.import_tables import STAGED_FILES
from foldatlas.schemas.records import REFUSALS, Outcome, num_atoms

OPTIONS = ImportOptions(plddt_scale=100)
GOOD = (
    made_structures.structure({"A": ("MKLAGS" * 6, made_structures.backbone(36, 1))}).make_pdb_string().encode()
)  # its B-factors are constant
REASONS = {outcome.value for outcome in REFUSALS}


def read(path: Path, lanes: int = 1) -> dict[str, str]:
    """Stage a source as the workers of an import do. Return the outcome of each file."""
    [source] = find_structure_sources([str(path)])
    staging = path.parent / "staging"
    for lane in range(lanes):
        read_task(
            ReadTask(str(staging), source, OPTIONS, files=source.files, lane=lane, lanes=lanes), lambda number: True
        )
    rows = [row for file in sorted(staging.glob("*.files.parquet")) for row in pq.read_table(file).to_pylist()]
    if (total := staging / "total.json").exists():
        assert msgspec.json.decode(total.read_bytes())["files"] == len(rows)
    assert sorted(row["number"] for row in rows) == list(range(len(rows)))
    return {row["path"]: row["outcome"] for row in rows}


def member(archive: tarfile.TarFile, name: str, content: bytes = GOOD, kind: bytes = tarfile.REGTYPE) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    archive.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
def test_members_that_lead_out_are_unsafe(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{ending}"
    with tarfile.open(path, "w:gz" if ending.endswith("gz") else "w") as archive:
        member(archive, "../../up.pdb")
        member(archive, "/root.pdb")
        member(archive, "link.pdb", kind=tarfile.SYMTYPE)
        member(archive, "hard.pdb", kind=tarfile.LNKTYPE)
        member(archive, "fifo.pdb", kind=tarfile.FIFOTYPE)
        member(archive, "good.pdb")
    unsafe = dict.fromkeys(("../../up.pdb", "/root.pdb", "link.pdb", "hard.pdb", "fifo.pdb"), "unsafe")
    assert read(path) == {**unsafe, "good.pdb": "accepted"}
    assert not (tmp_path.parent / "up.pdb").exists()


def test_zip_bombs_are_too_large(tmp_path: Path) -> None:
    """A member of zeros, one that states to be small, and a link; the good ones are read."""
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.pdb", bytes(MAX_TEXT_BYTES + 1))
        archive.writestr("../up.pdb", GOOD)
        archive.writestr("good.pdb", GOOD)
        link = zipfile.ZipInfo("link.pdb")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    expected = {"bomb.pdb": "too_large", "../up.pdb": "unsafe", "good.pdb": "accepted", "link.pdb": "unsafe"}
    assert read(path) == expected


def test_compressed_bombs_are_too_large(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "bomb.pdb.gz").write_bytes(gzip.compress(bytes(MAX_TEXT_BYTES * 3)))
    (folder / "good.pdb.gz").write_bytes(gzip.compress(GOOD))
    (folder / "cut.pdb.gz").write_bytes(gzip.compress(GOOD)[:-20])
    assert read(folder) == {"bomb.pdb.gz": "too_large", "good.pdb.gz": "accepted", "cut.pdb.gz": "unreadable"}


def test_member_of_a_gigabyte_is_skipped(tmp_path: Path) -> None:
    """A hole of 1 GB in a tar archive: it is not read, and the next member is."""
    path = tmp_path / "x.tar"
    huge = tarfile.TarInfo("huge.pdb")
    huge.size = 1 << 30
    with path.open("wb") as file:
        file.write(huge.tobuf())
        file.seek(huge.size, io.SEEK_CUR)
        with tarfile.open(fileobj=file, mode="w") as archive:
            member(archive, "good.pdb")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert read(path) == {"huge.pdb": "too_large", "good.pdb": "accepted"}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # kB


def test_attributes_of_any_size_are_not_read(tmp_path: Path) -> None:
    """A header of attributes that states 8 GB, which tarfile would read into memory."""
    path = tmp_path / "x.tar"
    info = tarfile.TarInfo("attributes")
    info.type, info.size = tarfile.XHDTYPE, 8 << 30
    with tarfile.open(path, "w") as archive:
        member(archive, "good.pdb")
    with path.open("r+b") as file:
        file.seek(-(-len(GOOD) // 512) * 512 + 512)
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.truncate(file.tell() + (8 << 30))
    assert read(path) == {"good.pdb": "accepted", "": "too_large"}


def test_damaged_archive_is_read_up_to_the_damage(tmp_path: Path) -> None:
    """A header of zeros and ones in the middle; tarfile would end there without an error."""
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        for name in ("a.pdb", "b.pdb", "c.pdb"):
            member(archive, name)
    with path.open("r+b") as file:
        file.seek(512 + -(-len(GOOD) // 512) * 512)
        file.write(b"\1" * 512)
    assert read(path) == {"a.pdb": "accepted", "": "unreadable"}


def test_lanes_read_each_member_once(tmp_path: Path) -> None:
    """An archive of 3 chunks read by 2 lanes, and by 4, of which one has nothing to read."""
    names = [f"{number:04d}.txt" for number in range(600)]
    for lanes in (2, 4):
        path = tmp_path / f"{lanes}" / "x.tar.gz"
        path.parent.mkdir()
        with tarfile.open(path, "w:gz", compresslevel=1) as archive:
            for name in names:
                member(archive, name, b"x")
        assert read(path, lanes) == dict.fromkeys(names, "other_file")


def test_atoms_without_c_alphas_are_refused() -> None:
    """100,000 atoms of one name, as a PDB file with serial numbers that wrap."""
    line = "ATOM  {serial:5d}  N   ALA A{residue:4d}    {x:8.3f}   0.000   0.000  1.00 50.00           N\n"
    content = "".join(line.format(serial=n % 100_000, residue=n % 10_000, x=n % 1000) for n in range(100_000))
    row, structure = file_row(0, "x.pdb", Member("x.pdb", content.encode()), OPTIONS)
    assert (row["outcome"], structure) == ("no_c_alpha", None)


def altered(content: bytes, rng: np.random.Generator) -> bytes:
    """Random bytes replaced, lines removed, repeated or swapped, columns shifted, and the end cut off."""
    found = bytearray(content)
    for place in rng.integers(0, len(found), int(2 ** rng.integers(0, 6)) - 1).tolist():
        found[place] = int(rng.integers(0, 256))
    lines = bytes(found).splitlines(keepends=True)
    for _ in range(int(2 ** rng.integers(0, 5)) - 1):
        one, other = rng.integers(0, len(lines), 2).tolist()
        kind = int(rng.integers(4))
        if kind == 0 and len(lines) > 5:
            del lines[one]
        elif kind == 1:
            lines.insert(other, lines[one])
        elif kind == 2:
            lines[one], lines[other] = lines[other], lines[one]
        else:
            lines[one] = b" " * int(rng.integers(1, 4)) + lines[one]
        one = min(one, len(lines) - 1)
    text = b"".join(lines)
    return text[: int(rng.integers(1, 3 * len(text)))]


def check_altered(count: int, seed: int) -> None:
    """Read `count` altered PDB and mmCIF files: a row of the schema each, with a structure or a reason."""
    made = made_structures.structure({"A": ("MKLAGSAKLM" * 3, made_structures.backbone(30, 1))})
    for residue in made[0][0]:
        for atom in residue:
            atom.b_iso = 50 + residue.seqid.num
    made.entities[0].full_sequence = [residue.name for residue in made[0][0]]
    made.assign_label_seq_id()
    contents = [made.make_pdb_string().encode(), made.make_mmcif_document().as_string().encode()]
    rng = np.random.default_rng(seed)
    accepted = 0
    for number in range(count):
        content = altered(contents[number % 2], rng)
        row, structure = file_row(number, "x.pdb", Member("x.pdb", content), OPTIONS)
        assert set(row) <= set(STAGED_FILES.names)
        if structure is None:
            assert row["outcome"] in REASONS and row["outcome"] != Outcome.CRASHED
            assert row["description"] and "\n" not in row["description"]
        else:
            accepted += 1
            assert len(structure.positions) == num_atoms(structure.sequence)
            assert np.nanmax(np.abs(structure.positions)) <= 10_000
            assert structure.plddt is None or 0 <= np.nanmin(structure.plddt) <= np.nanmax(structure.plddt) <= 100
    assert 0.05 * count < accepted < 0.9 * count


def test_altered_files_have_a_row_each() -> None:
    check_altered(300, 1)


@pytest.mark.long
def test_many_altered_files_keep_memory_level() -> None:
    """10,000 altered files in a process: peak memory after 1,000 and at the end."""
    code = (
        "import resource, test_hostile_structures as test\n"
        "for start in range(10):\n"
        "    test.check_altered(1000, 100 + start)\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": f"{here}:{here.parent / 'helpers'}", "PATH": "/usr/bin:/bin"},
    )
    peaks = [int(line) for line in done.stdout.split()]
    assert len(peaks) == 10 and peaks[-1] - peaks[0] < 30 << 10, peaks  # kB
