"""Every command on an atlas of format 2 whose scores can be NULL (helpers/imported_atlas.py).

Expected values come from the structures that the atlas was made of, or from its Parquet files, read by pyarrow alone.
"""

import contextlib
import json
import shutil
import tarfile
import uuid
from collections.abc import Callable
from pathlib import Path

import gemmi
import numpy as np
import pyarrow.parquet as pq
import pytest
from commands import Done, in_this_process
from imported_atlas import Imported, made, make_imported, proteins
from msgspec import structs
from starlette.testclient import TestClient

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.reference.folder import ReferenceFolder
from foldatlas.atlas.reference.from_atlas import licence_of
from foldatlas.atlas.reference.reader import Reference
from foldatlas.atlas.serve.cage.processes import SqlLimits, SqlProcesses
from foldatlas.atlas.serve.current import CurrentAtlas
from foldatlas.atlas.serve.http.app import create_app
from foldatlas.atlas.serve.settings import ServerSettings
from foldatlas.atlas.verify.atlas import verify
from foldatlas.schemas.formats import IMPORTED_SETTINGS, table_schema, tables_of
from foldatlas.schemas.manifest import FileEntry, encode
from foldatlas.schemas.records import num_atoms

SERVER = "http://localhost"
ROUTES = (
    "/healthz", "/v1/proteins", "/v1/novelty", "/v1/schema", "/v1/clusters/{level}",
    "/v1/clusters/{level}/{representative}",
    "/v1/clusters/{level}/{representative}/members", "/v1/downloads/manifest.jsonl", "/v1/downloads/proteins.parquet",
    "/v1/downloads/structures.tar", "/v1/proteins/{name}", "/v1/structures/{name}", "/v1/sequences/{name}",
    "/v1/confidence/{name}", "/v1/novelty/{name}", "/v1/explore/proteins/{name}", "/v1/superposed/{name}",
    "/v1/pae/{name}", "/fetchPredictedStructure/{name}", "/fetchConfidencePrediction/{name}", "/fetchSequence/{name}",
    "/fetchEmbedding/ESM2/{name}", "/esm/protein/api/v1alpha1/proteins/{protein_hash}", "/api/prediction/{name}",
    "/api/sequence/summary", "/files/{file}",
)  # fmt: skip


@pytest.fixture(scope="module")
def given() -> dict[str, Imported]:
    return {one.id: one for one in proteins()}


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The atlas with an index, clusters, a search against a reference of itself, and a map. Read only."""
    root = tmp_path_factory.mktemp("imported") / "atlas"
    make_imported(root)
    done("index", root)
    done("reference", root, root.parent / "known")
    done("cluster", root)
    done("novelty", root, "--reference", root.parent / "known")
    done("project", root)
    return root


@pytest.fixture
def copied(atlas: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(atlas, tmp_path / "copied"))


def done(*words: str | Path, code: int = 0) -> Done:
    result = in_this_process(*words)
    assert result.returncode == code and "Traceback" not in result.stderr, result.stderr
    return result


def column(atlas: Path, table: str, name: str) -> dict[bytes, object]:
    """Values of a column of the shards' files by structure_id, read by pyarrow alone."""
    found: dict[bytes, object] = {}
    for path in sorted((atlas / table).glob("*.parquet")):
        rows = pq.read_table(path, columns=["structure_id", name])
        ids = rows.column("structure_id").combine_chunks().storage.to_pylist()  # type: ignore[attr-defined]
        found.update(zip(ids, rows.column(name).to_pylist(), strict=True))
    return found


def names(rows: list[tuple[object, ...]]) -> set[object]:
    return {row[0] for row in rows}


# Formats


def test_settings_decide_the_format(atlas: Path, tmp_path: Path) -> None:
    assert AtlasFolder(atlas).header().format == 2
    assert AtlasFolder(atlas).header().settings == IMPORTED_SETTINGS
    text = json.loads((atlas / "atlas.json").read_text())
    del text["document_sha256"]
    (tmp_path / "atlas.json").write_text(json.dumps({**text, "format": 1}))
    refused = done("status", tmp_path, code=3)
    assert "an atlas of format 1 cannot have the settings of model 'imported'" in refused.stderr


