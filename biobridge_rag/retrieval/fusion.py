"""Fusion: one score and one probability from bridge, analogues and prior, learned for each relation.

Knows: numpy, scipy. Does not know: encoders, the store, nodes.

The score is linear in six features, which may weigh more or less as the nearest analogue is closer. The weights are chosen
among a conditional logit (each true tail against all false ones), fixed defaults and plain blends, by the mean reciprocal
rank on training heads whose bridge predictions, analogue votes and priors were made without their own edges. The probability
is a logistic regression on the fused log-share among the best tails (Platt 1999), fitted on the same left-out predictions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import minimize, minimize_scalar

from biobridge_rag.bridge.model import unit
from biobridge_rag.retrieval.analogues import POWERS, K, nearest_left_out, votes
from biobridge_rag.types import Indices, Vectors

N_BASE = 6
N_FEATURES = 2 * N_BASE
POOL = 200
MAX_HEADS, MIN_HEADS = 200, 8
_PULL = 0.5


@dataclass(frozen=True)
class Fusion:
    """weights (12,): six features, then the same six times the nearest analogue's similarity. calibration (3,): slope on the
    fused log-share, slope on the nearest similarity, intercept. n_heads: how many heads it was learned from."""

    weights: NDArray[np.float64]
    calibration: NDArray[np.float64]
    n_heads: int

    def to_dict(self) -> dict[str, Any]:
        return {"weights": self.weights.tolist(), "calibration": self.calibration.tolist(), "n_heads": self.n_heads}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Fusion:
        return cls(np.asarray(data["weights"]), np.asarray(data["calibration"]), int(data["n_heads"]))

    def score(self, features: Vectors) -> Vectors:
        """(..., 12) features -> (...) fused scores; higher is better, comparable within one query only."""
        return np.asarray(features @ self.weights, dtype=np.float32)

    def probability(self, scores: Vectors, nearest: Vectors) -> Vectors:
        """scores (n, t) of one query a row, nearest (n,) -> probabilities (n, t) in [0, 1] that the edge holds."""
        shares = log_share(scores)
        slope, near, intercept = self.calibration
        return np.asarray(1.0 / (1.0 + np.exp(-(slope * shares + near * nearest[:, None] + intercept))), dtype=np.float32)


# Used where a relation has too few heads to learn from, and what learned weights are pulled towards.
DEFAULT = Fusion(np.array([0.0, 6.0, 2.0, 4.0, 1.0, 2.0, 0.0, 0.0, 0.0, 4.0, 0.0, -2.0]), np.array([1.0, 0.0, 0.0]), 0)


def log_share(scores: Vectors) -> Vectors:
    """Log of each tail's softmax share among the best 200 of its row, (n, t)."""
    scores = np.asarray(scores, dtype=np.float64)
    best = scores if scores.shape[1] <= POOL else np.partition(scores, scores.shape[1] - POOL, axis=1)[:, -POOL:]
    top = best.max(axis=1, keepdims=True)
    return np.asarray(scores - top - np.log(np.exp(best - top).sum(axis=1, keepdims=True)))


def log_prior(counts: NDArray[np.float64], n_heads: int) -> Vectors:
    """Log frequency of each tail with the relation, half a count added, (n_tails,)."""
    return np.log((np.asarray(counts, dtype=np.float64) + 0.5) / max(n_heads, 1)).astype(np.float32)


def features(cosine: Vectors, vote_shares: tuple[Vectors, Vectors], prior: Vectors, nearest: Vectors) -> Vectors:
    """(n, t, 12) features. cosine (n, t) of the bridge; vote_shares (n, t) at both powers; prior (t,) or (n, t) log frequency;
    nearest (n,) similarity of the closest analogue, in [0, 1]."""
    wide, close = vote_shares
    positive = np.maximum(cosine, 0.0)
    base = np.stack(
        [
            positive,
            np.sqrt(positive),
            np.sqrt(wide),
            np.sqrt(close),
            (wide > 0).astype(np.float32),
            np.broadcast_to(prior, cosine.shape) / 4,
        ],
        axis=-1,
    )
    return np.concatenate([base, base * nearest[:, None, None]], axis=-1).astype(np.float32)


