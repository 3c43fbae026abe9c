"""`foldatlas reference`: databases held to independent readers, and to what hostile or interrupted input may do."""

import gzip
import http.server
import io
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import made_structures as made
import mini3di
import numpy as np
import pytest
from Bio.PDB import MMCIFParser, PDBParser
from poison_opener import opened

from foldatlas.atlas.reference import mmseqs2
from foldatlas.atlas.reference.chains import read_structure
from foldatlas.atlas.reference.identical import rmsd
from foldatlas.atlas.reference.reader import Reference
from foldatlas.jobs.cli import main
from foldatlas.jobs.reference import reference
from foldatlas.pipeline.sources.download import HOLDINGS, download
from foldatlas.pipeline.sources.structure_files import find_structures, open_structures
from foldatlas.schemas.errors import DamagedAtlasError, UsageError
from foldatlas.schemas.reference_tables import CHAIN_OUTCOMES, FILE_OUTCOMES, STATE_ALPHABET


def chain(length: int, seed: int) -> tuple[str, np.ndarray]:
    return made.random_sequence(length, seed), made.backbone(length, seed)


def write_files(folder: Path) -> Path:
    folder.mkdir()
    made.write(folder / "a.pdb", {"A": chain(40, 1), "B": chain(50, 2), "C": chain(12, 3)}, "1aaa")
    made.write(folder / "b.cif", {"X": chain(60, 4), "Y": chain(40, 1)}, "2bbb")
    (folder / "notes.txt").write_text("not a structure\n")
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of structures that no test changes."""
    return write_files(tmp_path_factory.mktemp("structures") / "files")


@pytest.fixture(scope="module")
def built(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of `files`, built by one process. A test that changes it copies it first."""
    database = tmp_path_factory.mktemp("database") / "db"
    reference([str(files)], database, workers=1)
    return database


def copied(database: Path, folder: Path) -> Path:
    return Path(shutil.copytree(database, folder / "db"))


def outcomes(database: Path, table: str) -> dict[tuple[str, str], str]:
    rows = Reference.open(database).table(table).to_pylist()
    return {(Path(row["source"]).name, row["chain" if table == "chains" else "member"]): row["outcome"] for row in rows}


def test_arrays_equal_biopython_and_mini3di(files: Path, built: Path) -> None:
    found = Reference.open(built)
    parsers = {"a.pdb": PDBParser(QUIET=True), "b.cif": MMCIFParser(QUIET=True)}
    encoder = mini3di.Encoder()
    for row, entry in enumerate(found.entries().to_pylist()):
        file = Path(entry["source"]).name
        theirs = parsers[file].get_structure("x", files / file)[0][entry["chain"]]
        expected = np.array([residue["CA"].coord for residue in theirs])
        sequence, c_alphas = found.chain(row)
        assert np.abs(c_alphas - expected).max() < 1e-4
        assert sequence == entry["sequence"]
        part = slice(found.offsets[row], found.offsets[row + 1])
        states = encoder.encode_chain(theirs).filled()
        assert found.states[part].tolist() == states.tolist()
    assert found.names.to_pylist() == ["a_A", "a_B", "2bbb_X"]
    assert found.memory_bytes() > 12 * found.document.residues
    assert list(found.faults()) == []


def test_every_file_and_chain_has_an_outcome(built: Path) -> None:
    assert outcomes(built, "chains") == {
        ("a.pdb", "A"): "entry",
        ("a.pdb", "B"): "entry",
        ("a.pdb", "C"): "too_short",
        ("b.cif", "X"): "entry",
        ("b.cif", "Y"): "identical",
    }
    assert outcomes(built, "files") == {
        ("a.pdb", ""): "read",
        ("b.cif", ""): "read",
        ("notes.txt", ""): "not_structure",
    }
    assert set(outcomes(built, "chains").values()) <= set(CHAIN_OUTCOMES)
    assert set(outcomes(built, "files").values()) <= set(FILE_OUTCOMES)


def test_database_does_not_depend_on_processes(files: Path, built: Path, tmp_path: Path) -> None:
    one = Reference.open(built).document
    two = reference([str(files / "b.cif"), str(files)], tmp_path / "two", workers=2)
    assert two is not None
    assert one.digest == two.digest
    for name in ("c_alphas.npy", "states", "amino_acids.index"):
        assert one.contents[name] == two.contents[name]


