"""An evaluation -> a folder of three files, which appears whole or not at all. docs/training.md describes them."""

import contextlib
import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from foldatlas.folding.compare.experimental import Chain
from foldatlas.folding.evaluation.measures import Row
from foldatlas.folding.evaluation.plots import plots
from foldatlas.folding.evaluation.report import report
from foldatlas.folding.evaluation.summary import summarise
from foldatlas.folding.weights.atomic_files import sync
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.records import Settings

CHAINS: Final = "chains.parquet"
SUMMARY: Final = "summary.json"
REPORT: Final = "report.html"

_TEXTS: Final = ("chain", "split", "cluster", "model", "kind", "failure")
_COUNTS: Final = ("length", "num_gaps", "perplexity_residues")  # the other columns are float32
_RESIDUES: Final = {"plddt_L": "plddt_of_residues", "lddt_ca_L": "lddt_ca_of_residues"}


def refuse_existing(out: Path) -> None:
    """Raises UsageError where something is called `out`, or nothing is there to hold it."""
    if out.exists() or out.is_symlink():
        raise UsageError(f"{out} exists: name a new folder")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"{out.absolute().parent} is not a folder: make it, or name another place for {out.name}")


def check_place(out: Path) -> None:
    """Raises UsageError where the folder `out` cannot be made: before hours of folding, not after."""
    refuse_existing(out)
    try:
        os.rmdir(_aside(out))
    except OSError as error:
        raise UsageError(f"{out} cannot be made ({error.strerror}): name another place") from error


def write(
    out: Path,
    rows: Sequence[Row],
    chosen: Mapping[str, Sequence[Chain]],
    training: Sequence[Chain],
    settings: Sequence[Settings],
    *,
    program: str,
    source: str,
    notes: Sequence[str],
) -> dict[str, Any]:
    """Makes figures, plots and page of the rows, writes all into the new folder `out`, and gives what its summary
    holds. `program` and `source` say what made it of which file; `notes` are shown to people.

    Raises UsageError where `out` exists or cannot be made.
    """
    refuse_existing(out)
    figures = summarise(rows, chosen, training)
    models = [dataclasses.asdict(one) for one in settings]
    try:
        drawn = plots(rows, chosen, figures)
    except ImportError:
        drawn = None
        notes = [*notes, "There are no plots: matplotlib is not installed (pip install 'foldatlas[train]')."]
    summary = {"program": program, "chains": source, "models": models, "notes": list(notes), "splits": figures}
    page = report(figures, models, drawn or {}, notes, f"{', '.join(one.model for one in settings)} against experiment")
    _write_whole(out, to_table(rows, {"program": program, "models": json.dumps(models)}), summary, page)
    return summary


def _write_whole(out: Path, table: Any, summary: Mapping[str, Any], page: str) -> None:
    import pyarrow.parquet as pq

    aside = _aside(out)
    try:
        pq.write_table(table, aside / CHAINS, compression="zstd")
        (aside / SUMMARY).write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        (aside / REPORT).write_text(page, encoding="utf-8")
        umask = os.umask(0)
        os.umask(umask)
        aside.chmod(0o777 & ~umask)  # mkdtemp's own is for its maker alone
        for path in (*aside.iterdir(), aside):
            sync(path)
        refuse_existing(out)
        aside.rename(out)
        sync(out.absolute().parent)
    except BaseException:
        with contextlib.suppress(OSError):
            shutil.rmtree(aside)
        raise


def _aside(out: Path) -> Path:
    """A new hidden folder beside `out`, for this user alone."""
    return Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.absolute().parent))


def to_table(rows: Sequence[Row], metadata: Mapping[str, str]) -> Any:
    """The pyarrow table of a row a chain and model; docs/training.md describes the columns."""
    import pyarrow as pa

    fields, columns = [], []
    for field in dataclasses.fields(Row):
        arrow_type = pa.float32()
        if field.name in _TEXTS:
            arrow_type = pa.string()
        elif field.name in _COUNTS:
            arrow_type = pa.int32()
        elif field.name in _RESIDUES:
            arrow_type = pa.list_(pa.float32())
        fields.append(pa.field(_RESIDUES.get(field.name, field.name), arrow_type))
        columns.append(pa.array([getattr(row, field.name) for row in rows], type=arrow_type))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields, metadata=dict(metadata)))
