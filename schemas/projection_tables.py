"""The table of a map (`foldatlas project`), in `projections/<run>/` of an atlas.

docs/project.md describes what it means, docs/files.md every file; a test checks the latter against this module.
"""

from typing import Final

import pyarrow as pa

from foldatlas.schemas.tables import describe_field, describe_table

PROJECTION_FORMAT: Final = 1

# In the order of the structures files, and of the rows in them.
PROJECTION: Final = describe_table(
    "projection",
    [
        describe_field("structure_id", pa.uuid(), "md5 of the sequence, as in the atlas"),
        describe_field("x", pa.float32(), "position in the map; only distances to near structures have a meaning"),
        describe_field("y", pa.float32(), "position in the map"),
        describe_field("is_fitted", pa.bool_(), "whether the layout was fitted on it; if not, neighbours placed it"),
    ],
    version=PROJECTION_FORMAT,
)

PROJECTION_TABLES: Final[dict[str, pa.Schema]] = {"map": PROJECTION}
