"""Retrieval: bridge, analogues and prior, fused into ranked nodes with their evidence.

Knows: a graph, its tables, a bridge and an index, all handed in. Does not know: files, settings, language models.

The bridge proposes its nearest tails (Chroma), the analogues those of the heads that they resemble, the prior the commonest; their
union is scored by the relation's fusion. A query that is a node of the graph is treated as if its own edges were unseen, so that its
predictions are honest; its edges are then marked as known and come first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from biobridge_rag.errors import InputError
from biobridge_rag.graph.phrases import phrase
from biobridge_rag.retrieval.fusion import DEFAULT, POOL, Fusion
from biobridge_rag.retrieval.likeness import ALIGNMENT, COSINE, Heads, Likeness
from biobridge_rag.retrieval.scoring import RelationView, TailScorer
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
# A query is told to lie outside of what the graph knows below this percentile of nearness, and one that is no node of the graph also
# where it is no more like the nearest than chance.
OUTSIDE = 5.0
_BY = {COSINE: "the cosine of the frozen embeddings", ALIGNMENT: "local alignment"}
_MAX_ANALOGUES_SHOWN = 3


class Retriever:
    """`retrieve` answers one query along one relation. tables and projections: node type -> (n, dim) unit vectors."""

    def __init__(
        self,
        graph: KnowledgeGraph,
        index: NodeIndex,
        bridge: Bridge,
        tables: Mapping[NodeType, Vectors],
        projections: Mapping[NodeType, Vectors],
        likeness: Mapping[NodeType, Likeness],
        fusions: Mapping[Relation, Fusion],
        encode: Callable[[NodeType, str], Vectors],
    ) -> None:
        self.graph, self.index, self.bridge = graph, index, bridge
        self.tables, self.projections, self.fusions = tables, projections, fusions
        self._encode = encode
        self.scorer = TailScorer(graph, tables, projections, bridge, likeness)

    def relations(self, head_type: NodeType) -> list[Relation]:
        """The graph's relations from this type, and "similar to" within it; none for a type that the graph has no nodes of."""
        if head_type not in self.tables:
            return []
        own = [r for r in self.graph.relations if r.head_type == head_type and len(self.graph.edges(r)[0])]
        return [*own, Relation(SIMILAR, head_type.value, head_type.value)]

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
        heads = Heads(np.asarray(x, dtype=np.float32), None if row is None else np.array([row]), [(query.value,)])
        if relation.name == SIMILAR:
            return self._similar(query, relation, heads, row, top)
        return self._predict(query, relation, heads, row, top)

    def _similar(self, query: Query, relation: Relation, heads: Heads, row: int | None, top: int) -> Retrieval:
        likeness, n = self.scorer.likeness[query.type], min(top + 1, len(self.tables[query.type]))
        if likeness.method == COSINE:
            ids, cosines = self.index.search(query.type, FROZEN, heads.x, n)
            held = [self.graph.position(query.type, i) is not None for i in ids[0]]  # nodes may have been added since it was opened
            nearest, values = self._rows(query.type, ids[0]), cosines[0][held]
        else:
            similar = self.scorer.similarities(heads, query.type)[0]
            nearest = np.argsort(-similar, kind="stable")[:n]
            values = similar[nearest]
        words = likeness.how(query.value, nearest, values)
        hits: list[RetrievedNode] = []
        for found, value, how in zip(nearest, values, words, strict=True):
            if found == row or len(hits) == top:
                continue
            similarity = float(np.clip(value, 0.0, 1.0))
            text = f"{how} {query.name} (similarity {similarity:.2f} by {_BY[likeness.method]})"
            evidence = (Evidence("analogue", text, similarity),)
            node = self.node(query.type, int(found))
            hits.append(RetrievedNode(node, len(hits) + 1, similarity, similarity, False, evidence, {"analogues": similarity}))
        note = f"The percentage is the similarity by {_BY[likeness.method]}, not a probability."
        return Retrieval(query, relation, tuple(hits), (note,))

    def _predict(self, query: Query, relation: Relation, heads: Heads, row: int | None, top: int) -> Retrieval:
        tail_type = NodeType(relation.tail_type)
        view, fusion = self.scorer.view(relation), self.fusions.get(relation, DEFAULT)
        carried, cosines = self.scorer.needed(heads, relation)
        n_tails = len(self.projections[tail_type])
        ids, _ = self.index.search(tail_type, BRIDGE, carried, min(max(POOL, top), n_tails))
        parts = self.scorer.parts(heads, relation, cosines)
        own = view.edges[row].indices if row is not None else np.zeros(0, np.int64)
        proposed = [self._rows(tail_type, ids[0]), np.flatnonzero((parts.bridge[0] > 0) | (parts.close[0] > 0)), view.common, own]
        pool = np.unique(np.concatenate(proposed)).astype(np.int64)
        fused = fusion.score(parts)
        probability = fusion.probability(fused, parts)[0]
        scores, is_known = fused[0, pool], np.isin(pool, own)
        if tail_type == relation.head_type and row is not None:
            scores[pool == row] = -np.inf
        order = np.lexsort((pool, -scores, ~is_known))[:top]
        order = order[np.isfinite(scores[order])]
        similar, neighbours = parts.similar[0], parts.neighbours[0]
        told = np.append(neighbours, row) if row is not None else neighbours
        stated = view.edge_ids[told][:, pool[order]].toarray() - 1
        voting = (stated[: len(neighbours)] >= 0) & (similar > 0)[:, None]
        shown = voting & (np.cumsum(voting, axis=0) <= _MAX_ANALOGUES_SHOWN)
        told_of = np.flatnonzero(shown.any(axis=1))
        words = self.scorer.likeness[query.type].how(query.value, neighbours[told_of], similar[told_of])
        how = dict(zip(told_of.tolist(), words, strict=True))
        hits: list[RetrievedNode] = []
        for place, i in enumerate(order):
            tail = int(pool[i])
            said = {"bridge": float(parts.bridge[0, tail]), "analogues": float(parts.close[0, tail]), "prior": float(parts.prior[0, tail])}
            if fusion.weighs("alike"):
                said["alike"] = float(np.sqrt(parts.alike[0, tail]))
            rank = 1 + int((parts.bridge[0] > parts.bridge[0, tail]).sum())
            mine = {k: how[k] for k in np.flatnonzero(shown[:, place]).tolist()}
            evidence = self._evidence(relation, view, row, tail, said, (rank, n_tails), similar, neighbours, stated[:, place], mine)
            known = bool(is_known[i])
            chance = 1.0 if known else float(probability[tail])
            hits.append(RetrievedNode(self.node(tail_type, tail), place + 1, float(scores[i]), chance, known, evidence, said))
        percentile = fusion.percentile(float(similar[0]))
        outside = percentile < OUTSIDE or (row is None and float(similar[0]) < self.scorer.likeness[query.type].unlike(query.value))
        notes = self._notes(query, view, float(similar[0]), percentile, outside)
        return Retrieval(query, relation, tuple(hits), notes, percentile, outside)

    def _source(self, edge: int) -> str:
        return self.graph.sources[self.graph.source[edge]]

    def _notes(self, query: Query, view: RelationView, nearest: float, percentile: float, outside: bool) -> tuple[str, ...]:
        notes = [query.note] if query.note else []
        if outside:
            notes.append(
                f"Outside of what the graph knows: the closest {query.type.label} with this relation has a similarity of {nearest:.2f} "
                f"(percentile {percentile:.0f} among the graph's own). Trust the ranking less."
            )
        if len(view.heads) < 30:
            notes.append(f"The graph has only {len(view.heads)} {query.type.label}s with this relation.")
        return tuple(notes)

    def _evidence(
        self, relation: Relation, view: RelationView, row: int | None, tail: int, parts: Mapping[str, float],
        bridge_rank: tuple[int, int], similar: Vectors, neighbours: Indices, stated: Indices, how: Mapping[int, str],
    ) -> tuple[Evidence, ...]:  # fmt: skip
        """stated: the edge that each neighbour, and last the query's own node, has to the tail; -1 for none; how: in words, how like
        the query those neighbours are that are shown, by their place, nearest first."""
        head_type, tail_node = NodeType(relation.head_type), self.node(NodeType(relation.tail_type), tail)
        out = []
        if row is not None and stated[-1] >= 0:
            own = self.node(head_type, row)
            out.append(Evidence("edge", phrase(own, relation.name, tail_node), 1.0, own.id, self._source(stated[-1])))
        for k, words in how.items():
            other = self.node(head_type, int(neighbours[k]))
            text = f"{words} {other.name}: {phrase(other, relation.name, tail_node)}"
            out.append(Evidence("analogue", text, float(similar[k]), other.id, self._source(stated[k])))
        if parts.get("alike", 0.0) > 0.0:
            text = f"itself {parts['alike']:.0%} like the query"
            out.append(Evidence("analogue", text, min(parts["alike"], 1.0), tail_node.id))
        place, n_tails = bridge_rank
        text = f"bridge: score {parts['bridge']:.2f}, number {place:,} of {n_tails:,} by the bridge alone"
        out.append(Evidence("bridge", text, float(np.clip(parts["bridge"], 0.0, 1.0))))
        share = parts["prior"]
        text = f"prior: {round(share * len(view.heads)):,} of {len(view.heads):,} {head_type.label}s with this relation have it"
        out.append(Evidence("prior", text, float(np.clip(share, 0.0, 1.0))))
        return tuple(out)
