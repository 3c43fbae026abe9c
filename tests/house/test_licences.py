"""FoldAtlas is MIT, so nothing it installs by default may be under the GPL or AGPL. LGPL and MPL libraries are fine.

Reads what the installed packages say of themselves, for everything that `pip install foldatlas` brings to this machine.
"""

import ast
import re
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

COPYLEFT = re.compile(r"\bA?GPL|General Public License", re.IGNORECASE)
LESSER = re.compile(r"\bLGPL|Lesser|WITH (GCC|Classpath)-exception", re.IGNORECASE)
KNOWN = re.compile(
    r"\b(MIT|MIT-0|MIT-CMU|BSD|0BSD|3-Clause|Apache|ISC|ISCL|PSF|Python Software Foundation|CNRI-Python|Zlib|CC0"
    r"|BSL-1\.0|HPND|Unlicense|MPL|Mozilla|LGPL|LGPLv\S+|Lesser)\b",
    re.IGNORECASE,
)

READ_BY_US = {  # package -> its licence, where its metadata has no name for it
    "biopython": "Biopython License Agreement: permissive, in the manner of HPND; most files are BSD-3-Clause as well",
}
OF_THE_DEVICE = ("nvidia-", "cuda-")  # NVIDIA's runtime, which torch requires on Linux with CUDA: proprietary, no GPL


def verdict(expression: str | None, text: str | None, classifiers: Iterable[str]) -> str:
    """`fine`, `refused` or `unknown`, from the SPDX expression, else the classifiers, else the licence's first line."""
    named = [classifier.rpartition("::")[2].strip() for classifier in classifiers]
    if expression:
        choices = re.split(r"\s+OR\s+", expression) if "(" not in expression else [expression]
    else:
        first_line = next((line.strip() for line in (text or "").splitlines() if line.strip()), "")
        choices = named or [first_line]
    verdicts = [_verdict_of_all(re.split(r"\s+AND\s+", choice)) for choice in choices]
    return min(verdicts, key=("fine", "unknown", "refused").index)


def _verdict_of_all(parts: list[str]) -> str:
    if any(COPYLEFT.search(part) and not LESSER.search(part) for part in parts):
        return "refused"
    return "fine" if all(KNOWN.search(part) or LESSER.search(part) for part in parts) else "unknown"


def closure(name: str) -> dict[str, Distribution]:
    """Everything that installing `name` without extras brings to this machine, itself included."""
    found: dict[str, Distribution] = {}
    waiting: list[tuple[str, frozenset[str]]] = [(name, frozenset())]
    seen = set(waiting)
    while waiting:
        current, extras = waiting.pop()
        try:
            package = distribution(current)
        except PackageNotFoundError:
            pytest.fail(f"{current} is required but not installed: run scripts/install")
        found[canonicalize_name(current)] = package
        for requirement in map(Requirement, package.requires or []):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                item = (canonicalize_name(requirement.name), frozenset(requirement.extras))
                if item not in seen:
                    seen.add(item)
                    waiting.append(item)
    return found


def test_nothing_installed_by_default_is_under_the_gpl() -> None:
    packages = closure("foldatlas")
    assert {"apache-beam", "torch", "duckdb", "grpcio"} <= set(packages)
    verdicts = {
        name: verdict(
            package.metadata.get("License-Expression"),
            package.metadata.get("License"),
            [text for text in package.metadata.get_all("Classifier") or [] if text.startswith("License ::")],
        )
        for name, package in packages.items()
        if not name.startswith(OF_THE_DEVICE)
    }
    assert [name for name, found in verdicts.items() if found == "refused"] == []
    assert {name for name, found in verdicts.items() if found == "unknown"} == set(READ_BY_US)


@pytest.mark.parametrize(
    ("expression", "text", "classifiers", "expected"),
    [
        ("MIT", None, [], "fine"),
        ("MPL-2.0 AND MIT", None, [], "fine"),
        ("LGPL-3.0-or-later", None, [], "fine"),
        ("GPL-3.0-or-later", None, [], "refused"),
        ("AGPL-3.0-only", "MIT", [], "refused"),
        ("MIT AND GPL-2.0-only", None, [], "refused"),
        ("GPL-2.0-only OR MIT", None, [], "fine"),
        ("BSD-3-Clause AND GPL-3.0-or-later WITH GCC-exception-3.1", None, [], "fine"),
        (None, "GNU LESSER GENERAL PUBLIC LICENSE\n\nlong text", [], "fine"),
        (None, "GNU GENERAL PUBLIC LICENSE\n\nlong text", [], "refused"),
        (None, None, ["License :: OSI Approved :: GNU Affero General Public License v3"], "refused"),
        (None, "Dual License", ["License :: OSI Approved :: BSD License"], "fine"),
        (None, "see the file", [], "unknown"),
        (None, None, [], "unknown"),
    ],
)
def test_verdicts(expression: str | None, text: str | None, classifiers: list[str], expected: str) -> None:
    assert verdict(expression, text, classifiers) == expected


# -> who may import it, and only in a function
UNDER_THE_GPL = {"pyrodigal": ["pipeline/sources/contigs.py"], "tmtools": []}


def test_gpl_packages_are_imported_only_on_request(root: Path, project_files: list[Path]) -> None:
    """A package under the GPL is imported inside functions only, and only by the files listed for it."""
    found: dict[str, list[str]] = {name: [] for name in UNDER_THE_GPL}
    for path in project_files:
        module = path.relative_to(root).as_posix()
        if path.suffix != ".py" or module.startswith(("tests/", "benchmarks/")):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        inside = {id(node) for function in functions for node in ast.walk(function)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", None) or ""}
                for name in {name.partition(".")[0] for name in names} & set(UNDER_THE_GPL):
                    found[name].append(module)
                    assert id(node) in inside, f"{module}:{node.lineno}: {name} is imported by everybody"
    assert found == UNDER_THE_GPL
