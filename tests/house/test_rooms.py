"""No circle of imports, no arrow against the order of the rooms, and a map that names every module.

Imports inside functions count: a circle that they hide is a circle all the same. An import in `if TYPE_CHECKING` does
too, since its reader has to know both sides. A unit is a room (a sub-package) or a module that stands beside the rooms.
"""

import ast
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

# Each folder's units, each above those that it may import. What is not named here fails a test.
ORDER = {
    "schemas": "wording version errors records tables formats import_tables reference_tables cluster_tables "
    "projection_tables novelty_tables sql_functions sql_names manifest stages annotations",
    "folding": "config prediction planning network compare weights perplexity multimer language_predictor stages "
    "predictor models training evaluation experimental lddt atom_layouts",
    "atlas": "client storage web parquet sql writers macros planning folder stages accounting annotations reference "
    "importing novelty index reader clusters projection forecast status export serve report verify diff merge open "
    "matrices structure_files",
    "pipeline": "interruption progress events shard_work staging workers sources engines planning importing shards "
    "stages search clustering embedding dask_preload dask_keys",
    "jobs": "arguments progress weights choices report novelty cluster plan fold import_ embed evaluate export diff "
    "index annotate project merge query serve status train_fold train_lm train verify reference cli",
}


def imported(source: str, module: str) -> set[str]:
    """Dotted names below foldatlas that a file imports anywhere; `from a import b` gives both `a` and `a.b`."""
    found: set[str] = set()
    package = ["foldatlas", *Path(module).parent.parts]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *filter(None, [node.module])])
            found |= {name, *(f"{name}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                found.add(node.args[0].value)
    return {name.removeprefix("foldatlas.") for name in found if name.startswith("foldatlas.")}


def graph(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Module -> the modules that it imports. Packages on the way to a module do not count."""
    names = {path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for path in sources}
    found = {}
    for name, path in names.items():
        hits = imported(sources[path], path) & names.keys()
        passed = {hit for hit in hits if any(other.startswith(f"{hit}.") for other in hits)}
        found[name] = hits - passed - {name}
    return found


def circles(edges: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of nodes each of which reaches all others of its group (strongly connected components of two or more)."""
    reach = {node: _reached(node, edges) for node in edges}
    groups = {frozenset(other for other in reach[node] if node in reach.get(other, ())) for node in edges}
    return sorted(sorted(group) for group in groups if group)


def _reached(start: str, edges: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [*edges.get(start, ())]
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting += edges.get(node, ())
    return seen


def room(name: str) -> str:
    """The room of a module: `atlas.sql.query` -> `atlas.sql`, `atlas.folder` -> `atlas.folder`."""
    return ".".join(name.split(".")[:2])


def against_the_order(edges: Mapping[str, set[str]], order: Mapping[str, str]) -> list[str]:
    """Imports of a unit by one that stands below it, and units that have no place in the order."""
    place = {f"{folder}.{unit}": number for folder, units in order.items() for number, unit in enumerate(units.split())}
    found = [f"{name} is not in ORDER" for name in edges if "." in name and room(name) not in place]
    for name, others in edges.items():
        for other in others:
            inside = name.partition(".")[0] == other.partition(".")[0] and "." in name and "." in other
            if inside and place.get(room(other), -1) > place.get(room(name), -1):
                found.append(f"{name} imports {other}, which stands above it")
    return sorted(set(found))


def unmapped(sources: Mapping[str, str]) -> list[str]:
    """Modules and rooms whose name is not at the beginning of a line of their package's docstring."""
    found = []
    for path in sources:
        here = Path(path)
        entry = f"{here.parent.name}/" if here.name == "__init__.py" else here.name
        package = here.parent.parent if here.name == "__init__.py" else here.parent
        init = (package / "__init__.py").as_posix()
        if init in sources:
            text = ast.get_docstring(ast.parse(sources[init])) or ""
            if not re.search(rf"^\s*{re.escape(entry)}\s+\S", text, re.MULTILINE):
                found.append(f"{init} has no line for {entry}")
    return found


@pytest.fixture(scope="module")
def sources(root: Path) -> dict[str, str]:
    paths = [path for folder in ORDER for path in sorted((root / folder).rglob("*.py")) if "deploy" not in path.parts]
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def test_no_circle_of_modules(sources: dict[str, str]) -> None:
    edges = graph(sources)
    assert len(edges) > 200 and sum(map(len, edges.values())) > 500
    assert circles(edges) == []


def test_no_arrow_against_the_order_of_rooms(sources: dict[str, str]) -> None:
    assert against_the_order(graph(sources), ORDER) == []


def test_every_module_is_on_its_map(sources: dict[str, str]) -> None:
    assert unmapped(sources) == []


def test_every_package_has_an_init(root: Path) -> None:
    """Without one a folder is left out of the wheel, and of the checks here."""
    folders = {path.parent for folder in ORDER for path in (root / folder).rglob("*.py") if "deploy" not in path.parts}
    assert [folder.name for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


PLANTED = {
    "atlas/__init__.py": '"""Map.\n\nfolder.py   an atlas\nsql/        SQL\n"""',
    "atlas/folder.py": "from foldatlas.atlas.sql import query",
    "atlas/sql/__init__.py": '"""Map.\n\nquery.py   queries\n"""',
    "atlas/sql/query.py": "def f():\n    from foldatlas.atlas.sql.text import quoted",
    "atlas/sql/text.py": "",
}


@pytest.mark.parametrize(
    "back",
    [
        "from foldatlas.atlas.folder import AtlasFolder",
        "from foldatlas.atlas import folder",
        "def f():\n    import foldatlas.atlas.folder",
        "def f():\n    importlib.import_module('foldatlas.atlas.folder')",
        "from ..folder import AtlasFolder",
    ],
)
def test_a_planted_circle_is_found(back: str) -> None:
    assert circles(graph(PLANTED)) == []
    planted = {**PLANTED, "atlas/sql/text.py": back}
    assert circles(graph(planted)) == [["atlas.folder", "atlas.sql.query", "atlas.sql.text"]]
    assert against_the_order(graph(PLANTED), {"atlas": "sql folder"}) == []
    (fault,) = against_the_order(graph(planted), {"atlas": "sql folder"})
    assert fault == "atlas.sql.text imports atlas.folder, which stands above it"


def test_a_circle_put_back_into_the_tree_is_found(sources: dict[str, str]) -> None:
    planted = dict(sources)
    planted["folding/weights/hub.py"] += "\n\ndef f():\n    from foldatlas.folding.weights.model_files import find\n"
    assert circles(graph(planted)) == [["folding.weights.hub", "folding.weights.model_files"]]


def test_a_missing_line_and_a_missing_place_are_found() -> None:
    assert unmapped(PLANTED) == ["atlas/sql/__init__.py has no line for text.py"]
    assert "atlas.folder is not in ORDER" in against_the_order(graph(PLANTED), {"atlas": "sql"})
