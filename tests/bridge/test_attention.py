"""Attention over training heads: the closed form by hand, exact leave-one-out, and how a relation's focus is chosen."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from biobridge_rag.bridge import attention
from biobridge_rag.bridge.attention import DEGREES, POWERS, Focus, answerable, attend, better, choose_focus, powered, weigh_edges
from biobridge_rag.bridge.model import unit


def unit_rows(seed: int, n: int, width: int = 12) -> np.ndarray:
    """Rows with a common part, so that most cosines are above 0."""
    return unit(np.random.default_rng(seed).standard_normal((n, width)) + 0.6)


def among_of(x: np.ndarray):  # type: ignore[no-untyped-def]
    return lambda rows: x[rows] @ x[rows].T


def naive_weights(x: np.ndarray, asked: np.ndarray, heads: np.ndarray, power: int, ridge: float, m: int, out: int = -1) -> np.ndarray:
    """One query's weights over all rows, float64: its m nearest heads but `out`, each head by itself."""
    cosine = [float(asked.astype(np.float64) @ row.astype(np.float64)) for row in x]
    near = [h for h in sorted(heads.tolist(), key=lambda h: -cosine[h]) if h != out][:m]
    near = [h for h in near if cosine[h] > 0.0]
    weights = np.zeros(len(x))
    if near:
        system = np.maximum(x[near].astype(np.float64) @ x[near].T, 0.0) ** power + ridge * np.eye(len(near))
        weights[near] = np.linalg.solve(system, np.array([cosine[h] ** power for h in near]))
    return weights


@pytest.mark.parametrize("power", [1, 2, 3, 6])
def test_powered_is_the_positive_part_to_the_power(power: int) -> None:
    cosines = np.array([[-1.0, -0.2, 0.0], [0.3, 0.5, 1.0]], np.float32)
    before = cosines.copy()
    assert np.allclose(powered(cosines, power), np.where(cosines > 0, cosines.astype(float) ** power, 0.0), atol=1e-7)
    assert np.array_equal(cosines, before)
    assert powered(cosines.astype(np.float16), power).dtype == np.float32


@pytest.mark.parametrize(("power", "ridge", "m"), [(3, 1.0, 7), (2, 1.0, 7), (6, 0.3, 5), (3, 0.1, 1)])
def test_weights_are_the_dense_solution_among_the_nearest(monkeypatch: pytest.MonkeyPatch, power: int, ridge: float, m: int) -> None:
    monkeypatch.setattr(attention, "NEIGHBOURS", m)
    x, queries = unit_rows(0, 25), unit_rows(1, 6)
    heads = np.array([0, 2, 3, 5, 7, 8, 11, 13, 14, 17, 20, 21, 24])
    found = attend(queries @ x.T, heads, among_of(x), power, ridge).toarray()
    expected = np.stack([naive_weights(x, q, heads, power, ridge, m) for q in queries])
    assert found.shape == (6, 25) and found.dtype == np.float32
    assert np.allclose(found, expected, atol=1e-5)
    assert (np.count_nonzero(found, axis=1) <= m).all() and np.count_nonzero(found)


def test_with_few_heads_it_is_the_exact_kernel_ridge_regression() -> None:
    """Where the query is like every head; a head that it is not like at all takes no part, nor in the system."""
    x, queries = unit(np.abs(unit_rows(2, 30))), unit(np.abs(unit_rows(3, 5)))
    heads, edges = np.arange(30), sparse.random(30, 9, 0.3, "csr", np.float32, np.random.default_rng(0), data_rvs=np.ones)
    assert len(heads) <= attention.NEIGHBOURS and (queries @ x.T).min() > 0.0
    kernel = np.maximum(x.astype(np.float64) @ x.T, 0.0) ** 3
    whole = np.maximum(queries.astype(np.float64) @ x.T, 0.0) ** 3 @ np.linalg.solve(kernel + np.eye(30), edges.toarray())
    found = weigh_edges(attend(queries @ x.T, heads, among_of(x), 3, 1.0), edges, 0.0)
    assert np.allclose(found, whole, atol=1e-5)


