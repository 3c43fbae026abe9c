"""Examples in docstrings run, in a folder with a small atlas that nano folded, and give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

FOLDERS = ("schemas", "folding", "atlas", "pipeline", "jobs")
ROOT = Path(__file__).parents[2]
MODULES = [
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]
FASTA = """>trp_cage a mini-protein
NLYIQWLKDGGPSSGRPPPS
>villin headpiece
LSDEDFKAVFGMTRSAFANLPLWKQQNLKKEKGLF
>trp_cage_again the same sequence
NLYIQWLKDGGPSSGRPPPS
>bad
MKV1
"""


@pytest.fixture(scope="module")
def working_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with proteins.fasta, and the atlas `atlas` of it."""
    from foldatlas.jobs.fold import fold

    folder = tmp_path_factory.mktemp("examples")
    fasta = folder / "proteins.fasta"
    fasta.write_text(FASTA)
    fold([str(fasta)], folder / "atlas", model="nano")
    return folder


@pytest.mark.parametrize("module", MODULES)
def test_examples_of_a_module(module: str, working_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(working_directory)
    result = doctest.testmod(
        importlib.import_module(f"foldatlas.{module}"), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert result.attempted > 0
    assert result.failed == 0


def test_main_entries_have_examples() -> None:
    assert {"atlas.folder", "atlas.reader"} <= set(MODULES)


def test_a_wrong_example_fails() -> None:
    example = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "example", None, 0)
    assert doctest.DocTestRunner(verbose=False).run(example, out=lambda text: None).failed == 1