# SQL


def test_confidence_without_ptm_is_by_plddt_alone(atlas: Path, given: dict[str, Imported]) -> None:
    with Atlas.open(atlas) as opened:
        basis = dict(opened.query("SELECT id, confidence_basis FROM proteins").rows())
        high = names(opened.query("SELECT id FROM high_confidence").rows())
        scores = dict(opened.query("SELECT structure_id, mean_plddt FROM scores").rows())
        ptm = dict(opened.query("SELECT structure_id, ptm FROM scores").rows())
    for name, one in given.items():
        expected = "plddt" if one.ptm is None else "plddt_and_ptm"
        assert basis[name] == (None if np.isnan(one.plddt).all() else expected)
    assert high == {"full", "again", "plddt", "part", "unknown"}
    assert {one.bytes: value for one, value in scores.items()} == column(atlas, "scores", "mean_plddt")
    assert {one.bytes: value for one, value in ptm.items()} == column(atlas, "scores", "ptm")


def test_index_has_the_origin_of_each_structure(atlas: Path, given: dict[str, Imported]) -> None:
    with Atlas.open(atlas) as opened:
        rows = opened.query("SELECT id, model, licence, origin, path, plddt_source FROM proteins").rows()
        table = opened.query("FROM provenance ORDER BY structure_id").arrow()
        files = opened.query("SELECT id, path, round(file_mean_plddt) FROM records WHERE id LIKE '%a_n'").rows()
        described = opened.schema().rows()
    found = {row[0]: row[1:] for row in rows}
    for name, one in given.items():
        stated = one.stated
        source = "none" if np.isnan(one.plddt).all() else "declared"
        assert found[name] == (stated["model"], stated["licence"], stated["origin"], f"{name}.pdb", source)
    assert found["again"][:3] == found["full"][:3] and found["again"][3] == "again.pdb"
    assert ("again", "again.pdb", 60.0) in files  # its own model was set aside
    assert table.column("unobserved").to_pylist().count(2) == 1 and table.num_rows == len(given)
    of_tables = {(row[1], row[2]) for row in described if row[0] == "column" and not row[6]}
    assert not {name for table, name in of_tables if table in ("provenance", "records", "scores", "proteins")}


def test_low_confidence_is_null_without_plddt(atlas: Path, given: dict[str, Imported]) -> None:
    with Atlas.open(atlas) as opened:
        rows = opened.query("SELECT id, fraction_low, fraction_very_low FROM proteins WHERE id <> 'again'").rows()
    for name, low, very_low in rows:
        plddt = np.rint(given[name].plddt * 100) / 100  # type: ignore[index]
        if np.isnan(plddt).all():
            assert low is None and very_low is None
        else:
            assert very_low == pytest.approx((plddt < 50).mean(), abs=1e-6)
            assert low == pytest.approx(((plddt >= 50) & (plddt <= 70)).mean(), abs=1e-6)


def test_macros_on_missing_atoms_and_plddt(atlas: Path, given: dict[str, Imported]) -> None:
    sql = (
        "SELECT radius_of_gyration(c_alphas(s)), len(list_filter(residue_plddt(s), lambda v: v IS NULL)), "
        "(SELECT count(*) FROM atoms($name) WHERE x IS NOT NULL), pdb_text(s), mmcif(s, $name, NULL), tm_score(s, s) "
        "FROM structure($name) AS s"
    )
    with Atlas.open(atlas) as opened:
        for name in ("gaps", "trace", "part", "bare"):
            one = given[name]
            radius, missing, atoms, pdb, cif, score = opened.query(sql, {"name": name}).rows()[0]
            alphas = one.alphas[~np.isnan(one.alphas).any(axis=1)]
            assert radius == pytest.approx(np.sqrt(((alphas - alphas.mean(axis=0)) ** 2).sum(axis=1).mean()), abs=1e-6)
            assert missing == np.isnan(one.plddt).sum()
            present = int((~np.isnan(one.positions).any(axis=1)).sum())
            assert atoms == present == gemmi.read_pdb_string(pdb)[0].count_atom_sites()
            block = gemmi.cif.read_string(cif).sole_block()
            assert len(block.find(["_atom_site.id"])) == present
            assert score == pytest.approx(1, abs=1e-6)
            assert ("PLDDT OF THE RESIDUE" in pdb) == (name == "part")


