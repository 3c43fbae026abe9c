"""Floats to stored integers and back; the reference is arithmetic on exact decimals."""

import hashlib
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foldatlas.atlas.parquet.coordinates import atoms_per_protein, decode_structures, encode_structures
from foldatlas.atlas.parquet.files import ParquetFile
from foldatlas.schemas.errors import DamagedAtlasError
from foldatlas.schemas.records import RESIDUES, num_atoms, structure_id
from foldatlas.schemas.tables import STRUCTURES

sequences = st.lists(st.text(sorted(RESIDUES), min_size=1, max_size=12), min_size=1, max_size=5, unique=True)
angstroms = st.one_of(st.floats(-20_000, 20_000, width=32), st.just(float("nan")))
points = st.one_of(st.floats(0, 100, width=32), st.just(float("nan")))


def exact(value: float) -> int | None:
    """The stored integer of a float32, by decimal arithmetic."""
    if np.isnan(value):
        return None
    return int((Decimal(float(value)) * 100).to_integral_value(ROUND_HALF_EVEN))


@settings(max_examples=50, deadline=None)
@given(st.data(), sequences)
def test_integers_are_the_exact_rounding_and_come_back(data: st.DataObject, given_sequences: list[str]) -> None:
    ids = [structure_id(s) for s in given_sequences]
    positions = [
        np.array(data.draw(st.lists(angstroms, min_size=3 * n, max_size=3 * n)), np.float32).reshape(n, 3)
        for n in map(num_atoms, given_sequences)
    ]
    plddt = [
        np.array(data.draw(st.lists(points, min_size=len(s), max_size=len(s))), np.float32) for s in given_sequences
    ]
    table = encode_structures(ids, given_sequences, positions, plddt)
    assert table.schema.equals(STRUCTURES, check_metadata=True)
    for row, (array, values) in enumerate(zip(positions, plddt, strict=True)):
        for axis in range(3):
            assert table["xyz"[axis]][row].as_py() == [exact(v) for v in array[:, axis]]
        assert table["plddt"][row].as_py() == [exact(v) for v in values]
    decoded = decode_structures(table)
    assert [d.structure_id for d in decoded] == ids
    assert [d.sequence for d in decoded] == given_sequences
    for d, array, values in zip(decoded, positions, plddt, strict=True):
        assert d.positions.dtype == d.plddt.dtype == np.float32
        np.testing.assert_array_equal(np.isnan(d.positions), np.isnan(array))
        np.testing.assert_allclose(d.positions, array, rtol=1e-6, atol=0.00501)
        np.testing.assert_allclose(d.plddt, values, rtol=1e-6, atol=0.00501)
    again = encode_structures(ids, given_sequences, [d.positions for d in decoded], [d.plddt for d in decoded])
    assert again.equals(table)
    assert [d.structure_id for d in decode_structures(table.slice(1))] == ids[1:]


@given(sequences)
def test_atom_counts_are_those_of_the_vocabulary(given_sequences: list[str]) -> None:
    assert atoms_per_protein(given_sequences).tolist() == [num_atoms(s) for s in given_sequences]


def one(sequence: str = "GA") -> tuple[list[bytes], list[str], list[np.ndarray], list[np.ndarray]]:
    atoms = num_atoms(sequence)
    return [structure_id(sequence)], [sequence], [np.zeros((atoms, 3), np.float32)], [np.full(len(sequence), 50.0)]


@pytest.mark.parametrize("value", [np.inf, -np.inf, 2.2e7, -2.2e7])
def test_a_coordinate_beyond_int32_is_refused_by_name(value: float) -> None:
    ids, seqs, positions, plddt = one()
    positions[0][3, 1] = value
    with pytest.raises(ValueError, match=r"structure [0-9a-f-]{36} has a coordinate of .*21,474,836|2\.14748e\+07"):
        encode_structures(ids, seqs, positions, plddt)


@pytest.mark.parametrize("value", [-0.01, 100.01, np.inf])
def test_a_plddt_outside_its_range_is_refused(value: float) -> None:
    ids, seqs, positions, plddt = one()
    plddt[0][1] = value
    with pytest.raises(ValueError, match="has a pLDDT of"):
        encode_structures(ids, seqs, positions, plddt)


def test_shapes_that_do_not_fit_the_sequence_are_refused() -> None:
    ids, seqs, positions, plddt = one()
    with pytest.raises(ValueError, match="2 residues and 9 atoms"):
        encode_structures(ids, seqs, [positions[0][:-1]], plddt)
    with pytest.raises(ValueError, match="plddt"):
        encode_structures(ids, seqs, positions, [plddt[0][:-1]])
    with pytest.raises(ValueError, match="must be equal"):
        encode_structures(ids, seqs, positions, [])


def test_a_row_that_contradicts_its_sequence_is_damage() -> None:
    table = encode_structures(*one())
    longer = table.set_column(1, STRUCTURES.field("sequence"), [["GAG"]])
    with pytest.raises(DamagedAtlasError, match="foldatlas verify"):
        decode_structures(longer)


def test_no_structures_at_all() -> None:
    table = encode_structures([], [], [], [])
    assert table.num_rows == 0 and decode_structures(table) == []


def test_duckdb_reads_the_file_that_the_encoding_makes(tmp_path: Path) -> None:
    ids, seqs, positions, plddt = one("MX")
    positions[0][:] = np.arange(positions[0].size).reshape(-1, 3)
    positions[0][2, 0] = np.nan
    with ParquetFile(tmp_path, "s.parquet", "structures") as file:
        file.write(encode_structures(ids, seqs, positions, plddt))
    row = duckdb.sql(f"SELECT structure_id, sequence, x, z, plddt FROM '{tmp_path}/s.parquet'").fetchall()[0]
    assert row[0].bytes == hashlib.md5(b"MX").digest() and row[1] == "MX"
    assert row[2][:4] == [0, 300, None, 900] and row[3][-1] == 100 * (positions[0].size - 1)
    assert row[4] == [5000, 5000]
    encodings = pq.ParquetFile(tmp_path / "s.parquet").metadata.row_group(0).column(2).encodings
    assert "DELTA_BINARY_PACKED" in encodings
