"""Our own routes give what SQL and the stored structures give."""

import csv
import json
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import gemmi
import jsonschema
import numpy as np
import pytest
from built_atlas import Built
from starlette.testclient import TestClient

from foldatlas.atlas.reader import Atlas
from foldatlas.schemas.records import format_structure_id, structure_id


def sequence_of(built: Built, name: str) -> str:
    """The sequence that was put into the atlas under an id of the first source."""
    [sequence] = [record.sequence for given in built.given[:1] for source in given.values() for record in source
                  if record.id == name]  # fmt: skip
    return sequence


def identity_of(built: Built, name: str) -> str:
    return format_structure_id(structure_id(sequence_of(built, name)))


def problem(response: object) -> dict:
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == response.status_code and body["title"] and body["detail"]
    return body


def test_health_counts_the_index(client: TestClient, indexed: Built) -> None:
    with Atlas.open(indexed.root) as atlas:
        [(structures, proteins)] = atlas.sql(
            "SELECT (SELECT count(*) FROM scores), (SELECT count(*) FROM proteins)"
        ).rows()
    body = client.get("/healthz").json()
    assert (body["structures"], body["proteins"], body["status"]) == (structures, proteins, "ok")


def test_pages_are_all_rows_in_order(client: TestClient, indexed: Built) -> None:
    """Following `next` gives every row of proteins once; a page of all gives the same."""
    with Atlas.open(indexed.root) as atlas:
        expected = atlas.sql("SELECT structure_id, id, source FROM proteins ORDER BY ALL").rows()
    pages, after = [], {}
    while True:
        page = client.get("/v1/proteins", params={"size": 7, **after}).json()
        pages.append(page["items"])
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    found = [(uuid.UUID(row["structure_id"]), row["id"], row["source"]) for page in pages for row in page]
    assert found == expected and {len(page) for page in pages[:-1]} == {7}
    assert client.get("/v1/proteins", params={"size": 1000}).json()["items"] == [r for page in pages for r in page]


def test_the_link_header_is_the_next_page(client: TestClient) -> None:
    first = client.get("/v1/proteins", params={"size": 3, "min_plddt": 60})
    second = client.get(first.links["next"]["url"])
    after = {"size": 3, "min_plddt": 60, "after": first.json()["next"]}
    assert second.json() == client.get("/v1/proteins", params=after).json()


@pytest.mark.parametrize(
    ("query", "condition"),
    [
        ({"min_plddt": 70}, "mean_plddt >= 70"),
        ({"max_plddt": 60, "min_length": 20}, "mean_plddt <= 60 AND length >= 20"),
        ({"min_ptm": 0.5, "max_ptm": 0.9, "max_length": 50}, "ptm BETWEEN 0.5 AND 0.9 AND length <= 50"),
        ({"high_confidence": True}, "structure_id IN (SELECT structure_id FROM high_confidence)"),
        ({"high_confidence": False}, "structure_id NOT IN (SELECT structure_id FROM high_confidence)"),
        ({"novel": True}, "structure_id IN (SELECT structure_id FROM novel)"),
        ({"min_tm": 0.5}, "tm_query >= 0.5"),
        ({"representative": True}, "is_representative30"),
        ({"fragment": False}, "is_fragment IS NOT true"),
        ({"source": "file:///data/b.fasta"}, "source = 'file:///data/b.fasta'"),
        ({"min_fraction_confident": 0.9}, "fraction_confident >= 0.9"),
    ],
)
def test_a_filter_equals_its_sql(client: TestClient, indexed: Built, query: dict, condition: str) -> None:
    with Atlas.open(indexed.root) as atlas:
        rows = atlas.sql(f"SELECT id, source FROM proteins WHERE {condition} ORDER BY ALL").rows()
    page = client.get("/v1/proteins", params={"size": 1000, **query}).json()
    assert sorted((row["id"], row["source"]) for row in page["items"]) == rows


