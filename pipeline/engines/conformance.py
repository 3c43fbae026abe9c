"""Test that an engine works on every descriptor, before a run on one that is not known to.

The graph of the run is given some tens of descriptors, each of which writes a mark into the atlas's staging area. That
also shows whether workers can reach the atlas, and have this program installed.
"""

from typing import Final, NamedTuple

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.storage.opening import open_storage
from foldatlas.pipeline.engines import dispatch
from foldatlas.pipeline.engines.engine import Engine
from foldatlas.pipeline.staging import staging_of
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.version import program_version

NUM_MARKS: Final = 40  # enough for several bundles, an incomplete last batch, and every worker of a small cluster
_conforms: set[tuple[Engine, str]] = set()


class MarkTask(NamedTuple):
    """One descriptor: the folder of the marks, and the number of this one."""

    marks: str
    number: int


def refuse_if_it_loses(engine: Engine, folder: AtlasFolder) -> None:
    """Run the test on an engine that is not known good, once a process. Raise UsageError with what was lost."""
    key = (engine, folder.uri)
    if engine.is_known_good or engine.only_describes or key in _conforms:
        return
    with staging_of(folder) as staging:
        marks = staging.uri
        dispatch.run("conformance", [MarkTask(marks, number) for number in range(NUM_MARKS)], leave_mark, engine)
        left = read_marks(marks)
    lost = sorted(set(range(NUM_MARKS)) - left.keys())
    if lost:
        raise UsageError(
            f"{engine.runner} reports success, but {len(lost)} of {NUM_MARKS} tasks left no mark in {marks} "
            f"(numbers {', '.join(map(str, lost[:10]))}{', ...' if len(lost) > 10 else ''}): its workers cannot reach "
            "that folder, or have no FoldAtlas, or the engine loses work"
        )
    others = set(left.values()) - {program_version()}
    if others:
        raise UsageError(
            f"workers of {engine.runner} have FoldAtlas {', '.join(sorted(others))}, this is {program_version()}: "
            "install one version everywhere"
        )
    _conforms.add(key)


def leave_mark(task: MarkTask) -> None:
    """Write a mark that holds the version of this program. This is the work of the test."""
    open_storage(task.marks).commit_once(f"{task.number}.mark", program_version().encode())


def read_marks(marks: str) -> dict[int, str]:
    """Return the marks that were written: number -> version of the program that wrote it."""
    storage = open_storage(marks)
    return {int(file.name.partition(".")[0]): storage.read(file.name).decode() for file in storage.files()}
