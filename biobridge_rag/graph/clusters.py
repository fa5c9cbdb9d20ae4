"""Nodes that are near twins of each other, put into clusters, and clusters drawn whole.

Knows: frozen embeddings, scaffolds, connected components. Does not know: what an edge states, encoders, other splits.

Two nodes are near twins where their embeddings' cosine reaches a threshold; a cluster is a connected component of near twins
(single linkage), so no node outside of a cluster is a near twin of one inside. Molecules with rings are grouped by their
Murcko scaffold instead. Chains of near twins can join half a type into one giant component: such a one is never held out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from biobridge_rag.chemistry import murcko_scaffold
from biobridge_rag.errors import InputError
from biobridge_rag.types import Indices, KnowledgeGraph, Node, NodeType, Vectors

# Of the offline encoders. Proteins: random mutants of the starter graph's proteins have a cosine of about 0.66 with the original at
# 90 % identity, 0.25 at 70 %, 0.14 at 60 % and 0.07 at 50 %; shuffled sequences stay under 0.09. 0.15 joins EGFR with ERBB2 and DRD2
# with DRD3, and lies far above chance; families below about 50 % identity (JAK1 and JAK2, 0.12) come apart: no k-mer count sees
# remote homology. Drugs (without rings only) and diseases: near-identical molecules and texts. Another encoder needs its own.
THRESHOLDS: Mapping[NodeType, float] = {NodeType.PROTEIN: 0.15, NodeType.DRUG: 0.7, NodeType.DISEASE: 0.9}
_ROWS, _COLUMNS = 1024, 4096
_ROUNDING = 1e-5


def pairs_above(x: Vectors, rows: Indices, columns: Indices, threshold: float, upper: bool = False) -> Iterator[tuple[Indices, Indices]]:
    """Pairs (i from `rows`, j from `columns`) of rows of x (n, d) whose product is at least `threshold`, in blocks of at most
    1,024 x 4,096, so that no n x n matrix is ever made. upper: rows and columns are the same, each pair is needed once only."""
    for top in range(0, len(rows), _ROWS):
        left = np.asarray(x[rows[top : top + _ROWS]], dtype=np.float32)
        for start in range(top if upper else 0, len(columns), _COLUMNS):
            right = np.asarray(x[columns[start : start + _COLUMNS]], dtype=np.float32)
            i, j = np.nonzero(left @ right.T >= threshold)
            if len(i):
                yield rows[top + i], columns[start + j]


def components(x: Vectors, threshold: float) -> Indices:
    """(n, d) unit rows -> (n,) labels from 0: rows have the same one where a chain of cosines >= threshold joins them."""
    labels = np.arange(len(x))
    for i, j in pairs_above(x, labels.copy(), labels.copy(), threshold, upper=True):
        n = int(labels.max()) + 1
        joined = sparse.coo_matrix((np.ones(len(i), dtype=bool), (labels[i], labels[j])), shape=(n, n))
        labels = connected_components(joined, directed=False)[1].astype(np.int64)[labels]
    return labels


def cluster(nodes: Sequence[Node], x: Vectors, threshold: float) -> Indices:
    """The cluster of each node of one type, (n,) labels from 0; x: (n, d) their unit embeddings. Raises InputError where x does
    not fit the nodes or has rows that are not of unit length.

    Drugs with the same Murcko scaffold are one cluster; those without rings, and all other types, go by `components`.
    """
    if not 0.0 < threshold <= 1.0:
        raise InputError(f"The cosine of near twins must be above 0 and at most 1, not {threshold}.")
    if len(x) != len(nodes):
        raise InputError(f"There are {len(x):,} embeddings for {len(nodes):,} nodes of type {nodes[0].type}.")
    lengths = np.array([float(np.linalg.norm(np.asarray(row, dtype=np.float32))) for row in x])
    if not np.all(np.abs(lengths - 1.0) < 1e-2):
        raise InputError(f"The embeddings of type {nodes[0].type} are not of unit length.")
    scaffolds = _scaffolds(nodes)
    bare = np.array([not s for s in scaffolds])
    if bare.all():
        return components(x, threshold)
    number = {s: i for i, s in enumerate(dict.fromkeys(s for s in scaffolds if s))}
    labels = np.array([number.get(s, 0) for s in scaffolds], dtype=np.int64)
    labels[bare] = len(number) + components(x[bare], threshold)
    return labels


def draw_whole(labels: Indices, linked: Indices, fraction: float, rng: np.random.Generator) -> Indices:
    """Rows of clusters drawn whole, sorted, that hold about `fraction` of the linked rows (those that have an edge).

    labels: (n,) from `cluster`; linked: rows to count. In random order, a cluster with a linked row is taken until the share is
    reached; one that is greater than the share by itself, or would overshoot it by more than half, is passed over. So
    the share may be missed where most rows lie in great clusters, and nothing at all is drawn where all do.
    """
    target = max(1, round(fraction * len(linked)))
    size = np.bincount(labels[linked], minlength=int(labels.max(initial=-1)) + 1)
    taken, got = np.zeros(len(size), dtype=bool), 0
    for c in rng.permutation(np.flatnonzero(size)):
        if got >= target:
            break
        if size[c] <= target and got + size[c] <= 1.5 * target:
            taken[c] = True
            got += int(size[c])
    return np.flatnonzero(taken[labels])


def draw_clusters(
    graph: KnowledgeGraph, linked: Mapping[NodeType, Indices], tables: Mapping[NodeType, Vectors],
    thresholds: Mapping[NodeType, float], fraction: float, seed: int,
) -> dict[NodeType, Indices]:  # fmt: skip
    """Positions of the nodes of whole clusters, for each type of `linked` (type -> positions of its nodes that have an edge).

    All nodes of a type are clustered, those without an edge too. tables, thresholds: by type, as for `cluster`.
    Raises InputError where a table is missing or no cluster of a type is small enough.
    """
    rng = np.random.default_rng(seed)
    held = {}
    for node_type, positions in linked.items():
        nodes, x = of_type(graph, node_type, tables)
        rows = draw_whole(cluster(nodes, x, thresholds[node_type]), graph.rank_in_type[positions], fraction, rng)
        if not len(rows):
            raise InputError(
                f"No cluster of type {node_type} is small enough to hold out {fraction:.0%} at a cosine of {thresholds[node_type]}.",
                "Give a greater share, or the cosine of near twins that fits the encoder.",
            )
        held[node_type] = graph.by_type[node_type][rows]
    return held


def of_type(graph: KnowledgeGraph, node_type: NodeType, tables: Mapping[NodeType, Vectors] | None) -> tuple[list[Node], Vectors]:
    """The nodes of a type and their embeddings. Raises InputError where these are missing."""
    if tables is None or node_type not in tables:
        raise InputError(f"To look for near twins, the embeddings of type {node_type} are needed.")
    return [graph.nodes[i] for i in graph.by_type[node_type]], tables[node_type]


def first_twin(nodes: Sequence[Node], x: Vectors, held: Indices, kept: Indices, threshold: float) -> tuple[int, int, str] | None:
    """The first held row of one type with a near twin among the kept ones: both rows and what they share; None where there is none.

    nodes, x, threshold as for `cluster`. Drugs are compared by scaffold where they have rings and by cosine where neither has. A cosine
    that exceeds the threshold by less than 0.00001 is taken as rounding.
    """
    scaffolds = _scaffolds(nodes)
    where = {scaffolds[j]: int(j) for j in kept[::-1]}
    for i in held:
        if scaffolds[i] and scaffolds[i] in where:
            return int(i), where[scaffolds[i]], f"the scaffold {scaffolds[i]}"
    bare = np.array([not s for s in scaffolds])
    for a, b in pairs_above(x, held[bare[held]], kept[bare[kept]], threshold + _ROUNDING):
        i, j = int(a[0]), int(b[0])
        return i, j, f"a cosine of {float(np.asarray(x[i], np.float32) @ np.asarray(x[j], np.float32)):.3f}"
    return None


def _scaffolds(nodes: Sequence[Node]) -> list[str]:
    """The Murcko scaffold of each drug; an empty string for one without rings and for any other node."""
    return [murcko_scaffold(n.values[0]) if n.type is NodeType.DRUG and n.values else "" for n in nodes]
