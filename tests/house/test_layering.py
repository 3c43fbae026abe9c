"""Which folder may import what: jobs -> pipeline -> {folding, atlas} -> schemas, and one home for each heavy library.

The rules are read off the syntax trees, so an import inside a function counts too. Two subprocesses prove the part
that matters at run time: reading an atlas loads neither torch nor Beam, and `foldatlas --help` loads none of them.
"""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FOLDERS = ("schemas", "folding", "atlas", "pipeline", "jobs")

# folder -> what of foldatlas it may import
MAY_IMPORT = {
    "schemas": ("schemas",),
    "folding": ("folding", "schemas.records", "schemas.errors", "schemas.wording"),
    "atlas": ("atlas", "schemas", "folding.compare"),
    "pipeline": ("pipeline", "folding", "atlas", "schemas"),
    "jobs": FOLDERS,
}
STANDARD_LIBRARY_ALONE = ("schemas/records.py", "schemas/errors.py", "schemas/wording.py")

HOMES = {  # library -> the only folder or package that may import it
    "torch": "folding",
    "triton": "folding",
    "numba": "folding/compare",
    "llvmlite": "folding/compare",
    "safetensors.torch": "folding",
    "duckdb": "atlas",
    "fastapi": "atlas/serve/http",
    "starlette": "atlas/serve/http",
    "uvicorn": "atlas/serve/http",
    "prometheus_client": "atlas/serve/http",
    "apache_beam": "pipeline",
    "dask": "pipeline",
    "distributed": "pipeline",
}
# The network runs on a bare machine with these; anything else in folding/ is imported where it is used.
BARE_MACHINE = ("torch", "triton", "numpy", "numba", "safetensors")
# Rooms and modules of folding/ that other folders use without paying for torch.
FOLDING_WITHOUT_TORCH = (
    "__init__",
    "compare/",
    "config",
    "prediction",
    "planning/batching",
    "planning/chunks",
    "planning/cost",
    "planning/host_memory",
    "training/data/nano_data",
    "training/data/sequence_search",
    "training/data/make_nano_data",
    "evaluation/measures",
    "evaluation/files",
    "evaluation/choice",
)


@dataclass(frozen=True)
class Import:
    """One imported name, dotted and absolute. `everywhere`: it runs when the module is imported."""

    name: str
    line: int
    everywhere: bool