@pytest.mark.parametrize("m", [6, 300])
def test_a_similarity_of_minus_one_is_a_refit_without_that_head(monkeypatch: pytest.MonkeyPatch, m: int) -> None:
    monkeypatch.setattr(attention, "NEIGHBOURS", m)
    x, heads = unit_rows(4, 20), np.arange(1, 20, 2)
    similar = x[heads] @ x.T
    similar[np.arange(len(heads)), heads] = -1.0
    found = attend(similar, heads, among_of(x), 3, 1.0).toarray()
    for row, head in zip(found, heads, strict=True):
        assert row[head] == 0.0
        without = attend((x[head] @ x.T)[None], heads[heads != head], among_of(x), 3, 1.0).toarray()[0]
        assert np.allclose(row, without, atol=1e-5)
        assert np.allclose(row, naive_weights(x, x[head], heads, 3, 1.0, m, out=int(head)), atol=1e-5)


def test_a_head_that_is_not_left_out_does_weigh() -> None:
    x, heads = unit_rows(4, 20), np.arange(20)
    assert (attend(x @ x.T, heads, among_of(x), 3, 1.0).toarray()[heads, heads] > 0.1).all()


def test_two_twins_share_the_weight_of_one() -> None:
    x = unit(np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], np.float32))
    query = unit(np.array([[1.0, 0.9, 0.0]], np.float32))
    alone = attend(query @ x.T, np.array([0, 2]), among_of(x), 3, 0.01).toarray()[0]
    both = attend(query @ x.T, np.array([0, 1, 2]), among_of(x), 3, 0.01).toarray()[0]
    assert both[0] == pytest.approx(both[1], rel=1e-3)
    assert both[0] + both[1] == pytest.approx(alone[0], rel=0.01)
    assert both[2] == pytest.approx(alone[2], rel=1e-3)


def test_without_a_positive_similarity_there_are_no_weights() -> None:
    x = unit_rows(5, 8)
    similar = np.full((2, 8), -0.5, np.float32)
    similar[1, 3] = 0.5
    found = attend(similar, np.arange(8), among_of(x), 3, 1.0).toarray()
    assert not found[0].any()
    assert np.flatnonzero(found[1]).tolist() == [3]
    assert found[1, 3] == pytest.approx(0.5**3 / (1.0 + 1.0))


def test_without_heads_or_queries_there_are_no_weights() -> None:
    x = unit_rows(5, 8)
    none = attend(x[:3] @ x.T, np.zeros(0, np.int64), among_of(x), 3, 1.0)
    assert none.shape == (3, 8) and not none.nnz
    assert attend(x[:0] @ x.T, np.arange(8), among_of(x), 3, 1.0).shape == (0, 8)


def test_power_and_ridge_change_the_weights() -> None:
    x, heads = unit_rows(6, 15), np.arange(15)
    similar = unit_rows(7, 2) @ x.T
    base, closer, flatter = (attend(similar, heads, among_of(x), p, r).toarray() for p, r in ((3, 1.0), (6, 1.0), (3, 5.0)))
    assert np.abs(base - closer).max() > 1e-3
    assert np.abs(base).sum() > np.abs(flatter).sum()


def test_halves_of_stored_similarities_are_close_enough() -> None:
    x, heads = unit_rows(6, 40), np.arange(40)
    half = (x @ x.T).astype(np.float16)
    similar = unit_rows(7, 4) @ x.T
    exact = attend(similar, heads, among_of(x), 3, 1.0).toarray()
    assert np.allclose(attend(similar, heads, lambda r: half[np.ix_(r, r)], 3, 1.0).toarray(), exact, atol=2e-3)


def test_similarities_that_are_no_inner_products_are_solved_as_well() -> None:
    """Alignments may find a like b and b like c, but a unlike c: with little ridge the system is not positive definite."""
    among = np.array([[1.0, 0.95, 0.0], [0.95, 1.0, 0.95], [0.0, 0.95, 1.0]], np.float32)
    similar = np.array([[0.9, 0.8, 0.3]], np.float32)
    for ridge, definite in ((0.01, False), (1.0, True)):
        system = among.astype(np.float64) + ridge * np.eye(3)
        assert (np.linalg.eigvalsh(system).min() > 0.0) == definite
        found = attend(similar, np.arange(3), lambda rows: among[np.ix_(rows, rows)], 1, ridge).toarray()[0]
        assert np.allclose(found, np.linalg.solve(system, similar[0]), atol=1e-3)


