"""Our own routes: clusters and their members, and novelty."""

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from foldatlas.atlas.serve import catalogue
from foldatlas.atlas.serve.current import Served
from foldatlas.atlas.serve.http import models
from foldatlas.atlas.serve.http.access import needs
from foldatlas.atlas.serve.http.models import JSON
from foldatlas.atlas.serve.http.problems import documented
from foldatlas.atlas.serve.http.proteins import ERRORS, Name
from foldatlas.atlas.serve.http.state import read
from foldatlas.atlas.serve.settings import READ

LEVEL = Path(description="by sequence identity of 90 % or 30 %, or by structure")
Level = Annotated[models.Level, LEVEL]
_LISTED = documented(401, 403, 421, 422, 429, 503)

router = APIRouter(prefix="/v1", tags=["clusters and novelty"], dependencies=[Depends(needs(READ))])


@router.get("/clusters/{level}", response_model=models.ClusterPage, responses=_LISTED)
def clusters(request: Request, level: Level, query: Annotated[models.ClusterPageQuery, Query()]) -> Response:
    """List clusters of a level. There are none before `foldatlas cluster` ran."""
    rows, last = read(
        request, lambda served: catalogue.clusters(served, level, query.min_size, query.after, query.size)
    )
    return JSON({"items": rows, "next": last})


@router.get("/clusters/{level}/{representative}", response_model=models.Cluster, responses=ERRORS)
def cluster(request: Request, level: Level, representative: uuid.UUID) -> Response:
    """Return the cluster of a representative."""
    return JSON(read(request, lambda served: catalogue.cluster(served, level, representative)))


@router.get("/clusters/{level}/{representative}/members", response_model=models.MemberPage, responses=ERRORS)
def members(
    request: Request, level: Level, representative: uuid.UUID, query: Annotated[models.MemberPageQuery, Query()]
) -> Response:
    """List the members of a cluster."""

    def found(served: Served) -> tuple[list[dict[str, Any]], uuid.UUID | None]:
        catalogue.cluster(served, level, representative)
        return catalogue.members(served, level, representative, query.after, query.size)

    rows, last = read(request, found)
    hidden = ("level", "cluster")
    return JSON({"items": [{k: v for k, v in row.items() if k not in hidden} for row in rows], "next": last})


@router.get("/novelty", response_model=models.NoveltyRuns, responses=_LISTED)
def runs(request: Request) -> Response:
    """List complete search runs: against which references the atlas was searched."""
    return JSON({"items": read(request, catalogue.novelty_runs)})


@router.get("/novelty/{name:path}", response_model=models.Novelty, responses=ERRORS)
def novelty(request: Request, name: Name) -> Response:
    """Return what a protein resembles most among known structures and sequences."""
    return JSON(read(request, lambda served: catalogue.novelty(served, catalogue.one_protein(served, name))))
