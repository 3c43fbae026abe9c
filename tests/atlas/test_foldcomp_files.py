"""Foldcomp files: what comes back, what is refused, and that a crash of foldcomp's ends nothing but its own process."""

import dataclasses
import hashlib
import importlib.util
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import foldcomp
import gemmi
import numpy as np
import pytest
import torch

from foldatlas.atlas.importing.foldcomp_blob import read_foldcomp
from foldatlas.atlas.importing.structure_text import ReadOptions
from foldatlas.atlas.parquet.coordinates import StoredStructure
from foldatlas.atlas.reference.chains import StructureFault
from foldatlas.atlas.writers import foldcomp_files
from foldatlas.atlas.writers.foldcomp_child import without_padding
from foldatlas.atlas.writers.foldcomp_files import MAX_PLDDT_ERROR, MAX_RMSD, FoldcompWriter
from foldatlas.atlas.writers.pdb_files import pdb_text
from foldatlas.folding.network.atoms import IdealResidues
from foldatlas.folding.network.rigid import Rigid
from foldatlas.schemas.errors import UsageError, WorkerDied
from foldatlas.schemas.records import ATOMS, STANDARD_RESIDUES, structure_id

DESCRIBED = {"name": "a protein", "model": "nano-untrained", "mean_plddt": 50.0, "ptm": 0.5}
# angstrom and degrees, of Engh and Huber 1991
N_CA, CA_C, C_N = 1.458, 1.525, 1.329
N_CA_C, CA_C_N, C_N_CA = 111.0, 117.2, 121.7


def placed(a: np.ndarray, b: np.ndarray, c: np.ndarray, length: float, angle: float, torsion: float) -> np.ndarray:
    """The atom after a, b, c (natural extension reference frame, Parsons et al. 2005); degrees."""
    angle, torsion = np.radians([angle, torsion])
    along = (c - b) / np.linalg.norm(c - b)
    across = np.cross(b - a, along)
    across /= np.linalg.norm(across)
    frame = np.stack([along, np.cross(across, along), across], axis=1)
    place = [-np.cos(angle), np.sin(angle) * np.cos(torsion), np.sin(angle) * np.sin(torsion)]
    return c + length * frame @ np.array(place)


