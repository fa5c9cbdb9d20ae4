"""Transfer without training edges: it finds what was planted, equals loops, reads nothing it should not, and every option counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from biobridge_rag.bridge.model import unit
from biobridge_rag.errors import InputError
from biobridge_rag.evaluation import transfer
from biobridge_rag.evaluation.ranking import rank
from biobridge_rag.evaluation.transfer import InverseScorer, TransferScorer, random_expectation, standardised
from biobridge_rag.graph.incidence import incidence
from biobridge_rag.graph.primekg import UnseenNodes
from biobridge_rag.graph.splits import check_leakage, draw, hold_out
from biobridge_rag.retrieval.likeness import Heads
from biobridge_rag.types import KnowledgeGraph, NodeType, Relation, Vectors
from tests.evaluation.conftest import graph_of_pairs

FAMILIES = 5
EACH = {NodeType.PROTEIN: 9, NodeType.DRUG: 7, NodeType.DISEASE: 8, NodeType.BIOLOGICAL_PROCESS: 6, NodeType.CELLULAR_COMPONENT: 5}
WIDTH = {t: {NodeType.PROTEIN: 24, NodeType.DRUG: 18}.get(t, 20) for t in EACH}  # types of texts share an encoder
TARGET = Relation("target", "drug", "gene/protein")
ENZYME = Relation("enzyme", "drug", "gene/protein")
ASSOCIATED = Relation("associated with", "disease", "gene/protein")
INDICATION = Relation("indication", "drug", "disease")
PROCESS = Relation("interacts with", "biological_process", "gene/protein")
COMPONENT = Relation("interacts with", "cellular_component", "gene/protein")
PPI = Relation("ppi", "gene/protein", "gene/protein")
ALL = (TARGET, ENZYME, ASSOCIATED, INDICATION, PROCESS, COMPONENT, PPI)
Pairs = dict[Relation, list[tuple[int, int]]]


def graph_of(pairs: Pairs) -> KnowledgeGraph:
    """Pairs of rows in the types' tables; every edge also stands in the other direction."""
    return graph_of_pairs(pairs, {t: FAMILIES * each for t, each in EACH.items()})


def family(node_type: str, row: int) -> int:
    return row // EACH[NodeType(node_type)]


@dataclass(frozen=True)
class Planted:
    """Families of nodes, alike within a type, across types of texts too, and linked within the family."""

    pairs: Pairs
    tables: dict[NodeType, Vectors]
    new: dict[NodeType, Vectors]

    def without(self, *relations: Relation) -> KnowledgeGraph:
        return graph_of({r: [] if r in relations else p for r, p in self.pairs.items()})


@pytest.fixture(scope="module")
def planted() -> Planted:
    rng = np.random.default_rng(5)
    texts = rng.standard_normal((FAMILIES, 20))
    tables, new = {}, {}
    for t, each in EACH.items():
        centres = rng.standard_normal((FAMILIES, WIDTH[t])) if t in (NodeType.PROTEIN, NodeType.DRUG) else texts
        tables[t] = unit(np.repeat(centres, each, axis=0) + 0.5 * rng.standard_normal((FAMILIES * each, WIDTH[t])))
        new[t] = unit(centres + 0.5 * rng.standard_normal(centres.shape))
    pairs = {}
    for r in ALL:
        size = [len(tables[NodeType(t)]) for t in (r.head_type, r.tail_type)]
        alike = [(h, t) for h in range(size[0]) for t in range(size[1]) if family(r.head_type, h) == family(r.tail_type, t)]
        pairs[r] = [(h, t) for h, t in alike if rng.random() < 0.5 and (r is not PPI or h < t)]
    return Planted(pairs, tables, new)


def scores(planted: Planted, graph: KnowledgeGraph, relation: Relation, **options: float) -> dict[str, Vectors]:
    """Of a new head of each family."""
    scorer = TransferScorer(graph, planted.tables, **options)  # type: ignore[arg-type]
    return scorer.score(Heads(planted.new[NodeType(relation.head_type)]), relation)


