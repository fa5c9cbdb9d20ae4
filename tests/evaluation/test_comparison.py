"""Bootstrap intervals cover, the paired test is calibrated, and both stand on heads and not on triples."""

import numpy as np
import pytest

from biobridge_rag.errors import InputError
from biobridge_rag.evaluation import comparison
from biobridge_rag.evaluation.comparison import PerHead, bootstrap, compare, intervals, sign_flip_p


def per_head(values: np.ndarray, triples: np.ndarray | None = None, group: str = "drug", heads: np.ndarray | None = None) -> PerHead:
    """values (h, n_methods): each head's mean MRR by method; the other metrics are the same."""
    n, m = values.shape
    triples = np.ones(n) if triples is None else np.asarray(triples, dtype=float)
    sums = np.repeat((values * triples[:, None])[:, :, None], 4, axis=2)
    return PerHead(group, np.arange(n) if heads is None else heads, triples, sums, tuple("abcdef"[:m]))


def test_resamples_equal_a_naive_draw_of_heads() -> None:
    """Each drawn metric is that of some multiset of heads: rebuilt from the counts with the same generator."""
    rng = np.random.default_rng(0)
    table = per_head(rng.random((7, 2)), rng.integers(1, 5, 7))
    got = bootstrap([table], 20, np.random.default_rng(5))
    drawn = np.random.default_rng(5).integers(7, size=(20, 7))
    for k, heads in enumerate(drawn):
        want = sum(table.sums[h] for h in heads) / sum(table.triples[h] for h in heads)
        assert got[k] == pytest.approx(want, abs=1e-12)


def test_resamples_in_pieces_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    tables = [per_head(rng.random((9, 2))), per_head(rng.random((6, 2)), group="disease")]
    whole = compare(tables[:1], ["a"], 50, 1)
    monkeypatch.setattr(comparison, "_CELLS", 20)
    assert compare(tables[:1], ["a"], 50, 1) == whole


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        drawn = bootstrap([per_head(rng.beta(1, 3, (60, 1)))], 300, rng)
        low, high = intervals(drawn, ["a"])["a"]["mrr"]
        covered += low <= 0.25 <= high
    assert 0.90 <= covered / 300 <= 0.99


def test_heads_are_drawn_and_not_triples() -> None:
    """Ten triples a head that all agree say no more than one: the interval must not shrink."""
    values = np.random.default_rng(2).random((50, 1))
    one = intervals(bootstrap([per_head(values)], 2000, np.random.default_rng(0)), ["a"])["a"]["mrr"]
    ten = intervals(bootstrap([per_head(values, np.full(50, 10))], 2000, np.random.default_rng(0)), ["a"])["a"]["mrr"]
    assert ten == one
    assert one[1] - one[0] > 0.1


def test_the_macro_mean_weighs_relations_alike_and_draws_a_head_once_for_all() -> None:
    values = np.random.default_rng(3).random((40, 1))
    single = per_head(values)
    twice = bootstrap([single, single], 500, np.random.default_rng(0))
    assert twice == pytest.approx(bootstrap([single], 500, np.random.default_rng(0)))  # the same heads: nothing new is known
    apart = per_head(values, heads=np.arange(100, 140))
    assert bootstrap([single, apart], 500, np.random.default_rng(0)).std() < 0.85 * twice.std()  # other heads: it is
    small = per_head(np.zeros((5, 1)), group="disease")
    assert bootstrap([per_head(np.ones((500, 1))), small], 10, np.random.default_rng(0)) == pytest.approx(0.5)


def test_a_relation_whose_heads_were_not_drawn_keeps_its_value() -> None:
    tables = [per_head(np.full((50, 1), 0.2)), per_head(np.full((1, 1), 0.8), heads=np.array([7]))]
    assert bootstrap(tables, 200, np.random.default_rng(0)) == pytest.approx(0.5)


def test_a_planted_difference_is_found_and_its_sign_is_ours_minus_theirs() -> None:
    rng = np.random.default_rng(4)
    base = rng.random((200, 1)) * 0.5
    table = per_head(np.hstack([base + 0.1 + rng.normal(0, 0.05, (200, 1)), base, base / 2]))
    found = compare([table], ["a"], 1000, 0)
    assert found["best_baseline"] == "b"
    against = found["against_best_baseline"]["a"]
    assert against["p"] == pytest.approx(1 / 1001, abs=1e-6)
    assert 0.08 < against["ci"][0] < against["mrr_difference"] < against["ci"][1] < 0.12
    assert found["ci"]["a"]["mrr"][1] - found["ci"]["a"]["mrr"][0] > 2 * (against["ci"][1] - against["ci"][0])  # pairing pays
    worse = compare([table], ["b"], 1000, 0)["against_best_baseline"]["b"]
    assert worse["mrr_difference"] < worse["ci"][1] < 0


def test_p_is_uniform_where_there_is_no_difference() -> None:
    """Heads of unequal weight, skewed differences; also over two relations that share their heads."""
    rng = np.random.default_rng(5)
    ps, both = [], []
    for _ in range(400):
        noise = rng.exponential(1, (30, 2))
        table = per_head(noise, rng.integers(1, 6, 30))
        ps.append(sign_flip_p([table], "a", "b", 199, rng))
        both.append(sign_flip_p([table, per_head(noise)], "a", "b", 199, rng))
    for found in (np.array(ps), np.array(both)):
        assert abs((found <= 0.05).mean() - 0.05) < 0.035
        assert abs((found <= 0.5).mean() - 0.5) < 0.09
        assert abs(found.mean() - 0.5) < 0.06


def test_p_equals_all_signs_counted() -> None:
    values = np.random.default_rng(6).normal(0.3, 0.5, (8, 2))
    gap = values[:, 0] - values[:, 1]
    signs = np.array(np.meshgrid(*[[-1, 1]] * 8)).reshape(8, -1)
    exact = (np.abs(signs.T @ gap) >= abs(gap.sum()) - 1e-12).mean()
    got = sign_flip_p([per_head(values)], "a", "b", 20_000, np.random.default_rng(0))
    assert got == pytest.approx(exact, abs=0.015)
    assert 0.02 < exact < 0.98


def test_equal_methods_differ_by_nothing() -> None:
    values = np.repeat(np.random.default_rng(7).random((20, 1)), 2, axis=1)
    against = compare([per_head(values)], ["a"], 100, 0)["against_best_baseline"]["a"]
    assert against == {"mrr_difference": 0.0, "ci": [0.0, 0.0], "p": 1.0}


def test_the_seed_and_the_number_of_resamples_count() -> None:
    table = per_head(np.random.default_rng(8).random((30, 2)))
    assert compare([table], ["a"], 100, 0) == compare([table], ["a"], 100, 0)
    assert compare([table], ["a"], 100, 0) != compare([table], ["a"], 100, 1)
    assert compare([table], ["a"], 100, 0) != compare([table], ["a"], 200, 0)
    with pytest.raises(InputError, match="resamples"):
        compare([table], ["a"], 0, 0)


def test_without_a_baseline_there_is_nothing_to_compare_with() -> None:
    found = compare([per_head(np.ones((5, 2)))], ["a", "b"], 10, 0)
    assert found["best_baseline"] is None
    assert found["against_best_baseline"] == {}
    assert set(found["ci"]) == {"a", "b"}
