"""The HTTP interface: the only home of FastAPI, Starlette and uvicorn.

app.py          the application: routes, protections, errors
state.py        what the routes of an application share
run.py          the uvicorn server, and its limits of slow clients
problems.py     errors as problem details (RFC 9457)
access.py       tokens: who may use what
protect.py      limits of hosts, bodies, times; security headers
metrics.py      counters for Prometheus, and the log of requests
conditional.py  entity tags and ranges of bytes
models.py       parameters and results, as OpenAPI describes them
examples.py     examples of parameters and fields, by name
proteins.py     our own routes: proteins, structures, batches
groups.py       our own routes: clusters, novelty
protein_page.py our own routes: a protein's page, its nearest known structure, its aligned errors
downloads.py    our own routes: downloads of a filter
sql.py          our own routes: SQL, and the tables that it sees
explore.py      our own routes: what the explorer asks
select.py       the filter of a request, with what a person typed evaluated in a confined process
pages.py        the pages of the explorer, and their assets
search.py       our own routes: searches as jobs
folds.py        our own routes and that of the ESM Metagenomic Atlas: folding on demand
esm.py          routes of the ESM Metagenomic Atlas
beacons.py      the summary of 3D-Beacons
alphafold.py    routes of the AlphaFold Protein Structure Database
"""
