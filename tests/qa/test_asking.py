"""What a question asks for: comparisons, how things hang together, the kind by its options, and options in its text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biobridge_rag.qa.asking import kind_of, options_of, read_question
from biobridge_rag.types import NodeType

P, D, S, B, F, C = NodeType


@pytest.mark.parametrize(
    ("masked", "tails"),
    [
        ("compare _ and _", ()), ("Compare the targets of _ and _", (P,)), ("what is the difference between _ and _?", ()),
        ("how does _ differ from _?", ()), ("_ vs _", ()), ("_ versus _", ()), ("what do _ and _ have in common?", ()),
        ("do _ and _ have diseases in common?", (S,)), ("How is _ different from _?", ()), ("compare them", ()),
    ],
)  # fmt: skip
def test_comparisons(masked: str, tails: tuple[NodeType, ...]) -> None:
    asked = read_question(masked, [D, D])
    assert (asked.kind, asked.tails) == ("compare", tails)


@pytest.mark.parametrize(
    "masked", ["compare the side effects of _ and _", "which different drugs target _?", "is _ different from _?", "which drugs target _?"]
)
def test_what_is_no_comparison(masked: str) -> None:
    assert read_question(masked, [D, D]).kind != "compare"


@pytest.mark.parametrize(
    ("masked", "topic"),
    [
        ("how is _ connected to _?", "paths"), ("how are _ and _ related?", "paths"), ("what connects _ and _?", "paths"),
        ("what is the relationship between _ and _?", "paths"), ("which path leads from _ to _?", "paths"),
        ("is _ linked to _?", ""), ("does _ treat _?", ""), ("_ is not associated with _", ""),
    ],
)  # fmt: skip
def test_pairs_and_how_they_hang_together(masked: str, topic: str) -> None:
    asked = read_question(masked, [D, S])
    assert (asked.kind, asked.topic) == ("pair", topic)


def test_contraindicated_is_not_indicated() -> None:
    assert read_question("is _ contraindicated in _?", [D, S]).names == {"contraindication"}
    assert read_question("is _ indicated for _?", [D, S]).names == {"indication"}


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ((), "open"), (("True", "False"), "true_false"), (("no", " Yes "), "true_false"), (("true", "false", "unknown"), "choice"),
        (("EGFR", "TP53"), "choice"), (("yes", "false"), "choice"), (("EGFR",), "choice"),
    ],
)  # fmt: skip
def test_the_kind_by_the_options(options: tuple[str, ...], kind: str) -> None:
    assert kind_of(options) == kind


@pytest.mark.parametrize(
    ("question", "options"),
    [
        ("Which one?\nA) EGFR\nB) TP53", ("EGFR", "TP53")), ("Which one?\n(a) EGFR\n(b) TP53", ("EGFR", "TP53")),
        ("Which?\n1. lung cancer\n2. breast cancer\n3. asthma", ("lung cancer", "breast cancer", "asthma")),
        ("Which?\n- EGFR\n- TP53", ("EGFR", "TP53")), ("Which gene? Options: EGFR, TP53; ERBB2.", ("EGFR", "TP53", "ERBB2")),
        ("Choose from: EGFR or TP53", ("EGFR", "TP53")), ("Which gene?\nA) EGFR", ()), ("Which drugs target EGFR?", ()),
        ("Options: EGFR", ()), ("Which?\n" + "\n".join(f"- x{i}" for i in range(21)), ()), ("", ()),
    ],
)  # fmt: skip
def test_options_in_a_question(question: str, options: tuple[str, ...]) -> None:
    assert options_of(question) == options


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=120), st.lists(st.sampled_from(list(NodeType)), max_size=3), st.booleans())
def test_any_text_is_read(text: str, types: list[NodeType], attached: bool) -> None:
    asked = read_question(text, types, attached and bool(types))
    assert asked.kind in {"about", "tails", "pair", "similar", "mechanism", "compare", "outside"}
    assert all(options_of(text)) and len(options_of(text)) != 1
