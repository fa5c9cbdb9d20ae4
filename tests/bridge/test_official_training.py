"""Training of the authors' architecture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from biobridge_rag.bridge.model import load_bridge, save_bridge, unit
from biobridge_rag.bridge.official_training import train_official
from biobridge_rag.errors import InputError
from biobridge_rag.types import Relation

HIDDEN, LAYERS, FEED_FORWARD, HEADS = 48, 2, 2048, 12
NODE_TYPES = {"biological_process": 0, "gene/protein": 1, "disease": 2, "anatomy": 3}
RELATIONS = {"interacts with": 0, "ppi": 1, "associated with": 2}
DIMS = {"biological_process": 20, "gene/protein": 30, "disease": 20}
ASSOCIATED = Relation("associated with", "disease", "gene/protein")


def train(small, graph=None, epochs: int = 2, seed: int = 0, **options):
    sizes = {"hidden": 48, "layers": 1, "heads": 4, **options}
    progress = sizes.pop("progress", lambda *_: None)
    return train_official(graph or small.graph, small.tables, epochs=epochs, seed=seed, device="cpu", progress=progress, **sizes)


def test_training_returns_a_bridge_and_held_out_heads_only(small) -> None:
    bridge, honest = train(small)
    assert bridge.hidden_dim == 48 and set(honest) == {small.target, small.target.inverse}
    for relation, left_out in honest.items():
        x = small.tables[relation.head_type]
        linked = np.unique(small.graph.edges(relation)[0])
        assert set(left_out.rows) <= set(linked) and 0 < len(left_out.rows) <= 0.2 * len(x)
        assert np.array_equal(left_out.transforms, bridge.transform(x[left_out.rows], relation))


def test_held_out_heads_leave_no_trace(small, graph_of) -> None:
    """Edges of held-out nodes may be anything: the bridge is the same to the last bit."""
    bridge, honest = train(small)
    held = {r.head_type: set(h.rows.tolist()) for r, h in honest.items()}
    drugs = set(np.unique(small.graph.edges(small.target)[1]).tolist())
    proteins, tails = small.graph.edges(small.target)
    kept = [(int(p), int(d)) for p, d in zip(proteins, tails, strict=True) if p not in held["gene/protein"] and d not in held["drug"]]
    rewired = [(p, d) for p in sorted(held["gene/protein"]) for d in sorted(held["drug"])]
    needed = [(p, min(held["drug"])) for p in range(30)] + [(min(held["gene/protein"]), d) for d in sorted(drugs)]
    other = graph_of(kept + sorted({*rewired, *needed}), 30, 48)
    again, _ = train(small, other)
    assert all(np.array_equal(v, again.tensors()[name]) for name, v in bridge.tensors().items())


def test_the_same_seed_gives_the_same_bits_and_leaves_torch_alone(small) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = train(small)[0].tensors()
    assert torch.equal(torch.rand(3), expected)
    second, other = train(small)[0].tensors(), train(small, seed=1)[0].tensors()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)


def test_every_option_changes_the_result(small) -> None:
    base = train(small)[0].tensors()["proj_layer.0.weight"]
    for change in ({"epochs": 3}, {"batch": 60}, {"negatives": 2}, {"held_out": 0.4}, {"layers": 2}, {"heads": 2}, {"hidden": 24}):
        out = train(small, **change)[0].tensors()["proj_layer.0.weight"]
        assert out.shape != base.shape or not np.array_equal(out, base), change


def test_nothing_held_out_gives_no_honest_predictions(small) -> None:
    _, honest = train(small, held_out=0.0)
    assert all(len(h.rows) == 0 and h.transforms.shape == (0, 48) for h in honest.values())


def test_a_head_linked_to_every_tail_keeps_weights_finite(small, graph_of) -> None:
    graph = graph_of([(0, d) for d in range(48)] + [(p, p) for p in range(1, 30)], 30, 48)
    bridge, _ = train(small, graph, batch=1)
    assert all(np.isfinite(v).all() for v in bridge.tensors().values())


def test_progress_is_told_each_epoch(small) -> None:
    told = []
    train(small, epochs=3, progress=lambda stage, done, total: told.append((done, total)))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_it_learns_what_it_has_not_seen(small) -> None:
    """Held-out proteins lie nearer to the drugs of their family than to others, though no edge of theirs was seen."""

    def margin(epochs: int) -> float:
        bridge, honest = train(small, epochs=epochs)
        left_out = honest[small.target]
        scores = unit(left_out.transforms) @ unit(bridge.project(small.tables["drug"], "drug")).T
        own = np.arange(48)[None, :] // 8 == left_out.rows[:, None] // 5
        return float(scores[own].mean() - scores[~own].mean())

    assert margin(100) > margin(0) + 0.15


def test_a_trained_bridge_survives_the_disk(small, tmp_path: Path) -> None:
    bridge, _ = train(small)
    save_bridge(bridge, tmp_path)
    loaded, _ = load_bridge(tmp_path)
    x = small.tables["drug"]
    assert np.array_equal(loaded.transform(x, small.target.inverse), bridge.transform(x, small.target.inverse))


def test_bad_training_requests_are_bad_input(small) -> None:
    with pytest.raises(InputError, match="no edges"):
        train(small, small.graph.without_heads(range(len(small.graph.nodes))))
    with pytest.raises(InputError, match="heads"):
        train(small, hidden=50)
