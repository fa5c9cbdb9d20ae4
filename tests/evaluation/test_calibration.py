"""Calibration by hand, on probabilities that hold, and on a small planted graph against loops."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from biobridge_rag.bridge.model import unit
from biobridge_rag.bridge.training import TrainingOptions, train_default
from biobridge_rag.evaluation import calibration
from biobridge_rag.evaluation.calibration import TOP, assess_calibration, expected_calibration_error
from biobridge_rag.graph.primekg import UnseenNodes
from biobridge_rag.retrieval.fusion import DEFAULT, Fusion
from biobridge_rag.retrieval.likeness import Heads
from biobridge_rag.retrieval.scoring import TailScorer
from biobridge_rag.types import KnowledgeGraph, Node, NodeType, Relation, Vectors

TARGET = Relation("target", "gene/protein", "drug")
UNTRAINED = Relation("enzyme", "gene/protein", "drug")
N, M = 20, 30


def ece(probability: list[float], true: list[int], **options: int) -> dict[str, object]:
    return expected_calibration_error(np.array(probability), np.array(true, bool), **options)


def test_the_error_is_that_of_a_sum_by_hand() -> None:
    """Bins 0.1 (two: mean 0.15, half true), 0.7 (0.7, true) and 0.9 (two: mean 0.975, half true)."""
    found = ece([0.1, 0.2, 0.7, 0.95, 1.0], [0, 1, 1, 1, 0], bins=4)
    assert found["ece"] == pytest.approx((2 * abs(0.15 - 0.5) + 1 * abs(0.7 - 1.0) + 2 * abs(0.975 - 0.5)) / 5, abs=1e-6)
    assert found["brier"] == pytest.approx((0.01 + 0.64 + 0.09 + 0.0025 + 1.0) / 5, abs=1e-6)
    assert found["n"] == 5
    assert found["bins"] == [
        {"predicted": 0.15, "observed": 0.5, "n": 2},
        {"predicted": 0.7, "observed": 1.0, "n": 1},
        {"predicted": 0.975, "observed": 0.5, "n": 2},
    ]


def test_borders_of_bins_belong_to_the_upper_one_and_1_to_the_last() -> None:
    found = ece([0.0, 0.5, 1.0], [0, 0, 1], bins=2)
    assert [row["n"] for row in found["bins"]] == [1, 2]  # type: ignore[union-attr]


def test_probabilities_that_hold_have_an_error_near_0_and_others_have_not() -> None:
    rng = np.random.default_rng(0)
    stated = rng.random(40_000)
    true = rng.random(40_000) < stated
    assert expected_calibration_error(stated, true)["ece"] < 0.01
    assert expected_calibration_error(stated**3, true)["ece"] > 0.1
    assert expected_calibration_error(1.0 - stated, true)["ece"] == pytest.approx(0.5, abs=0.02)
    assert expected_calibration_error(stated, true)["brier"] == pytest.approx(1.0 / 6.0, abs=0.01)


def test_the_number_of_bins_counts() -> None:
    """One bin hides what two show."""
    assert ece([0.1, 0.9], [1, 0], bins=1)["ece"] == 0.0
    assert ece([0.1, 0.9], [1, 0], bins=2)["ece"] == 0.9
    assert len(ece([i / 20 for i in range(20)], [0] * 20)["bins"]) == 10  # type: ignore[arg-type]


def test_of_nothing_the_error_is_0_of_0() -> None:
    assert ece([], []) == {"ece": 0.0, "brier": 0.0, "n": 0, "bins": []}


@pytest.fixture(scope="module")
def scorer() -> TailScorer:
    """Families of proteins that bind the drugs of their family."""
    rng = np.random.default_rng(0)
    x = unit(np.repeat(rng.standard_normal((5, 12)), 4, axis=0) + 0.4 * rng.standard_normal((N, 12)))
    y = unit(rng.standard_normal((M, 9)))
    nodes = [Node(f"P{i}", NodeType.PROTEIN, f"p{i}") for i in range(N)] + [Node(f"D{i}", NodeType.DRUG, f"d{i}") for i in range(M)]
    pairs = [(i, j) for i in range(N) for j in range(M) if i // 4 == j // 6 and rng.random() < 0.6]
    head, tail = np.array([i for i, _ in pairs]), np.array([N + j for _, j in pairs])
    graph = KnowledgeGraph(
        "planted", tuple(nodes), (TARGET, TARGET.inverse, UNTRAINED), np.concatenate([head, tail]).astype(np.int32),
        np.repeat(np.array([0, 1], np.int16), len(pairs)), np.concatenate([tail, head]).astype(np.int32),
        np.zeros(2 * len(pairs), np.int16), ("made",),
    )  # fmt: skip
    tables = {NodeType.PROTEIN: x, NodeType.DRUG: y}
    bridge, _ = train_default(graph, {t.value: v for t, v in tables.items()}, TrainingOptions(hidden=16, epochs=0), lambda *_: None)
    return TailScorer(graph, tables, {t: unit(bridge.project(v, t.value)) for t, v in tables.items()}, bridge)


NEW = unit(np.random.default_rng(3).standard_normal((7, 12)) + 0.2)
FUSION = Fusion(np.array([1.0, 0.3, 0.0, 0.3, 0.0, 0.01]), np.array([0.3, 0.1, 2.0, 0.4, 4.0]), DEFAULT.likeness, 20)


def unseen(rng: np.random.Generator, relation: Relation = TARGET) -> UnseenNodes:
    """Seven heads, the third without an edge, the others with several, in no order."""
    pairs = [(h, int(t)) for h in (6, 5, 4, 3, 1, 0) for t in rng.choice(M, 4, replace=False)]
    nodes = tuple(Node(f"N{i}", NodeType.PROTEIN, f"n{i}") for i in range(7))
    return UnseenNodes(nodes, {relation: (np.array([h for h, _ in pairs]), np.array([t for _, t in pairs]))})


def encode(_type: NodeType, positions: list[int]) -> Vectors:
    return np.asarray(NEW[positions])


def by_hand(scorer: TailScorer, held: UnseenNodes, fusion: Fusion, rows: np.ndarray | None) -> tuple[list[float], list[bool]]:
    heads, tails = held.edges[TARGET]
    chances, true = [], []
    for head in sorted(set(heads.tolist())):
        parts = scorer.parts(Heads(NEW[[head]], None if rows is None else rows[[head]]), TARGET)
        scores = fusion.score(parts)
        probability = fusion.probability(scores, parts)[0]
        for tail in sorted(range(M), key=lambda t: -scores[0, t])[:TOP]:
            chances.append(float(probability[tail]))
            true.append(any(h == head and t == tail for h, t in zip(heads, tails, strict=True)))
    return chances, true


@pytest.mark.parametrize("rows", [None, np.array([0, 3, 4, 8, 11, 12, 19])])
@pytest.mark.parametrize("block", [2, 64])
def test_the_assessment_is_that_of_one_head_at_a_time(
    scorer: TailScorer, rows: np.ndarray | None, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "_BLOCK", block)
    held = unseen(np.random.default_rng(1))
    found = assess_calibration(scorer, {TARGET: FUSION}, held, encode, rows)
    chances, true = by_hand(scorer, held, FUSION, rows)
    expected = expected_calibration_error(np.array(chances), np.array(true))
    assert found["n"] == expected["n"] == 6 * TOP and 0 < sum(true) < len(true)
    assert found["ece"] == pytest.approx(expected["ece"], abs=1e-4) and found["brier"] == pytest.approx(expected["brier"], abs=1e-4)
    assert found["ece"] > 0.0 and sum(row["n"] for row in found["bins"]) == found["n"]
    assert found["relations"] == {TARGET.key: {"ece": found["ece"], "brier": found["brier"], "n": found["n"]}}


def test_the_fusion_and_the_rows_count(scorer: TailScorer) -> None:
    held, rows = unseen(np.random.default_rng(1)), np.array([0, 3, 4, 8, 11, 12, 19])
    learned = assess_calibration(scorer, {TARGET: FUSION}, held, encode)
    assert learned["brier"] != assess_calibration(scorer, {}, held, encode)["brier"]
    assert learned["brier"] != assess_calibration(scorer, {TARGET: FUSION}, held, encode, rows)["brier"]


@pytest.mark.parametrize("rows", [None, np.array([0, 3, 4, 8, 11, 12, 19])])
def test_heads_come_with_their_values_and_rows(scorer: TailScorer, rows: np.ndarray | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """By which sequences are compared, each its own, whatever the block."""
    monkeypatch.setattr(calibration, "_BLOCK", 4)
    held, seen, real = unseen(np.random.default_rng(1)), list[Heads](), scorer.parts
    named = UnseenNodes(tuple(replace(node, values=(f"value {node.id}",)) for node in held.nodes), held.edges)
    monkeypatch.setattr(scorer, "parts", lambda heads, relation: seen.append(heads) or real(heads, relation))
    assess_calibration(scorer, {}, named, encode, rows)
    assert [value for heads in seen for value in heads.values or ()] == [(f"value N{i}",) for i in (0, 1, 3, 4, 5, 6)]
    assert np.array_equal(np.concatenate([heads.x for heads in seen]), NEW[[0, 1, 3, 4, 5, 6]])
    if rows is None:
        assert all(heads.rows is None for heads in seen)
    else:
        assert np.concatenate([heads.rows for heads in seen]).tolist() == [0, 3, 8, 11, 12, 19]


def test_two_relations_are_pooled_and_shown_apart(scorer: TailScorer) -> None:
    held = unseen(np.random.default_rng(1))
    drugs = np.arange(7), np.arange(7)
    both = UnseenNodes(held.nodes, held.edges | {TARGET.inverse: drugs})

    def encode_both(node_type: NodeType, positions: list[int]) -> Vectors:
        return scorer.tables[NodeType.DRUG][positions] if node_type is NodeType.DRUG else NEW[positions]

    found = assess_calibration(scorer, {}, both, encode_both)
    n = Counter({key: row["n"] for key, row in found["relations"].items()})
    assert n == {TARGET.key: 6 * TOP, TARGET.inverse.key: 7 * TOP} and found["n"] == n.total()
    alone = assess_calibration(scorer, {}, held, encode)
    assert found["relations"][TARGET.key]["ece"] == alone["ece"] != found["ece"]


def test_a_relation_that_training_never_saw_is_not_assessed(scorer: TailScorer) -> None:
    assert assess_calibration(scorer, {}, unseen(np.random.default_rng(1), UNTRAINED), encode) == {}
