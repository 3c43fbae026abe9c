"""Routes of the ESM Metagenomic Atlas and of the AlphaFold Database, with what their clients read."""

import hashlib

import numpy as np
import pyarrow.parquet as pq
from built_atlas import Built
from starlette.testclient import TestClient

from foldatlas.atlas.serve.http.beacons import Summary
from foldatlas.schemas.records import structure_id


def test_fetch_predicted_structure(client: TestClient) -> None:
    plain = client.get("/fetchPredictedStructure/a1")
    assert plain.content == client.get("/fetchPredictedStructure/a1.pdb").content
    assert plain.content == client.get("/v1/structures/a1").content
    assert client.get("/fetchPredictedStructure/a1.cif").text.startswith("data_")
    assert client.get("/fetchPredictedStructure/nobody.pdb").status_code == 404


def test_fetch_confidence_prediction_is_0_to_1(client: TestClient) -> None:
    body = client.get("/fetchConfidencePrediction/a1").json()
    ours = client.get("/v1/confidence/a1").json()
    assert np.allclose(np.array(body["plddt"]) * 100, ours["plddt"], atol=0.006)
    assert body["ptm"] == ours["ptm"] and "pae" not in body


def test_fetch_sequence(client: TestClient) -> None:
    assert client.get("/fetchSequence/a1").json()["sequence"] == client.get("/v1/sequences/a1").json()["sequence"]


def test_fetch_embedding_is_half_precision(client: TestClient, indexed: Built) -> None:
    stored = {
        row["structure_id"]: row["mean"]
        for file in (indexed.root / "embeddings").iterdir()
        for row in pq.read_table(file).to_pylist()
    }
    identity = structure_id("M")  # a3
    mean = next(values for key, values in stored.items() if key.bytes == identity)
    body = client.get("/fetchEmbedding/ESM2/a3.bin", headers={"Accept": "application/octet-stream"}).content
    assert np.array_equal(np.frombuffer(body, np.float16), np.array(mean, np.float16))
    assert np.allclose(client.get("/fetchEmbedding/ESM2/a3.json").json(), mean, rtol=1e-6)
    without = client.get("/fetchEmbedding/ESM2/a1.bin")
    assert without.status_code == 404 and "--embeddings" in without.json()["detail"]


def test_a_protein_of_version_1_is_named_by_md5(client: TestClient) -> None:
    sequence = client.get("/v1/sequences/a1").json()["sequence"]
    digest = hashlib.md5(sequence.encode(), usedforsecurity=False).hexdigest()
    route = "/esm/protein/api/v1alpha1/proteins/"
    body = client.get(f"{route}{digest}", params={"topk_features": 1, "fold_on_miss": "false"}).json()
    assert (body["sequence"], body["protein_hash"], body["folded_on_demand"]) == (sequence, digest, False)
    assert body["pdb"] == client.get("/v1/structures/a1").text
    assert client.get(f"{route}{'0' * 32}").status_code == 404
    assert client.get(f"{route}a1").status_code == 422


def test_a_prediction_names_files_that_exist(client: TestClient) -> None:
    [found] = client.get("/api/prediction/a1").json()
    sequence = client.get("/v1/sequences/a1").json()["sequence"]
    assert found["uniprotSequence"] == sequence and found["uniprotEnd"] == len(sequence)
    assert client.get(found["pdbUrl"]).text == client.get("/v1/structures/a1").text
    assert client.get(found["cifUrl"]).text.startswith("data_")
    confidence = client.get(found["plddtDocUrl"]).json()
    assert confidence["residueNumber"] == list(range(1, len(sequence) + 1))
    assert confidence["confidenceScore"] == client.get("/v1/confidence/a1").json()["plddt"]
    fractions = [found[f"fractionPlddt{part}"] for part in ("VeryLow", "Low", "Confident", "VeryHigh")]
    assert abs(sum(fractions) - 1) < 1e-5
    assert found["paeDocUrl"] is None
    assert len(client.get("/api/prediction/a0").json()) == 2  # one id in two sources


def test_a_summary_is_found_by_sequence(client: TestClient) -> None:
    sequence = client.get("/v1/sequences/a1").json()["sequence"]
    found = client.get("/api/sequence/summary", params={"id": sequence, "type": "sequence", "rows": 10}).json()
    [structure] = found["structures"]
    url = structure["summary"]["model_url"]
    assert client.get(url).text.startswith("data_")
    confidence = client.get(url.replace("-model_", "-confidence_").replace(".cif", ".json")).json()
    assert len(confidence["confidenceScore"]) == len(sequence)
    assert client.get("/api/sequence/summary", params={"id": sequence + "A"}).status_code == 404


def test_3d_beacons_summary_validates(client: TestClient) -> None:
    """With and without the suffix, under both addresses; one structure for each record of the name."""
    body = client.get("/3dbeacons/uniprot/summary/a1.json").json()
    found = Summary.model_validate(body, strict=True)
    assert body == client.get("/api/uniprot/summary/a1").json()
    sequence = client.get("/v1/sequences/a1").json()["sequence"]
    [protein] = client.get("/v1/proteins/a1").json()["items"]
    assert found.uniprot_entry.model_dump() == {
        "ac": "a1", "id": None, "uniprot_checksum": protein["sequence_crc64"], "sequence_length": len(sequence),
        "segment_start": 1, "segment_end": len(sequence),
    }  # fmt: skip
    [structure] = found.structures
    assert structure.summary.confidence_avg_local_score == protein["mean_plddt"]
    assert client.get(structure.summary.model_url).text.startswith("data_")
    assert len(client.get("/3dbeacons/uniprot/summary/a0.json").json()["structures"]) == 2
    assert client.get("/3dbeacons/uniprot/summary/nobody.json").status_code == 404
