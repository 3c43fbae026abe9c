"""Programs of others against a real server, each in an environment of its own: two clients and schemathesis.

They are installed from the package index, so these tests need the network.
"""

import json
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from built_atlas import Built

pytestmark = pytest.mark.long

PROGRAMS = ("alphafetcher==0.2.0", "afdb-query==0.4.0", "schemathesis==4.32.5")
# Those that compare answers with what the document says of them, and find 5xx.
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance"
)
CLIENTS = """
import json, os, sys, tempfile
import requests

base = sys.argv[1]
get = requests.get  # alphafetcher has the host in its code
requests.get = lambda url, *rest, **more: get(url.replace("https://alphafold.ebi.ac.uk", base), *rest, **more)
from afdb_query import AlphaFold
from alphafetcher import AlphaFetcher

with tempfile.TemporaryDirectory() as folder:
    fetcher = AlphaFetcher(base_savedir=folder)
    fetcher.add_proteins(["a1", "a2", "nobody"])
    fetcher.fetch_metadata()
    fetcher.download_all_files(pdb=True, cif=True)
    files = {name: open(os.path.join(where, name)).read() for where, _, names in os.walk(folder) for name in names}
sequence = get(base + "/v1/sequences/a1").json()["sequence"]
with AlphaFold(base_url=base) as client:
    [hit] = client.search(sequence)
    plddt = hit.plddt()
    none = client.search("M" * 30)
found = {
    "failed": fetcher.failed_ids, "files": files, "length": len(sequence), "none": none, "mean": hit.global_plddt,
    "is_monomer": hit.is_monomer, "scores": plddt.scores, "numbers": plddt.residue_numbers,
}
sys.stdout.write(json.dumps(found))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs") / "environment"
    venv.create(folder, with_pip=True)
    subprocess.run([folder / "bin" / "pip", "install", "--quiet", *PROGRAMS], check=True)
    return folder / "bin"


@pytest.fixture(scope="module")
def url(indexed: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with every feature: without a search database or a model, their routes are documented 503."""
    foldatlas = [sys.executable, "-m", "foldatlas.jobs.cli"]
    searches = ["--search-folder", str(tmp_path_factory.mktemp("searches") / "search")]
    subprocess.run([*foldatlas, "index", str(indexed.root), "--search", *searches], check=True, capture_output=True)
    command = [*foldatlas, "serve", str(indexed.root), "--port", "0", "--fold-model", "nano", *searches]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        url = next(line for line in process.stderr if line.startswith("serving ")).split()[-1]
        while requests.get(f"{url}/v1/explore/columns").status_code == 503:  # its table is made in the background
            time.sleep(0.2)
        yield url
        process.terminate()


def test_clients_of_the_alphafold_database(environment: Path, url: str) -> None:
    """Metadata and files by id; look-up by sequence, and the pLDDT of each residue."""
    ran = subprocess.run([environment / "python", "-c", CLIENTS, url], check=True, capture_output=True, text=True)
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["failed"] == ["nobody"] and found["none"] == [] and found["is_monomer"]
    assert sorted(found["files"]) == ["a1.cif", "a1.pdb", "a2.cif", "a2.pdb"]
    assert found["files"]["a1.pdb"].startswith("TITLE") and found["files"]["a1.cif"].startswith("data_")
    assert len(found["scores"]) == found["length"] and found["numbers"] == list(range(1, found["length"] + 1))
    assert abs(sum(found["scores"]) / found["length"] - found["mean"]) < 0.01


def test_answers_are_those_of_the_document(environment: Path, url: str) -> None:
    """No 5xx, no status, media type or body that the OpenAPI document does not have."""
    command = [environment / "st", "run", f"{url}/openapi.json", "--checks", CHECKS, "--max-examples", "20"]
    ran = subprocess.run([*command, "--seed", "19", "--continue-on-failure"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-5_000:]
