"""Safe and distinct file names from the ids of FASTA headers, which may contain any characters.

Letters, digits, `.`, `_` and `-` are kept; other characters become `_`. `~` and 16 digits of a digest are appended to a
name that was changed, or that differs from another only by case; unchanged names contain no `~`. Names that Windows
reserves, and those that begin with `.` or `-`, get a leading `_`. Computed in SQL, so memory does not limit the number.

Many files are spread over folders named by two digits of the sha256 of the file's name: `3f/a1.pdb`. The folder of a
name does not depend on what else is exported.
"""

from typing import Final

MAX_STEM: Final = 100  # characters; with digest and suffix well below the 255 bytes that file systems allow

_UNSAFE: Final = "[^A-Za-z0-9._-]+"
_NEEDS_PREFIX: Final = r"(?i)([.-].*|(con|prn|aux|nul|com[0-9]|lpt[0-9])([.].*)?)?"


def folder_levels(num_files: int, files_per_folder: int) -> int:
    """Return the number of nested folders, of 256 each, for at most `files_per_folder` in each on average."""
    levels = 0
    while num_files > files_per_folder * 256**levels:
        levels += 1
    return levels


def with_file_names(table: str, ending: str, levels: int = 0) -> str:
    """Return SQL for the rows of `table` (with id, source, structure_id) and a distinct `file_name` ending so, which
    begins with `levels` folders."""
    digits = [f"sha256(file_name)[{2 * level + 1}:{2 * level + 2}] || '/'" for level in range(levels)]
    folders = " || ".join([*digits, ""])
    return f"SELECT * REPLACE ({folders}file_name AS file_name) FROM ({_named(table, ending)})"


def _named(table: str, ending: str) -> str:
    return (
        "SELECT * EXCLUDE (stem, safe), CASE WHEN stem = id AND count(*) OVER (PARTITION BY lower(stem)) = 1 "
        "THEN stem ELSE stem || '~' || sha256(concat_ws(chr(0), source, id, structure_id, row_number() OVER "
        f"(PARTITION BY source, id, structure_id)))[:16] END || '{ending}' AS file_name "
        "FROM (SELECT *, CASE WHEN regexp_full_match(safe, "
        f"'{_NEEDS_PREFIX}') THEN '_' || safe ELSE safe END AS stem "
        f"FROM (SELECT *, regexp_replace(id, '{_UNSAFE}', '_', 'g')[:{MAX_STEM}] AS safe FROM {table}))"
    )
