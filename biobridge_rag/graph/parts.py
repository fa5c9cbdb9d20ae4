"""The part of a graph whose nodes are kept.

Knows: graphs. Does not know: why nodes are left out.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from biobridge_rag.types import KnowledgeGraph


def part(graph: KnowledgeGraph, keep: NDArray[np.bool_], skipped: Mapping[str, int], lost_edges: str) -> KnowledgeGraph:
    """The graph of the kept nodes (n,) and the edges between them, without relations that lost all theirs. skipped: reasons and counts to
    add to the graph's; lost_edges: the reason that lost edges are counted under."""
    edge = keep[graph.head] & keep[graph.tail]
    counts = {**graph.skipped, **{reason: n for reason, n in sorted({**skipped, lost_edges: int((~edge).sum())}.items()) if n}}
    new = np.cumsum(keep) - 1
    used, relation = np.unique(graph.relation[edge], return_inverse=True)
    return KnowledgeGraph(
        graph.name,
        tuple(node for node, kept in zip(graph.nodes, keep, strict=True) if kept),
        tuple(graph.relations[i] for i in used),
        new[graph.head[edge]].astype(np.int32),
        relation.astype(np.int16),
        new[graph.tail[edge]].astype(np.int32),
        graph.source[edge],
        graph.sources,
        counts,
    )
