"""The control of an evaluation: every node's edges and predictions are those of another node of its type, drawn by a seed.

Knows: graphs, a retrieve function that it is given. Does not know: questions, arms.

The evidence has the same form and amount as before, and is wrong; what an answer still gets right does not come from the graph.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from biobridge_rag.qa.gathering import Retrieve
from biobridge_rag.types import Indices, KnowledgeGraph, Query, Relation, Retrieval


def shuffle(graph: KnowledgeGraph, retrieve: Retrieve, seed: int = 0) -> tuple[KnowledgeGraph, Retrieve]:
    """The graph with its heads permuted within each node type, and a retrieve that asks of the node whose edges each node got. What is
    no node of the graph gets those of a node that its value's hash and the seed choose."""
    rng = np.random.default_rng(seed)
    of: Indices = np.arange(len(graph.nodes))
    for positions in graph.by_type.values():
        turned = rng.permutation(positions)
        of[turned] = np.roll(turned, 1)  # no node keeps its own, where its type has another one
    taken_by = np.argsort(of)
    shuffled = KnowledgeGraph(
        graph.name, graph.nodes, graph.relations, taken_by[graph.head].astype(np.int32), graph.relation, graph.tail, graph.source,
        graph.sources, dict(graph.skipped),
    )  # fmt: skip

    def wrong(query: Query, relation: Relation, top: int) -> Retrieval:
        at = graph.position(query.node.type, query.node.id) if query.node is not None else None
        if at is None:
            digest = hashlib.sha256(f"{seed}\x1f{query.value}".encode()).digest()
            positions = graph.by_type[query.type]
            other = graph.nodes[positions[int.from_bytes(digest[:8], "big") % len(positions)]]
        else:
            other = graph.nodes[of[at]]
        asked = Query(other.type, query.name, other.values[0] if other.values else "", other)
        return replace(retrieve(asked, relation, top), query=query)

    return shuffled, wrong
