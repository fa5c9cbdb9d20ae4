"""Rank metrics of link prediction.

Knows: scores and ranks. Does not know: models, graphs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from biobridge_rag.types import Indices, Vectors

HITS = (1, 3, 10)
METRICS = ("mrr", *(f"hits@{k}" for k in HITS))


def filtered_ranks(scores: Vectors, true_tails: Indices) -> NDArray[np.float64]:
    """Rank of each true tail of one head among all tails (n,), its other true tails left out; a tie takes the mean rank.

    scores: (n_tails,), higher is better. Ranks start at 1 (Bordes et al. 2013 for the filter; Berrendorf et al. 2020,
    arXiv 2002.06914, for the mean rank, there called realistic).
    """
    others = np.sort(np.delete(scores, true_tails))
    mine = scores[true_tails]
    above = len(others) - np.searchsorted(others, mine, side="right")
    equal = np.searchsorted(others, mine, side="right") - np.searchsorted(others, mine, side="left")
    return np.asarray(1.0 + above + equal / 2.0)


def gains(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    """(m,) ranks -> (m, 4) what each adds to METRICS: the reciprocal rank, and 1 where it is within 1, 3 and 10."""
    return np.column_stack([1.0 / ranks, *(ranks <= k for k in HITS)])


def summarise(ranks: Sequence[float] | NDArray[np.float64]) -> dict[str, float]:
    """mrr and hits@1/3/10 in [0, 1], the mean over ranks."""
    return named(gains(np.asarray(ranks, dtype=np.float64)).mean(axis=0))


def named(values: NDArray[np.float64]) -> dict[str, float]:
    """(4,) means in the order of METRICS by name, to six digits."""
    return {name: round(float(value), 6) for name, value in zip(METRICS, values, strict=True)}


def mean_of(summaries: Sequence[dict[str, float]]) -> dict[str, float]:
    """The unweighted mean of summaries (the macro mean over relations)."""
    return {name: round(float(np.mean([s[name] for s in summaries])), 6) for name in summaries[0]} if summaries else {}
