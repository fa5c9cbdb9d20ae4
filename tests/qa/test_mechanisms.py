"""The mechanism of a drug in an answer: its ranked targets, what is not settled, what is only predicted, what is not known."""

from __future__ import annotations

from collections.abc import Callable

from biobridge_rag.qa.answering import Answerer, Texts
from biobridge_rag.qa.arms import FULL
from biobridge_rag.retrieval.linking import NodeLinker
from biobridge_rag.types import Answer, KnowledgeGraph, Node, NodeType, Query, Relation, Retrieval
from tests.qa.worlds import MORE, Retrieve, graph_of, ranking

D = NodeType.DRUG
MANY = graph_of(edges=[("lapatinib", "target", name) for name in ("EGFR", "ERBB2", "TP53")] + [("lapatinib", "indication", "rash")])
QUESTION = "Which gene plays the most significant mechanistic role in how Drug lapatinib treats the Disease rash?"


def ask(
    graph: KnowledgeGraph, retrieve: Retrieve, question: str = QUESTION, described: Callable[[Node, Node], float] | None = None,
    queries: tuple[Query, ...] = (),
) -> Answer:  # fmt: skip
    texts = Texts(lambda text, k: [], described) if described is not None else None
    return Answerer(graph, NodeLinker(graph), retrieve, None, texts, FULL).ask(question, queries)


def test_targets_are_ranked_and_the_reason_is_said() -> None:
    answer = ask(MANY, ranking(MANY, "TP53", bridge=0.6))
    assert answer.text.startswith(
        "lapatinib targets TP53 [3]. The graph links 3 proteins to **lapatinib** [1]: TP53 [3], EGFR [4] and ERBB2"
    )
    assert answer.prediction == ("TP53", "EGFR", "ERBB2") and not answer.abstained and answer.unsupported == ()
    assert "the bridge gives it 0.60 from drugs like lapatinib, its own edges left out" in answer.text


def test_many_targets_that_no_text_settles_are_abstained_from() -> None:
    silent = ask(MANY, ranking(MANY, "TP53"), described=lambda drug, node: 0.0)
    assert silent.abstained and "Which of these targets carries the effect is not settled" in silent.text and silent.unsupported == ()
    assert silent.prediction[0] == "TP53", "the ranking is still there"
    told = ask(MANY, ranking(MANY, "TP53"), described=lambda drug, node: float(node.name == "ERBB2"))
    assert not told.abstained and told.prediction[0] == "ERBB2" and "the description of lapatinib speaks of it" in told.text
    two = graph_of(edges=[("lapatinib", "target", "EGFR"), ("lapatinib", "target", "TP53"), ("lapatinib", "indication", "rash")])
    assert not ask(two, ranking(two), described=lambda drug, node: 0.0).abstained, "two targets are few"


def test_only_predicted_is_called_so_and_unlikely_is_abstained_from() -> None:
    question = "What is the mechanism of action of afatinib?"
    graph = graph_of()
    likely = ask(graph, ranking(graph, "EGFR", probability=0.7), question)
    assert "The graph holds no target of afatinib. What follows is only predicted: EGFR first, with a probability of 70 %" in likely.text
    assert not likely.abstained and likely.prediction == ("EGFR",) and likely.unsupported == ()
    assert ask(graph, ranking(graph, "EGFR", probability=0.3), question).abstained


def test_nothing_known_and_nothing_predicted_abstains() -> None:
    graph = graph_of(edges=[("afatinib", "enzyme", "TP53"), ("gefitinib", "target", "EGFR")])
    answer = ask(graph, ranking(graph), "How does afatinib work?")
    assert answer.abstained and answer.prediction == () and "none is predicted" in answer.text
    assert "afatinib is linked to TP53 as an enzyme" in answer.text, "what else is known of it is told"


def test_a_molecule_that_turns_out_to_be_a_node_has_that_nodes_targets() -> None:
    def recognising(query: Query, relation: Relation, top: int) -> Retrieval:
        return Retrieval(Query(D, query.name, query.value, MORE["lapatinib"]), relation, ())

    answer = ask(MANY, recognising, "How does it work?", queries=(Query(D, "my molecule", "CCO"),))
    assert "my molecule is lapatinib (DB01259) in the graph." in answer.text and "lapatinib targets EGFR" in answer.text
    assert answer.unsupported == () and not answer.abstained
    unknown = ask(MANY, ranking(MANY), "How does it work?", queries=(Query(D, "my molecule", "CCO"),))
    assert unknown.abstained and "The graph holds no target of my molecule, and none is predicted." in unknown.text
