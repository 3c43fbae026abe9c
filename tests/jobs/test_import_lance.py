"""`foldatlas import --lance-ids`: which proteins of a FASTA file a table of ESM Atlas v1 has."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foldatlas.atlas.parquet.structures import StructureLocation
from foldatlas.atlas.reader import Atlas
from foldatlas.jobs.verify import verify
from foldatlas.schemas.records import STANDARD_RESIDUES, num_atoms, structure_id

if importlib.util.find_spec("lance") is None:
    pytest.skip("pylance, of the extra [lance]", allow_module_level=True)

import brotli
import lance
import msgpack
import msgpack_numpy
import pyarrow as pa

from foldatlas.folding.compare.atom_layouts import atom37

pytestmark = pytest.mark.usefixtures("one_reader")

RNG = np.random.default_rng(9)
SEQUENCES = ["".join(RNG.choice(list(STANDARD_RESIDUES), 25 + number)) for number in range(5)]
POSITIONS = [RNG.uniform(-50, 50, (num_atoms(sequence), 3)).round(2).astype(np.float32) for sequence in SEQUENCES]
PAE = [RNG.uniform(0.25, 31.75, (len(sequence), len(sequence))) for sequence in SEQUENCES]
PLDDT = [RNG.uniform(0.3, 1, len(sequence)).round(4) for sequence in SEQUENCES]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Five proteins, of which the last has a hostile blob."""
    blobs = []
    for sequence, positions in zip(SEQUENCES, POSITIONS, strict=True):
        dense, mask = atom37(sequence, positions)
        content = {"sequence": sequence, "atom37_positions": dense[mask], "atom37_mask": mask}
        blobs.append(brotli.compress(msgpack.packb(content, default=msgpack_numpy.encode)))
    blobs[-1] = brotli.compress(b"\0" * 10_000_000)
    packed = [msgpack.packb(matrix.astype(np.float16), default=msgpack_numpy.encode) for matrix in PAE]
    packed[3] = msgpack.packb(PAE[3][:5], default=msgpack_numpy.encode)  # of another shape
    columns = {
        "header": [f"MGYP00000000{number} x" for number in range(5)],
        "protein_hash": [structure_id(sequence).hex() for sequence in SEQUENCES],
        "sequence": SEQUENCES,
        "ptm": [0.7] * 5,
        "mean_plddt": [float(values.mean()) for values in PLDDT],
        "per_residue_plddt": [values.tolist() for values in PLDDT],
        "pae": pa.array([brotli.compress(one) for one in packed[:4]] + [None], pa.binary()),
        "structure_blob": blobs,
    }
    lance.write_dataset(pa.table(columns), str(tmp_path / "esm.lance"))
    return tmp_path / "esm.lance"


def test_proteins_of_fasta_are_imported(table: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    """Each has a record: imported, not in the table, or refused with a reason. The same command adds nothing."""
    fasta = tmp_path / "mine.fasta"
    wanted = {"a/1": SEQUENCES[0], "b": SEQUENCES[3], "again": SEQUENCES[0], "bomb": SEQUENCES[4], "absent": "MKVLAA"}
    fasta.write_text("".join(f">{name} mine\n{sequence}\n" for name, sequence in wanted.items()))
    done = run("import", table, tmp_path / "atlas", "--lance-ids", fasta)
    assert done.returncode == 0, done.stderr
    assert "4 of 5 proteins" in done.stderr
    with Atlas.open(tmp_path / "atlas") as atlas:
        assert dict(atlas.query("SELECT id, outcome FROM records").rows()) == {
            "a/1": "accepted",
            "b": "accepted",
            "again": "accepted",
            "bomb": "too_large",
            "absent": "not_found",
        }
        [stored] = atlas.query("SELECT DISTINCT mean_plddt, ptm FROM proteins WHERE id = 'b'").rows()
        assert stored == (pytest.approx(100 * PLDDT[3].mean(), abs=0.01), pytest.approx(0.7))
        licences = atlas.query("SELECT DISTINCT origin, licence FROM provenance").rows()
        assert licences == [("ESM Atlas", "CC-BY-SA-4.0")]
        [(file, row)] = atlas.query("SELECT structure_file, structure_row FROM proteins WHERE id = 'b'").rows()
        [structure] = atlas.structures([StructureLocation(structure_id(SEQUENCES[3]), file, row)])
        np.testing.assert_allclose(structure.positions, POSITIONS[3], atol=0.0051)
        [(identity, values)] = atlas.query("SELECT structure_id, pae FROM pae").rows()
        assert identity.bytes == structure_id(SEQUENCES[0])
        np.testing.assert_allclose(np.array(values) / 8, PAE[0].ravel(), atol=0.0625 + 0.01)  # of half precision too
        described = dict(atlas.query("SELECT id, description FROM records").rows())
        assert described["b"].endswith("[confidence not read: PAE has 140 values, the sequence 28 residues]")
        assert "[" not in described["a/1"]
    assert verify(tmp_path / "atlas").faults == []
    done = run("export", tmp_path / "atlas", tmp_path / "export", "--format", "pdb", "--where", "id = 'b'")
    assert done.returncode == 0, done.stderr
    assert "CC-BY-SA-4.0" in (tmp_path / "export" / "LICENCE").read_text()
    again = run("import", table, tmp_path / "atlas", "--lance-ids", fasta)
    assert again.returncode == 0 and "already imported" in again.stderr, again.stderr


@pytest.mark.long
def test_workers_read_proteins_of_a_table(table: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    """Two processes give what one does."""
    fasta = tmp_path / "mine.fasta"
    fasta.write_text("".join(f">q{number}\n{sequence}\n" for number, sequence in enumerate(SEQUENCES)))
    for workers in (1, 2):
        atlas = tmp_path / f"atlas{workers}"
        assert run("import", table, atlas, "--lance-ids", fasta, "--workers", workers).returncode == 0
    assert run("diff", tmp_path / "atlas1", tmp_path / "atlas2").stdout == "no differences\n"


def test_wrong_use_is_refused(table: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    (tmp_path / "ids.txt").write_text(structure_id(SEQUENCES[1]).hex() + "\n")
    for words, reason in (
        ((tmp_path, tmp_path / "atlas", "--lance-ids", tmp_path / "ids.txt"), "not a Lance table"),
        ((table, table, tmp_path / "atlas", "--lance-ids", tmp_path / "ids.txt"), "one Lance table"),
        ((table, tmp_path / "atlas", "--lance-ids", tmp_path / "none.txt"), "cannot be read"),
    ):
        done = run("import", *words)
        assert done.returncode == 2 and reason in done.stderr and "Traceback" not in done.stderr, done.stderr
