"""`foldatlas ...` in a process that pauses before some of its commits, however busy the machine is.

    python paused.py FOLDER 2,4 fold ...

Before commit 2 it creates FOLDER/2 and waits until that file is gone or the run is asked to stop; likewise before
commit 4. So a test that interferes with a run finds exactly one commit done, and need not be in time. `Paused` starts
one. A worker of a Dask cluster pauses before its second commit with `--preload paused.py` and FOLDER in PAUSES, and
with `pausing_environment` any process that the command starts. Deleting FOLDER ends all pauses.
"""

import contextlib
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.stages.run import StageRun
from foldatlas.pipeline.interruption import stopping


def pause_at(folder: Path, numbers: set[int]) -> None:
    """Pause this process before the commits `numbers`, counted from 1: of folded shards, and of a stage's."""
    calls = itertools.count(1)

    def pausing(owner: type) -> None:
        commit = owner.commit_entry  # type: ignore[attr-defined]

        def paused(*arguments: Any, **named: Any) -> bool:
            number = next(calls)
            if number in numbers:
                mark = folder / str(number)
                with contextlib.suppress(FileNotFoundError):  # without the folder there are no more pauses
                    mark.touch()
                while mark.exists() and not stopping():
                    time.sleep(0.01)
            return commit(*arguments, **named)

        owner.commit_entry = paused  # type: ignore[attr-defined]

    pausing(AtlasFolder)
    pausing(StageRun)


def dask_setup(_worker: object) -> None:
    """Called by Dask in a worker that preloads this file."""
    pause_at(Path(os.environ["PAUSES"]), {2})


def pausing_environment(folder: Path, word: str) -> dict[str, str]:
    """Return variables with which a process pauses before its second commit if its command line has `word`.

    `folder` is made, for the marks; beside it a module that Python imports when a process starts.
    """
    folder.mkdir()
    site = folder.with_name(f"{folder.name}-site")
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import sys\n"
        f"if any({word!r} in text for text in sys.orig_argv):\n"
        f"    sys.path.append({str(Path(__file__).parent)!r})\n"
        "    import paused\n"
        f"    paused.pause_at(paused.Path({str(folder)!r}), {{2}})\n"
    )
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))}


class Paused:
    """A command in a process of its own that pauses before the commits `numbers`. `folder` is made, for its marks."""

    def __init__(self, folder: Path, numbers: tuple[int, ...], *words: object):
        folder.mkdir()
        self.folder = folder
        command = [sys.executable, __file__, folder, ",".join(map(str, numbers)), *words]
        self.process = subprocess.Popen(
            [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def wait_before(self, commit: int) -> None:
        """Return when the process pauses before `commit`. Raise AssertionError if it has ended, or after 5 minutes."""
        end = time.monotonic() + 300
        while not (self.folder / str(commit)).exists():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < end, f"commit {commit} was not reached"
            time.sleep(0.02)

    def go_on(self, commit: int) -> None:
        (self.folder / str(commit)).unlink()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


if __name__ == "__main__":
    from foldatlas.jobs.cli import main

    pause_at(Path(sys.argv[1]), {int(number) for number in sys.argv[2].split(",")})
    sys.exit(main(sys.argv[3:]))
