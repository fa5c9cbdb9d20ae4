"""How names are spelled: what is the same name, and what is not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biobridge_rag.retrieval.spelling import bare_key, loose_key, other_names, substance_key, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("β2-Adrenergic receptor", ["beta", "2", "adrenergic", "receptor"]), ("Alzheimer's disease", ["alzheimer", "disease"]),
        ("Haemophilia", ["hemophilia"]), ("TUMOUR", ["tumor"]), ("sulphate", ["sulfate"]), ("naïve", ["naive"]), ("σ1", ["sigma", "1"]),
        ("a_b-c", ["a", "b", "c"]), ("", []), ("?!", []), ("\ufb01brosis", ["fibrosis"]),
    ],
)  # fmt: skip
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def key(text: str) -> str:
    return substance_key(words_of(text))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("tiotropium bromide", "Tiotropium"), ("chlortalidone", "Chlorthalidone"), ("metirosine", "Metyrosine"),
        ("imatinib mesylate", "Imatinib"), ("Doxycycline hydrochloride", "doxycycline"), ("amphetamine", "amfetamine"),
    ],
)  # fmt: skip
def test_spellings_and_salts_of_one_substance(one: str, other: str) -> None:
    assert key(one) == key(other) != ""


@pytest.mark.parametrize(
    ("one", "other"), [("sodium chloride", "potassium chloride"), ("prednisone", "prednisolone"), ("sodium chloride", "sodium")]
)
def test_other_substances_have_other_keys(one: str, other: str) -> None:
    assert key(one) != key(other)


def test_short_names_have_no_substance_key() -> None:
    assert key("zinc") == "" and key("zinc acetate") == "" and key("") == ""


def test_word_order_and_words_for_the_same_thing() -> None:
    assert loose_key(words_of("Breast Neoplasms")) == loose_key(words_of("cancer of the breast"))
    assert loose_key(words_of("malignant melanoma")) == loose_key(words_of("melanoma"))
    assert loose_key(words_of("malignant hyperthermia")) != loose_key(words_of("hyperthermia"))
    assert loose_key(words_of("type 1 diabetes")) != loose_key(words_of("type 2 diabetes"))
    assert bare_key(words_of("peptic ulcer disease")) == bare_key(words_of("Peptic Ulcer")) and bare_key(["disease"]) == ""


def test_other_names_go_both_ways() -> None:
    names = other_names()
    assert "paracetamol" in names[key("acetaminophen")] and "acetaminophen" in names[key("paracetamol")]
    assert all(name not in others for name, others in names.items()) and all(key and others for key, others in names.items())


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_has_words_and_keys_that_do_not_depend_on_case(text: str) -> None:
    words = words_of(text)
    assert all(words) and all(isinstance(k(words), str) for k in (loose_key, bare_key, substance_key))
    if text.isascii():
        assert words_of(text.upper()) == words_of(text.lower()) == words
