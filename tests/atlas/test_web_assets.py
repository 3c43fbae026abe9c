"""What scripts/build-web makes: the library of 3D views, and the explorer's page with its assets and licences."""

import json
import re
from pathlib import Path

import pytest

from foldatlas.atlas.web import assets


def test_library_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = tmp_path / "3Dmol-min.js"
    monkeypatch.setenv(assets.LIBRARY, str(named))
    assert assets.viewer_library() is None
    named.write_text("var library;")
    assert assets.viewer_library() == "var library;"
    named.write_bytes(b"\xff\xfe")
    assert assets.viewer_library() is None


def test_library_without_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(assets.LIBRARY, raising=False)
    monkeypatch.setattr(assets, "VENDOR", tmp_path)
    assert assets.viewer_library() is None and assets.viewer_licences() == ""


def test_built_library_carries_its_licences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(assets.LIBRARY, raising=False)
    library = assets.viewer_library()
    if library is None:
        pytest.skip("scripts/build-web was not run")
    assert "createViewer" in library and len(library) < 1_000_000
    licences = assets.viewer_licences()
    assert all(f"==== {name} " in licences for name in ("3dmol", "iobuffer", "netcdfjs", "pako", "upng-js"))
    assert "3-Clause" in licences and licences.count("Permission is hereby granted") >= 4


def test_code_cannot_end_its_script_element() -> None:
    code = 'a = "</script>"; b = /<!--/; c = "</SCRIPT >"; d = e < f'
    kept = assets.inline_script(code)
    assert "</s" not in kept.lower() and "<!--" not in kept
    assert kept.replace("<\\", "<") == code


def test_built_explorer_is_whole_and_carries_its_licences() -> None:
    """index.html names assets by their hashes, nothing of the page is inline, and no asset is left without a name."""
    folder = assets.VENDOR / "explorer"
    if not folder.exists():
        pytest.skip("scripts/build-web was not run")
    names = json.loads((folder / "manifest.json").read_text())
    assert {"main.js", "style.css", "protein.js", "licences.txt"} <= names.keys()
    assert sorted(names.values()) == sorted(path.name for path in (folder / "assets").iterdir())
    assert all(re.fullmatch(r"[\w.-]+-[A-Z0-9]{8}\.\w+", name) for name in names.values())
    page = (folder / "index.html").read_text()
    assert '<base href="/">' in page and set(re.findall(r"assets/([\w.-]+)", page)) <= set(names.values())
    assert re.findall(r"<script(?! type=\"module\" src=)|<style| on\w+=", page) == []
    licences = (folder / "assets" / names["licences.txt"]).read_text()
    assert all(f"==== {name} " in licences for name in ("3dmol", "iobuffer", "netcdfjs", "pako", "upng-js"))
    code = "".join((folder / "assets" / name).read_text() for name in names.values())
    assert "sourceMappingURL" not in code and "unpkg" not in code and "jsdelivr" not in code
