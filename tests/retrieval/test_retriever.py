"""The retriever on a small learnable world, with a real bridge and a real Chroma index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from biobridge_rag.bridge.model import unit
from biobridge_rag.bridge.training import TrainingOptions, train_default
from biobridge_rag.errors import InputError
from biobridge_rag.retrieval.fusion import DEFAULT, Fusion, fit
from biobridge_rag.retrieval.likeness import Heads, Likeness
from biobridge_rag.retrieval.retriever import SIMILAR, Retriever
from biobridge_rag.retrieval.scoring import TailScorer
from biobridge_rag.store.index import BRIDGE, FROZEN, NodeIndex
from biobridge_rag.types import NodeType, Query, Relation, Vectors
from tests.retrieval.conftest import PER, TARGET


@pytest.fixture(scope="module")
def retriever(world, tmp_path_factory):  # type: ignore[no-untyped-def]
    graph, named = world
    tables = {NodeType(t): x for t, x in named.items()}
    bridge, honest = train_default(graph, named, TrainingOptions(hidden=48, epochs=2), lambda *_: None)
    projections = {t: unit(bridge.project(x, t.value)) for t, x in tables.items()}
    scorer = TailScorer(graph, tables, projections, bridge)
    fusions = {relation: fit(scorer, relation, left_out.rows, 0) for relation, left_out in honest.items()}
    index = NodeIndex(tmp_path_factory.mktemp("chroma"))
    for node_type, x in tables.items():
        nodes = [graph.nodes[i] for i in graph.by_type[node_type]]
        index.write(node_type, FROZEN, nodes, x, "a", lambda *_: None)
        index.write(node_type, BRIDGE, nodes, projections[node_type], "a", lambda *_: None)
    proteins = tables[NodeType.PROTEIN]
    values = {f"new {f}": unit(proteins[f * PER : (f + 1) * PER].mean(axis=0, keepdims=True)) for f in range(3)}
    yield Retriever(graph, index, bridge, tables, projections, scorer.likeness, fusions, lambda _type, value: values[value])
    index.close()


def query(retriever: Retriever, row: int) -> Query:
    node = retriever.node(NodeType.PROTEIN, row)
    return Query(NodeType.PROTEIN, node.name, node.values[0], node)


def test_known_edges_come_first_with_their_source(retriever: Retriever) -> None:
    found = retriever.retrieve(query(retriever, 0), TARGET, 20)
    known = [h for h in found.hits if h.known]
    truth = set(retriever.scorer.view(TARGET).edges[0].indices)
    assert {int(h.node.id[2:]) for h in known} == truth
    assert [h.known for h in found.hits] == sorted((h.known for h in found.hits), reverse=True)
    assert all(h.probability == 1.0 and h.evidence[0].kind == "edge" and h.evidence[0].source == "made up" for h in known)


def test_predictions_hold_the_rest_of_the_family(retriever: Retriever) -> None:
    found = retriever.retrieve(query(retriever, 0), TARGET, 20)
    predicted = [h for h in found.hits if not h.known]
    left_out = PER - len(retriever.scorer.view(TARGET).edges[0].indices)
    assert {int(h.node.id[2:]) // PER for h in predicted[:left_out]} == {0}
    assert all(0.0 <= h.probability < 1.0 for h in predicted)
    assert {e.kind for e in predicted[0].evidence} == {"analogue", "bridge", "prior"}


def test_an_unseen_protein_gets_its_familys_drugs(retriever: Retriever) -> None:
    found = retriever.retrieve(Query(NodeType.PROTEIN, "new", "new 2"), TARGET, PER)
    assert {int(h.node.id[2:]) // PER for h in found.hits} == {2}
    assert not any(h.known for h in found.hits)
    assert [h.rank for h in found.hits] == list(range(1, PER + 1))
    assert list(found.hits) == sorted(found.hits, key=lambda h: -h.score)


def test_the_query_itself_never_votes(retriever: Retriever) -> None:
    for hit in retriever.retrieve(query(retriever, 5), TARGET, 30).hits:
        assert not any(e.kind == "analogue" and e.node_id == "P5" for e in hit.evidence)


def test_similar_nodes_leave_out_the_query(retriever: Retriever) -> None:
    found = retriever.retrieve(query(retriever, 3), Relation(SIMILAR, "gene/protein", "gene/protein"), 5)
    assert "P3" not in [h.node.id for h in found.hits]
    assert {int(h.node.id[1:]) // PER for h in found.hits} == {0}


def test_the_pool_ranks_as_the_exact_scores_of_all_tails_do(retriever: Retriever) -> None:
    parts = retriever.scorer.parts(Heads(retriever._encode(NodeType.PROTEIN, "new 1")), TARGET)
    exact = retriever.fusions[TARGET].score(parts)[0]
    found = retriever.retrieve(Query(NodeType.PROTEIN, "new", "new 1"), TARGET, 10)
    assert [h.score for h in found.hits] == pytest.approx(sorted(exact, reverse=True)[:10], abs=1e-4)


@pytest.mark.parametrize("top", [0, -1, 5000])
def test_a_top_out_of_range_is_refused(retriever: Retriever, top: int) -> None:
    with pytest.raises(InputError, match="number of hits"):
        retriever.retrieve(query(retriever, 0), TARGET, top)


def test_a_relation_that_is_not_there_lists_those_that_are(retriever: Retriever) -> None:
    with pytest.raises(InputError, match="associated with"):
        retriever.retrieve(query(retriever, 0), Relation("enzyme", "gene/protein", "drug"), 5)


def test_fusion_survives_json() -> None:
    fusion = Fusion(np.arange(6.0), np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.linspace(0, 1, 101), 7)
    again = Fusion.from_dict(fusion.to_dict())
    assert np.array_equal(again.weights, fusion.weights) and np.array_equal(again.calibration, fusion.calibration)
    assert np.allclose(again.likeness, fusion.likeness, atol=1e-4) and again.n_heads == 7


def test_probabilities_are_calibrated_on_a_world_where_they_can_be(retriever: Retriever) -> None:
    """Over all unknown pairs of a family, one in ... is a left-out one; the mean probability must be near the share known."""
    x = np.concatenate([retriever._encode(NodeType.PROTEIN, f"new {f}") for f in range(3)])
    parts = retriever.scorer.parts(Heads(x), TARGET)
    fusion = retriever.fusions[TARGET]
    probability = fusion.probability(fusion.score(parts), parts)
    inside = np.stack([probability[f, f * PER : (f + 1) * PER] for f in range(3)])
    outside = probability[0, PER:]
    assert inside.mean() == pytest.approx(2 / 3, abs=0.15)
    assert outside.mean() < 0.05


@pytest.mark.parametrize("inverse", [False, True])
def test_parts_of_a_node_do_not_know_its_own_edges(world, inverse: bool) -> None:  # type: ignore[no-untyped-def]
    """Left out exactly: the same parts come from a graph that lacks the node's edges of the relation."""
    graph, named = world
    relation = TARGET.inverse if inverse else TARGET
    tables = {NodeType(t): x for t, x in named.items()}
    bridge, _ = train_default(graph, named, TrainingOptions(hidden=48, epochs=0), lambda *_: None)
    scorer = TailScorer(graph, tables, {}, bridge)
    head = NodeType(relation.head_type)
    for row in (0, 7):
        edge_numbers = graph.edge_numbers(relation)
        kept = np.ones(graph.n_edges, dtype=bool)
        kept[edge_numbers[graph.edges(relation)[0] == row]] = False
        cut = replace(graph, head=graph.head[kept], relation=graph.relation[kept], tail=graph.tail[kept], source=graph.source[kept])
        heads = Heads(tables[head][row : row + 1], np.array([row]))
        mine = scorer.parts(heads, relation)
        other = TailScorer(cut, tables, {}, bridge).parts(heads, relation)
        assert scorer.view(relation).edges[row].nnz
        for name in ("bridge", "close", "wide", "walk"):
            assert np.allclose(getattr(mine, name), getattr(other, name), atol=1e-5), name
        voting = mine.similar > 0
        assert np.array_equal(mine.counts, other.counts) and row not in mine.neighbours[voting]
        assert np.array_equal(mine.neighbours[voting], other.neighbours[other.similar > 0])


