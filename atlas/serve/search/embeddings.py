"""The structures whose embedding is nearest to a vector: the cosine to every embedding, exact, by usearch.

Vectors of length 1 are stored in half precision, which changes a cosine by less than 0.001. A graph of neighbours
(HNSW) would compare fewer vectors, but building one takes more processor time than thousands of searches
(docs/decisions/0049-searches.md).
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from usearch.compiled import MetricKind
from usearch.index import search as compare

from foldatlas.atlas.serve.search.requests import Hit
from foldatlas.atlas.serve.search.segments import SegmentArrays

COMPARED_AT_ONCE: Final = 65_536  # embeddings, between two reports of progress


def search_embeddings(
    segments: Sequence[SegmentArrays],
    vector: npt.NDArray[np.float32],
    *,
    limit: int,
    on_progress: Callable[[str, float], None],
) -> list[Hit]:
    """Return the `limit` nearest, the greatest cosine first, of equal ones by structure_id; which of equal ones are
    the last of the `limit` is not defined.

    Raise ValueError for a vector of another dimension, or without a direction.
    """
    dimensions = {one.segment.dimension for one in segments if one.segment.embeddings}
    if dimensions != {len(vector)}:
        raise ValueError(f"embeddings have {', '.join(map(str, sorted(dimensions)))} channels, not {len(vector)}")
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if not (np.isfinite(length) and length > 0):
        raise ValueError("the vector has no direction: its length is 0 or not finite")
    unit = vector.astype(np.float64) / length
    total = sum(one.segment.embeddings for one in segments)
    best: list[tuple[float, bytes]] = []
    done = 0
    for one in segments:
        for start in range(0, one.segment.embeddings, COMPARED_AT_ONCE):
            some = one.embeddings[start : start + COMPARED_AT_ONCE]
            found = compare(some, unit.astype(np.float16), min(limit, len(some)), MetricKind.Cos, exact=True, threads=1)
            places = found.keys.astype(np.int64)
            similarity = some[places].astype(np.float64) @ unit  # the query was rounded
            rows = one.embedded[start + places]
            best += zip((-similarity).tolist(), map(one.structure_id, rows.tolist()), strict=True)
            best = sorted(best)[:limit]
            done += len(some)
            on_progress("compare", done / total)
    return [Hit(structure_id=identity, similarity=min(1.0, max(-1.0, -value))) for value, identity in best]
