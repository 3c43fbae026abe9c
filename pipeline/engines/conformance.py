"""Does an engine work on every descriptor? Asked of any engine that was not seen to, before a run is trusted to it.

The very graph of the run, on some tens of descriptors, each of which leaves a mark in the atlas's staging. That also
shows whether workers see the atlas at all, and have this program installed.
"""

from typing import Final, NamedTuple

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.storage.opening import open_storage
from foldatlas.pipeline.engines import dispatch
from foldatlas.pipeline.engines.engine import Engine
from foldatlas.pipeline.staging import staging_of
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.version import program_version

NUM_MARKS: Final = 40  # enough for a tail batch, for more than one bundle, and for every worker of a small cluster
_conforms: set[tuple[Engine, str]] = set()


class MarkTask(NamedTuple):
    """One descriptor: the folder of the marks, and which one to leave."""

    marks: str
    number: int


def refuse_if_it_loses(engine: Engine, folder: AtlasFolder) -> None:
    """Runs the graph on an engine that is not known good, once a process. Raises UsageError with what was lost."""
    key = (engine, folder.uri)
    if engine.is_known_good or engine.only_describes or key in _conforms:
        return
    with staging_of(folder) as staging:
        marks = staging.place
        dispatch.run("conformance", [MarkTask(marks, number) for number in range(NUM_MARKS)], leave_mark, engine)
        left = read_marks(marks)
    lost = sorted(set(range(NUM_MARKS)) - left.keys())
    if lost:
        raise UsageError(
            f"{engine.runner} says that it is done, but {len(lost)} of {NUM_MARKS} tasks left no mark in {marks} "
            f"(numbers {', '.join(map(str, lost[:10]))}{', ...' if len(lost) > 10 else ''}): its workers do not see "
            "that folder, or have no FoldAtlas, or it loses work"
        )
    others = set(left.values()) - {program_version()}
    if others:
        raise UsageError(
            f"workers of {engine.runner} have FoldAtlas {', '.join(sorted(others))}, this is {program_version()}: "
            "install one version everywhere"
        )
    _conforms.add(key)


def leave_mark(task: MarkTask) -> None:
    """The work: a mark that says which version of this program left it."""
    open_storage(task.marks).commit_once(f"{task.number}.mark", program_version().encode())


def read_marks(marks: str) -> dict[int, str]:
    """The marks that are there: number -> version of the program that left it."""
    storage = open_storage(marks)
    return {int(file.name.partition(".")[0]): storage.read(file.name).decode() for file in storage.files()}
