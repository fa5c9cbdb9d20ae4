"""Our retriever and the simple baselines as scorers: kernel ridge against a dense solve, exact leave-one-out, methods and names."""

from __future__ import annotations

import numpy as np
import pytest

from biobridge_rag.bridge.model import unit
from biobridge_rag.bridge.training import TrainingOptions, train_default
from biobridge_rag.errors import InputError
from biobridge_rag.evaluation import baselines
from biobridge_rag.evaluation.baselines import OURS, SIMPLE, KernelRidge, RetrieverScorer, check_baselines
from biobridge_rag.retrieval.fusion import DEFAULT, Fusion
from biobridge_rag.retrieval.likeness import Heads, Likeness
from biobridge_rag.retrieval.scoring import TailScorer
from biobridge_rag.types import KnowledgeGraph, Node, NodeType, Relation

N, M = 24, 18
TARGET = Relation("target", "gene/protein", "drug")
EMPTY = Relation("enzyme", "gene/protein", "drug")


def graph_of(edges: np.ndarray) -> KnowledgeGraph:
    """A protein a row, a drug a column; one relation with its inverse, and one without an edge."""
    nodes = [Node(f"P{i}", NodeType.PROTEIN, f"p{i}") for i in range(edges.shape[0])]
    nodes += [Node(f"D{i}", NodeType.DRUG, f"d{i}") for i in range(edges.shape[1])]
    head, tail = np.nonzero(edges)
    tail = tail + edges.shape[0]
    m = len(head)
    return KnowledgeGraph(
        "planted", tuple(nodes), (TARGET, TARGET.inverse, EMPTY), np.concatenate([head, tail]).astype(np.int32),
        np.repeat(np.array([0, 1], np.int16), m), np.concatenate([tail, head]).astype(np.int32), np.zeros(2 * m, np.int16), ("made",),
    )  # fmt: skip


