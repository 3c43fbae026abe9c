"""The columns that can be filtered, drawn and coloured: those of `proteins`, two that are computed, annotations.

A column is a number, a flag, or a choice among at most MAX_VALUES texts. Names of annotations' columns are
`annotation.column`; of an annotation that has several rows for a protein, the least value counts.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from foldatlas.atlas.index.views import HIGH_CONFIDENCE, MAX_NOVEL_TM, MIN_NOVEL_LENGTH, protein_columns
from foldatlas.atlas.serve.current import Served
from foldatlas.atlas.serve.filters import NOVEL
from foldatlas.atlas.sql.text import quoted

Kind = Literal["number", "choice", "flag"]

MAX_VALUES: Final = 200  # values of a choice that have a code of their own; the others are OTHER
MAX_DISTINCT: Final = 1_000  # distinct texts with which a column of an annotation is a choice
OTHER: Final = 254  # code of values that are not listed
NONE: Final = 255  # code of no value

PLDDT_CLASSES: Final = ("very high", "confident", "low", "very low")
KNOWN_CLASSES: Final = ("known", "novel", "not confident", "demonstration", "not searched")

# pLDDT classes are those of the AlphaFold Database.
_CONFIDENCE: Final = (
    "CASE WHEN mean_plddt > 90 THEN 'very high' WHEN mean_plddt > 70 THEN 'confident' WHEN mean_plddt > 50 THEN 'low' "
    "WHEN mean_plddt <= 50 THEN 'very low' END"
)
# Nothing is novel against a demonstration.
_KNOWN: Final = (
    f"CASE WHEN tm_query IS NULL THEN 'not searched' WHEN tm_query >= {MAX_NOVEL_TM} THEN 'known' "
    f"WHEN {NOVEL} THEN 'novel' "
    f"WHEN coalesce({HIGH_CONFIDENCE}, false) AND length >= {MIN_NOVEL_LENGTH} THEN 'demonstration' "
    "ELSE 'not confident' END"
)

_LABELS: Final[dict[str, str]] = {
    "length": "Length",
    "mean_plddt": "Mean pLDDT",
    "ptm": "pTM",
    "plddt_std": "Spread of pLDDT",
    "fraction_confident": "Residues with pLDDT > 70",
    "fraction_very_high": "Residues with pLDDT > 90",
    "fraction_low": "Residues with pLDDT 50-70",
    "fraction_very_low": "Residues with pLDDT < 50",
    "num_unknown": "Unknown residues",
    "radius_of_gyration": "Radius of gyration",
    "helix_fraction": "Helix",
    "strand_fraction": "Strand",
    "tm_query": "TM-score to known",
    "tm_target": "TM-score to known, by its length",
    "identity_max": "Identity to known",
    "is_fragment": "Fragment",
    "is_representative30": "Represents its cluster at 30 %",
    "source": "Source",
    "model": "Model",
    "run_id": "Run",
    "origin": "Origin",
    "licence": "Licence",
    "cluster30": "Cluster at 30 % identity",
    "cluster_structure": "Cluster by structure",
}
_FLAGS: Final = ("is_fragment", "is_representative30")
_CHOICES: Final = ("source", "model", "run_id", "origin", "licence")
_CLUSTERS: Final = ("cluster30", "cluster_structure")
_FIRST: Final = ("length", "mean_plddt", "ptm", "tm_query", "identity_max", "helix_fraction")  # histograms shown first

# Column -> its parameters of `GET /v1/proteins`, least and greatest.
_PARAMETERS: Final[dict[str, tuple[str | None, str | None]]] = {
    "length": ("min_length", "max_length"),
    "mean_plddt": ("min_plddt", "max_plddt"),
    "ptm": ("min_ptm", "max_ptm"),
    "fraction_confident": ("min_fraction_confident", None),
    "tm_query": ("min_tm", "max_tm"),
    "identity_max": ("min_identity", "max_identity"),
}
_NUMERIC: Final = re.compile(
    r"(U?(TINYINT|SMALLINT|INTEGER|BIGINT)|U?HUGEINT|FLOAT|DOUBLE|DECIMAL\(\d+,\d+\))", re.ASCII
)
_INTEGER: Final = re.compile(r"U?(TINYINT|SMALLINT|INTEGER|BIGINT)|U?HUGEINT", re.ASCII)


@dataclass(frozen=True)
class ExploredColumn:
    """A column. `sql` is its expression on `proteins`; `view` and `given` are the view and the column of an annotation.

    `span` is the range that its values can have, `order` the values of a choice whose order has a meaning. With
    `of_records`, records of one structure may have different values.
    """

    name: str
    kind: Kind
    label: str
    meaning: str = ""
    unit: str = ""
    sql: str = ""
    is_integer: bool = False
    span: tuple[float, float] | None = None
    order: tuple[str, ...] = ()
    is_cluster: bool = False
    of_records: bool = False
    view: str | None = None
    given: str | None = None

    @property
    def parameters(self) -> tuple[str | None, str | None]:
        """The parameters of `GET /v1/proteins` for the least and the greatest value."""
        return _PARAMETERS.get(self.name, (None, None))

    @property
    def is_computed(self) -> bool:
        """Whether it is no column of `proteins`, but computed from some."""
        return self.sql.startswith("CASE")

    @property
    def is_first(self) -> bool:
        """Whether its histogram is among those that are shown first."""
        return self.name in _FIRST

    @property
    def selects(self) -> str:
        """The column in the explorer's table."""
        return quoted(self.name)

    @property
    def code(self) -> str:
        """The column of bins or codes in the explorer's table."""
        return quoted(f"{self.name} code")


