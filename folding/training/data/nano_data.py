"""Selection and splits of `nano`'s training data: which sequences are used, held out and excluded.

All functions are pure: the searches (MMseqs2, Steinegger and Soeding 2017) are run by `sequence_search.py`, and their
hits are arguments. Nothing is random: choices are made by the order of the SHA-256 of names, so that the same input
gives the same split on every machine.
"""

import hashlib
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from foldatlas.folding.training.data.sequence_search import Hit
from foldatlas.schemas.errors import SourceError
from foldatlas.schemas.records import STANDARD_RESIDUES

SHORTEST: Final = 30  # residues
CHAINS: Final = "chains"  # source name of the sequences of experimental structures

# Sequences this similar to a chain held out for evaluation are excluded. Either rule is sufficient.
NEAR_IDENTITY: Final = 0.30  # of the aligned residues
NEAR_COVERAGE: Final = 0.50  # of the shorter sequence
HOMOLOGOUS: Final = 1e-3  # E-value below which a hit is a homologue

# Families are separated as in the splits of the chains: a hit below this E-value joins, for any coverage.
SAME_FAMILY: Final = 0.01

HELD_OUT_FRACTION: Final = 0.025  # of the language model's clusters

# Longest median length of a stratum, residues -> fraction of its clusters used to train the confidence heads. It is
# higher for short chains: `nano` folds chains of up to 150 residues.
CONFIDENCE_FRACTIONS: Final = {100.0: 0.18, 150.0: 0.18, 250.0: 0.11, float("inf"): 0.09}
LARGEST_FAMILY: Final = 10  # chains; the trunk learns most from larger families, so they are never taken from it

FAMILIAR_LENGTHS: Final = (40, 150)  # residues, inclusive
FAMILIAR_IDENTITIES: Final = (0.40, 0.95)  # lower ones fold badly; higher ones are no test
FAMILIAR_COVERAGE: Final = 0.80  # of both sequences

TRUNK: Final = "trunk"
CONFIDENCE: Final = "confidence"


@dataclass(frozen=True)
class Sequence:
    """A protein for the language model. `residues` are standard ones, in upper case."""

    name: str
    source: str
    residues: str


@dataclass(frozen=True)
class Chain:
    """The sequence of an experimental structure. `cluster`: its cluster at 30 % identity in the file of chains."""

    name: str
    cluster: str
    residues: str


def order(name: str, purpose: str) -> bytes:
    """Return the sort key of `name` in a pseudo-random but reproducible order; `purpose` selects the order."""
    return hashlib.sha256(f"nano {purpose} {name}".encode()).digest()


def read_fasta(text: str, origin: str) -> Iterator[tuple[str, str]]:
    """Yield name and residues of each record, in order. The name of `>sp|P12345|ABC_DEF ...` is the accession P12345.

    Residues are in upper case, without a stop (`*`) at the end. Raise SourceError for text before the first record or a
    record without a name; `origin` is the file's name for the message.
    """
    before, *records = ("\n" + text).split("\n>")
    if before.strip():
        raise SourceError(f"{origin} starts with {before.strip()[:30]!r}, not with '>': give a FASTA file")
    for number, record in enumerate(records, start=1):
        header, _, body = record.partition("\n")
        if not header.strip():
            raise SourceError(f"{origin}: record {number} has no name: write one after '>'")
        word = header.split()[0]
        parts = word.split("|")
        name = parts[1] if len(parts) == 3 and parts[0] in ("sp", "tr") and parts[1] else word
        yield name, "".join(body.split()).upper().removesuffix("*")


def collect(sources: Mapping[str, Iterable[tuple[str, str]]]) -> tuple[list[Sequence], dict[str, Counter[str]]]:
    """Return every usable sequence once, in the order of the sources, and counts of outcomes for each source.

    The outcomes are `kept`, `nonstandard` (a letter that is not a standard residue), `short` (below 30 residues) and
    `duplicate` (the same residues as an earlier record). Raise SourceError if two different sequences have one name.
    """
    kept: dict[str, Sequence] = {}
    outcomes: dict[str, Counter[str]] = {}
    names: set[str] = set()
    standard = set(STANDARD_RESIDUES)
    for source, records in sources.items():
        count = outcomes.setdefault(source, Counter())
        for name, residues in records:
            if not set(residues) <= standard:
                count["nonstandard"] += 1
            elif len(residues) < SHORTEST:
                count["short"] += 1
            elif residues in kept:
                count["duplicate"] += 1
            else:
                if name in names:
                    raise SourceError(f"{source}: two different sequences have the name {name}: rename one of them")
                names.add(name)
                kept[residues] = Sequence(name, source, residues)
                count["kept"] += 1
    return list(kept.values()), outcomes


def is_near(hit: Hit) -> bool:
    """Return whether a hit has at least 30 % identity over at least half of the shorter sequence."""
    shorter = min(hit.query_length, hit.target_length)
    return hit.identity >= NEAR_IDENTITY and hit.aligned >= NEAR_COVERAGE * shorter


