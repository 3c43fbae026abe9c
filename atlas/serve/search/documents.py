"""The search database of an atlas: segments of mapped arrays, and a document that lists them.

database.json         the segments of the database; replaced as a whole
segments/<name>/      the files of one segment, never changed (`SEGMENT_FILES`)

A segment covers whole files of structures and has at most SEGMENT_RESIDUES residues, so that building and searching
need memory for one segment, however large the atlas is. It is named by the digest of what it covers.
"""

from pathlib import Path
from typing import Final

import msgspec

from foldatlas.schemas.errors import DamagedAtlasError

FORMAT: Final = 1
DOCUMENT: Final = "database.json"
SEGMENTS: Final = "segments"
SEGMENT_DOCUMENT: Final = "segment.json"
SEGMENT_RESIDUES: Final = 256_000_000  # about a million structures
BYTES_PER_RESIDUE: Final = 15  # of a segment's files, without embeddings


class Segment(msgspec.Struct, frozen=True):
    """`files` has a digest of what is covered by the path of each structures file. `dimension` is 0 without
    embeddings."""

    name: str
    files: dict[str, str]
    structures: int
    residues: int
    embeddings: int
    dimension: int
    bytes: int


class SearchDatabase(msgspec.Struct, frozen=True):
    """`contents` is that of the index from which the database was built. `unreadable` has files that could not be read,
    with the reason."""

    format: int
    created: str
    program: str
    contents: str
    segments: tuple[Segment, ...]
    unreadable: dict[str, str] = {}

    @property
    def structures(self) -> int:
        return sum(segment.structures for segment in self.segments)

    @property
    def residues(self) -> int:
        return sum(segment.residues for segment in self.segments)

    @property
    def embeddings(self) -> int:
        return sum(segment.embeddings for segment in self.segments)

    @property
    def dimension(self) -> int:
        """Channels of the embeddings, 0 without."""
        return max((segment.dimension for segment in self.segments), default=0)


def segment_folder(root: Path, name: str) -> Path:
    """Return the folder of a segment."""
    return root / SEGMENTS / name


def read_database(root: Path) -> SearchDatabase | None:
    """Return the document of the database in the folder `root`, None if there is none. Raise DamagedAtlasError."""
    path = root / DOCUMENT
    try:
        document = msgspec.json.decode(path.read_bytes(), type=SearchDatabase)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DamagedAtlasError(f"{path} cannot be read ({error}): delete it and build the database again") from error
    if document.format > FORMAT:
        raise DamagedAtlasError(f"{path} has format {document.format}, this FoldAtlas reads up to {FORMAT}")
    return document
