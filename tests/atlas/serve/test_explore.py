"""The explorer's answers equal SQL on the index and numpy: counts, histograms, maps, pages; and what people type."""

import contextlib
import json
import math
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from built_atlas import Built
from explored_atlas import write_explored
from starlette.testclient import TestClient

from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.serve.cage import landlock
from foldatlas.atlas.serve.cage.processes import SqlLimits, SqlProcesses
from foldatlas.atlas.serve.current import CurrentAtlas
from foldatlas.atlas.serve.http.app import create_app
from foldatlas.atlas.serve.settings import ServerSettings

HAS_CAGE = landlock.version() >= landlock.MIN_VERSION
needs_cage = pytest.mark.skipif(not HAS_CAGE, reason="this kernel has no Landlock, so SQL is off")
STAR = "projection:" + ",".join(
    f"{math.cos(k * 2.4) * 45:.3f},{15 + math.sin(k * 2.4) * 14:.3f}" for k in range(9)
)  # crosses itself


@pytest.fixture(scope="module")
def explored(indexed: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CurrentAtlas]:
    folder = write_explored(indexed, tmp_path_factory.mktemp("explored") / "atlas")
    with CurrentAtlas(folder.root) as current:
        yield current


@contextlib.contextmanager
def serving(current: CurrentAtlas, settings: ServerSettings, processes: SqlProcesses | None) -> Iterator[TestClient]:
    """A client of an application whose table is ready."""
    app = create_app(current, settings, processes)
    explorer = app.state.shared.explorer
    with current.use() as served:
        explorer.table(served, wait=120)
    yield TestClient(app, base_url="http://localhost")
    explorer.close()


