"""Rank metrics by hand, against a naive re-computation, and against PyKEEN's evaluator."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biobridge_rag.evaluation.metrics import filtered_ranks, gains, mean_of, named, summarise
from biobridge_rag.graph import ranks
from biobridge_rag.graph.ranks import block_ranks


def test_by_hand() -> None:
    scores = np.array([0.9, 0.5, 0.5, 0.1], dtype=np.float32)
    assert filtered_ranks(scores, np.array([0])).tolist() == [1.0]
    assert filtered_ranks(scores, np.array([1])).tolist() == [2.5]  # tied with one other: the mean of 2 and 3
    assert filtered_ranks(scores, np.array([1, 0])).tolist() == [1.5, 1.0]  # the other true tail is filtered
    assert filtered_ranks(scores, np.array([3])).tolist() == [4.0]


def naive(scores: list[float], truth: list[int]) -> list[float]:
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


@st.composite
def blocks(draw: st.DrawFn) -> tuple[np.ndarray, list[list[int]]]:
    """Scores (n, t) with ties and infinities, and each head's true tails in any order, all of them at times."""
    t = draw(st.integers(1, 12))
    value = st.sampled_from([-np.inf, np.inf, -1.5, 0.0, -0.0, 0.25, 1.0, 3e38])
    rows = draw(st.lists(st.lists(value, min_size=t, max_size=t), min_size=1, max_size=6))
    truth = [draw(st.lists(st.integers(0, t - 1), min_size=1, unique=True)) for _ in rows]
    return np.array(rows, dtype=np.float32), truth


def ranks_of(scores: np.ndarray, truth: list[list[int]]) -> list[list[float]]:
    starts = np.cumsum([0, *map(len, truth)])
    got = block_ranks(scores, starts, np.concatenate([np.asarray(t, dtype=np.int64) for t in truth]))
    return [part.tolist() for part in np.split(got, starts[1:-1])]


@pytest.mark.parametrize("few", [0, 2, 1000])
def test_a_block_equals_the_ranks_head_by_head(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By comparison, by sorting, and by both in one block."""
    monkeypatch.setattr(ranks, "_FEW", few)

    @settings(deadline=None, max_examples=200)
    @given(blocks())
    def holds(block: tuple[np.ndarray, list[list[int]]]) -> None:
        scores, truth = block
        got = ranks_of(scores, truth)
        assert got == [naive(row, t) for row, t in zip(scores.tolist(), truth, strict=True)]
        assert got == [filtered_ranks(row, np.array(t)).tolist() for row, t in zip(scores, truth, strict=True)]

    holds()


@settings(deadline=None)
@given(blocks(), st.randoms(use_true_random=False))
def test_ranks_depend_on_the_order_alone_and_not_on_where_a_tail_stands(block: tuple[np.ndarray, list[list[int]]], random) -> None:
    scores, truth = block
    want = ranks_of(scores, truth)
    values = {v: float(i) ** 3 - 7 for i, v in enumerate(sorted(set((scores + 0.0).ravel().tolist())))}
    assert ranks_of(np.vectorize(values.__getitem__)(scores + 0.0), truth) == want  # any increasing function
    order = list(range(scores.shape[1]))
    random.shuffle(order)
    assert ranks_of(scores[:, order], [[order.index(t) for t in ts] for ts in truth]) == want


def test_special_blocks() -> None:
    assert ranks_of(np.full((1, 11), 2, np.float32), [[4]]) == [[6.0]]
    assert ranks_of(np.full((1, 11), 2, np.float32), [[4, 0]]) == [[5.5, 5.5]]
    assert ranks_of(np.array([[3, 1, 2]], np.float32), [[0, 1, 2]]) == [[1.0, 1.0, 1.0]]  # all tails are true
    assert ranks_of(np.array([[np.inf, -np.inf, 0]], np.float32), [[0, 1]]) == [[1.0, 2.0]]


def test_columns_of_any_layout_and_type() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 9, (5, 40)).astype(np.float32)
    truth = [[1, 7], [3], [0, 39], [5], list(range(30))]
    want = ranks_of(scores, truth)
    assert ranks_of(np.asfortranarray(scores), truth) == want
    assert ranks_of(scores.astype(np.float64), truth) == want
    popularity = np.broadcast_to(scores[0], (5, 40))
    assert ranks_of(popularity, truth) == ranks_of(popularity.copy(), truth)


def test_summary() -> None:
    got = summarise([1, 2, 20])
    assert got["mrr"] == pytest.approx((1 + 0.5 + 0.05) / 3, abs=1e-6)
    assert (got["hits@1"], got["hits@3"], got["hits@10"]) == pytest.approx((1 / 3, 2 / 3, 2 / 3), abs=1e-6)
    assert mean_of([{"mrr": 0.2}, {"mrr": 0.4}]) == {"mrr": pytest.approx(0.3)}
    assert mean_of([]) == {}
    assert named(gains(np.array([1.5])).mean(axis=0)) == {"mrr": 0.666667, "hits@1": 0.0, "hits@3": 1.0, "hits@10": 1.0}


def test_a_constant_score_takes_the_mean_rank() -> None:
    assert filtered_ranks(np.zeros(11, np.float32), np.array([4])).tolist() == [6.0]


@pytest.mark.slow
def test_equals_pykeens_evaluator() -> None:
    """Random scores with many ties, several true tails a head, through PyKEEN's own filter and its realistic ranks."""
    import torch
    from pykeen.evaluation import RankBasedEvaluator
    from pykeen.evaluation.evaluator import filter_scores_

    rng = np.random.default_rng(3)
    n, t = 40, 60
    scores = rng.integers(0, 60, (n, t)).astype(np.float32)
    scores[0] = 1.0
    truth = [np.sort(rng.choice(t, rng.integers(1, 9), replace=False)) for _ in range(n)]
    triples = torch.tensor([(h, 0, int(tail)) for h, ts in enumerate(truth) for tail in ts])
    per_triple = torch.from_numpy(scores)[triples[:, 0]]
    mask = torch.tensor([(i, int(o)) for i, (h, _, tail) in enumerate(triples.tolist()) for o in truth[h] if o != tail])
    own = per_triple[torch.arange(len(triples)), triples[:, 2]][:, None]
    evaluator = RankBasedEvaluator(filtered=True, clear_on_finalize=False)
    evaluator.process_scores_(triples, "tail", filter_scores_(per_triple.clone(), mask), own)

    ours = block_ranks(scores, np.cumsum([0, *map(len, truth)]), np.concatenate(truth))
    [theirs] = evaluator.ranks["tail", "realistic"]
    assert ours.tolist() == theirs.tolist()
    assert (ours % 1 == 0.5).any()  # ties were there to be met

    names = ["inverse_harmonic_mean_rank", "hits_at_1", "hits_at_3", "hits_at_10"]
    want = gains(ours).mean(axis=0)
    single = evaluator.finalize()
    assert want == pytest.approx([single.get_metric(f"tail.realistic.{name}") for name in names], abs=1e-7)
    for parts in evaluator.ranks.values():
        parts[:] = [part.astype(np.float64) for part in parts]  # PyKEEN holds ranks as float32, in which reciprocals are rounded
    double = evaluator.finalize()
    assert want == pytest.approx([double.get_metric(f"tail.realistic.{name}") for name in names], abs=1e-9)
    assert 0 < want[1] < want[2] < want[3] < 1
