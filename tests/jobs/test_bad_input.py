"""Wrong input: every faulty record costs itself alone, and what cannot start says why and changes nothing."""

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from foldatlas.atlas.reader import Atlas
from foldatlas.schemas.records import STANDARD_RESIDUES

Run = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.usefixtures("one_child")

# One of each fault of a record: id and bytes -> the reason it must be refused for.
FAULTS = {
    "empty_sequence": b">empty\n",
    "missing_id": b">\nMKVLAAG\n",
    "internal_stop": b">stop\nMKV*LAAG\n",
    "gap": b">gap\nMKV--LAAG\n",
    "digit": b">digits\n1 MKVLAAG 7\n",
    "nucleotides": b">dna\nACGTACGTACGTACGTACGTACGTACGTACGT\n",
    "too_long": b">titin\n" + b"MKVLA" * 8000 + b"\n",
    "nul_byte": b">nul\nMKV\0LAAG\n",
    "not_utf8": b">latin\xe9 caf\xe9\nMKV\xe9LAAG\n",
    "multimer": b">dimer\nMKVLAAG:MKVLAAG\n",
    "invalid_character": b">odd\nMKV?LAAG\n",
    "duplicate_id": b">good0\nMKVLAAGWWW\n",
}


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    letters = random.Random(5)
    good = ["M" + "".join(letters.choices(STANDARD_RESIDUES, k=24)) for _ in range(20)]
    good[1] = good[1].lower() + "*"
    records = [f">good{number}\n{text}\n".encode() for number, text in enumerate(good)]
    records[2] = records[2].replace(b"\n", b"\r\n")
    for place, fault in enumerate(FAULTS.values()):
        records.insert(2 * place + 2, fault)
    path = tmp_path / "faulty.fasta"
    path.write_bytes(b"text before the first record\n" + b"".join(records))
    return path


def test_every_fault_is_refused_by_name_and_the_rest_folds(faulty: Path, tmp_path: Path, run: Run) -> None:
    atlas = tmp_path / "atlas"
    done = run("fold", faulty, atlas, "--model", "nano")
    assert done.returncode == 0, done.stderr
    reasons = ", ".join(f"1 {reason}" for reason in sorted(FAULTS))
    assert done.stdout == f"32 records: 20 folded, 0 repeated, 12 refused ({reasons}), 0 failed\n"
    assert "text before the first '>'" in done.stderr
    assert f'refused records by reason: foldatlas query {atlas} "select' in done.stderr
    assert "Traceback" not in done.stderr
    with Atlas.open(atlas) as opened:
        refused = dict(opened.query("select outcome, id from refused").rows())
        folded = {name for (name,) in opened.query("select id from proteins").rows()}
    assert set(refused) == set(FAULTS)
    assert refused["not_utf8"] == "latin\\xe9"
    assert folded == {f"good{number}" for number in range(20)}
    strict = run("fold", faulty, atlas, "--model", "nano", "--strict")
    assert (strict.returncode, strict.stdout) == (3, done.stdout)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["fold", "{tmp}/nothing.fasta", "{tmp}/atlas", "--model", "nano"], "does not exist"),
        (["fold", "{tmp}/empty.fasta", "{tmp}/atlas", "--model", "nano"], "empty"),
        (["fold", "{tmp}/text.txt", "{tmp}/atlas", "--model", "nano"], "not FASTA"),
        (["fold", "{tmp}/in.fasta", "{tmp}/foreign", "--model", "nano"], "not empty"),
        (["fold", "{tmp}/in.fasta", "{tmp}/in.fasta", "--model", "nano"], "is a file"),
        (["fold", "{tmp}/in.fasta", "{tmp}/atlas", "--model", "nanna"], "unknown model 'nanna'"),
        (["fold", "{tmp}/in.fasta", "{tmp}/atlas"], "--model"),
        (["fold", "{tmp}/in.fasta", "{tmp}/atlas", "--model", "nano", "--recycles", "-1"], "0 or more"),
        (["fold", "{tmp}/in.fasta", "{tmp}/atlas", "--model", "nano", "--max-length", "0"], "1 or more"),
        (["fold", "{tmp}/in.fasta", "--model", "nano"], "ATLAS"),
        (["query", "{tmp}/foreign", "select 1"], "not an atlas"),
        (["query", "{tmp}/nothing", "select 1"], "no such folder"),
        (["status", "{tmp}/foreign"], "not an atlas"),
        (["verify", "{tmp}/nothing"], "no such folder"),
        (["index", "{tmp}/nothing"], "no such folder"),
        (["export", "{tmp}/nothing", "{tmp}/x", "--format", "pdb"], "no such folder"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_refused_command_gives_a_reason_and_changes_nothing(
    arguments: list[str], reason: str, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "in.fasta").write_text(">a\nMKVLAAG\n")
    (tmp_path / "empty.fasta").write_bytes(b"")
    (tmp_path / "text.txt").write_text("no protein here\n")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("years of work")
    before = sorted(tmp_path.rglob("*"))
    done = run(*(part.format(tmp=tmp_path) for part in arguments))
    assert done.returncode == 2, done.stderr
    assert reason in done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_another_model_on_an_atlas_is_refused(tmp_path: Path, run: Run) -> None:
    fasta, atlas = tmp_path / "in.fasta", tmp_path / "atlas"
    fasta.write_text(">a\nMKVLAAG\n")
    assert run("fold", fasta, atlas, "--model", "nano", "--recycles", "1").returncode == 0
    before = {path: path.read_bytes() for path in atlas.rglob("*") if path.is_file()}
    done = run("fold", fasta, atlas, "--model", "nano")
    assert done.returncode == 2 and "recycles 1, this run has 0" in done.stderr
    assert {path: path.read_bytes() for path in atlas.rglob("*") if path.is_file()} == before


def test_options_are_accepted_at_any_position(tmp_path: Path, run: Run) -> None:
    for name in "ab":
        (tmp_path / f"{name}.fasta").write_text(f">{name}\nMKVLAAG{name.upper()}\n")
    done = run("fold", tmp_path / "a.fasta", tmp_path / "b.fasta", "--model", "nano", tmp_path / "atlas")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 records: 2 folded")
