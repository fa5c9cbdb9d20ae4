"""A small graph that can be learned: proteins and drugs in families, and drugs bind the proteins of their own family."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from biobridge_rag.types import KnowledgeGraph, Node, NodeType, Relation, Vectors

FAMILIES, PROTEINS, DRUGS = 6, 5, 8
TARGET = Relation("target", "gene/protein", "drug")


@dataclass(frozen=True)
class Small:
    """target and its inverse link every protein to three drugs of its family; tables hold unit vectors, 24 and 16 wide."""

    graph: KnowledgeGraph
    tables: dict[str, Vectors]
    target: Relation


def _table(rng: np.random.Generator, families: int, each: int, width: int) -> Vectors:
    centres = np.abs(rng.standard_normal((families, width)))
    x = np.repeat(centres, each, axis=0) + 0.4 * rng.standard_normal((families * each, width))
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), dtype=np.float32)


def build_graph(pairs: list[tuple[int, int]], n_proteins: int, n_drugs: int) -> KnowledgeGraph:
    """pairs of (protein row, drug row); the graph has each edge in both directions."""
    nodes = [Node(f"P{i}", NodeType.PROTEIN, f"protein {i}") for i in range(n_proteins)]
    nodes += [Node(f"D{i}", NodeType.DRUG, f"drug {i}") for i in range(n_drugs)]
    proteins = np.array([p for p, _ in pairs], np.int32)
    drugs = np.array([n_proteins + d for _, d in pairs], np.int32)
    m = len(pairs)
    return KnowledgeGraph(
        "small", tuple(nodes), (TARGET, TARGET.inverse),
        np.concatenate([proteins, drugs]), np.repeat(np.array([0, 1], np.int16), m), np.concatenate([drugs, proteins]),
        np.zeros(2 * m, np.int16), ("made by hand",),
    )  # fmt: skip


@pytest.fixture
def small() -> Small:
    rng = np.random.default_rng(7)
    tables = {"gene/protein": _table(rng, FAMILIES, PROTEINS, 24), "drug": _table(rng, FAMILIES, DRUGS, 16)}
    pairs = []
    for protein in range(FAMILIES * PROTEINS):
        family = protein // PROTEINS
        pairs += [(protein, int(family * DRUGS + d)) for d in np.sort(rng.choice(DRUGS, 3, replace=False))]
    return Small(build_graph(pairs, FAMILIES * PROTEINS, FAMILIES * DRUGS), tables, TARGET)


@pytest.fixture
def graph_of():
    """build_graph, for tests that need other edges."""
    return build_graph
