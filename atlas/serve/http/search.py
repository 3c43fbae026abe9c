"""Our own routes: searches by sequence, structure and embedding, as jobs."""

import datetime
import uuid
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
from fastapi import APIRouter, Body, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from foldatlas.atlas.reference.from_atlas import backbone_of
from foldatlas.atlas.serve.catalogue import find_proteins, one_protein
from foldatlas.atlas.serve.current import Served
from foldatlas.atlas.serve.http import examples, models
from foldatlas.atlas.serve.http.access import needs
from foldatlas.atlas.serve.http.problems import Problem, documented
from foldatlas.atlas.serve.http.state import public_url, read, state_of
from foldatlas.atlas.serve.letters import sequence_of
from foldatlas.atlas.serve.search import requests
from foldatlas.atlas.serve.search.jobs import NoDatabase, Search, Searches, TooManySearches
from foldatlas.atlas.serve.settings import SEARCH
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.records import format_structure_id, structure_id

MAX_CHANNELS: Final = 16_384  # of an embedding
PAGE: Final = 100

Limit = Annotated[int, Field(ge=1, le=requests.MAX_HITS, description="hits at most")]
Name = Annotated[str, Field(min_length=1, max_length=models.MAX_NAME_LENGTH)]
SearchName = Annotated[
    str,
    Path(
        pattern="^[A-Za-z0-9_-]{20,64}$", description="`id` of a search", examples=["kq3PDqVyl3S4VxXbTt0m0P2fXUXDJy2I"]
    ),
]

router = APIRouter(prefix="/v1", tags=["search"], dependencies=[Depends(needs(SEARCH))])


class SequenceSearch(BaseModel):
    """Search by sequence: letters, or one record of FASTA."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["sequence"]
    sequence: str = Field(
        min_length=1, max_length=100_000, examples=["MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEK"]
    )
    max_evalue: float = Field(1e-3, gt=0, le=1e6, description="greatest E-value of a hit, for the whole database")
    limit: Limit = 100


class StructureSearch(BaseModel):
    """Search by structure: the text of a PDB or mmCIF file, or the name of a structure of the atlas."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["structure"]
    structure: str | None = Field(None, min_length=1, description="PDB or mmCIF")
    chain: str | None = Field(
        None, min_length=1, max_length=100, description="author's name of the chain; by default the only one"
    )
    name: Name | None = Field(
        None, description="id, `source:id`, structure_id or MGYP accession", examples=[examples.ID]
    )
    min_tm: float = Field(0.5, ge=0, le=1, description="least TM-score of a hit, by the query's length")
    limit: Limit = 100


