"""Writing of an evaluation: a folder of three files, created atomically. docs/training.md describes them."""

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
    """Raise UsageError if `out` exists, or if its parent folder does not."""
    if out.exists() or out.is_symlink():
        raise UsageError(f"{out} exists: give a new folder")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"{out.absolute().parent} is not a folder: create it, or give another path for {out.name}")


def check_output_folder(out: Path) -> None:
    """Raise UsageError if the folder `out` cannot be created. Called before folding, which may take hours."""
    refuse_existing(out)
    try:
        os.rmdir(_temporary_folder(out))
    except OSError as error:
        raise UsageError(f"{out} cannot be created ({error.strerror}): give another path") from error


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
    """Write table, summary and report of `rows` to the new folder `out`; return the content of the summary.

    `program` and `source` are recorded: name and version of the program, and the file of chains. `notes` are sentences
    for the reader. Raise UsageError if `out` exists or cannot be created.
    """
    refuse_existing(out)
    figures = summarise(rows, chosen, training)
    models = [dataclasses.asdict(one) for one in settings]
    try:
        drawn = plots(rows, chosen, figures)
    except ImportError:
        drawn = None
        notes = [*notes, "No plots: matplotlib is not installed (pip install 'foldatlas[train]')."]
    summary = {"program": program, "chains": source, "models": models, "notes": list(notes), "splits": figures}
    page = report(figures, models, drawn or {}, notes, f"{', '.join(one.model for one in settings)} against experiment")
    _write_atomically(out, to_table(rows, {"program": program, "models": json.dumps(models)}), summary, page)
    return summary


def _write_atomically(out: Path, table: Any, summary: Mapping[str, Any], page: str) -> None:
    import pyarrow.parquet as pq

    temporary = _temporary_folder(out)
    try:
        pq.write_table(table, temporary / CHAINS, compression="zstd")
        (temporary / SUMMARY).write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        (temporary / REPORT).write_text(page, encoding="utf-8")
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)  # mkdtemp makes a folder that only its owner can read
        for path in (*temporary.iterdir(), temporary):
            sync(path)
        refuse_existing(out)
        temporary.rename(out)
        sync(out.absolute().parent)
    except BaseException:
        with contextlib.suppress(OSError):
            shutil.rmtree(temporary)
        raise


def _temporary_folder(out: Path) -> Path:
    """Create a hidden folder beside `out`, readable by this user only."""
    return Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.absolute().parent))


def to_table(rows: Sequence[Row], metadata: Mapping[str, str]) -> Any:
    """Return a pyarrow table with one row for each chain and model; docs/training.md describes the columns."""
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