# Files


def test_structure_files_state_what_is_known(atlas: Path, tmp_path: Path, given: dict[str, Imported]) -> None:
    for format in ("pdb", "cif"):
        done("export", atlas, tmp_path / format, "--format", format)
    for name, one in given.items():
        text = (tmp_path / "pdb" / f"{name}.pdb").read_text()
        has_plddt = not np.isnan(one.plddt).all()
        assert ("PTM:" in text) == (one.ptm is not None)
        assert ("MEAN PLDDT:" in text) == has_plddt == ("B-FACTOR: PLDDT OF THE RESIDUE" in text)
        assert ("PREDICTED STRUCTURE" in text) == ("THEORETICAL MODEL" in text) == (one.stated["model"] is not None)
        block = gemmi.cif.read_file(str(tmp_path / "cif" / f"{name}.cif")).sole_block()
        local = {
            row.str(0): float(row.str(1))
            for row in block.find("_ma_qa_metric_local.", ["label_seq_id", "metric_value"])
        }
        expected = {str(n): round(float(v), 2) for n, v in enumerate(one.plddt, 1) if not np.isnan(v)}
        assert local == pytest.approx(expected, abs=0.006)
        metrics = {row.str(0) for row in block.find("_ma_qa_metric.", ["name"])}
        assert metrics == ({"pLDDT"} if has_plddt else set()) | ({"pTM"} if one.ptm is not None else set())
        title = block.find_value("_struct.title")
        assert ("prediction" in title) == (one.stated["model"] is not None)


def test_exports_have_licences_and_bundles(atlas: Path, tmp_path: Path) -> None:
    done("export", atlas, tmp_path / "tar", "--format", "tar")
    bundles = {path.name for path in (tmp_path / "tar").glob("*.tar.gz")}
    assert {"ptm_unknown_plddt_80-90.tar.gz", "ptm_unknown_plddt_unknown.tar.gz"} < bundles
    with tarfile.open(tmp_path / "tar" / "ptm_unknown_plddt_unknown.tar.gz") as tar:
        assert {Path(name).stem for name in tar.getnames()} == {"bare", "gaps", "trace"}
    licence = (tmp_path / "tar" / "LICENCE").read_text()
    assert "CC-BY-4.0: 2 of AlphaFold DB, AlphaFold Monomer v2.0, version 4" in licence
    assert "CC-BY-SA-4.0: 4 of ESM Atlas, ESMFold" in licence and "unknown: 3 of" in licence
    citation = (tmp_path / "tar" / "CITATION.bib").read_text()
    assert "jumper2021alphafold" in citation and "lin2023esmfold" in citation
    done("export", atlas, tmp_path / "own", "--format", "pdb", "--where", "origin = 'AlphaFold DB'")
    assert "lin2023esmfold" not in (tmp_path / "own" / "CITATION.bib").read_text()


def test_foldcomp_refuses_what_it_would_invent(atlas: Path, tmp_path: Path) -> None:
    pytest.importorskip("foldcomp")
    done("export", atlas, tmp_path / "fcz", "--format", "fcz", "--where", "id IN ('bare', 'part', 'gaps')", code=3)
    missing = (tmp_path / "fcz" / "missing.tsv").read_text()
    assert missing.count("pLDDT of 0") == 2 and "invent" in missing


