"""README.md, CONTRIBUTING.md, docs/one-protein.md and docs/glossary.md name files, functions and classes that exist."""

import ast
import re
from pathlib import Path

import pytest

NAMED = re.compile(r"`((?:schemas|folding|atlas|pipeline|jobs|tests)/[\w/]+\.py)(?:::(\w+))?`")


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "docs/one-protein.md", "docs/glossary.md"])
def test_named_places_exist(root: Path, document: str) -> None:
    named = NAMED.findall((root / document).read_text(encoding="utf-8"))
    assert len(named) >= 8
    absent = []
    for file, name in named:
        if not (root / file).exists():
            absent.append(file)
        elif name:
            body = ast.parse((root / file).read_text(encoding="utf-8")).body
            defined = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
            if name not in defined:
                absent.append(f"{file}::{name}")
    assert absent == []
