"""Evidence for several entities: what is attached, what is an option, relations that the graph lacks, paths, comparisons."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from biobridge_rag.qa.answering import Answerer
from biobridge_rag.retrieval.linking import NodeLinker
from biobridge_rag.types import Answer, KnowledgeGraph, Node, NodeType, Query, Relation, Retrieval, RetrievedNode
from tests.qa.test_answering import EDGES, retrieve
from tests.qa.worlds import MORE, Retrieve, graph_of, ranking

P, D, S = NodeType.PROTEIN, NodeType.DRUG, NodeType.DISEASE
GRAPH = graph_of()
UNKNOWN = Query(P, "mystery", "MKVLAA")


def attached(name: str, called: str = "") -> Query:
    return Query(MORE[name].type, called or name, node=MORE[name])


def ask(
    question: str, queries: Sequence[Query] = (), graph: KnowledgeGraph = GRAPH, ranked: Retrieve | None = None,
    history: Sequence[tuple[str, str, Sequence[Query]]] = (),
) -> Answer:  # fmt: skip
    answer = Answerer(graph, NodeLinker(graph), ranked or ranking(graph)).ask(question, queries, history)
    assert answer.unsupported == () and answer.removed == 0
    return answer


def test_an_attached_drug_beside_proteins_is_no_option() -> None:
    answer = ask("Which drugs act on these?", [attached("EGFR"), UNKNOWN, attached("afatinib")])
    assert "holds no edge from EGFR" not in answer.text and "The graph links 2 drugs to **EGFR** [1]" in answer.text
    assert "Not looked up here, as it is what is asked for: afatinib." in answer.text and not answer.abstained
    answer = ask("Which drugs act on EGFR?", [attached("afatinib")])
    assert "The graph links 2 drugs to **EGFR**" in answer.text


def test_attached_drugs_are_options_where_the_question_says_so() -> None:
    answer = ask("Which of these drugs target EGFR?", [attached("gefitinib"), attached("afatinib")])
    assert "The graph links 1 drug to **EGFR** [3] among those named: gefitinib [1]." in answer.text
    none = ask("Which of these drugs target ERBB2?", [attached("gefitinib"), attached("afatinib")])
    assert "The graph holds no edge from ERBB2 to drugs among gefitinib and afatinib." in none.text and none.abstained


def test_named_drugs_are_options() -> None:
    answer = ask("Which drugs, gefitinib or lapatinib, target ERBB2?")
    assert "1 drug to **ERBB2**" in answer.text and answer.prediction == ("lapatinib",)


def test_what_was_spoken_of_before_is_no_option_for_others() -> None:
    history = [("Does gefitinib target EGFR?", "Yes: gefitinib targets EGFR [2].", ())]
    assert "lapatinib targets EGFR" in ask("Which other drugs target it?", history=history).text


def test_one_entity_without_an_answer_does_not_make_all_of_it_abstain() -> None:
    answer = ask("Which drugs act on these?", [attached("EGFR"), UNKNOWN])
    assert not answer.abstained and "mystery is not in the graph" in answer.text and "linked to both" not in answer.text
    assert ask("Which drugs act on these?", [UNKNOWN]).abstained
    assert ask("Which drugs act on these?", [attached("IL13"), UNKNOWN]).abstained, "nothing for any of them"


def test_that_nothing_is_shared_is_said_where_it_is_asked() -> None:
    drugs = [attached("gefitinib"), attached("lapatinib")]
    assert "linked to both" not in ask("what do they treat?", drugs).text
    both = ask("Which diseases do both treat?", drugs)
    assert "The graph holds no diseases linked to both gefitinib and lapatinib." in both.text and both.abstained
    assert "linked to both" in ask("Which diseases are treated by all of these?", drugs).text


def test_partners_of_two_proteins_are_those_of_each() -> None:
    answer = ask("Which proteins interact with EGFR and ERBB2?")
    assert "1 protein to **EGFR** [1]: ERBB2 [2]" in answer.text and "1 protein to **ERBB2** [2]: EGFR [1]" in answer.text


@pytest.mark.parametrize("question", ["Is gefitinib contraindicated in asthma?", "In which diseases is gefitinib contraindicated?"])
def test_a_relation_that_the_graph_lacks_is_said_to_be_lacking(question: str) -> None:
    graph = graph_of(edges=[e for e in EDGES if e[1] != "contraindication"])
    answer = ask(question, graph=graph, ranked=ranking(graph, "asthma"))
    assert "The graph 'more' has no relation 'contraindication' between drugs and diseases, so it cannot tell." in answer.text
    assert answer.abstained and "predicted" not in answer.text.lower() and answer.retrieved == ()


def test_what_is_attached_under_another_name_is_told_by_the_nodes_name() -> None:
    answer = ask("What does it target?", [attached("gefitinib", "Iressa tablet")])
    assert answer.text.startswith("Iressa tablet is gefitinib (DB00317) in the graph. The graph links 1 protein to **gefitinib** [1]")
    assert "is gefitinib (" not in ask("What does it target?", [attached("gefitinib", "GEFITINIB")]).text

    def recognising(query: Query, relation: Relation, top: int) -> Retrieval:
        return Retrieval(Query(P, query.name, query.value, MORE["EGFR"]), relation, ())

    seen = ask("Which drugs bind it?", [UNKNOWN], ranked=recognising)
    assert "mystery is EGFR (P00533) in the graph." in seen.text and "The graph links 2 drugs to **EGFR** [1]" in seen.text


def test_paths_explain_the_best_predictions_of_a_node() -> None:
    answer = ask("Which diseases does lapatinib treat?", ranked=ranking(GRAPH, "lung cancer", "asthma", "rash", "breast cancer"))
    predictions, _, paths = answer.text.partition("**Paths of known edges**")
    lines = [line for line in paths.splitlines() if line.startswith("- ")]
    assert "**Predicted by the model" in predictions and 1 <= len(lines) <= 4
    assert "lapatinib targets EGFR; EGFR is associated with lung cancer" in paths and "rash" not in paths
    assert sum("**lung cancer**" in line for line in lines) <= 2
    cited = {c.name for c in answer.citations}
    assert {"EGFR", "lung cancer", "lapatinib"} <= cited


def test_no_paths_for_what_is_no_node() -> None:
    answer = ask("Which drugs bind it?", [UNKNOWN], ranked=ranking(GRAPH, "gefitinib", "lapatinib"))
    assert "Predicted by the model" in answer.text and "Paths of known edges" not in answer.text


def test_paths_between_a_pair_without_an_edge() -> None:
    connected = ask("How is gefitinib connected to breast cancer?")
    assert connected.text.startswith("The graph holds no edge between gefitinib and breast cancer, only paths over other nodes")
    assert "gefitinib targets EGFR; EGFR interacts with ERBB2; ERBB2 is associated with breast cancer" in connected.text
    assert not connected.abstained and connected.text.count("\n- ") <= 3
    asked = ask("Is gefitinib linked to breast cancer?")
    assert asked.abstained and "Paths of known edges" in asked.text, "a path is no yes"
    apart = ask("How is IL13 connected to rash?")
    assert apart.abstained and apart.text.startswith("The graph holds no edge between IL13 and rash. ")


def test_paths_beside_an_edge_only_where_asked() -> None:
    assert "EGFR is associated with lung cancer (source" in ask("How is gefitinib related to lung cancer?").text
    assert "Paths" not in ask("Does gefitinib treat lung cancer?").text


def test_an_unknown_molecule_among_pairs_does_not_hide_the_others() -> None:
    answer = ask("Does gefitinib target EGFR?", [Query(P, "mystery", "MKV")])
    assert "gefitinib" in answer.text and "EGFR" in answer.text
    assert "Of parent and child terms the graph links both" in ask("compare lung disease and childhood asthma").text
    three = ask("Is this linked to gefitinib and lung cancer?", [attached("EGFR")])
    assert "gefitinib targets EGFR" in three.text and "EGFR is associated with lung cancer" in three.text


def test_a_node_that_is_called_disease_does_not_confuse_the_check() -> None:
    named = {**MORE, "disease": Node("DOID:4", S, "disease")}
    graph = graph_of(named, [("EGFR", "associated with", "lung cancer"), ("gefitinib", "indication", "disease")])
    assert "1 disease to **EGFR**" in ask("Which diseases is EGFR linked to?", graph=graph, ranked=ranking(graph, "disease")).text
    shared = [("afatinib", "enzyme", "TP53"), ("TP53", "associated with", "disease"), ("EGFR", "associated with", "disease")]
    graph = graph_of(named, shared)
    assert "TP53 is associated with disease" in ask("How is afatinib connected to EGFR?", graph=graph).text
    graph = graph_of(named, [("gefitinib", "indication", "disease")])
    assert "is indicated for disease" in ask("What does gefitinib treat?", graph=graph).text


def test_comparisons_tell_what_is_shared_and_what_is_not() -> None:
    answer = ask("compare gefitinib and lapatinib", ranked=retrieve)
    assert "By 'target' the graph links both **gefitinib** [1] and **lapatinib** [2] to EGFR [3]." in answer.text
    assert "By 'target' the graph links only **lapatinib** [2] to ERBB2 [4]." in answer.text
    assert "By 'indication' the graph links only **gefitinib** [1] to lung cancer" in answer.text
    assert answer.prediction == ("EGFR",) and not answer.abstained and answer.retrieved == ()
    targets = ask("What is the difference between the targets of gefitinib and lapatinib?")
    assert "ERBB2" in targets.text and "lung cancer" not in targets.text


def test_comparisons_of_linked_nodes_and_of_three() -> None:
    two = ask("How does EGFR differ from ERBB2?").text
    assert two.startswith("EGFR interacts with ERBB2 [2].") and "Of biological processes the graph links only **EGFR** [1] to cell" in two
    assert "Of parent and child terms the graph links both" in ask("compare lung disease and childhood asthma").text
    three = ask("compare gefitinib, lapatinib and afatinib")
    assert "only **lapatinib**" in three.text and "afatinib" not in three.text.partition("**Known")[2]


@pytest.mark.parametrize(
    ("question", "queries", "said"),
    [
        ("compare gefitinib with this", [Query(D, "mystery", "CCO")], "mystery is not a node of the graph"),
        ("compare gefitinib with others", [], "at least two nodes of the graph must be named"),
        (
            "compare the targets of afatinib and sildenafil",
            [attached("afatinib"), attached("sildenafil")],
            "afatinib and sildenafil to proteins",
        ),
        ("compare afatinib and rash", [], "The graph holds no edge between afatinib and rash."),
    ],
)
def test_comparisons_that_cannot_be_made(question: str, queries: list[Query], said: str) -> None:
    answer = ask(question, queries)
    assert said in answer.text and answer.abstained


def test_drugs_of_a_new_protein_are_looked_for_along_all_relations_unless_one_is_named() -> None:
    """A drug that is likelier by another relation comes first; half as much again counts for the first relation."""
    graph = graph_of(MORE, [("gefitinib", "target", "EGFR"), ("lapatinib", "enzyme", "TP53")])
    chances = {("target", "gefitinib"): 0.3, ("enzyme", "lapatinib"): 0.5, ("enzyme", "afatinib"): 0.4}

    def retrieve(query: Query, relation: Relation, top: int) -> Retrieval:
        found = [(p, MORE[drug]) for (name, drug), p in chances.items() if name == relation.name]
        hits = [RetrievedNode(n, i + 1, p, p, False, (), {"bridge": p}) for i, (p, n) in enumerate(found)]
        return Retrieval(query, relation, tuple(hits[:top]))

    answer = ask("Which drugs act on this protein?", [UNKNOWN], graph, retrieve)
    assert answer.prediction == ("lapatinib", "gefitinib", "afatinib") and not answer.abstained
    assert ask("Which drugs inhibit this protein?", [UNKNOWN], graph, retrieve).prediction == ("gefitinib",)
