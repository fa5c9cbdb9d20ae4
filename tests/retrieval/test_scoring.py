"""Parts of evidence against loops: the walk, the nearest heads, the vote, what is left out, and what is cached."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse

from biobridge_rag.bridge.model import POWER, unit
from biobridge_rag.bridge.training import TrainingOptions, train_default
from biobridge_rag.graph.incidence import incidence
from biobridge_rag.retrieval.likeness import Heads, Likeness
from biobridge_rag.retrieval.scoring import PARTS, Parts, RelationView, TailScorer, nearest, walk
from biobridge_rag.types import KnowledgeGraph, NodeType, Relation, Vectors
from tests.retrieval.conftest import TARGET, make_world

INVERSE = TARGET.inverse
ROWS = np.array([0, 5, 13, 30])


class FixedBridge:
    """A bridge of another kind: two random maps into one space, with no attention of its own."""

    hidden_dim = 8

    def __init__(self, dims: dict[str, int]) -> None:
        rng = np.random.default_rng(4)
        self.maps = {t: rng.standard_normal((d, self.hidden_dim)).astype(np.float32) for t, d in dims.items()}

    def project(self, x: Vectors, node_type: str) -> Vectors:
        return np.asarray(x @ self.maps[str(node_type)], dtype=np.float32)

    def transform(self, x: Vectors, relation: Relation) -> Vectors:
        return self.project(x, relation.head_type)


def by_type(named: dict[str, np.ndarray]) -> dict[NodeType, np.ndarray]:
    return {NodeType(t): x for t, x in named.items()}


@pytest.fixture(scope="module")
def trained(world):  # type: ignore[no-untyped-def]
    graph, named = world
    bridge, _ = train_default(graph, named, TrainingOptions(hidden=24, epochs=0), lambda *_: None)
    return bridge


def scorer_of(world, bridge) -> TailScorer:  # type: ignore[no-untyped-def]
    graph, named = world
    tables = by_type(named)
    return TailScorer(graph, tables, {t: unit(bridge.project(x, t.value)) for t, x in tables.items()}, bridge)


@pytest.fixture
def scorer(world, trained) -> TailScorer:  # type: ignore[no-untyped-def]
    return scorer_of(world, trained)


@pytest.fixture
def other(world) -> TailScorer:  # type: ignore[no-untyped-def]
    return scorer_of(world, FixedBridge({t: x.shape[1] for t, x in world[1].items()}))


def heads(scorer: TailScorer, rows: np.ndarray = ROWS, left_out: bool = False) -> Heads:
    return Heads(scorer.tables[NodeType.PROTEIN][rows], rows if left_out else None)


def without(graph: KnowledgeGraph, relation: Relation, row: int) -> KnowledgeGraph:
    """The graph without the edges of one relation that start at one row, and their inverses."""
    position = graph.by_type[NodeType(relation.head_type)][row]
    here, back = (graph.relation == graph.relations.index(r) for r in (relation, relation.inverse))
    keep = ~(((graph.head == position) & here) | ((graph.tail == position) & back))
    return KnowledgeGraph(
        graph.name,
        graph.nodes,
        graph.relations,
        graph.head[keep],
        graph.relation[keep],
        graph.tail[keep],
        graph.source[keep],
        graph.sources,
    )


def naive_walk(scores: np.ndarray, edges: np.ndarray, row: int | None, counts: np.ndarray) -> np.ndarray:
    n_heads, n_tails = edges.shape
    out = np.zeros(n_tails)
    for h in range(n_heads):
        if h == row or not edges[h].any():
            continue
        for t in np.flatnonzero(edges[h]):
            for u in np.flatnonzero(edges[h]):
                out[u] += scores[t] / np.sqrt(max(counts[t], 1.0)) / edges[h].sum() / np.sqrt(max(counts[u], 1.0))
    return out


@pytest.mark.parametrize("left_out", [False, True])
def test_the_walk_is_that_of_loops(left_out: bool) -> None:
    rng = np.random.default_rng(0)
    dense = (rng.random((9, 7)) < 0.4).astype(np.float32)
    dense[4], dense[5] = 0.0, np.eye(7)[3]
    edges = sparse.csr_matrix(dense)
    scores, rows = rng.random((4, 7)).astype(np.float32), np.array([0, 8, 4, 2])
    counts = np.broadcast_to(dense.sum(axis=0), (4, 7)) - (dense[rows] if left_out else 0.0)
    found = walk(scores, RelationView(edges, edges), rows if left_out else None, counts.astype(np.float32))
    expected = [naive_walk(scores[i], dense, int(rows[i]) if left_out else None, counts[i]) for i in range(4)]
    assert np.allclose(found, expected, atol=1e-5) and found.max() > 0.0


def test_the_walk_does_not_pass_through_the_querys_own_head() -> None:
    """Head 0 alone ties tail 0 to tail 1, so once it is left out nothing is carried there."""
    edges = sparse.csr_matrix(np.array([[1, 1, 0], [1, 0, 1]], np.float32))
    view, scores = RelationView(edges, edges), np.array([[1.0, 0.0, 0.0]], np.float32)
    counts = view.counts[None]
    assert walk(scores, view, None, counts)[0, 1] > 0.0
    own = walk(scores, view, np.array([0]), counts - edges[[0]].toarray())
    assert own[0, 1] == 0.0 and own[0, 2] > 0.0


@pytest.mark.parametrize("k", [1, 4, 40])
def test_nearest_is_that_of_sorting(k: int) -> None:
    rng = np.random.default_rng(1)
    similar, rows = rng.uniform(-1, 1, (5, 20)).astype(np.float32), np.array([0, 3, 4, 7, 9, 12, 13, 19])
    values, found = nearest(similar, rows, k)
    assert values.shape == found.shape == (5, min(k, 8))
    for i in range(5):
        best = sorted(rows.tolist(), key=lambda r: -similar[i, r])[:k]
        assert found[i].tolist() == best
        assert np.allclose(values[i], [max(similar[i, r], 0.0) for r in best])


def test_nearest_without_heads_says_nothing() -> None:
    values, rows = nearest(np.ones((3, 5), np.float32), np.zeros(0, np.int64))
    assert values.tolist() == [[0.0]] * 3 and rows.shape == values.shape


def test_the_view_holds_the_graphs_edges_and_their_numbers(scorer: TailScorer, world) -> None:  # type: ignore[no-untyped-def]
    graph, view = world[0], scorer.view(TARGET)
    assert np.array_equal(view.edges.toarray(), incidence(graph, TARGET).toarray())
    assert scorer.view(TARGET) is view and scorer.view(INVERSE) is not view
    for h, t in zip(*view.edge_ids.nonzero(), strict=True):
        triple = graph.triple(int(view.edge_ids[h, t]) - 1)
        assert (triple.head.id, triple.relation, triple.tail.id) == (f"P{h}", TARGET, f"DB{t}")
    assert view.counts.tolist() == view.edges.toarray().sum(axis=0).tolist()
    assert view.heads.tolist() == [h for h in range(36) if view.edges[[h]].nnz]
    assert view.counts[view.common].tolist() == sorted(view.counts.tolist(), reverse=True)


def test_an_edge_counts_in_both_directions(world, trained) -> None:  # type: ignore[no-untyped-def]
    """Half of a head's edges are stated the other way round only: the view has them all, each with the number of an edge that says so."""
    graph, named = world
    keep = ~((graph.head == graph.by_type[NodeType.PROTEIN][2]) & (graph.relation == graph.relations.index(TARGET)))
    columns = (graph.head[keep], graph.relation[keep], graph.tail[keep], graph.source[keep])
    half = KnowledgeGraph(graph.name, graph.nodes, graph.relations, *columns, graph.sources)
    view = scorer_of((half, named), trained).view(TARGET)
    assert not incidence(half, TARGET)[2].nnz
    assert np.array_equal(view.edges.toarray(), incidence(graph, TARGET).toarray())
    for h, t in zip(*view.edge_ids.nonzero(), strict=True):
        triple = half.triple(int(view.edge_ids[h, t]) - 1)
        ends = (f"P{h}", TARGET, f"DB{t}") if h != 2 else (f"DB{t}", INVERSE, "P2")
        assert (triple.head.id, triple.relation, triple.tail.id) == ends


