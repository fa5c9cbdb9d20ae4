"""Text search: by words, by meaning, both fused; types, snippets, ties, threads, and what a home's index answers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from biobridge_rag.retrieval.texts import TextSearch, nearest_in, query_tokens
from biobridge_rag.store.index import FROZEN, NodeIndex
from biobridge_rag.types import KnowledgeGraph, Node, NodeType, Relation, Vectors

P, D, S, B = NodeType.PROTEIN, NodeType.DRUG, NodeType.DISEASE, NodeType.BIOLOGICAL_PROCESS
NODES = (
    Node("1", P, "IL6", "interleukin 6", synonyms=("P05231", "interleukin 6")),
    Node("2", P, "HRH1", "histamine receptor H1", synonyms=("histamine receptor H1",)),
    Node("3", P, "MET", "MET proto-oncogene", synonyms=("MET proto-oncogene",)),
    Node("DB1", D, "loratadine", "A drug for allergies. It is a histamine H1 receptor antagonist. It was met with interest."),
    Node("DB2", D, "siltuximab", "An antibody that binds IL-6. It treats Castleman's disease."),
    Node("D1", S, "tinea capitis", "A dermatophytosis that results_in fungal infection located_in the scalp."),
    Node("D2", S, "asthma", "A disease of the airways."),
    Node("D3", S, "copper storage disorder", "A disorder of copper in the liver."),
    Node("G1", B, "response to histamine"),
)


def graph_of(nodes: tuple[Node, ...]) -> KnowledgeGraph:
    none = np.zeros(0, np.int32)
    return KnowledgeGraph("g", nodes, (Relation("t", "drug", "disease"),), none, none.astype(np.int16), none, none.astype(np.int16), ())


@pytest.fixture(scope="module")
def search() -> TextSearch:
    return TextSearch(graph_of(NODES))


def names(search: TextSearch, text: str, k: int = 3, types: tuple[NodeType, ...] | None = None) -> list[str]:
    return [hit.node.name for hit in search.search(text, k, types)]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("What does IL-6 do?", "IL6"), ("il6", "IL6"), ("Which drug blocks the histamine H1 receptors?", "HRH1"),
        ("Loratadine", "loratadine"),
        ("fungal infections of the scalp", "tinea capitis"), ("P05231", "IL6"),
    ],
)  # fmt: skip
def test_words_find_the_node(search: TextSearch, text: str, name: str) -> None:
    assert names(search, text)[0] == name


def test_types_are_kept_to(search: TextSearch) -> None:
    assert names(search, "histamine", 9, (D,)) == ["loratadine"]
    assert set(names(search, "histamine", 9)) == {"HRH1", "loratadine", "response to histamine"}
    assert names(search, "histamine", 9, ()) == []


@pytest.mark.parametrize("text", ["", "   ", "?!", "of the", "zzzz qqqq"])
def test_nothing_to_look_for_finds_nothing(search: TextSearch, text: str) -> None:
    assert search.search(text) == [] and search.search("asthma", 0) == []


def test_a_question_of_asking_words_alone_is_looked_for() -> None:
    assert query_tokens("Which gene is related?") == ["gene", "related"] and query_tokens("Which gene causes asthma?") == [
        "cause",
        "asthma",
    ]


def test_long_texts_are_cut(search: TextSearch) -> None:
    assert names(search, "asthma " + "word " * 50_000 + "loratadine") == ["asthma"]


def test_the_snippet_is_the_sentence_that_fits(search: TextSearch) -> None:
    hit = search.search("antagonist of the receptor H1", types=(D,))[0]
    assert hit.snippet == "It is a histamine H1 receptor antagonist." and hit.score == 1.0 and hit.how == "words 1"


def test_an_empty_graph_finds_nothing() -> None:
    assert TextSearch(graph_of(())).search("asthma") == [] and TextSearch(graph_of(())).mentioned_in(NODES[0]) == []


def test_ranks_are_fused() -> None:
    order = {S: [("D3", 0.9), ("D2", 0.5), ("D1", 0.1)], B: [("G1", 0.7)]}
    fused = TextSearch(graph_of(NODES), lambda t, _text, k: order.get(t, [])[:k])
    hits = {hit.node.name: hit for hit in fused.search("asthma", 9)}
    assert list(hits) == ["asthma", "copper storage disorder", "response to histamine", "tinea capitis"]
    assert hits["asthma"].how == "words 1, meaning 3" and hits["copper storage disorder"].how == "meaning 1"
    assert hits["asthma"].score == pytest.approx((1 / 61 + 1 / 63) * 61 / 2)
    proteins = fused.search("interleukin", 1)[0]
    assert proteins.node.name == "IL6" and proteins.score == 1.0  # no vectors of text: words alone


def test_the_index_of_a_home_is_searched(tmp_path: Path) -> None:
    graph, index = graph_of(NODES), NodeIndex(tmp_path)
    try:
        for node_type in (S, B):
            nodes = [graph.nodes[i] for i in graph.by_type[node_type]]
            index.write(node_type, FROZEN, nodes, np.eye(4, dtype=np.float32)[: len(nodes)], "x", lambda *_: None)

        def encode(node_type: NodeType, groups: object) -> Vectors:
            assert groups == [("metal overload",)]
            return np.array([[0.1, 0.2, 0.9, 0.0]], dtype=np.float32)

        hits = TextSearch(graph, nearest_in(index, encode)).search("metal overload", 1)
    finally:
        index.close()
    assert [(hit.node.name, hit.how) for hit in hits] == [("copper storage disorder", "meaning 1")]


def test_descriptions_that_name_a_node(search: TextSearch) -> None:
    assert [(p.node.name, p.text) for p in search.mentioned_in(NODES[0])] == [("siltuximab", "An antibody that binds IL-6.")]
    assert search.mentioned_in(NODES[2]) == []  # "met" is no MET
    assert [p.node.name for p in search.mentioned_in(Node("X", S, "Castleman disease"))] == ["siltuximab"]


def test_threads_share_one_index() -> None:
    fresh = TextSearch(graph_of(NODES))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: names(fresh, "histamine receptor"), range(32)))
    assert all(rows == found[0] for rows in found) and found[0][0] == "HRH1"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=300))
def test_any_text_is_searched_the_same_twice(search: TextSearch, text: str) -> None:
    found = search.search(text)
    assert found == search.search(text) and all(0 < hit.score <= 1 and len(hit.snippet) <= 400 for hit in found)
