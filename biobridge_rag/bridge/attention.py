"""Attention over training heads: which of them a query resembles, each weighed for what the others do not already say.

Knows: numpy, scipy. Does not know: graphs, how similarities are made, chroma.

The weights of a query over its nearest training heads N, those of a similarity above 0, are w = (K_NN + ridge I)^-1 k_N with k =
similarity^power: kernel ridge regression solved in the query's neighbourhood (local learning: Bottou & Vapnik 1992). Two near twins
share their weight, where a plain vote would count them twice. A tail's score is the weighted sum of the edges of those heads; no
width limits how many tails can be told apart. A head that is left out of N is left out exactly, so predictions for training heads
are honest.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from scipy import linalg, sparse
from threadpoolctl import ThreadpoolController

from biobridge_rag.types import Indices, Vectors

NEIGHBOURS = 300


def powered(similar: Vectors, power: int) -> Vectors:
    """relu(similarity)^power, in [0, 1] for similarities of at most 1."""
    base = np.maximum(np.asarray(similar, dtype=np.float32), np.float32(0.0))
    out = base.copy()
    for _ in range(power - 1):  # far quicker than numpy's general power
        out *= base
    return np.asarray(out, dtype=np.float32)


def attend(similar: Vectors, heads: Indices, among: Callable[[Indices], Vectors], power: int, ridge: float) -> sparse.csr_matrix:
    """Weights over all nodes of the head type, (n, n_t). similar: (n, n_t) similarities, at most 1, -1 for a node that must not be
    used; heads: rows that may be attended; among(rows (m,)) -> (m, m) similarities between them."""
    n, width = similar.shape
    m = min(NEIGHBOURS, len(heads))
    if not m:
        return sparse.csr_matrix((n, width), dtype=np.float32)
    nearest = np.argpartition(-similar[:, heads], m - 1, axis=1)[:, :m]
    rows = np.sort(heads[nearest], axis=1)
    weights = np.zeros((n, m), dtype=np.float32)
    with _threads().limit(limits=1):  # many small systems: threads would wait for each other
        for i in range(n):
            use = np.flatnonzero(similar[i, rows[i]] > 0.0)
            if len(use):
                system = powered(among(rows[i, use]), power)
                system[np.diag_indices_from(system)] += ridge
                weights[i, use] = _solve(system, powered(similar[i, rows[i, use]], power))
    return sparse.csr_matrix((weights.ravel(), rows.ravel(), np.arange(0, n * m + 1, m)), shape=(n, width))


def _solve(system: Vectors, asked: Vectors) -> Vectors:
    """For similarities that are no inner products, such as those of alignments, the system may fail to be positive definite."""
    try:
        return np.asarray(linalg.solve(system, asked, assume_a="pos", check_finite=False), dtype=np.float32)
    except linalg.LinAlgError:
        return np.asarray(linalg.lstsq(system, asked, check_finite=False)[0], dtype=np.float32)


@cache
def _threads() -> ThreadpoolController:
    return ThreadpoolController()


def weigh_edges(weights: sparse.csr_matrix, edges: sparse.csr_matrix) -> Vectors:
    """What attention says of every tail, (n, n_tails) float32, higher is better; near the probability of an edge."""
    return np.asarray((weights @ edges).toarray(), dtype=np.float32)


def answerable(edges: sparse.csr_matrix, rows: Indices) -> tuple[sparse.csr_matrix, Vectors]:
    """What heads that are left out can be asked for: their true tails that another head has too, (n, n_tails), and how often
    others have each tail, (n, n_tails). A tail whose only edge is the one left out is for certain a true tail: whoever learned
    from it would learn to prefer tails without any edge."""
    truth = edges[rows].toarray()
    counts = np.asarray(edges.sum(axis=0), dtype=np.float32).ravel()[None, :] - truth
    return sparse.csr_matrix(truth * (counts > 0)), counts
