"""When a short answer is right: SQuAD's normalisation, and a node by any of its names."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biobridge_rag.evaluation.qa_matching import best_f1, first_right, is_right, node_aliases, normalised, right_names, token_f1
from biobridge_rag.types import KnowledgeGraph, Node, NodeType


@pytest.fixture
def graph() -> KnowledgeGraph:
    nodes = (
        Node("2064", NodeType.PROTEIN, "ERBB2", synonyms=("HER2", "CD340")),
        Node("5970", NodeType.PROTEIN, "RELA", synonyms=("p65",)),
        Node("1", NodeType.PROTEIN, "p65", synonyms=("SYT1",)),
        Node("DB01268", NodeType.DRUG, "Sunitinib", synonyms=("Sutent", "SU-11248")),
    )
    none = np.zeros(0, np.int16)
    return KnowledgeGraph("g", nodes, (), none.astype(np.int32), none, none.astype(np.int32), none, ())


@pytest.mark.parametrize(
    "text, plain",
    [
        ("The  Epidermal-growth factor, a receptor", "epidermalgrowth factor receptor"),
        ("IL-2", "il2"),
        ("A", "a"),
        ("HLA-A", "hlaa"),
        (" (+) ", "(+)"),
        ("TNF-α", "tnfα"),
        ("", ""),
    ],
)
def test_normalisation_is_that_of_squad_and_never_makes_nothing_of_something(text: str, plain: str) -> None:
    assert normalised(text) == plain


@pytest.mark.parametrize(
    "prediction, answer, f1",
    [
        ("growth factor receptor", "the epidermal growth factor receptor", 2 * 3 / 7),
        ("EGFR", "egfr.", 1.0),
        ("EGFR", "TP53", 0.0),
        ("a a b b", "b b b", 2 * 2 / 5),
        ("", "x", 0.0),
        ("", "", 0.0),
    ],
)
def test_f1_counts_common_words(prediction: str, answer: str, f1: float) -> None:
    assert token_f1(prediction, answer) == pytest.approx(f1)
    assert best_f1(prediction, ["no such", answer]) == pytest.approx(f1)


def test_best_f1_of_no_answers_is_zero() -> None:
    assert best_f1("x", []) == 0.0


@given(st.text(max_size=40), st.text(max_size=40))
def test_f1_is_symmetric_and_one_for_itself(a: str, b: str) -> None:
    assert token_f1(a, b) == token_f1(b, a) and 0.0 <= token_f1(a, b) <= 1.0
    assert token_f1(a, a) == (1.0 if normalised(a).split() else 0.0)


def test_an_open_answer_counts_by_every_name_of_its_node(graph: KnowledgeGraph) -> None:
    names = right_names("open", ["HER2"], node_aliases(graph))
    assert all(is_right("open", text, names) for text in ("ERBB2", "her2", "CD340", "2064", "erbb2."))
    assert not is_right("open", "RELA", names) and not is_right("open", "", names)
    assert not is_right("open", "ERBB2", right_names("open", ["HER2"]))


def test_a_name_comes_before_a_synonym(graph: KnowledgeGraph) -> None:
    names = right_names("open", ["p65"], node_aliases(graph))
    assert is_right("open", "SYT1", names) and not is_right("open", "RELA", names)
    assert is_right("open", "su 11248", right_names("open", ["su 11248"], node_aliases(graph)))


def test_an_answer_that_no_node_has_counts_as_written(graph: KnowledgeGraph) -> None:
    assert right_names("open", ["Nowhere-1"], node_aliases(graph)) == {"nowhere1"}


def test_of_several_answers_any_is_right(graph: KnowledgeGraph) -> None:
    names = right_names("open", ["imatinib", "Sutent"], node_aliases(graph))
    assert first_right("open", ["x", "Sunitinib", "imatinib"], names) == 2
    assert first_right("open", ["x"], names) is None and first_right("open", [], names) is None


def test_a_choice_is_of_an_option_and_not_of_a_node(graph: KnowledgeGraph) -> None:
    names = right_names("choice", ["HER2"], node_aliases(graph))
    assert is_right("choice", "HER2", names) and not is_right("choice", "ERBB2", names)


def test_true_and_yes_mean_the_same_only_where_truth_is_asked(graph: KnowledgeGraph) -> None:
    for said, meant, right in (
        ("Yes", "True", True),
        ("true", "yes", True),
        ("No.", "False", True),
        ("No", "True", False),
        ("maybe", "True", False),
    ):
        assert is_right("true_false", said, right_names("true_false", [meant])) is right
    assert not is_right("choice", "yes", right_names("choice", ["true"]))
