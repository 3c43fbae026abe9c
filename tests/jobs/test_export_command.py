"""`foldatlas export` as it is typed."""

import functools
import http.server
import json
import random
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from Bio import SeqIO

from foldatlas.atlas.reader import Atlas
from foldatlas.schemas.records import STANDARD_RESIDUES

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize("words", [["mean_plddt", "desc"], ["mean_plddt desc"], ["MEAN_PLDDT", "DESC"]])
def test_order_by_and_limit_export_the_best(gut: Path, tmp_path: Path, run: Run, words: list[str]) -> None:
    out = tmp_path / "best"
    done = run("export", gut, out, "--format", "fasta", "--order-by", *words, "--limit", "3")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 proteins in 1 file")
    with Atlas.open(gut) as atlas:
        best = {name for (name,) in atlas.query("select id from proteins order by mean_plddt desc limit 3").rows()}
    exported = [line[1:].split()[0] for line in (out / "proteins.fasta").read_text().splitlines() if line[0] == ">"]
    assert len(exported) == 3 and set(exported) == best


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--order-by", "mean_plddt", "desc"], "--limit"),
        (["--order-by", "nothing", "--limit", "3"], "nothing"),
        (["--order-by", "length; drop table proteins", "--limit", "3"], "drop"),
        (["--order-by", "--limit", "3"], "--order-by"),
    ],
)
def test_an_order_that_cannot_be_used_is_refused(
    gut: Path, tmp_path: Path, run: Run, words: list[str], message: str
) -> None:
    done = run("export", gut, tmp_path / "out", "--format", "fasta", *words)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


HOSTILE = (
    "../../x", "y" * 4_000, "Z\u00fcrich\u6f22\U0001f9ec", "';drop_table_records;--", "CON", "nul.txt", "lpt1", "Same",
    "same", "..", "-rf", "a/b\\c:d*e?", "$(reboot)", "%2e%2e%2f", "`id`", "~root", "/etc/passwd", "C:\\x", "&&rm",
    ".hidden",
)  # fmt: skip


