"""Progress bars of commands whose work calls `progress(done, total)`."""

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress_bar(unit: str, *, is_shown: bool = True) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error, if that is a terminal, and yield the function that moves it: done and total."""
    from tqdm import tqdm

    with tqdm(unit=f" {unit}", unit_scale=True, disable=None if is_shown else True, leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
