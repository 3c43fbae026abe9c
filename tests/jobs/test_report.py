"""`foldatlas report`: its numbers against pyarrow, its words for every case, and texts that try to become markup."""

import base64
import hashlib
import json
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import duckdb
import imported_atlas
import novelty_atlas as given
import numpy as np
import pyarrow.parquet as pq
import pytest
import report_atlas
from commands import in_this_process
from shared import made_once

from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.novelty.rows import aligned_pairs
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.report import report as module
from foldatlas.atlas.report.cards import script_json
from foldatlas.atlas.report.content import Content, read_content
from foldatlas.atlas.report.drawing import nice_ceiling, short
from foldatlas.atlas.report.figures import length_width
from foldatlas.atlas.report.page import report_html
from foldatlas.atlas.report.png import pae_image
from foldatlas.atlas.report.report import text_report, write_report
from foldatlas.atlas.report.summary import percent, shown_heading, source_name
from foldatlas.atlas.report.text import report_text
from foldatlas.jobs.report import attempt

MAX_BYTES = 3_000_000


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "report", report_atlas.build) / "atlas"


@pytest.fixture(scope="module")
def content(atlas: Path) -> Content:
    with Atlas.open(atlas) as opened:
        return read_content(opened)


@pytest.fixture(scope="module")
def page(content: Content) -> str:
    return report_html(content)


def changed(atlas: Path, place: Path, *statements: str) -> Content:
    """What the report of a copy shows whose index was changed by `statements`."""
    copy = place / "changed"
    shutil.copytree(atlas, copy, dirs_exist_ok=True)
    with duckdb.connect(str(copy / "atlas.duckdb")) as connection:
        for statement in statements:
            connection.execute(statement)
    with Atlas.open(copy) as opened:
        return read_content(opened)


