"""What a wrong name in a statement probably means: `plddt` in `proteins` is `mean_plddt`."""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Final

from foldatlas.schemas.sql_names import MEANT

_UNKNOWN: Final = re.compile(
    r'Referenced column "(?P<column>[^"]+)"|does not have a column named "(?P<other>[^"]+)"|'
    r'Could not find key "(?P<key>[^"]+)"'
)
_MIN_SIMILARITY: Final = 0.75  # of difflib; mean_pldt and mean_plddt have 0.95


def suggestion(message: str, sql: str, columns: Mapping[str, Sequence[str]]) -> str | None:
    """Return one line on the column that is meant by a message of DuckDB about an unknown one, or None.

    `columns` are those of each table and view. The tables that `sql` names come first.
    """
    found = _UNKNOWN.search(message)
    if found is None:
        return None
    wrong = next(text for text in found.groups() if text is not None)
    words = set(re.findall(r"\w+", sql.lower()))
    tables = [table for table in columns if table in words] or list(columns)
    known = {name: table for table in reversed(tables) for name in columns[table]}
    if meant := next((name for name in MEANT.get(wrong.lower(), ()) if name in known), None):
        return f"the column {wrong} is called {meant} in {known[meant]}"
    elsewhere = [table for table, names in columns.items() if wrong.lower() in names]
    if elsewhere:
        return f"{wrong} is a column of {', '.join(elsewhere[:3])}: join it, for example by structure_id"
    parts = [name for name in known if wrong.lower() in name.split("_")]
    near = parts if len(parts) == 1 else difflib.get_close_matches(wrong.lower(), known, 1, _MIN_SIMILARITY)
    return f"did you mean the column {near[0]} of {known[near[0]]}?" if near else None
