"""What a report shows: read from the index by SQL, and from a few files of structures."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass

from foldatlas.atlas.export.credits import citation_text, reference_licences
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.report.figures import Figure, read_figures
from foldatlas.atlas.report.structures import Shown, shown_structures
from foldatlas.atlas.report.summary import Summary, summarize
from foldatlas.schemas.formats import IMPORTED
from foldatlas.schemas.manifest import AtlasHeader, Plan


@dataclass(frozen=True)
class Content:
    """What a report shows of an atlas. `name` is that of its folder; `is_stale` whether the index is out of date."""

    name: str
    made: datetime.datetime
    header: AtlasHeader
    plans: list[Plan]
    figures: Mapping[str, Figure]
    summary: Summary
    structures: list[Shown]
    citation: str
    is_stale: bool

    @property
    def is_imported(self) -> bool:
        """Whether the structures were imported, not predicted by this program."""
        return self.header.settings.model == IMPORTED


def read_content(atlas: Atlas, *, structures: bool = True) -> Content:
    """Read the figures of `atlas`, and `structures` for the page. Raise QueryError, DamagedAtlasError."""
    connection = atlas.cursor("")
    model = atlas.header.settings.model
    plans, figures = atlas.folder.plans(), read_figures(connection, imported=model == IMPORTED)
    return Content(
        name=atlas.folder.uri.rstrip("/").rpartition("/")[2] or atlas.folder.uri,
        made=datetime.datetime.now(datetime.UTC),
        header=atlas.header,
        plans=plans,
        figures=figures,
        summary=summarize(atlas.header, plans, figures),
        structures=shown_structures(atlas, connection, figures["novel"] or figures["best"]) if structures else [],
        citation=citation_text("", model, reference_licences(connection), clustered=bool(figures["clusters"])),
        is_stale=atlas.is_stale,
    )