def test_parquet_export_is_an_atlas_of_format_2(atlas: Path, tmp_path: Path) -> None:
    done("export", atlas, tmp_path / "subset", "--format", "parquet", "--where", "id <> 'low'")
    subset = AtlasFolder(tmp_path / "subset")
    assert subset.header().format == 2 and verify(subset, full=True).faults == []
    kept = column(tmp_path / "subset", "scores", "length")
    for table in ("scores", "provenance"):
        for name in set(table_schema(table, 2).names) - {"structure_row", "structure_id"}:
            before, after = column(atlas, table, name), column(tmp_path / "subset", table, name)
            assert after == {one: before[one] for one in kept}, name
    records = pq.read_table(next((tmp_path / "subset" / "records").glob("*.parquet"))).to_pylist()
    assert {row["path"]: row["file_mean_plddt"] for row in records}["again.pdb"] == 60


# Checks, changes, unions


def test_verify_finds_no_fault(atlas: Path) -> None:
    found = verify(AtlasFolder(atlas), full=True)
    assert found.faults == [] and found.proteins == 8


Change = Callable[[list[dict[str, object]]], None]


@pytest.mark.parametrize(
    ("table", "change", "what"),
    [
        ("scores", lambda rows: rows[0].update(mean_plddt=50.0), "mean_plddt does not follow"),
        ("scores", lambda rows: [row.update(num_confident=None) for row in rows], "num_confident does not follow"),
        ("scores", lambda rows: rows[0].update(ptm=1.5), "ptm is not within 0 to 1"),
        ("provenance", lambda rows: rows.reverse(), "its structure ids are not those of the structures"),
        ("provenance", lambda rows: rows[0].update(unobserved=7), "unobserved is not the number"),
        ("provenance", lambda rows: [row.update(plddt_source="none") for row in rows], "contradicts the stored pLDDT"),
    ],
)
def test_verify_names_what_contradicts(copied: Path, table: str, change: Change, what: str) -> None:
    """Rows of the shard of the short chains, of which some have no pLDDT, are changed."""
    folder = AtlasFolder(copied)
    path = sorted((copied / table).glob("*.parquet"))[0]
    rows = pq.read_table(path)
    listed = rows.to_pylist()
    for row in listed:
        row["structure_id"] = row["structure_id"].bytes
    change(listed)
    pq.write_table(type(rows).from_pylist(listed, schema=rows.schema), path)
    texts = [fault.what for fault in verify(folder).faults if fault.where == f"{table}/{path.name}"]
    assert not any(what in text for text in texts)  # a file of another digest is not opened
    _list_again(folder, f"{table}/{path.name}")
    texts = [fault.what for fault in verify(folder).faults if fault.where == f"{table}/{path.name}"]
    assert any(what in text for text in texts), texts


def _list_again(folder: AtlasFolder, name: str) -> None:
    """Commit the changed file `name` in place of the one that the manifest lists."""
    for shard, history in folder.histories().items():
        entry = history[-1]
        for table, file in entry.files.items():
            if file.path == name:
                digest, size = folder.storage.sha256(name), folder.storage.size(name)
                files = {**entry.files, table: FileEntry(name, file.rows, size, digest)}
                folder.entry_path(shard, 0).write_bytes(encode(structs.replace(entry, files=files)))


def test_merge_of_imported_atlases(atlas: Path, tmp_path: Path) -> None:
    """A structure in both comes from the first, with its provenance."""
    other = proteins()[:1]
    other[0].plddt[:] = 55
    make_imported(tmp_path / "b", [*other, made("new", "MKVLAAGGLLKKWWYYFF", 20, 77)], source="file:///data/other")
    done("merge", atlas, tmp_path / "b", tmp_path / "m")
    merged = AtlasFolder(tmp_path / "m")
    assert merged.header().format == 2 and verify(merged).faults == []
    with Atlas.open(tmp_path / "m") as opened:
        rows = opened.query("SELECT source, mean_plddt > 90, licence FROM proteins WHERE id = 'full'").rows()
        assert sorted(rows) == [(f"file:///data/{name}", True, "CC-BY-SA-4.0") for name in ("other", "proteome")]
        assert opened.query("SELECT count(*), count(DISTINCT structure_id) FROM provenance").rows() == [(9, 9)]


