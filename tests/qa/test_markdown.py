"""Markdown: text of others letter by letter, sentences, keys."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biobridge_rag.qa.markdown import keys_of, md_escape, md_plain, sentences, spans, with_key, without_keys


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<img src=x onerror=alert(1)>", "&lt;img src=x onerror=alert(1)&gt;"),
        ("a*b_c`d[1](http://evil)", r"a\*b\_c\`d\[1\](http:\//evil)"),
        ("# title", r"\# title"),
        ("- item\n2. two", r"\- item 2. two"),
        ("www.evil.example", r"www\.evil.example"),
        ("x (not supported by the evidence)", r"x \(not supported by the evidence)"),
        ("NAD+ & Ca2+", "NAD+ &amp; Ca2+"),
    ],
)
def test_escape_shows_text_letter_by_letter(text: str, shown: str) -> None:
    assert md_escape(text) == shown
    assert md_plain(shown) == " ".join(text.split())


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


def test_keys_are_read_in_order_and_not_from_escaped_brackets() -> None:
    assert keys_of(r"a [2, 10] b [2;3] \\[4] [x] [12345]".replace("\\\\", "\\")) == ["2", "10", "3"]
    assert without_keys("a [1]\n[ 2, 3 ]") == "a (1) ( 2, 3 )"


@pytest.mark.parametrize(
    ("text", "keyed"),
    [
        ("Receptor kinase. Drives growth.", "Receptor kinase [1]. Drives growth [1]."),
        ("one", "one [1]"),
        ("Really? Yes! Pfeiffer et al. 2003 say so.", "Really? [1] Yes! [1] Pfeiffer et al. 2003 say so [1]."),
    ],
)
def test_every_sentence_gets_its_key(text: str, keyed: str) -> None:
    assert with_key(text, "[1]") == keyed
    assert all(keys_of(sentence) == ["1"] for sentence in sentences(keyed))


@given(st.text(alphabet="ab. !?[1]*-\n#>_", max_size=80))
def test_spans_are_in_order_and_leave_out_no_word(text: str) -> None:
    found = spans(text)
    assert all(a < b for a, b in found) and all(b <= c for (_, b), (c, _) in itertools.pairwise(found))
    left = "".join(c for i, c in enumerate(text) if not any(a <= i < b for a, b in found))
    assert not any(c in left for c in "ab")
