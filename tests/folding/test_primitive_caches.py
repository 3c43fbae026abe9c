"""Resident memory of a process that folds proteins of many lengths stays level."""

import os
import subprocess
import sys

import pytest

from foldatlas.folding.planning import primitive_caches

FOLD_MANY = """
import sys
from pathlib import Path
from foldatlas.folding.models import load

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])

predictor = load("nano")
lengths = [96, *range(95, 15, -2)]
pages = []
for length in lengths:
    predictor.fold(["M" + "A" * (length - 1)])
    pages.append(resident())
print(max(pages[10:]) / pages[0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_level_over_many_lengths() -> None:
    """Without the bound it grows 2.5-fold: 40 lengths of 40 shapes are more than oneDNN's own capacity."""
    environment = {name: value for name, value in os.environ.items() if "CACHE_CAPACITY" not in name}
    done = subprocess.run(
        [sys.executable, "-c", FOLD_MANY], env=environment, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 1.15


def test_a_capacity_that_the_user_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in primitive_caches.CAPACITIES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    monkeypatch.setenv("DNNL_PRIMITIVE_CACHE_CAPACITY", "8")
    primitive_caches.limit()
    assert os.environ["LRU_CACHE_CAPACITY"] == "7"
    assert "ONEDNN_PRIMITIVE_CACHE_CAPACITY" not in os.environ