def test_diff_of_scores_that_are_null(atlas: Path, tmp_path: Path) -> None:
    other = proteins()
    by_id = {one.id: one for one in other}
    by_id["plddt"].plddt[:] = np.nan
    by_id["part"].plddt[1] = np.nan
    by_id["bare"].positions[: num_atoms(by_id["bare"].sequence[0])] = np.nan
    by_id["low"].ptm = None
    make_imported(tmp_path / "b", other)
    done("index", tmp_path / "b")
    found = json.loads(done("diff", atlas, tmp_path / "b", "--format", "json", code=3).stdout)
    changes = {(row["change"], row["id"], row["column"]) for row in found if row["change"] in ("score", "coordinates")}
    assert ("score", "plddt", "mean_plddt") in changes and ("score", "low", "ptm") in changes
    assert ("coordinates", "bare", "atoms") in changes
    assert {row[1] for row in changes} == {"plddt", "part", "bare", "low"}


# What folds


def test_folded_and_imported_structures_stay_apart(atlas: Path, tmp_path: Path) -> None:
    (tmp_path / "a.fasta").write_text(">n\nMKVLAAGG\n")
    for command in ("fold", "plan"):
        refused = done(command, tmp_path / "a.fasta", atlas, "--model", "nano", code=2)
        assert "structures of" in refused.stderr and "are imported, those of this run folded" in refused.stderr
    done("fold", tmp_path / "a.fasta", tmp_path / "folded", "--model", "nano")
    for first, second in ((atlas, tmp_path / "folded"), (tmp_path / "folded", atlas)):
        refused = done("merge", first, second, tmp_path / "m", code=2)
        assert "cannot be merged" in refused.stderr and "imported" in refused.stderr
    assert not (tmp_path / "m").exists()


# Stages


def test_clusters_novelty_and_map_have_every_structure(atlas: Path) -> None:
    with Atlas.open(atlas) as opened:
        rows = opened.query("SELECT id, cluster30, cluster_structure, tm_query FROM proteins").rows()
        assert all(None not in row for row in rows) and len(rows) == 9
        assert opened.query("SELECT count(*) FROM projection").rows() == [(8,)]
        sql = "SELECT id, tm_confident FROM novelty JOIN proteins USING (structure_id)"
        confident = dict(opened.query(sql).rows())
    assert all(confident[name] is None for name in ("bare", "gaps", "trace"))  # no pLDDT: no confident residue


def test_atlas_is_a_reference(atlas: Path, tmp_path: Path) -> None:
    """Every structure is an entry and finds itself. Licences are those that all structures state, else `unknown`."""
    known = atlas.parent / "known"
    assert set(Reference.open(known).names.to_pylist()) == {
        str(uuid.UUID(bytes=one.structure_id)) for one in proteins()
    }
    assert ReferenceFolder(known).document().licences == ["unknown"]
    with Atlas.open(atlas) as opened:
        rows = opened.query("SELECT tm_query, nearest_structure = structure_id::VARCHAR FROM proteins").rows()
    assert all(score > 0.999 and is_itself for score, is_itself in rows)
    make_imported(tmp_path / "stated", [one for one in proteins() if one.stated["licence"]])
    assert licence_of([str(tmp_path / "stated")]) == "CC-BY-4.0, CC-BY-SA-4.0"