def found(values: Vectors, relation: Relation) -> float:
    """The share of the five best tails that are of the head's family; chance is one in FAMILIES."""
    best = np.argsort(-values, axis=1)[:, :5]
    return float(np.mean([[family(relation.tail_type, int(t)) == i for t in row] for i, row in enumerate(best)]))


def test_a_relation_without_edges_is_found_through_the_types_between(planted: Planted) -> None:
    graph = planted.without(INDICATION)
    for relation in (INDICATION, INDICATION.inverse):
        out = scores(planted, graph, relation)
        assert set(out) == {"fused", "composed", "degree"}
        assert found(out["composed"], relation) >= 0.8 and found(out["fused"], relation) >= 0.8
        assert found(out["degree"], relation) <= 0.5


def test_another_relation_of_the_same_types_stands_in(planted: Planted) -> None:
    graph = planted.without(TARGET, INDICATION, PPI)
    out = scores(planted, graph, TARGET)
    assert set(out) == {"fused", "parallel", "degree"} and found(out["parallel"], TARGET) >= 0.8
    assert "parallel" not in scores(planted, planted.without(TARGET, ENZYME), TARGET)


def test_a_type_without_edges_borrows_those_of_the_other_texts(planted: Planted) -> None:
    graph = planted.without(ASSOCIATED, INDICATION)
    for relation in (ASSOCIATED, ASSOCIATED.inverse, INDICATION, INDICATION.inverse):
        out = scores(planted, graph, relation)
        known = {"degree"} if relation.tail_type != "disease" else set()  # no edge reaches a disease
        assert set(out) == {"fused", "sibling"} | known
        assert found(out["sibling"], relation) >= 0.7, relation


def test_rows_of_a_borrowing_head_are_not_taken_for_rows_of_the_lender(planted: Planted) -> None:
    scorer = TransferScorer(planted.without(ASSOCIATED, INDICATION), planted.tables)
    x, rows = planted.tables[NodeType.DISEASE][:9], np.arange(9)
    alone, seen = (scorer.score(Heads(x, r), ASSOCIATED)["sibling"] for r in (None, rows))
    assert np.array_equal(alone, seen)


def test_only_a_type_without_edges_has_siblings(planted: Planted) -> None:
    assert "sibling" not in scores(planted, planted.without(ASSOCIATED), ASSOCIATED)
    drugless = planted.without(TARGET, ENZYME, INDICATION)
    assert scores(planted, drugless, TARGET.inverse) == {}  # no text, so nothing to borrow from
    assert set(scores(planted, drugless, TARGET)) == {"degree", "fused"}
    tables = {**planted.tables, NodeType.DISEASE: planted.tables[NodeType.DISEASE][:, :7]}
    lone = TransferScorer(planted.without(ASSOCIATED, INDICATION), tables)
    assert set(lone.score(Heads(planted.new[NodeType.DISEASE][:, :7]), ASSOCIATED)) == {"degree", "fused"}  # another encoder


def test_neither_the_relation_asked_for_nor_its_inverse_is_read(planted: Planted) -> None:
    full = graph_of(planted.pairs)
    for relation in (INDICATION, TARGET.inverse, PPI, ASSOCIATED):
        gone = next(r for r in ALL if r in (relation, relation.inverse))
        there, absent = scores(planted, full, relation), scores(planted, planted.without(gone), relation)
        assert set(there) == set(absent) >= {"fused", "composed"}
        for method, values in there.items():
            assert np.array_equal(values, absent[method]), (relation, method)


def weights_by_hand(planted: Planted, relation: Relation, head: Vectors, rows: list[int]) -> Vectors:
    x = planted.tables[NodeType(relation.head_type)][rows].astype(np.float64)
    gram = np.maximum(x @ x.T, 0) ** 3 + np.eye(len(rows))
    return np.maximum(x @ head.astype(np.float64), 0) ** 3 @ np.linalg.inv(gram)


