"""Analogues: the nearest nodes of the head's own type vote with their edges.

Knows: similarities and incidence matrices. Does not know: where they come from.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from biobridge_rag.types import Indices, Vectors

K = 40
POWERS = (2, 6)


def votes(similarities: Vectors, neighbours: Indices, edges: sparse.csr_matrix, power: int) -> Vectors:
    """Share of the similarity-weighted vote that each tail gets, (n, n_tails) in [0, 1].

    similarities: (n, k) cosines of the k nearest heads, best first, 0 where there is none; neighbours: (n, k) their rows in
    `edges` (n_heads, n_tails). A neighbour votes with weight max(similarity, 0)^power for every tail it has an edge to; the
    share is of the weight of the neighbours that have any edge. power 2 hears many, power 6 the closest only.
    """
    n, k = neighbours.shape
    weight = np.maximum(similarities, 0.0).astype(np.float64) ** power
    weight[np.diff(edges.indptr)[neighbours] == 0] = 0.0
    matrix = sparse.csr_matrix((weight.ravel(), neighbours.ravel(), np.arange(0, n * k + 1, k)), shape=(n, edges.shape[0]))
    total = weight.sum(axis=1, keepdims=True)
    return np.asarray((matrix @ edges).toarray() / np.maximum(total, 1e-12), dtype=np.float32)
