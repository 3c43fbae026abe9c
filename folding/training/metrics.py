"""Numbers of a run, a line of JSON for every step that is logged, and the same for TensorBoard.

A run that goes on from a checkpoint repeats the steps after it, so their lines are taken back first: every step has
one line, as if the run had never stopped.
"""

import contextlib
import json
import math
from pathlib import Path
from typing import Any, Final

from foldatlas.folding.training.run_folder import Say, say_on_stderr

METRICS: Final = "metrics.jsonl"
TENSORBOARD: Final = "tensorboard"


class Metrics:
    """Appends to the log of the run at `path`, whose lines after `step` are dropped first.

    TensorBoard's files are written beside it where tensorboard is installed; where it is not, `say` gets a line.
    """

    def __init__(self, path: Path, step: int, *, say: Say = say_on_stderr):
        self._path = path / METRICS
        kept = "".join(json.dumps(line) + "\n" for line in read(path) if line["step"] <= step)
        aside = self._path.with_name(f".{METRICS}")
        aside.write_text(kept, encoding="utf-8")
        aside.rename(self._path)
        self._writer = _tensorboard(path / TENSORBOARD, step, say)

    def log(self, step: int, **values: float) -> None:
        """One line: `step` and `values` by name. A value that is not finite is null, as JSON has no other way."""
        plain = {name: value if math.isfinite(value) else None for name, value in values.items()}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **plain}) + "\n")
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, global_step=step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def read(path: Path) -> list[dict[str, Any]]:
    """Lines of the log of the run at `path`; one that a kill cut short is left out."""
    lines = []
    with contextlib.suppress(FileNotFoundError), (path / METRICS).open(encoding="utf-8", errors="replace") as file:
        for text in file:
            with contextlib.suppress(ValueError):
                line = json.loads(text)
                if isinstance(line, dict) and isinstance(line.get("step"), int):
                    lines.append(line)
    return lines


def _tensorboard(path: Path, step: int, say: Say) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        say("tensorboard is not installed: numbers go to metrics.jsonl alone (pip install 'foldatlas[train]')")
        return None
    # Steps from `purge_step` on that an earlier process wrote are hidden.
    return SummaryWriter(str(path), purge_step=step + 1 if step else None)
