"""What statements say of what: their forms, negations, questions, and what is no statement."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biobridge_rag.qa.propositions import IDENTIFIER, IS_A, Claim, read_claim

SAID = [
    ("Gefitinib targets EGFR", "Gefitinib", "target", "EGFR", False),
    ("Drug gefitinib inhibits Gene EGFR.", "gefitinib", "target", "EGFR", False),
    ("gefitinib binds to EGFR", "gefitinib", "target", "EGFR", False),
    ("gefitinib acts on EGFR", "gefitinib", "target", "EGFR", False),
    ("EGFR is a target of gefitinib", "EGFR", "target", "gefitinib", False),
    ("EGFR is no target of gefitinib", "EGFR", "target", "gefitinib", True),
    ("gefitinib is an inhibitor of EGFR", "gefitinib", "target", "EGFR", False),
    ("EGFR is inhibited by gefitinib", "gefitinib", "target", "EGFR", False),
    ("EGFR is not bound by gefitinib", "gefitinib", "target", "EGFR", True),
    ("gefitinib doesn't target EGFR", "gefitinib", "target", "EGFR", True),
    ("gefitinib does not block EGFR!", "gefitinib", "target", "EGFR", True),
    ("gefitinib treats lung cancer", "gefitinib", "indication", "lung cancer", False),
    ("gefitinib can treat lung cancer", "gefitinib", "indication", "lung cancer", False),
    ("gefitinib cannot treat asthma", "gefitinib", "indication", "asthma", True),
    ("gefitinib may be used for lung cancer", "gefitinib", "indication", "lung cancer", False),
    ("gefitinib can not be used for asthma", "gefitinib", "indication", "asthma", True),
    ("gefitinib no longer treats asthma", "gefitinib", "indication", "asthma", True),
    ("gefitinib is never used for asthma", "gefitinib", "indication", "asthma", True),
    ("gefitinib is indicated for lung cancer", "gefitinib", "indication", "lung cancer", False),
    ("gefitinib is a drug that treats lung cancer", "gefitinib", "indication", "lung cancer", False),
    ("gefitinib is a drug used to treat lung cancer", "gefitinib", "indication", "lung cancer", False),
    ("lung cancer is treated with gefitinib", "gefitinib", "indication", "lung cancer", False),
    ("gefitinib is contraindicated in asthma", "gefitinib", "contraindication", "asthma", False),
    ("gefitinib is not contraindicated in asthma", "gefitinib", "contraindication", "asthma", True),
    ("psoriasis associates Gene HLA-B", "psoriasis", "associated with", "HLA-B", False),
    ("psoriasis is not associated with Gene HLA-B", "psoriasis", "associated with", "HLA-B", True),
    ("EGFR isn’t linked to asthma", "EGFR", "associated with", "asthma", True),
    ("EGFR is a gene associated with lung cancer", "EGFR", "associated with", "lung cancer", False),
    ("Gene EGFR causes lung cancer (disorder)", "EGFR", "associated with", "lung cancer", False),
    ("Variant rs12 is involved in asthma", "rs12", "associated with", "asthma", False),
    ("gefitinib is metabolised by CYP3A4", "gefitinib", "enzyme", "CYP3A4", False),
    ("CYP3A4 metabolizes gefitinib", "CYP3A4", "enzyme", "gefitinib", False),
    ("gefitinib is transported by ABCG2", "gefitinib", "transporter", "ABCG2", False),
    ("EGFR interacts with ERBB2", "EGFR", "ppi", "ERBB2", False),
    ("EGFR takes part in cell proliferation", "EGFR", "interacts with", "cell proliferation", False),
    ("breast cancer is a cancer", "breast cancer", IS_A, "cancer", False),
    ("breast cancer is not a kind of asthma", "breast cancer", IS_A, "asthma", True),
    ("The Disease Ontology identifier for asthma is DOID:2841", "asthma", IDENTIFIER, "DOID:2841", False),
    ("the UniProt accession of EGFR is not P00533", "EGFR", IDENTIFIER, "P00533", True),
    ("True or false: gefitinib treats asthma", "gefitinib", "indication", "asthma", False),
]
ASKED = [
    ("Does gefitinib target EGFR?", "gefitinib", "target", "EGFR", False),
    ("Does gefitinib not treat asthma?", "gefitinib", "indication", "asthma", True),
    ("Is it true that gefitinib targets EGFR?", "gefitinib", "target", "EGFR", False),
    ("True or false: Does gefitinib treat asthma?", "gefitinib", "indication", "asthma", False),
    ("Is EGFR not associated with asthma?", "EGFR", "associated with", "asthma", True),
    ("Is EGFR inhibited by gefitinib?", "gefitinib", "target", "EGFR", False),
    ("Is breast cancer a cancer?", "breast cancer", IS_A, "cancer", False),
    ("Isn't breast cancer a cancer?", "breast cancer", IS_A, "cancer", True),
    ("Can gefitinib be used for asthma?", "gefitinib", "indication", "asthma", False),
    ("Can gefitinib treat asthma?", "gefitinib", "indication", "asthma", False),
]
NOTHING = ["", "?", "is ?", "hello there", "It is raining", "What is EGFR?", "Which drugs target EGFR", "Which drugs target EGFR?",
           "Are EGFR and ERBB2 related?", "EGFR", "Tell me what gefitinib targets", "targets EGFR"]  # fmt: skip


@pytest.mark.parametrize(("text", "subject", "relation", "thing", "negated"), [*SAID, *ASKED])
def test_statements_and_questions(text: str, subject: str, relation: str, thing: str, negated: bool) -> None:
    assert read_claim(text) == Claim(subject, relation, thing, negated)


@pytest.mark.parametrize("text", NOTHING)
def test_what_claims_nothing(text: str) -> None:
    assert read_claim(text) is None


WORDS = ["EGFR", "gefitinib", *"is are does not never can it true that a the targets treats associated with for of ? . ( ) ' “".split()]  # noqa: SIM905


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=200), st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join)))
def test_no_text_breaks_it_and_claims_have_two_ends(text: str) -> None:
    claim = read_claim(text)
    assert claim is None or (claim.subject and claim.object)


def test_a_long_text_is_cut() -> None:
    assert read_claim("gefitinib targets " + "x" * 100_000) is not None
