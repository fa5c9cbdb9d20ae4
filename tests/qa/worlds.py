"""Small graphs of the nodes of test_answering and others, and a retrieve that ranks tails as it is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from biobridge_rag.types import KnowledgeGraph, Node, NodeType, Query, Relation, Retrieval, RetrievedNode
from tests.qa.test_answering import EDGES, NODES

Retrieve = Callable[[Query, Relation, int], Retrieval]
S = NodeType.DISEASE
MORE = {
    **NODES,
    "lung disease": Node("DOID:850", S, "lung disease"),
    "childhood asthma": Node("DOID:0080815", S, "childhood asthma", "An asthma that begins in childhood. IL13 drives it."),
    "IL13": Node("P35225", NodeType.PROTEIN, "IL13"),
    "rash": Node("DOID:2723", S, "rash", "A dermatitis of the skin."),
}
MORE_EDGES = [*EDGES, ("asthma", "parent-child", "lung disease"), ("childhood asthma", "parent-child", "asthma")]


def graph_of(named: dict[str, Node] = MORE, edges: Sequence[tuple[str, str, str]] = tuple(MORE_EDGES)) -> KnowledgeGraph:
    """Each edge is stated from both ends."""
    nodes = list(named.values())
    rows = [(named[a], r, named[b]) for h, r, t in edges for a, b in ((h, t), (t, h))]
    relations = sorted({Relation(r, h.type.value, t.type.value) for h, r, t in rows})
    head, tail = (np.array([nodes.index(row[i]) for row in rows], np.int32) for i in (0, 2))
    which = np.array([relations.index(Relation(r, h.type.value, t.type.value)) for h, r, t in rows], np.int16)
    return KnowledgeGraph("more", tuple(nodes), tuple(relations), head, which, tail, np.zeros(len(rows), np.int16), ("Table",))


def ranking(graph: KnowledgeGraph, *names: str, probability: float = 0.7, bridge: float = 0.5) -> Retrieve:
    """Hits of these names, in this order, whatever is asked; known where the graph has the edge."""

    def retrieve(query: Query, relation: Relation, top: int) -> Retrieval:
        at = graph.position(query.type, query.node.id) if query.node else None
        stated = {t.tail.id for t in graph.triples_of(at) if t.relation == relation} if at is not None else set()
        nodes = [n for name in names for n in graph.nodes if n.name == name and n.type == relation.tail_type]
        hits = [RetrievedNode(n, i + 1, bridge, probability, n.id in stated, (), {"bridge": bridge}) for i, n in enumerate(nodes)]
        return Retrieval(query, relation, tuple(hits[:top]))

    return retrieve
