"""The kernel bridge and its training: shapes, checkpoints, honest leave-one-out predictions, learning, determinism."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from biobridge_rag.bridge import training
from biobridge_rag.bridge.model import KernelBridge, kernel, load_bridge, save_bridge, unit
from biobridge_rag.bridge.training import TrainingOptions, train_default
from biobridge_rag.errors import HomeError, InputError
from biobridge_rag.graph.incidence import incidence
from biobridge_rag.types import Relation

CLOSED = TrainingOptions(hidden=32, epochs=0, rank=8)
REFINED = TrainingOptions(hidden=32, epochs=2, rank=8)


def train(small, options: TrainingOptions = CLOSED, graph=None):
    return train_default(graph or small.graph, small.tables, options, lambda *_: None)


def reciprocal_rank(queries, tails, edges) -> float:
    """Filtered mean reciprocal rank over the edges, by a plain loop."""
    scores, ranks = unit(queries) @ unit(tails).T, []
    for row, truth in zip(scores, edges.toarray() > 0, strict=True):
        ranks += [1 + int((row[~truth] > row[tail]).sum()) for tail in np.flatnonzero(truth)]
    return float(np.mean(1.0 / np.array(ranks)))


def test_shapes_and_types(small) -> None:
    bridge, _ = train(small)
    x = small.tables["gene/protein"]
    for out in (bridge.project(x, "gene/protein"), bridge.transform(x, small.target)):
        assert out.shape == (30, 32) and out.dtype == np.float32
    assert bridge.hidden_dim == 32
    assert bridge.project(small.tables["drug"], "drug").shape == (48, 32)
    assert bridge.transform(x[:0], small.target).shape == (0, 32)


def test_kernel_is_the_cubed_positive_cosine() -> None:
    x = np.array([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]], np.float32)
    assert kernel(x, x[:2]) == pytest.approx(np.array([[1, 0.216], [0.216, 1], [0, 0]]), abs=1e-6)


def test_transform_takes_each_row_alone(small) -> None:
    bridge, _ = train(small, REFINED)
    x = small.tables["gene/protein"]
    one_by_one = np.concatenate([bridge.transform(x[i : i + 1], small.target) for i in range(len(x))])
    assert np.allclose(bridge.transform(x, small.target), one_by_one, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 23), (24,), (2, 3, 24)])
def test_wrong_width_is_bad_input(small, shape) -> None:
    bridge, _ = train(small)
    for call in (lambda x: bridge.project(x, "gene/protein"), lambda x: bridge.transform(x, small.target)):
        with pytest.raises(InputError, match="24"):
            call(np.zeros(shape, np.float32))


def test_unknown_type_and_relation_are_bad_input(small) -> None:
    bridge, _ = train(small)
    x = small.tables["gene/protein"]
    with pytest.raises(InputError, match="anatomy"):
        bridge.project(x, "anatomy")
    with pytest.raises(InputError, match="carrier"):
        bridge.transform(x, Relation("carrier", "gene/protein", "drug"))


def test_checkpoint_round_trip(small, tmp_path: Path) -> None:
    bridge, _ = train(small, REFINED)
    digest = save_bridge(bridge, tmp_path)
    loaded, found = load_bridge(tmp_path)
    assert isinstance(loaded, KernelBridge) and found == digest
    assert sorted(loaded.relations) == sorted(bridge.relations) and loaded.ridge == bridge.ridge
    for node_type, x in small.tables.items():
        assert np.allclose(loaded.project(x, node_type), bridge.project(x, node_type), atol=5e-3)
    for relation in bridge.relations:
        x = small.tables[relation.head_type]
        assert np.allclose(loaded.transform(x, relation), bridge.transform(x, relation), atol=5e-3)
        rows = np.arange(len(x))
        assert np.allclose(loaded.transform_left_out(rows, relation), bridge.transform_left_out(rows, relation), atol=2e-2)
    assert save_bridge(loaded, tmp_path / "again") == digest
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "config.json", "model.safetensors"]


@pytest.mark.parametrize("damage", ["flip", "truncate", "no weights", "no config", "no json"])
def test_a_damaged_checkpoint_is_one_clear_error(small, tmp_path: Path, damage: str) -> None:
    save_bridge(train(small)[0], tmp_path)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    data = bytearray(weights.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
        weights.write_bytes(data)
    elif damage == "truncate":
        weights.write_bytes(data[:-100])
    elif damage == "no weights":
        weights.unlink()
    elif damage == "no config":
        config.unlink()
    else:
        config.write_text(config.read_text()[:-20])
    with pytest.raises(HomeError) as error:
        load_bridge(tmp_path)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


def test_config_names_what_it_is(small, tmp_path: Path) -> None:
    digest = save_bridge(train(small)[0], tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["kind"] == "default" and config["sha256"] == digest and config["hidden_dim"] == 32


@pytest.mark.parametrize("inverse", [False, True])
def test_leave_one_out_is_really_refitting(small, inverse: bool) -> None:
    relation = small.target.inverse if inverse else small.target
    bridge, _ = train(small)
    x = small.tables[relation.head_type]
    rows = bridge.relations[relation].rows[[0, 4, 11, 17]]
    left_out = unit(bridge.transform_left_out(rows, relation))
    trained = unit(bridge.transform(x[rows], relation))
    for row, predicted, seen in zip(rows, left_out, trained, strict=True):
        position = int(small.graph.by_type[relation.head_type][row])
        refitted, _ = train(small, graph=small.graph.without_heads([position]))
        assert row not in refitted.relations[relation].rows
        expected = unit(refitted.transform(x[row : row + 1], relation))[0]
        assert np.abs(predicted - expected).max() < 1e-4
        assert np.abs(seen - expected).max() > 1e-2


def test_leave_one_out_of_a_head_without_edges_is_its_transform(small) -> None:
    cut = small.graph.without_heads([2])
    bridge, _ = train(small, graph=cut)
    x = small.tables["gene/protein"]
    assert np.array_equal(bridge.transform_left_out(np.array([2]), small.target), bridge.transform(x[[2]], small.target))


def test_a_node_that_came_after_training_is_transformed_as_it_is(small) -> None:
    bridge, _ = train(small)
    x = small.tables["gene/protein"]
    rows = np.array([1, len(x), 3])  # the second is no anchor
    mixed = np.stack([np.zeros_like(x[1]), x[5], np.zeros_like(x[3])])
    found = bridge.transform_left_out(rows, small.target, mixed)
    assert np.allclose(found[[0, 2]], bridge.transform_left_out(rows[[0, 2]], small.target), atol=1e-6), "of anchors it uses its own"
    assert np.allclose(found[1], bridge.transform(x[[5]], small.target)[0], atol=1e-6)
    with pytest.raises(InputError, match="not trained with all of these gene/protein nodes"):
        bridge.transform_left_out(rows, small.target)


def test_honest_predictions_of_the_closed_form_are_leave_one_out(small) -> None:
    bridge, honest = train(small)
    for relation, left_out in honest.items():
        expected = bridge.transform_left_out(left_out.rows, relation)
        assert np.allclose(left_out.transforms, expected, atol=1e-4)


def test_both_directions_are_trained(small) -> None:
    bridge, honest = train(small, REFINED)
    assert set(bridge.relations) == set(honest) == {small.target, small.target.inverse}
    assert not np.allclose(bridge.relations[small.target].values[:5], bridge.relations[small.target.inverse].values[:5])


@pytest.mark.parametrize("options", [CLOSED, REFINED])
def test_heads_it_has_not_seen_rank_their_tails_far_above_chance(small, options: TrainingOptions) -> None:
    bridge, honest = train(small, options)
    for relation, left_out in honest.items():
        tails = small.tables[relation.tail_type]
        edges = incidence(small.graph, relation)[left_out.rows]
        found = reciprocal_rank(left_out.transforms, bridge.project(tails, relation.tail_type), edges)
        shuffled = left_out.transforms[np.random.default_rng(0).permutation(len(left_out.rows))]
        chance = reciprocal_rank(shuffled, bridge.project(tails, relation.tail_type), edges)
        assert found > 0.3 and found > 1.8 * chance, (relation, found, chance)


def test_the_same_seed_gives_the_same_bits(small) -> None:
    first, second = train(small, REFINED), train(small, REFINED)
    for name, value in first[0].tensors().items():
        assert np.array_equal(value, second[0].tensors()[name]), name
    for relation, left_out in first[1].items():
        assert np.array_equal(left_out.transforms, second[1][relation].transforms)


def test_every_option_changes_the_result(small) -> None:
    base = train(small, REFINED)[0].transform(small.tables["gene/protein"], small.target)
    for change in ({"hidden": 16}, {"seed": 1}, {"ridge": 3.0}):
        other = train(small, TrainingOptions(**{"hidden": 32, "epochs": 2, "rank": 8, **change}))[0]
        out = other.transform(small.tables["gene/protein"], small.target)
        assert out.shape != base.shape or not np.allclose(out, base)


@pytest.mark.parametrize("limit", [29, 30, 47, 48])
def test_of_types_with_too_many_nodes_no_pairs_are_compared(small, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """The bridge comes out the same."""
    usual = train(small)[0]
    monkeypatch.setattr(training, "MAX_PAIRS", limit)
    bridge = train(small)[0]
    x = small.tables["gene/protein"]
    assert np.allclose(bridge.transform(x, small.target), usual.transform(x, small.target), atol=1e-3)


def test_a_relation_without_edges_is_left_out(small) -> None:
    graph, keep = small.graph, small.graph.relation == 0
    columns = {name: getattr(graph, name)[keep] for name in ("head", "relation", "tail", "source")}
    one_way = replace(graph, **columns)
    bridge, honest = train(small, graph=one_way)
    assert set(bridge.relations) == set(honest) == {small.target}


def test_a_graph_without_edges_is_bad_input(small) -> None:
    with pytest.raises(InputError, match="no edges"):
        train(small, graph=small.graph.without_heads(range(len(small.graph.nodes))))


def test_a_bridge_of_another_version_is_refused_in_one_line(small, tmp_path: Path) -> None:
    save_bridge(train(small)[0], tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"version": 3}))
    with pytest.raises(HomeError, match="another version"):
        load_bridge(tmp_path)
