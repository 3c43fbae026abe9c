"""What the model's process does before it says that it is ready."""

from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from foldatlas.pipeline.workers import child, embedding_child
from foldatlas.schemas.errors import NonFiniteOutput, OutOfMemory


def test_gpu_that_cannot_compute_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the weights and refuses what follows, so loading must fail: that blames no protein."""
    asked: list[list[str]] = []
    kinds: list[type[Exception]] = []

    def refuse(sequences: list[str], **_: Any) -> list[Any]:
        asked.append(sequences)
        raise kinds[-1]("CUDA error: no kernel image is available for execution on the device")

    loaded = SimpleNamespace(settings=None, name="", weights="", network=None, fold_batch=refuse, embed=refuse)
    loaded.stages = SimpleNamespace(prepare=refuse, compute=refuse, collect=refuse)
    monkeypatch.setattr(child, "load", lambda *_, **__: loaded)
    monkeypatch.setattr(embedding_child, "load_language_model", lambda *_, **__: loaded)
    monkeypatch.setattr(embedding_child, "LanguagePredictor", lambda _: loaded)
    modules: list[ModuleType] = [child, embedding_child]
    for module in modules:
        monkeypatch.setattr(module, "connect", lambda words: (None, words))
        monkeypatch.setattr(module, "hold_device", lambda _: None)
        monkeypatch.setattr(module, "serve", lambda _, load_model: load_model())
        kinds.append(RuntimeError)
        with pytest.raises(RuntimeError, match="no kernel image"):
            module.main(["nano", "0", "fp32", "cuda:1", ""])
        assert len(asked.pop()) == 1
        module.main(["nano", "0", "fp32", "cpu", ""])  # what is sound is not asked twice
        assert asked == []
        for kind in (OutOfMemory, NonFiniteOutput):  # of a real protein that is a row with the reason
            kinds.append(kind)
            module.main(["nano", "0", "fp32", "cuda", ""])
            assert len(asked.pop()) == 1
