"""What SQL sees: the columns of the view `proteins`, with their meanings, and the views on top of it.

Meanings, units and ranges of columns that come from a file are those of `schemas.tables`; the others are said here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from foldatlas.atlas.index.clusters import cluster_views
from foldatlas.atlas.novelty.sequence_search import HOMOLOGOUS_IDENTITY, SAME_PROTEIN_IDENTITY
from foldatlas.atlas.sql.text import literal, quoted
from foldatlas.schemas.formats import IMPORTED_FORMAT, PROVENANCE, table_schema
from foldatlas.schemas.records import REFUSALS
from foldatlas.schemas.tables import FORMAT_VERSION, STRUCTURES_PER_ROW_GROUP

MIN_CONFIDENT_PLDDT: Final = 70  # high confidence as the ESM Metagenomic Atlas has it: both above
MIN_CONFIDENT_PTM: Final = 0.7
# SQL of high confidence; where there is no pTM, mean pLDDT alone decides (`confidence_basis`).
HIGH_CONFIDENCE: Final = f"mean_plddt > {MIN_CONFIDENT_PLDDT} AND (ptm > {MIN_CONFIDENT_PTM} OR ptm IS NULL)"
MIN_NOVEL_LENGTH: Final = 60  # residues; a TM-score says little about shorter chains
MAX_NOVEL_TM: Final = 0.5  # below this, two structures are not of one fold (Xu & Zhang 2010)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `proteins`: its name, the SQL that makes it, and what it means."""

    name: str
    expression: str
    meaning: str
    unit: str = ""
    span: str = ""

    @property
    def comment(self) -> str:
        """One line for people, e.g. `mean pLDDT over residues; unit: pLDDT; range: 0 to 100`."""
        parts = [self.meaning, *([f"unit: {self.unit}"] if self.unit else [])]
        return "; ".join(parts + ([f"range: {self.span}"] if self.span else []))

    @property
    def metadata(self) -> dict[str, str]:
        """The same for a pyarrow field."""
        pairs = {"meaning": self.meaning, "unit": self.unit, "range": self.span}
        return {key: text for key, text in pairs.items() if text}


def _from(table: str, schema: pa.Schema, *names: str) -> list[Column]:
    columns = []
    for name in names:
        metadata: dict[bytes, bytes] = schema.field(name).metadata or {}
        said = {key.decode(): value.decode() for key, value in metadata.items()}
        columns.append(
            Column(name, f"{table}.{quoted(name)}", said["meaning"], said.get("unit", ""), said.get("range", ""))
        )
    return columns


def _merged(name: str, meaning: str, unit: str = "", span: str = "") -> Column:
    return Column(name, f"scores.{name}", meaning, unit, span)


_BASIS: Final = (
    "CASE WHEN scores.mean_plddt IS NOT NULL THEN CASE WHEN scores.ptm IS NULL THEN 'plddt' "
    "ELSE 'plddt_and_ptm' END END"
)

# Columns that derived stages fill: NULL means that they were not run for the structure.
MERGED: Final[dict[str, str]] = {
    "tm_query": "FLOAT",
    "tm_target": "FLOAT",
    "nearest_structure": "VARCHAR",
    "novelty_source": "UUID",
    "identity_max": "FLOAT",
    "nearest_sequence": "VARCHAR",
    "cluster90": "UUID",
    "cluster30": "UUID",
    "cluster_structure": "UUID",
    "is_representative30": "BOOLEAN",
}


def _origin_columns(model: str, version: int) -> list[Column]:
    """Return the columns of the origin of a structure: of imported structures each has its own."""
    if version < IMPORTED_FORMAT:
        return [Column("model", literal(model), "the model that predicted the structure")]
    provenance = table_schema(PROVENANCE, version)
    return [
        *_from("scores", provenance, "model", "model_version", "licence", "origin", "plddt_source"),
        *_from("records", table_schema("records", version), "path"),
    ]


