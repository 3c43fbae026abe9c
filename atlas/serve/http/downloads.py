"""Our own routes: downloads of the proteins that meet a filter, as tar, Parquet, FASTA or a manifest."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response, StreamingResponse

from foldatlas.atlas.serve import downloads
from foldatlas.atlas.serve.contents import Contents
from foldatlas.atlas.serve.current import Served
from foldatlas.atlas.serve.filters import Key, Matching, ProteinFilter, parse_cursor
from foldatlas.atlas.serve.http import models
from foldatlas.atlas.serve.http.access import needs
from foldatlas.atlas.serve.http.problems import documented
from foldatlas.atlas.serve.http.select import Select, wanted_of, with_selection
from foldatlas.atlas.serve.http.state import Download, state_of
from foldatlas.atlas.serve.settings import READ

router = APIRouter(prefix="/v1/downloads", tags=["downloads"], dependencies=[Depends(needs(READ))])


def _documented(what: str, media_type: str) -> dict[int | str, dict[str, Any]]:
    return {
        **documented(400, 401, 403, 421, 422, 429, 503),
        200: {"description": what, "content": {media_type: {"schema": {"type": "string", "format": "binary"}}}},
    }


async def _stream(
    request: Request,
    query: models.DownloadQuery,
    pieces: Callable[[Served, Contents, ProteinFilter | Matching, Key | None, int], Iterator[bytes]],
    name: str,
    media_type: str,
) -> Response:
    after = parse_cursor(query.after) if query.after else None
    state = state_of(request)

    def begin(select: Select) -> Response:
        download = Download(state)
        try:
            wanted = wanted_of(state, download.served, select)
            begun = downloads.prepared(pieces(download.served, state.contents, wanted, after, query.limit))
        except BaseException:
            download.close()
            raise
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return StreamingResponse(download.stream(begun), 200, headers, media_type)

    return await with_selection(request, query, begin)


@router.get(
    "/structures.tar",
    response_class=Response,
    responses=_documented("structure files, and manifest.jsonl as the last member", "application/x-tar"),
)
async def tar(request: Request, query: Annotated[models.TarQuery, Query()]) -> Response:
    """Download structures as a tar. If manifest.jsonl is not in it, it was cut off: resume with `after`."""
    return await _stream(
        request, query, partial(downloads.tar_stream, format=query.format), "structures.tar", "application/x-tar"
    )


@router.get(
    "/proteins.parquet",
    response_class=Response,
    responses=_documented("rows of proteins, with sequences and cursors", "application/vnd.apache.parquet"),
)
async def parquet(request: Request, query: Annotated[models.DownloadQuery, Query()]) -> Response:
    """Download proteins as Parquet: the columns of a page, the sequence, and a cursor."""
    return await _stream(request, query, downloads.parquet_stream, "proteins.parquet", "application/vnd.apache.parquet")


@router.get(
    "/proteins.fasta",
    response_class=Response,
    responses=_documented("a record of FASTA per protein, with its structure_id", "text/x-fasta"),
)
async def fasta(request: Request, query: Annotated[models.DownloadQuery, Query()]) -> Response:
    """Download sequences as FASTA. Ids are percent-encoded where they have spaces or other than printable ASCII."""
    return await _stream(request, query, downloads.fasta_stream, "proteins.fasta", "text/x-fasta")


@router.get(
    "/manifest.jsonl",
    response_class=Response,
    responses=_documented("a line of JSON per record", "application/jsonl"),
)
async def manifest(request: Request, query: Annotated[models.DownloadQuery, Query()]) -> Response:
    """List what a download would have: a line of JSON per record, with the cursor to resume after it."""

    def pieces(
        served: Served, contents: Contents, wanted: ProteinFilter | Matching, after: Key | None, limit: int
    ) -> Iterator[bytes]:
        return downloads.manifest_stream(served, wanted, after, limit)

    return await _stream(request, query, pieces, "manifest.jsonl", "application/jsonl")