def naive_vote(similar: np.ndarray, edges: np.ndarray, row: int | None, power: int) -> np.ndarray:
    others = [h for h in range(len(edges)) if h != row and edges[h].any()]
    best = sorted(others, key=lambda h: -similar[h])[:40]
    weight = {h: max(float(similar[h]), 0.0) ** power for h in best}
    return np.asarray(sum(weight[h] * edges[h] for h in best) / sum(weight.values()))


@pytest.mark.parametrize("left_out", [False, True])
def test_vote_and_prior_are_those_of_loops(scorer: TailScorer, left_out: bool) -> None:
    parts = scorer.parts(heads(scorer, left_out=left_out), TARGET)
    edges, x = scorer.view(TARGET).edges.toarray(), scorer.tables[NodeType.PROTEIN]
    for i, row in enumerate(ROWS):
        own = int(row) if left_out else None
        similar = x[row] @ x.T
        assert np.allclose(parts.close[i], naive_vote(similar, edges, own, 6), atol=1e-5)
        assert np.allclose(parts.wide[i], naive_vote(similar, edges, own, 2), atol=1e-5)
        kept = np.delete(edges, row, axis=0) if left_out else edges
        assert np.allclose(np.broadcast_to(parts.prior, parts.close.shape)[i], kept.sum(axis=0) / 36, atol=1e-6)
        assert np.allclose(np.broadcast_to(parts.counts, parts.close.shape)[i], kept.sum(axis=0))
        assert (row in parts.neighbours[i, parts.similar[i] > 0.0]) != left_out
        assert parts.nearest[i] == pytest.approx(np.delete(similar, row).max() if left_out else 1.0, abs=1e-5)


