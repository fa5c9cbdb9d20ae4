"""Paths, neighbours and shared nodes: against a naive enumeration on small random graphs, and on a hand-made one with hubs."""

from __future__ import annotations

import gc
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biobridge_rag.errors import InputError, UnknownNodeError
from biobridge_rag.graph import adjacency as made
from biobridge_rag.graph.adjacency import DAMPING, adjacency
from biobridge_rag.retrieval import paths as module
from biobridge_rag.retrieval.paths import Path, explain, find_paths, neighbours, shared
from biobridge_rag.types import KnowledgeGraph, Node, NodeType, Relation, RetrievedNode

P, D, S, B = NodeType.PROTEIN, NodeType.DRUG, NodeType.DISEASE, NodeType.BIOLOGICAL_PROCESS
NAMES = {(D, P): ("target", "enzyme"), (P, S): ("associated with",), (P, P): ("ppi",), (D, S): ("indication",), (S, S): ("parent-child",)}
Row = tuple[Node, str, Node]


def make(nodes: list[Node], rows: list[Row]) -> KnowledgeGraph:
    """A graph of exactly these stored rows; nothing is turned round."""
    at = {(n.type, n.id): i for i, n in enumerate(nodes)}
    relations = tuple(sorted({Relation(r, h.type.value, t.type.value) for h, r, t in rows}))
    head, tail = (np.array([at[row[i].type, row[i].id] for row in rows], np.int32) for i in (0, 2))
    which = np.array([relations.index(Relation(r, h.type.value, t.type.value)) for h, r, t in rows], np.int16)
    return KnowledgeGraph("g", tuple(nodes), relations, head, which, tail, np.zeros(len(rows), np.int16), ("Table",))


def both(rows: list[Row]) -> list[Row]:
    return rows + [(t, r, h) for h, r, t in rows]


@st.composite
def graphs(draw: st.DrawFn) -> KnowledgeGraph:
    """Up to nine nodes of three types; every edge is stored in one direction, the other, or both, some of them twice."""
    types = draw(st.lists(st.sampled_from((P, D, S)), min_size=2, max_size=9))
    nodes = [Node(str(i), t, f"n{i}") for i, t in enumerate(types)]
    possible = [
        (a, name, b)
        for i, a in enumerate(nodes)
        for j, b in enumerate(nodes)
        for name in NAMES.get((a.type, b.type), ())
        if a.type != b.type or i < j
    ]
    rows: list[Row] = []
    for a, name, b in draw(st.lists(st.sampled_from(possible), unique=True, max_size=20)) if possible else []:
        ways = draw(st.sampled_from(("as is", "turned", "both", "twice")))
        rows += [(a, name, b)] * (2 if ways == "twice" else ways != "turned") + [(b, name, a)] * (ways in ("turned", "both"))
    return make(nodes, draw(st.permutations(rows)))


def edges_of(graph: KnowledgeGraph) -> set[tuple[str, frozenset[int]]]:
    """(relation name, its two ends): the same for both directions."""
    return {
        (graph.relations[r].name, frozenset((h, t)))
        for h, r, t in zip(graph.head.tolist(), graph.relation.tolist(), graph.tail.tolist(), strict=True)
        if h != t
    }


def weights_of(graph: KnowledgeGraph) -> dict[tuple[str, frozenset[int]], float]:
    def kind(name: str, ends: frozenset[int]) -> tuple[str, frozenset[NodeType]]:
        return name, frozenset(graph.nodes[i].type for i in ends)

    degree = Counter((kind(name, ends), i) for name, ends in edges_of(graph) for i in ends)
    return {(name, ends): math.prod(degree[kind(name, ends), i] ** -DAMPING for i in ends) for name, ends in edges_of(graph)}


def naive(graph: KnowledgeGraph, start: int, end: int, hops: int) -> dict[tuple[tuple[int, ...], tuple[str, ...]], float]:
    """Every path without repeated nodes, by depth-first search: (nodes, relation names) -> score."""
    weights, out = weights_of(graph), {}

    def walk(nodes: tuple[int, ...], names: tuple[str, ...], score: float) -> None:
        if nodes[-1] == end:
            out[nodes, names] = score
            return
        if len(names) < hops:
            for (name, ends), weight in weights.items():
                if nodes[-1] in ends and not (ends - {nodes[-1]}) & set(nodes):
                    walk((*nodes, *(ends - {nodes[-1]})), (*names, name), score * weight)

    walk((start,), (), 1.0)
    return out


