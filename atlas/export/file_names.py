"""Safe and distinct file names from the ids of FASTA headers, which may contain any characters.

Letters, digits, `.`, `_` and `-` are kept; other characters become `_`. `~` and 16 digits of a digest are appended to a
name that was changed, or that differs from another only by case; unchanged names contain no `~`. Names that Windows
reserves, and those that begin with `.` or `-`, get a leading `_`. Computed in SQL, so memory does not limit the number.
"""

from typing import Final

MAX_STEM: Final = 100  # characters; with digest and suffix well below the 255 bytes that file systems allow

_UNSAFE: Final = "[^A-Za-z0-9._-]+"
_NEEDS_PREFIX: Final = r"(?i)([.-].*|(con|prn|aux|nul|com[0-9]|lpt[0-9])([.].*)?)?"


def with_file_names(table: str, ending: str) -> str:
    """Return SQL for the rows of `table` (with id, source, structure_id) and a distinct `file_name` ending so."""
    return (
        "SELECT * EXCLUDE (stem, safe), CASE WHEN stem = id AND count(*) OVER (PARTITION BY lower(stem)) = 1 "
        "THEN stem ELSE stem || '~' || sha256(concat_ws(chr(0), source, id, structure_id, row_number() OVER "
        f"(PARTITION BY source, id, structure_id)))[:16] END || '{ending}' AS file_name "
        "FROM (SELECT *, CASE WHEN regexp_full_match(safe, "
        f"'{_NEEDS_PREFIX}') THEN '_' || safe ELSE safe END AS stem "
        f"FROM (SELECT *, regexp_replace(id, '{_UNSAFE}', '_', 'g')[:{MAX_STEM}] AS safe FROM {table}))"
    )
