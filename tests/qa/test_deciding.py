"""What statements and choices are decided by: every basis, as said and denied; and what may not be said of it."""

from __future__ import annotations

import pytest

from biobridge_rag.errors import InputError
from biobridge_rag.qa import deciding
from biobridge_rag.qa.deciding import Decider, Verdict
from biobridge_rag.qa.propositions import read_claim
from biobridge_rag.retrieval.linking import NodeLinker
from biobridge_rag.types import Node, NodeType, Query, Relation, Retrieval
from tests.qa.worlds import MORE, graph_of, ranking

P, D, S = NodeType.PROTEIN, NodeType.DRUG, NodeType.DISEASE
GRAPH = graph_of()
LINKER = NodeLinker(GRAPH)


def decider(*names: str, passages: bool = True, edges: bool = True, probability: float = 0.7) -> Decider:
    return Decider(GRAPH, LINKER, ranking(GRAPH, *names, probability=probability), passages, edges)


def verdict(text: str, *names: str, **kwargs: bool) -> Verdict:
    claim = read_claim(text)
    assert claim is not None
    return decider(*names, **kwargs).verdict(claim)


@pytest.fixture(autouse=True)
def _few_are_likely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding, "MIN_TOP", 1)


CASES = [  # a statement that holds, its denial, what it rests on
    ("gefitinib targets EGFR", "gefitinib does not target EGFR", "edge"),
    ("EGFR is a target of gefitinib", "EGFR is not a target of gefitinib", "edge"),
    ("lung cancer associates Gene EGFR", "lung cancer is not associated with EGFR", "edge"),
    ("gefitinib treats lung cancer", "gefitinib does not treat lung cancer", "edge"),
    ("gefitinib is contraindicated in asthma", "gefitinib is not contraindicated in asthma", "edge"),
    ("EGFR interacts with ERBB2", "EGFR does not interact with ERBB2", "edge"),
    ("gefitinib interacts with EGFR", "gefitinib does not interact with EGFR", "edge"),
    ("asthma is a lung disease", "asthma is not a lung disease", "edge"),
    ("The Disease Ontology identifier for asthma is DOID:2841", "The identifier for asthma is not DOID:2841", "identifier"),
    ("The accession of EGFR is P00533", "The accession of EGFR is not P00533", "identifier"),
    ("squamous lung cancer is a lung cancer", "squamous lung cancer is not a lung cancer", "name"),
    ("childhood asthma is a lung disease", "childhood asthma is not a lung disease", "path"),
    ("rash is a dermatitis", "rash is not a dermatitis", "passage"),
    ("childhood asthma is associated with IL13", "childhood asthma is not associated with IL13", "passage"),
]


@pytest.mark.parametrize(("said", "denied", "basis"), CASES)
def test_what_holds_and_its_denial(said: str, denied: str, basis: str) -> None:
    holds, fails = verdict(said), verdict(denied)
    assert (holds.holds, holds.basis) == (True, basis) and (fails.holds, fails.basis) == (False, basis)
    assert holds.probability == fails.probability == deciding.SURE[basis] and holds.statements == fails.statements
    assert basis == "name" or holds.statements


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("The Disease Ontology identifier for asthma is DOID:1324", False), ("The identifier for asthma is not DOID:1324", True),
        ("The identifier for asthma is doid:02841", True), ("The accession of EGFR is P04626", False),
        ("The identifier for emphysema is DOID:1324", False), ("The identifier for emphysema is not DOID:1324", True),
    ],
)  # fmt: skip
def test_identifiers_of_others(text: str, holds: bool) -> None:
    found = verdict(text)
    assert ((found.holds, found.basis) == (holds, "identifier") and "DOID:1324 is lung cancer" in found.said) or "as" in found.said


def test_an_identifier_of_a_scheme_that_the_graph_lacks_tells_nothing() -> None:
    found = verdict("The MONDO identifier for asthma is MONDO:0004979")
    assert found.basis == "guess" and found.missing == ()


def test_a_term_above_or_below_counts_for_associations_but_not_for_treatments() -> None:
    graph = graph_of(edges=[("childhood asthma", "parent-child", "asthma"), ("IL13", "associated with", "asthma"),
                            ("gefitinib", "indication", "asthma"), ("gefitinib", "indication", "lung cancer")])  # fmt: skip
    nearby = Decider(graph, NodeLinker(graph), ranking(graph), passages=False)
    near = nearby.verdict(read_claim("childhood asthma is associated with IL13"))  # type: ignore[arg-type]
    assert (near.holds, near.basis) == (True, "path") and "IL13 is associated with asthma" in near.statements[0].text
    treats = nearby.verdict(read_claim("gefitinib treats childhood asthma"))  # type: ignore[arg-type]
    assert (treats.holds, treats.basis) == (False, "predicted")


