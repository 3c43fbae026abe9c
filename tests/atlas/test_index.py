"""The index against a plain Python account of what was put into the atlas."""

import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import duckdb
import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from foldatlas.atlas.accounting import Accounting
from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.storage.commit import attempt_name
from foldatlas.schemas.errors import DamagedAtlasError, NotAnAtlasError
from foldatlas.schemas.manifest import encode
from foldatlas.schemas.records import Outcome, Settings, structure_id

# docs/design: the columns of `proteins`, in this order, then the place of the structure
DESIGN = """
id, source, description, length, structure_id, sequence_crc64, mgyp, is_fragment, mean_plddt, plddt_std,
num_confident, fraction_confident, fraction_very_high, fraction_low, fraction_very_low, ptm, confidence_basis,
num_unknown,
radius_of_gyration, helix_fraction, strand_fraction, tm_query, tm_target, nearest_structure, novelty_source,
identity_max, nearest_sequence, cluster90, cluster30, cluster_structure, is_representative30, model, run_id,
structure_file, structure_row_group, structure_row
"""


def expected_states(built) -> dict[tuple[str, int], tuple[str, str, str]]:
    """(source, offset) -> id, outcome, state; written without SQL."""
    rows: dict[tuple[str, int], tuple[str, str, str]] = {}
    for sources in built.given:  # in the order of the plans
        for uri, given in sources.items():
            for r in given:
                key = (uri, r.offset)
                if key in rows and (rows[key][1] == "accepted" or r.outcome != "accepted"):
                    continue
                identity = structure_id(r.sequence)
                if r.outcome == "repeated":
                    state = "repeated"
                elif r.outcome != "accepted":
                    state = "refused"
                elif identity in built.sequences:
                    state = "folded"
                else:
                    state = "failed" if identity in built.failed else "pending"
                rows[key] = (r.id, r.outcome, state)
    return rows


def test_every_record_has_its_state_and_they_add_up(built, indexed) -> None:
    expected = expected_states(built)
    with Atlas.open(indexed.root) as atlas:
        rows = atlas.query('SELECT source, "offset", id, outcome, state FROM records').rows()
    assert {(source, offset): tuple(rest) for source, offset, *rest in rows} == expected
    assert len(rows) == len(expected)
    accounting = build_index(indexed.folder)
    counts = Counter(state for _, _, state in expected.values())
    assert accounting == Accounting(
        folded=counts["folded"],
        failed=counts["failed"],
        repeated=counts["repeated"],
        pending=counts["pending"],
        refused={Outcome(o): n for o, n in Counter(o for _, o, s in expected.values() if s == "refused").items()},
    )
    assert accounting.records == len(expected)
    assert min(counts["folded"], counts["failed"], counts["repeated"], counts["pending"], accounting.num_refused) > 0


def test_the_accounting_line() -> None:
    line = Accounting(folded=58, repeated=1, refused={Outcome.DIGIT: 1}).line()
    assert line == "60 records: 58 folded, 1 repeated, 1 refused (1 digit), 0 failed"
    assert Accounting(folded=1).line() == "1 record: 1 folded, 0 repeated, 0 refused, 0 failed"
    assert Accounting(pending=1234).line().endswith("0 failed, 1,234 still to fold")


def test_record_accepted_by_any_plan_is_accepted(indexed) -> None:
    """A record that one plan refused and another accepted counts as accepted."""
    with Atlas.open(indexed.root) as atlas:
        assert atlas.query("SELECT outcome, state FROM records WHERE id = 'long'").rows() == [("accepted", "folded")]


def test_structure_in_two_plans_is_taken_from_the_earliest(built, indexed) -> None:
    with Atlas.open(indexed.root) as atlas:
        rows = atlas.query("SELECT structure_id, mean_plddt, radius_of_gyration, structure_file FROM scores").rows()
        copies = atlas.query("SELECT count(*) FROM copies WHERE path LIKE 'structures/%'").rows()[0][0]
    assert len(rows) == len({row[0] for row in rows}) == len(built.sequences)
    for identity, mean, _, _ in rows:
        assert mean == pytest.approx(built.plddt[identity.bytes].mean(), abs=0.0051)  # the first plan's values
    first = set(pq.read_table(built.root / built.plans[0].sequences[0].path)["structure_id"].to_pylist())
    for identity, _, _, file in rows:
        plan = built.plans[0] if identity in first else built.plans[1]
        assert file.startswith(f"structures/{plan.name}")
    assert copies == sum(e.folded for e in built.folder.entries().values()) - len(rows) > 0


