"""The latest clusters, in the index: columns of `scores`, the table `clusters` and the views on it.

    cluster_members    one row per structure that was clustered (schemas/cluster_tables.py)
    clusters           one row per cluster and level, with the structures and proteins of present records that it has

Members that no present record has are not counted; a cluster without other members is omitted.
"""

from typing import Any, Final

from foldatlas.atlas.folder import AtlasFolder
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
JOINS: Final = "LEFT JOIN cluster_members ON cluster_members.structure_id = scores.structure_id"

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
    members = " UNION ALL ".join(
        f"SELECT {literal(level)} AS level, {cluster} AS cluster, structure_id FROM cluster_members "
        f"WHERE {cluster} IS NOT NULL"
        for level, (cluster, *_) in _LEVELS.items()
    )
    connection.execute(
        "CREATE TABLE clusters AS SELECT level, cluster, any_value(named.id) AS id, count(*) AS num_structures, "
        "sum(present.num_proteins)::BIGINT AS num_proteins, any_value(best.length) AS length, "
        "any_value(best.mean_plddt) AS mean_plddt, any_value(best.ptm) AS ptm, avg(scores.mean_plddt)::FLOAT AS "
        f"members_mean_plddt FROM ({members}) AS members JOIN ({_PRESENT}) AS present USING (structure_id) "
        "JOIN scores USING (structure_id) LEFT JOIN scores AS best ON best.structure_id = members.cluster "
        f"LEFT JOIN ({_PRESENT}) AS named ON named.structure_id = members.cluster "
        "GROUP BY level, cluster ORDER BY level, cluster"
    )


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
