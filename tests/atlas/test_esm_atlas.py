"""Tables of ESM Atlas v1, made with pylance and msgpack-numpy's encoder, and blobs that are hostile."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from foldatlas.atlas.importing import atom37_blob, esm_atlas
from foldatlas.atlas.importing.esm_atlas import LICENCE, Wanted, absent_file, find_rows, read_row_file
from foldatlas.atlas.reference.chains import StructureFault
from foldatlas.folding.compare.atom_layouts import ATOM37, atom37
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.records import STANDARD_RESIDUES, num_atoms, structure_id

if importlib.util.find_spec("lance") is None:
    pytest.skip("pylance, of the extra [lance]", allow_module_level=True)

import brotli
import lance
import msgpack
import msgpack_numpy

RNG = np.random.default_rng(5)
SEQUENCES = ["".join(RNG.choice(list(STANDARD_RESIDUES), 20 + 7 * number)) for number in range(6)] + ["MKXA"]
POSITIONS = [RNG.uniform(-90, 90, (num_atoms(sequence), 3)).astype(np.float32) for sequence in SEQUENCES]
PLDDT = [RNG.uniform(0.2, 1, len(sequence)).astype(np.float32) for sequence in SEQUENCES]


def packed(content: Any) -> bytes:
    return brotli.compress(msgpack.packb(content, default=msgpack_numpy.encode, use_bin_type=True), quality=4)


def blob(number: int, *, sparse: bool = True, dtype: str = "f4") -> bytes:
    """As ProteinChain.to_blob writes it: the positions of present atoms alone, or of all 37 an atom type."""
    positions, mask = atom37(SEQUENCES[number], POSITIONS[number])
    given = positions[mask] if sparse else np.where(mask[..., None], positions, np.nan)
    return packed(
        {
            "id": f"p{number}",
            "sequence": SEQUENCES[number],
            "residue_index": np.arange(len(SEQUENCES[number]), dtype=np.int32),
            "insertion_code": np.full(len(SEQUENCES[number]), "", "<U4"),
            "atom37_positions": given.astype(dtype),
            "atom37_mask": mask,
            "confidence": PLDDT[number],
        }
    )


def write_table(path: Path, **changed: list[Any]) -> Path:
    columns = {
        "header": [f"p{number} a protein" for number in range(len(SEQUENCES))],
        "protein_hash": [structure_id(sequence).hex() for sequence in SEQUENCES],
        "sequence": SEQUENCES,
        "ptm": pa.array([0.5 + number / 20 for number in range(len(SEQUENCES))], pa.float32()),
        "mean_plddt": pa.array([float(values.mean()) for values in PLDDT], pa.float32()),
        "per_residue_plddt": pa.array([values.tolist() for values in PLDDT], pa.list_(pa.float32())),
        "pae": pa.nulls(len(SEQUENCES), pa.binary()),
        "structure_blob": [blob(number) for number in range(len(SEQUENCES))],
    }
    lance.write_dataset(pa.table({**columns, **changed}), str(path))
    return path


def read_all(table: Path, wanted: Wanted) -> dict[str, Any]:
    return {name: read_row_file(content) for names, content in find_rows(table, wanted) for name in names}


def fault_of(run: Callable[[], object]) -> str:
    with pytest.raises(StructureFault) as fault:
        run()
    return fault.value.outcome


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("lance") / "atlas.lance")


def test_proteins_of_a_table_are_read(table: Path) -> None:
    """By sequence, by md5 and by header; two ids want one row, and one protein is not in the table."""
    wanted = Wanted()
    for name, number in (("a", 0), ("b", 6), ("again", 0)):
        wanted.add_sequence(name, SEQUENCES[number])
    wanted.add_sequence("absent", "MKV")
    wanted.add_id(structure_id(SEQUENCES[2]).hex().upper())
    wanted.add_id("p4")
    wanted.add_id("p5 a protein")
    found = read_all(table, wanted)
    numbers = {"a": 0, "again": 0, "b": 6, structure_id(SEQUENCES[2]).hex().upper(): 2, "p4": 4, "p5 a protein": 5}
    assert set(found) == set(numbers) and set(wanted.ids) == {*numbers, "absent"}
    for name, number in numbers.items():
        one = found[name]
        assert (one.sequence, one.identifier, one.title) == (SEQUENCES[number], f"p{number}", f"p{number} a protein")
        np.testing.assert_array_equal(one.positions, POSITIONS[number])
        np.testing.assert_allclose(one.plddt, 100 * PLDDT[number], rtol=1e-6)
        assert one.ptm == pytest.approx(0.5 + number / 20)
        assert (one.provenance.origin, one.provenance.licence) == ("ESM Atlas", LICENCE)


def test_an_index_of_the_table_is_used(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_table(tmp_path / "indexed.lance")
    lance.dataset(str(path)).create_scalar_index("protein_hash", "BTREE")
    wanted = Wanted()
    for number in (1, 3):
        wanted.add_sequence(f"p{number}", SEQUENCES[number])
    wanted.add_sequence("absent", "MKV")
    monkeypatch.setattr(esm_atlas, "_HASHES_PER_FILTER", 2)
    found = read_all(path, wanted)
    assert {name: one.sequence for name, one in found.items()} == {"p1": SEQUENCES[1], "p3": SEQUENCES[3]}


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("sparse", [True, False])
def test_layouts_of_positions(dtype: str, sparse: bool) -> None:
    """Half precision is off by at most 2^-11 of a coordinate. Atoms that are not in the mask are missing."""
    found = atom37_blob.positions_of(blob(3, sparse=sparse, dtype=dtype), SEQUENCES[3])
    np.testing.assert_allclose(found, POSITIONS[3], rtol=2**-11 if dtype == "f2" else 1e-6)
    mask = np.zeros((2, 37), bool)
    mask[:, :2] = True
    content = {"atom37_positions": np.ones((4, 3), np.float32), "atom37_mask": mask}
    found = atom37_blob.positions_of(packed(content), "GG")
    assert np.isnan(found[2:4]).all() and (found[:2] == 1).all() and len(found) == 8


class Loads:
    """An object whose unpickling is noticed."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return pytest.fail, ("it was unpickled",)


