"""What is installed, and what is in the repository: the wheel, the pins, the scripts and what no file may say."""

import ast
import os
import re
import subprocess
import sys
import zipfile
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from foldatlas.schemas import records

FOLDERS = ("schemas", "folding", "atlas", "pipeline", "jobs")
MAX_LINES = 400
LONGER: dict[str, str] = {}  # file -> why it may be longer


def pins(root: Path) -> dict[str, Requirement]:
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    parsed = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(requirement.name): requirement for requirement in parsed}


def pinned_version(requirement: Requirement) -> str:
    (specifier,) = requirement.specifier
    assert specifier.operator == "==", requirement
    return specifier.version


@pytest.fixture(scope="module")
def wheel(root: Path, project_files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from an sdist built from a copy of the project."""
    source = tmp_path_factory.mktemp("source")
    for path in project_files:
        copy = source / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", "."]
    built = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (sdist,) = (source / "dist").glob("*.tar.gz")
    names = subprocess.run(["tar", "-tzf", sdist], capture_output=True, text=True, check=True).stdout.splitlines()
    inside = {name.partition("/")[2] for name in names}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "constraints.txt", "examples/gut.fasta", "setup.py"} <= inside
    (path,) = (source / "dist").glob("*.whl")
    return path


def test_wheel_holds_the_five_folders_and_nothing_else(wheel: Path, root: Path, project_files: list[Path]) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    information = f"foldatlas-{version('foldatlas')}.dist-info/"
    ours = {name for name in names if not name.startswith(information)}
    code = {
        path.relative_to(root).as_posix() for path in project_files if path.suffix == ".py" or path.name == "py.typed"
    }
    assert ours >= {f"foldatlas/{name}" for name in code if name.split("/")[0] in FOLDERS}
    assert {name.split("/")[1] for name in ours} == set(FOLDERS)
    assert "foldatlas/__init__.py" not in ours
    assert f"{information}licenses/LICENSE" in names
    entry_points = zipfile.ZipFile(wheel).read(f"{information}entry_points.txt").decode()
    assert "foldatlas = foldatlas.jobs.cli:main" in entry_points


def test_wheel_installs_without_bare_names(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", target, wheel]
    subprocess.run(install, check=True, capture_output=True)
    assert {path.name for path in target.iterdir()} == {
        "bin",
        "foldatlas",
        f"foldatlas-{version('foldatlas')}.dist-info",
    }
    command = [sys.executable, "-S", "-c", "import foldatlas.schemas.records as r; print(r.__file__)"]
    environment = {**os.environ, "PYTHONPATH": str(target)}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert Path(result.stdout.strip()).is_relative_to(target)


def test_the_installed_package_is_this_folder(root: Path) -> None:
    assert Path(str(records.__file__)).resolve() == root / "schemas" / "records.py"


def test_versions_agree(root: Path) -> None:
    tree = ast.parse((root / "setup.py").read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setup"]
    (stated,) = [ast.literal_eval(keyword.value) for keyword in calls[0].keywords if keyword.arg == "version"]
    assert version("foldatlas") == stated, "run scripts/install test"
    assert re.search(rf"^## \[({re.escape(stated)}|Unreleased)\]", (root / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_every_requirement_is_pinned_within_its_range(root: Path) -> None:
    pinned = pins(root)
    direct = [Requirement(text) for text in requires("foldatlas") or []]
    assert len(direct) > 10
    for requirement in direct:
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"{name} is not in constraints.txt"
        assert requirement.specifier.contains(pinned_version(pinned[name])), f"{name}: {requirement} refuses the pin"


def test_indirect_requirements_are_pinned(root: Path) -> None:
    pinned = pins(root)
    extras = {"", "test"}
    waiting, seen = [("foldatlas", extras)], set()
    missing = set()
    while waiting:
        name, wanted = waiting.pop()
        for requirement in map(Requirement, requires(name) or []):
            marker, other = requirement.marker, canonicalize_name(requirement.name)
            needed = marker is None or any(marker.evaluate({"extra": extra}) for extra in wanted)
            if needed and (other, frozenset(requirement.extras)) not in seen:
                seen.add((other, frozenset(requirement.extras)))
                if other.startswith(("nvidia-", "cuda-")):
                    continue  # torch pins these itself, to the build at hand
                if other not in pinned:
                    missing.add(other)
                waiting.append((other, {"", *requirement.extras}))
    assert missing == set()


def test_every_pin_is_exact_and_names_no_build(root: Path) -> None:
    for requirement in pins(root).values():
        assert "+" not in pinned_version(requirement)


# Assembled, so that this file does not hold what it looks for.
SAYS_TOO_MUCH = {
    "a registry's address": "|".join(
        [
            r"py" + r"pi\.org",
            r"files\.python" + r"hosted",
            r"registry\." + r"npmjs",
            r"deb\." + r"debian",
            r"find" + r"-links",
        ]
    ),
    "a path of one machine": "|".join(
        [r"/wo" + r"rk/", r"/tm" + r"p/[a-z]", r"/ro" + r"ot/", r"/ho" + r"me/\w", r"\.py" + r"env/"]
    ),
    "a private tool": "|".join(
        [r"\bcl" + r"aude\b", r"\banthr" + r"opic\b", r"\bchat" + r"gpt\b", r"\bcopi" + r"lot\b"]
    ),
}


def says_too_much(text: str) -> list[str]:
    return [
        f"{what}: {match.group()!r}"
        for what, pattern in SAYS_TOO_MUCH.items()
        for match in re.finditer(pattern, text, re.IGNORECASE)
    ]


def test_no_file_names_a_registry_a_machine_or_a_private_tool(root: Path, project_files: list[Path]) -> None:
    found = []
    for path in project_files:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # binary
        found += [f"{path.relative_to(root)}: {fault}" for fault in says_too_much(text)]
    assert found == []
    assert len(says_too_much("pip install --extra-index-url https://py" + "pi.org/simple, see /wo" + "rk/notes")) == 2


def test_scripts_can_be_run(root: Path) -> None:
    scripts = [*sorted((root / "scripts").iterdir()), root / ".ci" / "run"]
    assert {"install", "quickstart", "run", "test"} <= {path.name for path in scripts}
    for path in scripts:
        assert os.access(path, os.X_OK), f"{path.name} is not executable"
        first, *_ = text = path.read_text(encoding="utf-8").splitlines()
        assert first == "#!/usr/bin/env bash"
        assert "set -euo pipefail" in text
        subprocess.run(["bash", "-n", path], check=True)


def test_an_old_python_is_refused(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "project"
    (copy / "scripts").mkdir(parents=True)
    (copy / "scripts" / "install").write_bytes((root / "scripts" / "install").read_bytes())
    old = tmp_path / "python-old"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.9.1\nexit 1\n')
    old.chmod(0o755)
    for python, message in ((str(old), "Python 3.9.1, FoldAtlas needs 3.11"), ("no-such-python", "not found")):
        command = ["bash", copy / "scripts" / "install"]
        environment = {**os.environ, "PYTHON": python}
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 2
        assert message in result.stderr


def test_files_are_short(root: Path) -> None:
    lengths = {
        path.relative_to(root).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for folder in FOLDERS
        for path in sorted((root / folder).rglob("*.py"))
    }
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES and name not in LONGER} == {}


def test_links_for_type_checkers_lead_to_the_folders(root: Path) -> None:
    links = root / ".ide" / "foldatlas"
    assert sorted(link.name for link in links.iterdir()) == sorted(FOLDERS)
    for link in links.iterdir():
        assert link.is_symlink()
        assert link.resolve() == root / link.name
