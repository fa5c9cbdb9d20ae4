"""Our retriever and the simple baselines as scorers of the ranking protocol.

Knows: bridges, evidence parts, fusion, graphs. Does not know: the store, metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from biobridge_rag.bridge.attention import answerable, powered
from biobridge_rag.errors import InputError
from biobridge_rag.graph.incidence import incidence
from biobridge_rag.graph.ranks import reciprocal_ranks
from biobridge_rag.retrieval.fusion import DEFAULT, Fusion
from biobridge_rag.retrieval.likeness import Heads, Likeness
from biobridge_rag.retrieval.scoring import TailScorer
from biobridge_rag.types import Indices, KnowledgeGraph, NodeType, Relation, Vectors

OURS = ("fused", "bridge")
SIMPLE = ("popularity", "analogues", "kernel-ridge")
_POWERS = (1, 2, 3)
_MAX_HEADS, _BLOCK = 8192, 64


def check_baselines(names: list[str], valid: tuple[str, ...]) -> list[str]:
    """The names, each valid. Raises InputError listing the valid ones."""
    for name in names:
        if name not in valid:
            raise InputError(f"There is no baseline {name!r}.", f"Valid names: {', '.join(valid)}.")
    return names


@dataclass(frozen=True)
class RetrieverScorer:
    """The retriever's own scores of all tails, without approximate search. Methods: fused, bridge, analogues (the 40 nearest heads
    vote by the sixth power of their similarity) and popularity (how many heads have the tail). As in an answer, what the graph
    states of a head that is a node of it, in either direction, comes first in `fused`; the others are predicted without it."""

    scorer: TailScorer
    fusions: Mapping[Relation, Fusion]
    methods: tuple[str, ...] = ("fused", "bridge", "analogues", "popularity")

    def score(self, heads: Heads, relation: Relation) -> dict[str, Vectors]:
        """method -> (n, n_tails); empty for a relation without training edges."""
        if not self.scorer.view(relation).edges.nnz:
            return {}
        blocks = [self._score(heads, relation, slice(i, i + _BLOCK)) for i in range(0, len(heads.x), _BLOCK)]
        return {name: np.concatenate([block[name] for block in blocks]) for name in self.methods}

    def _score(self, heads: Heads, relation: Relation, at: slice) -> dict[str, Vectors]:
        parts = self.scorer.parts(heads[at], relation)
        fused = self.fusions.get(relation, DEFAULT).score(parts)
        if heads.rows is not None:
            stated = self.scorer.view(relation).edges[heads.rows[at]].toarray()
            fused = fused + stated * (1.0 + fused.max(axis=1, keepdims=True))
        found = {
            "fused": fused,
            "bridge": parts.bridge,
            "analogues": parts.close,
            "popularity": np.broadcast_to(parts.counts, parts.close.shape),
        }
        return {name: found[name] for name in self.methods}


class KernelRidge:
    """Kernel ridge regression from the heads' similarities, the same that the bridge attends by, to the tails' incidence, one a
    relation, in closed form: k(x) (K + I)^-1 Y with k = similarity^power; the power of 1 to 3 that ranks left-out training heads
    best is taken. Exact leave-one-out predictions for heads that are nodes of the graph. Above 8,192 heads a seeded sample of them."""

    methods = ("kernel-ridge",)

    def __init__(self, graph: KnowledgeGraph, likeness: Mapping[NodeType, Likeness], seed: int = 0) -> None:
        self.graph, self.likeness, self.seed = graph, likeness, seed
        self._fitted: dict[Relation, tuple[Indices, int, Vectors]] = {}

    def score(self, heads: Heads, relation: Relation) -> dict[str, Vectors]:
        """(n, n_tails); empty for a relation without training edges."""
        edges = incidence(self.graph, relation)
        if not edges.nnz:
            return {}
        if relation not in self._fitted:
            self._fitted = {relation: self._fit(relation)}  # one at a time: an inverse of 8,192 heads takes 256 MB
        rows, power, inverse = self._fitted[relation]
        weights = powered(self.likeness[NodeType(relation.head_type)].of(heads)[:, rows], power) @ inverse
        if heads.rows is not None:
            place = {int(row): i for i, row in enumerate(rows)}
            for k, row in enumerate(heads.rows):
                if (i := place.get(int(row))) is not None:
                    weights[k] = -inverse[i] / inverse[i, i]
                    weights[k, i] = 0.0
        return {"kernel-ridge": np.asarray(weights @ edges[rows], dtype=np.float32)}

    def _fit(self, relation: Relation) -> tuple[Indices, int, Vectors]:
        edges, rng = incidence(self.graph, relation), np.random.default_rng(self.seed)
        rows = np.flatnonzero(np.diff(edges.indptr))
        if len(rows) > _MAX_HEADS:
            rows = np.sort(rng.choice(rows, _MAX_HEADS, replace=False))
        asked = np.sort(rng.choice(len(rows), min(len(rows), 300), replace=False))
        truth, counts = answerable(edges, rows[asked])
        similar, best = self.likeness[NodeType(relation.head_type)].among(rows), (-1.0, 0, np.zeros((0, 0), np.float32))
        for power in _POWERS:
            system = powered(similar, power)
            system[np.diag_indices_from(system)] += 1.0
            inverse = np.asarray(linalg.inv(system, check_finite=False), dtype=np.float32)
            weights = -inverse[asked] / np.diag(inverse)[asked, None]
            weights[np.arange(len(asked)), asked] = 0.0
            scores = np.where(counts > 0, np.asarray(weights @ edges[rows]), -np.inf)
            mrr = float(reciprocal_ranks(scores, truth).mean()) if truth.nnz else 0.0
            if mrr > best[0]:
                best = (mrr, power, inverse)
        return rows, best[1], best[2]
