"""What nano learns from: the filters, the splits and the readers, on made-up sequences."""

import random
from dataclasses import replace

import pytest

from foldatlas.folding.training.data import nano_data
from foldatlas.folding.training.data.nano_data import CONFIDENCE, TRUNK, Chain
from foldatlas.folding.training.data.sequence_search import HIT_COLUMNS, Hit, parse_clusters, parse_hits
from foldatlas.schemas.errors import SourceError

ALANINES = "A" * 40
HIT = Hit("q", "t", 0.5, 90, 100, 100, 1e-20, 0.9, 0.9)  # a good one: tests change a field


def test_fasta_is_read_with_accessions_stops_and_soft_masks() -> None:
    text = ">sp|P12345|ABC_DEF a protein\nMKV\nlla\n>gene_1 # 3 # 9\nMKV*\n>a|b\nM K\n"
    assert list(nano_data.read_fasta(text, "here")) == [("P12345", "MKVLLA"), ("gene_1", "MKV"), ("a|b", "MK")]
    assert list(nano_data.read_fasta("", "here")) == []


@pytest.mark.parametrize(("text", "message"), [("MKV\n>a\nMKV", "here starts with 'MKV'"), (">\nMKV", "record 1")])
def test_text_that_is_not_fasta_is_refused(text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        list(nano_data.read_fasta(text, "here"))


def test_collecting_counts_every_record_once() -> None:
    sequences, outcomes = nano_data.collect(
        {
            "chains": [("a", ALANINES), ("b", ALANINES[:29]), ("c", ALANINES[:30])],
            "genome": [("d", ALANINES), ("e", ALANINES + "X"), ("f", "G" * 31), ("g", "")],
        }
    )
    assert [(sequence.name, sequence.source) for sequence in sequences] == [
        ("a", "chains"),
        ("c", "chains"),
        ("f", "genome"),
    ]
    assert outcomes["chains"] == {"kept": 2, "short": 1}
    assert outcomes["genome"] == {"kept": 1, "duplicate": 1, "nonstandard": 1, "short": 1}


def test_one_name_for_two_sequences_is_refused() -> None:
    with pytest.raises(SourceError, match="genome: two different sequences have the name a"):
        nano_data.collect({"chains": [("a", ALANINES)], "genome": [("a", "G" * 40)]})


def test_hits_are_parsed_in_the_order_that_is_asked_for() -> None:
    assert HIT_COLUMNS.count(",") + 1 == len(Hit.__dataclass_fields__)
    (hit,) = parse_hits("3\t17\t0.412\t85\t100\t120\t1.5E-08\t0.85\t0.708\n")
    assert hit == Hit("3", "17", 0.412, 85, 100, 120, 1.5e-8, 0.85, 0.708)
    assert list(parse_hits("")) == []


@pytest.mark.parametrize("line", ["1\t2", "1\t2\tx\t85\t100\t120\t1E-8\t0.8\t0.7", "1\t2\t.4\t85\t100\t120\t1E-8\t0.8"])
def test_other_lines_are_refused(line: str) -> None:
    with pytest.raises(SourceError, match="line 2 of MMseqs2's hits"):
        list(parse_hits("3\t17\t0.412\t85\t100\t120\t1.5E-08\t0.85\t0.708\n" + line))


def test_clusters_are_parsed() -> None:
    assert parse_clusters("1\t1\n1\t2\n5\t5\n") == {"1": "1", "2": "1", "5": "5"}
    with pytest.raises(SourceError, match="line 1 of MMseqs2's clusters"):
        parse_clusters("1 2")


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({}, "both"),
        ({"evalue": 1e-3}, "identity"),  # not below the limit
        ({"identity": 0.299}, "evalue"),
        ({"aligned": 49}, "evalue"),
        ({"aligned": 50, "evalue": 5.0}, "identity"),
        ({"aligned": 20, "query_length": 40, "evalue": 5.0}, "identity"),  # half of the shorter is enough
        ({"aligned": 49, "evalue": 1e-3}, None),
        ({"identity": 0.299, "evalue": 5.0}, None),
    ],
)
def test_either_rule_makes_a_sequence_near(changes: dict[str, float], rule: str | None) -> None:
    assert nano_data.near([replace(HIT, **changes)]) == ({"t": rule} if rule else {})


def test_rules_of_several_hits_add_up() -> None:
    by_identity = replace(HIT, evalue=1.0)
    by_evalue = replace(HIT, identity=0.2, query="another")
    assert nano_data.near([by_identity, by_evalue, replace(by_evalue, target="u")]) == {"t": "both", "u": "evalue"}


def test_families_join_by_cluster_and_by_hit() -> None:
    chains = [Chain(name, cluster, ALANINES) for name, cluster in zip("abcdef", "112345", strict=True)]
    hits = [
        replace(HIT, query="b", target="c", evalue=0.009),
        replace(HIT, query="e", target="d"),
        replace(HIT, query="f", target="a", evalue=0.01),  # not below the limit
    ]
    found = nano_data.families(chains, hits)
    assert [[chain.name for chain in family] for family in found] == [["a", "b", "c"], ["d", "e"], ["f"]]
    assert nano_data.families(chains[::-1], hits[::-1]) == found  # in any order


