"""What an index holds, as digests of the names of committed documents: an index with other digests is stale."""

import hashlib
from dataclasses import dataclass, field
from typing import Any, Final

from foldatlas.atlas.annotations.documents import document_names
from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.stages.runs import completion_names
from foldatlas.atlas.storage.protocol import is_document

COLUMN_STAGES: Final = ("novelty", "clusters")  # derived stages that fill columns of `scores`
LAYOUT: Final = 4  # of the tables of an index: one of another layout is built from nothing, not continued


@dataclass(frozen=True)
class Contents:
    """Digests of the names of plans and manifest entries, of the marks of complete runs of COLUMN_STAGES ("" without
    any), of the documents of annotations and of the marks of projections (likewise), and the number of all these
    documents. Programs from before stages compare the first digest alone, those from before annotations the first two,
    those from before projections the first three.

    `names` are those of the plans and manifest entries, where they are known.
    """

    digest: str
    stages: str
    documents: int = 0
    annotations: str = ""
    projections: str = ""
    names: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def matches(self, other: "Contents") -> bool:
        """Whether an index of the one holds what one of the other does."""
        mine = (self.digest, self.stages, self.annotations, self.projections)
        return mine == (other.digest, other.stages, other.annotations, other.projections)


def contents_of(folder: AtlasFolder) -> Contents:
    """Return what an index of the atlas as it is now would hold."""
    names = [
        file.name for kind in ("plans", "manifest") for file in folder.storage.files(kind) if is_document(file.name)
    ]
    stages, projections = completion_names(folder, COLUMN_STAGES), completion_names(folder, ["projections"])
    annotations = document_names(folder)
    return Contents(
        digest=_digest(names),
        stages=_digest(stages) if stages else "",
        documents=len(names) + len(stages) + len(annotations) + len(projections),
        annotations=_digest(annotations) if annotations else "",
        projections=_digest(projections) if projections else "",
        names=tuple(names),
    )


def indexed_contents(connection: Any, schema: str = "main") -> Contents:
    """Return what an open index holds, but for the number of documents. One from before stages holds none."""
    found = connection.execute(f"SELECT * FROM {schema}.settings")
    [row] = found.fetchall()
    settings = dict(zip((column[0] for column in found.description), row, strict=True))
    others = {name: settings.get(name, "") for name in ("stages", "annotations", "projections")}
    return Contents(settings["contents"], **others)


def _digest(names: list[str]) -> str:
    return hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest()
