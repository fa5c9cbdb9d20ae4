"""Retrieval: bridge, analogues and prior, fused into ranked nodes with their evidence.

Knows: a graph, its tables, a bridge and an index, all handed in. Does not know: files, settings, language models.

The bridge proposes its nearest tails (Chroma), the analogues theirs (Chroma), the prior the commonest; their union is scored
by the relation's fusion. A query that is a node of the graph is treated as if its own edges were unseen, so that its
predictions are honest; its edges are then marked as known and come first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from biobridge_rag.bridge.model import unit
from biobridge_rag.errors import InputError
from biobridge_rag.graph.incidence import incidence
from biobridge_rag.graph.phrases import phrase
from biobridge_rag.retrieval.analogues import POWERS, K, votes
from biobridge_rag.retrieval.fusion import DEFAULT, POOL, Fusion, features, log_prior
from biobridge_rag.store.index import BRIDGE, FROZEN, NodeIndex
from biobridge_rag.types import (
    Bridge,
    Evidence,
    Indices,
    KnowledgeGraph,
    Node,
    NodeType,
    Query,
    Relation,
    Retrieval,
    RetrievedNode,
    Vectors,
)

SIMILAR = "similar to"
MAX_TOP = 1000
_NEIGHBOURS = 120
_COMMON = 50
_MAX_ANALOGUES_SHOWN = 3


@dataclass(frozen=True)
class RelationView:
    """One relation as matrices: edges (n_heads, n_tails) 0/1 float32; edge_ids the same pattern, data = edge number + 1."""

    edges: sparse.csr_matrix
    edge_ids: sparse.csr_matrix

    @cached_property
    def counts(self) -> NDArray[np.float64]:
        return np.asarray(self.edges.sum(axis=0), dtype=np.float64).ravel()

    @cached_property
    def heads(self) -> Indices:
        """Rows of the heads that have any edge."""
        return np.flatnonzero(np.diff(self.edges.indptr))

    @cached_property
    def common(self) -> Indices:
        """The commonest tails, most frequent first."""
        return np.argsort(-self.counts, kind="stable")[:_COMMON]


class Retriever:
    """`retrieve` answers one query along one relation. tables and projections: node type -> (n, dim) unit vectors."""

    def __init__(
        self,
        graph: KnowledgeGraph,
        index: NodeIndex,
        bridge: Bridge,
        tables: Mapping[NodeType, Vectors],
        projections: Mapping[NodeType, Vectors],
        fusions: Mapping[Relation, Fusion],
        encode: Callable[[NodeType, str], Vectors],
    ) -> None:
        self.graph, self.index, self.bridge = graph, index, bridge
        self.tables, self.projections, self.fusions = tables, projections, fusions
        self._encode = encode
        self._views: dict[Relation, RelationView] = {}

    def relations(self, head_type: NodeType) -> list[Relation]:
        """The graph's relations from this type, and "similar to" within it."""
        own = [r for r in self.graph.relations if r.head_type == head_type and len(self.graph.edges(r)[0])]
        return [*own, Relation(SIMILAR, head_type.value, head_type.value)]

    def view(self, relation: Relation) -> RelationView:
        if relation not in self._views:
            heads, tails = self.graph.edges(relation)
            edges = incidence(self.graph, relation)
            numbers = self.graph.edge_numbers(relation).astype(np.int64)
            ids = sparse.csr_matrix((numbers + 1, (heads, tails)), shape=edges.shape)
            self._views[relation] = RelationView(edges, ids)
        return self._views[relation]

    def node(self, node_type: NodeType, row: int) -> Node:
        return self.graph.nodes[self.graph.by_type[node_type][row]]

    def _row(self, node: Node) -> int | None:
        position = self.graph.position(node.type, node.id)
        return None if position is None else int(self.graph.rank_in_type[position])

    def _rows(self, node_type: NodeType, ids: list[str]) -> Indices:
        positions = [self.graph.position(node_type, i) for i in ids]
        return self.graph.rank_in_type[np.array([p for p in positions if p is not None], dtype=np.int64)]

    def retrieve(self, query: Query, relation: Relation, top: int = 20) -> Retrieval:
        """The `top` best tails with evidence. Raises InputError for a relation that does not start at the query's type or
        is not in the graph, and for a `top` outside 1 to 1,000."""
        if not 1 <= top <= MAX_TOP:
            raise InputError(f"The number of hits must be from 1 to {MAX_TOP:,}, not {top}.")
        known = self.relations(query.type)
        if relation not in known:
            raise InputError(
                f"The graph has no relation {relation.name!r} from {query.type.label} to {relation.tail_type}.",
                f"From a {query.type.label} it has: {', '.join(sorted(f'{r.name} ({r.tail_type})' for r in known))}.",
            )
        row = self._row(query.node) if query.node else None
        x = self.tables[query.type][row : row + 1] if row is not None else self._encode(query.type, query.value)
        x = np.asarray(x, dtype=np.float32)
        if relation.name == SIMILAR:
            return self._similar(query, relation, x, row, top)
        return self._predict(query, relation, x, row, top)

    def _similar(self, query: Query, relation: Relation, x: Vectors, row: int | None, top: int) -> Retrieval:
        size = len(self.tables[query.type])
        ids, cosines = self.index.search(query.type, FROZEN, x, min(top + 1, size))
        hits: list[RetrievedNode] = []
        for found, cosine in zip(self._rows(query.type, ids[0]), cosines[0], strict=True):
            if found == row or len(hits) == top:
                continue
            similarity = float(np.clip(cosine, 0.0, 1.0))
            evidence = (Evidence("analogue", f"similarity {similarity:.2f} by the {query.type.modality.value} encoder", similarity),)
            node = self.node(query.type, int(found))
            hits.append(RetrievedNode(node, len(hits) + 1, similarity, similarity, False, evidence, {"analogues": similarity}))
        note = "The percentage is the similarity of the frozen embeddings, not a probability."
        return Retrieval(query, relation, tuple(hits), (note,))

    def _predict(self, query: Query, relation: Relation, x: Vectors, row: int | None, top: int) -> Retrieval:
        head_type, tail_type = NodeType(relation.head_type), NodeType(relation.tail_type)
        view, fusion = self.view(relation), self.fusions.get(relation, DEFAULT)
        left_out = getattr(self.bridge, "transform_left_out", None)
        carried = unit(left_out(np.array([row]), relation) if row is not None and left_out else self.bridge.transform(x, relation))
        n_tails = len(self.projections[tail_type])
        ids, _ = self.index.search(tail_type, BRIDGE, carried, min(max(POOL, top), n_tails))
        from_bridge = self._rows(tail_type, ids[0])
        similar, neighbours = self._analogues(head_type, view, x, row)
        voted = np.unique(view.edges[neighbours[0]].indices)
        own = view.edges[row].indices if row is not None else np.zeros(0, np.int64)
        pool = np.unique(np.concatenate([from_bridge, voted, view.common, own])).astype(np.int64)
        cosine = carried @ np.asarray(self.projections[tail_type][pool], dtype=np.float32).T
        sub = view.edges[:, pool]  # every tail a neighbour votes for is in the pool, so its vote is whole
        shares = (votes(similar, neighbours, sub, POWERS[0]), votes(similar, neighbours, sub, POWERS[1]))
        counts = view.counts[pool] - np.isin(pool, own)
        block = features(cosine, shares, log_prior(counts, len(view.heads)), similar[:, 0])
        scores = fusion.score(block)
        probability = fusion.probability(scores, similar[:, 0])[0]
        is_known = np.isin(pool, own)
        if tail_type is head_type and row is not None:
            scores[0, pool == row] = -np.inf
        order = np.lexsort((pool, -scores[0], ~is_known))[:top]
        by_bridge = {int(t): i + 1 for i, t in enumerate(from_bridge)}
        order = order[np.isfinite(scores[0, order])]
        told = np.append(neighbours[0], row) if row is not None else neighbours[0]
        stated = view.edge_ids[told][:, pool[order]].toarray() - 1
        hits: list[RetrievedNode] = []
        for place, i in enumerate(order):
            tail = int(pool[i])
            share = float(counts[i] / max(len(view.heads), 1))
            parts = {"bridge": float(cosine[0, i]), "analogues": float(shares[1][0, i]), "prior": share}
            rank = (by_bridge.get(tail), n_tails)
            evidence = self._evidence(relation, view, row, tail, parts, rank, similar[0], neighbours[0], stated[:, place])
            known = bool(is_known[i])
            chance = 1.0 if known else float(probability[i])
            node = self.node(tail_type, tail)
            hits.append(RetrievedNode(node, place + 1, float(scores[0, i]), chance, known, evidence, parts))
        return Retrieval(query, relation, tuple(hits), self._notes(query, view, similar[0]))

    def _analogues(self, head_type: NodeType, view: RelationView, x: Vectors, row: int | None) -> tuple[Vectors, Indices]:
        """The nearest heads with an edge of the relation, the query left out: (1, k) similarities, (1, k) rows."""
        ids, cosines = self.index.search(head_type, FROZEN, x, min(_NEIGHBOURS, len(self.tables[head_type])))
        rows = self._rows(head_type, ids[0])
        keep = (np.diff(view.edges.indptr)[rows] > 0) & (rows != (-1 if row is None else row))
        rows, similar = rows[keep][:K], cosines[0][keep][:K]
        others = view.heads if row is None else view.heads[view.heads != row]
        if len(rows) < min(K, len(others)):
            all_similar = np.asarray(self.tables[head_type][others], dtype=np.float32) @ x[0]
            best = np.argsort(-all_similar, kind="stable")[:K]
            rows, similar = others[best], all_similar[best]
        if not len(rows):
            return np.zeros((1, 1), np.float32), np.zeros((1, 1), np.int64)
        return np.maximum(similar, 0.0).astype(np.float32)[None, :], rows.astype(np.int64)[None, :]

    def _source(self, edge: int) -> str:
        return self.graph.sources[self.graph.source[edge]]

    def _notes(self, query: Query, view: RelationView, similar: Vectors) -> tuple[str, ...]:
        notes = [query.note] if query.note else []
        if query.node is None and similar[0] < 0.1:
            notes.append(
                f"No {query.type.label} of the graph is close to the query (best similarity {similar[0]:.2f}): trust the ranking less."
            )
        if len(view.heads) < 30:
            notes.append(f"The graph has only {len(view.heads)} {query.type.label}s with this relation.")
        return tuple(notes)

    def _evidence(
        self, relation: Relation, view: RelationView, row: int | None, tail: int, parts: Mapping[str, float],
        bridge_rank: tuple[int | None, int], similar: Vectors, neighbours: Indices, stated: Indices,
    ) -> tuple[Evidence, ...]:  # fmt: skip
        """stated: the edge that each neighbour, and last the query's own node, has to the tail; -1 for none."""
        head_type, tail_node = NodeType(relation.head_type), self.node(NodeType(relation.tail_type), tail)
        out = []
        if row is not None and stated[-1] >= 0:
            own = self.node(head_type, row)
            out.append(Evidence("edge", phrase(own, relation.name, tail_node), 1.0, own.id, self._source(stated[-1])))
        for k in np.flatnonzero((stated[: len(neighbours)] >= 0) & (similar > 0))[:_MAX_ANALOGUES_SHOWN]:
            other, similarity = self.node(head_type, int(neighbours[k])), float(similar[k])
            text = f"{similarity:.0%} like {other.name}: {phrase(other, relation.name, tail_node)}"
            out.append(Evidence("analogue", text, similarity, other.id, self._source(stated[k])))
        by_bridge, n_tails = bridge_rank
        place = f"number {by_bridge:,}" if by_bridge else f"below number {POOL:,}"
        cosine = parts["bridge"]
        out.append(
            Evidence("bridge", f"bridge: cosine {cosine:.2f}, {place} of {n_tails:,} by the bridge alone", float(np.clip(cosine, 0.0, 1.0)))
        )
        share = parts["prior"]
        text = f"prior: {round(share * len(view.heads)):,} of {len(view.heads):,} {head_type.label}s with this relation have it"
        out.append(Evidence("prior", text, float(np.clip(share, 0.0, 1.0))))
        return tuple(out)