def some_families(seed: int, num: int) -> list[list[Chain]]:
    draw = random.Random(seed)
    found = []
    for number in range(num):
        length = draw.randrange(30, 500)
        family = [
            Chain(f"{number:04d}-{member}", f"{number}-{member % 2}", "A" * (length + member))
            for member in range(draw.choice([1, 1, 2, 3, 15]))
        ]
        found.append(family)
    return found


def test_roles_keep_families_whole_and_reach_their_shares() -> None:
    found = some_families(1, 800)
    roles = nano_data.split_roles(found)
    assert set(roles) == {chain.name for family in found for chain in family}
    for family in found:
        assert len({roles[chain.name] for chain in family}) == 1
        assert len(family) <= nano_data.LARGEST_FAMILY or roles[family[0].name] == TRUNK
    for shortest, longest, share in ((0, 100, 0.18), (101, 150, 0.18), (151, 250, 0.11), (251, 1000, 0.09)):
        clusters = {
            role: {
                chain.cluster
                for family in found
                for chain in family
                if roles[chain.name] == role
                and shortest <= sorted(len(c.residues) for c in family)[len(family) // 2]
                and sorted(len(c.residues) for c in family)[(len(family) - 1) // 2] <= longest
            }
            for role in (TRUNK, CONFIDENCE)
        }
        total = len(clusters[TRUNK]) + len(clusters[CONFIDENCE])
        assert len(clusters[CONFIDENCE]) / total == pytest.approx(share, abs=1.5 / total)


def test_roles_depend_on_names_alone() -> None:
    found = some_families(2, 200)
    roles = nano_data.split_roles(found)
    assert nano_data.split_roles(found[::-1]) == roles
    renamed = [[replace(chain, name="x" + chain.name) for chain in family] for family in found]
    assert {name[1:]: role for name, role in nano_data.split_roles(renamed).items()} != roles


def test_the_order_is_a_fixed_function_of_the_name() -> None:
    # The reference is SHA-256 of "nano confidence 1ABC_A" by coreutils' sha256sum.
    assert nano_data.order("1ABC_A", CONFIDENCE).hex().startswith("75cb54cca96d8316")
    assert nano_data.order("1ABC_A", CONFIDENCE) != nano_data.order("1ABC_A", "held out")


def test_held_out_clusters_are_confidence_chains_and_a_few_more() -> None:
    """Clusters of the trunk's chains are never held out; those of confidence chains always are."""
    clusters = {f"m{number}": f"c{number // 2}" for number in range(2000)}  # 1,000 clusters of two
    roles = {"m0": CONFIDENCE, "m2": TRUNK, "m4": CONFIDENCE, "m5": TRUNK, "m6": CONFIDENCE}
    held = nano_data.hold_out(clusters, roles)
    assert len(held) == 25
    assert {"c0", "c3"} <= held
    assert not {"c1", "c2"} & held  # the trunk's, and one that both roles share
    more = {f"m{number}": CONFIDENCE for number in range(0, 100, 2)}
    assert nano_data.hold_out(clusters, more) == {f"c{number}" for number in range(50)}  # never fewer than these


def test_familiar_proteins_are_alike_but_not_the_same() -> None:
    hits = [
        replace(HIT, query="best", identity=0.9),
        replace(HIT, query="second", identity=0.8),  # the same family
        replace(HIT, query="third", identity=0.7),
        replace(HIT, query="other", target="u", identity=0.41),
        replace(HIT, query="known", target="v", identity=0.8),
        replace(HIT, query="known", target="t", identity=0.96),
        replace(HIT, query="far", target="v", identity=0.39),
        replace(HIT, query="part", target="v", query_coverage=0.8),
        replace(HIT, query="whole", target="v", target_coverage=0.8),
        replace(HIT, query="short", target="v", query_length=39),
        replace(HIT, query="long", target="v", query_length=151),
        replace(HIT, query="chance", target="v", evalue=0.001),
    ]
    family_of = {"t": "T", "u": "U", "v": "V"}
    assert [hit.query for hit in nano_data.familiar(hits, family_of, 20)] == ["best", "other", "second", "third"]
    assert [hit.query for hit in nano_data.familiar(hits[::-1], family_of, 3)] == ["best", "other", "second"]


def test_a_protein_of_two_families_is_listed_once() -> None:
    hits = [replace(HIT, identity=0.9), replace(HIT, target="u", identity=0.8), replace(HIT, query="p", target="u")]
    best = nano_data.familiar(hits, {"t": "T", "u": "U"}, 20)
    assert [(hit.query, hit.target) for hit in best] == [("q", "t"), ("p", "u")]