def test_hostile_ids_are_folded_exported_and_queried(tmp_path: Path, run: Run) -> None:
    """Nothing is written outside of the folders, each id keeps its own file, and the ids come back unchanged.

    An id with NUL is a refused record, and `; drop table` an id `;`, since an id ends at a space.
    """
    letters = random.Random(4)
    with (tmp_path / "hostile.fasta").open("wb") as file:
        for name in [*HOSTILE, "nul\0byte", "; drop table records"]:
            sequence = "M" + "".join(letters.choices(STANDARD_RESIDUES, k=12))
            file.write(f">{name} described\n{sequence}\n".encode())
    done = run("fold", tmp_path / "hostile.fasta", tmp_path / "atlas", "--model", "nano")
    assert done.stdout == "22 records: 21 folded, 0 repeated, 1 refused (1 nul_byte), 0 failed\n", done.stderr
    for format in ("pdb", "cif", "tar", "fasta", "3di", "parquet"):
        out = tmp_path / format
        done = run("export", tmp_path / "atlas", out, "--format", format)
        assert done.returncode == 0 and done.stdout.startswith("21 proteins in "), done.stderr
        check = subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=out)
        assert check.returncode == 0
    expected = {*HOSTILE, ";"}
    files = [json.loads(line) for line in (tmp_path / "pdb" / "files.jsonl").read_text().splitlines()]
    assert {file["id"] for file in files} == expected and len({file["file"].lower() for file in files}) == 21
    members = []
    for path in (tmp_path / "tar").glob("*.tar.gz"):
        with tarfile.open(path) as tar:
            tar.extractall(tmp_path / "extracted", filter="data")  # refuses names that lead out
            members += tar.getnames()
    assert len(members) == len({name.lower() for name in members}) == 21
    with (tmp_path / "3di" / "proteins_ss.fasta").open() as file:
        assert {record.id for record in SeqIO.parse(file, "fasta")} == expected
    for atlas in (tmp_path / "atlas", tmp_path / "parquet"):
        done = run("query", atlas, "select id from proteins", "--format", "json")
        assert {row["id"] for row in json.loads(done.stdout)} == expected
    (tmp_path / "ids.txt").write_text("\n".join(HOSTILE))
    done = run("export", tmp_path / "atlas", tmp_path / "asked", "--ids", tmp_path / "ids.txt", "--format", "fasta")
    assert done.stdout.startswith("20 proteins") and not (tmp_path / "asked" / "missing.tsv").exists()
    made = {"hostile.fasta", "ids.txt", "atlas", "asked", "extracted", "pdb", "cif", "tar", "fasta", "3di", "parquet"}
    assert {path.name for path in tmp_path.iterdir()} == made


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--ids", "{ids}"], 0, "not exported: 2 unknown; see {out}/missing.tsv"),
        (["--ids", "{tmp}/nothing"], 2, "the ids file {tmp}/nothing cannot be read"),
        (["--where", "length < 0"], 3, "no protein was exported"),
        (["--where", "length <"], 2, "syntax error"),
        (["--where", "nosuch > 1"], 2, "nosuch"),
        (["--sql", "select length from proteins"], 2, "--sql must return a column structure_id or id"),
        (["--sql", "delete from records"], 2, "DELETE is not a query"),
        (["--base-url", "example.org"], 2, "is not an address"),
        (["--workers", "0"], 2, "must be 1 or more"),
        (["--members", "cif"], 2, "--members is for --format tar, it is fasta"),
        (["--format", "pdf"], 2, "invalid choice: 'pdf'"),
    ],
)
def test_wrong_requests_are_explained(
    gut: Path, tmp_path: Path, run: Run, words: list[str], code: int, message: str
) -> None:
    ids = tmp_path / "ids.txt"
    with Atlas.open(gut) as atlas:
        [(known,)] = atlas.query("select min(id) from proteins").rows()
    ids.write_text(f"{known}\nnosuch\nneither\n")
    places = {"ids": ids, "tmp": tmp_path, "out": tmp_path / "out"}
    done = run("export", gut, tmp_path / "out", "--format", "fasta", *(word.format(**places) for word in words))
    assert done.returncode == code and message.format(**places) in done.stderr and "Traceback" not in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == ({"ids.txt", "out"} if code in (0, 3) else {"ids.txt"})


def test_a_folder_that_exists_is_refused(gut: Path, tmp_path: Path, run: Run) -> None:
    assert run("export", gut, tmp_path / "out", "--format", "fasta", "--limit", "1").returncode == 0
    before = sorted((path.name, path.read_bytes()) for path in (tmp_path / "out").iterdir())
    done = run("export", gut, tmp_path / "out", "--format", "pdb")
    assert done.returncode == 2 and "is not empty" in done.stderr and done.stderr.count("\n") == 1
    assert sorted((path.name, path.read_bytes()) for path in (tmp_path / "out").iterdir()) == before


@pytest.mark.long
def test_aria2_fetches_an_export(gut: Path, tmp_path: Path, run: Run) -> None:
    """Debian's aria2c reads aria2.txt, fetches the files from a server on the loopback and checks their digests."""
    if shutil.which("aria2c") is None:
        pytest.skip("needs aria2c: apt-get install aria2")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "out")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        done = run("export", gut, tmp_path / "out", "--format", "pdb", "--base-url", address)
        assert done.returncode == 0, done.stderr
        listed = tmp_path / "out" / "aria2.txt"
        words = ["aria2c", "--no-conf", "--all-proxy=", "--dir", tmp_path / "fetched", "--input-file", listed]
        fetched = subprocess.run(words, capture_output=True, text=True)
        assert fetched.returncode == 0, fetched.stdout
        server.shutdown()
    files = [json.loads(line) for line in (tmp_path / "out" / "files.jsonl").read_text().splitlines()]
    assert len(files) == 60
    for file in files:
        assert (tmp_path / "fetched" / file["file"]).read_bytes() == (tmp_path / "out" / file["file"]).read_bytes()
