"""A relation's edges as a sparse matrix, the form that training, voting and ranking all read.

Knows: graphs, scipy. Does not know: what is computed with it.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from biobridge_rag.types import KnowledgeGraph, NodeType, Relation


def incidence(graph: KnowledgeGraph, relation: Relation) -> sparse.csr_matrix:
    """(n_heads, n_tails) 0/1 matrix of the relation's edges, float32, column numbers sorted in each row."""
    heads, tails = graph.edges(relation)
    matrix = sparse.csr_matrix((np.ones(len(heads), np.float32), (heads, tails)), shape=_shape(graph, relation))
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def edge_numbers(graph: KnowledgeGraph, relation: Relation) -> sparse.csr_matrix:
    """The same pattern as `incidence`, int64: each edge's position in the graph's edge columns, plus 1."""
    return sparse.csr_matrix((graph.edge_numbers(relation).astype(np.int64) + 1, graph.edges(relation)), shape=_shape(graph, relation))


def _shape(graph: KnowledgeGraph, relation: Relation) -> tuple[int, int]:
    return len(graph.by_type[NodeType(relation.head_type)]), len(graph.by_type[NodeType(relation.tail_type)])


def linked(graph: KnowledgeGraph, position: int, name: str, node_type: NodeType) -> frozenset[int]:
    """Positions of the nodes of a type that edges of that name link to the node at `position`, whichever way they are stated."""
    found = {int(graph.tail[e]) for e in graph.edges_from(position) if graph.relations[graph.relation[e]].name == name}
    found |= {int(graph.head[e]) for e in graph.edges_to(position) if graph.relations[graph.relation[e]].name == name}
    return frozenset(p for p in found if graph.nodes[p].type is node_type)