def protein(sequence: str, seed: int = 0) -> StoredStructure:
    """A chain of ideal geometry whose torsions are about those of a helix, strand by strand."""
    generator = np.random.default_rng(seed)
    atoms = [np.array([0.0, 1.4, 0.0]), np.zeros(3), np.array([1.525, 0.0, 0.0])]
    psis = []
    for residue in range(len(sequence)):
        phi, psi = ((-63, -43), (-120, 130))[residue // 12 % 2] + generator.normal(0, 8, 2)
        psis.append(psi)
        atoms.append(placed(*atoms[-3:], C_N, CA_C_N, psi))
        atoms.append(placed(*atoms[-3:], N_CA, C_N_CA, 180))
        atoms.append(placed(*atoms[-3:], CA_C, N_CA_C, phi))
    backbone = np.stack(atoms[: 3 * len(sequence)]).reshape(-1, 3, 3)
    n, ca, c = backbone.transpose(1, 0, 2)
    x = (c - ca) / np.linalg.norm(c - ca, axis=1, keepdims=True)
    y = (n - ca) - ((n - ca) * x).sum(1, keepdims=True) * x
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    rotation = np.stack([x, y, np.cross(x, y)], axis=-1)
    frames = Rigid(torch.tensor(rotation, dtype=torch.float32)[None], torch.tensor(ca, dtype=torch.float32)[None])
    angles = np.radians(
        generator.choice([-65, 65, 180], (len(sequence), 7)) + generator.normal(0, 5, (len(sequence), 7))
    )
    angles[:, 2] = np.radians(np.array(psis) + 180)  # the frame of psi carries O, opposite the next N
    torsions = torch.tensor(np.stack([np.sin(angles), np.cos(angles)], -1), dtype=torch.float32)[None]
    aatype = torch.tensor([[STANDARD_RESIDUES.index(letter) for letter in sequence]])
    all_atoms = IdealResidues().atoms(frames, torsions, aatype)[0].numpy()
    positions = np.concatenate([all_atoms[i, : len(ATOMS[letter])] for i, letter in enumerate(sequence)])
    plddt = generator.uniform(20, 98, len(sequence)).round(2).astype(np.float32)
    return StoredStructure(structure_id(sequence), sequence, positions.round(2), plddt)


SEQUENCE = STANDARD_RESIDUES * 3


@pytest.fixture
def writer() -> Iterator[FoldcompWriter]:
    with FoldcompWriter() as made:
        yield made


@pytest.mark.parametrize("sequence", [SEQUENCE, "MK", "G" * 40, STANDARD_RESIDUES * 30])
def test_decoded_structure_equals_the_written_one(writer: FoldcompWriter, sequence: str) -> None:
    structure = protein(sequence)
    content = writer.fcz_bytes(structure, **DESCRIBED)
    assert len(content) < len(pdb_text(structure, **DESCRIBED)) / 10
    name, text = foldcomp.decompress(content)  # here, in the test's own process
    assert name == "a protein"
    chain = gemmi.read_pdb_string(text)[0]["A"]
    atoms = {(r.seqid.num, a.name): (*a.pos.tolist(), a.b_iso) for r in chain for a in r}
    keys = [(number, atom) for number, letter in enumerate(sequence, 1) for atom in ATOMS[letter]]
    assert sorted(atoms) == sorted(keys)
    found = np.array([atoms[key] for key in keys])
    distances = np.linalg.norm(found[:, :3] - structure.positions, axis=1)
    assert np.sqrt((distances**2).mean()) < 0.5
    residues = [number - 1 for number, _ in keys]
    assert np.abs(found[:, 3] - structure.plddt[residues]).max() < MAX_PLDDT_ERROR


def test_two_processes_give_the_same_bytes() -> None:
    digests = set()
    raw = set()
    for _ in range(3):
        with FoldcompWriter() as writer:
            for _ in range(2):
                digests.add(hashlib.sha256(writer.fcz_bytes(protein(SEQUENCE), **DESCRIBED)).hexdigest())
    assert len(digests) == 1
    compressed = foldcomp.compress("x", pdb_text(protein(SEQUENCE), **DESCRIBED))
    for filler in (0, 255):  # what is in the padding changes nothing that is read
        filled = bytearray(compressed)
        for offset in (14, 15, 22, 23):
            filled[offset] = filler
        assert foldcomp.decompress(bytes(filled)) == foldcomp.decompress(without_padding(compressed))
        raw.add(bytes(filled))
    assert {without_padding(each) for each in raw} == {without_padding(compressed)} and len(raw) == 2
    with pytest.raises(ValueError, match="not a Foldcomp file"):
        without_padding(b"PK")


def test_structures_unfit_for_foldcomp_are_refused(writer: FoldcompWriter) -> None:
    """Foldcomp would invent missing atoms or abort the process: these inputs never reach it."""
    good = protein("MKVLA")
    missing = good.positions.copy()
    missing[4] = np.nan
    unknown = dataclasses.replace(good, sequence="MKVLX", positions=good.positions[:-1])
    single = dataclasses.replace(good, sequence="M", positions=good.positions[:8], plddt=good.plddt[:1])
    for structure, lengths, message in (
        (unknown, None, "only standard residues, not X"),
        (dataclasses.replace(good, positions=missing), None, "would invent 1 missing atoms"),
        (single, None, "needs at least 2 residues"),
        (good, [3, 2], "has one chain, this structure 2"),
    ):
        with pytest.raises(UsageError, match=message + r".*: write it as cif"):
            writer.fcz_bytes(structure, chain_lengths=lengths, **DESCRIBED)
    assert writer._child is None  # nothing was asked of it


def test_invalid_backbone_is_noticed(writer: FoldcompWriter) -> None:
    good = protein(SEQUENCE)
    noise = np.random.default_rng(0).normal(0, 2, good.positions.shape).astype(np.float32)
    with pytest.raises(UsageError, match=r"an RMSD of \d+\.\d\d A \(limit 0.5 A\)"):
        writer.fcz_bytes(dataclasses.replace(good, positions=good.positions + noise), **DESCRIBED)


def test_text_that_is_not_pdb_is_noticed(writer: FoldcompWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    text = pdb_text(protein("MK"), **DESCRIBED).replace("\nATOM  ", "\nATOM   ", 1)  # every column is one off
    monkeypatch.setattr(writer, "_ask", lambda name, given: (b"FCMP", text.encode()))
    with pytest.raises(UsageError, match=r"other atoms|cannot be read"):
        writer.fcz_bytes(protein("MK"), **DESCRIBED)
    lines = pdb_text(protein("MK"), **DESCRIBED).splitlines()
    broken = [line[:30] + "********" + line[38:] for line in lines]
    monkeypatch.setattr(writer, "_ask", lambda name, given: (b"FCMP", "\n".join(broken).encode()))
    with pytest.raises(UsageError, match="cannot be read"):
        writer.fcz_bytes(protein("MK"), **DESCRIBED)


def test_other_atoms_and_other_plddt_are_noticed() -> None:
    text = pdb_text(protein("MKVLA"), **DESCRIBED)
    foldcomp_files._compare(text, text)
    lines = text.splitlines(keepends=True)
    first = next(number for number, line in enumerate(lines) if line.startswith("ATOM"))
    with pytest.raises(UsageError, match="other atoms"):
        foldcomp_files._compare(text, "".join(lines[:first] + lines[first + 1 :]))
    changed = f"{lines[first][:60]}{float(lines[first][60:66]) - 1:6.2f}{lines[first][66:]}"
    with pytest.raises(UsageError, match=r"pLDDT off by 1\.00 \(limit 0\.5\)"):
        foldcomp_files._compare(text, "".join([*lines[:first], changed, *lines[first + 1 :]]))


def test_a_crash_is_a_reason_and_the_next_structure_is_written(writer: FoldcompWriter) -> None:
    before = writer.fcz_bytes(protein(SEQUENCE), **DESCRIBED)
    sequence = "W" * 7_000  # foldcomp 1.0 aborts when it reads this back
    positions = np.random.default_rng(0).normal(0, 20, (14 * 7_000, 3)).astype(np.float32)
    hopeless = StoredStructure(structure_id(sequence), sequence, positions, np.full(7_000, 50, np.float32))
    with pytest.raises(UsageError, match=r"foldcomp crashed \(SIGABRT\): write it as cif"):
        writer.fcz_bytes(hopeless, **DESCRIBED)
    assert writer.fcz_bytes(protein(SEQUENCE), **DESCRIBED) == before


def test_one_that_hangs_is_killed(writer: FoldcompWriter) -> None:
    writer.fcz_bytes(protein("MK"), **DESCRIBED)
    assert writer._child is not None
    first = writer._child.pid
    os.kill(first, 19)  # SIGSTOP: it will not answer
    writer._timeout = 0.5
    begun = time.monotonic()
    with pytest.raises(UsageError, match=r"more than 0\.5 s"):
        writer.fcz_bytes(protein("MK"), **DESCRIBED)
    assert time.monotonic() - begun < 50  # its own patience is 60 s
    writer._timeout = 60.0
    writer.fcz_bytes(protein("MK"), **DESCRIBED)
    assert writer._child.pid != first


def test_the_child_goes_with_its_writer() -> None:
    with FoldcompWriter() as writer:
        writer.fcz_bytes(protein("MK"), **DESCRIBED)
        assert writer._child is not None
        child = writer._child
        assert child.poll() is None
    assert child.poll() is not None and child.stdin.closed and child.stdout.closed


def test_without_foldcomp(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "foldcomp.py").write_text("raise ImportError('libstdc++ is too old')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    cannot_start = r"cannot be started \(exit code 1\).*import foldcomp"
    with FoldcompWriter() as writer, pytest.raises(WorkerDied, match=cannot_start):
        writer.fcz_bytes(protein("MK"), **DESCRIBED)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'foldatlas\[foldcomp\]'"):
        FoldcompWriter()


def test_import_reads_what_export_writes(writer: FoldcompWriter) -> None:
    """Sequence and title are equal, coordinates and pLDDT within the errors that the writer allows."""
    given = protein(SEQUENCE, seed=4)
    content = writer.fcz_bytes(given, **DESCRIBED)
    read = read_foldcomp(content, ReadOptions(plddt_scale=100))
    assert (read.sequence, read.identifier) == (SEQUENCE, "a protein")
    assert np.sqrt(((read.positions - given.positions) ** 2).sum(axis=1).mean()) <= MAX_RMSD
    assert read.plddt is not None and np.abs(read.plddt - given.plddt).max() <= MAX_PLDDT_ERROR
    with pytest.raises(StructureFault) as fault:
        read_foldcomp(content)
    assert fault.value.outcome == "unknown_plddt"


def test_damaged_foldcomp_headers_are_refused(writer: FoldcompWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before foldcomp reads them: it allocates what the header states."""
    content = writer.fcz_bytes(protein("MKV"), **DESCRIBED)
    monkeypatch.setitem(sys.modules, "foldcomp", None)  # an import of it fails
    for damaged in (
        content[:20],
        b"x" + content[1:],
        content[:4] + b"\xff\xff" + content[6:],
        content[:6] + b"\xff\xff" + content[8:],
        content[:16] + b"\xff\xff\xff\xff" + content[20:],
        content[:24] + b"\xff\xff\xff\xff" + content[28:],
    ):
        with pytest.raises(StructureFault) as fault:
            read_foldcomp(damaged)
        assert fault.value.outcome == "unreadable"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(StructureFault, match="pip install"):
        read_foldcomp(content)