@functools.cache
def imports(source: str, module: str) -> tuple[Import, ...]:
    """Every import in `source`; `module` is its path in the project (`atlas/index.py`).

    `from a import b` gives `a.b`, since b may be a module. import_module and __import__ count when given a text.
    """
    tree = ast.parse(source)
    package = ["foldatlas", *Path(module).parent.parts]
    found = []

    def visit(node: ast.AST, everywhere: bool) -> None:
        for name in names(node):
            found.append(Import(name, getattr(node, "lineno", 0), everywhere))
        inner = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, everywhere and not inner)

    def names(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            yield from (".".join([*base, *filter(None, [node.module]), alias.name]) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.args[0].value

    visit(tree, True)
    return tuple(found)


def within(name: str, *parents: str) -> bool:
    return any(name == parent or name.startswith(parent + ".") for parent in parents)


def faults(source: str, module: str) -> list[str]:
    """What is wrong with the imports of one file, a line each."""
    folder = Path(module).parts[0]
    found = []
    for item in imports(source, module):
        name, top = item.name, item.name.partition(".")[0]
        where = f"{module}:{item.line}"
        if top in FOLDERS:
            found.append(f"{where}: {name} is a bare folder: import foldatlas.{name}")
        if top == "foldatlas" and not within(name.partition(".")[2], *MAY_IMPORT[folder]):
            found.append(f"{where}: {folder}/ may not import {name}")
        for library, home in HOMES.items():
            if within(name, library) and not module.startswith(f"{home}/"):
                found.append(f"{where}: {library} belongs to {home}/ alone")
        third_party = top != "foldatlas" and top not in sys.stdlib_module_names
        if module in STANDARD_LIBRARY_ALONE and (third_party or top == "foldatlas"):
            if not within(name, "foldatlas.schemas.records", "foldatlas.schemas.errors"):
                found.append(f"{where}: {name} is not of the standard library")
        elif folder == "folding" and third_party and item.everywhere and top not in BARE_MACHINE:
            found.append(f"{where}: {name} is not on a bare GPU machine: import it where it is used")
    return found


@pytest.fixture(scope="module")
def sources(root: Path) -> dict[str, str]:
    """Path in the project -> text, of every Python file in the five folders."""
    paths = [path for folder in FOLDERS for path in sorted((root / folder).rglob("*.py"))]
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def reached(start: str, sources: dict[str, str]) -> dict[str, str]:
    """Every module of foldatlas that `start` imports, itself or through others -> the one that imports it."""
    reasons = {start: start}
    waiting = [start]
    while waiting:
        module = waiting.pop()
        for item in imports(sources[module], module):
            parts = item.name.split(".")[1:] if within(item.name, "foldatlas") else []
            for depth in range(1, len(parts) + 1):  # importing a.b.c runs a and a.b as well
                for path in ("/".join([*parts[:depth], "__init__.py"]), "/".join(parts[:depth]) + ".py"):
                    if path in sources and path not in reasons:
                        reasons[path] = module
                        waiting.append(path)
    return reasons


def torch_faults(start: str, sources: dict[str, str]) -> list[str]:
    """Ways by which `start`, which must do without torch, comes to it."""
    return [
        f"{start} must not need torch, but {reason} imports {module}, which imports {item.name}"
        for module, reason in reached(start, sources).items()
        for item in imports(sources[module], module)
        if within(item.name, "torch", "triton", "safetensors.torch")
    ]


def test_every_file_keeps_the_layers(sources: dict[str, str]) -> None:
    assert len(sources) > 10
    assert [fault for module, source in sources.items() for fault in faults(source, module)] == []


def test_torch_stays_out_of_what_must_do_without_it(sources: dict[str, str]) -> None:
    modules = [module for module in sources if module.startswith(("schemas/", "atlas/"))]
    for name in FOLDING_WITHOUT_TORCH:
        start = f"folding/{name}" if name.endswith("/") else f"folding/{name}.py"
        found = [module for module in sources if module.startswith(start)]
        assert found, f"{start} is not there"
        modules += found
    assert [fault for module in modules for fault in torch_faults(module, sources)] == []


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("schemas/tables.py", "import foldatlas.atlas.folder", "schemas/ may not import foldatlas.atlas.folder"),
        ("atlas/query.py", "from foldatlas.pipeline import run", "atlas/ may not import foldatlas.pipeline.run"),
        ("atlas/query.py", "from ..pipeline import run", "atlas/ may not import foldatlas.pipeline.run"),
        ("atlas/query.py", "from foldatlas.folding import trunk", "atlas/ may not import foldatlas.folding.trunk"),
        ("atlas/query.py", "def f():\n    import torch.nn", "torch belongs to folding/ alone"),
        ("atlas/query.py", "importlib.import_module('torch')", "torch belongs to folding/ alone"),
        ("atlas/query.py", "from schemas.records import ATOMS", "is a bare folder"),
        ("atlas/a/b.py", "from ...folding import trunk", "atlas/ may not import foldatlas.folding.trunk"),
        ("folding/trunk.py", "from foldatlas.schemas import tables", "may not import foldatlas.schemas.tables"),
        ("folding/trunk.py", "from foldatlas import schemas", "folding/ may not import foldatlas.schemas"),
        ("folding/trunk.py", "import pyarrow", "is not on a bare GPU machine"),
        ("pipeline/run.py", "import foldatlas.jobs.cli", "pipeline/ may not import foldatlas.jobs.cli"),
        ("pipeline/run.py", "import duckdb", "duckdb belongs to atlas/ alone"),
        ("folding/network/trunk.py", "import numba", "numba belongs to folding/compare/ alone"),
        ("atlas/query.py", "def f():\n    from llvmlite import binding", "llvmlite belongs to folding/compare/ alone"),
        ("jobs/fold.py", "from apache_beam.options import x", "apache_beam belongs to pipeline/ alone"),
        ("jobs/fold.py", "from safetensors.torch import load", "safetensors.torch belongs to folding/ alone"),
        ("schemas/records.py", "import numpy", "numpy is not of the standard library"),
        ("schemas/errors.py", "import foldatlas.schemas.tables", "is not of the standard library"),
    ],
)
def test_the_checker_sees_a_fault(module: str, source: str, fault: str) -> None:
    assert any(fault in found for found in faults(source, module))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("atlas/novelty.py", "from foldatlas.folding.compare import superpose"),
        ("atlas/novelty.py", "from foldatlas.folding import compare"),
        ("folding/trunk.py", "import torch\nfrom foldatlas.schemas import records"),
        ("folding/weights.py", "def fetch():\n    import huggingface_hub"),
        ("schemas/records.py", "import hashlib\nfrom foldatlas.schemas.errors import SequenceError"),
        ("jobs/fold.py", "from foldatlas.pipeline import run\nfrom foldatlas.atlas.folder import AtlasFolder"),
    ],
)
def test_the_checker_leaves_what_is_right(module: str, source: str) -> None:
    assert faults(source, module) == []