def near(hits: Iterable[Hit]) -> dict[str, str]:
    """Return target -> reason of its exclusion, `identity`, `evalue` or `both`. The queries are held-out chains."""
    rules: defaultdict[str, set[str]] = defaultdict(set)
    for hit in hits:
        if is_near(hit):
            rules[hit.target].add("identity")
        if hit.evalue < HOMOLOGOUS:
            rules[hit.target].add("evalue")
    return {target: "both" if len(found) == 2 else found.pop() for target, found in rules.items()}


def families(chains: Collection[Chain], hits: Iterable[Hit]) -> list[list[Chain]]:
    """Return families: connected components of chains that share a cluster or have a hit with E < 0.01.

    No chain has such a hit in another family, so that a family can be held out as a whole. Families, and the chains of
    each, are sorted by name.
    """
    parents = {chain.name: chain.name for chain in chains}

    def root(name: str) -> str:
        while parents[name] != name:
            parents[name] = parents[parents[name]]
            name = parents[name]
        return name

    first_of_cluster: dict[str, str] = {}
    for chain in chains:
        parents[root(chain.name)] = root(first_of_cluster.setdefault(chain.cluster, chain.name))
    for hit in hits:
        if hit.evalue < SAME_FAMILY:
            parents[root(hit.query)] = root(hit.target)
    grouped: defaultdict[str, list[Chain]] = defaultdict(list)
    for chain in sorted(chains, key=lambda chain: chain.name):
        grouped[root(chain.name)].append(chain)
    return sorted(grouped.values(), key=lambda family: family[0].name)


def split_roles(found: Collection[list[Chain]]) -> dict[str, str]:
    """Return chain -> `trunk` or `confidence`, with one role for each family.

    Families are stratified by their median length. In each stratum, families of at most 10 chains are assigned to
    `confidence`, in the order of the hash of their first name, up to the stratum's fraction of clusters.
    """
    strata: defaultdict[float, list[list[Chain]]] = defaultdict(list)
    for family in found:
        median = statistics.median(len(chain.residues) for chain in family)
        strata[min(limit for limit in CONFIDENCE_FRACTIONS if median <= limit)].append(family)
    roles = {chain.name: TRUNK for family in found for chain in family}
    for limit, stratum in strata.items():
        remaining = round(CONFIDENCE_FRACTIONS[limit] * sum(_num_clusters(family) for family in stratum))
        for family in sorted(stratum, key=lambda family: order(family[0].name, CONFIDENCE)):
            if len(family) <= LARGEST_FAMILY and _num_clusters(family) <= remaining:
                remaining -= _num_clusters(family)
                roles.update((chain.name, CONFIDENCE) for chain in family)
    return roles


def _num_clusters(family: list[Chain]) -> int:
    return len({chain.cluster for chain in family})


def hold_out(clusters: Mapping[str, str], roles: Mapping[str, str]) -> set[str]:
    """Return the clusters that are held out to measure the language model's perplexity: 2.5 % of all.

    They include all clusters with a chain of role `confidence`, because the language model should not have seen those,
    as it has not seen a user's protein. The others, in the order of a hash, are clusters without any chain. `clusters`:
    member -> cluster. `roles`: chain -> role.
    """
    held: set[str] = set()
    seen: set[str] = set()
    for member, cluster in clusters.items():
        if member in roles:
            (held if roles[member] == CONFIDENCE else seen).add(cluster)
    held -= seen
    everything = set(clusters.values())
    others = sorted(everything - held - seen, key=lambda cluster: order(cluster, "held out"))
    return held | set(others[: max(0, round(HELD_OUT_FRACTION * len(everything)) - len(held))])


def familiar(hits: Iterable[Hit], family_of: Mapping[str, str], max_hits: int) -> list[Hit]:
    """Return up to `max_hits` hits of proteins that resemble a chain of role `trunk`, by identity.

    The best hit of each family comes first, then the second best of each, and so on. Queries have 40 to 150 residues,
    40 to 95 % identity and more than 80 % coverage of both, and no hit above 95 %. `family_of`: target -> family.
    """
    hits = list(hits)
    known = {hit.query for hit in hits if hit.identity > FAMILIAR_IDENTITIES[1]}
    good = [
        hit
        for hit in hits
        if hit.query not in known
        and FAMILIAR_LENGTHS[0] <= hit.query_length <= FAMILIAR_LENGTHS[1]
        and FAMILIAR_IDENTITIES[0] <= hit.identity <= FAMILIAR_IDENTITIES[1]
        and min(hit.query_coverage, hit.target_coverage) > FAMILIAR_COVERAGE
        and hit.evalue < HOMOLOGOUS
    ]
    good.sort(key=lambda hit: (-hit.identity, -min(hit.query_coverage, hit.target_coverage), hit.query, hit.target))
    queries: set[str] = set()
    ranks: Counter[str] = Counter()
    ranked: list[tuple[int, Hit]] = []
    for hit in good:
        if hit.query not in queries:
            queries.add(hit.query)
            ranked.append((ranks[family_of[hit.target]], hit))
            ranks[family_of[hit.target]] += 1
    ranked.sort(key=lambda item: item[0])  # stable: the order within a rank is kept
    return [hit for _, hit in ranked[:max_hits]]
