"""Rows as an HTML table, for notebooks."""

import html
from collections.abc import Sequence
from typing import Any, Final

from foldatlas.atlas.sql.text import clip, escape_controls

PREVIEW_ROWS: Final = 20
MAX_CELL_WIDTH: Final = 200  # characters


def table_html(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, is_complete: bool) -> str:
    """Return an HTML table. Texts are escaped, so that no id or description becomes part of the page."""
    head = "".join(f"<th>{_cell(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row)}</tr>" for row in rows)
    more = "" if is_complete else f"<p>The first {len(rows):,} rows.</p>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _cell(value: Any) -> str:
    return html.escape(clip(escape_controls("NULL" if value is None else str(value)), MAX_CELL_WIDTH))