def explored_columns(served: Served) -> dict[str, ExploredColumn]:
    """Return the columns of an index by name, in the order in which they are shown."""
    described = {
        column.name: column
        for column in protein_columns(served.atlas.header.settings.model, served.atlas.header.format)
    }
    found: list[ExploredColumn] = [
        ExploredColumn("known", "choice", "Known or novel", "by the nearest known structure", sql=_KNOWN,
                       order=KNOWN_CLASSES),
        ExploredColumn("confidence", "choice", "pLDDT class", "classes of the AlphaFold Database by mean pLDDT",
                       sql=_CONFIDENCE, order=PLDDT_CLASSES),
    ]  # fmt: skip
    for name, label in _LABELS.items():
        if name not in described:
            continue
        column = described[name]
        kind: Kind = "number"
        if name in _FLAGS:
            kind = "flag"
        elif name in _CHOICES or name in _CLUSTERS:
            kind = "choice"
        span = {"0 to 1": (0.0, 1.0), "0 to 100": (0.0, 100.0)}.get(column.span) if kind == "number" else None
        found.append(
            ExploredColumn(
                name, kind, label, column.meaning, column.unit, sql=name, span=span,
                is_integer=name in ("length", "num_unknown"), is_cluster=name in _CLUSTERS,
                of_records=column.expression.startswith("records."),
            )
        )  # fmt: skip
    return {column.name: column for column in [*found, *_annotations(served)]}


def _annotations(served: Served) -> list[ExploredColumn]:
    """Return the columns of annotations that are numbers, flags, or texts with few distinct values."""
    rows = served.rows(
        "SELECT annotations.name AS annotation, columns.column_name AS name, columns.data_type AS type, "
        "columns.comment AS meaning FROM annotations "
        "JOIN duckdb_views() AS views ON views.view_name = annotations.name "
        "JOIN duckdb_columns() AS columns ON columns.table_name = annotations.name AND columns.schema_name = 'main' "
        "WHERE views.schema_name = 'main' AND columns.column_name NOT IN "
        "('id', 'source', 'structure_id', 'mgyp', 'accession') ORDER BY annotations.name, columns.column_index"
    )
    found = []
    for row in rows:
        kind = _kind_of(served, row)
        if kind is not None:
            found.append(
                ExploredColumn(
                    f"{row['annotation']}.{row['name']}", kind, f"{row['annotation']}: {row['name']}",
                    row["meaning"] or "", is_integer=_INTEGER.fullmatch(row["type"]) is not None,
                    of_records=True, view=row["annotation"], given=row["name"],
                )
            )  # fmt: skip
    return found


def _kind_of(served: Served, row: Mapping[str, Any]) -> Kind | None:
    if row["type"] == "BOOLEAN":
        return "flag"
    if _NUMERIC.fullmatch(row["type"]):
        return "number"
    if row["type"] != "VARCHAR":
        return None
    [counted] = served.rows(
        f"SELECT approx_count_distinct({quoted(row['name'])}) AS texts FROM annotation.{quoted(row['annotation'])}"
    )
    return "choice" if 0 < counted["texts"] <= MAX_DISTINCT else None