def array(**changed: Any) -> dict[Any, Any]:
    return {b"nd": True, b"type": "<f4", b"kind": b"", b"shape": [2, 37, 3], b"data": b"\0" * 888, **changed}


@pytest.mark.parametrize(
    ("content", "outcome"),
    [
        (np.array([Loads()] * 2, dtype=object), "unsafe"),
        (np.zeros(2, dtype=[("a", "f4")]), "unsafe"),
        (np.zeros((2, 37, 3), np.complex64), "unsafe"),
        ({b"complex": True, b"data": "1"}, "unreadable"),
        (array(**{"type": "O"}) | {b"type": "|O"}, "unsafe"),
        (array() | {b"type": "<M8[s]"}, "unsafe"),
        (array() | {b"kind": b"O"}, "unsafe"),
        (array() | {b"shape": [1 << 30, 1 << 30, 1 << 30]}, "unreadable"),
        (array() | {b"shape": [-2, 37, 3]}, "unreadable"),
        (array() | {b"shape": [2.0, 37, 3]}, "unreadable"),
        (array() | {b"shape": [True, 222, 1]}, "unreadable"),
        (array() | {b"shape": [1] * 9}, "unreadable"),
        (array() | {b"shape": 222}, "unreadable"),
        (array() | {b"data": b"\0" * 887}, "unreadable"),
        (array() | {b"data": "text"}, "unreadable"),
        ([1, 2], "unreadable"),
        (np.zeros((3, 37, 3), np.float32), "other_sequence"),
        (np.full((2, 37, 3), np.nan, np.float32), "empty"),
        (np.full((2, 37, 3), np.inf, np.float32), "bad_coordinates"),
        (np.full((2, 37, 3), 1e9), "bad_coordinates"),
    ],
)
def test_hostile_arrays_are_refused(content: Any, outcome: str) -> None:
    blob = packed({"atom37_positions": content})
    assert fault_of(lambda: atom37_blob.positions_of(blob, "GG")) == outcome


