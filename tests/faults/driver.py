"""The `foldatlas` command with another program as the process that folds: tests/pipeline/fake_child.py.

Everything else is the real thing. FAULTS_DEADLINE is the least number of seconds that a batch may take,
FAULTS_PATIENCE how long a store may be away; with FAULTS_SWEEP a store is swept of what nothing lists, however young.
"""

import os
import sys
from pathlib import Path
from typing import Any

from foldatlas.atlas.index import published
from foldatlas.atlas.storage import s3, s3_client
from foldatlas.jobs import cli
from foldatlas.pipeline.workers import supervisor

CHILD = (sys.executable, "-P", str(Path(__file__).parents[1] / "pipeline" / "fake_child.py"))
PLAIN = supervisor.WorkerSpec.__init__


def with_fake_child(self: supervisor.WorkerSpec, *arguments: Any, **options: Any) -> None:
    deadline = float(os.environ.get("FAULTS_DEADLINE", "30"))
    PLAIN(self, *arguments, **{"command": CHILD, "min_deadline_seconds": deadline, **options})


if __name__ == "__main__":
    supervisor.WorkerSpec.__init__ = with_fake_child  # type: ignore[method-assign]
    supervisor.SLOWEST_MFLOP_PER_SECOND["cpu"] = 1e6  # type: ignore[index]  # the fake network computes nothing
    s3_client.PATIENCE_SECONDS = float(os.environ.get("FAULTS_PATIENCE", s3_client.PATIENCE_SECONDS))
    if os.environ.get("FAULTS_SWEEP"):
        s3.ABANDONED_SECONDS = published.ABANDONED_SECONDS = -1.0  # type: ignore[misc]
    sys.exit(cli.main())
