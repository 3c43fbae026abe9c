"""Parameters of requests and results, as OpenAPI describes them. Results are written by msgspec, not checked again."""

import uuid
from dataclasses import fields
from typing import Annotated, Any, Final, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.responses import Response

from foldatlas.atlas.serve.filters import MAX_CURSOR_LENGTH, ProteinFilter
from foldatlas.atlas.serve.http import examples

MAX_NAME_LENGTH: Final = 2_000

Length = Annotated[int | None, Field(ge=0, le=2**31 - 1)]
Percent = Annotated[float | None, Field(ge=0, le=100, allow_inf_nan=False)]
Fraction = Annotated[float | None, Field(ge=0, le=1, allow_inf_nan=False)]
Cursor = Annotated[str | None, Field(max_length=MAX_CURSOR_LENGTH, description="`next` of the page before")]
MAX_WHERE: Final = 4_000  # characters
# Together with other parameters they have to fit into the target of a request.
Conditions = Annotated[list[Annotated[str, Field(max_length=300)]], Field(max_length=40)]
Regions = Annotated[list[Annotated[str, Field(max_length=3_000)]], Field(max_length=4)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME_LENGTH)]
Format = Literal["pdb", "cif"]
Level = Literal["identity90", "identity30", "structure"]


class JSON(Response):
    """A JSON response. UUIDs and times are texts; NaN and infinities are null."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return msgspec.json.encode(content)


class FilterQuery(BaseModel):
    """Conditions on proteins, all of which must hold. A protein without a value meets no condition on it."""

    model_config = ConfigDict(extra="forbid")

    min_length: Length = Field(None, description="residues", examples=[60])
    max_length: Length = Field(None, description="residues")
    min_plddt: Percent = Field(None, description="mean pLDDT, 0 to 100", examples=[70])
    max_plddt: Percent = None
    min_ptm: Fraction = Field(None, description="pTM, 0 to 1", examples=[0.7])
    max_ptm: Fraction = None
    min_fraction_confident: Fraction = Field(None, description="fraction of residues with pLDDT above 70")
    min_tm: Fraction = Field(None, description="greatest TM-score to a known structure, by the protein's length")
    max_tm: Fraction = None
    min_identity: Fraction = Field(None, description="greatest sequence identity to a known sequence")
    max_identity: Fraction = None
    cluster90: uuid.UUID | None = Field(None, description="representative at 90 % sequence identity")
    cluster30: uuid.UUID | None = Field(None, description="representative at 30 % sequence identity")
    cluster_structure: uuid.UUID | None = Field(None, description="representative by structure")
    structure_id: uuid.UUID | None = Field(None, description="md5 of the sequence")
    sequence_crc64: str | None = Field(None, max_length=16, description="CRC64 of the sequence, as in UniProt")
    source: str | None = Field(None, max_length=MAX_NAME_LENGTH, description="URI of the source")
    high_confidence: bool | None = Field(None, description="mean pLDDT > 70 and pTM > 0.7")
    novel: bool | None = Field(None, description="high confidence, 60 residues or more, and TM-score < 0.5")
    representative: bool | None = Field(None, description="whether it represents its cluster at 30 %")
    fragment: bool | None = None
    range: Conditions = Field(
        default_factory=list,
        description="COLUMN:LEAST:BELOW of a column of numbers of /v1/explore/columns; either may be empty",
        examples=[["radius_of_gyration:10:25"]],
    )
    choice: Conditions = Field(
        default_factory=list,
        description="COLUMN:VALUE of a choice or flag, COLUMN alone: no value; of one column, any of them",
        examples=[["known:novel", "known:not searched"]],
    )
    region: Regions = Field(
        default_factory=list,
        description="MAP:X,Y,X,Y of a map: corners of a rectangle, or 3 to 100 of a polygon",
        examples=[["plddt_length:60,70,400,100"]],
    )
    where: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_WHERE,
        description="SQL expression on columns of `proteins`; needs the feature `sql`",
        examples=["ptm > 0.8 AND length % 2 = 0"],
    )

    def wanted(self) -> ProteinFilter:
        """Return the filter."""
        return ProteinFilter(**{field.name: getattr(self, field.name) for field in fields(ProteinFilter)})


class PageQuery(FilterQuery):
    """A page of proteins."""

    after: Cursor = None
    size: int = Field(100, ge=1, le=1_000, description="proteins of a page")


class DownloadQuery(FilterQuery):
    """A download of proteins."""

    after: Cursor = Field(None, description="`cursor` of the last whole row or file, to resume")
    limit: int = Field(10_000, ge=1, le=100_000, description="proteins at most")


class TarQuery(DownloadQuery):
    """A download of structure files."""

    format: Format = "pdb"


class ClusterPageQuery(BaseModel):
    """A page of clusters."""

    model_config = ConfigDict(extra="forbid")

    min_size: int = Field(1, ge=1, le=2**31 - 1, description="structures at least")
    after: uuid.UUID | None = Field(None, description="`next` of the page before")
    size: int = Field(100, ge=1, le=1_000)


class MemberPageQuery(BaseModel):
    """A page of members of a cluster."""

    model_config = ConfigDict(extra="forbid")

    after: uuid.UUID | None = Field(None, description="`next` of the page before")
    size: int = Field(100, ge=1, le=1_000)


class Names(BaseModel):
    """Names of proteins: ids, `source:id`, structure_ids or MGYP accessions."""

    model_config = ConfigDict(extra="forbid")

    ids: list[Name] = Field(min_length=1, max_length=500, examples=[[examples.ID, examples.STRUCTURE_ID]])


class StructureNames(Names):
    """Names of proteins whose structures are wanted."""

    format: Format = "pdb"


class ProblemDetails(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["no protein with a structure is called 'P12345'"])


class Scores(BaseModel):
    """The columns of a structure in the view `proteins`. null: not known, not searched, no hit."""

    structure_id: uuid.UUID
    length: int
    mean_plddt: float | None
    plddt_std: float | None
    num_confident: int | None
    fraction_confident: float | None
    fraction_very_high: float | None
    fraction_low: float | None
    fraction_very_low: float | None
    ptm: float | None
    num_unknown: int | None
    radius_of_gyration: float | None
    helix_fraction: float | None
    strand_fraction: float | None
    tm_query: float | None
    tm_target: float | None
    nearest_structure: str | None
    novelty_source: uuid.UUID | None
    identity_max: float | None
    nearest_sequence: str | None
    cluster90: uuid.UUID | None
    cluster30: uuid.UUID | None
    cluster_structure: uuid.UUID | None
    is_representative30: bool | None


class Record(BaseModel):
    """The columns of a record in the view `proteins`."""

    id: str
    source: str
    description: str | None
    sequence_crc64: str | None
    mgyp: int | None
    is_fragment: bool | None


class Protein(Scores, Record):
    """A record with its structure's scores: a row of the view `proteins`. null: not known, not searched, no hit."""

    model: str | None
    run_id: str | None