def test_predictions_speak_for_and_against() -> None:
    high, denied = verdict("afatinib targets EGFR", "EGFR"), verdict("afatinib does not target EGFR", "EGFR")
    assert (high.holds, denied.holds, high.basis, high.probability) == (True, False, "predicted", 0.7)
    assert high.statements[0].kind == "predicted"
    low, denied = verdict("afatinib targets EGFR", "TP53"), verdict("afatinib does not target EGFR", "TP53")
    assert (low.holds, denied.holds, low.basis) == (False, True, "predicted") and low.probability < 0.7
    assert "the 1 likeliest of 4" in low.said


def test_predictions_that_cannot_be_had_say_nothing_against() -> None:
    def failing(query: Query, relation: Relation, top: int) -> Retrieval:
        raise InputError("The encoder is missing.")

    broken = Decider(GRAPH, LINKER, failing)
    found = broken.verdict(read_claim("afatinib targets EGFR"))  # type: ignore[arg-type]
    assert (found.basis, found.holds) == ("guess", True) and broken.notices == ["No predictions for afatinib: The encoder is missing."]


def test_nothing_known_is_a_guess_and_says_what_is_missing() -> None:
    found, denied = verdict("emphysema is associated with FOXP9"), verdict("emphysema is not associated with FOXP9")
    assert (found.basis, found.holds, denied.holds, found.probability) == ("guess", True, False, 0.6)
    assert found.missing == ("emphysema", "FOXP9") and found.statements == ()
    assert verdict("gefitinib interacts with FOXP9").missing == ("FOXP9",), "a node of another type is no missing one"


def test_other_edges_do_not_make_one_thing_a_kind_of_the_other() -> None:
    found = verdict("EGFR is a lung cancer")
    assert found.basis == "guess"


def test_arms_leave_out_what_they_may_not_rest_on() -> None:
    assert verdict("gefitinib targets EGFR", edges=False, passages=False).basis == "guess"
    assert verdict("gefitinib targets EGFR", edges=False).basis == "passage", "the description of gefitinib says so"
    assert verdict("childhood asthma is associated with IL13", "EGFR", passages=False).basis == "predicted"
    assert verdict("The identifier for asthma is DOID:2841", edges=False).basis == "guess"


def test_options_by_edges_then_texts_then_predictions() -> None:
    asthma, lung = MORE["asthma"], MORE["lung cancer"]
    names = frozenset({"associated with"})
    ranked = decider().options(["IL13", "EGFR", "nothing"], [lung], names, [P])
    assert [(o.text, o.score) for o in ranked] == [("EGFR", 1.0), ("IL13", 0.0), ("nothing", 0.0)] and ranked[2].node is None
    by_text = decider().options(["EGFR", "IL13"], [MORE["childhood asthma"]], names, [P])
    assert by_text[0].text == "IL13" and by_text[0].score == 0.8 and by_text[0].statements[0].kind == "passage"
    predicted = decider("TP53").options(["EGFR", "TP53"], [asthma], names, [P])
    assert predicted[0].text == "TP53" and predicted[0].score == pytest.approx(0.1 + 0.4 * 0.7)
    both = decider().options(["EGFR", "TP53"], [lung, MORE["gefitinib"]], frozenset(), [P])
    assert [o.text for o in both] == ["EGFR", "TP53"] and both[0].score == 2.0
    assert [o.text for o in decider().options(["x", "y", "x"], [], names, [P])] == ["x", "y"]


def test_an_edge_counts_whichever_way_it_is_stated() -> None:
    one_way = graph_of({k: MORE[k] for k in ("gefitinib", "EGFR")}, [("gefitinib", "target", "EGFR")])
    only = type(one_way)(
        "one", one_way.nodes, one_way.relations, one_way.head[:1], one_way.relation[:1], one_way.tail[:1], one_way.source[:1], ("T",)
    )
    found = Decider(only, NodeLinker(only), ranking(only)).verdict(read_claim("EGFR is a target of gefitinib"))  # type: ignore[arg-type]
    assert (found.holds, found.basis) == (True, "edge")


def test_a_node_that_two_types_share_is_read_as_the_one_that_fits() -> None:
    twin = {**MORE, "twin": Node("P1", P, "gefitinib")}
    graph = graph_of(twin)
    found = Decider(graph, NodeLinker(graph), ranking(graph)).verdict(read_claim("gefitinib treats lung cancer"))  # type: ignore[arg-type]
    assert (found.holds, found.basis) == (True, "edge")
