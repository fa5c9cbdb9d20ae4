"""Fusion: planted parts that help get weight and noise does not; probabilities follow the score; percentiles are percentiles."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from biobridge_rag.bridge.attention import answerable
from biobridge_rag.bridge.model import unit
from biobridge_rag.graph.ranks import reciprocal_ranks
from biobridge_rag.retrieval import fusion
from biobridge_rag.retrieval.fusion import DEFAULT, MIN_HEADS, Fusion, fit
from biobridge_rag.retrieval.likeness import Heads
from biobridge_rag.retrieval.scoring import PARTS, Parts, TailScorer
from biobridge_rag.types import KnowledgeGraph, Node, NodeType, Relation, Vectors

HEADS, TAILS = 60, 40
TARGET = Relation("target", "gene/protein", "drug")
TABLE = unit(np.random.default_rng(9).standard_normal((HEADS, 6)) + 0.5)


class PlantedScorer:
    """Hands out planted parts and edges in place of a graph's; `asked` keeps the rows that were asked for."""

    def __init__(self, edges: np.ndarray, planted: dict[str, np.ndarray]) -> None:
        self.tables = {NodeType.PROTEIN: TABLE}
        self.edges, self.planted = sparse.csr_matrix(edges), planted
        self.asked: list[tuple[np.ndarray, Vectors | None]] = []

    def view(self, _relation: Relation) -> PlantedScorer:
        return self

    def parts(self, heads: Heads, _relation: Relation, cosines: Vectors | None = None) -> Parts:
        rows = heads.rows
        assert rows is not None and np.array_equal(heads.x, TABLE[rows])
        self.asked.append((rows, cosines))
        counts = answerable(self.edges, rows)[1]
        none = np.zeros((HEADS, TAILS), np.float32)
        parts = {name: self.planted.get(name, none)[rows] for name in PARTS}
        near = np.linspace(0.1, 0.9, HEADS, dtype=np.float32)[rows, None]
        return Parts(**parts, similar=near, neighbours=np.zeros_like(near, np.int64), counts=counts)


def planted_edges(seed: int = 0) -> np.ndarray:
    edges = np.random.default_rng(seed).random((HEADS, TAILS)) < 0.12
    edges[0, :], edges[1, :] = True, True  # so that every tail has another head
    return edges.astype(np.float32)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((HEADS, TAILS)).astype(np.float32)


def signal(edges: np.ndarray, seed: int, strength: float = 0.5) -> np.ndarray:
    return np.asarray(noise(seed) + strength * edges, dtype=np.float32)


def learned(scorer: PlantedScorer, rows: np.ndarray | None = None, seed: int = 0) -> Fusion:
    return fit(scorer, TARGET, np.arange(HEADS) if rows is None else rows, seed)  # type: ignore[arg-type]


def weight_of(found: Fusion) -> dict[str, float]:
    return dict(zip(PARTS, found.weights.tolist(), strict=True))


@pytest.mark.parametrize("name", ["close", "wide", "walk", "alike"])
def test_the_part_that_helps_gets_weight_and_noise_does_not(name: str) -> None:
    edges = planted_edges()
    parts = {"bridge": signal(edges, 1), "close": noise(2), "wide": noise(3), "walk": noise(4), "alike": noise(6)} | {
        name: signal(edges, 5, 0.9)
    }
    weights = weight_of(learned(PlantedScorer(edges, parts)))
    assert weights["bridge"] == 1.0 and weights[name] > 0.0
    assert all(not weights[other] for other in ("close", "wide", "walk", "alike") if other != name)


def test_a_popular_tail_is_worth_a_weight_where_edges_follow_popularity() -> None:
    rng = np.random.default_rng(0)
    chance = np.linspace(0.9, 0.02, TAILS)
    edges = (rng.random((HEADS, TAILS)) < chance).astype(np.float32)
    edges[:2] = 1.0
    prior = np.broadcast_to(edges.mean(axis=0), (HEADS, TAILS)).astype(np.float32)
    assert weight_of(learned(PlantedScorer(edges, {"bridge": noise(1), "prior": prior})))["prior"] > 0.0


