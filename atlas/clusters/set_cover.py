"""Clusters of a graph by greedy set cover: the node with most neighbours left takes them all, and so on.

Chvatal 1979, Mathematics of Operations Research 4:233; as the set cover of MMseqs2 (Steinegger & Soeding 2018).
Every member is a neighbour of its centre. The result depends on the set of pairs alone, not on their order.
"""

import heapq

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int32]


def set_cover(num_nodes: int, first_E: Integers, second_E: Integers) -> Integers:
    """Return the centre of each node, [num_nodes]; a centre's is itself.

    `first_E` and `second_E` are the pairs of neighbours, each pair once, no node with itself. Among nodes with as many
    neighbours left the lowest number is first. Memory: about 40 bytes per pair and 200 per node.
    """
    starts, neighbours = _adjacency(num_nodes, first_E, second_E)
    left = np.diff(starts)
    centres: Integers = np.arange(num_nodes, dtype=np.int32)
    is_covered = np.zeros(num_nodes, dtype=np.bool_)
    heap = [(-int(left[node]), int(node)) for node in np.flatnonzero(left)]
    heapq.heapify(heap)
    while heap:
        negative, node = heapq.heappop(heap)
        if is_covered[node]:
            continue
        if -negative != left[node]:  # it lost neighbours since, and waits for its turn again
            if left[node]:
                heapq.heappush(heap, (-int(left[node]), node))
            continue
        around = neighbours[starts[node] : starts[node + 1]]
        members = np.append(around[~is_covered[around]], np.int32(node))
        is_covered[members] = True
        centres[members] = node
        np.subtract.at(left, _neighbours_of(members, starts, neighbours), 1)
    return centres


def _adjacency(
    num_nodes: int, first_E: Integers, second_E: Integers
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Return where each node's neighbours begin, [num_nodes + 1], and the neighbours."""
    nodes = np.concatenate([first_E, second_E])
    order = np.argsort(nodes, kind="stable")
    starts = np.zeros(num_nodes + 1, dtype=np.int64)
    np.cumsum(np.bincount(nodes, minlength=num_nodes), out=starts[1:])
    return starts, np.concatenate([second_E, first_E])[order]


def _neighbours_of(nodes: Integers, starts: npt.NDArray[np.int64], neighbours: Integers) -> Integers:
    """Return the neighbours of several nodes, end to end."""
    counts = starts[nodes + 1] - starts[nodes]
    ends = np.cumsum(counts)
    places = np.arange(ends[-1]) + np.repeat(starts[nodes] - (ends - counts), counts)
    found: Integers = neighbours[places]
    return found