def by_hand(planted: Planted, graph: KnowledgeGraph, head: Vectors, own: int | None, steps: tuple[Relation, Relation | None]) -> Vectors:
    """One head's scores by loops. own: its row, whose edges of the first relation are left out by solving anew without it."""
    first, second = steps
    edges = incidence(graph, first).toarray().astype(np.float64)
    rows = [i for i in range(len(edges)) if edges[i].any() and i != own]
    w = weights_by_hand(planted, first, head, rows)
    last = 0.25 if second is None else 0.5
    tails = np.maximum(edges.sum(axis=0), 1) ** -last
    reached = sum(w[k] * edges[i] / edges[i].sum() ** 0.5 * tails for k, i in enumerate(rows))
    if second is None:
        return reached
    onward = incidence(graph, second).toarray().astype(np.float64)
    out = np.zeros(onward.shape[1])
    for b in range(len(onward)):
        for t in np.flatnonzero(onward[b]):
            out[t] += reached[b] / onward[b].sum() ** 0.5 / onward[:, t].sum() ** 0.25
    return out


def test_scores_equal_loops_for_new_heads_and_for_nodes_without_their_own_edges(planted: Planted) -> None:
    pairs = {r: [(h, t) for h, t in p if not (r == TARGET and h == 11)] for r, p in planted.pairs.items()}
    graph = graph_of({**pairs, INDICATION: [], PPI: []})
    scorer = TransferScorer(graph, planted.tables)
    x = planted.tables[NodeType.DRUG]
    rows = np.array([0, 11, 34, 3])  # row 11 has no target, so nothing of it is left out there
    seen, new = (scorer.score(Heads(x[rows], r), INDICATION)["composed"] for r in (rows, None))
    for k, row in enumerate(rows):
        for own, values in ((int(row), seen), (None, new)):
            expected = sum(by_hand(planted, graph, x[row], own, (r, ASSOCIATED.inverse)) for r in (TARGET, ENZYME))
            assert np.allclose(values[k], expected, atol=1e-5)
    assert not np.allclose(seen, new, atol=1e-3)
    parallel = scorer.score(Heads(x[rows], rows), TARGET)["parallel"]
    assert np.allclose(parallel[2], by_hand(planted, graph, x[34], 34, (ENZYME, None)), atol=1e-5)


def test_edges_of_a_head_that_is_a_node_never_vote_for_it(planted: Planted) -> None:
    """The leave-one-out weights are those of a graph in which the head has no edge of the relation."""
    own = 4
    rows, x = np.array([own]), planted.tables[NodeType.DRUG][[own]]
    outcome = []
    for there in (True, False):
        pairs = {**planted.pairs, INDICATION: [], PPI: [], ENZYME: []}
        pairs[TARGET] = [(h, t) for h, t in pairs[TARGET] if h != own] + ([(own, 44)] if there else [])
        graph = graph_of(pairs)
        asked = transfer._Asked(x, rows, INDICATION)
        outcome.append(TransferScorer(graph, planted.tables)._attention(asked, TARGET))
    assert outcome[0][0, own] == 0.0 and np.allclose(outcome[0], outcome[1], atol=1e-6)