def fit(transforms: Vectors, tails: Vectors, x: Vectors, rows: Indices, edges: sparse.csr_matrix, seed: int) -> Fusion:
    """Learns a relation's fusion. transforms (h, hidden): honest bridge predictions of the heads `rows`; tails (t, hidden)
    unit projections; x (n, d) frozen vectors of the head type; edges (n, t) incidence."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(rows), MAX_HEADS, replace=False)) if len(rows) > MAX_HEADS else np.arange(len(rows))
    if len(chosen) < MIN_HEADS:
        return DEFAULT
    heads = rows[chosen]
    having = np.flatnonzero(np.diff(edges.indptr))
    similar, index = nearest_left_out(x, heads, having)
    incident = edges[heads].toarray()
    left_out = np.asarray(edges.sum(axis=0)).ravel()[None, :] - incident
    wide, close = (votes(similar, index, edges, p) for p in POWERS)
    block = features(unit(transforms[chosen]) @ tails.T, (wide, close), log_prior(left_out, len(having)), similar[:, 0])
    truth = incident > 0
    candidates = [_fit_weights(block, truth), DEFAULT.weights, *_blends()]
    best = max(candidates, key=lambda w: _mean_reciprocal_rank(block @ w.astype(np.float32), truth))
    weights = best * _scale(block @ best.astype(np.float32), truth)
    calibration = _fit_calibration(log_share(block @ weights.astype(np.float32)), similar[:, 0], truth)
    return Fusion(weights, calibration, len(rows))


def _blends() -> list[NDArray[np.float64]]:
    """Plain mixtures of the roots of cosine and vote with a little prior: they win where few heads have many tails."""
    out = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        for prior in (0.02, 0.2, 0.6):
            weights = np.zeros(N_FEATURES)
            weights[1], weights[3], weights[5] = 10 * share, 10 * (1 - share), prior
            out.append(weights)
    return out


def _mean_reciprocal_rank(scores: Vectors, truth: NDArray[np.bool_]) -> float:
    """Filtered, ties at their mean rank, the mean over true pairs."""
    total = 0.0
    for row, true in zip(scores, truth, strict=True):
        others = np.sort(row[~true])
        low, high = (np.searchsorted(others, row[true], side=side) for side in ("left", "right"))
        total += float((1.0 / (1.0 + len(others) - (low + high) / 2.0)).sum())
    return total / max(int(truth.sum()), 1)


def _scale(scores: Vectors, truth: NDArray[np.bool_]) -> float:
    """The factor that makes the softmax of the scores likeliest; it changes no rank."""

    def loss(log_factor: float) -> float:
        shares = log_share(scores * np.exp(log_factor))
        return -float(shares[truth].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-2.5, 2.5), method="bounded", options={"xatol": 0.05}).x))


def _fit_weights(block: Vectors, truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Conditional logit, the other true tails left out of the denominator, pulled towards the default weights."""
    import torch

    f = torch.from_numpy(np.ascontiguousarray(block))
    rows, columns = (torch.from_numpy(a) for a in np.nonzero(truth))
    hidden = torch.from_numpy(truth)
    pull, scale = _PULL / len(truth), 1.0 / max(float(truth.sum()), 1.0)
    start = torch.from_numpy(DEFAULT.weights.astype(np.float32))

    def objective(w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = torch.from_numpy(w.astype(np.float32)).requires_grad_()
        scores = f @ weights
        negatives = torch.logsumexp(scores.masked_fill(hidden, float("-inf")), dim=1)[rows]
        positive = scores[rows, columns]
        loss = scale * (torch.logaddexp(positive, negatives) - positive).sum() + pull * ((weights - start) ** 2).sum()
        loss.backward()
        assert weights.grad is not None
        return float(loss.detach()), weights.grad.numpy().astype(np.float64)

    found = minimize(objective, DEFAULT.weights, jac=True, method="L-BFGS-B", options={"maxiter": 30})
    return np.asarray(found.x, dtype=np.float64)


def _fit_calibration(shares: Vectors, nearest: Vectors, truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Logistic regression of truth on (log share, nearest similarity, 1), a little ridge on the slopes, over the best 200 tails
    of each query: those that a search can return."""
    if shares.shape[1] > POOL:
        best = np.argpartition(-shares, POOL - 1, axis=1)[:, :POOL]
        shares, truth = np.take_along_axis(shares, best, axis=1), np.take_along_axis(truth, best, axis=1)
    s, near = shares.ravel(), np.repeat(nearest, shares.shape[1])
    y = truth.ravel().astype(np.float64)

    def objective(c: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = c[0] * s + c[1] * near + c[2]
        error = 1.0 / (1.0 + np.exp(-z)) - y
        loss = float((np.logaddexp(0.0, z) - y * z).sum() + 0.5 * (c[0] - 1) ** 2 + 0.5 * c[1] ** 2)
        return loss, np.array([error @ s + c[0] - 1, error @ near + c[1], error.sum()])

    found = minimize(objective, np.array([1.0, 0.0, 0.0]), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return np.asarray(found.x, dtype=np.float64)


__all__ = ["DEFAULT", "POOL", "POWERS", "Fusion", "K", "features", "fit", "log_prior", "log_share"]
