"""`foldatlas export` as it is typed."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from foldatlas.atlas.reader import Atlas

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