def test_every_place_leads_to_its_structure(built, indexed) -> None:
    with Atlas.open(indexed.root) as atlas:
        rows = atlas.query(
            "SELECT structure_id, structure_file, structure_row_group, structure_row FROM proteins"
        ).rows()
    for identity, file, group, row in rows:
        table = pq.ParquetFile(indexed.root / file).read_row_group(group, columns=["structure_id"])
        assert table["structure_id"][row - 64 * group].as_py() == identity
    assert max(row[2] for row in rows) > 0


def test_proteins_view_has_documented_columns(indexed) -> None:
    """`proteins` and the views made from it have the design's columns, each with a comment."""
    with Atlas.open(indexed.root) as atlas:
        result = atlas.query("SELECT * FROM proteins")
        assert result.columns == DESIGN.replace("\n", " ").replace(" ", "").strip().split(",")
        for view in ("proteins", "high_confidence", "novel"):
            said = dict(
                atlas.query(f"SELECT column_name, comment FROM duckdb_columns() WHERE table_name = '{view}'").rows()
            )
            assert list(said) == result.columns and all(said.values())
            assert said["mean_plddt"] == "mean pLDDT over residues; unit: pLDDT; range: 0 to 100"
        merged = result.columns[21:31]
        sql = f"SELECT count(*) FROM proteins WHERE coalesce({', '.join(f'{c}::VARCHAR' for c in merged)}) IS NOT NULL"
        assert atlas.query(sql).rows() == [(0,)]


def test_views_hold_the_rows_they_promise(indexed) -> None:
    with Atlas.open(indexed.root) as atlas:
        rows = atlas.query("SELECT id, mean_plddt, ptm FROM proteins").rows()
        high = atlas.query("SELECT id FROM high_confidence ORDER BY id").rows()
        assert [id for (id,) in high] == sorted(id for id, plddt, ptm in rows if plddt > 70 and ptm > 0.7)
        assert 0 < len(high) < len(rows)
        assert atlas.query("SELECT count(*) FROM novel").rows() == [(0,)]  # nothing was searched
        refused = atlas.query("SELECT id, outcome, reason FROM refused ORDER BY ALL").rows()
        assert ("digits", "digit", "the sequence holds digits") in refused and len(refused) == 3


def test_runs_and_settings_explain_the_file(built, indexed) -> None:
    entries = built.folder.entries().values()
    with Atlas.open(indexed.root) as atlas:
        run, *others = atlas.query(
            "SELECT run_id, shards, folded, failed, residues, seconds, residues_per_second, model, device FROM runs "
            "ORDER BY run_id"
        ).rows()
        settings = atlas.query("SELECT model, weights, recycles, precision, format FROM settings").rows()
    mine = [e for e in entries if e.run.run_id == "run-1"]
    residues, seconds = sum(e.residues for e in mine), sum(e.run.seconds for e in mine)
    folded, failed = sum(e.folded for e in mine), sum(e.failed for e in mine)
    assert run == ("run-1", 3, folded, failed, residues, seconds, residues / seconds, "nano-untrained", "cpu")
    assert len(others) == 1
    assert settings == [("nano-untrained", "ab" * 32, 0, "fp32", 1)]


def test_the_tables_are_sorted_by_their_keys(indexed) -> None:
    connection = duckdb.connect(str(indexed.folder.index_path), read_only=True)
    ids = [id for (id,) in connection.execute("SELECT id FROM records").fetchall()]
    keys = [key for (key,) in connection.execute("SELECT structure_id FROM scores").fetchall()]
    connection.close()
    assert ids == sorted(ids) and keys == sorted(keys, key=lambda key: key.bytes)


def test_an_atlas_of_one_plan_and_an_atlas_without_any(copy: Callable) -> None:
    single = copy()
    (single.root / "plans" / f"{single.plans[1].name}.json").unlink()  # without it, its entries do not exist
    accounting = build_index(single.folder)
    assert accounting.records == len(single.given[0]["file:///data/a.fasta"])
    assert accounting.refused[Outcome.TOO_LONG] == 1 and accounting.pending == 0
    (single.root / "plans" / f"{single.plans[0].name}.json").unlink()
    assert build_index(single.folder) == Accounting()
    with Atlas.open(single.root) as atlas:
        assert atlas.query("SELECT count(*) FROM proteins").rows() == [(0,)]
        assert atlas.query("SELECT count(*) FROM structures").rows() == [(0,)]


def test_a_changed_source_has_records_of_its_own(copy: Callable) -> None:
    """The same URI with another digest in the second plan: other records, at the same offsets."""
    changed = copy()
    _, second = changed.plans
    old, *others = second.sources
    plan = msgspec.structs.replace(second, sources=(msgspec.structs.replace(old, sha256="f" * 64), *others))
    (changed.root / "plans" / f"{second.name}.json").write_bytes(encode(plan))
    assert build_index(changed.folder).records == sum(
        len(given) for sources in changed.given for given in sources.values()
    )