def test_a_sibling_tail_is_reached_by_likeness_in_blocks(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = planted.without(ASSOCIATED, INDICATION)
    whole = scores(planted, graph, ASSOCIATED.inverse)["sibling"]
    expected = np.zeros_like(whole)
    for r in (PROCESS.inverse, COMPONENT.inverse):
        alike = np.maximum(planted.tables[NodeType(r.tail_type)] @ planted.tables[NodeType.DISEASE].T, 0) ** 3
        onto = np.array([by_hand(planted, graph, x, None, (r, None)) for x in planted.new[NodeType.PROTEIN]])
        expected += onto @ alike / np.sqrt(np.linalg.norm(alike, axis=0))
    assert np.allclose(whole, expected, atol=1e-5)
    monkeypatch.setattr(transfer, "_BLOCK", 7)
    assert np.allclose(scores(planted, graph, ASSOCIATED.inverse)["sibling"], whole, atol=1e-6)


def test_degree_counts_the_other_relations_and_frozen_is_the_cosine(planted: Planted) -> None:
    full = graph_of(planted.pairs)
    out = scores(planted, full, INDICATION)
    count = incidence(full, ASSOCIATED.inverse).sum(axis=0)
    assert np.allclose(out["degree"], np.log1p(np.tile(count, (FAMILIES, 1)))) and "frozen" not in out
    near = scores(planted, full, PPI)["frozen"]
    assert np.allclose(near, planted.new[NodeType.PROTEIN] @ planted.tables[NodeType.PROTEIN].T)


def test_fused_is_the_standardised_sum_of_its_parts(planted: Planted) -> None:
    out = scores(planted, graph_of(planted.pairs), TARGET)
    assert set(out) == {"fused", "composed", "parallel", "degree"}

    def z(v: Vectors) -> Vectors:
        return (v - v.mean(axis=1, keepdims=True)) / v.std(axis=1, keepdims=True)

    assert np.allclose(out["fused"], z(z(out["composed"]) + z(out["parallel"])) + z(out["degree"]), atol=1e-4)
    assert np.array_equal(standardised(np.full((2, 3), 0.1, np.float32)), np.zeros((2, 3)))


@pytest.mark.parametrize("option", [{"ridge": 3.0}, {"damping": 0.9}, {"most": 9}])
def test_every_option_changes_the_result(planted: Planted, option: dict[str, float]) -> None:
    graph = graph_of(planted.pairs)
    before, after = (scores(planted, graph, TARGET, **o) for o in ({}, option))
    assert not np.allclose(before["composed"], after["composed"], atol=1e-4)
    assert not np.allclose(before["parallel"], after["parallel"], atol=1e-4)


def test_the_seed_draws_the_heads_that_are_read(planted: Planted) -> None:
    graph = graph_of(planted.pairs)
    same, again, other = (scores(planted, graph, TARGET, most=9, seed=s)["composed"] for s in (0, 0, 1))
    assert np.array_equal(same, again) and not np.allclose(same, other, atol=1e-4)


def test_factors_that_are_dropped_to_save_memory_are_made_again(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = TransferScorer(graph_of(planted.pairs), planted.tables)
    heads = Heads(planted.new[NodeType.DRUG])
    before = scorer.score(heads, TARGET)["fused"]
    assert len(scorer._factors) > 1
    monkeypatch.setattr(transfer, "_KEPT", 1)
    scorer._factors.clear()
    assert np.array_equal(scorer.score(heads, TARGET)["fused"], before) and len(scorer._factors) == 1


def test_bad_requests_are_bad_input(planted: Planted) -> None:
    graph = graph_of(planted.pairs)
    with pytest.raises(InputError, match="drug embeddings"):
        TransferScorer(graph, {**planted.tables, NodeType.DRUG: planted.tables[NodeType.DRUG][1:]})
    for wrong in ({"ridge": 0.0}, {"damping": 1.1}, {"damping": -0.1}, {"most": 0}):
        with pytest.raises(InputError, match="ridge above 0"):
            TransferScorer(graph, planted.tables, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "what"), [("relation", INDICATION.key), ("modality", "disease")])
def test_the_protocol_ranks_them_on_the_strict_splits(planted: Planted, name: str, what: str) -> None:
    graph = graph_of(planted.pairs)
    split = draw(name, graph, 0.1, 0, what=what)
    held = hold_out(graph, split)
    assert check_leakage(graph, split, held) == 0 and held.rows is not None
    rows = held.rows
    report = rank(
        [TransferScorer(held.graph, planted.tables), InverseScorer(held.graph)], held.graph, held.unseen,
        lambda t, at: planted.tables[t][rows[at]], split=name, progress=lambda *_: None, rows=rows, untrained=True, resamples=10,
    )  # fmt: skip
    chance = random_expectation(held.graph, held.unseen, rows)
    assert len(report["relations"]) == len(chance) == (2 if name == "relation" else 4)
    for row in report["relations"]:
        key = f"{row['head_type']}|{row['relation']}|{row['tail_type']}"
        assert row["methods"]["fused"]["mrr"] > 1.7 * chance[key]["mrr"]
        assert "inverse" not in row["methods"] and key in report["missing"]["inverse"]  # no inverse edge is left to look up


def test_the_inverse_edge_gives_the_paper_split_away(planted: Planted) -> None:
    graph = graph_of(planted.pairs)
    held = hold_out(graph, draw("paper", graph, 0.3, 0))
    assert held.rows is not None
    rows = held.rows
    report = rank(
        [InverseScorer(held.graph)], held.graph, held.unseen, lambda t, at: planted.tables[t][rows[at]],
        split="paper", progress=lambda *_: None, rows=rows, resamples=10,
    )  # fmt: skip
    for row in report["relations"]:  # all but the tails that are held-out heads themselves, whose edges are gone too
        assert row["methods"]["inverse"]["mrr"] > 0.5
    relation = TARGET
    drugs = [i for i, node in enumerate(held.unseen.nodes) if node.type is NodeType.DRUG]
    at = rows[drugs]
    values = InverseScorer(held.graph).score(Heads(planted.tables[NodeType.DRUG][at], at), relation)["inverse"]
    stated = incidence(held.graph, relation.inverse).toarray().T[at] > 0
    count = np.asarray(incidence(held.graph, relation).sum(axis=0)).ravel()
    assert stated.any() and values[stated].min() >= 1.0 > values[~stated].max() >= 0.0
    for i in range(len(at)):
        for part in (stated[i], ~stated[i]):
            assert np.allclose(values[i, part] - stated[i, part], count[part] / (1 + count.max()), atol=1e-6)  # ties by popularity


def test_the_inverse_needs_heads_of_the_graph_and_an_inverse(planted: Planted) -> None:
    x = planted.tables[NodeType.DRUG][:2]
    full = InverseScorer(graph_of(planted.pairs))
    assert full.score(Heads(x), TARGET) == {} and set(full.score(Heads(x, np.arange(2)), TARGET)) == {"inverse"}
    assert InverseScorer(planted.without(TARGET)).score(Heads(x, np.arange(2)), TARGET) == {}


def test_the_random_expectation_is_the_mean_over_all_orders(planted: Planted) -> None:
    """Against the protocol itself on many random orders, filter, several tails a head and the head itself included."""
    graph = graph_of(planted.pairs)
    nodes = tuple(node for node in graph.nodes if node.type is NodeType.PROTEIN)[:4]
    heads, tails = np.array([0, 0, 0, 1, 2, 2, 3, 3]), np.array([1, 7, 9, 4, 2, 8, 5, 5])  # head 2 is its own tail; one edge twice
    unseen = UnseenNodes(nodes, {PPI: (heads, tails), TARGET.inverse: (heads, tails)})

    @dataclass
    class Shuffled:
        rng: np.random.Generator
        methods: tuple[str, ...] = ("random",)

        def score(self, heads: Heads, relation: Relation) -> dict[str, Vectors]:
            return {"random": self.rng.random((len(heads.x), len(graph.by_type[NodeType(relation.tail_type)]))).astype(np.float32)}

    for rows in (None, np.arange(4)):
        expected = random_expectation(graph, unseen, rows)
        drawn = [
            rank([Shuffled(np.random.default_rng(s))], graph, unseen, lambda t, at: planted.tables[t][at],
                 split="s", progress=lambda *_: None, rows=rows, resamples=1)["relations"]
            for s in range(600)
        ]  # fmt: skip
        for i, relation in enumerate(sorted(unseen.edges)):
            for metric, value in expected[relation.key].items():
                assert np.mean([d[i]["methods"]["random"][metric] for d in drawn]) == pytest.approx(value, abs=0.02)
    apart, together = (random_expectation(graph, unseen, rows) for rows in (None, np.arange(4)))
    assert together[PPI.key]["mrr"] > apart[PPI.key]["mrr"] and together[TARGET.inverse.key] == apart[TARGET.inverse.key]
    left = np.array([42, 42, 42, 44, 44, 44, 44])  # 45 proteins, less other true tails, less the head itself but for head 2
    harmonic = np.cumsum(1 / np.arange(1, 46))
    assert together[PPI.key]["mrr"] == pytest.approx((harmonic[left - 1] / left).mean(), abs=1e-6)
    assert together[PPI.key]["hits@10"] == pytest.approx((10 / left).mean(), abs=1e-6)
