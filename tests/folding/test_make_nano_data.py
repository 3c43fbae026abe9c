"""nano's data made from a small made-up set by MMseqs2 itself, where it is installed."""

import gzip
import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foldatlas.folding.training.data import make_nano_data, sequence_search
from foldatlas.schemas.errors import SourceError
from foldatlas.schemas.records import STANDARD_RESIDUES

MMSEQS = shutil.which(os.environ.get("MMSEQS", "mmseqs"))
needs_mmseqs = pytest.mark.skipif(MMSEQS is None, reason="MMseqs2 is not installed (Debian: mmseqs2), nor in MMSEQS")

NUM_TRAIN = 60


def like(draw: random.Random, residues: str, identity: float) -> str:
    """`residues` with a share `identity` of them left as they are."""
    changed = draw.sample(range(len(residues)), round((1 - identity) * len(residues)))
    new = list(residues)
    for place in changed:
        new[place] = draw.choice([letter for letter in STANDARD_RESIDUES if letter != residues[place]])
    return "".join(new)


@pytest.fixture
def protein() -> Callable[[int], str]:
    draw = random.Random(7)
    return lambda length: "".join(draw.choices(STANDARD_RESIDUES, k=length))


@pytest.fixture
def inputs(tmp_path: Path, protein: Callable[[int], str]) -> list[str]:
    """The command's words for sixty training chains, two valid ones, and two files of sequences."""
    draw = random.Random(8)
    train = [protein(60 + 4 * number) for number in range(NUM_TRAIN)]  # 60 to 296 residues
    train[1] = like(draw, train[0] + train[1][-4:], 0.7)  # a pair in two clusters
    valid = [protein(120), protein(200)]
    rows = [(f"T{number:02d}", f"T{number:02d}", "train", residues) for number, residues in enumerate(train)]
    rows += [(f"V{number}", f"V{number}", "valid", residues) for number, residues in enumerate(valid)]
    rows.append(("B0", "B0", "broken", protein(90)))
    columns = zip(("chain_id", "cluster30", "split", "sequence"), zip(*rows, strict=True), strict=True)
    pq.write_table(pa.table({name: list(values) for name, values in columns}), tmp_path / "chains.parquet")
    genome = {
        "near_valid": like(draw, valid[0], 0.45) + "*",
        "half_of_valid": like(draw, valid[1][:110], 0.6) + protein(300),
        "masked": protein(80).lower(),
        "unknown": protein(80)[:-1] + "X",
        "short": protein(29),
        "identical": train[5],
    }
    relatives = {f"like_T{number:02d}": like(draw, train[number], 0.75) for number in range(20)}
    known = {"known": relatives["like_T10"]}
    others = {f"other{number}": protein(100) for number in range(100)}
    for name, sequences in (("genome.faa", genome), ("known.fasta", known), ("db.fasta", relatives | others)):
        text = "".join(f">{key} text\n{residues}\n" for key, residues in sequences.items())
        (tmp_path / name).write_text(text, encoding="ascii")
    (tmp_path / "db.fasta.gz").write_bytes(gzip.compress((tmp_path / "db.fasta").read_bytes()))
    words = [str(tmp_path / "chains.parquet"), str(tmp_path / "out"), "--fasta", f"genome={tmp_path / 'genome.faa'}"]
    words += ["--fasta", f"examples={tmp_path / 'db.fasta.gz'}", "--without", str(tmp_path / "known.fasta")]
    return [*words, "--mmseqs", MMSEQS or "mmseqs", "--threads", "1"]


def names(path: Path) -> list[str]:
    return [line[1:].split()[0] for line in path.read_text().splitlines() if line.startswith(">")]