class ProteinPage(BaseModel):
    """A page of proteins, in the order of structure_id, id and source."""

    items: list[Protein]
    next: str | None = Field(description="`after` of the next page; null after the last")


class ProteinList(BaseModel):
    """All records that a name means."""

    items: list[Protein]


class Missing(BaseModel):
    """A name without a structure, and what became of its record: `unknown` if there is none."""

    id: str
    reason: str = Field(examples=["refused: too_long", "unknown"])


class Batch(BaseModel):
    """Proteins of a batch."""

    items: list[Protein]
    missing: list[Missing]


class Sequence(BaseModel):
    """The sequence of a protein."""

    id: str
    structure_id: uuid.UUID
    sequence: str


class Confidence(BaseModel):
    """Confidence of a protein: pLDDT of each residue, 0 to 100, null where there is none."""

    id: str
    structure_id: uuid.UUID
    mean_plddt: float | None
    ptm: float | None
    plddt: list[float | None]


class Cluster(BaseModel):
    """A cluster."""

    level: Level
    cluster: uuid.UUID
    id: str | None
    num_structures: int
    num_proteins: int
    length: int | None
    mean_plddt: float | None
    ptm: float | None
    members_mean_plddt: float | None


class ClusterPage(BaseModel):
    """A page of clusters, in the order of their representatives."""

    items: list[Cluster]
    next: uuid.UUID | None


class Member(BaseModel):
    """A member of a cluster, and its similarity to the centre."""

    structure_id: uuid.UUID
    is_representative: bool
    centre: uuid.UUID | None
    identity: float | None
    coverage: float | None
    tm: float | None


class MemberPage(BaseModel):
    """A page of members, in the order of structure_id."""

    items: list[Member]
    next: uuid.UUID | None


class Novelty(BaseModel):
    """The latest best hits of a protein among known structures and sequences; null where it was not searched."""

    structure_id: uuid.UUID
    structures: dict[str, Any] | None
    sequences: dict[str, Any] | None


class NoveltyRuns(BaseModel):
    """Complete search runs, the latest first."""

    items: list[dict[str, Any]]


class Health(BaseModel):
    """Whether the server can answer."""

    status: Literal["ok", "degraded"]
    structures: int
    proteins: int
    indexed: str
    problem: str | None = Field(description="why an older index is served")
    sql: str | None = Field(description="why SQL is off; null: it is on")
    search: str | None = Field(description="why searches are off; null: they are on")
    fold: str | None = Field(description="why folding on demand is off; null: it is on")
    access: dict[str, Literal["public", "token", "off"]] = Field(description="who may use what")
