"""`foldatlas fold --retry-failed` and `--log` as a person types them, with a model of no weight."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.jobs import status as status_job
from foldatlas.jobs.cli import main
from foldatlas.pipeline.workers import supervisor
from foldatlas.pipeline.workers.devices import hardware_of

FAKE_CHILD = (sys.executable, "-P", str(Path(__file__).parents[1] / "pipeline" / "fake_child.py"))
LENGTHS = [30, 40, 50, 60, 70, 80, 90, 100]


@pytest.fixture
def fasta(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Eight proteins, of which a device of 75 residues holds five."""
    assert supervisor.CHILD[-1] == "foldatlas.pipeline.workers.child"
    monkeypatch.setattr(supervisor, "CHILD", FAKE_CHILD[1:])
    path = tmp_path / "in.fasta"
    path.write_text("".join(f">p{length}\nM{'G' * (length - 1)}\n" for length in LENGTHS))
    yield path
    supervisor.end_children()


@pytest.fixture
def foldatlas(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*words: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run


def test_larger_device_folds_what_a_smaller_one_could_not(
    fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, foldatlas: Callable[..., tuple[int, str, str]]
) -> None:
    atlas, log = tmp_path / "atlas", tmp_path / "events.jsonl"
    monkeypatch.setenv("FAKE_CHILD_MEMORY", "75")
    code, out, _ = foldatlas("fold", fasta, atlas, "--model", "nano", "--device", "cpu", "--log", log)
    assert (code, out) == (3, "8 records: 5 folded, 0 repeated, 0 refused, 3 failed\n")
    code, out, said = foldatlas("fold", fasta, atlas, "--model", "nano", "--device", "cpu")
    assert code == 3 and "nothing to fold" in said and "--retry-failed" in said

    monkeypatch.setenv("FAKE_CHILD_MEMORY", "95")
    fasta.unlink()  # the atlas has the sequences
    code, out, said = foldatlas("fold", atlas, "--model", "nano", "--retry-failed", "--log", log)
    assert (code, out) == (3, "8 records: 7 folded, 0 repeated, 0 refused, 1 failed\n")
    assert "folded 2 structures" in said

    monkeypatch.setenv("FAKE_CHILD_MEMORY", "1000")
    code, out, _ = foldatlas("fold", atlas, "--model", "nano", "--retry-failed", "--log", log)
    assert (code, out) == (0, "8 records: 8 folded, 0 repeated, 0 refused, 0 failed\n")
    code, _, said = foldatlas("fold", atlas, "--model", "nano", "--retry-failed")
    assert code == 0 and "nothing to fold" in said
    assert foldatlas("verify", atlas)[0] == 0

    ended = [line for line in map(json.loads, log.read_text().splitlines()) if line["event"] == "run_ended"]
    assert [(line["folded"], line["failed"]) for line in ended] == [(5, 3), (2, 1), (1, 0)]
    sql = "select folded, failed from runs order by started"
    assert foldatlas("query", atlas, sql, "--format", "csv")[1].splitlines()[1:] == ["5,0", "2,0", "1,0"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fold", "{atlas}", "--model", "nano"], "no FASTA file is given.*--retry-failed"),
        (["fold", "{atlas}", "--model", "nano", "--retry-failed"], "not an atlas|no such folder"),
        (["fold", "{atlas}", "--model", "nano", "--retry-failed", "--genes"], "omit --genes"),
        (["plan", "{atlas}", "--model", "nano", "--genes"], "omit --genes"),
        (["plan", "{atlas}", "--model", "nano", "--as", "x"], "omit --as"),
        (["plan", "{fasta}", "--model", "nano"], "in.fasta: no such folder; give an atlas"),
        (
            ["fold", "{fasta}", "{atlas}", "--model", "nano", "--retry-failed", "--pae", "--add-outputs"],
            "cannot be combined",
        ),
        (["fold", "{fasta}", "{atlas}", "--model", "nano", "--log", "{atlas}/no/log"], "--log .* cannot be written"),
    ],
)
def test_impossible_options_are_refused(
    fasta: Path, tmp_path: Path, foldatlas: Callable[..., tuple[int, str, str]], words: list[str], message: str
) -> None:
    atlas = tmp_path / "atlas"
    code, out, said = foldatlas(*(word.format(atlas=atlas, fasta=fasta) for word in words))
    assert (code, out) == (2, "")
    assert re.search(message, said), said
    assert not atlas.exists()


def test_watching_ends_when_all_is_done(
    fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, foldatlas: Callable[..., tuple[int, str, str]]
) -> None:
    atlas = tmp_path / "atlas"
    assert foldatlas("plan", fasta, atlas, "--model", "nano", "--device", "cpu")[0] == 0
    assert AtlasFolder(atlas).entries() == {}
    waited: list[float] = []

    def meanwhile(seconds: float) -> None:
        waited.append(seconds)
        main(["fold", str(fasta), str(atlas), "--model", "nano", "--device", "cpu"])

    monkeypatch.setattr(status_job, "sleep", meanwhile)
    code, out, _ = foldatlas("status", atlas, "--json", "--watch", "7")
    lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    assert code == 0 and waited == [7.0]
    assert [line["is_complete"] for line in lines] == [False, True]
    assert lines[0]["ends"] is None and lines[1]["runs"][0]["shards"] == 8
    assert 0 < lines[1]["busy_share"] <= 1
    here = hardware_of("cpu")
    (device,) = lines[1]["devices"]
    assert (device["kind"], device["name"], device["bytes"], device["shards"]) == ("cpu", *here, 8)
    assert lines[1]["main_device"] == here.name and lines[1]["runs"][0]["devices"] == [here.name]
    code, out, _ = foldatlas("query", atlas, "select device, device_name from runs", "--format", "json")
    assert code == 0 and json.loads(out) == [{"device": "cpu", "device_name": here.name}]
