"""The whole job with the atlas on an S3 server: killed, resumed, shared by two drivers, and the same as in a folder."""

import math
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from paused import Paused

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.parquet.files import open_parquet
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.storage.commit import attempt_name
from foldatlas.jobs.cli import main

Run = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.usefixtures("one_child")


@pytest.fixture
def fasta(reference: tuple[str, Path]) -> str:
    return reference[0]


@pytest.fixture
def local(reference: tuple[str, Path]) -> Path:
    return reference[1]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """16 short proteins, two of them the same, and a record that is refused; and their atlas in a folder."""
    path = tmp_path_factory.mktemp("reference") / "few.fasta"
    letters = "ACDEFGHIKLMNPQRSTVWY"
    texts = ["M" + (letters[n:] + letters[:n]) + "LVKE" * (n % 4) for n in range(16)]
    texts[9] = texts[3]
    path.write_text("".join(f">p{n} of few\n{text}\n" for n, text in enumerate(texts)) + ">bad\nMK1\n")
    assert main(["fold", str(path), str(path.with_name("atlas")), "--model", "nano"]) == 0
    return str(path), path.with_name("atlas")


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command in this process, which is faster, and gives its standard output."""

    def call(*arguments: str | Path) -> str:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        assert code == 0, printed.err
        return printed.out

    return call


@pytest.fixture
def place(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    s3.create_bucket(Bucket="jobs")
    monkeypatch.setenv("FOLDATLAS_CACHE", str(tmp_path / "cache"))
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))  # of the drivers that are killed
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))  # of commands in this process, which has read TMPDIR
    return f"s3://jobs/{tmp_path.name}/atlas"


def start(fasta: str, place: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "foldatlas.jobs.cli", "fold", fasta, place, "--model", "nano"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def contents(place: str | Path) -> dict[str, list[str]]:
    """What must be equal wherever an atlas is: records with their scores, and the stored integers of structures."""
    with Atlas.open(place) as opened:
        assert not opened.is_stale
        columns = "* EXCLUDE (run_id, structure_file, structure_row, structure_row_group)"
        found = {
            "proteins": opened.query(f"SELECT {columns} FROM proteins").rows(),
            "records": opened.query("SELECT * FROM records").rows(),
            "sequences": opened.query("SELECT * FROM sequences").rows(),
        }
        folder = opened.folder
    found["structures"] = [
        tuple(row.values())
        for entry in folder.entries().values()
        for row in _read(folder, entry.files["structures"].path).to_pylist()
    ]
    return {table: sorted(map(repr, rows)) for table, rows in found.items()}


def _read(folder: AtlasFolder, name: str) -> pa.Table:
    with open_parquet(folder.storage, name) as file:
        return file.read()


DONE = "17 records: 16 folded, 0 repeated, 1 refused (1 digit), 0 failed\n"


@pytest.mark.slow
def test_a_killed_run_on_a_store_ends_as_one_in_a_folder(
    place: str, fasta: str, local: Path, run: Run, ask: Callable[..., str], tmp_path: Path
) -> None:
    driver = Paused(tmp_path / "pauses", (3,), "fold", fasta, place, "--model", "nano")
    try:
        driver.wait_before(3)
    finally:
        driver.end()
    committed = len(AtlasFolder(place).entries())
    assert committed == 2 < len(AtlasFolder(local).entries())
    host = attempt_name().rsplit("_", 2)[0]  # the driver may have been killed between two work folders
    (tmp_path / "tmp" / f"foldatlas-{host}_{driver.process.pid}_00000000").mkdir()
    assert f"shards    {committed} of" in ask("status", place)
    assert "still to fold" in ask("index", place)
    assert ask("verify", place).endswith(": no fault\n")

    again = run("fold", fasta, place, "--model", "nano")
    assert (again.returncode, again.stdout) == (0, DONE), again.stderr
    assert contents(place) == contents(local)
    runs = [entry.run.run_id for entry in AtlasFolder(place).entries().values()]
    assert sorted(map(runs.count, set(runs))) == sorted([committed, len(runs) - committed])
    assert not AtlasFolder(place).storage.files(".staging")
    assert list((tmp_path / "tmp").glob("foldatlas-*")) == []  # the next driver deletes them

    assert ask("fold", fasta, place, "--model", "nano") == DONE
    assert len(AtlasFolder(place).entries()) == len(runs)
    sql = "select id, mean_plddt, sequence from proteins join sequences using (structure_id) order by id"
    ours = ask("query", place, sql)
    assert ours == ask("query", local, sql) and ours.count("\n") == 18
    for where, name in ((place, "ours"), (local, "theirs")):
        ask("export", where, tmp_path / name, "--format", "pdb", "--where", "length > 22")
    files = sorted((tmp_path / "theirs").glob("*.pdb"))
    assert len(files) > 4
    for path in files:
        assert (tmp_path / "ours" / path.name).read_bytes() == path.read_bytes()

    more = tmp_path / "more.fasta"
    more.write_text(Path(fasta).read_text() + ">new of more\nMKVLAAGIVGLCAKAYE\n")
    ask("fold", more, place, "--model", "nano")
    assert AtlasFolder(place).plans()[1].proteins == 1
    assert ask("verify", place).endswith(": no fault\n")


def test_two_drivers_on_one_atlas_harm_nothing(place: str, fasta: str, local: Path, ask: Callable[..., str]) -> None:
    drivers = [start(fasta, place) for _ in range(2)]
    printed = [driver.communicate(timeout=300) for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], printed
    assert len(AtlasFolder(place).plans()) == 1
    assert contents(place) == contents(local)
    assert ask("verify", place).endswith(": no fault\n")
    listed = {file.path for entry in AtlasFolder(place).entries().values() for file in entry.files.values()}
    storage = AtlasFolder(place).storage
    there = {file.name for table in ("structures", "scores", "failures") for file in storage.files(table)}
    assert there == listed  # a driver that lost a shard deleted its own files


def test_lost_store_ends_the_run_in_one_line_and_it_resumes(
    place: str, fasta: str, flaky: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, where waits can be made short: the store is busy now and then, and gone after some commits."""
    monkeypatch.setattr("foldatlas.atlas.storage.s3_client.PATIENCE_SECONDS", 0.05)
    commits = 0

    def gone(method: str, key: str) -> int | None:
        nonlocal commits
        commits += method == "PUT" and "/manifest/" in key
        return 503 if commits > 3 or len(flaky.requests) % 7 == 0 else None

    flaky.fault = gone
    assert main(["fold", fasta, place, "--model", "nano"]) == 1
    errors = capsys.readouterr().err
    assert "Traceback" not in errors and "cannot be reached (HTTP 503)" in errors.splitlines()[-1]
    assert "run the same command again" in errors.splitlines()[-1]

    monkeypatch.setattr("foldatlas.atlas.storage.s3_client.PATIENCE_SECONDS", 60.0)
    monkeypatch.setattr("foldatlas.atlas.storage.s3_client._gave_up", -math.inf)  # as in another process
    flaky.fault = lambda method, key: 503 if len(flaky.requests) % 7 == 0 else None
    committed = set(AtlasFolder(place).entries())
    assert 0 < len(committed) <= 3
    assert main(["fold", fasta, place, "--model", "nano"]) == 0
    assert capsys.readouterr().out == DONE
    assert main(["verify", place]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (
            ["fold", "{fasta}", "gs://bucket/atlas", "--model", "nano"],
            2,
            "gs:// cannot hold an atlas: give a folder or",
        ),
        (["status", "s3://jobs"], 2, "give a prefix in a bucket"),
        (["query", "{place}", "select 1"], 2, "is not an atlas"),
        (["fold", "{fasta}", "s3://there-is-none/atlas", "--model", "nano"], 1, "there is no such bucket"),
        (["export", "{place}", "gs://jobs/out", "--format", "pdb"], 2, "is not an atlas"),
    ],
)
def test_places_that_cannot_be_are_refused_in_one_line(
    place: str, fasta: str, run: Run, arguments: list[str], code: int, reason: str, tmp_path: Path
) -> None:
    done = run(*(word.format(place=place, fasta=fasta) for word in arguments), cwd=tmp_path)
    assert done.returncode == code and reason in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not [path.name for path in tmp_path.iterdir() if ":" in path.name]


def test_a_bucket_that_holds_other_things_is_left_alone(place: str, fasta: str, run: Run, s3: Any) -> None:
    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    s3.put_object(Bucket=bucket, Key=f"{prefix}/thesis.tex", Body=b"years")
    done = run("fold", fasta, place, "--model", "nano")
    assert done.returncode == 2 and "is not an atlas and is not empty (it contains 'thesis.tex')" in done.stderr
    assert [file.name for file in AtlasFolder(place).storage.files(hidden=True)] == ["thesis.tex"]
