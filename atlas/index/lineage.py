"""Versions of sources: which of them are current, decided by recorded lineage alone.

A source (a URI) is read again when its bytes changed. The plan that reads the new bytes records, for that source, which
plans' versions it supersedes. A version is identified by its content and its ancestry, (URI, sha256, the versions that
it supersedes), as a commit is in git: the bytes A before B and the same bytes after B are two versions, and the same
bytes that two plans read first, in whatever company, are one. The versions that no other supersedes are the source's
heads. Times and the order of plans play no part. docs/decisions/0024-versions-of-a-source.md says why.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from foldatlas.schemas.errors import DamagedAtlasError
from foldatlas.schemas.manifest import Plan, Source, Superseded

_Node = tuple[str, str]  # the name of a plan, and the URI of one of its sources


class Head(NamedTuple):
    """A current version of a source, as one plan read it."""

    plan: Plan
    source: Source


@dataclass(frozen=True)
class Lineage:
    """The versions of an atlas's sources. `versions` gives the identity of the version that a plan read, by the plan's
    name and the URI; `heads` are the current ones by URI, in the order of the plans."""

    versions: Mapping[_Node, str] = field(default_factory=dict)
    heads: Mapping[str, tuple[Head, ...]] = field(default_factory=dict)

    @property
    def is_trivial(self) -> bool:
        """Whether no version is superseded: every record is present."""
        return len(self.versions) == sum(map(len, self.heads.values()))

    @property
    def present(self) -> frozenset[_Node]:
        """The plans' sources of which the records are present, as (name of the plan, URI)."""
        return frozenset((head.plan.name, uri) for uri, heads in self.heads.items() for head in heads)

    def is_current(self, plan: Plan) -> bool:
        """Whether all that a plan read is current."""
        present = self.present
        return all((plan.name, source.uri) in present for source in plan.sources)

    def contents(self, uri: str) -> list[str]:
        """The distinct sha256 of a source's heads. More than one: nothing says which is the newest."""
        return list(dict.fromkeys(head.source.sha256 for head in self.heads.get(uri, ())))

    def superseded_by(self, source: Source) -> tuple[Head, ...]:
        """The heads that `source`, a new version, records as superseded."""
        old = set(source.supersedes or ())
        return tuple(head for head in self.heads.get(source.uri, ()) if _reference(head) in old)

    def next_version(self, source: Source, *, replace: bool = False) -> tuple[Superseded, ...]:
        """What `source`, as read now with other content than its heads, supersedes: all of them. Where several were
        read by a program that recorded no lineage, these only with `replace`: any of them may be wanted."""
        heads = self.heads.get(source.uri, ())
        unrecorded = {head.source.sha256 for head in heads if head.source.supersedes is None}
        kept = unrecorded if len(unrecorded) > 1 and not replace else set()
        return tuple(sorted({_reference(head) for head in heads if head.source.sha256 not in kept}))

    def same_version(self, source: Source) -> tuple[Superseded, ...]:
        """What `source`, whose bytes are those of a head that is read again (another limit on length), supersedes: what
        that head does. So it is the same version."""
        same = (head.source for head in self.heads.get(source.uri, ()) if head.source.sha256 == source.sha256)
        return tuple(sorted({old for earlier in same for old in earlier.supersedes or ()}))


def lineage_of(plans: Sequence[Plan]) -> Lineage:
    """The versions that `plans` read. Raises DamagedAtlasError where versions supersede each other in a circle, which
    no program writes (a plan's name is a digest of what it supersedes)."""
    nodes = {(plan.name, source.uri): Head(plan, source) for plan in plans for source in plan.sources}
    versions: dict[_Node, str] = {}
    superseded: set[tuple[str, str]] = set()  # by URI and version
    for node in _parents_first(nodes):
        uri, source = node[1], nodes[node].source
        parents = {_version(old, uri, versions) for old in source.supersedes or ()}
        superseded |= {(uri, parent) for parent in parents}
        versions[node] = _digest([uri, source.sha256, *sorted(parents)])
    heads: dict[str, list[Head]] = {}
    for node, head in nodes.items():
        if (node[1], versions[node]) not in superseded:
            heads.setdefault(node[1], []).append(head)
    return Lineage(versions, {uri: tuple(found) for uri, found in heads.items()})


def _reference(head: Head) -> Superseded:
    return Superseded(head.plan.name, head.source.sha256)


def _version(old: Superseded, uri: str, versions: Mapping[_Node, str]) -> str:
    """A superseded version's identity. One whose plan the atlas lacks supersedes nothing that it has."""
    return versions.get((old.plan, uri)) or _digest([uri, old.plan, old.sha256, "absent"])


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _parents_first(nodes: Mapping[_Node, Head]) -> list[_Node]:
    """The nodes in an order in which each follows all that it supersedes. A source may have thousands of versions, so
    nothing recurses."""
    waiting: dict[_Node, int] = {}
    children: dict[_Node, list[_Node]] = {}
    for node, head in nodes.items():
        parents = {(old.plan, node[1]) for old in head.source.supersedes or ()} & nodes.keys()
        waiting[node] = len(parents)
        for parent in parents:
            children.setdefault(parent, []).append(node)
    ready = [node for node, count in waiting.items() if not count]
    for node in ready:  # grows meanwhile
        for child in children.get(node, ()):
            waiting[child] -= 1
            if not waiting[child]:
                ready.append(child)
    if len(ready) < len(nodes):
        plan, uri = min(node for node, count in waiting.items() if count)
        raise DamagedAtlasError(f"plans/{plan}.json: versions of {uri} supersede each other: restore it from a copy")
    return ready
