"""Clusters by sequence: linclust of MMseqs2 (Steinegger & Soeding 2018, Nature Communications 9:2542).

Its result depends on the order of its input, which is therefore sorted by the caller, and on all of it, so it runs
whole. linclust merges clusters of two steps without comparing the members of one with the centre of the other, so each
member is aligned with its centre afterwards, and the member map has the identity of this alignment.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv

from foldatlas.atlas.reference.mmseqs2 import read_lines, run_program
from foldatlas.schemas.errors import FoldAtlasError

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

_ANY_EVALUE: Final = "1e300"


@dataclass(frozen=True)
class SequenceClustering:
    """Parameters of linclust. `identity` is of the aligned columns; coverage is the aligned fraction, of the member
    (MMseqs2's target) alone or of both."""

    identity: float
    coverage: float
    coverage_of_both: bool
    options: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """The options of `mmseqs linclust`."""
        mode = "0" if self.coverage_of_both else "1"
        return ("--min-seq-id", str(self.identity), "-c", str(self.coverage), "--cov-mode", mode, *self.options)


# 90 % identity and coverage as MGnify's protein clusters (Richardson et al. 2023, Nucleic Acids Research 51:D753), of
# both sequences, so that a fragment is no member. Alignment mode 3 compares the identity of the alignment with the
# threshold; by default MMseqs2 estimates it from the score, and most "members" of synthetic families are below 90 %.
IDENTITY_90: Final = SequenceClustering(0.9, 0.9, coverage_of_both=True, options=("--alignment-mode", "3"))
# 30 % as the ESM Metagenomic Atlas clusters its high-confidence proteins (Lin et al. 2023, Science 379:1123).
IDENTITY_30: Final = SequenceClustering(
    0.3, 0.8, coverage_of_both=False, options=("--kmer-per-seq", "100", "--cluster-mode", "2")
)


class SequenceClusters(NamedTuple):
    """Of each row its centre's row [N], and identity and smaller coverage of their alignment [N], 0 to 1; NaN where
    MMseqs2 finds no alignment of the two."""

    centres_N: Rows
    identity_N: Floats
    coverage_N: Floats


def linclust(
    database: Path,
    num_rows: int,
    settings: SequenceClustering,
    *,
    threads: int = 1,
    folder: Path,
    stop: Callable[[], bool] = lambda: False,
) -> SequenceClusters:
    """Cluster the MMseqs2 database `database`, whose keys are rows. `folder` is a folder of the caller's to work in.

    The result does not depend on `threads`. Raise FoldAtlasError where MMseqs2 fails, Interrupted where `stop`.
    """
    shared = ("--threads", str(threads), "-v", "1")
    run_program("linclust", database, "clusters", "scratch", *settings.words, *shared, folder=folder, stop=stop)
    run_program(
        "align",
        *(database, database, "clusters", "aligned", "--alignment-mode", "3", "-e", _ANY_EVALUE, *shared),
        folder=folder,
        stop=stop,
    )
    centres, text = read_lines(folder / "clusters")
    members = np.array(text.split(), dtype=np.int64)
    if len(members) != num_rows or not np.array_equal(np.sort(members), np.arange(num_rows)):
        raise FoldAtlasError(f"mmseqs linclust gave clusters of {len(members):,} members for {num_rows:,} sequences")
    found = SequenceClusters(
        np.empty(num_rows, np.int64), np.full(num_rows, np.nan, np.float32), np.full(num_rows, np.nan, np.float32)
    )
    found.centres_N[members] = centres
    queries, text = read_lines(folder / "aligned")
    if len(queries):
        columns = _columns(text)
        rows = columns[0].astype(np.int64)
        is_own = found.centres_N[rows] == queries
        rows, columns = rows[is_own], columns[:, is_own]
        found.identity_N[rows] = columns[2]
        query_part = (columns[5] - columns[4] + 1) / columns[6]
        found.coverage_N[rows] = np.minimum(query_part, (columns[8] - columns[7] + 1) / columns[9])
    is_centre = found.centres_N == np.arange(num_rows)
    found.identity_N[is_centre] = found.coverage_N[is_centre] = 1.0
    return found


def _columns(text: bytes) -> npt.NDArray[np.float64]:
    """The ten columns of alignments: target, bits, identity, E-value, begin, end and length of query and target."""
    names = [str(number) for number in range(10)]
    table = csv.read_csv(
        io.BytesIO(text),
        read_options=csv.ReadOptions(column_names=names),
        parse_options=csv.ParseOptions(delimiter="\t"),
        convert_options=csv.ConvertOptions(column_types=dict.fromkeys(names, pa.float64())),
    )
    return np.stack([table.column(name).to_numpy() for name in names])
