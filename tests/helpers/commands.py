"""The command `foldatlas`, run in this process or in its own.

In this process a command costs no import of Beam or torch, which take longer than most commands of the tests. What
depends on the process keeps its own: signals, kills, standard streams, the environment, and one run of each command.
"""

import contextlib
import io
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

from foldatlas.jobs.cli import main

COMMAND = (sys.executable, "-m", "foldatlas.jobs.cli")
Done = subprocess.CompletedProcess[str]


def in_own_process(*words: str | Path, timeout: float = 600, **options: object) -> Done:
    """Run the command in a process of its own. `options` are those of subprocess.run."""
    command = [*COMMAND, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, **options)  # type: ignore[call-overload,no-any-return]


def in_this_process(
    *words: str | Path, cwd: str | Path = ".", input: bytes | None = None, report: bool = False
) -> Done:
    """Run the command in this process and return its exit code and what it wrote to the standard streams.

    `input` comes by a pipe, whose buffer has to hold it. `fold` and `import` write no report, which takes a tenth
    of a second, unless `report` is given.
    """
    arguments = [str(word) for word in words]
    if arguments[:1] in (["fold"], ["import"]) and not report and "--dry-run" not in arguments:
        arguments.insert(1, "--no-report")
    out, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with contextlib.ExitStack() as stack:
        for context in (contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors), contextlib.chdir(cwd)):
            stack.enter_context(context)
        if input is not None:
            stack.enter_context(_piped(input))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("always", UserWarning)  # the command prints its own; others stay errors
        try:
            code = main(arguments)
        except SystemExit as stop:  # argparse
            code = stop.code if isinstance(stop.code, int) else 1
    texts = [stream.buffer.getvalue().decode() for stream in (out, errors)]  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(arguments, code, *texts)


@contextlib.contextmanager
def _piped(content: bytes) -> Iterator[None]:
    """Let standard input, the descriptor and `sys.stdin`, be a pipe with `content`."""
    reading, writing = os.pipe()
    with open(writing, "wb") as file:
        file.write(content)
    saved, stdin = os.dup(0), sys.stdin
    os.dup2(reading, 0)
    os.close(reading)
    try:
        with open(0, encoding="utf-8", closefd=False) as sys.stdin:
            yield
    finally:
        sys.stdin = stdin
        os.dup2(saved, 0)
        os.close(saved)
