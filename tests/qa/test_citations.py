"""Keys, wording of edges, escaping, and the check of a text against the evidence."""

from __future__ import annotations

import pytest

from biobridge_rag.graph.phrases import phrase
from biobridge_rag.qa.citations import check
from biobridge_rag.qa.markdown import md_escape, md_plain, sentences
from biobridge_rag.qa.statements import Ledger, Statement, about, known, percent, predicted
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
    ("text", "shown"),
    [
        ("<img src=x onerror=alert(1)>", "&lt;img src=x onerror=alert(1)&gt;"),
        ("a*b_c`d[1](http://evil)", r"a\*b\_c\`d\[1\](http:\//evil)"),
        ("# title", r"\# title"),
        ("- item\n2. two", r"\- item 2. two"),
        ("www.evil.example", r"www\.evil.example"),
        ("NAD+ & Ca2+", "NAD+ &amp; Ca2+"),
    ],
)
def test_escape_shows_text_letter_by_letter(text: str, shown: str) -> None:
    assert md_escape(text) == shown
    assert md_plain(shown) == " ".join(text.split())


@pytest.mark.parametrize(
    ("p", "text"), [(0.0, "under 1 %"), (0.004, "under 1 %"), (0.62, "62 %"), (0.995, "over 99 %"), (1.0, "over 99 %")]
)
def test_percent(p: float, text: str) -> None:
    assert percent(p) == text


def test_sentences_keep_abbreviations_items_and_late_keys() -> None:
    text = "**Known**\n\n- Gefitinib targets EGFR (Smith et al. 2003, p. 4). [2] It is old [1].\n1. One. Two? Three"
    assert sentences(text) == [
        "**Known**",
        "Gefitinib targets EGFR (Smith et al. 2003, p. 4) [2].",
        "It is old [1].",
        "One.",
        "Two?",
        "Three",
    ]


@pytest.mark.parametrize(
    ("text", "unsupported"),
    [
        ("Gefitinib targets EGFR [2].", []),
        ("Gefitinib targets EGFR.", ["Gefitinib targets EGFR."]),
        ("Gefitinib targets EGFR. [2]", []),
        ("The moon is made of cheese [2].", ["The moon is made of cheese [2]."]),
        ("Afatinib is predicted to target EGFR, 62 % [3].", []),
        ("Afatinib targets EGFR [3].", ["Afatinib targets EGFR [3]."]),
        ("Afatinib is predicted to target EGFR with 93 % [3].", ["Afatinib is predicted to target EGFR with 93 % [3]."]),
        ("The evidence does not hold the answer.", []),
        ("I do not know. Shall I look at EGFR?", []),
        ("**Known**\n\nThese are the drugs:\n- gefitinib [2]\n- aspirin", ["aspirin"]),
        ("Gefitinib and afatinib target EGFR [2, 3].", []),
    ],
)
def test_check_finds_what_nothing_supports(ledger: Ledger, text: str, unsupported: list[str]) -> None:
    checked = check(text, ledger.citations(), ledger.statements)
    assert list(checked.unsupported) == unsupported and checked.n_removed == 0


def test_check_removes_and_counts_keys_that_do_not_exist(ledger: Ledger) -> None:
    checked = check("Gefitinib targets EGFR [2, 7]. Aspirin too [8].", ledger.citations(), ledger.statements)
    assert checked.text == "Gefitinib targets EGFR [2]. Aspirin too." and checked.n_removed == 2
    assert [c.key for c in checked.used] == ["[2]"] and checked.unsupported == ("Aspirin too.",)
