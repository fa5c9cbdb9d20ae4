"""Dialogues whose later questions lean on earlier ones: what each is taken to speak of, over the small graph and the starter graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import pytest

from biobridge_rag.qa.answering import Answerer
from biobridge_rag.qa.markdown import md_plain
from biobridge_rag.qa.referring import References
from biobridge_rag.retrieval.linking import NodeLinker
from biobridge_rag.types import Answer, KnowledgeGraph, NodeType, Query, Relation, Retrieval, RetrievedNode
from tests.qa.test_answering import GRAPH, LINKER, retrieve

P, D, S = NodeType.PROTEIN, NodeType.DRUG, NodeType.DISEASE

# Questions, what the last answer says, what it does not say.
Dialogue = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
SMALL: list[Dialogue] = [
    (
        ("Which drugs target EGFR?", "what about the second one?", "and its side effects?"),
        ("Of lapatinib", "side effects"),
        ("gefitinib,",),
    ),
    (("Which drugs target EGFR?", "the second one"), ("lapatinib (DB01259)",), ("EGFR (P00533)",)),
    (("Which drugs target EGFR?", "what about the first?"), ("gefitinib (DB00317)",), ("lapatinib",)),
    (("Which drugs target EGFR?", "the third one"), ("afatinib (DB08916)",), ()),
    (("What does gefitinib target?", "and for lapatinib?"), ("links 2 proteins to lapatinib",), ("gefitinib targets",)),
    (("Which diseases does gefitinib treat?", "and for lapatinib?"), ("links 1 disease to lapatinib: breast cancer",), ()),
    (("Which drugs target EGFR?", "And ERBB2?"), ("links 1 drug to ERBB2: lapatinib",), ("EGFR is",)),
    (("Which drugs target EGFR?", "which of these also hit ERBB2?"), ("ERBB2 among those listed before: lapatinib",), ()),
    (("Which drugs target EGFR?", "do any of them treat breast cancer?"), ("breast cancer among those listed before: lapatinib",), ()),
    (("Which drugs target EGFR?", "which of those are approved for lung cancer?"), ("listed before: gefitinib",), ()),
    (("Which genes are associated with lung cancer?", "which of them interact with ERBB2?"), ("listed before: EGFR",), ()),
    (("Which drugs target EGFR?", "what is the first one used for?"), ("links 1 disease to gefitinib: lung cancer",), ()),
    (("What is EGFR?", "which drugs target it?", "and which diseases is it associated with?"), ("links 1 disease to EGFR",), ()),
    (("What does lapatinib target?", "and what is it used for?"), ("links 1 disease to lapatinib: breast cancer",), ()),
    (("Which drugs target EGFR?", "tell me more about lapatinib"), ("lapatinib (DB01259)",), ("EGFR (P00533)",)),
    (("Which drugs target EGFR?", "compare the first two"), ("the graph links both gefitinib", "only lapatinib"), ("EGFR (P00533)",)),
    (("Which drugs target EGFR?", "those that are approved"), ("disease to gefitinib: lung cancer", "lapatinib: breast cancer"), ()),
    (("Which drugs target EGFR?", "what do they treat?"), ("disease to gefitinib: lung cancer", "lapatinib: breast cancer"), ()),
    (("Which drugs target EGFR?", "what about the former?"), ("gefitinib (DB00317)",), ("EGFR (P00533)",)),
    (("Which drugs target EGFR?", "the ninth one"), ("lists 4, so there is no ninth one",), ("EGFR (P00533)",)),
    (("Does gefitinib target EGFR?", "why?"), ("Yes: gefitinib targets EGFR",), ("gefitinib (DB00317)",)),
    (("Does afatinib target EGFR?", "why?"), ("62 %", "82% like ERBB2"), ("afatinib (DB08916)",)),
    (("Does gefitinib target EGFR?", "and lapatinib?"), ("Yes: lapatinib targets EGFR",), ("gefitinib", "No node")),
    (("Does gefitinib target EGFR?", "and lapatinib?", "why?"), ("Yes: lapatinib targets EGFR",), ("gefitinib",)),
    (("Is gefitinib used for lung cancer?", "and for asthma?"), ("gefitinib is contraindicated in asthma",), ()),
    (("Which diseases is EGFR associated with?", "which drugs treat it?"), ("links 1 drug to lung cancer: gefitinib",), ()),
    (("Which drugs target EGFR?", "the second one", "and what does the first one treat?"), ("disease to gefitinib",), ("EGFR (P00533)",)),
    (("Which drugs target EGFR and ERBB2?", "and which diseases do they treat?"), ("disease to lapatinib", "disease to gefitinib"), ()),
    (("Which drugs target TP53?", "what does the first one target?"), ("1 protein to evil",), ()),
    (("Which drugs target EGFR?", "thanks"), ("holds no node that this question names",), ("EGFR (P00533)",)),
]
STARTER: list[Dialogue] = [
    (("Which drugs act on ABL1?", "the second one"), ("is a drug",), ("ABL1 (P00519)",)),
    (("Which drugs act on ABL1?", "which of these also hit KIT?"), ("drugs to KIT among those listed before", "imatinib"), ()),
    (("What is imatinib used for?", "and for gefitinib?"), ("to gefitinib",), ("imatinib is",)),
    (("What is imatinib?", "which proteins does it act on?", "and its side effects?"), ("Of imatinib", "side effects"), ()),
    (("Which drugs are used for rheumatoid arthritis?", "and for asthma?"), ("to asthma",), ("rheumatoid arthritis:",)),
    (("Which diseases is EGFR associated with?", "And ERBB2?"), ("to ERBB2",), ("EGFR is",)),
    (("Which drugs act on EGFR?", "what is the first one used for?"), ("non-small cell lung",), ("EGFR (P00533)",)),
    (("Which drugs act on ABL1?", "compare the first two"), ("the graph links both bosutinib and dasatinib to ABL1",), ("ABL1 (P00519)",)),
    (("Which drugs act on EGFR?", "those that are approved"), ("cancer",), ("EGFR (P00533)",)),
    (("Does imatinib target KIT?", "and ABL1?"), ("Yes: imatinib targets ABL1",), ("targets KIT",)),
    (("Does imatinib target KIT?", "why?"), ("Yes: imatinib targets KIT",), ("is a drug",)),
    (("Which drugs act on ABL1?", "what do they treat?"), ("to imatinib", "leuk"), ("ABL1 (P00519)",)),
]

Ask = Callable[[str, Sequence[tuple[str, str, Sequence[Query]]]], Answer]


def asker(graph: KnowledgeGraph, linker: NodeLinker, found: Callable[[Query, Relation, int], Retrieval]) -> Ask:
    answerer = Answerer(graph, linker, found)
    return lambda question, history: answerer.ask(question, (), history)


@lru_cache(maxsize=1)
def starter() -> tuple[KnowledgeGraph, NodeLinker]:
    from biobridge_rag.graph.starter import load_starter

    graph = load_starter()
    return graph, NodeLinker(graph)


def edges_alone(query: Query, relation: Relation, top: int) -> Retrieval:
    """What the starter graph states, in its order."""
    graph, _ = starter()
    at = graph.position(query.type, query.node.id) if query.node else None
    tails = [t.tail for t in graph.triples_of(at) if t.relation == relation] if at is not None else []
    return Retrieval(query, relation, tuple(RetrievedNode(n, i + 1, 1.0, 1.0, True) for i, n in enumerate(tails[:top])))


def hold(ask: Ask, dialogue: Dialogue) -> None:
    questions, said, unsaid = dialogue
    history: list[tuple[str, str, Sequence[Query]]] = []
    for question in questions:
        answer = ask(question, history)
        assert answer.question == question
        history.append((question, answer.text, ()))
    text = md_plain(history[-1][1])
    text = " ".join(text.replace(" :", ":").replace(" .", ".").split())
    lead = " ".join(md_plain(history[-1][1].partition("\n\n")[0]).split()).replace(" :", ":").replace(" ,", ",")
    assert [words for words in said if words not in text.replace(" ,", ",")] == [], (lead, history[-1][1])
    assert [words for words in unsaid if words in lead] == [], lead


@pytest.mark.parametrize("dialogue", SMALL, ids=lambda d: " / ".join(d[0]))
def test_over_the_small_graph(dialogue: Dialogue) -> None:
    hold(asker(GRAPH, LINKER, retrieve), dialogue)


@pytest.mark.parametrize("dialogue", STARTER, ids=lambda d: " / ".join(d[0]))
def test_over_the_starter_graph(dialogue: Dialogue) -> None:
    graph, linker = starter()
    hold(asker(graph, linker, edges_alone), dialogue)


@pytest.mark.parametrize("question", ["why?", "the second one", "compare the first two", "and its side effects?", "which of these?"])
def test_a_reference_to_nothing_abstains(question: str) -> None:
    answer = asker(GRAPH, LINKER, retrieve)(question, ())
    assert answer.abstained and answer.citations == () and "holds no node that this question names" in answer.text


REFERENCES = References(GRAPH, LINKER)
DRUGS_OF_EGFR = (
    "Which drugs target EGFR?",
    "- **gefitinib** [2]: targets EGFR\n- **lapatinib** [3]: targets EGFR\n- **afatinib** [4]: 62 %",
    (),
)


def names(question: str, *history: tuple[str, str, Sequence[Query]]) -> list[str]:
    return [q.name for q in REFERENCES.read(question, (), history).entities]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("the first one", ["gefitinib"]),
        ("The 2nd one?", ["lapatinib"]),
        ("what about the last?", ["afatinib"]),
        ("compare the first two", ["gefitinib", "lapatinib"]),
        ("the last two", ["lapatinib", "afatinib"]),
        ("and the latter?", ["afatinib"]),
        ("the fifth one", []),
        ("the first six", []),
        ("what do they treat?", ["gefitinib", "lapatinib", "afatinib"]),
        ("does the second one target ERBB2?", ["lapatinib", "ERBB2"]),
        ("why", ["EGFR"]),
        ("How do you know?", ["EGFR"]),
        ("Is TP53 associated with asthma?", ["TP53", "asthma"]),
        ("Is it true that gefitinib treats asthma?", ["gefitinib", "asthma"]),
        ("It is known that TP53 is associated with asthma", ["TP53", "asthma"]),
        ("Which drugs of this graph target TP53?", ["TP53"]),
        ("Which drugs treat both asthma and breast cancer?", ["asthma", "breast cancer"]),
        ("Do both target ERBB2?", ["ERBB2"]),
        ("Does it target ERBB2?", ["EGFR", "ERBB2"]),
        ("Which of these targets ERBB2: lapatinib or gefitinib?", ["ERBB2", "lapatinib", "gefitinib"]),
        ("thanks", []),
        ("ok", []),
        ("What does imatinob target?", []),
        ("which drugs target JAK2?", []),
        ("which diseases?", ["EGFR"]),
        ("any side effects?", ["EGFR"]),
        ("list more drugs", ["EGFR"]),
    ],
)
def test_what_a_question_refers_to(question: str, expected: list[str]) -> None:
    assert names(question, DRUGS_OF_EGFR) == expected


def test_a_question_that_lists_its_own_nodes_asks_of_no_others() -> None:
    for question in ("Which of these targets ERBB2: lapatinib or gefitinib?", "Which drugs treat both asthma and breast cancer?"):
        assert REFERENCES.read(question, (), [DRUGS_OF_EGFR]).options == []
    assert [n.name for n in REFERENCES.read("Which of these target ERBB2?", (), [DRUGS_OF_EGFR]).options] == [
        "gefitinib", "lapatinib", "afatinib",
    ]  # fmt: skip


def test_a_place_that_is_not_there_is_said() -> None:
    reading = REFERENCES.read("the fifth one", (), [DRUGS_OF_EGFR])
    assert reading.missing == "The last answer lists 3, so there is no fifth one to speak of."


def test_what_is_attached_comes_before_what_was_said() -> None:
    attached = Query(P, "mine", "MKV")
    assert REFERENCES.read("which drugs bind it?", [attached], [DRUGS_OF_EGFR]).entities == [attached]
    assert names("and which diseases is it linked to?", ("what binds it?", "…", [attached])) == ["mine"]


def test_a_chain_of_whys_ends() -> None:
    history = [DRUGS_OF_EGFR, *[("why?", "…", ())] * 30]
    assert REFERENCES.read("why?", (), history).entities is not None