def test_no_part_is_added_to_a_bridge_that_is_always_right() -> None:
    edges = planted_edges()
    parts = {"bridge": edges + 0.1, "close": signal(edges, 2), "walk": signal(edges, 3)}
    assert weight_of(learned(PlantedScorer(edges, parts))) == dict.fromkeys(PARTS, 0.0) | {"bridge": 1.0}


def test_the_chosen_weights_rank_left_out_edges_better_than_the_bridge_alone() -> None:
    edges = planted_edges()
    scorer = PlantedScorer(edges, {"bridge": signal(edges, 1), "close": signal(edges, 2), "walk": signal(edges, 3)})
    found, rows = learned(scorer), np.arange(HEADS)
    truth, _ = answerable(scorer.edges, rows)
    parts = scorer.parts(Heads(TABLE, rows), TARGET)
    fused, alone = (reciprocal_ranks(s, truth).mean() for s in (found.score(parts), parts.bridge))
    assert weight_of(found)["close"] > 0.0 and weight_of(found)["walk"] > 0.0 and fused > alone + 0.02


def test_a_gain_within_a_standard_error_is_not_taken() -> None:
    """One head of sixty that a part puts right is no evidence, however great its gain; many heads are."""
    edges = np.zeros((HEADS, TAILS), np.float32)
    edges[np.arange(HEADS), np.arange(HEADS) % TAILS] = 1.0
    edges[np.arange(HEADS), (np.arange(HEADS) + 1) % TAILS] = 1.0
    bridge, one, many = noise(1), np.zeros_like(edges), np.zeros_like(edges)
    one[7], many[:30] = edges[7], edges[:30]
    assert weight_of(learned(PlantedScorer(edges, {"bridge": bridge, "close": one})))["close"] == 0.0
    assert weight_of(learned(PlantedScorer(edges, {"bridge": bridge, "close": many})))["close"] > 0.0


def test_a_tail_that_no_other_head_has_is_not_asked_for() -> None:
    """A part that is right about such tails alone gets no weight."""
    edges = planted_edges()
    edges[:, :20] = 0.0
    edges[np.arange(20), np.arange(20)] = 1.0
    certain = np.zeros_like(edges)
    certain[:, :20] = edges[:, :20]
    assert weight_of(learned(PlantedScorer(edges, {"bridge": signal(edges, 1), "close": certain})))["close"] == 0.0


def test_what_is_said_of_tails_that_are_not_asked_for_changes_nothing() -> None:
    """Five tails without an edge, and fifteen whose only head is the one left out."""
    edges = planted_edges()
    edges[:, :20] = 0.0
    edges[np.arange(2, 17), np.arange(15)] = 1.0
    asked = answerable(sparse.csr_matrix(edges), np.arange(HEADS))[1] > 0
    plain = {"bridge": signal(edges, 1), "close": signal(edges, 2), "walk": noise(3)}
    for part in plain.values():
        part[:, 20] = 2.0  # the best of every row, so that what is scaled stays the same
    a = learned(PlantedScorer(edges, plain))
    for changed in (("bridge",), ("close",), tuple(plain)):
        parts = {name: np.where(asked, part, 1.9 if name in changed else 0.0).astype(np.float32) for name, part in plain.items()}
        b = learned(PlantedScorer(edges, parts))
        assert np.array_equal(a.weights, b.weights) and a.calibration == pytest.approx(b.calibration, abs=1e-3)


@pytest.fixture(scope="module")
def fitted() -> tuple[Fusion, Parts]:
    edges = planted_edges()
    scorer = PlantedScorer(edges, {"bridge": signal(edges, 1), "close": signal(edges, 2)})
    return learned(scorer), scorer.parts(Heads(TABLE, np.arange(HEADS)), TARGET)


def test_the_score_is_the_weighted_sum_of_scaled_parts(fitted: tuple[Fusion, Parts]) -> None:
    found, parts = fitted
    expected = np.zeros((HEADS, TAILS))
    for weight, name in zip(found.weights, PARTS, strict=True):
        for i in range(HEADS):
            best = max(getattr(parts, name)[i])
            expected[i] += weight * getattr(parts, name)[i] / best if best else 0.0
    assert np.allclose(found.score(parts), expected, atol=1e-5)