class Parsed(HTMLParser):
    """The elements of a page, its attributes, and the text of each script."""

    def __init__(self, page: str):
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.attributes: Counter[str] = Counter()
        self.values: list[tuple[str, str, str]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.style = self.text = ""
        self._inside = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes.update(name for name, _ in attrs)
        self.values += [(tag, name, value or "") for name, value in attrs]
        self._inside = tag
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            kept, text = self.scripts[-1]
            self.scripts[-1] = (kept, text + data)
        elif self._inside == "style":
            self.style += data
        else:
            self.text += data


# Numbers


def stored(atlas: Path) -> list[dict[str, float]]:
    """The scores of every accepted record, read by pyarrow from the files that the manifest lists."""
    rows = [row for path in sorted((atlas / "scores").iterdir()) for row in pq.read_table(path).to_pylist()]
    by_id = {row["structure_id"]: row for row in rows}
    records = [row for path in sorted((atlas / "records").iterdir()) for row in pq.read_table(path).to_pylist()]
    return [by_id[row["structure_id"]] for row in records if row["outcome"] == "accepted"]


def test_totals_equal_those_of_pyarrow(atlas: Path, content: Content) -> None:
    rows, totals = stored(atlas), content.figures["summary"].only
    lengths = [row["length"] for row in rows]
    high = [row for row in rows if row["mean_plddt"] > 70 and row["ptm"] > 0.7]
    assert totals["proteins"] == len(rows) == len(report_atlas.proteins())
    assert totals["residues"] == sum(lengths)
    assert (totals["shortest"], totals["longest"]) == (min(lengths), max(lengths))
    assert totals["median_length"] == np.median(lengths)
    assert totals["high_confidence"] == len(high) > 8
    assert totals["confident"] == sum(row["mean_plddt"] > 70 for row in rows)
    assert totals["mean_plddt"] == pytest.approx(np.mean([row["mean_plddt"] for row in rows]), rel=1e-6)
    assert totals["mean_ptm"] == pytest.approx(np.mean([row["ptm"] for row in rows]), rel=1e-6)


def test_histograms_equal_those_of_numpy(atlas: Path, content: Content) -> None:
    rows, figures = stored(atlas), content.figures
    plddt, ptm = (np.array([row[name] for row in rows]) for name in ("mean_plddt", "ptm"))
    # rounded, since 0.9 is stored as 0.89999998 and belongs to the bin from 0.9
    tenths = np.floor(np.round([plddt / 10, ptm * 10], 5))
    expected, *_ = np.histogram2d(*tenths, bins=10, range=[[0, 10], [0, 10]])
    found = np.zeros((10, 10))
    for row in figures["confidence"]:
        found[row["plddt"] // 10, round(row["ptm"] * 10)] = row["proteins"]
    assert np.array_equal(found, expected) and len(figures["confidence"].rows) > 15
    ones, _ = np.histogram(plddt, bins=20, range=(0, 100))
    assert {row["plddt"]: row["proteins"] for row in figures["plddt"]} == {5 * n: c for n, c in enumerate(ones) if c}
    lengths = Counter(row["length"] // 10 * 10 for row in rows)
    assert {row["residues"]: row["proteins"] for row in figures["lengths"]} == lengths
    residues = figures["residues"].only
    assert sum(residues.values()) == pytest.approx(sum(row["length"] for row in rows), rel=1e-6)
    very_high = sum(row["length"] * row["fraction_very_high"] for row in rows)
    assert residues["very_high"] == pytest.approx(very_high, rel=1e-6)


def test_novelty_and_clusters_equal_those_of_pyarrow(atlas: Path, content: Content) -> None:
    rows, figures = stored(atlas), content.figures
    hits = [row for path in sorted(atlas.glob("novelty/*/hits/*.parquet")) for row in pq.read_table(path).to_pylist()]
    tm = {row["structure_id"]: row["tm_query"] for row in hits if row["tm_query"] is not None}
    searched = [(tm[row["structure_id"]], row) for row in rows if row["structure_id"] in tm]
    counts, _ = np.histogram([score for score, _ in searched], bins=20, range=(0, 1))
    found = {round(row["tm_query"] * 20): row["proteins"] for row in figures["tm"]}
    assert found == {number: count for number, count in enumerate(counts) if count}
    high = [(score, row) for score, row in searched if row["mean_plddt"] > 70 and row["ptm"] > 0.7]
    novel = {row["structure_id"] for score, row in high if score < 0.5 and row["length"] >= 60}
    assert {row["structure_id"] for row in figures["novel"]} == novel
    assert figures["new"].only["novel"] == len(novel) > 8
    assert figures["new"].only["known"] == sum(score >= 0.5 for score, _ in high) > 0
    short = sum(row["length"] < 30 for row in rows)
    assert [tuple(row.values()) for row in figures["not_searched"]] == [("too_short", short)]
    sizes: Counter[tuple[str, int]] = Counter()
    (members,) = atlas.glob("clusters/*/members/*.parquet")
    for level, column in (("identity90", "cluster90"), ("identity30", "cluster30"), ("structure", "cluster_structure")):
        clusters = Counter(row[column] for row in pq.read_table(members).to_pylist() if row[column] is not None)
        sizes.update((level, 1 << (size.bit_length() - 1)) for size in clusters.values())
    assert {(row["level"], row["least"]): row["clusters"] for row in figures["clusters"]} == sizes


def test_statements_give_their_figures(atlas: Path, content: Content) -> None:
    """Each is run as a user would run it."""
    with Atlas.open(atlas) as opened:
        for name, figure in content.figures.items():
            if figure.sql:
                assert opened.sql(figure.sql).rows() == list(figure.rows), name


def test_records_are_all_accounted_for(atlas: Path, content: Content, page: str) -> None:
    figure = content.figures["records"]
    assert sum(row["records"] for row in figure) == len(report_atlas.proteins()) + 2
    assert {row["outcome"]: row["records"] for row in figure if row["state"] == "refused"} == {"digit": 1, "gap": 1}
    assert "the sequence holds digits" in page and "2 refused" in content.summary.folded


# Structures


def test_shown_structures_are_the_most_confident_novel_ones(content: Content) -> None:
    heading, _ = shown_heading(content.figures)
    assert heading == "The most confident novel folds"
    best = sorted(content.figures["novel"], key=lambda row: -row["ptm"] * row["mean_plddt"])
    shown = [one.row["structure_id"] for one in content.structures]
    assert len(shown) == 6 and set(shown[:4]) == {row["structure_id"] for row in best[:4]}
    assert all(one.structure.structure_id == one.row["structure_id"].bytes for one in content.structures)


def test_known_structure_is_laid_on_the_protein(atlas: Path, tmp_path: Path) -> None:
    """The RMSD of the aligned residues, computed again from what is drawn, is that of the search."""
    content = changed(atlas, tmp_path, "DELETE FROM scores WHERE structure_id IN (SELECT structure_id FROM novel)")
    hits = [row for path in sorted(atlas.glob("novelty/*/hits/*.parquet")) for row in pq.read_table(path).to_pylist()]
    by_id = {row["structure_id"].bytes: row for row in hits}
    laid = [one for one in content.structures if one.known is not None]
    assert len(laid) >= 3 and not content.figures["novel"]
    for one in laid:
        hit = by_id[one.structure.structure_id]
        own, theirs = aligned_pairs(hit["alignment"])
        apart = one.backbone_L43[own, 1] - one.known.c_alphas_M3[theirs]
        assert np.sqrt((apart**2).sum(axis=1).mean()) == pytest.approx(hit["rmsd"], abs=0.01)
        assert one.known.name == hit["target"] == one.row["nearest_structure"]


def test_pae_is_shown_where_it_is_stored(content: Content) -> None:
    for one in content.structures:
        apart = np.abs(np.subtract.outer(np.arange(one.row["length"]), np.arange(one.row["length"])))
        assert one.pae_LL == pytest.approx(np.clip(apart / 4, 0.25, 31.75), abs=1 / 16)


def test_image_of_a_matrix_can_be_read_back() -> None:
    """By another reader, of a matrix that is averaged in blocks of two, the last ones smaller."""
    image = pytest.importorskip("PIL.Image")
    import io

    errors = np.full((301, 301), 30.0, np.float32)
    errors[:2, :2] = 0
    data = base64.b64decode(pae_image(errors).partition("base64,")[2])
    with image.open(io.BytesIO(data)) as opened:
        assert opened.size == (151, 151)
        assert (opened.getpixel((0, 0)), opened.getpixel((150, 150))) == ((0, 68, 27), (255, 255, 255))


# Words


def test_demonstration_makes_nothing_novel(atlas: Path, tmp_path: Path) -> None:
    content = changed(atlas, tmp_path, "UPDATE novelty_runs SET demo = true")
    heading, why = shown_heading(content.figures)
    assert heading == "The most confident structures" and "demonstration" in why
    assert content.summary.new.startswith("Not known") and "demonstration" in content.summary.new
    assert not content.figures["novel"] and content.structures
    assert "novel folds</li>" not in report_html(content)


def test_atlas_without_search_and_clusters(atlas: Path, tmp_path: Path) -> None:
    content = changed(
        atlas, tmp_path, "DELETE FROM novelty_runs", "DELETE FROM novelty", "DELETE FROM clusters",
        "UPDATE scores SET tm_query = NULL, tm_target = NULL, nearest_structure = NULL",
    )  # fmt: skip
    assert content.summary.new.startswith("Not known: the structures were not compared")
    assert "Nothing was searched" in shown_heading(content.figures)[1]
    page = report_html(content)
    assert "were not clustered" in page and "not searched" in page
    assert "TM-score" not in report_text(content).partition("most confident")[0]


def test_structures_without_ptm(atlas: Path, tmp_path: Path) -> None:
    """pLDDT alone is shown, and decides what is of high confidence."""
    content = changed(atlas, tmp_path, "UPDATE scores SET ptm = NULL")
    assert "have no pTM" in content.summary.trust and "have no pTM" in content.summary.new
    page, text = report_html(content), report_text(content)
    assert "Heat map" not in page and "Histogram of mean pLDDT" in page and 'y="nan"' not in page
    assert "None" not in text and content.structures


def test_some_structures_without_scores(atlas: Path, tmp_path: Path) -> None:
    content = changed(
        atlas, tmp_path, "UPDATE scores SET ptm = NULL WHERE length % 2 = 0",
        "UPDATE scores SET mean_plddt = NULL, plddt_std = NULL, fraction_confident = NULL, fraction_very_high = NULL, "
        "fraction_low = NULL, fraction_very_low = NULL, num_confident = NULL WHERE length % 3 = 0",
    )  # fmt: skip
    lengths = [len(protein.sequence) for protein in report_atlas.proteins().values()]
    lacking = sum(length % 2 == 0 or length % 3 == 0 for length in lengths)
    page = report_html(content)
    assert f"{lacking} proteins without pLDDT or pTM cannot be drawn" in page
    listed = [(row["ptm"], row["mean_plddt"]) for row in content.figures["best"]]
    products = [None if plddt is None else plddt * (plddt / 100 if ptm is None else ptm) for ptm, plddt in listed]
    known = [value for value in products if value is not None]
    assert (
        known == pytest.approx(sorted(known, reverse=True)) and None not in products[: len(known)]
    )  # without a value: last


def test_structures_without_any_score(atlas: Path, tmp_path: Path) -> None:
    content = changed(
        atlas, tmp_path, "UPDATE scores SET ptm = NULL, mean_plddt = NULL, plddt_std = NULL, num_confident = NULL, "
        "fraction_confident = NULL, fraction_very_high = NULL, fraction_low = NULL, fraction_very_low = NULL",
    )  # fmt: skip
    assert "have no pLDDT" in content.summary.trust
    assert shown_heading(content.figures)[0] == "Some structures"
    lengths = [one.row["length"] for one in content.structures]
    assert lengths == sorted(lengths, reverse=True) and len(lengths) == 6
    page = report_html(content)
    assert 'id="confidence"' not in page and "not stored" in page
    assert "mean pLDDT" not in report_text(content)


def test_atlas_without_structures(atlas: Path, tmp_path: Path) -> None:
    content = changed(atlas, tmp_path, "DELETE FROM scores", "UPDATE records SET state = 'pending'")
    assert content.summary.folded.startswith("No structure yet")
    assert "3D" not in Parsed(report_html(content)).text
    assert report_text(content).startswith("changed: protein structure atlas")


def test_words_of_shares_and_sizes() -> None:
    assert [percent(*pair) for pair in ((0, 5), (5, 5), (1, 3), (1, 10_000), (9_999, 10_000), (0, 0))] == [
        "0 %", "100 %", "33 %", "below 0.1 %", "99.9 %", "0 %",
    ]  # fmt: skip
    assert [short(n) for n in (0, 999, 1_000, 9_949, 12_345, 999_499, 999_600, 1_500_000, 2_000_000_000)] == [
        "0", "999", "1.0k", "9.9k", "12k", "999k", "1.0M", "1.5M", "2.0G",
    ]  # fmt: skip
    assert [nice_ceiling(n) for n in (0, 1, 3, 5, 6, 11, 99, 101)] == [1, 1, 4, 5, 10, 20, 100, 200]
    assert [length_width(longest) for longest in (20, 299, 300, 1_280, 40_000)] == [10, 10, 20, 50, 2_000]
    assert source_name("file:///data/private/proteins.fasta") == "proteins.fasta"
    assert source_name("s3://bucket/proteins.fasta") == "s3://bucket/proteins.fasta"


# Hostile texts


def test_no_text_of_an_atlas_becomes_markup(page: str, content: Content) -> None:
    parsed = Parsed(page)
    assert parsed.tags["script"] == len(parsed.scripts) <= 3
    assert parsed.tags["style"] == 1 and parsed.tags["title"] >= 1
    assert not [name for name in parsed.attributes if name.startswith("on") or name == "style"]
    sources = [value for _, name, value in parsed.values if name in ("src", "href", "srcset", "action", "data")]
    assert all(value.startswith(("#", "data:image/png;base64,")) for value in sources)
    for id, description in report_atlas.HOSTILE.items():
        assert id in parsed.text  # as it is, as text
        assert description.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e") in parsed.text
    assert "\x1b" not in page and "\u202e" not in page and "{{ 7 * 7 }}" in parsed.text


def test_json_cannot_end_its_element() -> None:
    value = {"</script>": ["<!--<script>", "&lt;/script&gt;", "\u2028"]}
    text = str(script_json(value))
    assert not set("<>&\u2028") & set(text) and json.loads(text) == value


def test_data_of_the_views_are_those_of_the_structures(page: str, content: Content) -> None:
    (data,) = [text for attributes, text in Parsed(page).scripts if attributes.get("type") == "application/json"]
    assert not set("<>&") & set(data)
    structures = json.loads(data)["structures"]
    assert [one["sequence"] for one in structures] == [one.structure.sequence for one in content.structures]
    backbone = np.array(structures[0]["backbone"]) / 100
    expected = content.structures[0].backbone_L43.reshape(-1, 3)
    assert backbone == pytest.approx(expected - expected.mean(axis=0), abs=0.01)


def test_policy_lets_only_own_scripts_and_style_run(page: str) -> None:
    parsed = Parsed(page)
    (policy,) = [value for tag, name, value in parsed.values if tag == "meta" and value.startswith("default-src")]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:" and "unsafe" not in policy

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    scripts = {digest(text) for attributes, text in parsed.scripts if "type" not in attributes}
    assert set(rules["script-src"].split()) == scripts
    assert rules["style-src"] == digest(parsed.style)


# The command


def test_page_without_the_library_states_it(content: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLDATLAS_3DMOL", str(tmp_path / "missing.js"))
    page = report_html(content)
    assert "made without 3Dmol.js" in page and "<svg" in page and len(page) < 500_000


def test_text_is_some_forty_lines(atlas: Path, content: Content) -> None:
    text = text_report(atlas)
    lines = text.splitlines()
    assert 25 <= len(lines) <= 50 and max(map(len, lines)) <= 80
    for sentence in (content.summary.folded, content.summary.model, content.summary.trust, content.summary.new):
        assert sentence in " ".join(text.split())
    assert "\x1b" not in text and "most confident novel folds" in text


def test_command_writes_the_page(atlas: Path, tmp_path: Path) -> None:
    done = in_this_process("report", atlas, tmp_path / "page.html")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'page.html'}\n")
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "page.html").stat().st_size < MAX_BYTES
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    done = in_this_process("report", atlas, "--text")
    assert done.returncode == 0 and done.stdout == text_report(atlas)
    done = in_this_process("report", atlas, tmp_path / "page.html", "--text")
    assert done.returncode == 2 and "omit one of them" in done.stderr
    done = in_this_process("report", tmp_path / "nothing")
    assert done.returncode == 2 and "no such folder" in done.stderr
    done = in_this_process("report", atlas, atlas / "atlas.json" / "page.html")
    assert done.returncode == 1 and "Traceback" not in done.stderr


def test_page_that_fails_leaves_the_old_one(
    atlas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "atlas"
    shutil.copytree(atlas, copy)
    before = Path(write_report(copy)).read_bytes()

    def fails(content: Content) -> str:
        raise RuntimeError("no page today")

    monkeypatch.setattr(module, "report_html", fails)
    attempt(copy)
    assert f"could not be made (no page today); to try again: foldatlas report {copy}" in capsys.readouterr().err
    assert (copy / "report.html").read_bytes() == before
    assert not [path.name for path in copy.iterdir() if path.name.startswith(".report")]


def test_fold_ends_with_the_report(whole: Path, short_proteins: str, tmp_path: Path) -> None:
    copy = tmp_path / "atlas"
    shutil.copytree(whole, copy)
    (copy / "report.html").unlink(missing_ok=True)
    done = in_this_process("fold", short_proteins, copy, "--model", "nano")
    assert done.returncode == 0 and not (copy / "report.html").exists()
    done = in_this_process("fold", short_proteins, copy, "--model", "nano", report=True)
    assert done.returncode == 0 and done.stderr.splitlines()[-1] == f"open {copy}/report.html"
    assert "24 proteins of 1 source" in (copy / "report.html").read_text()
    done = in_this_process("verify", copy)
    assert done.returncode == 0 and "report.html" not in done.stdout + done.stderr


def test_known_proteins_are_the_given_ones() -> None:
    """The made atlas has what the tests above rely on."""
    assert {"known", "novel0", "doubtful", "short"} <= given.proteins().keys()


def test_imported_structures_are_described(tmp_path: Path) -> None:
    """Some have no pTM, some no pLDDT; they are of two databases and of unknown origin."""
    folder = imported_atlas.make_imported(tmp_path / "proteome")
    build_index(folder)
    with Atlas.open(folder.root) as opened:
        content = read_content(opened)
    assert "ESM Atlas: 4 proteins" in content.summary.model and "unknown origin: 3 proteins" in content.summary.model
    totals = content.figures["summary"].only
    assert (totals["proteins"], totals["with_plddt"], totals["with_ptm"]) == (9, 6, 4)
    assert "without a pTM, pLDDT alone" in content.summary.trust
    page, text = report_html(content), report_text(content)
    assert "What was imported" in page and "AlphaFold Monomer v2.0" in page and "CC-BY-4.0" in page
    assert "None" not in text and text.partition("\n\n")[2].startswith("holds   9 proteins")
    ids = [row["id"] for row in content.figures["best"]]
    assert ids.index("part") < ids.index("low") < ids.index("bare")  # pLDDT 88 without pTM, 40 with, none
