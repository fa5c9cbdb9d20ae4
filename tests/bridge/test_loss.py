"""InfoNCE with several positives: against a plain loop, and the cases that a plain loop makes easy to get wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from biobridge_rag.bridge.loss import info_nce


def naive(logits: np.ndarray, pairs: list[tuple[int, int]]) -> float:
    losses = []
    for row, column in pairs:
        mine = {c for r, c in pairs if r == row}
        negatives = sum(math.exp(logits[row, c]) for c in range(logits.shape[1]) if c not in mine)
        losses.append(-math.log(math.exp(logits[row, column]) / (math.exp(logits[row, column]) + negatives)))
    return sum(losses) / len(losses)


def loss(logits: torch.Tensor, pairs: list[tuple[int, int]]) -> torch.Tensor:
    return info_nce(logits, torch.tensor([r for r, _ in pairs]), torch.tensor([c for _, c in pairs]))


@pytest.mark.parametrize("seed", range(5))
def test_equals_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((6, 9)) * 3
    pairs = [(r, int(c)) for r in range(6) for c in rng.choice(9, rng.integers(1, 5), replace=False)]
    assert float(loss(torch.from_numpy(logits), pairs)) == pytest.approx(naive(logits, pairs), rel=1e-9)


def test_known_value() -> None:
    assert float(loss(torch.tensor([[2.0, 0.0]]), [(0, 0)])) == pytest.approx(math.log(1 + math.exp(-2)))


def test_another_positive_is_no_negative() -> None:
    logits = torch.tensor([[1.0, 5.0, 0.0]])
    pair = info_nce(logits, torch.tensor([0, 0]), torch.tensor([0, 1])) * 2 - loss(logits[:, [1, 2]], [(0, 0)])
    assert float(pair) == pytest.approx(math.log(1 + math.exp(-1)), rel=1e-5)


def test_mean_is_over_pairs_not_queries() -> None:
    logits = torch.tensor([[3.0, 3.0, 0.0], [0.0, 1.0, 1.0]])
    separate = [float(loss(logits[:1, [0, 2]], [(0, 0)])), float(loss(logits[1:], [(0, 0)]))]
    assert float(loss(logits, [(0, 0), (0, 1), (1, 0)])) == pytest.approx((2 * separate[0] + separate[1]) / 3)


def test_a_constant_added_to_a_query_changes_nothing() -> None:
    logits = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    pairs = [(0, 1), (0, 2), (3, 6)]
    assert float(loss(logits + 40.0, pairs)) == pytest.approx(float(loss(logits, pairs)), rel=1e-4)


def test_large_logits_stay_finite() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    value = loss(logits, [(0, 1)])
    value.backward()
    assert float(value.detach()) == pytest.approx(2e4)
    assert logits.grad is not None and bool(torch.isfinite(logits.grad).all())


def test_gradient_raises_the_true_and_lowers_the_false() -> None:
    logits = torch.zeros(1, 4, requires_grad=True)
    loss(logits, [(0, 0), (0, 1)]).backward()
    assert logits.grad is not None
    assert bool((logits.grad[0, :2] < 0).all()) and bool((logits.grad[0, 2:] > 0).all())


def test_a_query_without_negatives_costs_nothing() -> None:
    assert float(loss(torch.randn(1, 3), [(0, 0), (0, 1), (0, 2)])) == 0.0


def test_a_query_without_negatives_has_a_finite_gradient() -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    loss(logits, [(0, 0), (0, 1), (0, 2), (1, 0)]).backward()
    assert logits.grad is not None and bool(torch.isfinite(logits.grad).all())
