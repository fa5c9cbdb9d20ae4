"""Graphs that the tests of evaluation plant.

Knows: the graph's nouns. Does not know: what is evaluated on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from biobridge_rag.types import KnowledgeGraph, Node, NodeType, Relation


def graph_of_pairs(pairs: Mapping[Relation, Iterable[tuple[int, int]]], counts: Mapping[NodeType, int]) -> KnowledgeGraph:
    """Nodes of each type, and edges given as pairs of rows in their types' tables; every edge also stands in the other direction. A
    relation without pairs is in the graph, too."""
    nodes, first = [], {}
    for t, count in counts.items():
        first[t.value] = len(nodes)
        nodes += [Node(f"{t.name}{i}", t, f"{t.label} {i}") for i in range(count)]
    edges = {(r, first[r.head_type] + h, first[r.tail_type] + t) for r, p in pairs.items() for h, t in p}
    edges |= {(r.inverse, t, h) for r, h, t in edges}
    relations = sorted({r for r, _, _ in edges} | set(pairs) | {r.inverse for r in pairs})
    rows = sorted((relations.index(r), h, t) for r, h, t in edges)
    relation, head, tail = np.array(rows).T
    return KnowledgeGraph(
        "planted", tuple(nodes), tuple(relations), head.astype(np.int32), relation.astype(np.int16), tail.astype(np.int32),
        np.zeros(len(rows), np.int16), ("made by hand",),
    )  # fmt: skip