class EmbeddingSearch(BaseModel):
    """Search by embedding: that of a structure of the atlas, or a vector."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["embedding"]
    name: Name | None = Field(
        None, description="id, `source:id`, structure_id or MGYP accession", examples=[examples.ID]
    )
    vector: list[Annotated[float, Field(allow_inf_nan=False, ge=-1e30, le=1e30)]] | None = Field(
        None, min_length=1, max_length=MAX_CHANNELS
    )
    limit: Limit = 100


SearchRequest = Annotated[
    SequenceSearch | StructureSearch | EmbeddingSearch,
    Body(
        discriminator="kind",
        openapi_examples={
            "sequence": {
                "value": {"kind": "sequence", "sequence": "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEK"}
            },
            "structure of the atlas": {"value": {"kind": "structure", "name": examples.ID, "min_tm": 0.5}},
            "uploaded structure": {
                "value": {"kind": "structure", "structure": "ATOM      1  N   MET A   1 ...", "chain": "A"}
            },
            "more like this": {"value": {"kind": "embedding", "name": examples.ID, "limit": 20}},
        },
    ),
]


class SearchHit(BaseModel):
    """A structure that was found, with its first record. What another kind of search gives is null.

    Of a structure search, `rotation` R and `translation` t lay the query on the structure that was found: R @ x + t.
    """

    rank: int
    structure_id: uuid.UUID
    id: str
    source: str
    description: str | None
    num_records: int = Field(description="records with this structure")
    length: int
    mean_plddt: float | None
    ptm: float | None
    identity: float | None = Field(description="fraction of the aligned residues with equal codes, 0 to 1")
    coverage: float | None = Field(description="aligned fraction of the query, 0 to 1")
    target_coverage: float | None = Field(description="aligned fraction of the structure that was found, 0 to 1")
    query_start: int | None = Field(description="first aligned residue, from 1")
    query_end: int | None
    target_start: int | None
    target_end: int | None
    evalue: float | None = Field(description="expected number of such hits in the database by chance")
    bits: int | None
    tm_query: float | None = Field(description="TM-score by the query's residues, 0 to 1")
    tm_target: float | None = Field(description="TM-score by the residues of the structure that was found, 0 to 1")
    rmsd: float | None = Field(description="of the aligned C-alphas, angstrom")
    aligned_length: int | None = Field(description="aligned residues")
    rotation: list[list[float]] | None
    translation: list[float] | None = Field(description="angstrom")
    alignment: list[tuple[int, int, int]] | None = Field(
        description="blocks without gaps: first residue of the query, of the structure that was found, and length"
    )
    similarity: float | None = Field(description="cosine of the embeddings, -1 to 1")


class SearchJob(BaseModel):
    """A search. Hits are there when it is `done`, the best first."""

    id: str = Field(examples=["kq3PDqVyl3S4VxXbTt0m0P2fXUXDJy2I"])
    kind: requests.Kind
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    phase: str | None = Field(description="what is being done", examples=["scan"])
    fraction: float = Field(description="of the work that is done, 0 to 1")
    reason: str | None = Field(description="why it failed, as a word", examples=["several_chains"])
    detail: str | None = Field(description="why it failed")
    exact: uuid.UUID | None = Field(
        description="the structure with exactly the sequence that is searched for; known at once"
    )
    query_length: int | None = Field(description="residues")
    searched: int | None = Field(description="structures that were compared")
    is_current: bool = Field(description="whether the search database has what the index had when the search was made")
    created: datetime.datetime
    expires: datetime.datetime | None = Field(
        description="when the result is deleted, if it has to make room even earlier"
    )
    num_hits: int | None
    hits: list[SearchHit]
    next: int | None = Field(description="`after` of the next page; null after the last")


class SearchInfo(BaseModel):
    """What can be searched."""

    kinds: list[requests.Kind]
    structures: int
    residues: int
    embeddings: int
    is_current: bool = Field(description="whether the search database has what the index has")
    created: datetime.datetime
    waiting: int
    running: int
    max_hits: int
    max_sequence_residues: int
    max_structure_residues: int
    keep_seconds: float = Field(description="for which results are kept")


class HitPage(BaseModel):
    """A page of hits."""

    model_config = ConfigDict(extra="forbid")

    after: int = Field(0, ge=0, le=requests.MAX_HITS, description="`next` of the page before")
    size: int = Field(PAGE, ge=1, le=requests.MAX_HITS)


def searches_of(request: Request) -> Searches:
    """Return the searches of the application. Raise Problem if they are off."""
    searches = state_of(request).searches
    if searches is None:
        raise Problem(503, "searches were not started")
    return searches


@router.get("/search", response_model=SearchInfo, responses=documented(401, 403, 421, 429, 503))
def info(request: Request) -> Response:
    """Say what can be searched, and the limits of searches."""
    searches = searches_of(request)
    try:
        database = searches.database()
    except NoDatabase as error:
        raise Problem(503, str(error)) from None
    kinds = [
        *(("sequence", "structure") if database.structures else ()),
        *(("embedding",) if database.embeddings else ()),
    ]
    limits = searches.limits
    return models.JSON(
        {
            "kinds": kinds,
            "structures": database.structures,
            "residues": database.residues,
            "embeddings": database.embeddings,
            "is_current": searches.is_current(database),
            "created": database.created,
            **searches.counts(),
            "max_hits": requests.MAX_HITS,
            "max_sequence_residues": limits.sequence_residues,
            "max_structure_residues": limits.structure_residues,
            "keep_seconds": limits.keep_seconds,
        }
    )


@router.post(
    "/searches",
    status_code=202,
    response_model=SearchJob,
    responses=documented(400, 401, 403, 404, 408, 409, 413, 421, 422, 429, 503),
)
def submit(request: Request, wanted: SearchRequest) -> Response:
    """Begin a search. `id` of the answer, which only its maker knows, leads to progress and hits."""
    searches = searches_of(request)
    exact = None
    query: requests.Sequence | requests.Structure | requests.Embedding
    match wanted:
        case SequenceSearch():
            sequence = sequence_of(wanted.sequence, searches.limits.sequence_residues)
            name = format_structure_id(structure_id(sequence))
            exact = name if read(request, lambda served: find_proteins(served, name)) else None
            query = requests.Sequence(sequence, wanted.max_evalue)
        case StructureSearch():
            query = _structure(request, wanted)
        case EmbeddingSearch():
            query = _embedding(request, wanted)
    client = request.client.host if request.client is not None else ""
    try:
        job = searches.submit(query, limit=wanted.limit, client=client, exact=exact)
    except TooManySearches as error:
        raise Problem(429 if error.of_client else 503, str(error), {"Retry-After": "5"}) from None
    except NoDatabase as error:
        raise Problem(503, str(error)) from None
    headers = {"Location": public_url(request, f"/v1/searches/{job.name}")}
    return models.JSON(_shown(searches, job, HitPage(after=0, size=PAGE)), 202, headers)


@router.get("/searches/{search}", response_model=SearchJob, responses=documented(401, 403, 404, 421, 422, 429, 503))
def search(request: Request, search: SearchName, page: Annotated[HitPage, Query()]) -> Response:
    """Return the state of a search, and a page of its hits."""
    searches = searches_of(request)
    return models.JSON(_shown(searches, _known(searches, search), page))


@router.delete("/searches/{search}", response_model=SearchJob, responses=documented(401, 403, 404, 421, 422, 429, 503))
def cancel(request: Request, search: SearchName) -> Response:
    """Stop a search and delete its result."""
    searches = searches_of(request)
    searches.cancel(search)
    return models.JSON(_shown(searches, _known(searches, search), HitPage(after=0, size=PAGE)))


def _known(searches: Searches, name: str) -> Search:
    job = searches.get(name)
    if job is None:
        raise Problem(404, "no search has this id, or its result has expired")
    return job


def _shown(searches: Searches, job: Search, page: HitPage) -> dict[str, Any]:
    last = page.after + page.size
    return {
        "id": job.name,
        "kind": job.kind,
        "state": job.state,
        "phase": job.phase,
        "fraction": round(job.fraction, 3),
        "reason": job.reason,
        "detail": job.detail,
        "exact": job.exact,
        "query_length": job.query_length,
        "searched": job.searched,
        "is_current": job.is_current,
        "created": job.created,
        "expires": searches.expires(job),
        "num_hits": len(job.hits) if job.state == "done" else None,
        "hits": [msgspec.Raw(hit) for hit in job.hits[page.after : last]],
        "next": last if last < len(job.hits) else None,
    }


def _structure(request: Request, wanted: StructureSearch) -> requests.Structure:
    if (wanted.name is None) == (wanted.structure is None):
        raise UsageError("give either `structure`, the text of a file, or `name`")
    if wanted.structure is not None:
        return requests.Structure(wanted.min_tm, text=wanted.structure.encode("utf-8", "replace"), chain=wanted.chain)
    name = wanted.name or ""

    def stored(served: Served) -> requests.Structure:
        structure = state_of(request).contents.structure(served, one_protein(served, name))
        backbone = backbone_of(structure).astype("<f4").tobytes()
        return requests.Structure(wanted.min_tm, sequence=structure.sequence, backbone=backbone)

    return read(request, stored)


def _embedding(request: Request, wanted: EmbeddingSearch) -> requests.Embedding:
    if (wanted.name is None) == (wanted.vector is None):
        raise UsageError("give either `vector` or `name`")
    if wanted.vector is not None:
        return requests.Embedding(np.array(wanted.vector, "<f4").tobytes())
    name = wanted.name or ""
    vector = read(request, lambda served: state_of(request).contents.embedding(served, one_protein(served, name)))
    return requests.Embedding(vector.astype("<f4").tobytes())