def test_every_route_answers(atlas: Path, given: dict[str, Imported]) -> None:
    """The routes about proteins, for some with and without scores, batches and SQL: NULL, and no error."""
    statuses: dict[str, set[int]] = {}
    with contextlib.ExitStack() as opened:
        current = opened.enter_context(CurrentAtlas(atlas))
        processes = opened.enter_context(SqlProcesses(AtlasFolder(atlas), SqlLimits()))
        client = opened.enter_context(TestClient(create_app(current, ServerSettings(), processes), base_url=SERVER))
        paths = client.get("/openapi.json").json()["paths"]
        routes = [path for path, methods in paths.items() if "get" in methods and path in ROUTES]
        for name in ("full", "part", "bare", "gaps"):
            one = given[name]
            [row] = client.get(f"/v1/proteins/{name}").json()["items"]
            [entry] = client.get(f"/api/prediction/{name}").json()
            identity, file = row["structure_id"], entry["cifUrl"].rpartition("/")[2]
            values = {"name": name, "protein_hash": identity.replace("-", ""), "representative": identity,
                      "level": "identity30", "file": file}  # fmt: skip
            for route in routes if name == "full" else [route for route in routes if "{" in route or "/api/" in route]:
                query = {"id": one.sequence} if route.endswith("/summary") else {}
                answer = client.get(route.format_map(values), params=query)
                statuses.setdefault(route, set()).add(answer.status_code)
            has_plddt = not np.isnan(one.plddt).all()
            assert row["ptm"] == (None if one.ptm is None else pytest.approx(one.ptm))
            assert (row["mean_plddt"] is not None) == (entry["globalMetricValue"] is not None) == has_plddt
            stored = client.get(f"/fetchConfidencePrediction/{name}").json()
            assert [value is None for value in stored["plddt"]] == np.isnan(one.plddt).tolist()
            present = int((~np.isnan(one.positions).any(axis=1)).sum())
            text = client.get(f"/fetchPredictedStructure/{name}.pdb").text
            assert gemmi.read_pdb_string(text)[0].count_atom_sites() == present
        batch = client.post("/v1/batch/proteins", json={"ids": [*given, "gone"]}).json()
        structures = client.post("/v1/batch/structures", json={"ids": list(given)})
        rows = client.post("/v1/sql", json={"sql": "SELECT count(*) AS n, count(ptm) AS ptm FROM scores"})
    assert len(batch["items"]) == len(given) and structures.status_code == 200
    assert rows.status_code == (503 if processes.problem else 200)
    assert processes.problem or rows.json() == [{"n": 8, "ptm": 3}]
    absent = {"/v1/pae/{name}", "/fetchEmbedding/ESM2/{name}"}
    assert statuses == {route: {404} if route in absent else {200} for route in ROUTES}


def test_other_commands_run(copied: Path) -> None:
    table = copied.parent / "biome.csv"
    table.write_text("id,biome\nfull,sea\nbare,soil\n")
    assert "imported" in done("status", copied).stdout
    done("annotate", copied, table, "--key", "id")
    page = done("report", copied)
    assert Path(page.stdout.split()[0]).exists()
    rows = done("query", copied, "SELECT biome FROM annotation.biome WHERE id = 'bare'", "--format", "csv").stdout
    assert rows.split() == ['"biome"', '"soil"']
    done("verify", copied)


def test_growing_appends_to_the_index(copied: Path) -> None:
    """The index is continued with the shards of a second import, and equals one built from nothing."""
    make_imported(
        copied, [made("later", "MKVLAAGGLLKKWWYYFF", 20, 77)], source="file:///data/later", created="2026-11-02"
    )
    done("index", copied)
    everything = [f"FROM {table} ORDER BY ALL" for table in ("provenance", "scores", "records")]
    with Atlas.open(copied) as opened:
        runs = opened.query("SELECT runs FROM settings").rows()
        continued = [opened.query(sql).rows() for sql in everything]
    assert runs == [(2,)] and len(continued[0]) == 9
    done("index", copied, "--full")
    with Atlas.open(copied) as opened:
        assert opened.query("SELECT runs FROM settings").rows() == [(1,)]
        assert [opened.query(sql).rows() for sql in everything] == continued


def test_files_name_their_format(atlas: Path) -> None:
    files = [path for path in atlas.rglob("*.parquet") if path.parent.name in tables_of(2)]
    assert len(files) == 10
    for path in files:
        assert pq.read_schema(path).metadata[b"foldatlas.format"] == b"2"
