"""What the process that reads files and its parent send each other, pickled, over a socket.

The parent sends a ReadRequest; the child answers with Begun for each file, Skipping now and then, and Finished.
"""

from typing import NamedTuple

from foldatlas.pipeline.importing.reading import ReadTask


class ReadRequest(NamedTuple):
    """Read the files of a task, but for those that crashed this process before, by number."""

    task: ReadTask
    crashed: frozenset[int]


class Begun(NamedTuple):
    """A file is to be read now."""

    number: int


class Skipping(NamedTuple):
    """Files that others read are skipped."""


class Finished(NamedTuple):
    """The task is done, or ended with `error`."""

    error: Exception | None
