"""The id of an imported file: its name without its endings, what a pattern finds in the name, or what it states."""

import re
from functools import lru_cache
from typing import Final

from foldatlas.pipeline.importing.options import HEADER

STRUCTURE_ENDINGS: Final = (".pdb", ".ent", ".cif", ".mmcif", ".pdbx", ".fcz", ".esmatlas")
COMPRESSION_ENDINGS: Final = (".gz", ".zst", ".bz2", ".xz")
_ENDINGS: Final = re.compile(
    rf"((?:{'|'.join(map(re.escape, STRUCTURE_ENDINGS))}))?((?:{'|'.join(map(re.escape, COMPRESSION_ENDINGS))}))*$",
    re.IGNORECASE,
)
MAX_ID: Final = 500  # characters
# Files without an ending that are beside structures, also in our exports.
_OTHERS: Final = frozenset({"licence", "license", "readme", "sha256sums", "md5sums"})
_SPACE: Final = re.compile(r"\s+")


def is_structure_name(path: str) -> bool:
    """Return whether a file in a folder or archive is read: it has the ending of a structure file, or none and is not
    known as another file."""
    name = path.rpartition("/")[2].lower()
    for ending in COMPRESSION_ENDINGS:
        name = name.removesuffix(ending)
    return name.endswith(STRUCTURE_ENDINGS) or ("." not in name and name not in _OTHERS)


def stem(path: str) -> str:
    """Return the name of a file without its endings."""
    name = path.rpartition("/")[2]
    return _ENDINGS.sub("", name, count=1) or name


def id_of(path: str, stated: str, id_from: str | None) -> str:
    """Return the id of a file, "" if it has none. `stated` is the id in the file; white space becomes `_`."""
    if id_from is None:
        found = stem(path)
    elif id_from == HEADER:
        found = stated
    else:
        match = _pattern(id_from).search(path.rpartition("/")[2])
        found = "" if match is None else match[match.lastindex or 0] or ""
    text = found.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return _SPACE.sub("_", "".join(letter if letter.isprintable() else "_" for letter in text.strip()))[:MAX_ID]


@lru_cache(maxsize=8)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text)
