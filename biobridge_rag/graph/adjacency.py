"""Every edge of a graph once, as the neighbours of each of its ends, with a weight that falls with how linked the ends are.

Knows: graphs. Does not know: what is looked for along the edges.

An edge is read once, whichever direction it is stored in and however often. Its weight is (a b)^-0.4, where a and b are how many
edges of its kind (the relation's name and its two types) either end has: the damping and the exponent of the degree-weighted path
count, Himmelstein & Baranzini 2015, PLoS Comput Biol 11: e1004259.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biobridge_rag.types import Indices, KnowledgeGraph, Triple

DAMPING = 0.4


@dataclass(frozen=True)
class Adjacency:
    """For the node at position i, rows bounds[i] to bounds[i + 1] of the columns, sorted by neighbour and then kind.

    bounds (n + 1,); other (m,): the neighbour's position; kind (m,): number of the undirected relation, of which `names` has the name
    without the types; edge (m,): the edge's position in the graph's edge columns, in a direction that it is stored in; weight (m,): in
    (0, 1], the same from either end.
    """

    bounds: Indices
    other: NDArray[np.int32]
    kind: NDArray[np.int16]
    edge: NDArray[np.int32]
    weight: NDArray[np.float64]
    names: tuple[str, ...]

    def rows(self, position: int) -> slice:
        return slice(int(self.bounds[position]), int(self.bounds[position + 1]))


def make_adjacency(graph: KnowledgeGraph, damping: float = DAMPING) -> Adjacency:
    """Reads the edge columns; seconds for millions of edges. Edges from a node to itself are left out."""
    n, names = len(graph.nodes), [(r.name, *sorted((str(r.head_type), str(r.tail_type)))) for r in graph.relations]
    numbers = {name: i for i, name in enumerate(sorted(set(names)))}
    kind = np.array([numbers[name] for name in names], np.int64)[graph.relation] if names else np.zeros(0, np.int64)
    low, high = np.minimum(graph.head, graph.tail).astype(np.int64), np.maximum(graph.head, graph.tail).astype(np.int64)
    real = np.flatnonzero(low != high)
    _, first = np.unique((kind[real] * n + low[real]) * n + high[real], return_index=True)
    edge = real[first]
    kind, low, high = kind[edge], low[edge], high[edge]
    degree = np.bincount(np.concatenate([kind * n + low, kind * n + high]), minlength=1).astype(np.float64)
    weight = (degree[kind * n + low] * degree[kind * n + high]) ** -damping
    one, other = np.concatenate([low, high]), np.concatenate([high, low])
    order = np.argsort((one * n + other) * max(len(numbers), 1) + np.tile(kind, 2))
    bounds = np.searchsorted(one[order], np.arange(n + 1)).astype(np.int64)
    return Adjacency(
        bounds,
        other[order].astype(np.int32),
        np.tile(kind, 2)[order].astype(np.int16),
        np.tile(edge, 2)[order].astype(np.int32),
        np.tile(weight, 2)[order],
        tuple(name[0] for name in numbers),
    )


_MADE: dict[int, tuple[weakref.ref[KnowledgeGraph], Adjacency]] = {}


def adjacency(graph: KnowledgeGraph) -> Adjacency:
    """The graph's adjacency, made once and kept as long as the graph is."""
    kept = _MADE.get(id(graph))
    if kept is not None and kept[0]() is graph:
        return kept[1]
    made, key = make_adjacency(graph), id(graph)
    _MADE[key] = (weakref.ref(graph, lambda dead: _forget(key, dead)), made)
    return made


def _forget(key: int, dead: weakref.ref[KnowledgeGraph]) -> None:
    kept = _MADE.get(key)
    if kept is not None and kept[0] is dead:
        del _MADE[key]


def oriented(graph: KnowledgeGraph, edge: int, head: int) -> Triple:
    """An edge read from the end at position `head`, whichever way it is stored."""
    triple = graph.triple(edge)
    if int(graph.head[edge]) == head:
        return triple
    return Triple(triple.tail, triple.relation.inverse, triple.head, triple.source)
