"""Every fault of a record, one by one; checksums against Biopython's."""

import hashlib

import pytest
from Bio.SeqUtils.CheckSum import crc64 as biopython_crc64
from hypothesis import given
from hypothesis import strategies as st

from foldatlas.pipeline.sources.fasta import RawRecord
from foldatlas.pipeline.sources.validation import Record, check, crc64
from foldatlas.schemas.records import REFUSALS, RESIDUES, Outcome


def checked(text: bytes, *, dropped: int = 0, truncated: bool = False, max_length: int = 1280) -> Record:
    return check(RawRecord(7, text, dropped, truncated), max_length)


FAULTS = [
    (b"", Outcome.MISSING_ID),
    (b"  \nMKVL", Outcome.MISSING_ID),
    (b"a\n", Outcome.EMPTY_SEQUENCE),
    (b"a\n*\n", Outcome.EMPTY_SEQUENCE),
    (b"a", Outcome.EMPTY_SEQUENCE),
    (b"a\nMK\0VL", Outcome.NUL_BYTE),
    (b"a\0b\nMKVL", Outcome.NUL_BYTE),
    (b"a\nMK\xffVL", Outcome.NOT_UTF8),
    (b"a\nMKVL:MKVL", Outcome.MULTIMER),
    (b"a\nMK-VL", Outcome.GAP),
    (b"a\nMK..VL", Outcome.GAP),
    (b"a\nMK*VL", Outcome.INTERNAL_STOP),
    (b"a\nMK*VL**", Outcome.INTERNAL_STOP),
    (b"a\nMKVL..", Outcome.GAP),
    (b"a\n  1 MKVL 4", Outcome.DIGIT),
    (b"a\nMK?VL", Outcome.INVALID_CHARACTER),
    ("a\nMKÅVL".encode(), Outcome.INVALID_CHARACTER),
    (b"a\n" + b"ACGTN" * 6, Outcome.NUCLEOTIDES),
    (b"a\n" + b"acgu" * 8, Outcome.NUCLEOTIDES),
    (b"a\n" + b"ACGTN" * 6 + b"acgt", Outcome.NUCLEOTIDES),
    (b"a\n" + b"MKVL" * 10_000, Outcome.TOO_LONG),
]


@pytest.mark.parametrize(("text", "outcome"), FAULTS)
def test_a_fault_is_refused_with_its_reason(text: bytes, outcome: Outcome) -> None:
    record = checked(text)
    assert record.outcome == outcome
    assert (record.structure_id, record.sequence_crc64, record.sequence) == (None, None, None)
    assert record.offset == 7


def test_every_reason_has_a_test_and_a_text() -> None:
    tested_elsewhere = {Outcome.TRUNCATED, Outcome.NO_TRANSLATION, Outcome.NOT_NUCLEOTIDES, Outcome.DUPLICATE_ID}
    outcomes = list(Outcome)
    of_imports = set(outcomes[outcomes.index(Outcome.ALTERNATIVE_MODEL) :])  # tests of `foldatlas import` have these
    assert {outcome for _, outcome in FAULTS} | tested_elsewhere == set(REFUSALS) - of_imports
    assert of_imports <= set(REFUSALS)


def test_a_truncated_record_is_refused_whatever_it_holds() -> None:
    assert checked(b"a\nMKVL", truncated=True).outcome == Outcome.TRUNCATED


def test_letters_that_were_dropped_count() -> None:
    record = checked(b"a\nMKVL", dropped=2_000_000_000)
    assert (record.outcome, record.length) == (Outcome.TOO_LONG, 2_000_000_004)


@pytest.mark.parametrize(
    ("text", "sequence"),
    [
        (b"a\r\nMK\r\nVL\r\n", "MKVL"),
        (b"a\nmkvl\n", "MKVL"),
        (b"a\nMKVL*\n", "MKVL"),
        (b"a\nMKVL*\r\n", "MKVL"),
        (b"a\nMKVL**\n", "MKVL"),
        (b"a\nMKVL.\n", "MKVL"),
        (b"a\nMKVL*\r\n\x1a", "MKVL"),
        (b"prot\xe9ine \xe0 deux\nMKVL\n", "MKVL"),  # Latin-1
        (b"a\n" + b"N" * 45, "N" * 45),  # doubtful: its file decides
        (b"a\n" + b"AG" * 20, "AG" * 20),
        (b"a\nMK VL\tGG\n", "MKVLGG"),
        (b"a\nXBZUOJ", "XBZUOJ"),
        (b"a\n" + b"ACGT" * 7, "ACGT" * 7),  # 28 letters: may be a peptide
        (b"a\nM", "M"),
    ],
)
def test_valid_records_are_accepted(text: bytes, sequence: str) -> None:
    record = checked(text)
    assert (record.outcome, record.sequence, record.length) == (Outcome.ACCEPTED, sequence, len(sequence))
    assert record.structure_id == hashlib.md5(sequence.encode()).digest()


def test_the_limit_is_inclusive() -> None:
    assert checked(b"a\n" + b"M" * 10, max_length=10).outcome == Outcome.ACCEPTED
    assert checked(b"a\n" + b"M" * 11, max_length=10).outcome == Outcome.TOO_LONG


@pytest.mark.parametrize(
    ("header", "name", "description"),
    [
        (b"sp|P1|X_HUMAN Protein X\tOS=Homo  sapiens \r", "sp|P1|X_HUMAN", "Protein X\tOS=Homo  sapiens"),
        (b"  lone ", "lone", ""),
        ("protéine é".encode(), "protéine", "é"),
        (b"bad\xffid x", "bad\\xffid", "x"),
        (b"nul\0id", "nul\\x00id", ""),
        (b"a b\xe9 c", "a", "b\\xe9 c"),
        (b"WP_1 x\x01WP_2 y", "WP_1", "x\x01WP_2 y"),
        (b"WP_1\x01WP_2 y", "WP_1", "\x01WP_2 y"),
    ],
)
def test_headers(header: bytes, name: str, description: str) -> None:
    record = checked(header + b"\nMKVL")
    assert (record.id, record.description) == (name, description)


@pytest.mark.parametrize(
    ("description", "is_fragment"),
    [
        (b"# 2 # 181 # 1 # ID=1_1;partial=10;start_type=Edge", True),
        (b"# 2 # 181 # 1 # ID=1_1;partial=01;start_type=Edge", True),
        (b"# 204 # 629 # -1 # ID=1_1;partial=00;start_type=ATG", False),
        (b"a partial=yes thing", None),
        (b"", None),
    ],
)
def test_prodigal_says_whether_a_protein_is_cut(description: bytes, is_fragment: bool | None) -> None:
    assert checked(b"a " + description + b"\nMKVL").is_fragment is is_fragment


@pytest.mark.parametrize(("name", "number"), [("MGYP000123", 123), ("MGYPx", None), ("xMGYP12", None)])
def test_mgnify_numbers(name: str, number: int | None) -> None:
    assert checked(name.encode() + b" PL=00\nMKVL").mgyp == number


@given(st.text(alphabet=sorted(RESIDUES), min_size=1, max_size=300))
def test_checksums_are_those_of_uniprot(sequence: str) -> None:
    assert "CRC-" + crc64(sequence.encode()) == biopython_crc64(sequence)
