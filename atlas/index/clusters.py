"""The latest clusters, in the index: columns of `scores`, the table `clusters` and the views on it.

    cluster_members    one row per structure that was clustered (schemas/cluster_tables.py)
    clusters           one row per cluster and level, with the structures and proteins of present records that it has

Members that no present record has are not counted; a cluster without other members is omitted.
"""

from typing import Any, Final

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.ranges import IdRange, id_ranges
from foldatlas.atlas.sql.text import escape_glob, literal
from foldatlas.atlas.stages.runs import latest_complete
from foldatlas.atlas.storage.scratch import LocalCopies
from foldatlas.schemas.cluster_tables import LEVELS, MEMBERS

KIND: Final = "clusters"

# Columns of `scores` -> what fills them.
COLUMNS: Final = {
    "cluster90": "cluster_members.cluster90",
    "cluster30": "cluster_members.cluster30",
    "cluster_structure": "cluster_members.cluster_structure",
    "is_representative30": "cluster_members.cluster30 = scores.structure_id",
}


def join_members(ids: IdRange) -> str:
    """Return the join of `scores` with the members that fill COLUMNS."""
    return f"LEFT JOIN {ids.of('cluster_members')} ON cluster_members.structure_id = scores.structure_id"


# Level -> column of the cluster, of its centre, and what says how near a member is to that.
_LEVELS: Final = {
    level: (f"cluster{suffix}", f"centre{suffix}", *measures)
    for (level, suffix), measures in zip(
        LEVELS.items(),
        (
            ("identity90", "coverage90", "NULL::FLOAT"),
            ("identity30", "coverage30", "NULL::FLOAT"),
            ("NULL::FLOAT", "NULL::FLOAT", "tm_structure"),
        ),
        strict=True,
    )
}
_PRESENT: Final = (
    "SELECT structure_id, count(*) AS num_proteins, min(id) AS id FROM records "
    "WHERE state = 'folded' AND NOT superseded GROUP BY structure_id"
)


def make_members(connection: Any, folder: AtlasFolder, copies: LocalCopies) -> None:
    """Make `cluster_members`: before `scores`, whose columns it fills."""
    latest = latest_complete(folder, KIND)
    if latest is None:
        connection.register("no_members", MEMBERS.empty_table())
        connection.execute("CREATE TABLE cluster_members AS FROM no_members")
        connection.unregister("no_members")
        return
    paths = copies.have(file.path for file in latest.mark.files["members"])
    files = ", ".join(literal(escape_glob(str(path))) for path in paths)
    connection.execute(f"CREATE TABLE cluster_members AS FROM read_parquet([{files}]) ORDER BY structure_id")


def make_clusters(connection: Any) -> None:
    """Make `clusters`: after `scores` and `records`."""
    connection.execute(
        "CREATE TABLE clusters (level VARCHAR, cluster UUID, id VARCHAR, num_structures BIGINT, num_proteins BIGINT, "
        "length INTEGER, mean_plddt FLOAT, ptm FLOAT, members_mean_plddt FLOAT)"
    )
    [(members,)] = connection.execute("SELECT count(*) FROM cluster_members").fetchall()
    if not members:
        return
    connection.execute(f"CREATE OR REPLACE TEMP TABLE present AS {_PRESENT}")
    clusters = [cluster for cluster, *_ in _LEVELS.values()]
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE member_values AS SELECT {', '.join(clusters)}, 0::BIGINT AS num_proteins, "
        "0::FLOAT AS mean_plddt FROM cluster_members LIMIT 0"
    )
    for ids in id_ranges(members):
        connection.execute(
            f"INSERT INTO member_values SELECT {', '.join(f'cluster_members.{name}' for name in clusters)}, "
            "num_proteins, scores.mean_plddt "
            f"FROM {ids.of('cluster_members')} JOIN {ids.of('present')} USING (structure_id) "
            f"JOIN {ids.of('scores')} USING (structure_id)"
        )
    for level, (cluster, *_) in _LEVELS.items():
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE grouped AS SELECT {cluster} AS structure_id, count(*) AS num_structures, "
            "sum(num_proteins)::BIGINT AS num_proteins, avg(mean_plddt)::FLOAT AS members_mean_plddt "
            f"FROM member_values WHERE {cluster} IS NOT NULL GROUP BY ALL"
        )
        for ids in id_ranges(members):
            connection.execute(
                f"INSERT INTO clusters SELECT {literal(level)}, grouped.structure_id, present.id, num_structures, "
                "grouped.num_proteins, scores.length, scores.mean_plddt, scores.ptm, members_mean_plddt "
                f"FROM {ids.of('grouped')} LEFT JOIN {ids.of('scores')} ON scores.structure_id = grouped.structure_id "
                f"LEFT JOIN {ids.of('present')} ON present.structure_id = grouped.structure_id "
                "ORDER BY grouped.structure_id"
            )
    for table in ("present", "member_values", "grouped"):
        connection.execute(f"DROP TABLE {table}")


def cluster_views(max_novel_tm: float, min_known_identity: float, is_demo: str) -> dict[str, tuple[str, str]]:
    """Return SQL and comment of the views on clusters, by name.

    A member is known from `max_novel_tm` or `min_known_identity` upwards. `is_demo` is SQL that says whether the latest
    search of structures was against a demonstration, against which nothing is dark.
    """
    members = " UNION ALL ".join(
        f"SELECT {literal(level)} AS level, {cluster} AS cluster, structure_id, {cluster} = structure_id AS "
        f"is_representative, {centre} AS centre, {identity} AS identity, {coverage} AS coverage, {tm} AS tm "
        f"FROM cluster_members WHERE {cluster} IS NOT NULL"
        for level, (cluster, centre, identity, coverage, tm) in _LEVELS.items()
    )
    present = "SELECT structure_id FROM records WHERE state = 'folded' AND NOT superseded"
    is_known = f"coalesce(tm_query >= {max_novel_tm}, false) OR coalesce(identity_max >= {min_known_identity}, false)"
    return {
        "members": (
            f"SELECT * FROM ({members}) WHERE structure_id IN ({present})",
            "one row per structure of a present record and level: its cluster, and how near it is to the centre",
        ),
        "dark_clusters": (
            "SELECT clusters.* EXCLUDE (level), num_searched FROM clusters JOIN (SELECT cluster_structure AS cluster, "
            f"bool_or({is_known}) AS is_known, count(tm_query) AS num_searched FROM scores WHERE structure_id IN "
            f"({present}) GROUP BY cluster_structure) AS known USING (cluster) "
            f"WHERE level = 'structure' AND NOT is_known AND num_searched > 0 AND NOT {is_demo}",
            f"clusters by structure of which a member was searched and none has tm_query >= {max_novel_tm} or "
            f"identity_max >= {min_known_identity}; empty where the reference is a demonstration",
        ),
    }
