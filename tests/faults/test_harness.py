"""A few kills and one fault, as the long version does by hand: `python tests/faults/harness.py --kills 50`."""

import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).with_name("harness.py")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_killed_runs_lose_duplicate_and_corrupt_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(HARNESS), "--kills", "4", "--seed", "5", "--faults", "disk_full"]
    done = subprocess.run(command, capture_output=True, text=True, env=None, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "4 kills, 0 lost, 0 duplicated, 0 corrupt"
