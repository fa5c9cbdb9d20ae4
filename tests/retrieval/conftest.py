"""A small learnable world: three families of proteins, drugs and diseases; a family's drugs act on its proteins."""

from __future__ import annotations

import numpy as np
import pytest

from biobridge_rag.types import KnowledgeGraph, Node, NodeType, Relation

FAMILIES, PER = 3, 12
TARGET = Relation("target", "gene/protein", "drug")


def make_world(seed: int = 0) -> tuple[KnowledgeGraph, dict[str, np.ndarray]]:
    """The graph and unit embeddings by type; nodes of a family lie close together, and every third edge is left out."""
    rng = np.random.default_rng(seed)
    nodes, tables = [], {}
    for node_type, prefix, dim in ((NodeType.PROTEIN, "P", 24), (NodeType.DRUG, "DB", 16), (NodeType.DISEASE, "D", 16)):
        centres = rng.standard_normal((FAMILIES, dim))
        x = np.repeat(centres, PER, axis=0) + 0.35 * rng.standard_normal((FAMILIES * PER, dim))
        tables[node_type.value] = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
        nodes += [Node(f"{prefix}{i}", node_type, f"{prefix.lower()}-{i}", values=(f"{prefix}{i}",)) for i in range(FAMILIES * PER)]
    n = FAMILIES * PER
    edges = []
    for name, offset in (("target", n), ("associated with", 2 * n)):
        tail_type = nodes[offset].type.value
        for i in range(n):
            for j in range(n):
                if i // PER == j // PER and (i + j) % 3:
                    edges.append((Relation(name, "gene/protein", tail_type), i, offset + j))
                    edges.append((Relation(name, tail_type, "gene/protein"), offset + j, i))
    relations = tuple(sorted({r for r, _, _ in edges}))
    edges.sort(key=lambda e: (relations.index(e[0]), e[1], e[2]))
    graph = KnowledgeGraph(
        "world", tuple(nodes), relations,
        np.array([h for _, h, _ in edges], np.int32), np.array([relations.index(r) for r, _, _ in edges], np.int16),
        np.array([t for _, _, t in edges], np.int32), np.zeros(len(edges), np.int16), ("made up",),
    )  # fmt: skip
    return graph, tables


@pytest.fixture(scope="session")
def world() -> tuple[KnowledgeGraph, dict[str, np.ndarray]]:
    return make_world()
