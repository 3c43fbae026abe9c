"""The example proteins are what examples/README.md says they are."""

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def records(root: Path) -> list[tuple[str, str]]:
    """Header and sequence, without the stop, of each example protein."""
    blocks = (root / "examples" / "gut.fasta").read_text(encoding="ascii").split(">")
    assert blocks[0] == ""
    pairs = [block.partition("\n") for block in blocks[1:]]
    return [(header, body.replace("\n", "")) for header, _, body in pairs]


def test_sixty_distinct_proteins(records: list[tuple[str, str]]) -> None:
    assert len(records) == 60
    assert len({header.split()[0] for header, _ in records}) == 60
    assert len({sequence for _, sequence in records}) == 60


def test_they_are_complete_and_of_standard_residues(records: list[tuple[str, str]]) -> None:
    for header, sequence in records:
        assert ";partial=00;" in header
        assert sequence.endswith("*")
        assert 50 <= len(sequence) - 1 <= 250
        assert set(sequence[:-1]) <= set("ACDEFGHIKLMNPQRSTVWY")


def test_headers_are_prodigals(records: list[tuple[str, str]]) -> None:
    for header, sequence in records:
        _, start, end, strand, attributes = header.split(" # ")
        assert strand in ("1", "-1")
        assert attributes.startswith("ID=")
        assert int(end) - int(start) + 1 == 3 * len(sequence)  # nucleotides, the stop codon included


def test_familiar_proteins_are_twenty_others(root: Path, records: list[tuple[str, str]]) -> None:
    blocks = (root / "examples" / "familiar.fasta").read_text(encoding="ascii").split(">")[1:]
    sequences = {block.partition("\n")[2].replace("\n", "").rstrip("*") for block in blocks}
    assert len(sequences) == len({block.split()[0] for block in blocks}) == 20
    assert all(40 <= len(sequence) <= 150 and set(sequence) <= set("ACDEFGHIKLMNPQRSTVWY") for sequence in sequences)
    assert not sequences & {sequence.rstrip("*") for _, sequence in records}