@pytest.mark.parametrize("degree", [0.0, 0.25, 0.5, 1.0])
def test_edges_are_weighed_as_in_loops(degree: float) -> None:
    rng = np.random.default_rng(8)
    weights = sparse.csr_matrix(rng.standard_normal((4, 10)) * (rng.random((4, 10)) < 0.6), dtype=np.float32)
    edges = sparse.csr_matrix((rng.random((10, 6)) < 0.4).astype(np.float32))
    before, expected = weights.toarray(), np.zeros((4, 6))
    for i in range(4):
        for h in range(10):
            for t in edges[h].indices:
                expected[i, t] += before[i, h] * len(edges[h].indices) ** degree
    assert np.allclose(weigh_edges(weights, edges, degree), expected, atol=1e-5)
    assert np.array_equal(weights.toarray(), before)


def test_the_degree_changes_what_ranks_first() -> None:
    edges = sparse.csr_matrix(np.array([[1, 0, 0, 0, 0], [0, 1, 1, 1, 1]], np.float32))
    weights = sparse.csr_matrix(np.array([[0.5, 0.4]], np.float32))
    assert weigh_edges(weights, edges, 0.0).argmax() == 0
    assert weigh_edges(weights, edges, 0.5).argmax() == 1


def test_answerable_drops_a_tail_whose_only_edge_is_left_out() -> None:
    edges = sparse.csr_matrix(np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0]], np.float32))
    truth, counts = answerable(edges, np.array([2, 0]))
    assert counts.tolist() == [[1, 2, 1, 0], [0, 1, 2, 0]]
    assert truth.toarray().tolist() == [[0, 0, 1, 0], [0, 1, 0, 0]]
    assert truth.nnz == 2  # what is stored is what is asked


