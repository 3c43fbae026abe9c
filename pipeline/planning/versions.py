"""Versions of sources in planning: what a changed file supersedes, and when to warn or refuse."""

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import msgspec

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.changes import Change, change_of
from foldatlas.atlas.index.lineage import Head, Lineage
from foldatlas.atlas.planning.planned_tables import PlannedTables
from foldatlas.pipeline.sources.find import SourceFile, SourceWarning
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.manifest import Source


def renamed(sources: list[SourceFile], name: str | None) -> list[SourceFile]:
    """Return `sources` with `name` (if not None) as the identity of the one source.

    Raise UsageError for several sources, and for a name that is not a line of text or that is reserved.
    """
    if name is None:
        return sources
    if not name.strip() or not name.isprintable() or name.startswith("pipe:"):
        raise UsageError(f"--as {name!r} is not valid: give a line of text that does not begin with pipe:")
    if len(sources) != 1:
        raise UsageError(f"--as {name} names one source, but there are {len(sources)} files: give one file per run")
    return [sources[0]._replace(uri=name)]


def readings(lineage: Lineage) -> list[Head]:
    return [head for heads in lineage.heads.values() for head in heads]


def with_lineage(source: Source, lineage: Lineage, *, chosen: bool) -> Source:
    """Return `source` with what it supersedes: all current versions, or, if it is one of them, what that one does."""
    is_new = chosen or source.sha256 not in lineage.contents(source.uri)
    old = lineage.next_version(source, replace=chosen) if is_new else lineage.same_version(source)
    return msgspec.structs.replace(source, supersedes=old)


def changes_of(
    folder: AtlasFolder,
    work: Path,
    sources: Sequence[Source],
    lineage: Lineage,
    tables: PlannedTables,
    files: Sequence[SourceFile],
) -> tuple[Change, ...]:
    """Return what the new versions among `sources` change. `files` are the files as they were named."""
    short = {file.uri: PurePosixPath(file.path).name if file.uri.startswith("file:") else file.name for file in files}
    twice = {name for name, count in Counter(short.values()).items() if count > 1}
    long = {file.uri: file.name for file in files}
    found = []
    for source in sources:
        heads = lineage.superseded_by(source)
        if heads:
            name = long[source.uri] if short[source.uri] in twice else short[source.uri]
            staged = [work / file.path for file in tables.records]
            found.append(change_of(folder, work, heads, staged, name, source.records))
    return tuple(found)


def refuse_losses(changes: Sequence[Change]) -> None:
    """Raise UsageError for new versions without half of the earlier ids, which may be another file by mistake."""
    lost = [change for change in changes if not change.keeps_half]
    if lost:
        which = "; ".join(f"{one.name} keeps {one.earlier - one.gone:,} of {one.earlier:,} earlier ids" for one in lost)
        raise UsageError(
            f"{which}: pass --replace if it is a new version that supersedes the earlier records, or --as NAME if it "
            "is another source; nothing was changed"
        )


def warn_of_several(sources: Sequence[SourceFile]) -> None:
    for source in sources:
        warn(
            f"{source.name} has several current versions in the atlas, and no record of which is the newest: the "
            "records of all count; pass --replace to keep only the file as it is now"
        )


def warn_of_copies(sources: Sequence[Source], lineage: Lineage) -> None:
    """Warn of sources with the same bytes as another source."""
    first = {head.source.sha256: uri for uri, heads in reversed([*lineage.heads.items()]) for head in heads}
    for source in sources:
        other = first.setdefault(source.sha256, source.uri)
        if other != source.uri:
            warn(f"{source.uri} has the same bytes as {other}: they are two sources, and records of both are used")


def warn(message: str) -> None:
    warnings.warn(message, SourceWarning, stacklevel=2)
