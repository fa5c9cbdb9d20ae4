"""Fusion: one score and one probability from bridge, analogues, walk, likeness and prior, learned for each relation.

Knows: numpy, scipy, parts of evidence. Does not know: encoders, the store, nodes.

The score is a sum of the parts, each divided by its best score of the query, with weights of at least 0. The bridge weighs 1; every
other part is added only where it ranks the edges of left-out heads better by more than two standard errors. The parts of a left-out
head are made without its own edges, and a true tail that no other head has is not asked for (bridge/attention.py says why).

The probability is a logistic regression (Platt 1999) on the fused score, the bridge's, the prior and the nearest analogue, fitted
on the same left-out heads over the best 200 tails of each: those that a search can return.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import minimize

from biobridge_rag.bridge.attention import answerable
from biobridge_rag.graph.ranks import reciprocal_ranks
from biobridge_rag.retrieval.likeness import Heads
from biobridge_rag.retrieval.scoring import PARTS, Parts, TailScorer
from biobridge_rag.types import Indices, NodeType, Relation, Vectors

POOL = 200
MAX_HEADS, MIN_HEADS = 400, 20
_ERRORS = 2.0  # the best of so many trials is one standard error better by chance
_STEPS = {
    "close": (0.03, 0.1, 0.3, 1.0),
    "wide": (0.03, 0.1, 0.3),
    "walk": (0.1, 0.3, 1.0),
    "alike": (0.1, 0.3, 1.0, 3.0),
    "prior": (0.001, 0.003, 0.01, 0.03, 0.1),
}
_QUANTILES = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class Fusion:
    """weights (6,): of PARTS; calibration (5,): slopes on the logs of fused score, bridge and prior, on the nearest analogue's
    similarity, and the intercept; likeness (101,): percentiles of the nearest similarity among training heads, by which a query
    is told to lie outside of what the graph knows; n_heads: how many heads it was learned from."""

    weights: NDArray[np.float64]
    calibration: NDArray[np.float64]
    likeness: NDArray[np.float64]
    n_heads: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "weights": dict(zip(PARTS, self.weights.tolist(), strict=True)),
            "calibration": self.calibration.tolist(),
            "likeness": [round(v, 4) for v in self.likeness.tolist()],
            "n_heads": self.n_heads,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Fusion:
        weights = np.array([float(data["weights"][name]) for name in PARTS])
        return cls(weights, np.asarray(data["calibration"], np.float64), np.asarray(data["likeness"], np.float64), int(data["n_heads"]))

    def weighs(self, part: str) -> bool:
        """Whether this one of PARTS has any weight in the score."""
        return bool(self.weights[PARTS.index(part)] > 0.0)

    def score(self, parts: Parts) -> Vectors:
        """(n, n_tails) fused scores; higher is better, comparable within one query only."""
        scaled = parts.scaled()
        terms = [weight * scaled[name] for weight, name in zip(self.weights.tolist(), PARTS, strict=True) if weight]
        return np.asarray(sum(terms), dtype=np.float32)

    def probability(self, scores: Vectors, parts: Parts) -> Vectors:
        """Fused scores (n, n_tails) -> probabilities in [0, 1] that the edge holds, as far as the graph is complete."""
        return np.asarray(1.0 / (1.0 + np.exp(-(_evidence(scores, parts) @ self.calibration))), dtype=np.float32)

    def percentile(self, nearest: float) -> float:
        """How near the query's closest analogue is, as a percentile in [0, 100] of the same among training heads."""
        return float(np.interp(nearest, self.likeness, 100.0 * _QUANTILES))


# Used where a relation has too few heads to learn from.
DEFAULT = Fusion(np.array([1.0, 0.1, 0.0, 0.0, 0.0, 0.001]), np.array([1.0, 0.5, 0.0, 0.0, 0.0]), np.linspace(0.0, 1.0, 101), 0)


