"""Held-out heads are gone from the training graph in both directions, and every edge to what stayed is tested."""

import numpy as np
import pytest

from biobridge_rag.errors import InputError
from biobridge_rag.graph.splits import HELD_TYPES, draw_inductive, hold_out
from biobridge_rag.graph.starter import load_starter


def test_held_out_nodes_vanish_with_their_inverse_edges() -> None:
    graph = load_starter()
    split = draw_inductive(graph, 0.1, 3)
    cut = hold_out(graph, split)
    held = {(n.type, n.id) for n in cut.unseen.nodes}
    assert {t for t, _ in held} == set(HELD_TYPES)
    assert not held & {(n.type, n.id) for n in cut.graph.nodes}
    train = [cut.graph.triple(e) for e in range(cut.graph.n_edges)]
    kept = {(t.head.id, t.relation, t.tail.id) for t in train}
    crossing = {
        (cut.unseen.nodes[h].id, relation, cut.graph.nodes[cut.graph.by_type[_type(relation.tail_type)][t]].id)
        for relation, (heads, tails) in cut.unseen.edges.items()
        for h, t in zip(heads, tails, strict=True)
    }
    ids = {n.id for n in cut.unseen.nodes}
    for triple in (graph.triple(e) for e in range(graph.n_edges)):
        key = (triple.head.id, triple.relation, triple.tail.id)
        if triple.head.id in ids and triple.tail.id not in ids:
            assert key in crossing
        elif triple.head.id not in ids and triple.tail.id not in ids:
            assert key in kept
        else:
            assert key not in kept
    both = sum(graph.nodes[h].id in ids and graph.nodes[t].id in ids for h, t in zip(graph.head, graph.tail, strict=True))
    assert sum(cut.unseen.skipped.values()) == both


def _type(name: str):  # type: ignore[no-untyped-def]
    from biobridge_rag.types import NodeType

    return NodeType(name)


def test_the_seed_and_the_share_decide() -> None:
    graph = load_starter()
    a, b, c = draw_inductive(graph, 0.1, 0), draw_inductive(graph, 0.1, 0), draw_inductive(graph, 0.1, 1)
    assert np.array_equal(a.all_held, b.all_held)
    assert not np.array_equal(a.all_held, c.all_held)
    assert len(draw_inductive(graph, 0.2, 0).all_held) > len(a.all_held)


@pytest.mark.parametrize("fraction", [0.0, -1.0, 0.9])
def test_a_share_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(InputError, match="share"):
        draw_inductive(load_starter(), fraction, 0)
