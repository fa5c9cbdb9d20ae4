"""The scores, against records whose figures are known by counting."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from biobridge_rag.evaluation.qa_scores import compare_arms, score_record, summarise

from .qa_fakes import citation


def record(n: int, arm: str = "full", **more: Any) -> dict[str, Any]:
    return {
        "id": f"q{n:03d}", "arm": arm, "kind": "open", "question": "?", "answers": ["EGFR"], "answerable": True, "prediction": ["EGFR"],
        "abstained": False, "text": "", "citations": [], "unsupported": [], "shown": [], "removed": 0, "seconds": 0.1, "usage": {},
    } | more  # fmt: skip


def cites(*numbers: int) -> list[dict[str, Any]]:
    return [citation(n).to_dict() for n in numbers]


def test_the_top_prediction_decides_and_abstaining_is_never_right() -> None:
    right, second, abstained = (
        score_record(record(0)),
        score_record(record(0, prediction=["TP53", "egfr"])),
        score_record(record(0, abstained=True)),
    )
    assert (right["right"], right["exact_match"], right["f1"], right["rank"]) == (True, True, 1.0, 1)
    assert (second["right"], second["exact_match"], second["f1"], second["rank"]) == (False, False, 0.0, 2)
    assert (abstained["right"], abstained["exact_match"], abstained["f1"], abstained["rank"]) == (False, True, 1.0, 1)
    nothing = score_record(record(0, prediction=[]))
    assert (nothing["right"], nothing["f1"], nothing["rank"]) == (False, 0.0, None)


def test_partial_words_count_in_f1_alone() -> None:
    found = score_record(record(0, answers=["epidermal growth factor receptor"], prediction=["growth factor receptor kinase"]))
    assert (found["right"], found["f1"]) == (False, pytest.approx(2 * 3 / 8))


def test_a_duplicated_option_is_right_wherever_it_stands() -> None:
    found = score_record(record(0, kind="choice", options=["TERT", "A", "TERT"], answers=["TERT"], prediction=["TERT", "TERT", "A"]))
    assert found["right"] is True and found["rank"] == 1


def test_the_right_node_in_the_evidence_counts_by_name_and_id() -> None:
    shown = [citation(1, "TP53", "7157").to_dict(), citation(2, "Egfr", "1956").to_dict()]
    assert score_record(record(0, shown=shown))["evidence_rank"] == 2
    assert score_record(record(0, shown=shown, answers=["1956"]))["evidence_rank"] == 2
    assert score_record(record(0, shown=shown, answers=["MYC"]))["evidence_rank"] is None
    assert score_record(record(0, shown=shown, kind="choice", options=["EGFR", "X"]))["evidence_rank"] == 2
    aliases = lambda name: ["HER1", "EGFR"] if name == "HER1" else [name]  # noqa: E731
    assert score_record(record(0, shown=shown, kind="choice", answers=["HER1"], prediction=["HER1"]), aliases)["evidence_rank"] == 2
    assert score_record(record(0, shown=shown, kind="true_false", answers=["True"], prediction=["True"]))["evidence_rank"] is None


def test_citations_right_dangling_not_shown_made_up() -> None:
    text = (
        "**Known in the graph**\n\n- A binds B [1].\n- C is bad [2] (not supported by the evidence). D is D [1, 7]. E is not there [3].\n\n"
        "Nothing cited here (not supported by the evidence). The graph does not say more."
    )
    found = score_record(
        record(0, text=text, citations=cites(1, 2, 3), shown=cites(1, 2), unsupported=["C is bad [2].", "Nothing cited here."], removed=2)
    )
    assert {k: found[k] for k in ("citations", "right_citations", "dangling", "not_shown", "removed", "sentences", "unsupported")} == {
        "citations": 5 + 2, "right_citations": 2, "dangling": 1, "not_shown": 1, "removed": 2, "sentences": 5, "unsupported": 2,
    }  # fmt: skip


def test_what_was_judged_as_one_sentence_may_be_several() -> None:
    one = "A is B [1]. It is named C. D is E."
    found = score_record(record(0, text=one, citations=cites(1), shown=cites(1), unsupported=[one]))
    assert (found["right_citations"], found["sentences"], found["unsupported"]) == (0, 1, 1)


def test_escaped_brackets_are_no_citations() -> None:
    assert score_record(record(0, text=r"The compound 2-\[4\]-one is odd."))["citations"] == 0


def test_questions_without_an_answer_and_failures_are_in_no_share() -> None:
    rows = [record(0), record(1, prediction=["x"]), record(2, answers=[]), record(3, error="gone")]
    arm = summarise(rows, ["full"], 0)["arms"]["full"]
    assert (arm["n"], arm["n_scored"], arm["errors"], arm["accuracy"]) == (3, 2, 1, 0.5)
    assert score_record(rows[3]) == {"id": "q003", "arm": "full", "kind": "open", "answerable": True, "error": "gone"}
    only = summarise([record(0, error="gone")], ["full"], 0)["arms"]["full"]
    assert (only["n"], only["accuracy"], only["ci"], only["latency"]["p50"], only["by_kind"]) == (0, None, None, None, {})


def planted() -> list[dict[str, Any]]:
    """100 questions: 60 can be answered, the others cannot. full is right on 45 of the former and abstains on 30 of the latter and on
    6 that it could answer; none is right on 15 that can be answered, on 5 that cannot, and never abstains."""
    rows = []
    for n in range(100):
        kind, able = ("open", "choice", "true_false")[n % 3], n < 60
        answer = {"open": "EGFR", "choice": "B", "true_false": "True"}[kind]
        wrong = {"open": "TP53", "choice": "A", "true_false": "False"}[kind]
        common = {"kind": kind, "answerable": able, "answers": [answer]}
        right_full, abstains = n < 45, 54 <= n < 90
        rows.append(record(n, "full", prediction=[answer if right_full else wrong, answer], abstained=abstains, seconds=n / 100, **common))
        right_none = n < 10 or 50 <= n < 55 or n >= 95
        rows.append(record(n, "none", prediction=[answer if right_none else wrong], **common))
    return rows


def test_what_is_counted_by_arm_by_kind_and_by_answerable() -> None:
    found = summarise(planted(), ["none", "full"], 0)
    full, none = found["arms"]["full"], found["arms"]["none"]
    assert list(found["arms"]) == ["none", "full"]
    assert (full["n"], full["accuracy"], none["accuracy"]) == (100, 0.45, 0.2)
    assert (full["answerable"]["n"], full["answerable"]["accuracy"]) == (60, 0.75)
    assert (full["unanswerable"]["n"], full["unanswerable"]["abstained"], none["unanswerable"]["abstained"]) == (40, 0.75, 0.0)
    assert full["abstention"] == {"right": 30, "wrong": 6, "missed": 10, "precision": round(30 / 36, 6)}
    kinds = full["by_kind"]
    assert {k: (v["n"], v["answerable"]["n"], v["answerable"]["accuracy"]) for k, v in kinds.items()} == {
        "open": (34, 20, 0.75), "choice": (33, 20, 0.75), "true_false": (33, 20, 0.75)
    }  # fmt: skip
    assert kinds["choice"]["unanswerable"]["abstained"] == pytest.approx(10 / 13, abs=1e-6)
    assert (full["recall"]["1"], full["recall"]["5"]) == (round(30 / 67, 6), 1.0)  # 67 questions are not true/false
    assert full["latency"]["p50"] == pytest.approx(0.495) and full["latency"]["p99"] == pytest.approx(0.98, abs=0.002)


def test_intervals_are_those_of_a_bootstrap_over_questions() -> None:
    low, high = summarise(planted(), ["full"], 3)["arms"]["full"]["ci"]
    rng = np.random.default_rng(1)
    right = np.arange(100) < 45
    naive = [right[rng.integers(100, size=100)].mean() for _ in range(10_000)]
    assert (low, high) == pytest.approx(np.percentile(naive, [2.5, 97.5]), abs=0.011)


def test_arms_are_compared_on_the_same_questions() -> None:
    pairs = {(p["arm"], p["other"], p["over"]): p for p in summarise(planted(), ["none", "full"], 0)["paired"]}
    assert set(pairs) == {("none", "full", over) for over in ("all", "answerable", "unanswerable", "open", "choice", "true_false")}
    whole = pairs["none", "full", "all"]
    assert (whole["n"], whole["accuracy_difference"], whole["only_arm"], whole["only_other"]) == (100, -0.25, 10, 35)
    naive_rng = np.random.default_rng(5)
    gap = np.r_[np.zeros(10), -np.ones(35), np.zeros(5), np.ones(5), np.zeros(40), np.ones(5)]
    naive = [gap[naive_rng.integers(100, size=100)].mean() for _ in range(10_000)]
    assert whole["ci"] == pytest.approx(np.percentile(naive, [2.5, 97.5]), abs=0.015)
    assert whole["p"] < 0.001 and whole["ci"][1] < 0
    able = pairs["none", "full", "answerable"]
    assert (able["n"], able["accuracy_difference"]) == (60, -0.5)


def test_the_p_value_is_that_of_the_exact_sign_test() -> None:
    from scipy.stats import binomtest

    rows = [
        record(n, arm, prediction=["EGFR" if right else "x"]) for n in range(30) for arm, right in (("a", n < 16), ("b", n < 4 or n > 24))
    ]
    (found,) = (p for p in summarise(rows, ["a", "b"], 0)["paired"] if p["over"] == "all")
    assert (found["only_arm"], found["only_other"]) == (12, 5)
    assert found["p"] == pytest.approx(binomtest(5, 17).pvalue, abs=0.015)


def test_equal_arms_have_no_difference_and_p_of_one() -> None:
    rows = [record(n, arm) for n in range(20) for arm in ("a", "b")]
    (found,) = summarise(rows, ["a", "b"], 0)["paired"][:1]
    assert (found["accuracy_difference"], found["ci"], found["p"]) == (0.0, [0.0, 0.0], 1.0)


def test_a_question_that_one_arm_failed_on_is_compared_by_nobody() -> None:
    rows = [record(0, "a"), record(0, "b"), record(1, "a"), record(1, "b", error="gone"), record(2, "a")]
    (found,) = summarise(rows, ["a", "b"], 0)["paired"]
    assert found["n"] == 1
    assert compare_arms({"a": [], "b": []}, 0) == []


def test_the_order_of_the_records_changes_nothing_and_the_seed_does() -> None:
    rows = planted()
    mixed = random.Random(0).sample(rows, len(rows))
    assert summarise(rows, ["none", "full"], 0) == summarise(mixed, ["none", "full"], 0)
    other = summarise(rows, ["none", "full"], 1)
    assert other["arms"]["full"]["accuracy"] == 0.45 and other != summarise(rows, ["none", "full"], 0)


def test_usage_adds_up_and_an_unknown_price_stays_unknown() -> None:
    priced = [record(n, usage={"prompt_tokens": 10, "completion_tokens": 5, "cost": 0.25, "calls": 1}) for n in range(4)]
    assert summarise(priced, ["full"], 0)["arms"]["full"]["usage"] == {"calls": 4, "tokens": 60, "cost": 1.0}
    assert summarise([record(0)], ["full"], 0)["arms"]["full"]["usage"] == {"calls": 0, "tokens": 0, "cost": None}


def test_aliases_make_an_answer_right() -> None:
    def aliases(name: str) -> list[str]:
        return ["ERBB2", "HER2"] if name == "HER2" else [name]

    rows = [record(0, answers=["HER2"], prediction=["ERBB2"])]
    assert summarise(rows, ["full"], 0)["arms"]["full"]["accuracy"] == 0.0
    assert summarise(rows, ["full"], 0, aliases)["arms"]["full"]["accuracy"] == 1.0
