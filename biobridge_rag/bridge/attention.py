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
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse
from threadpoolctl import ThreadpoolController

from biobridge_rag.graph.ranks import reciprocal_ranks
from biobridge_rag.types import Indices, Vectors

NEIGHBOURS = 300
POWERS, DEGREES = (2, 3, 4, 6), (0.0, 0.25, 0.5)
_CHOSEN_FROM = 300


@dataclass(frozen=True)
class Focus:
    """How a relation attends. power: of the similarity, higher looks closer; degree: heads count by their number of tails to this
    power (0: every edge alike; above: heads with many edges more, as their edges are what a ranking by edges asks for)."""

    power: int = 3
    degree: float = 0.0


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


def weigh_edges(weights: sparse.csr_matrix, edges: sparse.csr_matrix, degree: float) -> Vectors:
    """What attention says of every tail, (n, n_tails) float32, higher is better; near the probability of an edge at degree 0."""
    if degree:
        weights = weights @ sparse.diags(np.maximum(np.diff(edges.indptr), 1).astype(np.float32) ** degree)
    return np.asarray((weights @ edges).toarray(), dtype=np.float32)


def answerable(edges: sparse.csr_matrix, rows: Indices) -> tuple[sparse.csr_matrix, Vectors]:
    """What heads that are left out can be asked for: their true tails that another head has too, (n, n_tails), and how often
    others have each tail, (n, n_tails). A tail whose only edge is the one left out is for certain a true tail: whoever learned
    from it would learn to prefer tails without any edge."""
    truth = edges[rows].toarray()
    counts = np.asarray(edges.sum(axis=0), dtype=np.float32).ravel()[None, :] - truth
    return sparse.csr_matrix(truth * (counts > 0)), counts


def choose_focus(
    similar: NDArray[np.floating[Any]], rows: Indices, edges: sparse.csr_matrix, ridge: float, rng: np.random.Generator
) -> Focus:
    """The power and degree that rank the edges of left-out heads best (mean reciprocal rank over edges, one head left out at a
    time), where that is better than the default by more than two standard errors of the difference.

    similar: (n_t, n_t) similarities of the head type; rows: heads with an edge; edges: (n_t, n_tails).
    """
    chosen = np.sort(rng.choice(rows, min(_CHOSEN_FROM, len(rows)), replace=False))
    truth, counts = answerable(edges, chosen)
    if len(rows) < 20 or not truth.nnz:
        return Focus()
    asked = np.array(similar[chosen], dtype=np.float32)
    asked[np.arange(len(chosen)), chosen] = -1.0
    gains: dict[Focus, NDArray[np.float64]] = {}
    for power in POWERS:
        weights = attend(asked, rows, lambda r: np.asarray(similar[np.ix_(r, r)], dtype=np.float32), power, ridge)
        for degree in DEGREES:
            scores = weigh_edges(weights, edges, degree)
            scores[counts <= 0] = -np.inf
            gains[Focus(power, degree)] = reciprocal_ranks(scores, truth)
    owner = np.repeat(np.arange(len(chosen)), np.diff(truth.indptr))
    return better(gains, Focus(), owner)


def better(gains: dict[Focus, NDArray[np.float64]], default: Focus, owner: Indices) -> Focus:
    """The best of `gains` by its mean, or `default` where the best is not better than it by two standard errors over heads: the
    best of so many is one better by chance."""
    best = max(gains, key=lambda key: float(gains[key].mean()))
    difference = np.bincount(owner, weights=gains[best] - gains[default])
    error = float(np.sqrt((difference**2).sum())) / len(owner)
    return best if float(difference.sum()) / len(owner) > 2.0 * error else default
