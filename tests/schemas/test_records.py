"""Residues and identities against the field's own tables."""

import hashlib
import uuid

import gemmi
import pytest

from foldatlas.schemas.records import (
    ATOMS,
    REFUSALS,
    RESIDUES,
    STANDARD_RESIDUES,
    THREE_LETTER,
    UNKNOWN_RESIDUES,
    Outcome,
    Settings,
    format_structure_id,
    num_atoms,
    structure_id,
)

# Heavy atoms of each residue inside a chain, from their chemical formulae: free acid less one oxygen.
HEAVY_ATOMS = dict(
    zip("GASCTPVDNILEQMHKFRYW", (4, 5, 6, 6, 7, 7, 7, 8, 8, 8, 8, 9, 9, 8, 10, 9, 11, 11, 12, 14), strict=True)
)


def test_every_letter_is_a_residue() -> None:
    assert frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ") == RESIDUES == set(ATOMS) == set(THREE_LETTER)


def test_standard_residues_have_their_atoms() -> None:
    assert {residue: len(ATOMS[residue]) for residue in STANDARD_RESIDUES} == HEAVY_ATOMS
    for residue in STANDARD_RESIDUES:
        assert gemmi.find_tabulated_residue(THREE_LETTER[residue]).one_letter_code == residue
        assert len(set(ATOMS[residue])) == len(ATOMS[residue])
        assert ATOMS[residue][:4] == ("N", "CA", "C", "O")


def test_unknown_residues_are_a_backbone() -> None:
    assert {ATOMS[residue] for residue in UNKNOWN_RESIDUES} == {("N", "CA", "C", "O")}
    assert num_atoms("AXG") == 5 + 4 + 4


def test_a_structure_id_is_the_md5_of_the_letters() -> None:
    digest = hashlib.md5(b"MKVL").digest()
    assert structure_id("MKVL") == structure_id(b"MKVL") == digest
    assert format_structure_id(digest) == str(uuid.UUID(bytes=digest))


def test_every_refusal_has_a_readable_reason() -> None:
    assert set(Outcome) - {Outcome.ACCEPTED, Outcome.REPEATED} == set(REFUSALS)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="recycles=-1"):
        Settings("nano", "0", -1, "fp32")
