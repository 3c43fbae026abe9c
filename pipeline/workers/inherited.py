"""What a child process inherits from its parent: the connection, and when to end. Light to import."""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # <linux/prctl.h>


def end_with_parent(parent: int) -> None:
    """Let the kernel kill this process when the thread that started it ends. Only Linux can; elsewhere the child ends
    when it next reads from or writes to its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent handles it
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before prctl was called
        os._exit(1)


def connect(arguments: Sequence[str]) -> tuple[Connection, list[str]]:
    """Take descriptor and parent from the command line and tie this process to the parent. Return the other
    arguments."""
    descriptor, parent, *rest = arguments
    end_with_parent(int(parent))
    return Connection(int(descriptor)), rest