def test_a_left_out_head_is_scored_as_if_its_edges_were_not_there(scorer: TailScorer, world, trained) -> None:  # type: ignore[no-untyped-def]
    """All parts but the prior's divisor, which counts the heads of the relation. The bridge's anchors keep the node, not its edges."""
    graph, named = world
    for row in ROWS:
        parts = scorer.parts(heads(scorer, np.array([row]), left_out=True), TARGET)
        unseen = scorer_of((without(graph, TARGET, int(row)), named), trained).parts(heads(scorer, np.array([row])), TARGET)
        for name in ("bridge", "close", "wide", "walk"):
            assert np.allclose(getattr(parts, name), getattr(unseen, name), atol=1e-4), name
        assert np.allclose(parts.counts, unseen.counts)


def test_leaving_out_changes_every_part(scorer: TailScorer) -> None:
    out, seen = (scorer.parts(heads(scorer, left_out=left_out), TARGET) for left_out in (True, False))
    for name in set(PARTS) - {"alike"}:  # which the tails of another type have not
        assert not np.allclose(getattr(out, name), np.broadcast_to(getattr(seen, name), out.close.shape), atol=1e-4), name


def test_parts_are_at_least_zero_and_scaled_ones_at_most_one(scorer: TailScorer, other: TailScorer) -> None:
    for each in (scorer, other):
        for left_out in (False, True):
            parts = each.parts(heads(each, left_out=left_out), TARGET)
            scaled = parts.scaled()
            assert tuple(scaled) == PARTS
            for name, part in scaled.items():
                assert getattr(parts, name).min() >= 0.0
                best = 0.0 if name == "alike" else 1.0
                assert part.min() >= 0.0 and part.max(axis=-1) == pytest.approx(best, abs=1e-6), name


def test_a_part_that_is_zero_everywhere_stays_zero() -> None:
    zero, one = np.zeros((1, 3), np.float32), np.ones((1, 1), np.float32)
    parts = Parts(zero, zero, zero, zero, zero, zero, one, one.astype(np.int64), zero)
    assert all(not part.any() for part in parts.scaled().values())


def test_another_bridge_gives_its_cosines(other: TailScorer) -> None:
    asked, cosines = heads(other), other.cosines(heads(other), TARGET)[1]
    carried, drugs = unit(other.bridge.transform(asked.x, TARGET)), other.projections[NodeType.DRUG]
    assert np.allclose(cosines, [[float(c @ d) for d in drugs] for c in carried], atol=1e-5)
    assert np.allclose(other.parts(asked, TARGET).bridge, np.maximum(cosines, 0.0), atol=1e-6)
    given = np.linspace(-1.0, 1.0, cosines.size, dtype=np.float32).reshape(cosines.shape)
    assert np.allclose(other.parts(asked, TARGET, cosines=given).bridge, np.maximum(given, 0.0))