def test_a_new_index_replaces_the_old_one_and_leaves_nothing(copy: Callable) -> None:
    built = copy()
    build_index(built.folder)
    before = built.folder.index_path.stat().st_ino
    with Atlas.open(built.root) as atlas:
        counted = atlas.query("SELECT count(*) FROM proteins")
        build_index(built.folder)
        assert counted.rows()[0][0] > 0  # an open atlas keeps what it opened
    assert built.folder.index_path.stat().st_ino != before
    assert not [path for path in built.root.iterdir() if path.name.startswith(".")]


def test_a_failed_build_keeps_the_old_index(copy: Callable) -> None:
    built = copy()
    build_index(built.folder)
    before = built.folder.index_path.read_bytes()
    entry = next(iter(built.folder.entries().values()))
    (built.root / entry.files["scores"].path).unlink()
    with pytest.raises(DamagedAtlasError, match="foldatlas verify"):
        build_index(built.folder)
    assert built.folder.index_path.read_bytes() == before
    assert not [path for path in built.root.iterdir() if path.name.startswith(".")]


def test_leftovers_of_dead_builds_are_removed(copy: Callable) -> None:
    built = copy()
    host = attempt_name().rsplit("_", 2)[0]
    dead, alive = built.root / f".index.{host}_4194305_ab", built.root / f".index.{host}_1_ab"
    dead.mkdir()
    alive.mkdir()
    build_index(built.folder)
    assert not dead.exists() and alive.exists()


def test_an_atlas_named_by_a_roundabout_path(copy: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    built = copy()
    (built.root.parent / "link").symlink_to(built.root)
    monkeypatch.chdir(built.root)
    for path in ("../link", f"../{built.root.name}/plans/.."):
        assert build_index(AtlasFolder(Path(path))).folded > 0
        with Atlas.open(path) as atlas:
            assert atlas.query("SELECT count(*) FROM structures").rows() == [(len(built.sequences),)]


def test_no_atlas_no_index(tmp_path: Path) -> None:
    with pytest.raises(NotAnAtlasError):
        build_index(AtlasFolder(tmp_path))
    empty = AtlasFolder(tmp_path / "new")
    empty.create(Settings("nano", "0", 0, "fp32"))
    assert build_index(empty).line() == "0 records: 0 folded, 0 repeated, 0 refused, 0 failed"


def test_structure_folded_only_by_the_later_plan_is_visible(copy: Callable) -> None:
    """The earliest plan owns a shared structure, unless it has not folded its shard."""
    built = copy()
    entries = built.folder.entries()
    mine = [e for e in entries.values() if e.plan == built.plans[0].name]
    for entry in mine:
        built.folder.entry_path(entry.shard, 0).unlink()
    build_index(built.folder)
    with Atlas.open(built.root) as atlas:
        rows = atlas.query("SELECT structure_id, structure_file FROM scores").rows()
        assert atlas.query("SELECT count(*) FROM structures").rows() == [(len(rows),)]
    folded = sum(e.folded for e in entries.values() if e.plan == built.plans[1].name)
    assert len(rows) == folded and all(file.startswith(f"structures/{built.plans[1].name}") for _, file in rows)


def test_ids_are_md5_uuids(indexed) -> None:
    with Atlas.open(indexed.root) as atlas:
        rows = atlas.query("SELECT p.structure_id, s.sequence FROM proteins p JOIN sequences s USING (structure_id)")
        pairs = rows.rows()
    assert pairs and all(identity == uuid.UUID(bytes=structure_id(sequence)) for identity, sequence in pairs)
    assert np.unique([len(sequence) for _, sequence in pairs]).size > 10


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
@pytest.mark.parametrize("limit", [4_000, 60_000, 600_000])
def test_a_full_disk_leaves_no_half_index(copy: Callable, limit: int) -> None:
    """Closing a database that cannot be written out says nothing: 12 kB without a table once passed for an index."""
    root = copy().root
    build = (
        "import resource, sys; from pathlib import Path; from foldatlas.atlas.folder import AtlasFolder; "
        "from foldatlas.atlas.index.build import build_index; "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY)); "
        "build_index(AtlasFolder(Path(sys.argv[1])))"
    )
    # Python would cut short the compiled modules that it writes, too
    done = subprocess.run([sys.executable, "-B", "-c", build, str(root)], capture_output=True, text=True)
    assert done.returncode == 1 and "File too large" in done.stderr.splitlines()[-1], done.stderr
    assert not (root / "atlas.duckdb").exists()
    assert [path.name for path in root.iterdir() if path.name.startswith(".")] == []
