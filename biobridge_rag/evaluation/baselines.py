"""The methods that are compared, each a score for every tail: the fused retriever, its parts, and the baselines.

Knows: bridges, analogues, fusion, graphs. Does not know: the store, metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from biobridge_rag.bridge.model import unit
from biobridge_rag.errors import InputError
from biobridge_rag.graph.incidence import incidence
from biobridge_rag.retrieval.analogues import POWERS, K, votes
from biobridge_rag.retrieval.fusion import DEFAULT, Fusion, features, log_prior
from biobridge_rag.types import Bridge, Indices, KnowledgeGraph, NodeType, Relation, Vectors

BASELINES = ("popularity", "analogues")


def check_baselines(names: list[str]) -> list[str]:
    """The names, each valid. Raises InputError listing the valid ones."""
    for name in names:
        if name not in BASELINES:
            raise InputError(f"There is no baseline {name!r}.", f"Valid names: {', '.join(BASELINES)}.")
    return names


@dataclass(frozen=True)
class Scorer:
    """Scores all tails for unseen heads, exactly (no approximate search). tables, projections: type -> (n, dim) unit rows."""

    graph: KnowledgeGraph
    tables: Mapping[NodeType, Vectors]
    projections: Mapping[NodeType, Vectors]
    bridge: Bridge
    fusions: Mapping[Relation, Fusion]

    @cached_property
    def _edges(self) -> dict[Relation, sparse.csr_matrix]:
        return {}

    def edges(self, relation: Relation) -> sparse.csr_matrix:
        if relation not in self._edges:
            self._edges[relation] = incidence(self.graph, relation)
        return self._edges[relation]

    def neighbours(self, x: Vectors, relation: Relation) -> tuple[Vectors, Indices]:
        """The 40 nearest heads that have an edge of the relation: similarities and rows, (n, k), best first."""
        among = np.flatnonzero(np.diff(self.edges(relation).indptr))
        similar = x @ np.asarray(self.tables[NodeType(relation.head_type)][among], dtype=np.float32).T
        best = np.argsort(-similar, axis=1, kind="stable")[:, :K]
        return np.maximum(np.take_along_axis(similar, best, axis=1), 0.0), among[best]

    def score(self, x: Vectors, relation: Relation) -> dict[str, Vectors]:
        """x (n, d) frozen vectors of unseen heads -> method -> scores (n, n_tails), higher is better."""
        edges = self.edges(relation)
        n_tails = edges.shape[1]
        counts = np.asarray(edges.sum(axis=0)).ravel()
        similar, rows = self.neighbours(x, relation)
        wide, close = (votes(similar, rows, edges, p) for p in POWERS)
        cosine = unit(self.bridge.transform(x, relation)) @ np.asarray(self.projections[NodeType(relation.tail_type)], dtype=np.float32).T
        heads = int((np.diff(edges.indptr) > 0).sum())
        block = features(cosine, (wide, close), log_prior(counts, heads), similar[:, 0])
        return {
            "fused": self.fusions.get(relation, DEFAULT).score(block),
            "bridge": cosine,
            "analogues": close,
            "popularity": np.broadcast_to(counts.astype(np.float32), (len(x), n_tails)),
        }
