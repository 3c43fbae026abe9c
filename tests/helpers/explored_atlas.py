"""An atlas for the explorer: the synthetic one with searches, clusters, a map and annotations, with ties and NULLs.

Values of derived stages are put into the tables of its index, so that every case is there: not searched, not clustered,
no pTM, no position in the map.
"""

import csv
import shutil
from pathlib import Path

import duckdb
from built_atlas import Built

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.jobs.annotate import annotate

_FILL = """
ALTER TABLE scores ADD COLUMN n INTEGER;
UPDATE scores SET n = numbered.n FROM (SELECT structure_id, row_number() OVER (ORDER BY structure_id) AS n FROM scores)
    AS numbered WHERE numbered.structure_id = scores.structure_id;
UPDATE scores SET mean_plddt = CASE WHEN n % 11 = 0 THEN NULL ELSE (n * 37 % 1001) / 10 END,
    ptm = CASE WHEN n % 5 = 0 THEN NULL ELSE (n * 13 % 11) / 10 END,
    length = CASE WHEN n % 2 = 0 THEN 60 + n ELSE length END,
    tm_query = CASE WHEN n % 4 = 0 THEN NULL ELSE (n % 21) / 20 END,
    nearest_structure = CASE WHEN n % 4 > 0 AND n % 21 > 0 THEN 'known' || (n % 6) END,
    cluster30 = CASE WHEN n % 7 = 0 THEN NULL ELSE ('00000000-0000-0000-0000-00000000000' || (n % 4))::UUID END,
    is_representative30 = CASE WHEN n % 7 = 0 THEN NULL ELSE n % 3 = 0 END;
INSERT INTO clusters SELECT 'identity30', cluster30, NULL, count(*), count(*), NULL, NULL, NULL, NULL FROM scores
    WHERE cluster30 IS NOT NULL GROUP BY cluster30;
INSERT INTO projection SELECT structure_id, (n * 17 % 101)::FLOAT - 50, (n * 29 % 89)::FLOAT / 3, true FROM scores
    WHERE n % 6 > 0;
INSERT INTO projection_runs (run, method, features, is_latest) VALUES ('made', 'tsne', 'embeddings', true);
ALTER TABLE scores DROP COLUMN n;
"""


def write_explored(indexed: Built, root: Path) -> AtlasFolder:
    """Copy an atlas that has an index, and fill it. Return its folder."""
    shutil.copytree(indexed.root, root)
    ids = [record.id for given in indexed.given for records in given.values() for record in records]
    table = root.parent / "sites.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "biome", "depth", "is_marine"])
        for number, name in enumerate(ids):
            if number % 3:
                biome = ["soil", "sea's <b>", "hot: spring", "", "{} IS NULL OR $1?"][number % 5]
                rows.writerow([name, biome, number * 7 % 50 / 4, ["true", "false", ""][number % 5 % 3]])
    annotate(root, table, key="id", name="sites")
    with duckdb.connect(str(root / "atlas.duckdb")) as connection:
        connection.execute(_FILL)
    return AtlasFolder(root)