def protein_columns(model: str, version: int = FORMAT_VERSION) -> list[Column]:
    """Return the columns of `proteins` in their order: one row per folded record of an atlas made with `model`.

    `version` is the format of the atlas.
    """
    records, scores = table_schema("records", version), table_schema("scores", version)
    return [
        *_from("records", records, "id", "source", "description"),
        *_from("scores", scores, "length", "structure_id"),
        *_from("records", records, "sequence_crc64", "mgyp", "is_fragment"),
        *_from("scores", scores, "mean_plddt", "plddt_std", "num_confident", "fraction_confident"),
        *_from("scores", scores, "fraction_very_high"),
        _merged("fraction_low", "fraction of residues with pLDDT from 50 to 70", span="0 to 1"),
        _merged("fraction_very_low", "fraction of residues with pLDDT below 50", span="0 to 1"),
        *_from("scores", scores, "ptm"),
        Column("confidence_basis", _BASIS, "plddt_and_ptm if both are known, plddt without pTM; NULL without pLDDT"),
        *_from("scores", scores, "num_unknown", "radius_of_gyration"),
        *_from("scores", scores, "helix_fraction", "strand_fraction"),
        _merged("tm_query", "greatest TM-score to a known structure, by this protein's length; NULL: not searched",
                span="0 to 1"),
        _merged("tm_target", "the TM-score of the same pair by the known structure's length; NULL: not searched",
                span="0 to 1"),
        _merged("nearest_structure", "the known structure of tm_query; NULL: not searched, or no hit"),
        _merged("novelty_source", "structure_id of the structure that was searched: this one, or its cluster's "
                "representative; NULL: not searched"),
        _merged("identity_max", "greatest sequence identity to a known sequence; NULL: not searched", span="0 to 1"),
        _merged("nearest_sequence", "the known sequence of identity_max; NULL: not searched, or no hit"),
        _merged("cluster90", "structure_id of the representative at 90 % sequence identity; NULL: not clustered"),
        _merged("cluster30", "structure_id of the representative at 30 % sequence identity; NULL: not clustered"),
        _merged("cluster_structure", "structure_id of the representative by structure; NULL: not clustered"),
        _merged("is_representative30", "whether this protein represents its cluster30; NULL: not clustered"),
        *_origin_columns(model, version),
        Column("run_id", "scores.run_id", "the run that folded it: a row of the table runs"),
        Column("structure_file", "scores.structure_file::VARCHAR", "file of its coordinates, relative to the atlas"),
        Column("structure_row_group", f"scores.structure_row // {STRUCTURES_PER_ROW_GROUP}",
               "row group of its coordinates in structure_file", span=">= 0"),
        *_from("scores", scores, "structure_row"),
    ]  # fmt: skip


def proteins_query(columns: Iterable[Column], *more: str, records: str = "records", scores: str = "scores") -> str:
    """Return the SELECT of the view `proteins`, with `more` columns. `records` and `scores` are what is joined."""
    selected = ", ".join([*(f"{column.expression} AS {quoted(column.name)}" for column in columns), *more])
    return (
        f"SELECT {selected} FROM {records} JOIN {scores} USING (structure_id) "
        "WHERE records.state = 'folded' AND NOT records.superseded"
    )


_DEMO: Final = "coalesce((SELECT bool_or(demo) FROM novelty_runs WHERE is_latest AND search = '{}'), false)"


def _novel(tm: str) -> str:
    """SQL of novel folds. Nothing is novel against a demonstration."""
    return (
        f"SELECT * FROM high_confidence WHERE length >= {MIN_NOVEL_LENGTH} AND tm_query < {tm} AND NOT "
        f"{_DEMO.format('structures')}"
    )


def _novel_sequences(identity: str) -> str:
    """SQL of novel sequences. Nothing is novel against a demonstration."""
    return f"SELECT * FROM proteins WHERE identity_max < {identity} AND NOT {_DEMO.format('sequences')}"


# Macros that make a table, with the threshold as their argument.
_MACROS: Final = {
    "novel_at(tm)": _novel("tm"),
    "novel_sequences_at(identity)": _novel_sequences("identity"),
}