@pytest.fixture(scope="module")
def asked(explored: CurrentAtlas) -> Iterator[TestClient]:
    with (
        SqlProcesses(explored.folder, SqlLimits(seconds=60)) as processes,
        serving(explored, ServerSettings(), processes) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def atlas(explored: CurrentAtlas) -> Iterator[Atlas]:
    with Atlas.open(explored.folder.root) as opened:
        yield opened


@pytest.fixture(scope="module")
def columns(asked: TestClient) -> dict[str, dict[str, Any]]:
    return {column["name"]: column for column in asked.get("/v1/explore/columns").json()["columns"]}


def get(client: TestClient, path: str, **query: object) -> dict[str, Any]:
    response = client.get(f"/v1/explore/{path}", params=query)
    assert response.status_code == 200, response.text
    return response.json()


def rows(client: TestClient, size: int = 200, **query: object) -> list[dict[str, Any]]:
    """The proteins that meet a filter, by following the pages of the table."""
    found: list[dict[str, Any]] = []
    after = {}
    while True:
        page = get(client, "rows", size=size, **query, **after)
        found += page["items"]
        if page["next"] is None:
            return found
        assert len(page["items"]) == size
        after = {"after": page["next"]}


def keys(client: TestClient, **query: object) -> list[tuple[str, str, str]]:
    return [key_of(row) for row in rows(client, **query)]


def key_of(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["structure_id"], row["id"], row["source"]


def selected(atlas: Atlas, sql: str) -> list[tuple[str, str, str]]:
    return [tuple(map(str, row)) for row in atlas.sql(f"SELECT structure_id, id, source FROM ({sql})").rows()]


FILTERS = [
    {},
    {"min_plddt": 30.3, "max_plddt": 90},
    {"high_confidence": True},
    {"novel": True},
    {"novel": False},
    {"representative": True},
    {"cluster30": "00000000-0000-0000-0000-000000000001"},
    {"cluster30": "00000000-0000-0000-0000-000000000009"},
    {"source": "file:///data/b.fasta", "min_length": 61},
    {"range": ["length:50:", "radius_of_gyration::30"]},
    {"range": "ptm::"},
    {"range": "sites.depth:3.5:9"},
    {"choice": ["known:known", "known:not searched", "confidence:low"]},
    {"choice": "tm_query"},
    {"choice": ["confidence", "confidence:very high"]},
    {"choice": ["is_representative30", "is_representative30:true"]},
    {"choice": ["sites.biome:sea's <b>", "sites.biome:hot: spring"]},
    {"choice": "sites.biome:desert"},
    {"choice": "sites.biome"},
    {"choice": "sites.biome:{} IS NULL OR $1?"},
    {"choice": ["sites.biome:{} IS NULL OR $1?", "sites.biome"]},
    {"choice": "known:{}"},
    {"choice": "source:{0} ? $1 {x} ' OR ''='"},
    {"choice": ["sites.biome", "sites.biome:soil"]},
    {"choice": "sites.is_marine:true"},
    {"choice": "source:file:///data/a.fasta"},
    {"choice": ["cluster30:00000000-0000-0000-0000-000000000002", "cluster30"]},
    {"region": "plddt_length:60,20,75,80.5"},
    {"region": "projection:-20,0,30,15"},
    {"region": STAR},
    {"region": [STAR, "projection:0,0,50,30"], "min_plddt": 20, "range": "length::100"},
]
TYPED = [
    "ptm > 0.3",
    "ptm > 0.3 -- AND false",
    "id LIKE 'a%' OR length % 2 = 0",
    "proteins.ID LIKE '%1'",
    "is_fragment IS NOT TRUE AND ptm::VARCHAR LIKE '%3'",
    "structure_id IN (SELECT structure_id FROM sites WHERE biome = 'soil')",
    "false",
]


@pytest.mark.parametrize("query", FILTERS, ids=[json.dumps(each)[:50] for each in FILTERS])
def test_filters_select_what_their_sql_selects(asked: TestClient, atlas: Atlas, query: dict) -> None:
    """The shown SQL run on the index, the table, the page of `/v1/proteins`, and the count give the same proteins."""
    summary = get(asked, "summary", **query)
    expected = selected(atlas, summary["sql"])
    assert summary["matching"] == len(expected)
    assert sorted(keys(asked, **query)) == sorted(expected)
    page = asked.get("/v1/proteins", params={"size": 1000, **query}).json()["items"]
    assert [key_of(row) for row in page] == sorted(expected)
    lines = asked.get("/v1/downloads/manifest.jsonl", params=query).text.splitlines()
    assert [key_of(json.loads(line)) for line in lines] == sorted(expected)


@pytest.mark.parametrize(
    "query",
    [
        {"range": "length:50:"},
        {"choice": "sites.biome:soil"},
        {"source": "file:///data/b.fasta", "range": "ptm::"},
    ],
    ids=["structures", "records", "both"],
)
def test_pages_with_conditions_follow_each_other(asked: TestClient, atlas: Atlas, query: dict) -> None:
    """Of three rows, between records of one structure of which one alone meets the conditions, and in a download."""
    expected = sorted(selected(atlas, get(asked, "summary", **query)["sql"]))
    found, after = [], {}
    while True:
        page = asked.get("/v1/proteins", params={"size": 3, **query, **after}).json()
        found += map(key_of, page["items"])
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert found == expected and len(found) > 10
    lines = asked.get("/v1/downloads/manifest.jsonl", params={**query, "after": after["after"]}).text.splitlines()
    assert [key_of(json.loads(line)) for line in lines] == expected[-len(page["items"]) :]


_SITES = (  # ids that are there twice have the least value
    "id IN (SELECT id FROM (SELECT id, min(biome) AS biome, min(depth) AS depth, min(is_marine) AS is_marine "
    "FROM sites GROUP BY id) WHERE {})"
)
MEANINGS = [
    ({"min_ptm": 0.7}, "ptm >= 0.7::FLOAT"),
    ({"range": "ptm:0.3:0.7"}, "ptm >= 0.3::FLOAT AND ptm < 0.7::FLOAT"),
    ({"range": "length::62"}, "length < 62"),
    ({"range": "sites.depth:3.5:9"}, _SITES.format("depth >= 3.5 AND depth < 9")),
    ({"choice": "known:novel"}, "structure_id IN (SELECT structure_id FROM novel)"),
    ({"choice": "known:known"}, "tm_query >= 0.5::FLOAT"),
    ({"choice": ["known:not searched"]}, "tm_query IS NULL"),
    ({"choice": ["known:novel", "known:not confident"]}, "tm_query < 0.5::FLOAT"),
    ({"choice": ["confidence:confident", "confidence"]}, "mean_plddt IS NULL OR mean_plddt > 70 AND mean_plddt <= 90"),
    ({"choice": "is_representative30:false"}, "is_representative30 = false"),
    ({"choice": ["sites.biome:soil", "sites.biome:hot: spring"]}, _SITES.format("biome IN ('soil', 'hot: spring')")),
    ({"choice": "sites.is_marine"}, "NOT " + _SITES.format("is_marine IS NOT NULL")),
    ({"region": "plddt_length:60,20,75,80.5"}, "length BETWEEN 60 AND 75 AND mean_plddt BETWEEN 20 AND 80.5"),
]


@pytest.mark.parametrize(("query", "sql"), MEANINGS, ids=[json.dumps(query)[:50] for query, _ in MEANINGS])
def test_conditions_mean_what_is_documented(asked: TestClient, atlas: Atlas, query: dict, sql: str) -> None:
    [(expected, everything)] = atlas.sql(f"SELECT count(*) FILTER ({sql}), count(*) FROM proteins").rows()
    assert 0 < expected < everything
    assert get(asked, "summary", **query)["matching"] == expected


@pytest.mark.parametrize("corners", [3, 9, 100])
def test_polygons_have_what_their_winding_says(asked: TestClient, atlas: Atlas, corners: int) -> None:
    """The even-odd rule by angles: of each corner to the next as seen from a point; few edges at a y, or many."""
    turns = {3: 1, 9: 4, 100: 49}[corners]  # 100 corners: each edge crosses most of the others
    angles = 2 * math.pi * turns * np.arange(corners) / corners + 0.01
    polygon = np.stack([45 * np.cos(angles), 15 + 14 * np.sin(angles)], axis=1).round(3)
    region = "projection:" + ",".join(f"{value}" for value in polygon.ravel())
    points = np.array(
        atlas.sql("SELECT x, y FROM proteins JOIN projection USING (structure_id)").rows(), dtype=np.float64
    )
    rays = np.arctan2(*(polygon[None] - points[:, None]).transpose(2, 0, 1)[::-1])
    steps = np.diff(np.concatenate([rays, rays[:, :1]], axis=1))
    winding = np.rint(((steps + np.pi) % (2 * np.pi) - np.pi).sum(axis=1) / (2 * np.pi)).astype(int)
    expected = int((winding % 2 != 0).sum())
    assert 0 < expected < len(points)
    assert get(asked, "summary", region=region)["matching"] == expected


def test_filters_are_of_every_kind(asked: TestClient) -> None:
    """The tests above are not of empty answers."""
    counts = [get(asked, "summary", **query)["matching"] for query in FILTERS]
    assert sum(count == 0 for count in counts) <= 4 and sum(0 < count < counts[0] for count in counts) >= 24


@needs_cage
@pytest.mark.parametrize("where", TYPED)
def test_typed_conditions_select_what_sql_selects(asked: TestClient, atlas: Atlas, where: str) -> None:
    query = {"where": where, "max_length": 100}
    expected = selected(atlas, f"SELECT * FROM proteins WHERE ({where}\n) AND length <= 100")
    summary = get(asked, "summary", **query)
    assert summary["matching"] == len(expected)
    assert sorted(selected(atlas, summary["sql"])) == sorted(expected)
    assert sorted(keys(asked, **query)) == sorted(expected)
    page = asked.get("/v1/proteins", params={"size": 1000, **query}).json()["items"]
    assert sorted(map(key_of, page)) == sorted(expected)
    lines = asked.get("/v1/downloads/manifest.jsonl", params=query).text.splitlines()
    assert len(lines) == len(expected)


@needs_cage
@pytest.mark.parametrize(
    "where",
    [
        "true) OR (true",
        "true; SELECT 1",
        "true ORDER BY 1",
        "true) UNION SELECT 1, 2 FROM records WHERE (true",
        "true) --",
        "true /*",
        "1, 2",
        "SELECT true",
        "true AS x",
        "nothing = 1",
        "id = $1",
        "id = ?",
        "getvariable('atlas') IS NULL",
        "id IN (SELECT content FROM read_text('/etc/passwd'))",
        "id IN (SELECT path FROM files)",
        "EXISTS (SELECT 1 FROM duckdb_settings())",
        "count(*) > 1",
        "\0",
        "'" + "x" * 3_000,
    ],
)
def test_what_is_not_a_condition_is_refused(asked: TestClient, where: str) -> None:
    paths = ("/v1/explore/summary", "/v1/proteins", "/v1/downloads/manifest.jsonl")
    for path in paths if where == "true) OR (true" else paths[:1]:
        response = asked.get(path, params={"where": where})
        assert response.status_code == 400, (path, response.text)
        assert "root:" not in response.text


def test_typed_conditions_need_sql(explored: CurrentAtlas) -> None:
    with serving(explored, ServerSettings(host="0.0.0.0", host_names=("localhost",)), None) as client:
        for path in ("/v1/explore/summary", "/v1/proteins", "/v1/downloads/manifest.jsonl"):
            assert client.get(path, params={"where": "true"}).status_code == 403
            assert client.get(path).status_code == 200
        assert get(client, "columns")["where"] == "off"


def test_histograms_are_those_of_numpy(asked: TestClient, atlas: Atlas, columns: dict) -> None:
    """All numbers: bins, and NULLs apart; of all proteins, and of those that meet a filter."""
    summary = get(asked, "summary", columns="all", min_plddt=40)
    for name, column in columns.items():
        if column["type"] != "number" or column["annotation"]:
            continue
        for condition, counts in (("true", column["counts"]), ("mean_plddt >= 40", None)):
            values = [value for (value,) in atlas.sql(f"SELECT {name} FROM proteins WHERE {condition}").rows()]
            known = np.array([value for value in values if value is not None])
            edges = np.array(column["edges"], np.float32 if not column["is_integer"] else np.float64)
            expected, _ = np.histogram(known.astype(edges.dtype), edges)
            found = counts or summary["columns"][name]["matching"]
            nulls = column["nulls"] if counts else summary["columns"][name]["nulls"]
            assert found == expected.tolist(), name
            assert nulls == len(values) - len(known)


def test_choices_are_counted_as_sql_counts(asked: TestClient, atlas: Atlas, columns: dict) -> None:
    for name in ("known", "confidence", "source", "is_representative30", "cluster30"):
        column = columns[name]
        expected = dict(atlas.sql(f"SELECT ({column['sql']})::VARCHAR, count(*) FROM proteins GROUP BY 1").rows())
        assert column["nulls"] == expected.pop(None, 0)
        assert column["others"] == 0
        assert {value: n for value, n in zip(column["values"], column["counts"], strict=True) if n} == expected
    assert set(columns["sites.biome"]["values"]) == {"soil", "sea's <b>", "hot: spring", "{} IS NULL OR $1?"}


def test_an_empty_atlas_of_matches(asked: TestClient) -> None:
    summary = get(asked, "summary", min_length=100_000)
    assert summary["matching"] == 0 and not any(sum(each["matching"]) for each in summary["columns"].values())
    assert get(asked, "rows", min_length=100_000) == {"items": [], "next": None}


def drawn(client: TestClient, **query: object) -> tuple[dict, dict[str, np.ndarray]]:
    """A map as docs/api.md describes its format."""
    response = client.get("/v1/explore/map", params=query)
    assert response.status_code == 200, response.text
    body = response.content
    assert body[:4] == b"FAM1"
    end = 8 + int.from_bytes(body[4:8], "little")
    header = json.loads(body[8:end])
    arrays, offset = {}, end
    for each in header["arrays"]:
        arrays[each["name"]] = np.frombuffer(body, f"<{np.dtype(each['type']).str[1:]}", each["length"], offset)
        offset += arrays[each["name"]].nbytes
    assert offset == len(body) and end % 8 == 0
    return header, arrays


@pytest.mark.parametrize("color", ["ptm", "known", "is_representative30", "sites.biome", None])
def test_points_are_the_proteins_in_the_window(asked: TestClient, atlas: Atlas, columns: dict, color: str) -> None:
    query = {"map": "projection", "x0": -20, "x1": 30, "y0": 2, "y1": 20, "min_plddt": 20}
    header, found = drawn(asked, **query, **({"color": color} if color else {}))
    inside = atlas.sql(
        "SELECT structure_id, id, source, x, y, ptm, is_representative30, "
        f"{columns['known']['sql']} AS known FROM proteins "
        "JOIN projection USING (structure_id) WHERE x BETWEEN -20 AND 30 AND y BETWEEN 2 AND 20 AND mean_plddt >= 20"
    ).rows()
    assert header["kind"] == "points" and header["matching"] == len(inside) > 5
    by_key = {row["key"]: row for row in rows(asked)}
    assert get(asked, "point", key=int(found["key"][0])) == by_key[found["key"][0]]
    points = {}
    for key, x, y, value in zip(found["key"], found["x"], found["y"], found["color"], strict=True):
        points[key_of(by_key[key])] = float(x), float(y), float(value)
    expected = {}
    for identity, name, source, x, y, ptm, representative, known in inside:
        values = {
            "ptm": ptm,
            "known": columns["known"]["values"].index(known),
            "is_representative30": representative if representative is None else int(representative),
        }
        expected[str(identity), name, source] = x, y, values.get(color)
    assert points.keys() == expected.keys()
    for key, (x, y, value) in expected.items():
        assert points[key][:2] == (np.float32(x), np.float32(y))
        if color != "sites.biome":
            np.testing.assert_equal(points[key][2], np.nan if value is None else float(np.float32(value)))


@pytest.mark.parametrize("color", ["ptm", "known"])
@pytest.mark.parametrize("name", ["projection", "plddt_length"])
def test_densities_are_those_of_numpy(asked: TestClient, atlas: Atlas, columns: dict, color: str, name: str) -> None:
    x, y = {"projection": ("x", "y"), "plddt_length": ("length", "mean_plddt")}[name]
    bounds = {"x0": -40, "x1": 90, "y0": 1, "y1": 70}
    header, found = drawn(asked, map=name, **bounds, width=5, height=3, color=color, points=3, max_length=200)
    rows = atlas.sql(
        f"SELECT {x}, {y}, ptm, {columns['known']['sql']} FROM proteins LEFT JOIN projection USING (structure_id) "
        f"WHERE {x} BETWEEN -40 AND 90 AND {y} BETWEEN 1 AND 70 AND length <= 200"
    ).rows()
    assert header["kind"] == "density" and header["matching"] == len(rows) > 3
    xs, ys = np.array([row[0] for row in rows], float), np.array([row[1] for row in rows], float)
    counts, _, _ = np.histogram2d(ys, xs, bins=(3, 5), range=((1, 70), (-40, 90)))
    np.testing.assert_array_equal(found["count"].reshape(3, 5), counts)
    places = np.minimum(2, (ys - 1) * 3 // 69) * 5 + np.minimum(4, (xs + 40) * 5 // 130)
    for cell in range(15):
        inside = [row for row, place in zip(rows, places, strict=True) if place == cell]
        if color == "ptm":
            values = [row[2] for row in inside if row[2] is not None]
            mean = np.mean(values) if values else np.nan
            np.testing.assert_allclose(found["color"][cell], mean, rtol=1e-6)
            share = len(values) / len(inside) if inside else 0
        else:
            codes = np.bincount([columns["known"]["values"].index(row[3]) for row in inside], minlength=1)
            np.testing.assert_equal(float(found["color"][cell]), float(codes.argmax()) if inside else np.nan)
            share = codes.max() / len(inside) if inside else 0
        assert found["share"][cell] == np.float32(share)


def test_pages_in_any_order_have_every_row_once(asked: TestClient, atlas: Atlas, columns: dict) -> None:
    """In either order: values in order, NULLs last; ties are not lost at the end of a page."""
    everything = sorted(selected(atlas, "SELECT * FROM proteins"))
    sorts = get(asked, "columns")["sorts"]
    assert {"id", "ptm", "known", "nearest_structure", "sites.biome", "sites.depth", "is_fragment"} <= set(sorts)
    for number, sort in enumerate(sorts):
        for order in ("asc", "desc") if sort in ("ptm", "known") else (("asc", "desc")[number % 2],):
            found = rows(asked, size=130, sort=sort, order=order)
            assert sorted(map(key_of, found)) == everything, sort
            values = [row.get(sort) for row in found]
            if sort in found[0] and sort not in ("cluster30", "cluster_structure"):
                known = [value for value in values if value is not None]
                place = columns[sort]["values"].index if sort in ("known", "confidence") else None
                expected = sorted(known, key=place, reverse=order == "desc")
                assert values == expected + [None] * (len(values) - len(known)), sort


def test_rows_have_their_classes_and_annotations(asked: TestClient, atlas: Atlas, columns: dict) -> None:
    least = ", ".join(f"min({name}) AS {name}" for name in ("biome", "depth", "is_marine"))
    expected = atlas.sql(
        f"SELECT structure_id::VARCHAR, id, source, {columns['known']['sql']}, {columns['confidence']['sql']}, "
        f"biome, depth, is_marine FROM proteins LEFT JOIN (SELECT id, {least} FROM sites GROUP BY id) USING (id)"
    ).rows()
    found = {
        (
            *key_of(row),
            row["known"],
            row["confidence"],
            *(row["annotations"][name] for name in sorted(row["annotations"])),
        )
        for row in rows(asked)
    }
    assert found == set(expected) and len(found) > 100


def test_the_nearest_point_is_found(asked: TestClient, atlas: Atlas) -> None:
    rows = atlas.sql("SELECT structure_id, x, y FROM projection SEMI JOIN proteins USING (structure_id)").rows()
    expected = min(rows, key=lambda row: ((row[1] - 3.1) / 20) ** 2 + ((row[2] - 9.2) / 10) ** 2)
    found = get(asked, "point", map="projection", x=3.1, y=9.2, dx=20, dy=10)
    assert uuid.UUID(found["structure_id"]) == expected[0]
    far = asked.get("/v1/explore/point", params={"map": "projection", "x": 1e9, "y": 0, "dx": 1, "dy": 1})
    assert far.status_code == 404
    assert asked.get("/v1/explore/point", params={"key": 2**31}).status_code == 404


CORNERS = ",".join(["1,1"] * 101)
WRONG = [
    ("summary", {"range": "ptm:nan:"}),
    ("summary", {"range": "ptm:0.1:inf"}),
    ("summary", {"range": "ptm:1e400:"}),
    ("summary", {"range": "ptm:1;DROP TABLE proteins:2"}),
    ("summary", {"range": "ptm:1_0:2"}),
    ("summary", {"range": "ptm"}),
    ("summary", {"range": "known:1:2"}),
    ("summary", {"range": 'ptm" OR true --:1:2'}),
    ("summary", {"range": ["ptm:0:1"] * 51}),
    ("summary", {"choice": "nothing:1"}),
    ("summary", {"choice": "ptm:0.5"}),
    ("summary", {"choice": "is_fragment:yes"}),
    ("summary", {"choice": "cluster30:' OR ''='"}),
    ("summary", {"choice": "source:\0"}),
    ("summary", {"region": "projection:1,1"}),
    ("summary", {"region": "projection:1,1,2"}),
    ("summary", {"region": "projection:0,0,nan,1"}),
    ("summary", {"region": f"projection:{CORNERS}"}),
    ("summary", {"region": "elsewhere:0,0,1,1"}),
    ("summary", {"region": "projection:0,0,1e29,1e-300,1e-29,2e-29"}),
    ("summary", {"columns": "ptm,nothing"}),
    ("map", {"map": "elsewhere"}),
    ("map", {"map": "projection", "x0": "nan"}),
    ("map", {"map": "projection", "x1": "inf"}),
    ("map", {"map": "projection", "x0": 1e300}),
    ("map", {"map": "projection", "x0": 5, "x1": 5}),
    ("map", {"map": "projection", "x0": 1, "x1": 0}),
    ("map", {"map": "projection", "width": 4096, "height": 4096}),
    ("map", {"map": "projection", "width": 0}),
    ("map", {"map": "projection", "points": 100_001}),
    ("map", {"map": "projection", "color": "x; DROP TABLE proteins"}),
    ("point", {}),
    ("point", {"key": -1}),
    ("point", {"key": 1, "map": "projection"}),
    ("point", {"map": "projection", "x": 1, "y": 1}),
    ("point", {"map": "projection", "x": 1, "y": 1, "dx": 0, "dy": 1}),
    ("rows", {"sort": "id; DROP TABLE proteins"}),
    ("rows", {"sort": "ptm", "after": "A" * 5_000}),
    ("rows", {"sort": "ptm", "after": "W10"}),
    ("rows", {"sort": "ptm", "after": "WyJwdG0iLGZhbHNlLCIxIE9SIDEiLDFd"}),  # ["ptm",false,"1 OR 1",1]
    ("rows", {"sort": "ptm", "order": "desc", "after": "WyJwdG0iLGZhbHNlLDEsMV0"}),  # of the other order
    ("rows", {"sort": "known", "after": "WyJrbm93biIsZmFsc2UsMTAwMCwxXQ"}),  # a code that is no byte
    ("rows", {"size": 0}),
    ("rows", {"nothing": 1}),
]


@pytest.mark.parametrize(("path", "query"), WRONG, ids=[f"{path} {str(query)[:40]}" for path, query in WRONG])
def test_wrong_requests_are_refused(asked: TestClient, path: str, query: dict) -> None:
    response = asked.get(f"/v1/explore/{path}", params=query)
    assert response.status_code in (400, 422), response.text
    assert response.headers["content-type"] == "application/problem+json"


def test_answers_hold_no_markup_that_runs(asked: TestClient) -> None:
    """Answers are JSON or bytes, whatever ids and annotations hold, and browsers do not guess."""
    for path in ("columns", "rows", "summary"):
        response = asked.get(f"/v1/explore/{path}")
        assert response.headers["content-type"] == "application/json"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in response.headers["content-security-policy"]
