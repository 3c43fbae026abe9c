"""The table of members: for each structure its clusters, their centres, and how near it is to them."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from foldatlas.atlas.clusters.linclust import SequenceClusters
from foldatlas.atlas.clusters.representatives import representatives
from foldatlas.atlas.clusters.set_cover import set_cover
from foldatlas.atlas.clusters.structures import Ids, Structures
from foldatlas.schemas.cluster_tables import MEMBERS

Rows = npt.NDArray[np.int64]

NO_CHAIN: Final = -1


def cover_by_id(ids_M: Ids, first_E: npt.NDArray[np.integer], second_E: npt.NDArray[np.integer]) -> Rows:
    """Return the centre of each chain, [M], by set cover; among equals the smallest structure_id is first."""
    order = np.argsort(ids_M, kind="stable")
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    centres: Rows = np.empty(len(order), dtype=np.int64)
    centres[order] = order[set_cover(len(order), rank[first_E], rank[second_E])]
    return centres


def member_map(
    structures: Structures,
    by90: SequenceClusters,
    by30: SequenceClusters,
    chain_rows_M: Rows,
    centres_M: Rows,
    tm_M: npt.NDArray[np.float32],
) -> pa.Table:
    """Return the table of members (`cluster_tables.MEMBERS`), by structure_id.

    Chain m is structure `chain_rows_M[m]`, the representative of a cluster30; `centres_M` is the chain that is the
    centre of its cluster, `tm_M` its TM-score to that.
    """
    ids, confidence = structures.ids_N, structures.confidence_N
    columns: dict[str, Any] = {"structure_id": _uuids(ids)}
    by_sequence = {}
    for percent, found in ((90, by90), (30, by30)):
        by_sequence[percent] = representatives(found.centres_N, confidence)
        columns[f"cluster{percent}"] = _uuids(ids[by_sequence[percent]])
        columns[f"centre{percent}"] = _uuids(ids[found.centres_N])
        for name, values in (("identity", found.identity_N), ("coverage", found.coverage_N)):
            columns[f"{name}{percent}"] = pa.array(values, mask=np.isnan(values))
    chain_of_N = np.full(len(structures), NO_CHAIN, dtype=np.int64)
    chain_of_N[chain_rows_M] = np.arange(len(chain_rows_M))
    chain_N = chain_of_N[by_sequence[30]]
    has_none = chain_N == NO_CHAIN
    if len(chain_rows_M):
        # a structure's cluster is that of its cluster30's representative
        chosen_M = chain_rows_M[representatives(centres_M, confidence[chain_rows_M])]
        columns["cluster_structure"] = _uuids(ids[chosen_M[chain_N]], has_none)
        columns["centre_structure"] = _uuids(ids[chain_rows_M[centres_M[chain_N]]], has_none)
        columns["tm_structure"] = pa.array(tm_M[chain_N], mask=has_none)
    else:
        for name in ("cluster_structure", "centre_structure", "tm_structure"):
            columns[name] = pa.nulls(len(structures), MEMBERS.field(name).type)
    return pa.table(columns, schema=MEMBERS).take(pa.array(np.argsort(ids, kind="stable")))


def _uuids(ids: Ids, mask: npt.NDArray[np.bool_] | None = None) -> Any:
    values = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(ids), [None, pa.py_buffer(np.ascontiguousarray(ids))]
    )
    if mask is not None:
        values = pa.compute.if_else(pa.array(mask), pa.scalar(None, pa.binary(16)), values)
    return pa.ExtensionArray.from_storage(pa.uuid(), values)