class Planted:
    """An aligner that finds any value like the proteins of the third family and unlike all others, the last of them most."""

    def __init__(self, n: int, best: float) -> None:
        self.row = np.zeros(n, np.float32)
        self.row[2 * PER :] = np.linspace(best / 2, best, PER)

    def similarities(self, sequences: Sequence[str]) -> Vectors:
        return np.tile(self.row, (len(sequences), 1))

    def identities(self, _sequence: str, rows: Sequence[int]) -> list[tuple[float, int]]:
        return [(i / 100, 1000 + i) for i in rows]


def aligning(retriever: Retriever, best: float) -> Retriever:
    """The same, with proteins compared by that aligner; among each other each is like the next one only."""
    x = retriever.tables[NodeType.PROTEIN]
    among = np.eye(len(x), dtype=np.float16)
    among[np.arange(len(x)), (np.arange(len(x)) + 1) % len(x)] = 0.75
    like = {**retriever.scorer.likeness, NodeType.PROTEIN: Likeness(x, among, Planted(len(x), best))}  # type: ignore[arg-type]
    return Retriever(
        retriever.graph, retriever.index, retriever.bridge, retriever.tables, retriever.projections, like, retriever.fusions,
        retriever._encode,
    )  # fmt: skip


def test_similar_proteins_are_ranked_by_alignment_and_it_is_said(retriever: Retriever) -> None:
    """An unseen one by its value, a node by what is kept; "new 0" is in the first family by its vector."""
    relation = Relation(SIMILAR, "gene/protein", "gene/protein")
    found = aligning(retriever, 0.8).retrieve(Query(NodeType.PROTEIN, "new", "new 0"), relation, 3)
    assert [h.node.id for h in found.hits] == ["P35", "P34", "P33"] and found.hits[0].score == pytest.approx(0.8)
    assert [h.rank for h in found.hits] == [1, 2, 3] and found.hits[0].probability == found.hits[0].score
    assert "35% identical over 1,035 residues to new" in found.hits[0].evidence[0].text
    assert "similarity 0.80 by local alignment" in found.hits[0].evidence[0].text and "by local alignment" in found.notes[0]
    node = aligning(retriever, 0.8).retrieve(query(retriever, 7), relation, 2)
    assert node.hits[0].node.id == "P8" and node.hits[0].score == pytest.approx(0.75)
    usual = retriever.retrieve(Query(NodeType.PROTEIN, "new", "new 0"), relation, 3)
    assert {int(h.node.id[1:]) // PER for h in usual.hits} == {0} and "by the cosine of the frozen embeddings" in usual.notes[0]


def test_all_but_the_query_can_be_asked_for_by_alignment(retriever: Retriever) -> None:
    found = aligning(retriever, 0.8).retrieve(query(retriever, 7), Relation(SIMILAR, "gene/protein", "gene/protein"), 1000)
    assert sorted(int(h.node.id[1:]) for h in found.hits) == [i for i in range(3 * PER) if i != 7]


def test_predictions_follow_the_alignment_and_its_words(retriever: Retriever) -> None:
    """The bridge and the analogues read the likeness, though the vector lies in the first family."""
    found = aligning(retriever, 0.8).retrieve(Query(NodeType.PROTEIN, "new", "new 0"), TARGET, 5)
    assert {int(h.node.id[2:]) // PER for h in found.hits} == {2}
    said = [e for h in found.hits for e in h.evidence if e.kind == "analogue"]
    assert said and all(e.text.startswith(f"{int(e.node_id[1:])}% identical over 1,0{e.node_id[1:]} residues to ") for e in said)
    usual = retriever.retrieve(Query(NodeType.PROTEIN, "new", "new 0"), TARGET, 5)
    assert {int(h.node.id[2:]) // PER for h in usual.hits} == {0}
    assert any(e.text[0].isdigit() and "% like p-" in e.text for h in usual.hits for e in h.evidence if e.kind == "analogue")


@pytest.mark.parametrize(("best", "outside"), [(0.15, True), (0.27, True), (0.29, False)])
def test_what_chance_reaches_is_another_bound_for_alignments(retriever: Retriever, best: float, outside: bool) -> None:
    """A cosine of 0.15 would be no chance. The relation's own percentiles are taken out of the way."""
    aligner = aligning(retriever, best)
    aligner.fusions = {TARGET: replace(DEFAULT, likeness=np.linspace(-1.0, 0.1, 101))}
    found = aligner.retrieve(Query(NodeType.PROTEIN, "new", "new 0"), TARGET, 5)
    assert found.outside == outside == any("Outside" in note for note in found.notes)


def test_a_query_unlike_anything_is_told_so(retriever: Retriever) -> None:
    near = retriever.retrieve(Query(NodeType.PROTEIN, "new", "new 1"), TARGET, 5)
    assert near.likeness is not None and near.likeness >= 5 and not near.outside
    strange = Retriever(
        retriever.graph, retriever.index, retriever.bridge, retriever.tables, retriever.projections, retriever.scorer.likeness,
        retriever.fusions,
        lambda _type, _value: unit(np.ones((1, retriever.tables[NodeType.PROTEIN].shape[1]), np.float32) * -1.0),
    )  # fmt: skip
    far = strange.retrieve(Query(NodeType.PROTEIN, "odd", "odd"), TARGET, 5)
    assert far.outside and far.likeness < 5 and any("Outside of what the graph knows" in note for note in far.notes)
    assert far.to_dict()["out_of_distribution"] is True


def test_fusion_adds_a_part_only_where_it_helps(world) -> None:  # type: ignore[no-untyped-def]
    graph, named = world
    tables = {NodeType(t): x for t, x in named.items()}
    bridge, honest = train_default(graph, named, TrainingOptions(hidden=48, epochs=0), lambda *_: None)
    scorer = TailScorer(graph, tables, {}, bridge)
    fusion = fit(scorer, TARGET, honest[TARGET].rows, 0)
    assert fusion.weights[0] == 1.0 and (fusion.weights >= 0).all()
    few = fit(scorer, TARGET, honest[TARGET].rows[:5], 0)
    assert np.array_equal(few.weights, DEFAULT.weights) and few.n_heads == 5
