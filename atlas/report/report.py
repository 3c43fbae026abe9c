"""Write the report of an atlas."""

from pathlib import Path

from foldatlas.atlas.folder import REPORT
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.report.content import read_content
from foldatlas.atlas.report.page import report_html
from foldatlas.atlas.report.text import report_text
from foldatlas.atlas.storage.commit import replacing


def write_report(uri: str | Path, file: str | Path | None = None) -> str:
    """Write the page to `file`, or to report.html in the atlas, and return where.

    It is written aside and then renamed, so that readers see the page before or this one. Raise NotAnAtlasError for a
    folder without atlas or index.
    """
    with Atlas.open(uri) as atlas:
        page = report_html(read_content(atlas)).encode("utf-8")
        if file is not None:
            with replacing(Path(file)) as part:
                part.write_bytes(page)
            return str(file)
        with atlas.folder.storage.building(REPORT) as part:
            part.write_bytes(page)
    return f"{str(uri).rstrip('/')}/{REPORT}"


def text_report(uri: str | Path) -> str:
    """Return the same figures as text for a terminal. Raise NotAnAtlasError for a folder without atlas or index."""
    with Atlas.open(uri) as atlas:
        return report_text(read_content(atlas, structures=False))