def spelled(graph: KnowledgeGraph, path: Path) -> tuple[tuple[int, ...], tuple[str, ...]]:
    return tuple(graph.position(n.type, n.id) or 0 for n in path.nodes), tuple(t.relation.name for t in path.triples)


@settings(max_examples=150, deadline=None)
@given(graphs(), st.integers(1, 3), st.data())
def test_all_paths_are_found_with_their_scores(graph: KnowledgeGraph, hops: int, data: st.DataObject) -> None:
    start, end = data.draw(st.lists(st.integers(0, len(graph.nodes) - 1), min_size=2, max_size=2, unique=True))
    found = find_paths(graph, graph.nodes[start], graph.nodes[end], hops, limit=10_000)
    expected = naive(graph, start, end, hops)
    assert {spelled(graph, p): pytest.approx(p.score) for p in found} == expected and len(found) == len(expected)
    order = [(len(p.triples) > 1, -p.score) for p in found]
    assert order == sorted(order)
    for path in found:
        assert all(a.tail is b.head for a, b in zip(path.triples, path.triples[1:], strict=False))
        assert all((t.relation.head_type, t.relation.tail_type) == (t.head.type, t.tail.type) for t in path.triples)


@settings(max_examples=80, deadline=None)
@given(graphs(), st.integers(1, 6), st.integers(1, 2), st.data())
def test_a_limit_keeps_the_best_and_the_order_of_the_edges_changes_nothing(
    graph: KnowledgeGraph, limit: int, alike: int, data: st.DataObject
) -> None:
    start, end = data.draw(st.lists(st.integers(0, len(graph.nodes) - 1), min_size=2, max_size=2, unique=True))
    head, tail = graph.nodes[start], graph.nodes[end]
    everything = find_paths(graph, head, tail, 3, 10_000)
    best = find_paths(graph, head, tail, 3, limit)
    assert [p.score for p in best] == [p.score for p in everything[:limit]]
    order = data.draw(st.permutations(range(graph.n_edges)))
    columns = [getattr(graph, c)[np.array(order, int)] for c in ("head", "relation", "tail", "source")]
    shuffled = KnowledgeGraph(graph.name, graph.nodes, graph.relations, *columns, graph.sources)
    assert find_paths(shuffled, head, tail, 3, limit) == best
    seen: Counter[str] = Counter()
    few = []
    for path in everything:
        seen[path.metapath] += 1
        few += [path.score] * (seen[path.metapath] <= alike)
    assert [p.score for p in find_paths(graph, head, tail, 3, 10_000, most_of_kind=alike)] == few


@settings(max_examples=80, deadline=None)
@given(graphs(), st.integers(1, 3), st.data())
def test_paths_can_leave_a_node_out(graph: KnowledgeGraph, hops: int, data: st.DataObject) -> None:
    start, end, out = data.draw(st.lists(st.integers(0, len(graph.nodes) - 1), min_size=3, max_size=3))
    if start == end or out in (start, end):
        return
    head, tail, without = graph.nodes[start], graph.nodes[end], graph.nodes[out]
    expected = {p: score for p, score in naive(graph, start, end, hops).items() if out not in p[0]}
    assert {spelled(graph, p) for p in find_paths(graph, head, tail, hops, 10_000, without=without)} == set(expected)


@settings(max_examples=80, deadline=None)
@given(graphs(), st.data())
def test_neighbours_and_shared_nodes(graph: KnowledgeGraph, data: st.DataObject) -> None:
    given_at = data.draw(st.lists(st.integers(0, len(graph.nodes) - 1), min_size=1, max_size=3, unique=True))
    edges = edges_of(graph)
    for i in given_at:
        triples = neighbours(graph, graph.nodes[i])
        assert all(t.head is graph.nodes[i] for t in triples)
        found = Counter((t.relation.name, frozenset((i, graph.position(t.tail.type, t.tail.id)))) for t in triples)
        assert found == Counter(edge for edge in edges if i in edge[1])
    linked = [{j for _, ends in edges if i in ends for j in ends - {i}} for i in given_at]
    common = set.intersection(*linked) - set(given_at)
    found_nodes = shared(graph, [graph.nodes[i] for i in given_at], limit=100)
    assert sorted(graph.position(s.node.type, s.node.id) or 0 for s in found_nodes) == sorted(common)
    heaviest = weights_of(graph)
    for row in found_nodes:
        at = graph.position(row.node.type, row.node.id)
        best = math.prod(max(w for (_, ends), w in heaviest.items() if ends == {i, at}) for i in given_at)
        assert row.score == pytest.approx(best)
        assert [t.head for t in row.triples] == [graph.nodes[i] for i in given_at] and {t.tail.id for t in row.triples} == {row.node.id}
    drugs = shared(graph, [graph.nodes[i] for i in given_at], [D], limit=100)
    assert drugs == [s for s in found_nodes if s.node.type is D]


