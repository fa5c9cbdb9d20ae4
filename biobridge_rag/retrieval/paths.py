"""Paths of up to three edges between two nodes of the graph, the most telling first; neighbours, and what several nodes share.

Knows: the edges of a KnowledgeGraph. Does not know: embeddings, the bridge, questions.

A path's score is its path-degree product, the term that one path adds to the degree-weighted path count (DWPC) of Himmelstein &
Baranzini 2015, PLoS Comput Biol 11: e1004259, damping 0.4: each edge divides by how many edges of its kind its two ends have, so that
a path through "protein binding" or ALB counts for little. Scores lie in (0, 1], higher is more telling; longer paths score lower. An edge
between the two nodes themselves is stated, not inferred, and comes first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biobridge_rag.errors import InputError, UnknownNodeError
from biobridge_rag.graph.adjacency import Adjacency, adjacency, oriented
from biobridge_rag.graph.phrases import phrase
from biobridge_rag.types import Indices, KnowledgeGraph, Node, NodeType, Relation, RetrievedNode, Triple

MAX_HOPS = 3
MAX_STEPS = 400_000
"""Edges looked at for the middle of paths of three; beyond, the edges of the ends that weigh least are not followed."""
Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Path:
    """Edges from head to tail, each read in that direction; no node twice. score: path-degree product in (0, 1]."""

    triples: tuple[Triple, ...]
    score: float

    @property
    def nodes(self) -> tuple[Node, ...]:
        return (self.triples[0].head, *(t.tail for t in self.triples))

    @property
    def metapath(self) -> str:
        """The kind of path, such as "drug - target - protein - associated with - disease"."""
        return " - ".join([self.nodes[0].type.label, *(f"{t.relation.name} - {t.tail.type.label}" for t in self.triples)])

    @property
    def words(self) -> str:
        """One plain clause an edge, in the path's order. Names stand as the graph has them: data, not to be shown unescaped."""
        return "; ".join(phrase(t.head, t.relation.name, t.tail) for t in self.triples)

    def to_dict(self) -> dict[str, Any]:
        return {
            "metapath": self.metapath,
            "score": float(f"{self.score:.4g}"),
            "nodes": [{"id": n.id, "name": n.name, "type": n.type.value} for n in self.nodes],
            "edges": [
                {"text": phrase(t.head, t.relation.name, t.tail), "relation": t.relation.name, "source": t.source} for t in self.triples
            ],
        }


@dataclass(frozen=True, slots=True)
class Shared:
    """A node that is linked to all given ones: one edge from each of these, in their order, the product of the edges' weights."""

    node: Node
    triples: tuple[Triple, ...]
    score: float


def find_paths(
    graph: KnowledgeGraph, head: Node, tail: Node, most_hops: int = MAX_HOPS, limit: int = 10, *,
    most_of_kind: int | None = None, unlike: Relation | None = None, without: Node | None = None,
) -> list[Path]:  # fmt: skip
    """The `limit` best paths of 1 to `most_hops` edges between two nodes, whichever way the edges are stored: edges between the two
    first, then by score; none for a node and itself. Equal scores stand in the order of the graph's nodes and relations' names.

    most_of_kind: at most so many of one metapath; unlike: leaves out an edge of that relation between the two; without: leaves out
    paths through this node.
    Raises UnknownNodeError for a node that the graph does not hold, InputError for most_hops outside 1 to 3 or limit under 1.
    """
    if limit < 1 or (most_of_kind is not None and most_of_kind < 1):
        raise InputError("At least one path must be asked for.")
    links, start, found = adjacency(graph), _position(graph, head), list[Path]()
    for rows, scores in _search(graph, links, head, tail, most_hops, without):
        for i in _best(links, rows, scores, limit, most_of_kind):
            path = _path(graph, links, start, rows[:, i], float(scores[i]))
            if len(rows) == 1 and unlike is not None and path.triples[0].relation in (unlike, unlike.inverse):
                continue
            found.append(path)
    return sorted(found, key=lambda path: (len(path.triples) > 1, -path.score))[:limit]


def explain(graph: KnowledgeGraph, head: Node, hit: RetrievedNode, relation: Relation | None = None, limit: int = 5) -> list[Path]:
    """Paths that speak for a predicted hit: how the graph links `head` and the hit's node by other edges than the predicted one, at most
    two of a kind.

    relation: the predicted one; an edge of it between the two, where the graph states it, is left out. Errors as in find_paths.
    """
    return find_paths(graph, head, hit.node, MAX_HOPS, limit, most_of_kind=2, unlike=relation)