@pytest.fixture(scope="module")
def edges() -> np.ndarray:
    """Families of four proteins bind the drugs of their family; the last protein binds nothing."""
    rng = np.random.default_rng(0)
    same = (np.arange(N) // 4)[:, None] == (np.arange(M) // 3)[None, :]
    found = (rng.random((N, M)) < np.where(same, 0.7, 0.06)).astype(np.float32)
    found[-1] = 0.0
    return found


@pytest.fixture(scope="module")
def tables() -> dict[NodeType, np.ndarray]:
    rng = np.random.default_rng(1)
    proteins = np.repeat(rng.standard_normal((N // 4, 14)), 4, axis=0) + 0.7 * rng.standard_normal((N, 14)) + 0.3
    return {NodeType.PROTEIN: unit(proteins), NodeType.DRUG: unit(rng.standard_normal((M, 10)))}


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return unit(np.random.default_rng(2).standard_normal((5, 14)) + 0.3)


def cosines(tables: dict[NodeType, np.ndarray]) -> dict[NodeType, Likeness]:
    return {t: Likeness(x) for t, x in tables.items()}


def naive(x: np.ndarray, edges: np.ndarray, q: np.ndarray, power: int) -> np.ndarray:
    """k(q) (K + I)^-1 Y over the rows of x, float64."""
    x, q = x.astype(np.float64), q.astype(np.float64)
    kernel = np.array([[max(float(a @ b), 0.0) ** power for b in x] for a in x])
    asked = np.array([max(float(q @ b), 0.0) ** power for b in x])
    return np.asarray(asked @ np.linalg.solve(kernel + np.eye(len(x)), edges))


def best_power(x: np.ndarray, edges: np.ndarray) -> int:
    """The power whose refits without each head rank its edges best; edges that no other head shares are not asked for."""
    used = np.flatnonzero(edges.any(axis=1))
    means = []
    for power in (1, 2, 3):
        found = []
        for i in used:
            others = used[used != i]
            scores, counts = naive(x[others], edges[others], x[i], power), edges[others].sum(axis=0)
            wrong = scores[(edges[i] == 0) & (counts > 0)]
            found += [1.0 / (1 + int((wrong > scores[t]).sum())) for t in np.flatnonzero(edges[i]) if counts[t]]
        means.append(np.mean(found))
    return int(np.argmax(means)) + 1


def test_kernel_ridge_is_the_dense_solve_at_the_power_that_refits_choose(edges: np.ndarray, tables, queries: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    x, used = tables[NodeType.PROTEIN], np.flatnonzero(edges.any(axis=1))
    power = best_power(x, edges)
    found = KernelRidge(graph_of(edges), cosines(tables)).score(Heads(queries), TARGET)["kernel-ridge"]
    assert found.shape == (5, M) and found.dtype == np.float32
    assert np.allclose(found, [naive(x[used], edges[used], q, power) for q in queries], atol=1e-4)


def test_the_power_is_chosen_for_each_graph(tables, queries: np.ndarray, monkeypatch: pytest.MonkeyPatch, edges: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    x, used = tables[NodeType.PROTEIN], np.flatnonzero(edges.any(axis=1))
    for power in (1, 2, 3):
        monkeypatch.setattr(baselines, "_POWERS", (power,))
        found = KernelRidge(graph_of(edges), cosines(tables)).score(Heads(queries[:1]), TARGET)["kernel-ridge"][0]
        assert np.allclose(found, naive(x[used], edges[used], queries[0], power), atol=1e-4)


def test_kernel_ridge_of_graph_nodes_is_a_refit_without_them(edges: np.ndarray, tables) -> None:  # type: ignore[no-untyped-def]
    """Also for the last protein, which has no edge and so nothing to leave out."""
    x, used, rows = tables[NodeType.PROTEIN], np.flatnonzero(edges.any(axis=1)), np.array([3, 0, N - 1, 11])
    ridge, power = KernelRidge(graph_of(edges), cosines(tables)), best_power(x, edges)
    found = ridge.score(Heads(x[rows], rows), TARGET)["kernel-ridge"]
    for scores, row in zip(found, rows, strict=True):
        others = used[used != row]
        assert np.allclose(scores, naive(x[others], edges[others], x[row], power), atol=1e-4)
    seen = ridge.score(Heads(x[rows]), TARGET)["kernel-ridge"]
    assert np.abs(seen - found)[[0, 1, 3]].max(axis=1).min() > 0.01
    assert np.allclose(seen[2], found[2], atol=1e-6)


def test_above_the_limit_the_seed_draws_the_heads(edges: np.ndarray, tables, queries, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(baselines, "_MAX_HEADS", 10)
    graph, x = graph_of(edges), tables[NodeType.PROTEIN]
    a, b, c = (KernelRidge(graph, cosines(tables), seed).score(Heads(queries), TARGET)["kernel-ridge"] for seed in (0, 0, 1))
    assert np.array_equal(a, b) and np.abs(a - c).max() > 0.01
    ridge = KernelRidge(graph, cosines(tables))
    ridge.score(Heads(queries), TARGET)
    rows, power, _ = ridge._fitted[TARGET]
    assert len(rows) == 10 and np.allclose(a, [naive(x[rows], edges[rows], q, power) for q in queries], atol=1e-4)
    out = np.setdiff1d(np.flatnonzero(edges.any(axis=1)), rows)[:1]  # never learned from, so nothing is left out
    assert np.allclose(ridge.score(Heads(x[out], out), TARGET)["kernel-ridge"][0], naive(x[rows], edges[rows], x[out[0]], power), atol=1e-4)


def test_kernel_ridge_scores_relations_in_any_order(edges: np.ndarray, tables, queries: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    ridge, drugs = KernelRidge(graph_of(edges), cosines(tables)), tables[NodeType.DRUG][:2]
    first = ridge.score(Heads(queries), TARGET)["kernel-ridge"]
    assert ridge.score(Heads(drugs), TARGET.inverse)["kernel-ridge"].shape == (2, N)
    assert np.array_equal(ridge.score(Heads(queries), TARGET)["kernel-ridge"], first)


def test_kernel_ridge_goes_by_the_likeness_that_it_is_given(edges: np.ndarray, tables) -> None:  # type: ignore[no-untyped-def]
    """An aligner of other vectors: what the table says is not read, for queries, for nodes of the graph, and for the regression."""
    other = unit(np.random.default_rng(7).standard_normal((N, 6)) + 0.4)
    asked = unit(np.random.default_rng(8).standard_normal((3, 6)) + 0.4)

    class OfOthers:
        def similarities(self, sequences: list[str]) -> np.ndarray:
            return asked[[int(s) for s in sequences]] @ other.T

    given = {NodeType.PROTEIN: Likeness(tables[NodeType.PROTEIN], other @ other.T, OfOthers())}  # type: ignore[arg-type]
    ridge, x, used = KernelRidge(graph_of(edges), given), tables[NodeType.PROTEIN], np.flatnonzero(edges.any(axis=1))
    power = best_power(other, edges)
    found = ridge.score(Heads(x[:3], values=[("2",), ("0",), ("1",)]), TARGET)["kernel-ridge"]
    assert np.allclose(found, [naive(other[used], edges[used], asked[i], power) for i in (2, 0, 1)], atol=1e-4)
    rows = np.array([3, 11])
    left_out = ridge.score(Heads(x[rows], rows), TARGET)["kernel-ridge"]
    for scores, row in zip(left_out, rows, strict=True):
        kept = used[used != row]
        assert np.allclose(scores, naive(other[kept], edges[kept], other[row], power), atol=1e-4)


def test_a_relation_without_edges_is_left_out(edges: np.ndarray, tables, queries: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    graph = graph_of(edges)
    assert KernelRidge(graph, cosines(tables)).score(Heads(queries), EMPTY) == {}
    assert RetrieverScorer(retriever(graph, tables), {}).score(Heads(queries), EMPTY) == {}


def retriever(graph: KnowledgeGraph, tables: dict[NodeType, np.ndarray]) -> TailScorer:
    bridge, _ = train_default(graph, {t.value: x for t, x in tables.items()}, TrainingOptions(hidden=16, epochs=0), lambda *_: None)
    return TailScorer(graph, tables, {t: unit(bridge.project(x, t.value)) for t, x in tables.items()}, bridge)


@pytest.fixture(scope="module")
def scorer(edges: np.ndarray, tables) -> TailScorer:  # type: ignore[no-untyped-def]
    return retriever(graph_of(edges), tables)


@pytest.mark.parametrize("rows", [None, np.array([3, 0, N - 1])])
def test_the_retrievers_methods_are_its_parts(scorer: TailScorer, edges: np.ndarray, rows: np.ndarray | None) -> None:
    x = scorer.tables[NodeType.PROTEIN][[3, 0, N - 1]]
    learned = Fusion(np.array([1.0, 0.3, 0.0, 1.0, 0.0, 0.01]), DEFAULT.calibration, DEFAULT.likeness, 30)
    found = RetrieverScorer(scorer, {TARGET: learned}).score(Heads(x, rows), TARGET)
    parts = scorer.parts(Heads(x, rows), TARGET)
    assert tuple(found) == (*OURS, "analogues", "popularity")
    fused = learned.score(parts)
    if rows is not None:  # what the graph states of a head comes first, in the order of the prediction
        fused = fused + edges[rows] * (1.0 + fused.max(axis=1, keepdims=True))
        linked = [(scores[edges[r] > 0], scores[edges[r] == 0]) for scores, r in zip(found["fused"], rows, strict=True)]
        assert all(stated.min() > rest.max() for stated, rest in linked if len(stated)) and any(len(stated) for stated, _ in linked)
    assert np.allclose(found["fused"], fused)
    assert np.allclose(found["bridge"], parts.bridge) and np.allclose(found["analogues"], parts.close)
    count = edges.sum(axis=0) if rows is None else edges.sum(axis=0) - edges[rows]
    assert np.allclose(found["popularity"], np.broadcast_to(count, (3, M)))
    unlearned = RetrieverScorer(scorer, {}).score(Heads(x, rows), TARGET)
    assert rows is not None or np.allclose(unlearned["fused"], DEFAULT.score(parts))
    assert np.abs(unlearned["fused"] - found["fused"]).max() > 0.01


def test_only_the_methods_asked_for_are_scored(scorer: TailScorer, queries: np.ndarray) -> None:
    asked = RetrieverScorer(scorer, {}, ("bridge", "popularity"))
    assert tuple(asked.score(Heads(queries), TARGET)) == asked.methods == ("bridge", "popularity")


def test_blocks_of_heads_do_not_change_the_scores(scorer: TailScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.arange(7)
    heads = Heads(scorer.tables[NodeType.PROTEIN][rows], rows)
    whole = RetrieverScorer(scorer, {}).score(heads, TARGET)
    monkeypatch.setattr(baselines, "_BLOCK", 3)
    split = RetrieverScorer(scorer, {}).score(heads, TARGET)
    assert all(np.allclose(split[m], whole[m], atol=1e-5) for m in whole)


def test_left_out_heads_are_ranked_better_by_the_methods_than_by_popularity(scorer: TailScorer, edges: np.ndarray) -> None:
    """What was planted is found: the mean rank of a head's edges, its own left out."""
    rows = np.flatnonzero(edges.any(axis=1))
    heads = Heads(scorer.tables[NodeType.PROTEIN][rows], rows)
    ridge = KernelRidge(scorer.graph, scorer.likeness).score(heads, TARGET)
    scores = RetrieverScorer(scorer, {}).score(heads, TARGET) | ridge
    above = {m: np.mean([(s[i, edges[r] == 0] >= s[i, t]).mean() for i, r in enumerate(rows) for t in np.flatnonzero(edges[r])])
             for m, s in scores.items()}  # fmt: skip
    assert all(above[m] < above["popularity"] - 0.1 for m in above if m != "popularity")


def test_an_unknown_baseline_lists_the_valid_ones() -> None:
    assert check_baselines(["popularity", "kernel-ridge"], SIMPLE) == ["popularity", "kernel-ridge"]
    with pytest.raises(InputError, match="'popular'") as error:
        check_baselines(["popularity", "popular"], SIMPLE)
    assert "popularity, analogues, kernel-ridge" in str(error.value.help)
