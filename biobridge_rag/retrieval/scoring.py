"""What each kind of evidence says of every tail: bridge, analogues, the walk over shared tails, the tail itself, prior.

Knows: a graph, its tables and a bridge, all handed in. Does not know: the store, how evidence is weighed, text.

One way for all who score: answering, learning the fusion, evaluation. A query that is a node of the graph is scored as if its own
edges of the relation were unseen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from biobridge_rag.bridge.attention import powered, weigh_edges
from biobridge_rag.bridge.model import KernelBridge, unit
from biobridge_rag.graph.incidence import edge_numbers
from biobridge_rag.retrieval.analogues import POWERS, K, votes
from biobridge_rag.retrieval.likeness import Heads, Likeness
from biobridge_rag.types import Bridge, Indices, KnowledgeGraph, NodeType, Relation, Vectors

PARTS = ("bridge", "close", "wide", "walk", "alike", "prior")
_COMMON = 50


@dataclass(frozen=True)
class RelationView:
    """One relation as matrices: edges (n_heads, n_tails) 0/1 float32; edge_ids the same pattern, data = edge number + 1. An edge that the
    graph states the other way round only counts too: both directions say the same."""

    edges: sparse.csr_matrix
    edge_ids: sparse.csr_matrix

    @cached_property
    def counts(self) -> Vectors:
        return np.asarray(self.edges.sum(axis=0), dtype=np.float32).ravel()

    @cached_property
    def heads(self) -> Indices:
        """Rows of the heads that have any edge."""
        return np.flatnonzero(np.diff(self.edges.indptr))

    @cached_property
    def common(self) -> Indices:
        """The commonest tails, most frequent first."""
        return np.argsort(-self.counts, kind="stable")[:_COMMON]

    @cached_property
    def transposed(self) -> sparse.csr_matrix:
        return self.edges.T.tocsr()


@dataclass(frozen=True)
class Parts:
    """Scores (n, n_tails) of each kind, each at least 0, higher is better; similar, neighbours (n, k): the nearest heads with an
    edge, best first; counts (n, n_tails) or (n_tails,): how many heads, the query left out, have each tail.

    bridge: near the probability of an edge for the default bridge, a cosine for others; close, wide: shares of the analogues'
    vote, by the sixth and the second power of the similarity; walk: the bridge's score carried from tails over the heads that
    have them to their other tails; alike: the squared similarity of the query to the tail itself, 0 where they are of different
    types; prior: the share of heads that have the tail."""

    bridge: Vectors
    close: Vectors
    wide: Vectors
    walk: Vectors
    alike: Vectors
    prior: Vectors
    similar: Vectors
    neighbours: Indices
    counts: Vectors

    @property
    def nearest(self) -> Vectors:
        """(n,) similarity of the closest analogue, in [0, 1]."""
        return self.similar[:, 0]

    def scaled(self) -> dict[str, Vectors]:
        """Each part divided by its best score of the query, in [0, 1]."""
        parts = {name: getattr(self, name) for name in PARTS}
        return {name: part / np.maximum(part.max(axis=-1, keepdims=True), 1e-9) for name, part in parts.items()}


class TailScorer:
    """Scores all tails of a relation for queries. tables, projections: node type -> (n_t, dim); projections have unit rows; likeness:
    by node type, cosines of the tables where it is not given."""

    def __init__(
        self,
        graph: KnowledgeGraph,
        tables: Mapping[NodeType, Vectors],
        projections: Mapping[NodeType, Vectors],
        bridge: Bridge,
        likeness: Mapping[NodeType, Likeness] | None = None,
    ) -> None:
        self.graph, self.tables, self.projections, self.bridge = graph, tables, projections, bridge
        self.likeness = likeness or {t: Likeness(x) for t, x in tables.items()}
        self._views: dict[Relation, RelationView] = {}
        self._last: tuple[NodeType, object, Vectors] | None = None

    def view(self, relation: Relation) -> RelationView:
        if relation not in self._views:
            forward = edge_numbers(self.graph, relation)
            reverse = edge_numbers(self.graph, relation.inverse).T.tocsr()
            ids = (forward + reverse - reverse.multiply(forward > 0)).tocsr()
            ids.sort_indices()
            edges = sparse.csr_matrix((np.ones(ids.nnz, np.float32), ids.indices, ids.indptr), shape=ids.shape)
            self._views[relation] = RelationView(edges, ids)
        return self._views[relation]

    def similarities(self, heads: Heads, node_type: NodeType) -> Vectors:
        """Of queries with all nodes of the type, (n, n_t). The last single query's are kept: it is mostly asked for several
        relations in a row."""
        key = (heads.x.tobytes(), tuple(heads.values) if heads.values else (), heads.rows is None) if len(heads) == 1 else None
        last = self._last
        if last is not None and key and last[0] is node_type and last[1] == key:
            return last[2].copy()
        out = self.likeness[node_type].of(heads)
        if key:
            self._last = (node_type, key, out.copy())
        return out

    def cosines(self, heads: Heads, relation: Relation) -> tuple[Vectors, Vectors]:
        """The bridge's unit transforms of the queries (n, hidden) and their cosines with all tails (n, n_tails)."""
        carried = self.carried(heads, relation)
        return carried, carried @ np.asarray(self.projections[NodeType(relation.tail_type)], dtype=np.float32).T

    def needed(self, heads: Heads, relation: Relation) -> tuple[Vectors, Vectors | None]:
        """`cosines`, but None in place of those with the tails where `parts` does without: they take milliseconds."""
        return (self.carried(heads, relation), None) if isinstance(self.bridge, KernelBridge) else self.cosines(heads, relation)

    def carried(self, heads: Heads, relation: Relation) -> Vectors:
        """(n, hidden) the bridge's unit transforms of the queries."""
        left_out, rows = getattr(self.bridge, "transform_left_out", None), heads.rows
        return unit(left_out(rows, relation, heads.x) if rows is not None and left_out else self.bridge.transform(heads.x, relation))

    def parts(self, heads: Heads, relation: Relation, cosines: Vectors | None = None) -> Parts:
        """Of queries, those that are nodes of the graph left out of it. cosines (n, n_tails): the bridge's, where they are known; the
        default bridge does not need them."""
        view, rows = self.view(relation), heads.rows
        head_type = NodeType(relation.head_type)
        similar = self.similarities(heads, head_type)
        own = np.zeros((len(heads), view.edges.shape[1]), dtype=np.float32)
        if rows is not None:
            similar[np.arange(len(heads)), rows] = -1.0
            own = view.edges[rows].toarray()
        near, neighbours = nearest(similar, view.heads)
        wide, close = (votes(near, neighbours, view.edges, power) for power in POWERS)
        if isinstance(self.bridge, KernelBridge):
            weights = self.bridge.attention(similar, view.heads, relation, self.likeness[head_type].among)
            bridge = np.maximum(weigh_edges(weights, view.edges), 0.0)
        else:
            bridge = np.maximum(self.cosines(heads, relation)[1] if cosines is None else cosines, 0.0)
        counts = view.counts[None, :] - own
        prior = np.asarray(counts / max(len(view.heads), 1), dtype=np.float32)
        alike = powered(similar, 2) if relation.head_type == relation.tail_type else np.zeros_like(close)
        return Parts(bridge, close, wide, walk(bridge, view, rows, counts), alike, prior, near, neighbours, counts)


