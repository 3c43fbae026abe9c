"""JSON files of PAE, pLDDT and pTM, as AlphaFold DB and ColabFold write them."""

import json

import numpy as np
import pytest

from foldatlas.atlas.importing.confidence_json import MAX_CONFIDENCE_BYTES, confidence_names, read_confidence

PAE = np.random.default_rng(1).uniform(0, 31.75, (7, 7)).round(2)
PLDDT = np.random.default_rng(2).uniform(0, 100, 7).round(2)


def text(value: object) -> bytes:
    return json.dumps(value).encode()


def test_layout_of_alphafold_db() -> None:
    """Whole numbers up to 32; before version 3, one list, row by row."""
    whole = np.ceil(PAE).astype(int)
    whole[0, 1] = 32
    now = read_confidence(text([{"predicted_aligned_error": whole.tolist(), "max_predicted_aligned_error": 31.75}]), 7)
    assert now.pae is not None and now.pae.dtype == np.float32 and now.plddt is None and now.ptm is None
    np.testing.assert_array_equal(now.pae, np.minimum(whole, 31.75).astype(np.float32))
    ones, twos = np.indices((7, 7)) + 1
    then = {"residue1": ones.ravel().tolist(), "residue2": twos.ravel().tolist(), "distance": PAE.ravel().tolist()}
    old = read_confidence(text([then]), 7)
    assert old.pae is not None and old.pae[2, 5] == np.float32(PAE[2, 5])


def test_layout_of_colabfold() -> None:
    found = read_confidence(
        text({"plddt": PLDDT.tolist(), "max_pae": 31.0, "pae": PAE.tolist(), "ptm": 0.83, "iptm": None}), 7
    )
    assert found.ptm == 0.83 and found.pae is not None and found.plddt is not None
    np.testing.assert_array_equal(found.pae, PAE.astype(np.float32))
    np.testing.assert_array_equal(found.plddt, PLDDT.astype(np.float32))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"other": ' + b"[" * 100_000, "not JSON"),
        (b'{"pae": [[NaN]]}', "not JSON"),
        (b'{"pae": "x"}', "not JSON"),
        (b"\x00\xff", "not JSON"),
        (b'{"other": 1}', "no predicted_aligned_error"),
        (b"[]", "0 structures"),
        (b'[{"ptm": 1}, {"ptm": 1}]', "2 structures"),
        (text({"pae": PAE[:6].tolist()}), "6 rows"),
        (text({"pae": [*PAE[:6].tolist(), [1.0]]}), "7 rows"),
        (text([{"distance": [1.0] * 48}]), "48 values"),
        (text({"pae": (PAE - 40).tolist()}), "not 0 to 32"),
        (text({"pae": (PAE + 1e300).tolist()}), "not 0 to 32"),
        (text({"plddt": [50.0] * 6}), "6 values"),
        (text({"plddt": [500.0] * 7}), "not 0 to 100"),
        (text({"ptm": 1.5}), "not 0 to 1"),
        (b" " * (MAX_CONFIDENCE_BYTES + 1), "more than"),
        (b'{"pae": [[' + b"0," * 3_000 + b"0]]}", "3,000 values, more than a structure of 7 residues has"),
    ],
)
def test_refused_content_has_a_reason(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_confidence(content, 7)


def test_fractions_are_scaled() -> None:
    """pLDDT of the ESM Atlas's API is 0 to 1."""
    found = read_confidence(text({"plddt": (PLDDT / 100).tolist()}), 7)
    assert found.plddt is not None
    np.testing.assert_allclose(found.plddt, PLDDT, rtol=1e-6)


@pytest.mark.parametrize(
    ("structure", "expected"),
    [
        ("d/AF-Q9-F1-model_v4.cif.gz", "AF-Q9-F1-predicted_aligned_error_v4.json"),
        (
            "x_unrelaxed_rank_001_alphafold2_ptm_model_1_seed_000.pdb",
            "x_scores_rank_001_alphafold2_ptm_model_1_seed_000.json",
        ),
        ("x_y_relaxed_rank_1_model_3.pdb", "x_y_relaxed_rank_1_model_3_scores.json"),
        ("one.pdb", "one.json"),
        ("one.v2", "one.v2.json"),
    ],
)
def test_names_beside_a_structure(structure: str, expected: str) -> None:
    assert expected in confidence_names(structure)
