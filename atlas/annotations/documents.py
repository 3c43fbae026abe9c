"""The annotations of an atlas: which there are, their commits, and files that dead processes left."""

import re
from pathlib import Path
from typing import Final

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.storage.commit import hidden_owner
from foldatlas.schemas.annotations import FOLDER, Annotation
from foldatlas.schemas.errors import DamagedAtlasError
from foldatlas.schemas.manifest import decode, encode

_DOCUMENT: Final = re.compile(rf"{FOLDER}/([^/]+)/(\d+)\.json")


def document_name(name: str, generation: int) -> str:
    """Return the relative path of an annotation's document."""
    return f"{FOLDER}/{name}/{generation}.json"


def is_annotation_document(path: str) -> bool:
    """Whether a path, relative to the atlas, is that of an annotation's document."""
    return _DOCUMENT.fullmatch(path) is not None


def document_names(folder: AtlasFolder) -> list[str]:
    """Return the paths of the documents of all generations: an index without one of them is stale."""
    return [file.name for file in folder.storage.files(FOLDER) if is_annotation_document(file.name)]


def newest_documents(folder: AtlasFolder) -> dict[str, str]:
    """Return the path of the document that counts of each name, dropped ones too."""
    newest: dict[str, int] = {}
    for path in document_names(folder):
        found = _DOCUMENT.fullmatch(path)
        assert found is not None
        newest[found[1]] = max(newest.get(found[1], 0), int(found[2]))
    return {name: document_name(name, generation) for name, generation in sorted(newest.items())}


def read_annotation(folder: AtlasFolder, path: str) -> Annotation:
    """Return the annotation of a document. Raise DamagedAtlasError for one that is unreadable or of another name."""
    annotation = decode(folder.storage.read(path), Annotation, folder.where(path))
    if document_name(annotation.name, annotation.generation) != path:
        raise DamagedAtlasError(f"{folder.where(path)} is of annotation {annotation.name!r}: remove it")
    return annotation


def newest_annotations(folder: AtlasFolder) -> dict[str, Annotation]:
    """Return the newest generation of each name, dropped ones too. Raise DamagedAtlasError."""
    return {name: read_annotation(folder, path) for name, path in newest_documents(folder).items()}


def annotations_of(folder: AtlasFolder) -> list[Annotation]:
    """Return the annotations of an atlas by name, without dropped ones. Raise DamagedAtlasError."""
    return [annotation for annotation in newest_annotations(folder).values() if annotation.file is not None]


def commit_annotation(folder: AtlasFolder, annotation: Annotation) -> bool:
    """Commit an annotation. Return whether this call did: another process may have committed the same generation."""
    path = document_name(annotation.name, annotation.generation)
    return folder.storage.commit_once(path, encode(annotation))


def sweep_annotations(folder: AtlasFolder) -> int:
    """Delete files of annotations that no newest generation lists and that no live process is writing.

    Return their number.
    """
    storage = folder.storage
    folders = sorted({file.name.rpartition("/")[0] for file in storage.files(FOLDER, hidden=True)})
    # list leftovers before reading the documents, so that what dead processes committed is in those
    left = [name for name in storage.leftovers(folders) if name.startswith(f"{FOLDER}/")]
    if not left:
        return 0
    listed = {annotation.file.path for annotation in annotations_of(folder) if annotation.file is not None}
    unlisted = [name for name in left if hidden_owner(Path(name)) or name not in listed]
    deleted = [name for name in unlisted if not is_annotation_document(name)]
    for name in deleted:
        storage.delete(name)
    return len(deleted)
