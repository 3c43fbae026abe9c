"""Names of tests: at most 60 characters. The story belongs into the docstring."""

import ast
from pathlib import Path

MAX_NAME_LENGTH = 60


def long_names(source: str) -> list[str]:
    """Names of test functions in `source` that are longer than MAX_NAME_LENGTH."""
    functions = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef))
    return [node.name for node in functions if node.name.startswith("test_") and len(node.name) > MAX_NAME_LENGTH]


def test_names_are_short(root: Path) -> None:
    found = {path.name: long_names(path.read_text(encoding="utf-8")) for path in (root / "tests").rglob("test_*.py")}
    assert len(found) > 100
    assert {file: names for file, names in found.items() if names} == {}


def test_long_name_is_found() -> None:
    assert long_names(f"def {'test_a':x<60}(): ...\ndef {'test_b':x<61}(): ...") == ["test_b" + "x" * 55]
