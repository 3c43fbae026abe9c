"""A client of `foldatlas serve`, which needs only requests, and pyarrow for tables.

atlas = Client("http://127.0.0.1:8000", token="...")
atlas.structure("P12345")
best = list(atlas.proteins(min_plddt=70, min_ptm=0.7))
atlas.search("sequence", sequence="MKTAYIAKQRQ...")["hits"]
atlas.sql("SELECT count(*) AS n FROM proteins WHERE length < $longest", longest=100)
"""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import requests

from foldatlas.schemas.errors import FoldAtlasError

TIMEOUT: Final = 60.0  # seconds without a byte from the server
_PIECE: Final = 1 << 20


class ServerError(FoldAtlasError):
    """An answer that is an error: `status`, and `problem`, its problem details."""

    def __init__(self, status: int, problem: dict[str, Any]):
        super().__init__(f"{status}: {problem.get('detail') or problem.get('title') or 'no details'}")
        self.status = status
        self.problem = problem


class Client:
    """Requests to one server. Errors raise ServerError; those of the connection are of requests.

    A request whose answer is 503 with Retry-After, such as while the server reads a new index, is sent again, within
    `timeout` seconds.
    """

    def __init__(self, url: str, *, token: str | None = None, timeout: float = TIMEOUT):
        self._url = url.rstrip("/")
        self._timeout = timeout
        self._session = requests.Session()
        if token is not None:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def health(self) -> dict[str, Any]:
        """Return the state of the server."""
        return dict(self._get("/healthz").json())

    def find(self, name: str) -> list[dict[str, Any]]:
        """Return all records with a structure that a name means: rows of `proteins`."""
        return list(self._get(f"/v1/proteins/{quote(name, safe='')}").json()["items"])

    def proteins(self, **conditions: Any) -> Iterator[dict[str, Any]]:
        """Yield the proteins that meet all conditions (`min_plddt=70`), page by page."""
        query = {"size": 500, **conditions}
        while True:
            page = self._get("/v1/proteins", query).json()
            yield from page["items"]
            if page["next"] is None:
                return
            query["after"] = page["next"]

    def structure(self, name: str, format: str = "pdb") -> str:
        """Return the structure of a protein as PDB or mmCIF ("cif")."""
        return self._get(f"/v1/structures/{quote(name, safe='')}", {"format": format}).text

    def sequence(self, name: str) -> str:
        """Return the sequence of a protein."""
        return str(self._get(f"/v1/sequences/{quote(name, safe='')}").json()["sequence"])

    def confidence(self, name: str) -> dict[str, Any]:
        """Return `plddt` of each residue (0 to 100), `mean_plddt` and `ptm` of a protein."""
        return dict(self._get(f"/v1/confidence/{quote(name, safe='')}").json())

    def batch(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the rows of at most 500 names as `items`, and names without a structure as `missing`."""
        return dict(self._request("POST", "/v1/batch/proteins", json={"ids": list(names)}).json())

    def sql(self, sql: str, *, rows: int = 10_000, **params: Any) -> Any:
        """Return the result of one SELECT as a table of pyarrow. `params` are values of `$name` in it."""
        import pyarrow as pa

        asked = {"sql": sql, "params": params, "format": "arrow", "rows": rows}
        return pa.ipc.open_stream(self._request("POST", "/v1/sql", json=asked).content).read_all()

    def search(self, kind: str, *, seconds: float = 600.0, **query: Any) -> dict[str, Any]:
        """Search the atlas and return the search with all its `hits`, when it has ended.

        `kind` and `query` are as in docs/api.md: `search("sequence", sequence="MKV...", limit=10)`. Its `state` is
        done, or failed with a `reason`. It is cancelled if this is interrupted, and after `seconds`, with TimeoutError.
        """
        path = f"/v1/searches/{self._request('POST', '/v1/searches', json={'kind': kind, **query}).json()['id']}"
        deadline, wait = time.monotonic() + seconds, 0.05
        try:
            while (found := dict(self._get(path, {"size": 1_000}).json()))["state"] in ("waiting", "running"):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the search has not ended after {seconds:g} s")
                time.sleep(wait)
                wait = min(2 * wait, 2.0)
            return found
        except BaseException:
            with contextlib.suppress(requests.RequestException, ServerError):
                self._request("DELETE", path)
            raise

    def download(self, path: str | Path, what: str = "structures.tar", **conditions: Any) -> None:
        """Write a download of the proteins that meet all conditions to a file.

        `what` is structures.tar, proteins.parquet, proteins.fasta or manifest.jsonl. The file appears when the answer
        is complete.
        """
        part = Path(f"{path}.part")
        response = self._request("GET", f"/v1/downloads/{what}", params=conditions, stream=True)
        with response, part.open("wb") as file:
            for piece in response.iter_content(_PIECE):
                file.write(piece)
        os.replace(part, path)

    def _get(self, path: str, query: dict[str, Any] | None = None) -> requests.Response:
        return self._request("GET", path, params=query)

    def _request(self, method: str, path: str, **options: Any) -> requests.Response:
        deadline = time.monotonic() + self._timeout
        while True:
            response = self._session.request(method, self._url + path, timeout=self._timeout, **options)
            wait = response.headers.get("Retry-After", "") if response.status_code == 503 else ""
            if not wait.isdigit() or time.monotonic() + int(wait) > deadline:
                break
            response.close()
            time.sleep(int(wait))
        if response.status_code >= 400:
            try:
                problem = dict(response.json())
            except ValueError:
                problem = {}
            raise ServerError(response.status_code, problem)
        return response
