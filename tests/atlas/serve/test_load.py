"""The server under load while its index is rebuilt and statements are killed, as benchmarks/serve_load.py does it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from built_atlas import Built

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.long


@pytest.mark.parametrize(("seconds", "rebuilds", "kills"), [(600, 5, 10)])
def test_ten_minutes_of_load(indexed: Built, tmp_path: Path, seconds: int, rebuilds: int, kills: int) -> None:
    """No status but 200 and the documented 503, whole bodies, level memory."""
    command = [sys.executable, ROOT / "benchmarks" / "serve_load.py", indexed.root, "--output", tmp_path]
    sizes = ["--seconds", str(seconds), "--rebuilds", str(rebuilds), "--kills", str(kills)]
    done = subprocess.run([*command, *sizes], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3_000:]
    found = json.loads((tmp_path / "serve_load.json").read_text())
    assert (found["rebuilds"], found["killed"], found["faults"]) == (rebuilds, kills, [])