_CHANGES: Final = (
    "SELECT structure_id, CASE "
    "WHEN latest.structure_id IS NULL THEN 'no longer searched' "
    "WHEN previous.structure_id IS NULL THEN 'searched for the first time' "
    f"WHEN previous.tm_query < {MAX_NOVEL_TM} AND latest.tm_query >= {MAX_NOVEL_TM} THEN 'known now' "
    f"WHEN previous.tm_query >= {MAX_NOVEL_TM} AND latest.tm_query < {MAX_NOVEL_TM} THEN 'no longer known' "
    "ELSE 'another hit' END AS change, previous.tm_query AS tm_query_before, latest.tm_query, "
    "previous.target AS nearest_before, latest.target AS nearest_structure "
    "FROM (SELECT novelty.* FROM novelty JOIN novelty_runs USING (run) WHERE is_latest AND search = 'structures') AS "
    "latest FULL JOIN (SELECT novelty.* FROM novelty JOIN novelty_runs USING (run) "
    "WHERE is_previous AND search = 'structures') AS previous USING (structure_id) "
    "WHERE (latest.target, latest.state, latest.tm_query) IS DISTINCT FROM "
    "(previous.target, previous.state, previous.tm_query) "
    "AND EXISTS (FROM novelty_runs WHERE is_previous AND search = 'structures')"
)


def create_views(connection: Any, model: str, version: int) -> None:
    """Make the views over the tables `records`, `scores` and `novelty`, and the macros."""
    columns = protein_columns(model, version)
    reasons = ", ".join(f"({literal(outcome)}, {literal(reason)})" for outcome, reason in REFUSALS.items())
    views = {
        "proteins": (
            proteins_query(columns),
            "one row per folded record of the current versions of sources",
        ),
        "high_confidence": (
            f"SELECT * FROM proteins WHERE {HIGH_CONFIDENCE}",
            f"proteins with mean_plddt > {MIN_CONFIDENT_PLDDT} and ptm > {MIN_CONFIDENT_PTM}, or no ptm",
        ),
        "novel": (
            _novel(str(MAX_NOVEL_TM)),
            f"high_confidence of {MIN_NOVEL_LENGTH} residues or more with tm_query < {MAX_NOVEL_TM}; empty where the "
            "reference is a demonstration",
        ),
        "novel_sequences": (
            _novel_sequences(str(SAME_PROTEIN_IDENTITY)),
            f"proteins with identity_max < {SAME_PROTEIN_IDENTITY}, as the ESM Metagenomic Atlas counts them",
        ),
        "distant_sequences": (
            _novel_sequences(str(HOMOLOGOUS_IDENTITY)),
            f"proteins with identity_max < {HOMOLOGOUS_IDENTITY}, below which homology is not sure (Rost 1999)",
        ),
        "novelty_changes": (_CHANGES, "structures whose best hit differs between the latest search and the one before"),
        "refused": (
            'SELECT records.id, records.source, records."offset", records.description, records.length, '
            f"records.outcome, reasons.reason FROM records LEFT JOIN (VALUES {reasons}) AS reasons(outcome, reason) "
            "USING (outcome) WHERE records.state = 'refused' AND NOT records.superseded",
            "one row per refused record, and why",
        ),
    }
    views |= cluster_views(MAX_NOVEL_TM, HOMOLOGOUS_IDENTITY, _DEMO.format("structures"))
    for view, (sql, comment) in views.items():
        connection.execute(f"CREATE VIEW {view} AS {sql}")
        connection.execute(f"COMMENT ON VIEW {view} IS {literal(comment)}")
    for macro, sql in _MACROS.items():
        connection.execute(f"CREATE MACRO {macro} AS TABLE {sql}")
    for view in ("proteins", "high_confidence", "novel", "novel_sequences", "distant_sequences"):
        for column in columns:
            connection.execute(f"COMMENT ON COLUMN {view}.{quoted(column.name)} IS {literal(column.comment)}")
