"""Filtered ranks of true tails, the one way in which training, fusion and evaluation rank.

Knows: scores and truth as arrays. Does not know: graphs, models, metrics.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from biobridge_rag.types import Indices, Vectors

_FEW = 24  # true tails up to which counting by comparison is quicker than sorting all scores of the head


def block_ranks(scores: Vectors, starts: Indices, tails: Indices) -> NDArray[np.float64]:
    """The filtered mean ranks of `filtered_ranks` for the true tails of many heads, (m,) in the order of `tails`.

    scores: (n, n_tails), higher is better, free of NaN, infinities allowed; starts: (n + 1,) where each head's true tails
    begin in `tails`; tails: (m,) columns, each once a head. A head with few true tails takes O(n_tails) a tail by comparison,
    one with many a single sort; what its other true tails add to the counts is taken off again.
    """
    out = np.empty(len(tails), dtype=np.float64)
    for i in range(len(starts) - 1):
        at = slice(int(starts[i]), int(starts[i + 1]))
        row = np.ascontiguousarray(scores[i])
        mine = row[tails[at]]
        above, least = _above(row, mine)
        own_above, own_least = _above_sorted(np.sort(mine), mine)
        above -= own_above
        out[at] = 1.0 + above + (least - own_least - above) / 2.0
    return out


def _above(row: Vectors, mine: Vectors) -> tuple[Indices, Indices]:
    """For each of `mine` (k,), how many of `row` (n,) are greater, and how many are greater or equal."""
    if len(mine) > _FEW:
        return _above_sorted(np.sort(row), mine)
    return (
        np.array([np.count_nonzero(row > score) for score in mine], dtype=np.int64),
        np.array([np.count_nonzero(row >= score) for score in mine], dtype=np.int64),
    )


def _above_sorted(ascending: Vectors, mine: Vectors) -> tuple[Indices, Indices]:
    return (
        len(ascending) - np.searchsorted(ascending, mine, side="right"),
        len(ascending) - np.searchsorted(ascending, mine, side="left"),
    )


def reciprocal_ranks(scores: Vectors, truth: sparse.csr_matrix) -> NDArray[np.float64]:
    """(m,) 1 / filtered mean rank of every true pair, in the order of `truth` (n, n_tails), whose stored values are true."""
    return 1.0 / block_ranks(scores, truth.indptr.astype(np.int64), truth.indices.astype(np.int64))
