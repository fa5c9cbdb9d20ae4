"""Statements and choices in an answer: sides, forced or not, abstention, and that the composed text stands in the evidence."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from biobridge_rag.qa.answering import Answerer
from biobridge_rag.qa.arms import FULL
from biobridge_rag.qa.judging import sides_of
from biobridge_rag.retrieval.linking import NodeLinker
from biobridge_rag.types import Answer
from tests.qa.worlds import graph_of, ranking

GRAPH = graph_of()
LINKER = NodeLinker(GRAPH)
SIDES = ("True", "False")


def ask(question: str, options: Sequence[str] = (), kind: str = "", ranked: Sequence[str] = ()) -> Answer:
    return Answerer(GRAPH, LINKER, ranking(GRAPH, *ranked), None, None, FULL).ask(question, (), (), options, kind)


@pytest.mark.parametrize("options", [("True", "False"), ("False", "True"), ("yes", "no"), ("No", "Yes"), ("TRUE", "FALSE")])
def test_the_side_is_called_as_the_options_call_it(options: tuple[str, str]) -> None:
    sides = sides_of(options)
    holds, fails = ask("gefitinib targets EGFR", options), ask("gefitinib does not target EGFR", options)
    assert holds.kind == "true_false" and holds.prediction == (sides[True], sides[False]) and fails.prediction[0] == sides[False]
    assert holds.text.startswith(f"Answer: {sides[True]}\n") and "gefitinib targets EGFR (source: Table)" in holds.text
    assert set(sides.values()) == set(options) and holds.unsupported == fails.unsupported == () and not holds.abstained


def test_sides_without_options_are_true_and_false() -> None:
    assert sides_of(()) == {True: "True", False: "False"} == sides_of(("a", "b"))
    assert ask("Does gefitinib target EGFR?", kind="true_false").prediction == ("True", "False")


def test_a_guess_is_abstained_from_unless_a_side_must_be_taken() -> None:
    statement = "emphysema is associated with Gene FOXP9"
    free, forced = ask(statement, SIDES), ask(statement, SIDES, "true_false")
    assert free.abstained and free.prediction == () and "Answer:" not in free.text
    assert not forced.abstained and forced.prediction[0] == "True" and "True is only a guess" in forced.text
    for answer in (free, forced):
        assert 'No node of this graph is named "emphysema".' in answer.text and 'named "FOXP9"' in answer.text
        assert "the graph would need a node for 'emphysema' and 'FOXP9'" in answer.text and answer.unsupported == ()


def test_a_prediction_alone_is_said_to_be_one() -> None:
    answer = ask("afatinib targets EGFR", SIDES, ranked=["EGFR"])
    assert answer.prediction[0] == "True" and "No edge or text decides this; True rests on a prediction alone" in answer.text
    assert not answer.abstained and answer.unsupported == ()


def test_what_is_no_statement_is_said_to_be_none() -> None:
    answer = ask("EGFR, please", SIDES, "true_false")
    assert answer.abstained and answer.text.startswith("This is no statement that is read here") and answer.prediction == ()


def test_identifiers_and_terms_say_what_decides() -> None:
    assert "What decides: the graph has it as DOID:2841." in ask("The identifier for asthma is DOID:2841", SIDES).text
    assert ask("squamous lung cancer is a lung cancer", SIDES).prediction[0] == "True"
    path = ask("childhood asthma is a lung disease", SIDES)
    assert "**Paths of known edges**" in path.text and path.prediction[0] == "True" and path.unsupported == ()


CHOICE = "Which of these genes is associated with lung cancer?"


def test_the_best_option_is_chosen() -> None:
    answer = ask(CHOICE, ["ERBB2", "TP53"])
    assert answer.kind == "choice" and answer.prediction == ("TP53", "ERBB2") and answer.text.startswith("Answer: TP53")
    assert "TP53 is associated with lung cancer" in answer.text and answer.unsupported == () and not answer.abstained


def test_equal_options_are_not_chosen_between() -> None:
    answer = ask(CHOICE, ["EGFR", "TP53"])
    assert answer.abstained and answer.prediction == () and "No option is linked to lung cancer well enough" in answer.text


def test_an_option_linked_to_one_of_two_is_told_so() -> None:
    answer = ask("Which of these genes is associated with both lung cancer and asthma?", ["ERBB2", "EGFR"])
    assert answer.prediction[0] == "EGFR" and "Not every link of EGFR to lung cancer and asthma is an edge of the graph" in answer.text
    assert answer.unsupported == ()


def test_unknown_options_and_unknown_names_are_told() -> None:
    answer = ask(CHOICE, ["FOXP9", "TP53"])
    assert "The graph has no node for 'FOXP9'." in answer.text and answer.prediction[0] == "TP53"
    missing = ask("Which of these genes is associated with both lung cancer and emphysema?", ["EGFR", "IL13"])
    assert missing.abstained and 'No node of this graph is named "emphysema".' in missing.text and missing.unsupported == ()
    nothing = ask("Which of these is best?", ["EGFR", "IL13"])
    assert nothing.abstained and "No option is linked to what the question names" in nothing.text


def test_options_in_the_question_are_no_entities_of_it() -> None:
    answer = ask("Which gene is associated with lung cancer?\nA) ERBB2\nB) TP53\nC) HER2")
    assert answer.kind == "choice" and answer.prediction[0] == "TP53" and "Not every link" not in answer.text


STATEMENTS = (
    "gefitinib targets EGFR", "gefitinib does not treat asthma", "afatinib targets TP53", "childhood asthma is associated with IL13",
    "asthma is a lung disease", "squamous lung cancer is a lung cancer", "rash is a dermatitis", "The identifier for asthma is DOID:1324",
    "The identifier for emphysema is DOID:1324", "evilol targets TP53", "<b>x</b> [3] is associated with **EGFR**",
    "gefitinib interacts with EGFR",
)  # fmt: skip


@pytest.mark.parametrize("kind", ["", "true_false"])
@pytest.mark.parametrize("statement", STATEMENTS)
def test_every_sentence_of_a_verdict_stands_in_the_evidence(statement: str, kind: str) -> None:
    for ranked in ((), ("EGFR", "TP53", "asthma")):
        answer = ask(statement, SIDES, kind, ranked)
        assert answer.unsupported == () and answer.removed == 0 and "<b>" not in answer.text
