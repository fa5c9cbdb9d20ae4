"""How sure a figure is: bootstrap intervals of the metrics, and paired tests between methods that ranked the same heads.

The heads are drawn, not their triples: the triples of one head share its embedding and are not independent. Intervals are
percentile bootstrap intervals of 95 % (Efron & Tibshirani 1993, chapter 13). For the macro mean a resample draws the heads of
a type once for all relations, since one head's ranks under two relations are not independent either. The p value is that of
the two-sided sign-flip test (Fisher's randomisation test for paired values) over heads: were the two methods alike, then the
sign of each head's difference would be a coin's; a head keeps one sign in all relations.

Knows: per-head sums of the metrics. Does not know: scores, ranks, graphs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biobridge_rag.errors import InputError
from biobridge_rag.types import Indices

Floats = NDArray[np.float64]
MEASURES = {"mrr": 0, "hits@10": 3}  # the metrics that get an interval, and their place in METRICS
_MRR = 0
_CELLS = 4_000_000  # numbers that one block of resamples may hold


@dataclass(frozen=True)
class PerHead:
    """What each head of one relation adds to each method's metrics. group: draws are made within it (the head type); heads: (h,)
    distinct numbers, the same node the same number in every relation of the group; triples: (h,) counts of 1 or more; sums:
    (h, n_methods, 4) sums over the head's triples of the reciprocal rank and of hits@1, 3 and 10."""

    group: str
    heads: Indices
    triples: Floats
    sums: Floats
    methods: tuple[str, ...]

    def only(self, methods: Sequence[str]) -> PerHead:
        """The same for these methods, in this order."""
        at = [self.methods.index(m) for m in methods]
        return PerHead(self.group, self.heads, self.triples, self.sums[:, at], tuple(methods))

    @property
    def means(self) -> Floats:
        """(n_methods, 4) means over the triples."""
        return np.asarray(self.sums.sum(axis=0) / self.triples.sum())


def bootstrap(relations: Sequence[PerHead], resamples: int, rng: np.random.Generator) -> Floats:
    """(resamples, n_methods, 4) the metrics' mean over the relations when the heads are drawn anew, with replacement.

    All methods see the same draws, so their differences are paired. A resample that draws no head of a relation, which only tiny
    relations meet, keeps the measured value of that relation.
    """
    out = np.zeros((resamples, *relations[0].means.shape))
    for group in sorted({r.group for r in relations}):
        mine = [r for r in relations if r.group == group]
        ids = np.unique(np.concatenate([r.heads for r in mine]))
        columns = [np.searchsorted(ids, r.heads) for r in mine]
        step = max(1, _CELLS // len(ids))
        for at in range(0, resamples, step):
            n = min(step, resamples - at)
            counts = _draws(n, len(ids), rng)
            for relation, where in zip(mine, columns, strict=True):
                weights = counts[:, where]
                triples = (weights @ relation.triples)[:, None, None]
                sums = np.tensordot(weights, relation.sums, axes=1)
                out[at : at + n] += np.where(triples > 0, sums / np.maximum(triples, 1.0), relation.means)
    return out / len(relations)


def _draws(n: int, heads: int, rng: np.random.Generator) -> Floats:
    """(n, heads) multinomial counts: how often each head is drawn in each of n resamples of as many heads."""
    drawn = rng.integers(heads, size=(n, heads)) + heads * np.arange(n)[:, None]
    return np.bincount(drawn.ravel(), minlength=n * heads).reshape(n, heads).astype(np.float64)


def sign_flip_p(relations: Sequence[PerHead], method: str, other: str, resamples: int, rng: np.random.Generator) -> float:
    """Two-sided p in (0, 1] for no difference in MRR, the mean over the relations: the share of random signs whose difference is
    as great as the measured one, which itself counts as one (Phipson & Smyth 2010), so it is never below 1 / (resamples + 1)."""
    keys: list[tuple[str, int]] = []
    parts: list[Floats] = []
    for r in relations:
        keys += [(r.group, int(h)) for h in r.heads]
        gap = r.sums[:, r.methods.index(method), _MRR] - r.sums[:, r.methods.index(other), _MRR]
        parts.append(gap / r.triples.sum() / len(relations))
    place = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    shares = np.bincount([place[key] for key in keys], np.concatenate(parts))  # each head's share of the difference
    shares = shares[shares != 0.0]
    if not len(shares):
        return 1.0
    least = abs(shares.sum()) * (1.0 - 1e-9)
    step, extreme = max(1, _CELLS // len(shares)), 0
    for at in range(0, resamples, step):
        signs = rng.integers(2, size=(min(step, resamples - at), len(shares)), dtype=np.int8)
        extreme += int((np.abs((2.0 * signs - 1.0) @ shares) >= least).sum())
    return (extreme + 1) / (resamples + 1)


def intervals(drawn: Floats, methods: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """{method: {"mrr": [low, high], "hits@10": [low, high]}} from drawn metrics (resamples, n_methods, 4)."""
    return {m: {name: _interval(drawn[:, i, k]) for name, k in MEASURES.items()} for i, m in enumerate(methods)}


def _interval(values: Floats) -> list[float]:
    return [round(float(v), 6) for v in np.percentile(values, [2.5, 97.5])]


def compare(relations: Sequence[PerHead], ours: Sequence[str], resamples: int, seed: int | Sequence[int]) -> dict[str, Any]:
    """Intervals of every method, and each of `ours` against the best of the others, on one relation or the mean over several.

    Returns {"ci": as `intervals`, "best_baseline": the other method of the highest measured MRR (None where there is none),
    "against_best_baseline": {method: {"mrr_difference" (ours minus the baseline's), "ci": [low, high], "p"}}}. The best is chosen
    on the same heads, which favours it. The relations must hold the same methods. Raises InputError below 1 resample.
    """
    if resamples < 1:
        raise InputError(f"The number of resamples must be 1 or more, not {resamples}.")
    methods = relations[0].methods
    rng = np.random.default_rng(seed)
    drawn = bootstrap(relations, resamples, rng)
    mrr = np.mean([r.means[:, _MRR] for r in relations], axis=0)
    others = [i for i, m in enumerate(methods) if m not in ours]
    best = max(others, key=lambda i: mrr[i]) if others else None
    against = {}
    if best is not None:
        for i, method in enumerate(methods):
            if method in ours:
                against[method] = {
                    "mrr_difference": round(float(mrr[i] - mrr[best]), 6),
                    "ci": _interval(drawn[:, i, _MRR] - drawn[:, best, _MRR]),
                    "p": round(sign_flip_p(relations, method, methods[best], resamples, rng), 6),
                }
    return {
        "ci": intervals(drawn, methods),
        "best_baseline": None if best is None else methods[best],
        "against_best_baseline": against,
    }
