"""Safe and distinct file names from the ids of FASTA headers, which are anything.

Letters, digits, `.`, `_` and `-` stay; other characters become `_`. A name that was changed, or that another record
has too when case is ignored, ends in `~` and 16 digits of a digest: no unchanged name holds a `~`. Names that Windows
reserves, and those that begin with `.` or `-`, get a leading `_`. All in SQL, so that any number fits in memory.
"""

from typing import Final

MAX_STEM: Final = 100  # characters; with digest and ending well below the 255 bytes that file systems allow

_UNSAFE: Final = "[^A-Za-z0-9._-]+"
_NEEDS_PREFIX: Final = r"(?i)([.-].*|(con|prn|aux|nul|com[0-9]|lpt[0-9])([.].*)?)?"


def with_file_names(table: str, ending: str) -> str:
    """SQL for the rows of `table` (it has id, source, structure_id) and `file_name`, distinct, ending in `ending`."""
    return (
        "SELECT * EXCLUDE (stem, safe), CASE WHEN stem = id AND count(*) OVER (PARTITION BY lower(stem)) = 1 "
        "THEN stem ELSE stem || '~' || sha256(concat_ws(chr(0), source, id, structure_id, row_number() OVER "
        f"(PARTITION BY source, id, structure_id)))[:16] END || '{ending}' AS file_name "
        "FROM (SELECT *, CASE WHEN regexp_full_match(safe, "
        f"'{_NEEDS_PREFIX}') THEN '_' || safe ELSE safe END AS stem "
        f"FROM (SELECT *, regexp_replace(id, '{_UNSAFE}', '_', 'g')[:{MAX_STEM}] AS safe FROM {table}))"
    )
