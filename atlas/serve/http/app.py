"""The application: routes, protections around them, errors, and the OpenAPI document."""

from typing import Any, Final

from fastapi import Depends, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from foldatlas.atlas.serve.cage.processes import SqlProcesses
from foldatlas.atlas.serve.current import CurrentAtlas
from foldatlas.atlas.serve.folds import Folds
from foldatlas.atlas.serve.http import (
    alphafold,
    downloads,
    esm,
    explore,
    folds,
    groups,
    models,
    pages,
    problems,
    protein_page,
    proteins,
    search,
    sql,
)
from foldatlas.atlas.serve.http.access import Failures, needs
from foldatlas.atlas.serve.http.examples import add_examples
from foldatlas.atlas.serve.http.metrics import Counted, Metrics
from foldatlas.atlas.serve.http.protect import Bodies, Headers, HostList, Prefix
from foldatlas.atlas.serve.http.state import State, state_of
from foldatlas.atlas.serve.search.jobs import NoDatabase, Searches
from foldatlas.atlas.serve.settings import FEATURES, FOLD, METRICS, READ, SEARCH, SQL, ServerSettings
from foldatlas.schemas.errors import DamagedAtlasError
from foldatlas.schemas.version import program_version

_DESCRIPTION: Final = """Predicted protein structures with their confidence, clusters and novelty.

Names are ids of records, `source:id`, structure_ids (md5 of the sequence, with or without dashes) or MGYP accessions.
pLDDT is 0 to 100, pTM and TM-scores are 0 to 1. null means: not known, not searched, or no hit. Errors are problem
details (RFC 9457).
"""

_FEATURES: Final = {
    "/v1/sql": SQL,
    "/v1/search": SEARCH,
    "/v1/searches": SEARCH,
    "/v1/searches/{search}": SEARCH,
    "/foldSequence/v1/pdb/": FOLD,
    "/v1/folds": FOLD,
    "/v1/folds/{job}": FOLD,
    "/v1/folds/{job}/structure": FOLD,
    "/metrics": METRICS,
}  # of other paths: read
_ERRORS: Final = problems.documented(405, 422, 431)


def create_app(
    current: CurrentAtlas,
    settings: ServerSettings,
    processes: SqlProcesses | None = None,
    searches: Searches | None = None,
    folding: Folds | None = None,
) -> FastAPI:
    """Return the application that serves an atlas.

    Without `processes` for statements, or if they have a problem, SQL is off; without `searches` and
    `folding` (on demand) these are off.
    """
    app = FastAPI(
        title="FoldAtlas", version=program_version(), description=_DESCRIPTION,
        docs_url=None, redoc_url=None, openapi_url="/openapi.json", redirect_slashes=False,
    )  # fmt: skip
    metrics = Metrics()
    app.state.shared = State(current, settings, processes, searches, folding)
    app.state.failures = Failures(settings.limits.failed_tokens)
    if searches is not None:
        searches.on_end = metrics.search_ended
    problems.add_handlers(app)
    routes = (proteins, groups, protein_page, downloads, explore, sql, search, folds, esm, alphafold, pages)
    for router in (module.router for module in routes):
        app.include_router(router)
    _add_operation(app, metrics)
    # The last that is added runs first.
    app.add_middleware(Bodies, limits=settings.limits, larger={"/v1/searches": settings.limits.search_body_bytes})
    if settings.origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=settings.origins, allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Range", "If-None-Match"], expose_headers=["ETag", "Link", "Content-Range"],
        )  # fmt: skip
    app.add_middleware(HostList, hosts=settings.accepted_hosts())
    app.add_middleware(Headers)
    app.add_middleware(Prefix, prefix=settings.prefix)
    app.add_middleware(Counted, metrics=metrics)
    app.openapi = lambda: _openapi(app, settings)  # type: ignore[method-assign]
    return app


def _add_operation(app: FastAPI, metrics: Metrics) -> None:
    @app.get("/healthz", tags=["operation"], response_model=models.Health, responses=problems.documented(421))
    def healthz(request: Request) -> Response:
        """Say whether the server can answer, what it serves, and who may use what. Needs no token."""
        state = state_of(request)
        with state.current.use() as served:
            problem = state.current.problem
            return models.JSON(
                {
                    "status": "degraded" if problem else "ok",
                    "structures": served.num_structures,
                    "proteins": served.num_proteins,
                    "indexed": served.indexed,
                    "problem": problem,
                    "sql": _sql_problem(state.sql),
                    "search": _search_problem(state.searches),
                    "fold": "folding was not started" if state.folds is None else None,
                    "access": {feature: state.settings.access(feature) for feature in FEATURES},
                }
            )

    @app.get(
        "/metrics",
        tags=["operation"],
        response_class=Response,
        dependencies=[Depends(needs(METRICS))],
        responses={
            200: {"description": "counters", "content": {"text/plain": {"schema": {"type": "string"}}}},
            **problems.documented(401, 403, 421, 429),
        },
    )
    def counters(request: Request) -> Response:
        """Return counters for Prometheus."""
        with state_of(request).current.use() as served:
            metrics.structures.set(served.num_structures)
            metrics.indexes.set(served.number)
        if (searches := state_of(request).searches) is not None:
            for state, number in searches.counts().items():
                metrics.searches_now.labels(state).set(number)
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _sql_problem(processes: SqlProcesses | None) -> str | None:
    return "SQL was not started" if processes is None else processes.problem


def _search_problem(searches: Searches | None) -> str | None:
    if searches is None:
        return "searches were not started"
    try:
        searches.database()
    except (NoDatabase, DamagedAtlasError) as error:
        return str(error) if isinstance(error, NoDatabase) else "the search database cannot be read"
    return None


def _openapi(app: FastAPI, settings: ServerSettings) -> dict[str, Any]:
    """Return the OpenAPI document, with problem details in place of FastAPI's own errors."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = schema["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        schemas["ProblemDetails"] = models.ProblemDetails.model_json_schema()
        for path, methods in schema["paths"].items():
            for operation in methods.values():
                operation["responses"] |= {str(status): _ERRORS[status] for status in (405, 422, 431)}
                if settings.access(_FEATURES.get(path, READ)) == "public":
                    operation.pop("security", None)
        add_examples(schema)
        if settings.prefix:
            schema["servers"] = [{"url": settings.prefix}]
        app.openapi_schema = schema
    return app.openapi_schema
