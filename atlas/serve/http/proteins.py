"""Our own routes: proteins by name and by filter, structures, sequences, confidence, and batches of them."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response, StreamingResponse

from foldatlas.atlas.serve import catalogue
from foldatlas.atlas.serve.catalogue import NotFoundError, find_proteins, one_protein, protein_rows
from foldatlas.atlas.serve.contents import FORMATS, plddt_values, structure_etag
from foldatlas.atlas.serve.current import Served
from foldatlas.atlas.serve.downloads import prepared, tar_of
from foldatlas.atlas.serve.filters import parse_cursor
from foldatlas.atlas.serve.http import examples, models
from foldatlas.atlas.serve.http.access import needs
from foldatlas.atlas.serve.http.conditional import conditional
from foldatlas.atlas.serve.http.models import JSON
from foldatlas.atlas.serve.http.problems import documented
from foldatlas.atlas.serve.http.select import Select, wanted_of, with_selection
from foldatlas.atlas.serve.http.state import Download, read, state_of
from foldatlas.atlas.serve.settings import READ

NAME = Path(
    description="id, `source:id`, structure_id or MGYP accession",
    max_length=models.MAX_NAME_LENGTH,
    examples=[examples.ID],
)
Name = Annotated[str, NAME]

router = APIRouter(prefix="/v1", tags=["proteins"], dependencies=[Depends(needs(READ))])
ERRORS = documented(400, 401, 403, 404, 409, 421, 422, 429, 503)


@router.get("/proteins", response_model=models.ProteinPage, responses=documented(400, 401, 403, 421, 422, 429, 503))
async def proteins(request: Request, query: Annotated[models.PageQuery, Query()]) -> Response:
    """List proteins that meet all conditions, in pages."""
    after = parse_cursor(query.after) if query.after else None

    def page(select: Select) -> Response:
        rows, last = read(
            request,
            lambda served: catalogue.page(served, wanted_of(state_of(request), served, select), after, query.size),
        )
        headers = {}
        if last is not None:
            url = request.url.include_query_params(after=last.text())
            headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
        return JSON({"items": rows, "next": last.text() if last is not None else None}, headers=headers)

    return await with_selection(request, query, page)


@router.get("/proteins/{name:path}", response_model=models.ProteinList, responses=ERRORS)
def protein(request: Request, name: Name) -> Response:
    """Return all records with a structure that a name means."""

    def rows(served: Served) -> list[dict[str, Any]]:
        found = find_proteins(served, name)
        if not found:
            one_protein(served, name)  # raises, with the reason
        return protein_rows(served, found)

    return JSON({"items": read(request, rows)})


@router.get(
    "/structures/{name:path}",
    response_class=Response,
    responses={
        **ERRORS,
        **documented(416),
        200: {
            "description": "the structure",
            "content": {each: {"schema": {"type": "string"}} for each in FORMATS.values()},
        },
        206: {"description": "a part of it"},
        304: {"description": "it did not change"},
    },
)
def structure(request: Request, name: Name, format: models.Format = "pdb") -> Response:
    """Return the structure of a protein as PDB or mmCIF. B-factors are pLDDT, 0 to 100."""
    return structure_response(request, name, format)


def structure_response(request: Request, name: str, format: str) -> Response:
    """Return a structure's file, for every route that has one."""
    contents = state_of(request).contents

    def response(served: Served) -> Response:
        found = one_protein(served, name)
        headers = {"Content-Disposition": f'inline; filename="{found.structure_id}.{format}"'}
        return conditional(
            request,
            structure_etag(served, found, format),
            lambda: contents.structure_file(served, found, format),
            FORMATS[format],
            headers,
        )

    return read(request, response)


@router.get("/sequences/{name:path}", response_model=models.Sequence, responses=ERRORS)
def sequence(request: Request, name: Name) -> Response:
    """Return the sequence of a protein."""

    def found(served: Served) -> dict[str, Any]:
        one = one_protein(served, name)
        return {
            "id": one.id,
            "structure_id": one.structure_id,
            "sequence": state_of(request).contents.sequence(served, one),
        }

    return JSON(read(request, found))


@router.get("/confidence/{name:path}", response_model=models.Confidence, responses=ERRORS)
def confidence(request: Request, name: Name) -> Response:
    """Return pLDDT of each residue, mean pLDDT and pTM of a protein."""

    def found(served: Served) -> dict[str, Any]:
        one = one_protein(served, name)
        return {
            "id": one.id,
            "structure_id": one.structure_id,
            "mean_plddt": one.mean_plddt,
            "ptm": one.ptm,
            "plddt": plddt_values(state_of(request).contents.structure(served, one)),
        }

    return JSON(read(request, found))


@router.post(
    "/batch/proteins", response_model=models.Batch, responses=documented(400, 401, 403, 408, 413, 421, 422, 429, 503)
)
def batch(request: Request, names: models.Names) -> Response:
    """Return the proteins that names mean, and why others have no structure."""

    def rows(served: Served) -> dict[str, Any]:
        items: list[dict[str, Any]] = []
        missing = []
        for name in dict.fromkeys(names.ids):
            found = find_proteins(served, name)
            items += protein_rows(served, found)
            if not found:
                missing.append(name)
        states = catalogue.states(served, missing) if missing else {}
        return {"items": items, "missing": [{"id": name, "reason": states[name]} for name in missing]}

    return JSON(read(request, rows))


@router.post(
    "/batch/structures",
    response_class=Response,
    responses={
        **documented(400, 401, 403, 404, 408, 413, 421, 422, 429, 503),
        200: {"description": "a tar of structure files and manifest.jsonl", "content": {"application/x-tar": {}}},
    },
)
def structures(request: Request, names: models.StructureNames) -> Response:
    """Return the structures that names mean, as a tar whose last member is manifest.jsonl."""
    state = state_of(request)
    download = Download(state)
    try:
        served = download.served
        found = {}
        for name in dict.fromkeys(names.ids):
            for one in find_proteins(served, name):
                found[one.structure_id, one.id, one.source] = one
        if not found:
            raise NotFoundError("none of these names has a structure")
        pieces = prepared(tar_of(served, state.contents, iter([found[key] for key in sorted(found)]), names.format))
        headers = {"Content-Disposition": 'attachment; filename="structures.tar"'}
        return StreamingResponse(download.stream(pieces), 200, headers, "application/x-tar")
    except BaseException:
        download.close()
        raise
