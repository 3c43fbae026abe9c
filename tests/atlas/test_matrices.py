"""Aligned errors and hidden states as they are stored, and as any reader of Parquet reads them."""

from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldatlas.atlas.parquet.matrices import (
    decode_pae,
    decode_residue_embeddings,
    encode_pae,
    encode_residue_embeddings,
)
from foldatlas.schemas.errors import DamagedAtlasError
from foldatlas.schemas.records import structure_id
from foldatlas.schemas.tables import write_options

PAE_ERROR = 0.0625  # angstrom


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_decoded_pae_is_within_a_sixteenth_of_an_angstrom(lengths: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    matrices = [random.uniform(0.25, 31.75, (length, length)).astype(np.float32) for length in lengths]
    table = encode_pae([structure_id("A" * length) for length in lengths], matrices)
    for matrix, decoded in zip(matrices, decode_pae(table), strict=True):
        assert decoded.shape == matrix.shape
        assert np.abs(decoded - matrix).max() <= PAE_ERROR
    assert encode_pae(table.column("structure_id").combine_chunks().storage.to_pylist(), decode_pae(table)) == table


def test_every_centre_of_the_bins_is_kept() -> None:
    centres = np.arange(64, dtype=np.float32) / 2 + 0.25
    table = encode_pae([b"0" * 16], [centres.reshape(8, 8)])
    np.testing.assert_array_equal(decode_pae(table)[0].ravel(), centres)


def test_hidden_states_are_half_precision() -> None:
    random = np.random.default_rng(0)
    states = [(random.normal(size=(length, 24)) * 10).astype(np.float32) for length in (1, 7)]
    table = encode_residue_embeddings([b"0" * 16, b"1" * 16], states)
    for values, decoded in zip(states, decode_residue_embeddings(table), strict=True):
        assert decoded.shape == values.shape
        assert (np.abs(decoded - values) <= np.abs(values) * 2.0**-11 + 2.0**-25).all()


@pytest.mark.parametrize("value", [-0.1, 32.0, np.nan])
def test_an_error_that_cannot_be_stored_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"limits are 0 and 31\.875"):
        encode_pae([b"0" * 16], [np.full((2, 2), value, np.float32)])


def test_a_state_that_cannot_be_stored_is_refused() -> None:
    with pytest.raises(ValueError, match="65504"):
        encode_residue_embeddings([b"0" * 16], [np.full((2, 2), 70_000, np.float32)])


def test_a_row_that_is_not_square_is_damaged() -> None:
    table = encode_pae([b"0" * 16], [np.ones((3, 3), np.float32)])
    wrong = table.set_column(1, "length", [[4]])
    with pytest.raises(DamagedAtlasError, match="9 values for 4 residues"):
        decode_pae(wrong)


def test_another_reader_finds_the_same_numbers(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    errors = random.uniform(0.25, 31.75, (30, 30)).astype(np.float32)
    states = random.normal(size=(30, 16)).astype(np.float32)
    for name, table in (
        ("pae", encode_pae([b"0" * 16], [errors])),
        ("residue_embeddings", encode_residue_embeddings([b"0" * 16], [states])),
    ):
        pq.write_table(table, tmp_path / name, **write_options(name))
    with duckdb.connect() as connection:
        (pae,) = connection.execute(f"SELECT pae FROM read_parquet('{tmp_path / 'pae'}')").fetchall()[0]
        sql = f"SELECT residues FROM read_parquet('{tmp_path / 'residue_embeddings'}')"
        (residues,) = connection.execute(sql).fetchall()[0]
    assert np.abs(np.reshape(pae, (30, 30)) / 8 - errors).max() <= PAE_ERROR
    np.testing.assert_allclose(np.reshape(residues, (30, 16)), states, rtol=2.0**-11, atol=2.0**-25)
