"""A killed run leaves no folder of Beam's in TMPDIR."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import apache_beam as beam
import pytest

from foldatlas.pipeline.engines.temporary_folder import without_folder

KILLED = """
import os, signal
from foldatlas.pipeline.engines import dispatch
dispatch.run("kill", [1], lambda _: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_killed_run_leaves_no_beam_folder(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED], env={**os.environ, "TMPDIR": str(tmp_path)}, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert not list(tmp_path.glob("beam-pipeline-temp*"))


def test_pipelines_of_others_keep_their_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Transforms in another language need it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with without_folder():
        assert not Path(beam.Pipeline().local_tempdir).exists()
    folder = Path(beam.Pipeline().local_tempdir)
    assert folder.is_dir() and folder.parent == tmp_path