def nearest(similar: Vectors, heads: Indices, k: int = K) -> tuple[Vectors, Indices]:
    """The k nearest of `heads`: similarities, at least 0, and rows, (n, k), best first. similar: (n, n_t)."""
    k = min(k, len(heads))
    if not k:
        return np.zeros((len(similar), 1), np.float32), np.zeros((len(similar), 1), np.int64)
    among = similar[:, heads]
    best = np.argpartition(-among, k - 1, axis=1)[:, :k]
    values = np.take_along_axis(among, best, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    rows = np.take_along_axis(heads[best], order, axis=1)
    return np.maximum(np.take_along_axis(values, order, axis=1), 0.0), rows


def walk(scores: Vectors, view: RelationView, rows: Indices | None, counts: Vectors) -> Vectors:
    """One step of a random walk from tails to the heads that have them and on to the tails of those, normalised by the roots of
    the tails' counts and by the heads' degrees: what is said of a tail is also said of those that share its heads. The heads
    `rows` themselves take no part. scores, counts: (n, n_tails)."""
    root = np.sqrt(np.maximum(counts, 1.0))
    over = np.asarray((scores / root) @ view.transposed, dtype=np.float32)
    over /= np.maximum(np.diff(view.edges.indptr), 1).astype(np.float32)[None, :]
    if rows is not None:
        over[np.arange(len(scores)), rows] = 0.0
    return np.asarray(over @ view.edges / root, dtype=np.float32)
