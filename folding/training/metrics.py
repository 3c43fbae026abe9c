"""Metrics of a training run: one line of JSON for each logged step, and the same for TensorBoard.

A resumed run repeats the steps after its checkpoint, so their lines are removed first: each step has exactly one line,
as if the run had never stopped.
"""

import contextlib
import json
import math
from pathlib import Path
from typing import Any, Final

from foldatlas.folding.training.run_folder import Log, log_to_stderr

METRICS: Final = "metrics.jsonl"
TENSORBOARD: Final = "tensorboard"


class Metrics:
    """Append to the metrics of the run at `path`, after removing lines later than `step`.

    TensorBoard files are written too if tensorboard is installed; if it is not, `log` receives a line about it.
    """

    def __init__(self, path: Path, step: int, *, log: Log = log_to_stderr):
        self._path = path / METRICS
        kept = "".join(json.dumps(line) + "\n" for line in read(path) if line["step"] <= step)
        temporary = self._path.with_name(f".{METRICS}")
        temporary.write_text(kept, encoding="utf-8")
        temporary.rename(self._path)
        self._writer = _tensorboard(path / TENSORBOARD, step, log)

    def log(self, step: int, **values: float) -> None:
        """Write one line with `step` and `values`. A value that is not finite becomes null: JSON has no other form."""
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
    """Return the metrics of the run at `path`, one dictionary per line, without a line that a kill truncated."""
    lines = []
    with contextlib.suppress(FileNotFoundError), (path / METRICS).open(encoding="utf-8", errors="replace") as file:
        for text in file:
            with contextlib.suppress(ValueError):
                line = json.loads(text)
                if isinstance(line, dict) and isinstance(line.get("step"), int):
                    lines.append(line)
    return lines


def _tensorboard(path: Path, step: int, log: Log) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log("tensorboard is not installed: metrics go to metrics.jsonl only (pip install 'foldatlas[train]')")
        return None
    # TensorBoard hides steps from `purge_step` on that an earlier process wrote.
    return SummaryWriter(str(path), purge_step=step + 1 if step else None)