def neighbours(graph: KnowledgeGraph, node: Node, relation: Relation | str | None = None) -> list[Triple]:
    """The edges of a node, read from it, once each: by relation, then the most telling first. relation: its name, or also its types
    (from either end). Raises UnknownNodeError."""
    position, links = _position(graph, node), adjacency(graph)
    rows = links.rows(position)
    triples = [(oriented(graph, int(e), position), -float(w)) for e, w in zip(links.edge[rows], links.weight[rows], strict=True)]
    if isinstance(relation, Relation):
        triples = [row for row in triples if row[0].relation in (relation, relation.inverse)]
    elif relation is not None:
        triples = [row for row in triples if row[0].relation.name == relation]
    triples.sort(key=lambda row: (row[0].relation, row[1]))
    return [triple for triple, _ in triples]


def shared(graph: KnowledgeGraph, nodes: Sequence[Node], types: Collection[NodeType | str] = (), limit: int = 20) -> list[Shared]:
    """The nodes, of these types (none: of any), that have an edge with each of the given nodes, the most telling first; where two nodes
    have several edges, the heaviest counts. Raises UnknownNodeError, and InputError for no nodes or limit under 1."""
    if not nodes or limit < 1:
        raise InputError("What nodes share needs at least one node, and a limit of at least one.")
    links, given = adjacency(graph), list(dict.fromkeys(_position(graph, node) for node in nodes))
    common: Indices | None = None
    best: list[Indices] = []
    for position in given:
        rows = np.arange(links.bounds[position], links.bounds[position + 1])
        rows = rows[np.lexsort((-links.weight[rows], links.other[rows]))]
        others, first = np.unique(links.other[rows], return_index=True)
        best.append(rows[first])
        common = others.astype(np.int64) if common is None else np.intersect1d(common, others, assume_unique=True).astype(np.int64)
    assert common is not None
    wanted = {NodeType(t) for t in types}
    common = np.array([c for c in common.tolist() if c not in given and (not wanted or graph.nodes[c].type in wanted)], np.int64)
    rows_of = np.array([rows[np.searchsorted(links.other[rows], common)] for rows in best], np.int64)
    scores = np.multiply.reduce(links.weight[rows_of], axis=0) if len(common) else np.zeros(0)
    out = []
    for i in np.lexsort((common, -scores))[:limit].tolist():
        triples = tuple(oriented(graph, int(links.edge[row]), at) for row, at in zip(rows_of[:, i].tolist(), given, strict=True))
        out.append(Shared(graph.nodes[int(common[i])], triples, float(scores[i])))
    return out


def _position(graph: KnowledgeGraph, node: Node) -> int:
    position = graph.position(node.type, node.id)
    if position is None:
        raise UnknownNodeError(f"{node.name[:60]!r} is no node of the graph {graph.name!r}.", "Paths are looked for between its nodes.")
    return position


def _search(
    graph: KnowledgeGraph, links: Adjacency, head: Node, tail: Node, most_hops: int, without: Node | None
) -> Iterator[tuple[Indices, Scores]]:
    """For paths of 1, 2, ... edges, each a column: the rows of their edges (hops, p), and their scores (p,)."""
    if not 1 <= most_hops <= MAX_HOPS:
        raise InputError(f"Paths of 1 to {MAX_HOPS} edges are looked for, not of {most_hops}.")
    start, end = _position(graph, head), _position(graph, tail)
    left_out = None if without is None else _position(graph, without)
    for search in (_one, _two, _three)[:most_hops] if start != end else ():
        rows, scores = search(links, start, end)
        if left_out is not None and len(rows) > 1:  # the first and the last row lead to the nodes between
            kept = (links.other[rows[0]] != left_out) & (links.other[rows[-1]] != left_out)
            rows, scores = rows[:, kept], scores[kept]
        yield rows, scores


def _one(links: Adjacency, start: int, end: int) -> tuple[Indices, Scores]:
    """(1, p) rows of the adjacency and the scores (p,) of the paths of one edge."""
    at = links.rows(start)
    rows = at.start + np.flatnonzero(links.other[at] == end)
    return rows[None, :], links.weight[rows]