def test_the_checker_follows_imports_to_torch() -> None:
    sources = {
        "atlas/novelty.py": "from foldatlas.folding.compare import superpose",
        "folding/__init__.py": "",
        "folding/compare/__init__.py": "from foldatlas.folding import geometry",
        "folding/geometry.py": "import torch",
    }
    (fault,) = torch_faults("atlas/novelty.py", sources)
    assert "folding/compare/__init__.py imports folding/geometry.py, which imports torch" in fault
    assert torch_faults("folding/__init__.py", sources) == []


OF_LATER_PYTHONS = {"compression"}  # in the standard library from 3.14 on
# A package that shares its top name with others, so that the name tells nothing where it is not installed.
NAMESPACES = {"google": "google-cloud-storage"}


def undeclared(source: str, module: str, declared: set[str], installed: dict[str, list[str]]) -> list[str]:
    """Third-party imports that no requirement brings, as far as this machine has them installed to know."""
    found = []
    for item in imports(source, module):
        top = item.name.partition(".")[0]
        if top in OF_LATER_PYTHONS:
            continue
        owners = {canonicalize_name(owner) for owner in [*installed.get(top, [top]), NAMESPACES.get(top, top)]}
        if top not in sys.stdlib_module_names and top not in ("foldatlas", *FOLDERS) and not owners & declared:
            found.append(f"{module}:{item.line}: {top} is not among setup.py's requirements")
    return found


def test_third_party_imports_are_declared(root: Path, sources: dict[str, str]) -> None:
    requirements = [Requirement(text) for text in requires("foldatlas") or []]
    # torch, numba, boto3 and Beam require the ones that fit them
    brought_by_others = {"triton", "llvmlite", "botocore", "grpcio", "protobuf"}
    run = {canonicalize_name(item.name) for item in requirements if "test" not in str(item.marker)} | brought_by_others
    everything = {canonicalize_name(item.name) for item in requirements} | brought_by_others
    installed = {name: list(owners) for name, owners in packages_distributions().items()}
    tests = {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
        for folder in ("tests", "benchmarks")
        for path in sorted((root / folder).rglob("*.py"))
    }
    local = {canonicalize_name(Path(module).stem) for module in tests} | {"tests", "benchmarks", "setup"}
    found = [fault for module, source in sources.items() for fault in undeclared(source, module, run, installed)]
    for module, source in tests.items():
        found += undeclared(source, module, everything | local, installed)
    assert found == []
    assert undeclared("import atheris", "atlas/query.py", run, installed) != []


def loaded(code: str) -> set[str]:
    """Which of four heavy libraries a fresh interpreter has loaded after `code`."""
    names = ("torch", "apache_beam", "duckdb", "pandas")
    report = f"import sys; print('loaded:', *[n for n in {names} if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.splitlines()[-1].split()[1:])


def test_atlas_loads_neither_torch_nor_beam(sources: dict[str, str]) -> None:
    modules = [
        ".".join(("foldatlas", *Path(module).with_suffix("").parts)).removesuffix(".__init__")
        for module in sources
        if module.startswith(("schemas/", "atlas/")) and not module.endswith("__main__.py")
    ]
    assert loaded("\n".join(f"import {module}" for module in modules)) <= {"duckdb", "pandas"}
    assert loaded("import foldatlas.atlas.reader") == {"duckdb"}  # a query waits for no pandas
    assert loaded("import torch") == {"torch"}  # the report can see it


def test_network_loads_without_numba_and_triton(sources: dict[str, str]) -> None:
    """Everything that predicts is imported with numba and llvmlite blocked, as on a bare GPU machine.

    Triton is blocked too, and with it only the modules of kernels are left out, which are imported where they are used.
    """
    kernels = {
        module
        for module, source in sources.items()
        if any(within(item.name, "triton") and item.everywhere for item in imports(source, module))
    }
    assert kernels and all(module.startswith("folding/network/kernels/") for module in kernels)
    modules = [
        ".".join(("foldatlas", *Path(module).with_suffix("").parts)).removesuffix(".__init__")
        for module in sources
        if (module.startswith(("folding/network/", "folding/planning/")) or module == "folding/predictor.py")
        and module not in kernels
    ]
    assert len(modules) > 20
    block = "import sys\nfor name in ('numba', 'llvmlite', 'triton'): sys.modules[name] = None\n"
    assert "torch" in loaded(block + "\n".join(f"import {module}" for module in modules))
    seen = "\nassert 'numba' not in sys.modules, 'numba'"
    loaded("import sys, foldatlas.folding.compare, foldatlas.folding.predictor" + seen)


def test_help_is_fast_because_it_loads_nothing_heavy() -> None:
    code = """
import sys
from foldatlas.jobs.cli import main
sys.argv = ["foldatlas", "--help"]
try:
    code = main()
except SystemExit as stop:
    code = stop.code
assert not code, code
"""
    assert loaded(code) == set()
