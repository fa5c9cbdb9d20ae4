"""The first line of a model's text as one of the options, or as true or false."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biobridge_rag.qa.verdicts import read_choice, read_verdict

GENES = ["SHTN1", "HLA-B", "SLC14A2", "BTBD9", "HLA-B27"]


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Answer: True", "True"),
        ("answer: FALSE\nBecause [2].", "False"),
        ("**Answer: True**", "True"),
        ("**Answer:** False.", "False"),
        ("> Answer - true [2]", "True"),
        ("\n\n  True\n", "True"),
        ("True. EGFR is associated with lung cancer [2].", "True"),
        ("Yes, gefitinib targets EGFR [2].", "True"),
        ("No: it does not.", "False"),
        ("The statement is false.", "False"),
        ("Final answer: `True`", "True"),
        ("Verdict — Not true", "False"),
        ("Answer: Unknown", None),
        ("Answer: True or False", None),
        ("Answer: True, although it may be false", None),
        ("Answer: not false", None),
        ("No evidence speaks for it.", None),
        ("It cannot be said.\nAnswer: True", None),
        ("Trueness is a word", None),
        ("False-positive rates are high", None),
        ("True/False", None),
        ("Untrue", None),
        ("", None),
        ("<html>True</html>", None),
    ],
)
def test_verdicts(text: str, verdict: str | None) -> None:
    assert read_verdict(text) == verdict


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("Answer: HLA-B\nSHTN1 is another.", "HLA-B"),
        ("**Answer: hla-b**", "HLA-B"),
        ("Answer: HLA-B27", "HLA-B27"),
        ("The correct answer is HLA-B [3].", "HLA-B"),
        ("- Answer: `BTBD9`.", "BTBD9"),
        ("HLA\u2011B", None),
        ("B", "HLA-B"),
        ("Answer: b)", "HLA-B"),
        ("Answer: (B) HLA-B", "HLA-B"),
        ("2. HLA-B", "HLA-B"),
        ("Answer: Option E", "HLA-B27"),
        ("Answer: A) HLA-B", None),
        ("Answer: Z", None),
        ("Answer: 6", None),
        ("It is HLA-B, which is associated with both [3]", "HLA-B"),
        ("SHTN1 or HLA-B", None),
        ("SHTN1 and HLA-B", None),
        ("It is not HLA-B", None),
        ("None of HLA-B", None),
        ("Answer: Unknown", None),
        ("Answer: HLA-C", None),
        ("I do not know\nHLA-B", None),
        ("", None),
    ],
)
def test_choices(text: str, choice: str | None) -> None:
    assert read_choice(text, GENES) == choice


def test_options_that_read_the_same_or_hold_one_another() -> None:
    assert read_choice("Answer: egfr", ["EGFR", "egfr ", "x"]) is None
    assert read_choice("Answer: EGFR", ["EGFR", "egfr ", "x"]) == "EGFR"
    assert read_choice("Answer: type 2 diabetes", ["diabetes", "type 2 diabetes"]) == "type 2 diabetes"
    assert read_choice("Answer: **C[C@H](N)C(=O)O**", ["C[C@@H](N)C(=O)O", "C[C@H](N)C(=O)O"]) == "C[C@H](N)C(=O)O"
    assert read_choice("Answer: no disease", ["no disease", "asthma"]) == "no disease"
    assert read_choice("Answer: A", ["A", "B"]) == "A" and read_choice("True", []) is None


@given(st.lists(st.text(min_size=1, max_size=12), max_size=5), st.text(max_size=40))
def test_only_options_come_back(options: list[str], text: str) -> None:
    assert read_choice(text, options) in (None, *options)
    assert read_verdict(text) in (None, "True", "False")
