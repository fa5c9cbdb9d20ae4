"""Attention over training heads: the closed form by hand, exact leave-one-out, and how a relation's focus is chosen."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from biobridge_rag.bridge import attention
from biobridge_rag.bridge.attention import answerable, attend, powered, weigh_edges
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
    found = weigh_edges(attend(queries @ x.T, heads, among_of(x), 3, 1.0), edges)
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


def test_edges_are_weighed_as_in_loops() -> None:
    rng = np.random.default_rng(8)
    weights = sparse.csr_matrix(rng.standard_normal((4, 10)) * (rng.random((4, 10)) < 0.6), dtype=np.float32)
    edges = sparse.csr_matrix((rng.random((10, 6)) < 0.4).astype(np.float32))
    before, expected = weights.toarray(), np.zeros((4, 6))
    for i in range(4):
        for h in range(10):
            for t in edges[h].indices:
                expected[i, t] += before[i, h]
    assert np.allclose(weigh_edges(weights, edges), expected, atol=1e-5)
    assert np.array_equal(weights.toarray(), before)


def test_answerable_drops_a_tail_whose_only_edge_is_left_out() -> None:
    edges = sparse.csr_matrix(np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0]], np.float32))
    truth, counts = answerable(edges, np.array([2, 0]))
    assert counts.tolist() == [[1, 2, 1, 0], [0, 1, 2, 0]]
    assert truth.toarray().tolist() == [[0, 0, 1, 0], [0, 1, 0, 0]]
    assert truth.nnz == 2  # what is stored is what is asked
