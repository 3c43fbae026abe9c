"""An atlas with clusters and searches that grows: its index is continued, and equals one that is built from nothing."""

from pathlib import Path

import novelty_atlas as given
from index_rows import assert_equals_full

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.reader import Atlas
from foldatlas.jobs.cluster import cluster
from foldatlas.jobs.novelty import novelty


def continued(folder: AtlasFolder) -> int:
    """The number of sorted runs of the index: 1 if it was built from nothing."""
    with Atlas.open(folder.root) as atlas:
        assert not atlas.is_stale
        return int(atlas.query("SELECT runs FROM settings").rows()[0][0])


def test_clusters_and_searches_of_an_atlas_that_grows(tmp_path: Path) -> None:
    folder = AtlasFolder(tmp_path / "atlas")
    proteins = list(given.proteins().items())
    given.reference(tmp_path / "structures")
    given.write_atlas(folder, dict(proteins[:7]))
    cluster(folder.root)
    novelty(folder.root, [tmp_path / "structures"])
    build_index(folder, full=True)
    assert continued(folder) == 1
    assert_equals_full(folder, tmp_path)

    # new shards of another plan, while there are clusters and hits of the old ones
    given.write_atlas(folder, dict(proteins[7:]), "more")
    assert continued(folder) == 2
    assert_equals_full(folder, tmp_path)
    # new clusters, and then a search of what is new
    cluster(folder.root)
    assert_equals_full(folder, tmp_path)
    novelty(folder.root, [tmp_path / "structures"])
    assert continued(folder) == 2
    assert_equals_full(folder, tmp_path)
    with Atlas.open(folder.root) as atlas:
        [(searched, clustered)] = atlas.query("SELECT count(tm_query), count(cluster30) FROM proteins").rows()
    assert (searched, clustered) == (len(proteins) - 1, len(proteins))  # one is too short to search