@pytest.mark.parametrize("use", ["fitted", "default"])
def test_probabilities_follow_the_score_and_the_slopes_are_not_negative(fitted: tuple[Fusion, Parts], use: str) -> None:
    found = fitted[0] if use == "fitted" else DEFAULT
    parts = replace(fitted[1], bridge=np.full_like(fitted[1].bridge, 0.5))
    assert (found.calibration[:3] >= 0.0).all() and found.calibration[0] > 0.0
    scores = np.sort(np.random.default_rng(0).random((HEADS, TAILS)).astype(np.float32), axis=1)
    probability = found.probability(scores, parts)
    assert probability.shape == (HEADS, TAILS) and probability.min() >= 0.0 and probability.max() <= 1.0
    assert (np.diff(probability, axis=1) >= -1e-7).all() and (probability[:, -1] > probability[:, 0]).all()


def test_a_commoner_tail_or_a_higher_bridge_is_never_less_probable(fitted: tuple[Fusion, Parts]) -> None:
    found, parts = fitted
    scores = found.score(parts)
    base = found.probability(scores, parts)
    for name in ("bridge", "prior"):
        assert (found.probability(scores, replace(parts, **{name: getattr(parts, name) + 0.1})) >= base - 1e-7).all()


def test_slopes_stay_at_zero_where_evidence_speaks_against_the_truth() -> None:
    edges = planted_edges()
    scorer = PlantedScorer(edges, {"bridge": noise(1) + 1.0 - edges, "prior": np.asarray(1.0 - edges, np.float32)})
    assert learned(scorer).calibration[:3] == pytest.approx(0.0, abs=1e-6)


def test_the_probabilities_sum_to_the_number_of_true_edges_among_the_asked(fitted: tuple[Fusion, Parts]) -> None:
    """The intercept has no ridge, so at the optimum what is stated adds up to what was true (all 40 tails are in the pool)."""
    found, parts = fitted
    assert float(found.probability(found.score(parts), parts).sum()) == pytest.approx(planted_edges().sum(), rel=0.01)


def test_the_calibration_is_the_best_of_its_objective(fitted: tuple[Fusion, Parts]) -> None:
    """No small step in any allowed direction lowers the penalised log loss, computed here from its definition."""
    found, parts = fitted
    scores, y = found.score(parts), planted_edges()

    def loss(c: np.ndarray) -> float:
        p = np.clip(replace(found, calibration=c).probability(scores, parts).astype(np.float64), 1e-9, 1 - 1e-9)
        return float(-(y * np.log(p) + (1 - y) * np.log(1 - p)).sum() + 0.5 * ((c[0] - 1) ** 2 + (c[1:4] ** 2).sum()))

    least = loss(found.calibration)
    for i in range(5):
        for step in (0.1, -0.1):
            moved = found.calibration.copy()
            moved[i] += step
            if i > 2 or moved[i] >= 0.0:
                assert loss(moved) > least - 1e-3


def test_percentiles_rise_from_0_to_100_and_are_clipped(fitted: tuple[Fusion, Parts]) -> None:
    found = fitted[0]
    at = [found.percentile(v) for v in np.linspace(-0.5, 1.5, 80).tolist()]
    assert at == sorted(at) and at[0] == 0.0 and at[-1] == 100.0
    assert found.percentile(0.5) == pytest.approx(50.0, abs=1.0)  # the planted similarities run from 0.1 to 0.9
    assert found.percentile(0.3) == pytest.approx(25.0, abs=1.0)


def test_with_few_heads_weights_and_calibration_are_the_default() -> None:
    edges = planted_edges()
    scorer = PlantedScorer(edges, {"bridge": noise(1), "close": signal(edges, 2, 2.0)})
    few = learned(scorer, np.arange(MIN_HEADS - 1))
    assert np.array_equal(few.weights, DEFAULT.weights) and np.array_equal(few.calibration, DEFAULT.calibration)
    assert few.n_heads == MIN_HEADS - 1 and not np.array_equal(few.likeness, DEFAULT.likeness)
    enough = learned(scorer, np.arange(MIN_HEADS))
    assert not np.array_equal(enough.weights, DEFAULT.weights) and not np.array_equal(enough.calibration, DEFAULT.calibration)