def planted_focus(rng: np.random.Generator, n: int = 60) -> tuple[np.ndarray, sparse.csr_matrix]:
    """Heads in pairs of near twins within one great crowd of likeness: each pair has a tail of its own, and the crowd has many edges
    to common tails, so that only who looks closely finds the pair's."""
    pair = rng.standard_normal((n // 2, 10))
    x = unit(np.repeat(pair / np.linalg.norm(pair, axis=1, keepdims=True), 2, axis=0) + 0.05 * rng.standard_normal((n, 10)) + 0.35)
    edges = np.zeros((n, n // 2 + 6), np.float32)
    edges[np.arange(n), np.arange(n) // 2] = 1.0
    edges[:, n // 2 :] = rng.random((n, 6)) < 0.5
    return x, sparse.csr_matrix(edges)


def chosen(x: np.ndarray, edges: sparse.csr_matrix, ridge: float = 1.0, seed: int = 0, rows: np.ndarray | None = None) -> Focus:
    rows = np.arange(len(x)) if rows is None else rows
    return choose_focus(x @ x.T, rows, edges, ridge, np.random.default_rng(seed))


def naive_gains(x: np.ndarray, edges: sparse.csr_matrix, focus: Focus) -> list[list[float]]:
    """1 / filtered rank of every answerable edge of each left-out head, all in loops."""
    y, n = edges.toarray(), len(x)
    out = []
    for i in range(n):
        others = np.delete(y, i, axis=0).sum(axis=0)
        weights = naive_weights(x, x[i], np.arange(n), focus.power, 1.0, 300, out=i)
        scores = (weights * np.maximum(y.sum(axis=1), 1.0) ** focus.degree) @ y
        true = [t for t in np.flatnonzero(y[i]) if others[t]]
        wrong = [s for t, s in enumerate(scores) if not y[i, t] and others[t]]
        out.append(
            [1.0 / (1 + sum(s > scores[t] + 1e-9 for s in wrong) + sum(abs(s - scores[t]) <= 1e-9 for s in wrong) / 2) for t in true]
        )
    return out


def test_a_planted_focus_is_found() -> None:
    """The common likeness drowns the pairs unless one looks closely; the choice is that of loops over all heads."""
    x, edges = planted_focus(np.random.default_rng(3))
    found = chosen(x, edges)
    gains = {f: np.concatenate(naive_gains(x, edges, f)).mean() for f in (Focus(p, d) for p in POWERS for d in DEGREES)}
    assert found == max(gains, key=lambda f: gains[f])
    assert found.power > Focus().power
    assert gains[found] > gains[Focus()] + 0.02


def test_every_focus_is_tried_on_left_out_heads_and_asked_tails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sparse noise with tails that one head has, or none: these are no candidates, though others score below the 0 that they have."""
    rng, seen = np.random.default_rng(2), []
    x = unit(rng.standard_normal((30, 8)))
    edges = sparse.csr_matrix((rng.random((30, 40)) < 0.05).astype(np.float32))
    real = attention.reciprocal_ranks
    monkeypatch.setattr(attention, "reciprocal_ranks", lambda *a: seen.append(real(*a)) or seen[-1])
    chosen(x, edges)
    assert len(seen) == len(POWERS) * len(DEGREES)
    for found, focus in zip(seen, (Focus(p, d) for p in POWERS for d in DEGREES), strict=True):
        assert np.allclose(found, np.concatenate(naive_gains(x, edges, focus)), atol=1e-3), focus


def test_the_default_is_kept_where_nothing_is_better() -> None:
    rng = np.random.default_rng(1)
    noise = unit(rng.standard_normal((40, 200)) + 0.1)
    edges = sparse.csr_matrix((rng.random((40, 12)) < 0.3).astype(np.float32))
    assert [chosen(noise, edges, seed=s) for s in range(2)] == [Focus(), Focus()]


def test_better_needs_more_than_two_standard_errors() -> None:
    """Four heads of ten gain alike: that is two standard errors of the difference, and not more. Five are more. Edges of one head count
    as one observation."""
    default, other = Focus(), Focus(6, 0.0)
    flat, owner = np.full(10, 0.2), np.arange(10)
    four, five = flat.copy(), flat.copy()
    four[:4], five[:5] = 0.9, 0.9
    assert better({default: flat, other: four}, default, owner) == default
    assert better({default: flat, other: five}, default, owner) == other
    assert better({default: flat, other: five}, default, np.array([0, 0, 0, 0, 0, 1, 2, 3, 4, 5])) == default
    assert better({default: five, other: flat}, default, owner) == default


def test_under_twenty_heads_the_default_is_kept() -> None:
    x, edges = planted_focus(np.random.default_rng(3))
    assert chosen(x, edges) != Focus()
    assert chosen(x, edges, rows=np.arange(19)) == Focus()
    assert chosen(x[:0], edges[:0]) == Focus()


def test_heads_whose_tails_nobody_else_has_leave_the_default() -> None:
    x = unit_rows(9, 30)
    assert chosen(x, sparse.identity(30, np.float32, "csr")) == Focus()


def test_the_ridge_and_the_seed_of_choose_focus_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ridge reaches the weights; the seed draws which heads are left out where there are more than are asked."""
    x, edges = planted_focus(np.random.default_rng(3))
    seen: list[tuple[float, tuple[int, ...]]] = []

    def spy(similar: np.ndarray, heads: np.ndarray, among, power: int, ridge: float):  # type: ignore[no-untyped-def]
        seen.append((ridge, tuple(np.flatnonzero((similar == -1.0).any(axis=0)).tolist())))
        return attend(similar, heads, among, power, ridge)

    monkeypatch.setattr(attention, "attend", spy)
    monkeypatch.setattr(attention, "_CHOSEN_FROM", 25)
    for ridge, seed in ((1.0, 0), (0.1, 0), (1.0, 1)):
        chosen(x, edges, ridge, seed)
    a, b, c = seen[0], seen[len(POWERS)], seen[2 * len(POWERS)]
    assert (a[0], b[0]) == (1.0, 0.1)
    assert a[1] == b[1] != c[1] and len(a[1]) == len(c[1]) == 25