def _evidence(scores: Vectors, parts: Parts) -> NDArray[np.float64]:
    """(n, n_tails, 5) what the probability is computed from."""
    relative = scores / np.maximum(scores.max(axis=-1, keepdims=True), 1e-9)
    shape = scores.shape
    columns = [
        np.log(relative + 1e-3),
        np.log(parts.bridge + 1e-3),
        np.log(np.broadcast_to(parts.prior, shape) + 1e-4),
        np.broadcast_to(parts.nearest[:, None], shape),
        np.ones(shape),
    ]
    return np.stack(columns, axis=-1).astype(np.float64)


def fit(scorer: TailScorer, relation: Relation, rows: Indices, seed: int, cosines: Vectors | None = None) -> Fusion:
    """Learns a relation's fusion from the heads `rows`, each left out. cosines (n, n_tails): the bridge's honest ones of those
    heads, for a bridge that cannot leave a head out by itself."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(rows), MAX_HEADS, replace=False)) if len(rows) > MAX_HEADS else np.arange(len(rows))
    heads = rows[chosen]
    x = np.asarray(scorer.tables[NodeType(relation.head_type)][heads], dtype=np.float32)
    parts = scorer.parts(Heads(x, heads), relation, None if cosines is None else cosines[chosen])
    likeness = np.asarray(np.quantile(parts.nearest, _QUANTILES) if len(heads) else DEFAULT.likeness, dtype=np.float64)
    truth, counts = answerable(scorer.view(relation).edges, heads)
    if len(heads) < MIN_HEADS or not truth.nnz:
        return Fusion(DEFAULT.weights, DEFAULT.calibration, likeness, len(rows))
    weights = _choose(parts, truth, counts > 0)
    fused = Fusion(weights, DEFAULT.calibration, likeness, len(rows))
    return Fusion(weights, _calibrate(fused.score(parts), parts, truth.toarray() > 0, counts > 0), likeness, len(rows))


def _choose(parts: Parts, truth: sparse.csr_matrix, asked: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Adds parts to the bridge one at a time, the most helpful first, while each helps by more than two standard errors."""
    scaled = parts.scaled()
    owner = np.repeat(np.arange(truth.shape[0]), np.diff(truth.indptr))
    total = np.where(asked, scaled["bridge"], -np.inf)
    gains, weights, left = reciprocal_ranks(total, truth), dict.fromkeys(PARTS, 0.0) | {"bridge": 1.0}, dict(_STEPS)
    while left:
        trials = {(n, w): reciprocal_ranks(total + np.float32(w) * scaled[n], truth) for n, steps in left.items() for w in steps}
        best = max(trials, key=lambda key: float(trials[key].mean()))
        difference = np.bincount(owner, weights=trials[best] - gains)
        if difference.sum() <= _ERRORS * np.sqrt((difference**2).sum()):
            break
        name, weight = best
        weights[name], gains, total = weight, trials[best], total + np.float32(weight) * scaled[name]
        del left[name]
    return np.array([weights[name] for name in PARTS])


def _calibrate(scores: Vectors, parts: Parts, truth: NDArray[np.bool_], asked: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Logistic regression over the best 200 tails of each head, a little ridge on the slopes. More of a score, or a commoner
    tail, never makes an edge less probable."""
    ranked = np.where(asked, scores, -np.inf)
    best = np.argpartition(-ranked, min(POOL, ranked.shape[1]) - 1, axis=1)[:, :POOL]
    features = np.take_along_axis(_evidence(scores, parts), best[:, :, None], axis=1)
    kept = np.take_along_axis(asked, best, axis=1).ravel()
    z = features.reshape(-1, features.shape[-1])[kept]
    y = np.take_along_axis(truth, best, axis=1).ravel()[kept].astype(np.float64)

    def objective(c: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logit = z @ c
        error = 1.0 / (1.0 + np.exp(-logit)) - y
        pull = np.array([c[0] - 1.0, c[1], c[2], c[3], 0.0])
        return float((np.logaddexp(0.0, logit) - y * logit).sum() + 0.5 * (pull**2).sum()), z.T @ error + pull

    start, bounds = np.array([1.0, 0.0, 0.0, 0.0, -1.0]), [(0.0, None)] * 3 + [(None, None)] * 2
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 200})
    return np.asarray(found.x, dtype=np.float64)