def test_without_an_answerable_edge_or_a_head_the_default_is_used() -> None:
    alone = np.zeros((HEADS, TAILS), np.float32)
    alone[np.arange(TAILS), np.arange(TAILS)] = 1.0
    found = learned(PlantedScorer(alone, {"bridge": noise(1), "close": alone}))
    assert np.array_equal(found.weights, DEFAULT.weights) and np.array_equal(found.calibration, DEFAULT.calibration)
    none = learned(PlantedScorer(alone, {"bridge": noise(1)}), np.zeros(0, np.int64))
    assert none.n_heads == 0 and np.array_equal(none.likeness, DEFAULT.likeness)


def test_at_most_so_many_heads_are_drawn_by_the_seed_with_their_own_cosines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusion, "MAX_HEADS", 25)
    edges, rows = planted_edges(), np.arange(5, 55)
    scorer, cosines = PlantedScorer(edges, {"bridge": signal(edges, 1)}), noise(6)[:50]
    found = [fit(scorer, TARGET, rows, seed, cosines) for seed in (0, 0, 1)]  # type: ignore[arg-type]
    (a, given), (b, _), (c, _) = scorer.asked
    assert np.array_equal(a, b) and not np.array_equal(a, c) and len(set(a.tolist())) == 25 and set(a) <= set(rows)
    assert given is not None and np.array_equal(given, cosines[a - 5])
    assert [f.n_heads for f in found] == [50] * 3
    assert np.array_equal(found[0].calibration, found[1].calibration) and not np.array_equal(found[0].calibration, found[2].calibration)


def test_a_fusion_survives_json(fitted: tuple[Fusion, Parts]) -> None:
    found, parts = fitted
    again = Fusion.from_dict(json.loads(json.dumps(found.to_dict())))
    assert np.array_equal(again.weights, found.weights) and np.array_equal(again.calibration, found.calibration)
    assert np.allclose(again.likeness, found.likeness, atol=1e-4) and again.n_heads == found.n_heads
    assert np.array_equal(again.score(parts), found.score(parts))


def test_a_real_scorer_where_analogues_know_more_than_the_bridge_gives_them_weight() -> None:
    """A graph of families whose drugs bind their proteins, and a bridge that carries nothing: its cosines are noise."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((6, 12))
    x = unit(np.repeat(centres, 6, axis=0) + 0.3 * rng.standard_normal((36, 12)))
    nodes = [Node(f"P{i}", NodeType.PROTEIN, f"p{i}") for i in range(36)] + [Node(f"D{i}", NodeType.DRUG, f"d{i}") for i in range(36)]
    pairs = [(i, j) for i in range(36) for j in range(36) if i // 6 == j // 6 and rng.random() < 0.6]
    graph = KnowledgeGraph(
        "families", tuple(nodes), (TARGET,), np.array([i for i, _ in pairs], np.int32), np.zeros(len(pairs), np.int16),
        np.array([36 + j for _, j in pairs], np.int32), np.zeros(len(pairs), np.int16), ("made",),
    )  # fmt: skip

    class Nothing:
        hidden_dim = 8

        def project(self, x: Vectors, node_type: str) -> Vectors:
            return np.random.default_rng(len(node_type)).standard_normal((len(x), 8)).astype(np.float32)

        def transform(self, x: Vectors, _relation: Relation) -> Vectors:
            return np.random.default_rng(1).standard_normal((len(x), 8)).astype(np.float32)

    bridge = Nothing()
    tables = {NodeType.PROTEIN: x, NodeType.DRUG: x}
    scorer = TailScorer(graph, tables, {t: unit(bridge.project(v, t.value)) for t, v in tables.items()}, bridge)
    found = fit(scorer, TARGET, np.unique([i for i, _ in pairs]), 0)
    weights = weight_of(found)
    assert weights["close"] + weights["wide"] >= 0.3


def test_a_fusion_says_which_parts_it_weighs() -> None:
    weights = np.array([1.0, 0.0, 0.0, 0.0, 0.3, 0.0])
    assert [name for name in PARTS if replace(DEFAULT, weights=weights).weighs(name)] == ["bridge", "alike"]
