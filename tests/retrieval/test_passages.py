"""Sentences are cut where prose ends them; a name is found as whole words in any spelling, a symbol in capitals only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biobridge_rag.retrieval.passages import MAX_SNIPPET, Names, best_sentences, linking, passages_linking, sentences, tokens_of
from biobridge_rag.types import Node, NodeType

P, D, S = NodeType.PROTEIN, NodeType.DRUG, NodeType.DISEASE


def test_abbreviations_and_references_end_no_sentence() -> None:
    text = (
        "It is made by S. cerevisiae, e.g. Yeast strains. It binds IL-6! (From Index, 12th ed. 1995, p2275) It works.\n\nNew part [PubChem]"
    )
    assert sentences(text) == [
        "It is made by S. cerevisiae, e.g. Yeast strains.", "It binds IL-6!", "(From Index, 12th ed. 1995, p2275) It works.", "New part",
        "[PubChem]",
    ]  # fmt: skip


@given(st.text(max_size=600))
def test_sentences_lose_no_letter(text: str) -> None:
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())


@given(st.lists(st.text("abc DE.", min_size=1, max_size=300), max_size=8), st.integers(20, 500))
def test_a_snippet_keeps_to_its_limit(parts: list[str], limit: int) -> None:
    text = ". ".join(parts)
    assert len(best_sentences(text, lambda s: float(len(s)), limit)) <= limit


def test_the_best_sentences_stay_in_their_order_and_whole() -> None:
    text = f"First on asthma. {'Filler words here. ' * 40}Last on asthma and lungs."
    snippet = best_sentences(text, lambda s: s.count("asthma") + s.count("lungs"))
    assert snippet == "First on asthma. ... Last on asthma and lungs."
    assert best_sentences("A one. A two.", lambda _: 0.0) == "A one."
    assert best_sentences("", len) == ""


def test_a_long_sentence_is_cut_after_a_word() -> None:
    snippet = best_sentences("word " * 200, len)
    assert len(snippet) <= MAX_SNIPPET and snippet.endswith("word ...")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("IL6", "Levels of IL-6 rise."), ("IL-6", "It binds il6 in blood."), ("TGF-beta", "TGF-β signals here."),
        ("MET", "The MET kinase."),
        ("histamine receptor", "It blocks histamine receptors."), ("tumor", "A tumour grew."),
        ("Crohn's disease", "Crohn disease is meant."),
    ],
)  # fmt: skip
def test_a_name_is_found_in_other_spellings(name: str, text: str) -> None:
    assert Names([name]).within(text) == name


@pytest.mark.parametrize(
    ("name", "text"), [("MET", "The needs were met."), ("IL6", "IL-61 is another."), ("gout", "Gouty joints."), ("A", "A B.")]
)
def test_a_name_is_not_found_in_other_words(name: str, text: str) -> None:
    assert Names([name]).within(text) == ""


def test_passages_link_two_nodes_from_either_side() -> None:
    gene = Node("2200", P, "FBN1", description="fibrillin 1", synonyms=("P35555", "fibrillin 1"))
    disease = Node("D1", S, "Marfan syndrome", description="A syndrome. It has_material_basis_in mutation in the FBN1 gene. It is rare.")
    found = linking(gene, disease)
    assert [(p.node, p.text, p.matched) for p in found] == [(disease, "It has_material_basis_in mutation in the FBN1 gene.", "FBN1")]
    assert passages_linking(disease, ["gout"]) == []


def test_words_are_indexed_joined_and_apart() -> None:
    assert {"il", "6", "il6"} <= set(tokens_of("IL-6")) and {"il", "6", "il6"} <= set(tokens_of("IL6"))
    assert {"tgf", "beta", "tgfbeta"} <= set(tokens_of("TGF-β")) and tokens_of("receptors") == ["receptor"]
