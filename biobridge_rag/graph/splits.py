"""Splits of a graph for evaluation: heads that training must not have seen.

Knows: graphs. Does not know: models, metrics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from biobridge_rag.errors import InputError
from biobridge_rag.types import Indices, KnowledgeGraph, Node, NodeType, Relation, Split

if TYPE_CHECKING:
    from biobridge_rag.graph.primekg import UnseenNodes

HELD_TYPES = (NodeType.PROTEIN, NodeType.DRUG, NodeType.DISEASE)


@dataclass(frozen=True)
class HeldOut:
    """A training graph without the held-out nodes, and those nodes with their edges to nodes that stayed."""

    graph: KnowledgeGraph
    unseen: UnseenNodes


def draw_inductive(graph: KnowledgeGraph, fraction: float, seed: int) -> Split:
    """Draws `fraction` of the proteins, drugs and diseases that have an edge. Raises InputError outside 0 to 0.5."""
    if not 0.0 < fraction <= 0.5:
        raise InputError(f"The share of heads to hold out must be above 0 and at most 0.5, not {fraction}.")
    rng = np.random.default_rng(seed)
    used = np.zeros(len(graph.nodes), dtype=bool)
    used[graph.head] = True
    held = {}
    for node_type in HELD_TYPES:
        if node_type in graph.by_type:
            having = graph.by_type[node_type][used[graph.by_type[node_type]]]
            if len(having):
                held[node_type] = np.sort(rng.choice(having, max(1, round(fraction * len(having))), replace=False))
    return Split("inductive", seed, held)


def hold_out(graph: KnowledgeGraph, split: Split) -> HeldOut:
    """Takes the split's nodes out of the graph altogether, with all their edges in both directions (so their inverse edges
    too). Edges between two held-out nodes are counted, not tested. Raises AssertionError if any held-out node stayed."""
    from biobridge_rag.graph.primekg import UnseenNodes

    gone = np.zeros(len(graph.nodes), dtype=bool)
    gone[split.all_held] = True
    new_position = np.cumsum(~gone) - 1
    keep = ~(gone[graph.head] | gone[graph.tail])
    train = KnowledgeGraph(
        f"{graph.name}-{split.name}-{split.seed}",
        tuple(node for node, out in zip(graph.nodes, gone, strict=True) if not out),
        graph.relations,
        new_position[graph.head[keep]].astype(np.int32),
        graph.relation[keep],
        new_position[graph.tail[keep]].astype(np.int32),
        graph.source[keep],
        graph.sources,
    )
    held_nodes: tuple[Node, ...] = tuple(graph.nodes[i] for i in split.all_held)
    assert not {(n.type, n.id) for n in held_nodes} & {(n.type, n.id) for n in train.nodes}, "a held-out node stayed in the training graph"
    unseen_position = {int(p): i for i, p in enumerate(split.all_held)}
    crossing = np.flatnonzero(gone[graph.head] & ~gone[graph.tail])
    edges: dict[Relation, tuple[Indices, Indices]] = {}
    for i, relation in enumerate(graph.relations):
        at = crossing[graph.relation[crossing] == i]
        if len(at):
            heads = np.array([unseen_position[int(h)] for h in graph.head[at]], dtype=np.int64)
            edges[relation] = (heads, train.rank_in_type[new_position[graph.tail[at]]])
    both = int((gone[graph.head] & gone[graph.tail]).sum())
    return HeldOut(train, UnseenNodes(held_nodes, edges, {"edge between two held-out nodes": both} if both else {}))