def test_cosines_of_graph_nodes_leave_their_own_edges_out(scorer: TailScorer) -> None:
    carried, cosines = scorer.cosines(heads(scorer, left_out=True), TARGET)
    assert np.allclose(carried, unit(scorer.bridge.transform_left_out(ROWS, TARGET)), atol=1e-6)  # type: ignore[attr-defined]
    assert np.allclose(cosines, carried @ scorer.projections[NodeType.DRUG].T, atol=1e-6)
    assert np.abs(cosines - scorer.cosines(heads(scorer), TARGET)[1]).max() > 0.01


def test_the_cache_gives_what_a_fresh_scorer_gives(world, trained, other: TailScorer) -> None:  # type: ignore[no-untyped-def]
    """Also after a query was left out, which overwrites its own similarity in place."""
    for make in (lambda: scorer_of(world, trained), lambda: scorer_of(world, other.bridge)):
        used, row = make(), np.array([5])
        asked = heads(used, row)
        expected = make().similarities(asked, NodeType.PROTEIN)
        used.parts(heads(used, row, left_out=True), TARGET)
        assert np.array_equal(used.similarities(asked, NodeType.PROTEIN), expected)
        assert expected[0, 5] == pytest.approx(1.0, abs=1e-5)
        used.similarities(asked, NodeType.PROTEIN)[:] = -7.0
        assert np.array_equal(used.similarities(asked, NodeType.PROTEIN), expected)
        again, fresh = used.parts(asked, TARGET), make().parts(asked, TARGET)
        assert all(np.array_equal(getattr(again, name), getattr(fresh, name)) for name in (*PARTS, "similar", "neighbours"))