PROTEINS = [Node(f"P{i}", P, f"GENE{i}") for i in range(40)]
IMATINIB, WARFARIN = Node("DB1", D, "imatinib"), Node("DB2", D, "warfarin")
GIST, CML = Node("S1", S, "GIST"), Node("S2", S, "CML")
BINDING, GROWTH = Node("GO1", B, "binding"), Node("GO2", B, "growth of mast cells")
KIT, ALB = PROTEINS[0], PROTEINS[1]
SMALL = make(
    [*PROTEINS, IMATINIB, WARFARIN, GIST, CML, BINDING, GROWTH],
    both(
        [(p, "interacts with", BINDING) for p in PROTEINS]
        + [(WARFARIN, "carrier", ALB), (IMATINIB, "carrier", ALB), (ALB, "associated with", GIST), (ALB, "associated with", CML)]
        + [(IMATINIB, "target", KIT), (KIT, "associated with", GIST), (IMATINIB, "indication", CML)]
        + [(KIT, "interacts with", GROWTH), (PROTEINS[2], "interacts with", GROWTH), (PROTEINS[2], "associated with", CML)]
    ),
)


def test_a_telling_path_comes_before_one_through_hubs() -> None:
    best = find_paths(SMALL, IMATINIB, GIST)
    assert best[0].words == "imatinib targets GENE0; GENE0 is associated with GIST"
    assert best[0].metapath == "drug - target - protein - associated with - disease"
    through = [p for p in find_paths(SMALL, KIT, CML, 3, 100) if p.nodes[1] in (BINDING, GROWTH)]
    assert [p.nodes[1].name for p in through] == ["growth of mast cells", "binding", "binding"]
    assert best[0].to_dict()["edges"][0] == {"text": "imatinib targets GENE0", "relation": "target", "source": "Table"}


def test_an_explanation_leaves_out_what_it_explains() -> None:
    hit = RetrievedNode(CML, 1, 0.9, 0.8, False)
    indication = Relation("indication", "drug", "disease")
    assert explain(SMALL, IMATINIB, hit)[0].metapath == "drug - indication - disease"
    for relation in (indication, indication.inverse):
        found = explain(SMALL, IMATINIB, hit, relation)
        assert found and all(len(p.triples) > 1 for p in found) and found[0].words.startswith("imatinib is linked to GENE1 as a carrier")
        assert max(Counter(p.metapath for p in found).values()) <= 2


def test_neighbours_of_one_relation_the_most_telling_first() -> None:
    assert [t.tail.name for t in neighbours(SMALL, KIT, "interacts with")] == ["growth of mast cells", "binding"]
    assert neighbours(SMALL, KIT, Relation("target", "drug", "gene/protein")) == neighbours(SMALL, KIT, "target") != []
    assert neighbours(SMALL, KIT, "nonsense") == []
    with pytest.raises(UnknownNodeError, match="no node of the graph"):
        neighbours(SMALL, Node("X", P, "X"))


def test_work_at_hubs_is_bounded_and_drops_the_lightest_edges(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = find_paths(SMALL, KIT, CML, 3, 1000)
    monkeypatch.setattr(module, "MAX_STEPS", 6)
    few = find_paths(SMALL, KIT, CML, 3, 1000)
    assert [p for p in everything if p.nodes[-2] is not ALB] == few != everything


@pytest.mark.parametrize(("hops", "limit"), [(0, 5), (4, 5), (2, 0)])
def test_what_cannot_be_asked_for(hops: int, limit: int) -> None:
    with pytest.raises(InputError):
        find_paths(SMALL, KIT, GIST, hops, limit)
    with pytest.raises(UnknownNodeError, match="no node of the graph"):
        find_paths(SMALL, KIT, Node("X", S, "X"))
    with pytest.raises(InputError):
        shared(SMALL, [])
    assert find_paths(SMALL, KIT, KIT) == []


def test_nothing_is_linked_in_a_graph_without_edges() -> None:
    graph = make([KIT, GIST], [])
    assert find_paths(graph, KIT, GIST) == [] == neighbours(graph, KIT) == shared(graph, [KIT, GIST])


def test_an_adjacency_is_made_once_and_goes_with_its_graph() -> None:
    graph = make([KIT, GIST], [(KIT, "associated with", GIST)])
    assert adjacency(graph) is adjacency(graph)
    key = id(graph)
    del graph
    gc.collect()
    assert key not in made._MADE
