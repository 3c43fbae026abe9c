"""An engine that is not known good has to show first that it works on every descriptor."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.pipeline.engines import conformance, dispatch
from foldatlas.pipeline.engines.engine import EMBEDDED, Engine
from foldatlas.schemas.errors import UsageError

UNKNOWN = Engine("SomeRunner", 0)


def only(keep: Callable[[int], bool]) -> Callable[..., None]:
    """An engine that works, embedded, on the descriptors whose number `keep` likes, and reports success."""
    run = dispatch.run

    def lossy(label: str, descriptors: list[Any], work: Callable[[Any], None], engine: Engine) -> None:
        run(label, [task for task in descriptors if keep(task.number)], work, EMBEDDED)

    return lossy


def test_an_engine_that_loses_one_descriptor_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = AtlasFolder(tmp_path / "atlas")
    monkeypatch.setattr(conformance.dispatch, "run", only(lambda number: number != 39))
    with pytest.raises(UsageError, match=r"1 of 40 tasks left no mark in .* \(numbers 39\)"):
        conformance.refuse_if_it_loses(UNKNOWN, folder)
    assert not folder.root.exists()


def test_workers_of_another_version_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformance.dispatch, "run", only(lambda number: True))
    monkeypatch.setattr(
        conformance, "leave_mark", lambda task: (Path(task.marks) / f"{task.number}.mark").write_text("0")
    )
    with pytest.raises(UsageError, match="have FoldAtlas 0, this is"):
        conformance.refuse_if_it_loses(UNKNOWN, AtlasFolder(tmp_path / "atlas"))


def test_a_good_engine_is_asked_once_and_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = AtlasFolder(tmp_path / "deep" / "atlas")
    monkeypatch.setattr(conformance.dispatch, "run", only(lambda number: True))
    conformance.refuse_if_it_loses(UNKNOWN, folder)
    monkeypatch.setattr(conformance.dispatch, "run", None)
    conformance.refuse_if_it_loses(UNKNOWN, folder)
    assert list(tmp_path.iterdir()) == []


def test_a_known_engine_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformance.dispatch, "run", None)
    for runner in ("FnApiRunner", "DaskRunner", "PrismRunner"):
        conformance.refuse_if_it_loses(Engine(runner), AtlasFolder(tmp_path / "atlas"))
