"""Rank metrics by hand, and against a naive re-computation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biobridge_rag.evaluation.metrics import filtered_ranks, mean_of, summarise


def test_by_hand() -> None:
    scores = np.array([0.9, 0.5, 0.5, 0.1], dtype=np.float32)
    assert filtered_ranks(scores, np.array([0])).tolist() == [1.0]
    assert filtered_ranks(scores, np.array([1])).tolist() == [2.5]  # tied with one other: the mean of 2 and 3
    assert filtered_ranks(scores, np.array([1, 0])).tolist() == [1.5, 1.0]  # the other true tail is filtered
    assert filtered_ranks(scores, np.array([3])).tolist() == [4.0]


def naive(scores: list[int], truth: list[int]) -> list[float]:
    out = []
    for t in truth:
        others = [s for i, s in enumerate(scores) if i not in truth]
        out.append(1 + sum(s > scores[t] for s in others) + sum(s == scores[t] for s in others) / 2)
    return out


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.data())
def test_equals_the_naive_count(scores: list[int], data: st.DataObject) -> None:
    truth = data.draw(st.lists(st.integers(0, len(scores) - 1), min_size=1, unique=True))
    got = filtered_ranks(np.array(scores, dtype=np.float32), np.array(truth))
    assert got.tolist() == naive(scores, truth)


def test_summary() -> None:
    got = summarise([1, 2, 20])
    assert got["mrr"] == pytest.approx((1 + 0.5 + 0.05) / 3, abs=1e-6)
    assert (got["hits@1"], got["hits@3"], got["hits@10"]) == pytest.approx((1 / 3, 2 / 3, 2 / 3), abs=1e-6)
    assert mean_of([{"mrr": 0.2}, {"mrr": 0.4}]) == {"mrr": pytest.approx(0.3)}
    assert mean_of([]) == {}


def test_a_constant_score_takes_the_mean_rank() -> None:
    assert filtered_ranks(np.zeros(11, np.float32), np.array([4])).tolist() == [6.0]
