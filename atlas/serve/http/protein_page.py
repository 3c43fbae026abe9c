"""Our own routes: what the explorer's page of one protein shows, beside structures and groups."""

import hashlib
import uuid
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from foldatlas.atlas.serve.aligned_errors import DEFAULT_SIDE, MAX_SIDE, compact
from foldatlas.atlas.serve.catalogue import NotFoundError, one_protein
from foldatlas.atlas.serve.current import Served
from foldatlas.atlas.serve.http import models
from foldatlas.atlas.serve.http.access import needs
from foldatlas.atlas.serve.http.conditional import conditional
from foldatlas.atlas.serve.http.models import JSON, Record, Scores
from foldatlas.atlas.serve.http.problems import documented
from foldatlas.atlas.serve.http.proteins import ERRORS, Name
from foldatlas.atlas.serve.http.state import read, state_of
from foldatlas.atlas.serve.protein_page import protein_page
from foldatlas.atlas.serve.settings import READ
from foldatlas.atlas.serve.verdicts import Verdict

router = APIRouter(prefix="/v1", tags=["protein page"], dependencies=[Depends(needs(READ))])


class Hit(BaseModel):
    """The result of one search for a protein. `state`: `hit`, `searched` (without a hit) or `not_searched`."""

    search: Literal["structures", "sequences"]
    run: str
    completed: str
    reference: str
    version: int
    is_demonstration: bool
    is_latest: bool
    state: Literal["hit", "searched", "not_searched"]
    reason: str | None
    target: str | None
    title: str | None
    licence: str | None
    length: int | None = Field(description="residues of the target")
    novelty_source: uuid.UUID | None = Field(description="the structure that was searched with")
    identity: float | None
    tm_query: float | None = Field(None, description="of structures")
    tm_target: float | None = None
    tm_confident: float | None = None
    rmsd: float | None = None
    aligned_length: int | None = None
    method: str | None = None
    coverage: float | None = Field(None, description="of sequences")
    target_coverage: float | None = None
    bits: int | None = None
    evalue: float | None = None


class OwnCluster(models.Cluster):
    """A cluster of a protein."""

    is_representative: bool


class Annotation(BaseModel):
    """Rows of a user's table (`foldatlas annotate`) on a protein; values are texts."""

    name: str
    file: str
    columns: list[str]
    ids: list[str]
    rows: list[list[str | None]]
    is_cut: bool


class Neighbour(BaseModel):
    """A protein near another one on the map."""

    id: str
    structure_id: uuid.UUID
    length: int
    mean_plddt: float | None
    ptm: float | None
    tm_query: float | None
    nearest_structure: str | None
    distance: float


class Neighbours(BaseModel):
    """The proteins next to a protein on the latest map, the nearest first."""

    method: str
    features: str
    x: float
    y: float
    items: list[Neighbour]


class Citation(BaseModel):
    """How to cite a structure."""

    text: str
    bibtex: str


class ProteinPage(Scores):
    """A structure with all that the atlas has on it. null: not known, not searched, or no hit."""

    id: str
    description: str | None
    records: list[Record] = Field(description="those with this structure, the first 100")
    num_records: int
    sequence: str
    plddt: list[float | None]
    verdict: Verdict
    verdict_reason: str
    hits: list[Hit]
    clusters: list[OwnCluster]
    provenance: dict[str, Any] = Field(description="`kind`: folded, by a run of a model, or imported, with its origin")
    annotations: list[Annotation]
    neighbours: Neighbours | None = Field(description="null without a map (`foldatlas project`)")
    has_pae: bool
    citation: Citation


class Superposed(BaseModel):
    """The nearest known structure in the frame of the protein. C-alphas in angstrom, null where missing."""

    structure_id: uuid.UUID
    target: str
    title: str
    licence: str
    length: int
    sequence: str
    reference: str
    version: int
    is_demonstration: bool
    tm_query: float
    tm_target: float
    tm_confident: float | None
    rmsd: float = Field(description="of the aligned C-alphas as they are superposed, in angstrom")
    aligned_length: int
    identity: float
    placed_by: Literal["search", "representative"] = Field(
        description="transform of the search, or computed by the alignment of the cluster's representative"
    )
    novelty_source: uuid.UUID
    alignment: list[tuple[int, int, int]] = Field(
        description="blocks without gaps: first residue of the protein and of the target, from 0, and length"
    )
    c_alphas: list[tuple[float, float, float] | None]


@router.get("/explore/proteins/{name:path}", response_model=ProteinPage, responses=ERRORS)
def page(request: Request, name: Name) -> Response:
    """Return everything that a page about one protein begins with."""
    contents = state_of(request).contents
    return JSON(read(request, lambda served: protein_page(served, contents, name)))


@router.get("/superposed/{name:path}", response_model=Superposed, responses=ERRORS)
def superposed(request: Request, name: Name) -> Response:
    """Return the nearest known structure of the latest search, superposed on a protein."""
    state = state_of(request)

    def found(served: Served) -> dict[str, Any]:
        protein = one_protein(served, name)
        return state.nearest_known.find(served, protein, state.contents.structure(served, protein))

    return JSON(read(request, found))


@router.get(
    "/pae/{name:path}",
    response_class=Response,
    responses={
        **ERRORS,
        **documented(416),
        200: {
            "description": "predicted aligned errors as bytes after a header of four numbers",
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        },
        206: {"description": "a part of it"},
        304: {"description": "it did not change"},
    },
)
def pae(
    request: Request,
    name: Name,
    side: Annotated[
        int, Query(ge=16, le=MAX_SIDE, description="rows at most; of longer proteins means of blocks are given")
    ] = DEFAULT_SIDE,
) -> Response:
    """Return the predicted aligned errors of a protein as bytes.

    A header of four little-endian 32-bit numbers (rows n, residues, residues of a row, values of one angstrom), and
    n x n values, row by row. Row: the residue that is aligned; column: the residue whose error it is."""

    def response(served: Served) -> Response:
        protein = one_protein(served, name)
        errors = state_of(request).contents.pae(served, protein)
        if errors is None:
            raise NotFoundError(f"the atlas has no predicted aligned errors of {protein.structure_id}")
        body = compact(errors, side)
        headers = {"Content-Disposition": f'attachment; filename="{protein.structure_id}.pae"'}
        etag = hashlib.sha256(body).hexdigest()[:32]
        return conditional(request, etag, lambda: body, "application/octet-stream", headers)

    return read(request, response)