def test_values_of_a_protein_equal_the_csv(client: TestClient, indexed: Built, tmp_path) -> None:
    """Numbers are the shortest texts of single precision, as in CSV."""
    from foldatlas.jobs.query import query

    with open(tmp_path / "rows.csv", "wb") as file:
        query(indexed.root, "SELECT * FROM proteins WHERE id = 'a1'", format="csv", file=file)
    with open(tmp_path / "rows.csv", newline="") as file:
        [expected] = csv.DictReader(file)
    [found] = client.get("/v1/proteins/a1").json()["items"]
    for name, value in found.items():
        text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        assert text == expected[name] or float(text) == float(expected[name]), name


@pytest.mark.parametrize("spelled", ["a1", "a.fasta:a1", "file:///data/a.fasta:a1"])
def test_names_find_a_protein(client: TestClient, indexed: Built, spelled: str) -> None:
    [item] = client.get(f"/v1/proteins/{quote(spelled, safe='')}").json()["items"]
    assert item["structure_id"] == identity_of(indexed, "a1")


def test_a_hash_finds_a_protein_with_and_without_dashes(client: TestClient, indexed: Built) -> None:
    identity = identity_of(indexed, "a1")
    bodies = {client.get(f"/v1/proteins/{each}").text for each in (identity, identity.replace("-", ""))}
    assert len(bodies) == 1 and json.loads(bodies.pop())["items"][0]["id"] == "a1"


def test_ids_with_slashes_and_dots_are_found(client: TestClient) -> None:
    name = "sp|P12345|odd/../name"
    [item] = client.get(f"/v1/proteins/{quote(name, safe='')}").json()["items"]
    assert item["id"] == name and item["description"].startswith("a description")


def test_an_ambiguous_name_lists_structures(client: TestClient) -> None:
    """The id is in two sources with two sequences: a look-up gives both, a structure needs one."""
    items = client.get("/v1/proteins/a0").json()["items"]
    body = problem(client.get("/v1/structures/a0"))
    assert body["status"] == 409
    assert sorted(body["structure_ids"]) == sorted(item["structure_id"] for item in items)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("nobody", "'nobody'"), ("digits", "refused: digit"), ("a30", "failed: accepted"), ("a12", None)],
)
def test_what_has_no_structure_is_404_with_the_reason(client: TestClient, name: str, reason: str | None) -> None:
    response = client.get(f"/v1/proteins/{name}")
    if reason is None:  # accepted in another record
        assert response.status_code in (200, 404)
    else:
        assert problem(response)["status"] == 404 and reason in response.json()["detail"]


@pytest.mark.parametrize("format", ["pdb", "cif"])
def test_a_structure_is_read_by_gemmi(client: TestClient, indexed: Built, format: str) -> None:
    response = client.get("/v1/structures/a1", params={"format": format})
    assert response.headers["content-type"].startswith(f"chemical/x-{format}")
    read = gemmi.read_pdb_string if format == "pdb" else lambda t: gemmi.make_structure_from_block(
        gemmi.cif.read_string(t)[0]
    )  # fmt: skip
    atoms = np.array([site.atom.pos.tolist() for site in read(response.text)[0].all()])
    stored = indexed.positions[structure_id(sequence_of(indexed, "a1"))]
    assert np.abs(atoms - stored).max() <= 0.0051  # coordinates are stored in 0.01 A


def test_sequence_and_confidence_are_what_was_stored(client: TestClient, indexed: Built) -> None:
    sequence = sequence_of(indexed, "a1")
    assert client.get("/v1/sequences/a1").json()["sequence"] == sequence
    found = client.get("/v1/confidence/a1").json()
    assert np.abs(np.array(found["plddt"]) - indexed.plddt[structure_id(sequence)]).max() <= 0.0051
    assert abs(found["mean_plddt"] - np.mean(found["plddt"])) < 0.01