def test_growth_makes_a_version_and_keeps_readers(files: Path, built: Path, tmp_path: Path) -> None:
    database = copied(built, tmp_path)
    old = Reference.open(database)
    more = made.write(tmp_path / "c.pdb", {"A": chain(45, 9)}, "3ccc")
    grown = reference([str(more)], database, workers=1, licence="CC0-1.0")
    assert grown is not None and (grown.version, grown.new, grown.entries) == (2, 1, 4)
    assert grown.licences == ["CC0-1.0", "unknown"]
    new = Reference.open(database)
    assert new.entry_versions.tolist() == [1, 1, 1, 2]
    assert new.new_rows(1) == range(3, 4)
    assert np.array_equal(new.c_alphas[: len(old.c_alphas)], old.c_alphas)
    assert len(Reference.open(database, 1)) == 3
    assert reference([str(more), str(files)], database, workers=1) is None


def test_changed_file_replaces_its_entries(tmp_path: Path) -> None:
    """An entry stays where another file has an identical chain, under that chain's name."""
    files, database = write_files(tmp_path / "files"), tmp_path / "db"
    reference([str(files)], database, workers=1)
    made.write(files / "a.pdb", {"A": chain(70, 8)}, "1aaa")
    changed = reference([str(files)], database, workers=1)
    assert changed is not None and (changed.new, changed.left, changed.entries) == (1, 1, 3)
    found = Reference.open(database)
    assert [(row["length"], row["chain"]) for row in found.entries().to_pylist()] == [(40, "Y"), (60, "X"), (70, "A")]
    (left,) = found.table("left").to_pylist()
    assert (left["left"], left["reason"], left["version"]) == (2, "changed", 1)
    removed = reference([str(files / "b.cif")], database, workers=1, sync=True)
    assert removed is not None and (removed.left, removed.entries) == (1, 2)


def test_modified_residues_and_alternate_locations(tmp_path: Path) -> None:
    sequence, positions = chain(35, 5)
    structure = made.structure({})
    model = structure[0] if len(structure) else structure.add_model(made.gemmi.Model(1))
    made.add_chain(model, "A", sequence, positions, {3: "MSE", 4: "SEP", 5: "UNK"})
    residue = model[0][10]
    other = residue.find_atom("CA", "*").clone()
    residue.find_atom("CA", "*").altloc, residue.find_atom("CA", "*").occ = "A", 0.3
    other.altloc, other.occ, other.pos = "B", 0.7, made.gemmi.Position(1, 2, 3)
    residue.add_atom(other)
    model[0][20].remove_atom("CA", "\0", made.gemmi.Element("C"))
    second = model.clone()
    second.num = 2
    structure.add_model(second)
    structure.setup_entities()
    (found,) = read_structure(structure.make_pdb_string().encode(), "x.pdb")
    assert found.sequence[3:6] == "MSX"
    assert found.backbone[1, 10].tolist() == [1, 2, 3]
    assert (len(found.sequence), found.dropped, found.outcome) == (34, 1, "candidate")


@pytest.mark.parametrize("name", ["x.pdb", "x.cif"])
def test_renumbering_changes_nothing(name: str) -> None:
    """Numbers from -5 on, each twice with an insertion code, and a jump."""
    given = made.structure({"A": chain(40, 1)})
    read = []
    for renumbered in (False, True):
        for place, residue in enumerate(given[0][0] if renumbered else ()):
            residue.seqid = made.gemmi.SeqId(place // 2 - 5 + (300 if place > 20 else 0), " A"[place % 2])
        text = given.make_pdb_string() if name.endswith("pdb") else given.make_mmcif_document().as_string()
        read += read_structure(text.encode(), name)
    before, after = read
    assert before.sequence == after.sequence and len(before.sequence) == 40
    assert np.array_equal(before.backbone, after.backbone, equal_nan=True)


def test_mirror_image_is_not_identical() -> None:
    positions = made.backbone(60, 6)[:, 1].astype(np.float32)
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]], np.float32)
    near, mirrored = rmsd(positions, np.stack([positions @ turn + 50, positions * [1, 1, -1]]).astype(np.float32))
    assert near < 1e-3
    assert mirrored > 1


