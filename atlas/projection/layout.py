"""Positions from components: t-SNE of some structures, the others at the median of their nearest neighbours.

t-SNE (van der Maaten & Hinton 2008) by openTSNE (Poličar, Stražar & Zupan 2019): exact nearest neighbours, started at
the first two components (Kobak & Berens 2019), gradients by interpolation from 10,000 structures on (Linderman et al.
2019). Positions do not depend on the number of threads. Shapes: `M` structures of the layout, `N` others, `C`
components, `K` neighbours.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from foldatlas.atlas.projection.settings import (
    EARLY_ITERATIONS,
    EXAGGERATION,
    ITERATIONS,
    MIN_LAYOUT,
    NEIGHBOURS,
    PERPLEXITY,
)

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

_START_SPREAD: Final = 1e-4  # standard deviation of x when t-SNE begins: of openTSNE's default
_NOISE: Final = 1e-2  # of it, so that structures with equal components can part
_MIN_LEARNING_RATE: Final = 200.0  # with the number of structures alone, a few of them hardly leave the start
_MIN_PARALLEL: Final = 10_000  # structures, from which gradients are interpolated; below, threads cost more than work
_QUERIES: Final = 16_384  # searched at a time


def layout(components_MC: Floats, seed: int, threads: int) -> Floats:
    """Return positions [M, 2]. Fewer than MIN_LAYOUT structures are at their first two components; structures that do
    not differ are all at the origin."""
    number = len(components_MC)
    start_M2 = np.zeros((number, 2))
    start_M2[:, : components_MC.shape[1]] = components_MC[:, :2]
    if number < MIN_LAYOUT or not components_MC.shape[1]:
        return start_M2.astype(np.float32)
    return _tsne(components_MC, start_M2, seed, threads).astype(np.float32)


def _tsne(components_MC: Floats, start_M2: Doubles, seed: int, threads: int) -> Doubles:
    from openTSNE import TSNEEmbedding
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    number = len(components_MC)
    neighbours = min(3 * PERPLEXITY, number - 1)
    distances_MK, rows_MK = _nearest(components_MC, components_MC, neighbours + 1, threads)
    # the nearest of a structure is itself; another one with equal components may be in its place
    is_own = rows_MK == np.arange(number)[:, None]
    is_own[~is_own.any(axis=1), -1] = True
    kept = ~is_own
    affinities = PerplexityBasedNN(
        perplexity=min(PERPLEXITY, neighbours / 3),
        knn_index=PrecomputedNeighbors(
            rows_MK[kept].reshape(number, neighbours), distances_MK[kept].reshape(number, neighbours)
        ),
        n_jobs=threads,
    )
    spread = float(start_M2[:, 0].std())
    start_M2 = start_M2 * (_START_SPREAD / spread) if spread > 0 else start_M2
    start_M2 = start_M2 + np.random.default_rng(seed).normal(0, _START_SPREAD * _NOISE, start_M2.shape)
    jobs = threads if number >= _MIN_PARALLEL else 1
    embedding = TSNEEmbedding(start_M2, affinities, negative_gradient_method="auto", n_jobs=jobs, random_state=seed)
    for iterations, exaggeration, momentum in ((EARLY_ITERATIONS, EXAGGERATION, 0.5), (ITERATIONS, 1, 0.8)):
        embedding = embedding.optimize(
            n_iter=iterations,
            exaggeration=exaggeration,
            momentum=momentum,
            learning_rate=max(_MIN_LEARNING_RATE, number / exaggeration),
        )
    return np.asarray(embedding, np.float64)


class Placing:
    """Places structures by those of a layout."""

    def __init__(self, components_MC: Floats, positions_M2: Floats, threads: int):
        self._positions_M2 = positions_M2
        self._neighbours = min(NEIGHBOURS, len(components_MC))
        self._search = _fitted_search(components_MC, threads)

    def place(self, components_NC: Floats) -> Floats:
        """Return the median of the positions of each structure's nearest neighbours [N, 2]."""
        parts = [np.empty((0, 2), np.float32)]
        for begin in range(0, len(components_NC), _QUERIES):
            queries = components_NC[begin : begin + _QUERIES]
            rows_NK = self._search.kneighbors(queries, self._neighbours, return_distance=False)
            parts.append(np.median(self._positions_M2[rows_NK], axis=1).astype(np.float32))
        return np.concatenate(parts)


def _fitted_search(components_MC: Floats, threads: int) -> Any:
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(algorithm="brute", n_jobs=threads).fit(components_MC)


def _nearest(components_MC: Floats, queries_NC: Floats, number: int, threads: int) -> tuple[Any, Any]:
    """Return distances and rows of the `number` nearest of `components_MC` to each query, nearest first."""
    search = _fitted_search(components_MC, threads)
    found = [search.kneighbors(queries_NC[b : b + _QUERIES], number) for b in range(0, len(queries_NC), _QUERIES)]
    return np.concatenate([one for one, _ in found]), np.concatenate([one for _, one in found])
