"""Write a version of a reference database: its files under a temporary name, then their digests, its document last."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from foldatlas.atlas.folder import now
from foldatlas.atlas.reference.folder import ReferenceFolder
from foldatlas.atlas.storage.commit import sync_folder
from foldatlas.atlas.storage.protocol import file_sha256
from foldatlas.schemas.reference_tables import REFERENCE_FORMAT, ContentFile, Kind, ReferenceVersion
from foldatlas.schemas.version import program_version


@dataclass(frozen=True)
class Written:
    """The content of a version's files, as in ReferenceVersion."""

    digest: str
    licences: list[str]
    entries: int
    residues: int
    new: int
    left: int
    chains: dict[str, int]
    files: dict[str, int]


def write_version(
    folder: ReferenceFolder,
    before: ReferenceVersion | None,
    kind: Kind,
    write: Callable[[Path], Written],
    *,
    demo: bool = False,
) -> ReferenceVersion:
    """Commit the version after `before`. `write` writes its files into the folder that is passed to it."""
    number = before.version + 1 if before else 1
    target = folder.data / ".building"  # deleted by the next run if this one ends here
    target.mkdir(parents=True)
    written = write(target)
    name = f"{number:06d}-{written.digest[:16]}"
    contents = {}
    for path in sorted(target.iterdir()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        contents[path.name] = ContentFile(path.stat().st_size, file_sha256(path))
    sync_folder(target)
    target.rename(folder.data / name)
    sync_folder(folder.data)
    document = ReferenceVersion(
        format=REFERENCE_FORMAT,
        kind=kind,
        version=number,
        digest=written.digest,
        previous=before.digest if before else "",
        demo=demo or (before is not None and before.demo),
        created=now(),
        program=program_version(),
        licences=written.licences,
        entries=written.entries,
        residues=written.residues,
        new=written.new,
        left=written.left,
        chains=written.chains,
        files=written.files,
        folder=name,
        contents=contents,
    )
    folder.commit(document)
    return document
