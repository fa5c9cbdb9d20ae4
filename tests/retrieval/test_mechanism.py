"""Targets ranked by what speaks for them: each reason alone changes the order, and what is the drug's own does not."""

from __future__ import annotations

import pytest

from biobridge_rag.retrieval.mechanism import rank_targets
from biobridge_rag.types import KnowledgeGraph, Node, NodeType
from tests.qa.worlds import graph_of

P, D, S = NodeType.PROTEIN, NodeType.DRUG, NodeType.DISEASE
NODES = {
    **{n: Node(n, P, n) for n in ("P1", "P2", "P3")},
    **{n: Node(n, D, n) for n in ("drug", "peer", "other", "third")},
    **{n: Node(n, S, n) for n in ("pain", "back pain", "fever")},
}
OWN = [("drug", "target", "P1"), ("drug", "target", "P2")]


def ranked(*edges: tuple[str, str, str], diseases: tuple[str, ...] = (), **kwargs: object) -> list[str]:
    return [r.node.name for r in rank(graph_of(NODES, [*OWN, *edges]), diseases, **kwargs)]


def rank(graph: KnowledgeGraph, diseases: tuple[str, ...] = (), **kwargs: object) -> list:  # type: ignore[type-arg]
    return rank_targets(graph, NODES["drug"], [NODES["P1"], NODES["P2"]], [NODES[d] for d in diseases], **kwargs)  # type: ignore[arg-type]


def test_equal_targets_stand_by_their_ids_and_share_evenly() -> None:
    found = rank(graph_of(NODES, OWN))
    assert [(r.node.name, r.share, r.reasons) for r in found] == [("P1", 0.5, ()), ("P2", 0.5, ())]


PEER = [("drug", "indication", "pain"), ("peer", "indication", "pain"), ("peer", "target", "P2")]
# What speaks for P2 alone, so that it comes first, and its reason.
FOR_P2: list[tuple[list[tuple[str, str, str]], tuple[str, ...], dict[str, object], str]] = [
    ([], (), {"predicted": {"P2": 0.4}}, "the bridge gives it 0.40 from drugs like drug, its own edges left out"),
    ([], (), {"described": lambda drug, node: float(node.name == "P2")}, "the description of drug speaks of it"),
    ([*PEER, ("other", "target", "P1")], (), {}, "1 of 1 other drugs for its indications target it"),
    ([("drug", "indication", "pain"), ("P2", "associated with", "pain")], (), {}, "it is associated with 1 of its 1 indications"),
    ([("P2", "associated with", "pain")], ("pain",), {}, "it is associated with pain or its parent or child terms"),
    ([("P2", "associated with", "back pain"), ("back pain", "parent-child", "pain")], ("pain",), {},
     "it is associated with pain or its parent or child terms"),
    ([("P2", "associated with", "fever")], ("pain", "fever"), {}, "it is associated with fever or its parent or child terms"),
]  # fmt: skip


@pytest.mark.parametrize(("edges", "diseases", "given", "reason"), FOR_P2)
def test_each_reason_puts_a_target_first(
    edges: list[tuple[str, str, str]], diseases: tuple[str, ...], given: dict[str, object], reason: str
) -> None:
    graph = graph_of(NODES, [*OWN, *edges])
    first, second = rank(graph, diseases, **given)
    assert first.node.name == "P2" and first.reasons == (reason,) and second.reasons == ()
    assert first.score > second.score and first.share > 0.5 and first.share + second.share == pytest.approx(1.0)


def test_peers_for_the_disease_asked_about_count_without_an_indication() -> None:
    edges = [("peer", "indication", "pain"), ("peer", "target", "P2"), ("third", "target", "P1")]
    assert ranked(*edges, diseases=("pain",)) == ["P2", "P1"] and ranked(*edges, diseases=("fever",)) == ["P1", "P2"]


def test_what_many_drugs_have_counts_less() -> None:
    assert ranked(("peer", "target", "P1"), ("other", "target", "P1")) == ["P2", "P1"]


def test_the_drugs_own_edges_are_no_evidence() -> None:
    (alone, same) = rank(graph_of(NODES, [*OWN, ("drug", "indication", "pain")]), ("pain",))
    assert alone.score == same.score == 0.0 and alone.reasons == same.reasons == ()


def test_nothing_to_rank_and_a_drug_that_is_no_node() -> None:
    graph = graph_of(NODES, OWN)
    assert rank_targets(graph, NODES["drug"], []) == []
    stranger = Node("X", D, "stranger")
    (found,) = rank_targets(graph, stranger, [NODES["P1"]], [Node("Y", S, "unknown")], {"P1": 0.3})
    assert found.node.name == "P1" and found.share == 1.0 and "from drugs like stranger" in found.reasons[0]
    (unknown,) = rank_targets(graph, NODES["drug"], [Node("Z", P, "Z")])
    assert unknown.score == 0.0 and unknown.described == 0.0