def _two(links: Adjacency, start: int, end: int) -> tuple[Indices, Scores]:
    """(2, p) rows: of an edge of `start`, and of an edge of `end` with the same neighbour."""
    one, two = links.rows(start), links.rows(end)
    i, j = _join(links.other[one], links.other[two])
    first, last = one.start + i, two.start + j
    return np.stack([first, last]), links.weight[first] * links.weight[last]


def _three(links: Adjacency, start: int, end: int) -> tuple[Indices, Scores]:
    """(3, p) rows: of an edge of `start`, of an edge of its neighbour, of an edge of `end`. Followed from the end with less to follow."""
    turned = _fan(links, start) > _fan(links, end)
    near, far = (end, start) if turned else (start, end)
    ends = np.arange(links.bounds[near], links.bounds[near + 1])
    ends = ends[links.other[ends] != far]
    ends = ends[np.argsort(-links.weight[ends], kind="stable")]
    width = links.bounds[links.other[ends] + 1] - links.bounds[links.other[ends]]
    kept = int(np.searchsorted(np.cumsum(width), MAX_STEPS, side="right"))
    ends, width = ends[:kept], width[:kept]
    middle = _ranges(links.bounds[links.other[ends]], width)
    reach = np.zeros(len(links.bounds) - 1, dtype=bool)
    opposite = links.rows(far)
    reach[links.other[opposite]] = True
    reach[near] = False
    hit = np.flatnonzero(reach[links.other[middle]])
    first, middle = np.repeat(ends, width)[hit], middle[hit]
    i, j = _join(links.other[middle], links.other[opposite])
    first, middle, last = first[i], middle[i], opposite.start + j
    if turned:
        first, last = last, first
    return np.stack([first, middle, last]), links.weight[first] * links.weight[middle] * links.weight[last]


def _fan(links: Adjacency, position: int) -> int:
    others = links.other[links.rows(position)]
    return int((links.bounds[others + 1] - links.bounds[others]).sum())


def _ranges(starts: Indices, widths: Indices) -> Indices:
    """start, start + 1, ... of each range, one after the other."""
    before = np.cumsum(widths) - widths
    return np.repeat(starts - before, widths) + np.arange(int(widths.sum()), dtype=np.int64)


def _join(left: NDArray[Any], right: NDArray[Any]) -> tuple[Indices, Indices]:
    """All pairs (i, j) with left[i] == right[j]; `right` is sorted."""
    low = np.searchsorted(right, left, side="left").astype(np.int64)
    width = np.searchsorted(right, left, side="right").astype(np.int64) - low
    return np.repeat(np.arange(len(left), dtype=np.int64), width), _ranges(low, width)


def _best(links: Adjacency, rows: Indices, scores: Scores, limit: int, most_of_kind: int | None) -> list[int]:
    """The columns of the `limit` highest scores, at most so many of a kind; ties by neighbours and kinds along the path."""
    if most_of_kind is None:
        return _highest(links, rows, scores, np.arange(len(scores)), limit)
    some, kinds = list[int](), _kinds(links, rows)
    for kind in np.unique(kinds):
        some += _highest(links, rows, scores, np.flatnonzero(kinds == kind), most_of_kind)
    return _highest(links, rows, scores, np.array(some, np.int64), limit)


def _kinds(links: Adjacency, rows: Indices) -> Indices:
    """(p,) one number for each sequence of kinds of edges, which with the first node's type is the metapath."""
    out = np.zeros(rows.shape[1], np.int64)
    for row in rows:
        out = out * (int(links.kind.max(initial=0)) + 1) + links.kind[row]
    return out


def _highest(links: Adjacency, rows: Indices, scores: Scores, at: Indices, limit: int) -> list[int]:
    if len(at) > limit:
        at = at[scores[at] >= np.partition(scores[at], -limit)[-limit]]
    keys = [-scores[at]]
    for row in rows:
        keys += [links.other[row[at]], links.kind[row[at]]]
    return at[np.lexsort(keys[::-1])][:limit].tolist()


def _path(graph: KnowledgeGraph, links: Adjacency, start: int, rows: Indices, score: float) -> Path:
    """Each edge is read from the node that the path has come to, whichever end its row belongs to."""
    triples, position = [], start
    for row in rows.tolist():
        edge = int(links.edge[row])
        triples.append(oriented(graph, edge, position))
        position = int(graph.tail[edge]) if int(graph.head[edge]) == position else int(graph.head[edge])
    return Path(tuple(triples), score)