def test_the_cache_is_of_one_query_and_one_type(scorer: TailScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for t, like in scorer.likeness.items():
        monkeypatch.setattr(like, "of", lambda heads, t=t, real=like.of: calls.append(t.value) or real(heads))
    drugs, proteins = Heads(scorer.tables[NodeType.DRUG][:2]), Heads(scorer.tables[NodeType.PROTEIN][:2])
    one, two = drugs[:1], drugs[1:]
    for asked, node_type in ((one, "drug"), (one, "drug"), (two, "drug"), (two, "disease"), (one, "drug")):
        found = scorer.similarities(asked, NodeType(node_type))
        assert np.allclose(found, asked.x @ scorer.tables[NodeType(node_type)].T, atol=1e-5)
    assert calls == ["drug", "drug", "disease", "drug"]
    scorer.similarities(proteins, NodeType.PROTEIN)
    scorer.similarities(proteins, NodeType.PROTEIN)
    assert calls[4:] == ["gene/protein"] * 2


class ByLength:
    """An aligner whose similarity to every node is a hundredth of a value's length."""

    def __init__(self, n: int) -> None:
        self.n = n

    def similarities(self, sequences: Sequence[str]) -> Vectors:
        return np.repeat(np.array([[len(s) / 100] for s in sequences], np.float32), self.n, axis=1)

    def table(self, progress: Callable[[str, int, int], None]) -> NDArray[np.float16]:
        raise NotImplementedError

    def kept(self, rows: np.ndarray) -> ByLength:
        return ByLength(len(rows))

    def identities(self, sequence: str, rows: Sequence[int]) -> list[tuple[float, int]]:
        raise NotImplementedError


def lengths(scorer: TailScorer) -> Likeness:
    x = scorer.tables[NodeType.PROTEIN]
    return Likeness(x, np.eye(len(x), dtype=np.float16), ByLength(len(x)))


def like_of(tables: dict[NodeType, np.ndarray], planted: np.ndarray) -> dict[NodeType, Likeness]:
    aligned = Likeness(tables[NodeType.PROTEIN], planted, ByLength(len(planted)))
    return {t: Likeness(x) for t, x in tables.items()} | {NodeType.PROTEIN: aligned}


def test_the_cache_tells_queries_of_one_vector_apart_by_their_values(scorer: TailScorer) -> None:
    """Sequences may differ where their embeddings do not."""
    scorer.likeness = dict(scorer.likeness) | {NodeType.PROTEIN: lengths(scorer)}
    x = scorer.tables[NodeType.PROTEIN][:1]
    for value in ("M", "MK", "MK", "M"):
        assert np.allclose(scorer.similarities(Heads(x, values=[(value,)]), NodeType.PROTEIN), len(value) / 100)


def test_the_likeness_given_takes_the_place_of_cosines(world, trained) -> None:  # type: ignore[no-untyped-def]
    """Planted: every protein is like the next one only, and not at all as its vector says. Analogues and the bridge follow."""
    graph, named = world
    tables, n = by_type(named), len(named["gene/protein"])
    planted = np.eye(n, dtype=np.float32)
    planted[np.arange(n), (np.arange(n) + 12) % n] = 0.9  # a protein of the next family
    cosines, given = TailScorer(graph, tables, {}, trained), TailScorer(graph, tables, {}, trained, like_of(tables, planted))
    edges = given.view(TARGET).edges.toarray()
    for row in ROWS:
        asked = Heads(tables[NodeType.PROTEIN][[row]], np.array([row]))
        found, usual = given.parts(asked, TARGET), cosines.parts(asked, TARGET)
        assert found.nearest == pytest.approx([0.9]) and found.neighbours[0, 0] == (row + 12) % n
        assert np.allclose(found.close[0], edges[(row + 12) % n])
        assert np.allclose(found.bridge[0] > 0.0, edges[(row + 12) % n]) and not np.allclose(found.bridge, usual.bridge, atol=0.1)


def test_the_bridges_system_is_that_of_the_likeness(world, trained) -> None:  # type: ignore[no-untyped-def]
    """Weights from random similarities among heads, left out, by a dense solve: cosines take no part in it."""
    graph, named = world
    tables, n = by_type(named), len(named["gene/protein"])
    drawn = np.random.default_rng(6).uniform(0.1, 0.4, (n, n)).astype(np.float32)
    planted = np.where(np.eye(n) > 0, np.float32(1.0), (drawn + drawn.T) / 2)
    scorer = TailScorer(graph, tables, {}, trained, like_of(tables, planted))
    edges = scorer.view(TARGET).edges.toarray()
    found = scorer.parts(heads(scorer, left_out=True), TARGET).bridge
    for scores, row in zip(found, ROWS, strict=True):
        others = np.setdiff1d(np.flatnonzero(edges.any(axis=1)), row)
        kernel = planted[np.ix_(others, others)].astype(np.float64) ** POWER + trained.ridge * np.eye(len(others))
        weights = np.linalg.solve(kernel, planted[row, others].astype(np.float64) ** POWER)
        expected = weights @ edges[others]
        assert np.allclose(scores, np.maximum(expected, 0.0), atol=1e-4) and expected.max() > 0.0


def test_a_relation_without_edges_gives_empty_parts(trained) -> None:  # type: ignore[no-untyped-def]
    graph, named = make_world()
    for row in range(36):
        graph = without(graph, TARGET, row)
    parts = scorer_of((graph, named), trained).parts(Heads(named["gene/protein"][:2]), TARGET)
    assert all(not np.any(getattr(parts, name)) for name in PARTS)
    assert parts.nearest.tolist() == [0.0, 0.0]


def test_tails_of_the_heads_own_type_are_told_by_their_likeness_to_it(world) -> None:  # type: ignore[no-untyped-def]
    """The head itself, where it is a node of the graph, is no tail of its own."""
    graph, named = world
    same = Relation("binds", "gene/protein", "gene/protein")
    positions = graph.by_type[NodeType.PROTEIN]
    bound = KnowledgeGraph(
        graph.name, graph.nodes, (*graph.relations, same), np.append(graph.head, positions[:-1]),
        np.append(graph.relation, np.full(len(positions) - 1, len(graph.relations), graph.relation.dtype)),
        np.append(graph.tail, positions[1:]), np.append(graph.source, np.zeros(len(positions) - 1, graph.source.dtype)), graph.sources,
    )  # fmt: skip
    scorer = scorer_of((bound, named), FixedBridge({t: x.shape[1] for t, x in named.items()}))
    out = scorer.parts(heads(scorer, left_out=True), same)
    cosines = np.maximum(unit(named["gene/protein"][ROWS]) @ unit(named["gene/protein"]).T, 0.0) ** 2
    cosines[np.arange(len(ROWS)), ROWS] = 0.0
    assert np.allclose(out.alike, cosines, atol=1e-5) and out.alike.any()
    assert not scorer.parts(heads(scorer), TARGET).alike.any()