@pytest.mark.parametrize(
    ("blob", "outcome"),
    [
        (b"", "unreadable"),
        (b"not brotli at all", "unreadable"),
        (packed({"a": 1})[:-2], "unreadable"),
        (packed([1, 2]), "unreadable"),
        (packed({"sequence": "MK"}), "other_sequence"),
        (brotli.compress(b"\0" * 200_000_000, quality=5), "too_large"),
        (b"x" * 200_000, "too_large"),
        (brotli.compress(b"\x91" * 60_000), "unreadable"),  # nested lists
        (brotli.compress(b"\x81\xa1a" * 10_000), "unreadable"),  # nested maps
        (brotli.compress(b"\xdd\xff\xff\xff\xff" * 1000), "unreadable"),  # lists of 4 billion items
        (brotli.compress(b"\xdf\xff\xff\xff\xff" * 1000), "unreadable"),
        (brotli.compress(b"\xc6\xff\xff\xff\xff"), "unreadable"),
        (brotli.compress(b"\xc7\x02\x01ab"), "unreadable"),  # an extension type
        (brotli.compress(b"\x81\x91\x01\x01"), "unreadable"),  # a list as a key
        (brotli.compress(b"\x01\x02"), "unreadable"),
    ],
)
def test_hostile_blobs_are_refused(blob: bytes, outcome: str) -> None:
    assert fault_of(lambda: atom37_blob.positions_of(blob, "GG")) == outcome


def test_damaged_blobs_have_a_reason() -> None:
    """A hundred flipped bits each: a structure of the same atoms, or a reason."""
    whole = blob(1)
    for _ in range(300):
        damaged = bytearray(whole)
        for place in RNG.integers(0, 8 * len(whole), 3):
            damaged[place // 8] ^= 1 << place % 8
        try:
            assert atom37_blob.positions_of(bytes(damaged), SEQUENCES[1]).shape == POSITIONS[1].shape
        except StructureFault as fault:
            assert fault.outcome and str(fault)


def test_rows_that_cannot_be_read_have_a_reason(tmp_path: Path) -> None:
    """A row without a structure, with letters that are no residues, and with pLDDT of another length."""
    sequences = [*SEQUENCES[:5], "MK1A", SEQUENCES[6]]
    blobs = [blob(number) for number in range(len(SEQUENCES))]
    blobs[1] = None
    plddt = [values.tolist() for values in PLDDT]
    plddt[2] = plddt[2][1:]
    plddt[4] = None
    path = write_table(
        tmp_path / "t.lance",
        sequence=sequences,
        structure_blob=blobs,
        per_residue_plddt=pa.array(plddt, pa.list_(pa.float32())),
    )
    wanted = Wanted()
    for number in range(7):
        wanted.add_id(f"p{number}")
    found = {names[0]: content for names, content in find_rows(path, wanted)}
    assert fault_of(lambda: read_row_file(found["p1"])) == "empty"
    assert fault_of(lambda: read_row_file(found["p2"])) == "mixed_plddt"
    assert fault_of(lambda: read_row_file(found["p5"])) == "other_sequence"
    assert read_row_file(found["p4"]).plddt is None
    assert fault_of(lambda: read_row_file(absent_file("p9"))) == "not_found"
    assert fault_of(lambda: read_row_file(found["p0"][:50])) == "unreadable"


def test_other_tables_are_refused(tmp_path: Path) -> None:
    lance.write_dataset(pa.table({"a": [1]}), str(tmp_path / "other.lance"))
    for path, reason in ((tmp_path / "other.lance", "no column"), (tmp_path / "none", "not a Lance table")):
        with pytest.raises(UsageError, match=reason):
            list(find_rows(path, Wanted()))
    assert len(ATOM37) == 37
