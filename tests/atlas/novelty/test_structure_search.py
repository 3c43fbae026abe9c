"""Structure search against a small reference of made chains: what every mode must give, and must not change by."""

from dataclasses import fields

import made_reference as made
import numpy as np
import pytest
from made_chains import rotation

from foldatlas.atlas.novelty import structure_search
from foldatlas.atlas.novelty.hits import NoHit, NotSearched, Query, StructureHit
from foldatlas.atlas.novelty.settings import SearchSettings
from foldatlas.atlas.novelty.structure_search import search_structures
from foldatlas.atlas.reference.reader import Reference
from foldatlas.folding.compare.superposition import tm_d0
from foldatlas.schemas.errors import UsageError

MODES = ("default", "sensitive", "exhaustive")
LENGTHS = (60, 75, 90, 110, 130, 150, 170, 200)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Eight chains, two relatives of each, and in version 2 a nearer relative of two."""
    folder = tmp_path_factory.mktemp("reference") / "db"
    chains = {f"chain{k}": made.made(length, k) for k, length in enumerate(LENGTHS)}
    first = {
        f"{name}-{noise}": made.relative(chain, seed, noise)
        for seed, (name, chain) in enumerate(chains.items())
        for noise in (0.7, 1.5)
    }
    made.build(folder, first)
    nearer = {f"{name}-0.3": made.relative(chains[name], 90, 0.3) for name in ("chain3", "chain6")}
    return made.build(folder, nearer, "nearer")


@pytest.fixture
def search(reference):
    def run(*queries, mode="default", verdict_only=False, **options):
        settings = SearchSettings(mode, verdict_only)
        return search_structures(reference, queries, settings, **options)

    return run


def chain(number):
    return made.made(LENGTHS[number], number)


def check_transform(reference, query, hit):
    """TM-score and RMSD follow from the partners, the rotation and the translation."""
    _, target = reference.chain(hit.row)
    rows = np.flatnonzero(hit.partners_L >= 0)
    assert len(rows) == hit.aligned_length and (np.diff(hit.partners_L[rows]) > 0).all()
    assert np.linalg.det(hit.rotation) == pytest.approx(1, abs=1e-9)
    moved = query.backbone_L43[rows, 1].astype(np.float64) @ hit.rotation.T + hit.translation
    squares = ((moved - target[hit.partners_L[rows]]) ** 2).sum(axis=1)
    length = int(query.has_c_alpha_L.sum())
    assert (1 / (1 + squares / tm_d0(length) ** 2)).sum() / length == pytest.approx(hit.tm_query, abs=1e-4)
    assert np.sqrt(squares.mean()) == pytest.approx(hit.rmsd, abs=1e-3)


def same(one, other):
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert type(a) is type(b) and np.array_equal(a, b), field.name


@pytest.mark.parametrize("mode", MODES)
def test_nearest_relative_is_the_best_hit(reference, search, mode):
    queries = [made.query(chain(k)) for k in range(len(LENGTHS))]
    found = search(*queries, mode=mode)
    names = [reference.names[hit.row].as_py() for hit in found.results]
    assert names == [f"chain{k}-{0.3 if k in (3, 6) else 0.7}" for k in range(len(LENGTHS))]
    for query, hit in zip(queries, found.results, strict=True):
        assert hit.is_known and hit.tm_target > 0.5 and hit.identity > 0.9
        check_transform(reference, query, hit)
    assert found.seconds and found.counts


@pytest.mark.parametrize("mode", MODES)
def test_an_entry_finds_itself_with_a_score_of_one(reference, search, mode):
    """Its own backbone; the best hit is the entry itself, with no rotation beyond rounding."""
    relative = made.relative(chain(2), 2, 0.7)
    (hit,) = search(made.query(relative), mode=mode).results
    assert reference.names[hit.row].as_py() == "chain2-0.7"
    assert hit.tm_query == pytest.approx(1, abs=1e-5) and hit.tm_target == pytest.approx(1, abs=1e-5)
    assert hit.rmsd < 1e-2 and hit.identity == 1.0
    assert np.allclose(hit.rotation, np.eye(3), atol=1e-3)


def test_hits_do_not_depend_on_place_or_names(reference, search):
    letters, atoms = chain(4)
    rng = np.random.default_rng(0)
    turn, shift = rotation(rng), rng.normal(size=3) * 100
    moved = letters, tuple(atom @ turn.T + shift for atom in atoms)
    before, after = search(made.query(chain(4)), made.query(moved, name="another")).results
    assert after.row == before.row
    assert after.tm_query == pytest.approx(before.tm_query, abs=1e-3)
    assert after.aligned_length == pytest.approx(before.aligned_length, abs=2)
    check_transform(reference, made.query(moved), after)


@pytest.mark.parametrize("mode", MODES)
def test_a_mirror_image_is_not_known(search, mode):
    letters, atoms = chain(5)
    mirrored = letters, tuple(atom * [1, 1, -1] for atom in atoms)
    (hit,) = search(made.query(mirrored), mode=mode).results
    assert not isinstance(hit, StructureHit) or not hit.is_known


@pytest.mark.parametrize(("length", "searched"), [(1, False), (5, False), (29, False), (30, True)])
def test_chains_below_thirty_residues_are_not_searched(search, length, searched):
    letters, atoms = chain(7)
    piece = letters[:length], tuple(atom[:length] for atom in atoms)
    (found,) = search(made.query(piece)).results
    assert isinstance(found, StructureHit) is searched
    if not searched:
        assert found == NotSearched("too_short")


def test_missing_atoms(reference, search):
    """Residues without a C-alpha count nowhere; without another atom a residue is aligned all the same."""
    letters, atoms = chain(6)
    holes = tuple(atom.copy() for atom in atoms)
    holes[1][[0, 40, 41, 42, 169]] = np.nan
    holes[0][60:64] = np.nan
    holes[3][80:90] = np.nan
    query = made.query((letters, holes))
    (hit,) = search(query).results
    assert reference.names[hit.row].as_py() == "chain6-0.3"
    assert (hit.partners_L[[0, 40, 41, 42, 169]] == -1).all() and (hit.partners_L[60:64] >= 0).all()
    assert hit.tm_query > 0.8
    check_transform(reference, query, hit)
    few = tuple(atom.copy() for atom in atoms)
    few[1][25:] = np.nan
    assert search(made.query((letters, few))).results == (NotSearched("too_short"),)


def test_odd_chains(search):
    """All-glycine without C-beta, and 2,500 residues against a reference of short chains."""
    _, atoms = chain(1)
    glycine = Query("glycine", "G" * 75, np.stack([*atoms[:3], np.full((75, 3), np.nan)], axis=1).astype(np.float32))
    long = made.query(made.made(2500, 3))
    hit, low = search(glycine, long).results
    assert hit.is_known and hit.identity < 0.5
    assert low.tm_query < 0.5


def test_confident_residues_have_a_score_of_their_own(search):
    """A confident half that fits scores more than the whole, whose other half was moved away."""
    letters, atoms = chain(3)
    bent = tuple(
        np.where(np.arange(110)[:, None] < 70, atom, atom @ rotation(np.random.default_rng(1)).T) for atom in atoms
    )
    plddt = np.where(np.arange(110) < 70, 90.0, 30.0)
    confident, none, unknown = search(
        made.query((letters, bent), plddt), made.query((letters, bent), 50.0), made.query((letters, bent))
    ).results
    assert confident.tm_confident > confident.tm_query
    assert none.tm_confident is None and unknown.tm_confident is None


@pytest.mark.parametrize("mode", MODES)
def test_threads_and_company_change_nothing(search, mode):
    """Bitwise, for 1 and 2 threads, and for queries searched one by one in another order."""
    queries = [made.query(chain(k), 80.0) for k in (0, 3, 5, 7)]
    one, two = (search(*queries, mode=mode, threads=threads) for threads in (1, 2))
    alone = [search(query, mode=mode).results[0] for query in reversed(queries)][::-1]
    for a, b, c in zip(one.results, two.results, alone, strict=True):
        same(a, b)
        same(a, c)


def test_only_newer_entries_are_searched(reference, search):
    new = reference.new_rows(1)
    queries = [made.query(chain(k)) for k in (3, 4)]
    found = search(*queries, since=1)
    assert all(not isinstance(hit, StructureHit) or hit.row in new for hit in found.results)
    assert reference.names[found.results[0].row].as_py() == "chain3-0.3"
    assert search(*queries, since=2).results == (NoHit(), NoHit())


def test_the_scan_chooses_candidates(reference, search, monkeypatch):
    """With few candidates the nearest are among them, also where their scores are all as great as a byte goes."""
    few = dict.fromkeys(MODES, structure_search.Stages(1, 3, (0.6, 0.8), (9, 9), 4))
    everything = search(made.query(chain(6)), made.query(chain(7)))
    monkeypatch.setattr(structure_search, "STAGES", few)
    found = search(made.query(chain(6)), made.query(chain(7)))
    assert found.counts["bound"] < 8 and found.counts["scan"] == 2 * len(reference)
    for a, b in zip(everything.results, found.results, strict=True):
        same(a, b)


def test_more_effort_below_the_threshold(search, monkeypatch):
    """Where the best score is just below it, four entries are aligned again, in a sensitive search up to 128."""
    query = made.query(made.made(120, 77))
    before = search(query).results[0].tm_query
    again = {}
    for threshold in (before + 0.1, before + 0.01):
        monkeypatch.setattr(structure_search, "VERDICT_TM", threshold)
        for mode in MODES:
            found = search(query, mode=mode)
            again[threshold > before + 0.05, mode] = found.counts.get("again", 0)
            assert found.results[0].tm_query >= before
    assert [again[True, mode] for mode in MODES] == [0, 0, 0]
    assert again[False, "default"] == 4 and again[False, "sensitive"] > 4 and again[False, "exhaustive"] == 18


def test_verdicts_only(search):
    """A hit that makes it known, as in the full search; the others are the same."""
    queries = [made.query(chain(k)) for k in range(4)] + [made.query(made.made(100, 77))]
    full, quick = search(*queries), search(*queries, verdict_only=True)
    for a, b in zip(full.results, quick.results, strict=True):
        assert a.is_known == b.is_known and b.tm_query <= a.tm_query + 1e-9


def test_wrong_calls_are_refused(search):
    with pytest.raises(UsageError, match="threads must be 1 or more"):
        search(made.query(chain(0)), threads=0)
    with pytest.raises(UsageError, match="not 'quick'"):
        SearchSettings("quick")
    with pytest.raises(ValueError, match=r"\[L, 4, 3\]"):
        Query("query", "AAA", np.zeros((4, 4, 3), np.float32))
    with pytest.raises(ValueError, match=r"\[L\]"):
        Query("query", "AAA", np.zeros((3, 4, 3), np.float32), np.zeros(4, np.float32))


def test_the_demo_reference_can_be_searched():
    """It has C-alphas alone beside its 3Di states: a query of these finds the entry."""
    demo = Reference.open("demo")
    letters, c_alphas = demo.chain(5)
    backbone = np.full((len(letters), 4, 3), np.nan, np.float32)
    backbone[:, 1] = c_alphas
    for mode in MODES:
        query = Query("query", letters, backbone)
        (hit,) = search_structures(demo, [query], SearchSettings(mode)).results
        assert hit.row == 5 and hit.tm_query == pytest.approx(1, abs=1e-5)


def test_every_setting_changes_the_digest():
    every = [SearchSettings(mode, verdict) for mode in MODES for verdict in (False, True)]
    assert len({settings.digest for settings in every}) == len(every)