def tar_of(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_hostile_archives_cost_nothing_else(files: Path, tmp_path: Path) -> None:
    good = (files / "a.pdb").read_bytes()
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    archive = tar_of(
        tmp_path / "x.tgz",
        [
            (tarfile.TarInfo("good.pdb.gz"), gzip.compress(good)),
            (tarfile.TarInfo("../out.pdb"), good),
            (tarfile.TarInfo("/abs.pdb"), good),
            (link, b""),
            (tarfile.TarInfo("bomb.gz"), gzip.compress(bytes(100 << 20))),
            (tarfile.TarInfo("cut.gz"), gzip.compress(good)[:300]),
            (tarfile.TarInfo("bad.cif"), b"data_x\nloop_\n_atom_site.id\n_atom_site.type_symbol\n1\n"),
            (tarfile.TarInfo("nothing.pdb"), b""),
        ],
    )
    reference([str(archive)], tmp_path / "db", workers=1)
    found = {member: outcome for (_, member), outcome in outcomes(tmp_path / "db", "files").items()}
    assert found == {
        "good.pdb.gz": "read",
        "../out.pdb": "unsafe",
        "/abs.pdb": "unsafe",
        "link": "unsafe",
        "bomb.gz": "too_large",
        "cut.gz": "unreadable",
        "bad.cif": "unreadable",
        "nothing.pdb": "not_structure",
    }
    assert len(Reference.open(tmp_path / "db")) == 2


def test_hostile_zip_archives_cost_nothing_else(files: Path, tmp_path: Path) -> None:
    """Links, names that lead out, a bomb, an encrypted and a damaged member; an archive without a directory."""
    good = (files / "a.pdb").read_bytes()
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/", b"")
        for name in ("folder/good.pdb", "../out.pdb", "/abs.pdb", "secret.pdb"):
            archive.writestr(name, good)
        archive.writestr("good.pdb.gz", gzip.compress(good))
        archive.writestr("damaged.pdb", good, zipfile.ZIP_STORED)
        archive.writestr(link, b"/etc/passwd")
        archive.writestr("bomb.pdb", bytes(100 << 20))
        archive.writestr("inner_bomb.gz", gzip.compress(bytes(100 << 20)))
        at = archive.getinfo("damaged.pdb").header_offset + 60
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    directory = content.rindex(b"secret.pdb") - 46
    content[directory + 8] |= 1  # encrypted
    path.write_bytes(content)
    (tmp_path / "cut.zip").write_bytes(content[: len(content) // 2])
    reference([str(path), str(tmp_path / "cut.zip")], tmp_path / "db", workers=1)
    found = outcomes(tmp_path / "db", "files")
    assert {member: outcome for (source, member), outcome in found.items() if source.endswith("x.zip")} == {
        "folder/good.pdb": "read",
        "../out.pdb": "unsafe",
        "/abs.pdb": "unsafe",
        "secret.pdb": "unreadable",
        "good.pdb.gz": "read",
        "damaged.pdb": "unreadable",
        "link": "unsafe",
        "bomb.pdb": "too_large",
        "inner_bomb.gz": "too_large",
    }
    assert [outcome for (source, _), outcome in found.items() if source.endswith("cut.zip")] == ["unreadable"]


def test_overlapping_members_of_a_zip_archive_are_refused(files: Path, tmp_path: Path) -> None:
    """A hundred entries of the directory for one member, as in a bomb that does not nest."""
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.pdb", (files / "a.pdb").read_bytes())
        info = archive.getinfo("a.pdb")
        for number in range(100):
            copy = zipfile.ZipInfo(f"a{number}.pdb")
            for name in ("CRC", "compress_size", "file_size", "header_offset", "flag_bits", "external_attr"):
                setattr(copy, name, getattr(info, name))
            archive.filelist.append(copy)
    (member,) = open_structures(find_structures([str(path)])[0])
    assert (member.outcome, member.content) == ("unreadable", None)


def test_file_that_ends_its_process_gets_a_row(tmp_path: Path) -> None:
    from foldatlas.atlas.reference.build import build_structures
    from foldatlas.atlas.reference.folder import ReferenceFolder
    from foldatlas.atlas.reference.read import Staged, read_files
    from foldatlas.pipeline.sources.structure_files import find_structures

    files = tmp_path / "files"
    files.mkdir()
    made.write(files / "a.pdb", {"A": chain(40, 1), "B": chain(50, 2)})
    made.write(files / "poison.pdb", {"A": chain(40, 7)})
    folder = ReferenceFolder(tmp_path / "db")
    with folder.locked():
        staged = Staged.opened(folder.staging, "unknown")
        read_files(find_structures([str(files)]), opened, staged, workers=1, is_archive=lambda found: False)
        build_structures(folder, staged, [])
    assert outcomes(tmp_path / "db", "files") == {("a.pdb", ""): "read", ("poison.pdb", ""): "crashed"}
    assert len(Reference.open(tmp_path / "db")) == 2


def test_killed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(150):
        made.write(folder / f"{number:03d}.pdb", {"A": chain(60, 100 + number)})
    command = [sys.executable, "-m", "foldatlas.jobs.cli", "reference", str(folder), str(tmp_path / "db")]
    run = subprocess.Popen([*command, "--workers", "1"], start_new_session=True)
    staging = tmp_path / "db" / ".staging"
    while run.poll() is None and not list(staging.glob("*.files.parquet")):
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert not list((tmp_path / "db").glob("versions/*"))
    kept = {path: path.stat().st_mtime_ns for path in staging.glob("*.files.parquet")}
    assert kept
    resumed = reference([str(folder)], tmp_path / "db", workers=1)
    fresh = reference([str(folder)], tmp_path / "fresh", workers=2)
    assert resumed is not None and fresh is not None
    assert resumed.digest == fresh.digest
    assert not staging.exists()


def test_files_of_a_bucket(files: Path, built: Path, tmp_path: Path, s3: Any) -> None:
    s3.create_bucket(Bucket="structures")
    for path in files.iterdir():
        s3.upload_file(str(path), "structures", f"set/{path.name}")
    there = reference(["s3://structures/set/"], tmp_path / "there", workers=1)
    assert there is not None
    assert there.digest == Reference.open(built).document.digest


def test_mmseqs2_finds_each_entry_by_its_row(built: Path, tmp_path: Path) -> None:
    found = Reference.open(built)
    subset = found.database_of("amino_acids", found.new_rows(0)[1:], tmp_path)
    table = tmp_path / "hits.tsv"
    program, work = str(mmseqs2.program()), tmp_path / "work"
    search = ["search", found.database("amino_acids"), subset, tmp_path / "r", work, "--mask", "0", "-v", "1"]
    convert = ["convertalis", found.database("amino_acids"), subset, tmp_path / "r", table, "-v", "1"]
    for words in ([*search, "--comp-bias-corr", "0"], convert):
        subprocess.run([program, *map(str, words)], check=True, capture_output=True)
    best = {tuple(line.split("\t")[:2]) for line in table.read_text().splitlines()}
    assert {("1", "1"), ("2", "2")} <= best
    assert not any(target == "0" for _, target in best)
    text = found.database("states").read_bytes().split(b"\n\0")[0].decode()
    assert [STATE_ALPHABET.index(letter) for letter in text] == found.states[: len(text)].tolist()


def test_mmseqs2_is_refused_where_it_cannot_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MMSEQS2_PATH", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="MMSEQS2_PATH"):
        mmseqs2.program()
    monkeypatch.delenv("MMSEQS2_PATH")
    (tmp_path / "cpuinfo").write_text("flags\t: fpu sse2\n")
    monkeypatch.setattr(mmseqs2, "_CPU_FLAGS", tmp_path / "cpuinfo")
    monkeypatch.setattr(mmseqs2.platform, "machine", lambda: "x86_64")
    with pytest.raises(UsageError, match="AVX2"):
        mmseqs2.program()
    monkeypatch.setattr(mmseqs2, "_bundled", lambda: None)
    with pytest.raises(UsageError, match="set MMSEQS2_PATH"):
        mmseqs2.program()


def test_known_sequences(tmp_path: Path) -> None:
    fasta = tmp_path / "a.fasta"
    fasta.write_text(">one first\nMKTAYIAKQR\n>two\nMKTAYIAKQR\n>three\nMMMMKLV\n>bad\nMK1\n")
    made_now = reference([str(fasta)], tmp_path / "db", licence="CC-BY-4.0")
    assert made_now is not None
    assert (made_now.kind, made_now.entries, made_now.licences) == ("sequences", 2, ["CC-BY-4.0"])
    assert made_now.chains == {"digit": 1, "entry": 2, "identical": 1}
    more = tmp_path / "b.fasta"
    more.write_text(">four\nGGGGGKL\n>five\nMMMMKLV\n")
    grown = reference([str(more)], tmp_path / "db")
    assert grown is not None and (grown.version, grown.new, grown.entries) == (2, 1, 3)
    found = Reference.open(tmp_path / "db")
    assert found.entries().column("name").to_pylist() == ["one", "three", "four"]
    assert found.new_rows(1) == range(2, 3)
    assert found.database("amino_acids").read_bytes() == b"MKTAYIAKQR\n\0MMMMKLV\n\0GGGGGKL\n\0"
    fasta.write_text(">one\nMKTAYIAKQRR\n")
    changed = reference([str(fasta)], tmp_path / "db")
    assert changed is not None and (changed.left, changed.entries) == (1, 3)
    assert [row["name"] for row in Reference.open(tmp_path / "db").table("left").to_pylist()] == ["one"]
    with pytest.raises(UsageError, match="another folder"):
        reference([str(made.write(tmp_path / "x.pdb", {"A": chain(40, 1)}))], tmp_path / "db")


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reference", str(tmp_path / "none.pdb"), str(tmp_path / "db")]) == 2
    assert main(["reference", str(tmp_path / "db")]) == 2
    assert main(["reference", str(tmp_path), "s3://bucket/db"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    assert not any("Traceback" in line for line in said)


def test_files_without_an_entry_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.pdb").write_text("not a structure\n")
    assert main(["reference", str(tmp_path / "notes.pdb"), str(tmp_path / "db"), "--workers", "1"]) == 3
    shown = capsys.readouterr().err.splitlines()
    assert shown == [
        "files: 1 not_structure",
        "no entry could be made of these files: see the outcomes in docs/reference.md",
    ]


def test_damaged_database_is_refused(built: Path, tmp_path: Path) -> None:
    found = Reference.open(copied(built, tmp_path))
    path = found.data / "offsets.npy"
    offsets = np.load(path)
    offsets[1] = 10**9
    np.save(path, offsets)
    with pytest.raises(DamagedAtlasError, match="offsets"):
        Reference.open(found.root)
    assert any("offsets.npy" in fault for fault in found.faults())


def test_demo_reference_is_small_and_called_so() -> None:
    found = Reference.open("demo")
    size = sum(path.stat().st_size for path in found.root.rglob("*") if path.is_file())
    assert found.is_demo
    assert 20 <= len(found) <= 150
    assert size <= 1_000_000
    assert found.document.licences == ["CC0-1.0"]
    assert list(found.faults()) == []


class _Flaky(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; cuts the first answer of `cut` in the middle, and resumes by Range."""

    cut: ClassVar[set[str]] = set()

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        content, begin = path.read_bytes(), 0
        if value := self.headers.get("Range"):
            begin = int(value.removeprefix("bytes=").rstrip("-"))
        if self.headers.get("If-Modified-Since"):
            self.send_response(304)
            self.end_headers()
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        self.send_header("ETag", '"one"')
        self.send_header("Last-Modified", "Mon, 02 Nov 2026 10:00:00 GMT")
        self.end_headers()
        part = content[begin:]
        if path.name in self.cut:
            self.cut.discard(path.name)
            part = part[: len(part) // 2]
        self.wfile.write(part)


def test_download_resumes_and_asks_again_only_for_changes(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    monkeypatch.setattr("foldatlas.pipeline.sources.download.WAITS", (0.01,))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    site = tmp_path / "site"
    (site / "pub/pdb/holdings").mkdir(parents=True)
    content = gzip.compress((files / "b.cif").read_bytes())
    (site / "2bbb.cif.gz").write_bytes(content)
    holdings = {"2BBB": {"mmcif": ["/2bbb.cif.gz"]}, "9XXX": {"mmcif": ["/9xxx.cif.gz"]}}
    (site / HOLDINGS.lstrip("/")).write_bytes(gzip.compress(json.dumps(holdings).encode()))
    _Flaky.cut = {"2bbb.cif.gz"}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Flaky, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    mirror = f"http://127.0.0.1:{server.server_port}"
    try:
        done = download("pdb", tmp_path / "to", mirror=mirror)
        assert (done.fetched, done.failed) == (1, 1)
        assert (tmp_path / "to/2bbb.cif.gz").read_bytes() == content
        assert download("pdb", tmp_path / "to", mirror=mirror).unchanged == 1
        words = ["reference", "--download", "pdb", "--mirror", mirror, str(tmp_path / "db"), "--workers", "1"]
        assert main(words) == 0
    finally:
        server.shutdown()
        server.server_close()
    assert Reference.open(tmp_path / "db").document.licences == ["CC0-1.0"]