def table(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text().splitlines()]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less sensitive: where words are searched for, the relatives here are close, and it takes half the time.

    And no alignment by chance, so that what has to be left out is known.
    """
    monkeypatch.setattr(sequence_search, "SENSITIVITY", "1")
    monkeypatch.setattr(make_nano_data, "LARGEST_EVALUE", 1e-6)


@needs_mmseqs
@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_written_files_are_documented_and_reproducible(
    inputs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files hold what the module documents; a second run writes the same bytes."""
    assert make_nano_data.main(inputs) == 0
    out = tmp_path / "out"
    summary = json.loads((out / "summary.json").read_text())
    assert sorted(path.name for path in out.iterdir()) == sorted([*summary["outputs"], "summary.json"])

    train, valid = names(out / "language_train.fasta"), names(out / "language_valid.fasta")
    everything = {f"T{number:02d}" for number in range(NUM_TRAIN)} | {"masked"}
    everything |= {f"like_T{number:02d}" for number in range(20)} | {f"other{number}" for number in range(100)}
    assert {*train, *valid} == everything  # so without the four of the genome that are near, unknown or short
    assert len(train) + len(valid) == len(everything)
    counts = summary["outcomes"]["genome"]
    assert counts == {
        "records": 6,
        "nonstandard": 1,
        "short": 1,
        "duplicate": 1,
        "near_valid": 2,
        "learnt_or_held_out": 1,
    }
    assert sum(summary["near_valid"].values()) == 2

    clusters = dict(table(out / "language_clusters.tsv"))
    assert set(clusters) == everything
    assert clusters["like_T10"] == clusters["T10"]  # 75 % identity
    assert {clusters[name] for name in train}.isdisjoint(clusters[name] for name in valid)

    header, *rows = table(out / "fold_split.tsv")
    assert header == ["name", "cluster30", "length", "role"]
    assert [row[0] for row in rows] == [f"T{number:02d}" for number in range(NUM_TRAIN)]
    assert [int(row[2]) for row in rows] == [60 + 4 * number for number in range(NUM_TRAIN)]
    roles = {row[0]: row[3] for row in rows}
    assert roles["T00"] == roles["T01"]  # 70 % identity, in two clusters
    assert set(roles.values()) == {"trunk", "confidence"}
    for name, role in roles.items():
        assert (name in valid) == (role == "confidence")

    header, *candidates = table(out / "familiar_candidates.tsv")
    familiar = names(out / "familiar.fasta")
    assert familiar == [row[0] for row in candidates]
    trunk = {f"like_{name}" for name, role in roles.items() if role == "trunk"}
    expected = {f"like_T{number:02d}" for number in range(20)} & trunk - {"like_T10"}
    assert set(familiar) == expected
    for query, source, target, identity, *_ in candidates:
        assert (query, source) == (f"like_{target}", "examples")
        assert float(identity) == pytest.approx(0.75, abs=0.05)  # alignments leave out bad ends

    for name, digest in summary["outputs"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    printed = capsys.readouterr()
    assert json.loads(printed.out)["fold"]["trunk"]["chains"] == sum(role == "trunk" for role in roles.values())

    again = [str(tmp_path / "again") if word == str(out) else word for word in inputs]
    assert make_nano_data.main([*again, "--threads", "2"]) == 0
    for path in out.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


@needs_mmseqs
@pytest.mark.usefixtures("quick")
def test_aligning_all_finds_what_shares_no_word(tmp_path: Path, protein: Callable[[int], str]) -> None:
    first, second = protein(200), protein(150)
    remote = "".join(letter if place % 2 else "W" for place, letter in enumerate(first.replace("W", "Y")))
    queries, targets = {"a": first, "b": second}, {"x": protein(180), "remote": remote, "same": second}
    mmseqs = sequence_search.MMseqs(MMSEQS or "", 1, tmp_path)
    searched = {(hit.query, hit.target) for hit in mmseqs.search(queries, targets, 1e-3)}
    found = mmseqs.align_all(queries, targets, 1e-3)
    assert searched == {("b", "same")}
    assert [(hit.query, hit.target) for hit in found] == [("a", "remote"), ("b", "same")]
    assert found[0].identity == pytest.approx(0.5, abs=0.06)
    assert (found[1].identity, found[1].aligned, found[1].query_coverage) == (1.0, 150, 1.0)


def test_without_mmseqs_it_says_what_to_install(inputs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert make_nano_data.main([*inputs, "--mmseqs", "no-such-program"]) == 2
    assert "no-such-program was not found: install MMseqs2" in capsys.readouterr().err


def test_a_failing_program_is_named(inputs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = tmp_path / "mmseqs"
    program.write_text("#!/bin/sh\necho no room left >&2\nexit 3\n")
    program.chmod(0o755)
    assert make_nano_data.main([*inputs, "--mmseqs", str(program)]) == 1
    assert "mmseqs createdb failed with exit code 3:\nno room left" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []  # nothing half made


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"chain_id": ["a"], "split": ["train"]}, "cannot be read as Parquet with the columns"),
        (
            {"chain_id": ["a"], "cluster30": ["a"], "split": ["train"], "sequence": ["MKV"]},
            "has no chain of the split",
        ),
        ({"chain_id": ["a"], "cluster30": ["a"], "split": ["train"], "sequence": [None]}, "a value is missing"),
        ({"chain_id": ["a\t"], "cluster30": ["a"], "split": ["train"], "sequence": ["MKV"]}, "has white space"),
    ],
)
def test_other_tables_are_refused(
    columns: dict[str, list[str | None]],
    message: str,
    inputs: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pq.write_table(
        pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()}), tmp_path / "chains.parquet"
    )
    words = inputs if MMSEQS else [*inputs, "--mmseqs", "sh"]  # it is not reached
    assert make_nano_data.main(words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", [b"not gzip", gzip.compress(b">a\nMKV")[:-9], gzip.compress(b"\xff\xfe")], ids=["plain", "cut", "bytes"]
)
def test_a_damaged_file_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.fasta.gz").write_bytes(content)
    with pytest.raises(SourceError, match=r"a\.fasta\.gz cannot be read"):
        make_nano_data.read_fasta(tmp_path / "a.fasta.gz")
