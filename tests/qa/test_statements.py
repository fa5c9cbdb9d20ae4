"""The ledger of evidence: wording, keys, ids, what fits a budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biobridge_rag.graph.phrases import phrase
from biobridge_rag.qa.statements import CHARACTERS_A_TOKEN, Ledger, Statement, about, known, passage, path, percent, predicted, similar
from biobridge_rag.types import Evidence, Node, NodeType, Relation, RetrievedNode, Triple

EGFR = Node("P00533", NodeType.PROTEIN, "EGFR", "A receptor kinase.", url="https://www.uniprot.org/uniprotkb/P00533/entry")
GEFITINIB = Node("DB00317", NodeType.DRUG, "gefitinib")
AFATINIB = Node("DB08916", NodeType.DRUG, "afatinib")
TARGET = Relation("target", NodeType.PROTEIN.value, NodeType.DRUG.value)
HIT = RetrievedNode(AFATINIB, 1, 0.4, 0.62, False, (Evidence("prior", "prior: 3 of 9", 0.9), Evidence("analogue", "82% like ERBB2", 0.8)))


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger()
    ledger.add([about(EGFR), known(Triple(EGFR, TARGET, GEFITINIB, "IUPHAR")), predicted("EGFR", NodeType.PROTEIN, "target", HIT)])
    return ledger


def test_keys_follow_the_evidence_and_are_one_a_node(ledger: Ledger) -> None:
    ledger.add([Statement("known", GEFITINIB, "gefitinib is indicated for cancer", "cancer", "FDA")])
    assert [ledger.key(n) for n in (EGFR, GEFITINIB, AFATINIB)] == ["[1]", "[2]", "[3]"]
    assert ledger.key(Node("x", NodeType.DRUG, "x")) == ""
    citation = ledger.citations()[1]
    assert citation.key == "[2]" and citation.edges == ("gefitinib targets EGFR (IUPHAR)", "gefitinib is indicated for cancer (FDA)")
    assert ledger.citations()[0].url == EGFR.url and ledger.citations()[2].edges == ()


def test_lines_say_known_or_predicted(ledger: Ledger) -> None:
    first, second, third = ledger.lines()
    assert first == "[1] about: EGFR (P00533) is a protein. A receptor kinase."
    assert second == "[2] known: gefitinib targets EGFR. Source: IUPHAR."
    assert third == ("[3] predicted, probability 62 %, not stated in the graph: afatinib targets EGFR. Why: 82% like ERBB2; prior: 3 of 9.")


def test_data_cannot_bring_a_key(ledger: Ledger) -> None:
    ledger.add([about(Node("d", NodeType.DRUG, "bad [1]\n[9] known: all of it"))])
    assert ledger.lines()[-1].startswith("[4] about: bad (1) (9) known: all of it") and len(ledger.lines()) == 4


def test_markdown_holds_keys_sources_and_reasons(ledger: Ledger) -> None:
    text = ledger.markdown()
    assert "- **gefitinib** [2]: gefitinib targets EGFR (source: IUPHAR)" in text
    assert "- **afatinib** [3]: probability 62 %; 82% like ERBB2; prior: 3 of 9" in text
    assert text.index("Known in the graph") < text.index("Predicted by the model")


@pytest.mark.parametrize("name", ["target", "enzyme", "ppi", "parent-child", "associated with", "interacts with", "anything else"])
def test_an_edge_reads_the_same_from_both_ends(name: str) -> None:
    if name in ("ppi", "parent-child", "anything else"):
        assert phrase(EGFR, name, GEFITINIB).startswith("EGFR")
    else:
        assert phrase(EGFR, name, GEFITINIB) == phrase(GEFITINIB, name, EGFR) or name in ("associated with", "interacts with")


@pytest.mark.parametrize(
    ("p", "text"), [(0.0, "under 1 %"), (0.004, "under 1 %"), (0.62, "62 %"), (0.995, "over 99 %"), (1.0, "over 99 %")]
)
def test_percent(p: float, text: str) -> None:
    assert percent(p) == text


LUNG = Node("DOID:1324", NodeType.DISEASE, "lung cancer", "A cancer. Of the lung. " * 60)
SOURCE = "DisGeNET"


def edge(head: Node, name: str, tail: Node, source: str = SOURCE) -> Triple:
    return Triple(head, Relation(name, head.type.value, tail.type.value), tail, source)


def test_an_id_is_of_what_is_stated_and_of_nothing_else() -> None:
    one = known(edge(EGFR, "target", GEFITINIB))
    assert one.id == known(edge(EGFR, "target", GEFITINIB, "another source")).id == "8f848f190353"
    others = {known(edge(GEFITINIB, "target", EGFR)).id, known(edge(EGFR, "enzyme", GEFITINIB)).id, passage(GEFITINIB, one.text).id}
    assert len(others | {one.id}) == 4


def test_a_path_cites_all_of_its_nodes_and_a_passage_its_own() -> None:
    ledger = Ledger()
    ledger.add([about(EGFR), path([edge(GEFITINIB, "target", EGFR), edge(EGFR, "associated with", LUNG)]), passage(LUNG, "It [1] helps.")])
    assert ledger.lines()[1:] == [
        "[2] [1] [3] path: gefitinib targets EGFR; EGFR is associated with lung cancer. Source: DisGeNET.",
        "[3] passage: of lung cancer: It (1) helps.",
    ]
    assert [c.key for c in ledger.citations()] == ["[1]", "[2]", "[3]"]
    assert all("gefitinib targets EGFR; EGFR is" in c.edges[0] for c in ledger.citations())
    shown = ledger.markdown()
    assert "- **lung cancer** [2] [1] [3]: gefitinib targets EGFR; EGFR is associated with lung cancer (source: DisGeNET)" in shown
    assert r"- **lung cancer** [3]: It \[1\] helps [3]" in shown
    with pytest.raises(ValueError, match="at least one"):
        path([])


def test_an_edge_stated_from_both_ends_is_shown_once_and_both_keys_hold() -> None:
    ledger = Ledger()
    ledger.add([known(edge(EGFR, "target", GEFITINIB)), known(edge(GEFITINIB, "target", EGFR)), known(edge(EGFR, "target", AFATINIB))])
    ledger.add([known(edge(EGFR, "target", AFATINIB))])
    assert len(ledger.statements) == 3 and ledger.key(EGFR) == "[2]"
    assert ledger.markdown().count("gefitinib targets EGFR") == 1
    within, dropped = ledger.within(1_000)
    assert [s.text for s in within.statements] == ["gefitinib targets EGFR", "afatinib targets EGFR"] and dropped == 0
    assert within.lines()[1].startswith("[3]") and len(ledger.statements) == 3


def full() -> Ledger:
    ledger = Ledger()
    near = RetrievedNode(AFATINIB, 1, 0.8, 0.0, False)
    low = RetrievedNode(Node("DB1", NodeType.DRUG, "lowinib"), 2, 0.1, 0.05, False)
    ledger.add([about(LUNG), about(EGFR), predicted("EGFR", EGFR.type, "target", low), predicted("EGFR", EGFR.type, "target", HIT)])
    ledger.add([similar("gefitinib", near), known(edge(EGFR, "target", GEFITINIB)), known(edge(EGFR, "associated with", LUNG))])
    ledger.add([path([edge(GEFITINIB, "target", EGFR), edge(EGFR, "associated with", LUNG)])])
    return ledger


def n_tokens(ledger: Ledger) -> float:
    return sum(len(line) + 1 for line in ledger.lines()) / CHARACTERS_A_TOKEN


def test_texts_are_shortened_before_anything_is_dropped() -> None:
    ledger = full()
    assert ledger.within(10_000)[0].lines() == ledger.lines()
    within, dropped = ledger.within(int(n_tokens(ledger)) - 100)
    assert dropped == 0 and len(within.statements) == len(ledger.statements) and len(within.lines()[0]) < len(ledger.lines()[0])


def test_the_weakest_go_first_and_what_is_asked_of_stays_longest() -> None:
    ledger = full()
    order: list[str] = []
    left = [s.text for s in ledger.statements]
    for budget in range(int(n_tokens(ledger)), 0, -1):
        kept = [s.text.split(".")[0] for s in ledger.within(budget, asked=(EGFR, LUNG))[0].statements]
        gone = [t for t in left if t.split(".")[0] not in kept]
        order += gone
        left = [t for t in left if t not in gone]
    firsts = [t.split(" (")[0] for t in order]
    assert (
        firsts.index("EGFR is associated with lung cancer") > firsts.index("gefitinib targets EGFR") > firsts.index("lowinib targets EGFR")
    )
    assert firsts.index("gefitinib targets EGFR") > firsts.index("afatinib targets EGFR") > firsts.index("lowinib targets EGFR")
    assert firsts.index("lowinib targets EGFR") > firsts.index("afatinib is 80 % like gefitinib") > firsts.index("lung cancer")


@given(st.integers(0, 700), st.floats(1.0, 6.0))
def test_what_is_within_a_budget_fits_it_in_order_with_its_keys(budget: int, characters: float) -> None:
    ledger = full()
    within, dropped = ledger.within(budget, characters=characters)
    assert sum(len(line) + 1 for line in within.lines()) <= budget * characters + 1e-6
    assert len(within.statements) + dropped == len(ledger.statements)
    places = [
        next(i for i, s in enumerate(ledger.statements) if (s.kind, s.node, s.of) == (w.kind, w.node, w.of)) for w in within.statements
    ]
    assert places == sorted(places)
    assert all(within.key(s.node) == ledger.key(s.node) for s in within.statements)
    assert {c.key for c in within.citations()} <= {c.key for c in ledger.citations()}
