"""The summary of a provider of 3D-Beacons, with the fields of its schema (version 2) that apply to predictions.

https://3dbeacons.org, https://www.ebi.ac.uk/pdbe/pdbe-kb/3dbeacons/api: `UniprotSummary`.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Entity(BaseModel):
    """A molecule of a model."""

    model_config = ConfigDict(extra="forbid")

    entity_type: Literal["POLYMER"]
    entity_poly_type: Literal["POLYPEPTIDE(L)"]
    identifier: str
    description: str
    chain_ids: list[str]


class Overview(BaseModel):
    """A model."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model_identifier: str
    model_category: Literal["AB-INITIO", "EXPERIMENTALLY DETERMINED", "TEMPLATE-BASED", "CONFORMATIONAL ENSEMBLE"]
    model_url: str
    model_format: Literal["PDB", "MMCIF", "BCIF"]
    model_type: Literal["ATOMIC", "DUMMY", "MIX"] | None
    model_page_url: str | None
    provider: str
    number_of_conformers: int | None
    created: str = Field(pattern="^[12][09][0-9]{2}-[01][0-9]-[0-3][0-9]$", description="YYYY-MM-DD")
    sequence_identity: float = Field(ge=0, le=1)
    uniprot_start: int
    uniprot_end: int
    coverage: float = Field(ge=0, le=1)
    confidence_type: Literal["pLDDT"] | None
    confidence_version: str | None
    confidence_avg_local_score: float | None = Field(description="mean pLDDT, 0 to 100")
    oligomeric_state: Literal["MONOMER"] | None
    entities: list[Entity]


class Structure(BaseModel):
    """A structure."""

    model_config = ConfigDict(extra="forbid")

    summary: Overview


class Entry(BaseModel):
    """The protein: for UniProt's accession and name, the id of the record and null."""

    model_config = ConfigDict(extra="forbid")

    ac: str
    id: str | None
    uniprot_checksum: str | None = Field(description="CRC64 of the sequence")
    sequence_length: int
    segment_start: int
    segment_end: int


class Summary(BaseModel):
    """Structures of a protein."""

    model_config = ConfigDict(extra="forbid")

    uniprot_entry: Entry
    structures: list[Structure]
