"""Computation of the next items of a stream in a thread while the last ones are used."""

import queue
import threading
from collections.abc import Generator, Iterable
from typing import Final, TypeVar

Item = TypeVar("Item")

_POLL_SECONDS: Final = 0.1  # at which a waiting thread checks whether the reader has stopped


def prefetched(items: Iterable[Item], depth: int = 1) -> Generator[Item]:
    """Yield `items`, in order, computed in a thread that is at most `depth` items ahead of the reader.

    An exception of `items` is raised here, in order. If the reader stops early, the thread has ended when this
    generator is closed.
    """
    found: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(depth)
    stopped = threading.Event()

    def hand_over(item: Item | None, error: BaseException | None) -> None:
        while not stopped.is_set():
            try:
                return found.put((item, error), timeout=_POLL_SECONDS)
            except queue.Full:
                continue

    def compute() -> None:
        computed = iter(items)
        try:
            for item in computed:
                hand_over(item, None)
                if stopped.is_set():
                    return
        except BaseException as error:
            hand_over(None, error)
        else:
            hand_over(None, StopIteration())
        finally:
            # in the thread that ran it, which may hold locks
            if isinstance(computed, Generator):
                computed.close()

    thread = threading.Thread(target=compute, name="foldatlas-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = found.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]  # without an error there is an item
    finally:
        stopped.set()
        thread.join()
