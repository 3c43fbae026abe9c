"""An atlas for tests of reports: scores over their whole range, novel and known folds, clusters, PAE, hostile texts."""

from pathlib import Path

import novelty_atlas as given
import numpy as np

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.jobs.cluster import cluster
from foldatlas.jobs.novelty import novelty
from foldatlas.schemas.tables import NEEDED_TABLES

HOSTILE = {  # id -> the rest of its header
    "</script><script>document.title='broken'</script>": "<img src=x onerror=document.title='broken'>",
    "\"><svg/onload=document.title='broken'>": "a \"quoted\" 'description' {{ 7 * 7 }} {% raw %}",
    "<!--<script>": "\u202eright-to-left & \x1b[31mred",
    "=cmd|'/c'!A1": "</title><style>*{display:none}</style>",
}
NUM_SCORED = 30


def proteins() -> dict[str, given.Protein]:
    """Those of `novelty_atlas`, of which eight are novel, four with hostile headers, and 30 of all scores."""
    rng = np.random.default_rng(18)
    found = given.proteins()
    for number, (id, description) in enumerate(HOSTILE.items()):
        found[f"{id} {description}"] = given.Protein(given.made.made(61 + number, 300 + number), 95.0, 0.95)
    for number in range(NUM_SCORED):
        chain = given.made.made(int(rng.integers(30, 150)), 700 + number)
        plddt, ptm = float(rng.uniform(5, 100)), float(rng.uniform(0, 0.69))
        found[f"scored{number}"] = given.Protein(chain, plddt, ptm)
    return found


def build(place: Path) -> None:
    """Make `place/atlas`."""
    folder = AtlasFolder(place / "atlas")
    refused = {"digits": given.Protein(("MKV1", ())), "gap": given.Protein(("MK-V", ()))}
    given.write_atlas(folder, {**proteins(), **refused}, tables=(*NEEDED_TABLES, "pae"))
    cluster(folder.root)
    given.reference(place / "structures")
    novelty(folder.root, [place / "structures"])