def test_an_unchanged_structure_is_not_sent_again(client: TestClient) -> None:
    first = client.get("/v1/structures/a1")
    again = client.get("/v1/structures/a1", headers={"If-None-Match": f'"other", W/{first.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    other = client.get("/v1/structures/a1?format=cif", headers={"If-None-Match": first.headers["etag"]})
    assert other.status_code == 200


@pytest.mark.parametrize(
    ("wanted", "status", "part"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=100-", 206, slice(100, None)),
        ("bytes=-20", 206, slice(-20, None)),
        ("bytes=5-99999999", 206, slice(5, None)),
        ("bytes=9-5", 200, slice(None)),
        ("bytes=0-1,5-6", 200, slice(None)),
        ("lines=0-1", 200, slice(None)),
        ("bytes=-", 200, slice(None)),
    ],
)
def test_ranges_are_parts_of_the_body(client: TestClient, wanted: str, status: int, part: slice) -> None:
    whole = client.get("/v1/structures/a1").content
    response = client.get("/v1/structures/a1", headers={"Range": wanted})
    assert (response.status_code, response.content) == (status, whole[part])


def test_a_range_beyond_the_end_is_416(client: TestClient) -> None:
    whole = client.get("/v1/structures/a1")
    response = client.get("/v1/structures/a1", headers={"Range": "bytes=99999999-"})
    assert problem(response)["status"] == 416
    assert response.headers["content-range"] == f"bytes */{len(whole.content)}"
    changed = client.get("/v1/structures/a1", headers={"Range": "bytes=0-9", "If-Range": '"other"'})
    assert (changed.status_code, changed.content) == (200, whole.content)


def test_a_batch_gives_rows_and_reasons(client: TestClient) -> None:
    body = client.post("/v1/batch/proteins", json={"ids": ["a1", "digits", "nobody", "b5", "a1"]}).json()
    assert [item["id"] for item in body["items"]] == ["a1", "b5"]
    assert body["missing"] == [
        {"id": "digits", "reason": "refused: digit"},
        {"id": "nobody", "reason": "unknown"},
    ]


def test_clusters_and_novelty_of_an_atlas_without_them(client: TestClient, indexed: Built) -> None:
    identity = identity_of(indexed, "a1")
    assert client.get("/v1/clusters/structure").json() == {"items": [], "next": None}
    assert problem(client.get(f"/v1/clusters/identity30/{identity}/members"))["status"] == 404
    assert client.get("/v1/novelty/a1").json() == {"structure_id": identity, "structures": None, "sequences": None}


def test_a_prefix_is_in_links(client_of: Callable[..., TestClient]) -> None:
    """Behind a proxy that publishes the server under a path, whether the proxy removes the path or not."""
    client = client_of(prefix="/atlas")
    for path in ("/v1/proteins", "/atlas/v1/proteins"):
        response = client.get(path, params={"size": 1})
        assert response.status_code == 200 and response.links["next"]["url"].startswith("/atlas/v1/proteins?")
    [found] = client.get("/api/prediction/a1").json()
    assert found["pdbUrl"].startswith("http://localhost:8000/atlas/files/AF-")


def test_errors_are_problem_details(client: TestClient) -> None:
    assert problem(client.get("/nowhere"))["status"] == 404
    assert problem(client.post("/v1/proteins"))["status"] == 405
    wrong = problem(client.get("/v1/proteins", params={"min_plddt": "high", "min_pldt": 3}))
    assert wrong["status"] == 422 and {fault["where"] for fault in wrong["errors"]} == {
        "query.min_plddt",
        "query.min_pldt",
    }


def test_examples_of_the_document_fit_its_schemas(client: TestClient) -> None:
    """And the fields of a protein, and the parameters of a page but the cursor, all have one."""
    document = client.get("/openapi.json").json()
    found = 0

    def examine(value: Any) -> None:
        nonlocal found
        if isinstance(value, dict):
            for example in value.get("examples", []) if isinstance(value.get("examples"), list) else []:
                found += 1
                schema = {**value, "components": document["components"]}
                assert not list(jsonschema.Draft202012Validator(schema).iter_errors(example)), (example, value)
            for each in value.values():
                examine(each)
        elif isinstance(value, list):
            for each in value:
                examine(each)

    examine(document)
    assert found > 300
    assert all("examples" in each for each in document["components"]["schemas"]["Protein"]["properties"].values())
    parameters = document["paths"]["/v1/proteins"]["get"]["parameters"]
    assert [each["name"] for each in parameters if "examples" not in each["schema"]] == ["after"]
