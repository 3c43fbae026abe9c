"""Making the next items of a stream in a thread while the last ones are used: reading beside writing."""

import queue
import threading
from collections.abc import Generator, Iterable
from typing import Final, TypeVar

Item = TypeVar("Item")

_LOOK_SECONDS: Final = 0.1  # how often a thread that waits to hand over looks whether anybody still wants it


def ahead(items: Iterable[Item], depth: int = 1) -> Generator[Item]:
    """The items of `items` in their order, made in a thread that is at most `depth` items ahead of the reader.

    What making them raises is raised here, in its place. A reader that stops early, for whatever reason, has the
    thread end before this generator is closed.
    """
    found: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(depth)
    unwanted = threading.Event()

    def hand_over(item: Item | None, error: BaseException | None) -> None:
        while not unwanted.is_set():
            try:
                return found.put((item, error), timeout=_LOOK_SECONDS)
            except queue.Full:
                continue

    def make() -> None:
        try:
            for item in items:
                hand_over(item, None)
                if unwanted.is_set():
                    return
        except BaseException as error:
            hand_over(None, error)
        else:
            hand_over(None, StopIteration())

    thread = threading.Thread(target=make, name="foldatlas-ahead", daemon=True)
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
        unwanted.set()
        thread.join()
