"""Each split: what leaves training, what is tested, which near twins go along; every kind of leak, planted, is found."""

import json
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from biobridge_rag.chemistry import murcko_scaffold
from biobridge_rag.errors import DiskFullError, FileError, InputError, LeakageError
from biobridge_rag.graph import clusters
from biobridge_rag.graph.clusters import THRESHOLDS, cluster, components, draw_whole
from biobridge_rag.graph.splits import HELD_TYPES, SPLITS, HeldOut, check_leakage, draw, draw_inductive, hold_out, load_split, save_split
from biobridge_rag.graph.starter import load_starter
from biobridge_rag.types import KnowledgeGraph, Node, NodeType, Relation, Split


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
        (cut.unseen.nodes[h].id, relation, cut.graph.nodes[cut.graph.by_type[NodeType(relation.tail_type)][t]].id)
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


# Every split on one small graph: two families of proteins, drugs with scaffolds in common, two near-identical diseases.

RINGS = ("c1ccccc1", "c1ccncc1", "C1CCNCC1", "c1ccsc1", "C1CCOC1", "c1ccc2ccccc2c1")
ACYCLIC = ("CCCCO", "CCCCCO", "NCC(=O)O", "CC(C)C[C@H](CN)CC(=O)O")
TYPES = (NodeType.PROTEIN, NodeType.DRUG, NodeType.DISEASE, NodeType.BIOLOGICAL_PROCESS)


def small_graph(seed: int = 0) -> tuple[KnowledgeGraph, dict[NodeType, np.ndarray]]:
    """30 proteins (10 families of 3), 34 drugs (30 with 6 scaffolds, 4 acyclic), 30 diseases (15 twins), 25 processes."""
    rng = np.random.default_rng(seed)
    smiles = [RINGS[i % 6] + "C" * (i // 6) if i % 6 != 2 else "C" * (i // 6) + RINGS[2] for i in range(30)] + list(ACYCLIC)
    nodes = [Node(f"P{i}", NodeType.PROTEIN, f"p{i}", values=("MKV",)) for i in range(30)]
    nodes += [Node(f"D{i}", NodeType.DRUG, f"d{i}", values=(s,)) for i, s in enumerate(smiles)]
    nodes += [Node(f"S{i}", NodeType.DISEASE, f"s{i}", values=("x",)) for i in range(30)]
    nodes += [Node(f"G{i}", NodeType.BIOLOGICAL_PROCESS, f"g{i}", values=("y",)) for i in range(25)]
    start = dict(zip(TYPES, (0, 30, 64, 94), strict=True))
    size = dict(zip(TYPES, (30, 34, 30, 25), strict=True))
    kinds = [
        ("target", NodeType.DRUG, NodeType.PROTEIN), ("indication", NodeType.DRUG, NodeType.DISEASE),
        ("interacts with", NodeType.PROTEIN, NodeType.BIOLOGICAL_PROCESS), ("associated with", NodeType.DISEASE, NodeType.PROTEIN),
        ("ppi", NodeType.PROTEIN, NodeType.PROTEIN), ("parent-child", NodeType.DISEASE, NodeType.DISEASE),
    ]  # fmt: skip
    edges = set()
    for name, a, b in kinds:
        relation = Relation(name, a.value, b.value)
        for head in range(size[a]):
            for tail in rng.choice(size[b], 3, replace=False):
                if (a, head) != (b, tail):
                    edges |= {(relation, start[a] + head, start[b] + int(tail)), (relation.inverse, start[b] + int(tail), start[a] + head)}
    relations = tuple(sorted({r for r, _, _ in edges}, key=lambda r: r.key))
    columns = np.array(sorted((relations.index(r), h, t) for r, h, t in edges))
    graph = KnowledgeGraph(
        "small", tuple(nodes), relations, columns[:, 1].astype(np.int32), columns[:, 0].astype(np.int16), columns[:, 2].astype(np.int32),
        np.zeros(len(columns), np.int16), ("made",),
    )  # fmt: skip
    tables = {t: unit_rows(rng.standard_normal((size[t], 64))) for t in TYPES}
    family = unit_rows(rng.standard_normal((10, 64)))
    tables[NodeType.PROTEIN] = unit_rows(family[np.arange(30) // 3] + 0.05 * rng.standard_normal((30, 64)))
    pair = unit_rows(rng.standard_normal((15, 64)))
    tables[NodeType.DISEASE] = unit_rows(pair[np.arange(30) // 2] + 0.01 * rng.standard_normal((30, 64)))
    tables[NodeType.DRUG][31] = tables[NodeType.DRUG][30]
    return graph, tables


def unit_rows(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


FAR = {NodeType.PROTEIN: 0.7}  # random vectors of 64 dimensions reach 0.15 by chance


def drawn(name: str, graph: KnowledgeGraph, tables: dict[NodeType, np.ndarray], seed: int = 0, what: str | None = None) -> Split:
    return draw(name, graph, 0.2, seed, tables, what, thresholds=FAR if name == "inductive-cluster" else None)


Edge = tuple[Relation, tuple[str, str], tuple[str, str]]


def edges_of(graph: KnowledgeGraph) -> set[Edge]:
    return {
        (t.relation, (t.head.type.value, t.head.id), (t.tail.type.value, t.tail.id))
        for t in (graph.triple(e) for e in range(graph.n_edges))
    }


def held_edges(cut: HeldOut) -> set[Edge]:
    out = set()
    for relation, (heads, tails) in cut.unseen.edges.items():
        by_type = cut.graph.by_type[NodeType(relation.tail_type)]
        for h, t in zip(heads, tails, strict=True):
            assert cut.unseen.nodes[h].type == relation.head_type
            out.add((relation, (relation.head_type, cut.unseen.nodes[h].id), (relation.tail_type, cut.graph.nodes[by_type[t]].id)))
    return out


def inverse(edge: Edge) -> Edge:
    return edge[0].inverse, edge[2], edge[1]


def held_keys(graph: KnowledgeGraph, split: Split) -> set[tuple[str, str]]:
    return {(graph.nodes[i].type.value, graph.nodes[i].id) for i in split.all_held}


def with_edges(graph: KnowledgeGraph, extra: list[Edge]) -> KnowledgeGraph:
    """The graph with edges planted."""
    place = {r: i for i, r in enumerate(graph.relations)}
    head, tail = ([graph.position(*e[side]) for e in extra] for side in (1, 2))
    return replace(
        graph,
        head=np.append(graph.head, np.array(head, np.int32)),
        tail=np.append(graph.tail, np.array(tail, np.int32)),
        relation=np.append(graph.relation, np.array([place[e[0]] for e in extra], np.int16)),
        source=np.append(graph.source, np.zeros(len(extra), np.int16)),
    )


@pytest.mark.parametrize("name", SPLITS)
def test_every_split_is_drawn_by_its_seed_and_passes_its_own_check(name: str) -> None:
    graph, tables = small_graph()
    a, b = drawn(name, graph, tables, 1), drawn(name, graph, tables, 1)
    assert a.name == name and a.leaky == (name == "paper")
    assert np.array_equal(a.all_held, b.all_held) and (a.relation, a.node_type) == (b.relation, b.node_type)
    cut = hold_out(graph, a)
    n = check_leakage(graph, a, cut, tables)
    assert (n > 0) == (name == "paper")
    assert held_edges(cut) and held_edges(cut) <= edges_of(graph)
    assert not held_edges(cut) & edges_of(cut.graph)
    assert cut.in_graph == (name in ("paper", "relation", "modality"))
    if name != "modality":  # which has nothing to draw where it tests all heads
        others = [drawn(name, graph, tables, seed) for seed in range(2, 8)]
        assert any(o.relation != a.relation or not np.array_equal(o.all_held, a.all_held) for o in others)


@pytest.mark.parametrize("name", ["paper", "relation", "modality"])
def test_nodes_that_stay_have_their_row_in_the_tables(name: str) -> None:
    graph, tables = small_graph()
    cut = hold_out(graph, drawn(name, graph, tables))
    assert cut.graph.nodes == graph.nodes
    assert cut.rows is not None and len(cut.rows) == len(cut.unseen.nodes)
    assert all(cut.graph.nodes[cut.graph.by_type[n.type][row]] == n for n, row in zip(cut.unseen.nodes, cut.rows, strict=True))


@pytest.mark.parametrize("name", SPLITS)
def test_all_true_tails_of_a_test_head_are_tested(name: str) -> None:
    """So a filtered rank needs the test edges alone."""
    graph, tables = small_graph()
    cut = hold_out(graph, drawn(name, graph, tables))
    candidates = {(n.type.value, n.id) for n in cut.graph.nodes}
    asked = {(relation, head) for relation, head, _ in held_edges(cut)}
    assert {e for e in edges_of(graph) if e[:2] in asked and e[2] in candidates} == held_edges(cut)


@pytest.mark.parametrize("name", ["inductive", "inductive-cluster"])
def test_training_keeps_all_edges_between_nodes_that_stayed_and_no_other(name: str) -> None:
    graph, tables = small_graph()
    split = drawn(name, graph, tables)
    held = held_keys(graph, split)
    assert edges_of(hold_out(graph, split).graph) == {e for e in edges_of(graph) if not {e[1], e[2]} & held}


def test_the_papers_split_takes_out_edges_of_heads_and_leaves_the_inverse() -> None:
    graph, tables = small_graph()
    split = drawn("paper", graph, tables)
    cut, held = hold_out(graph, split), held_keys(graph, split)
    assert set(split.held) == set(TYPES)
    assert held_edges(cut) == {e for e in edges_of(graph) if e[1] in held}
    assert edges_of(cut.graph) == {e for e in edges_of(graph) if e[1] not in held}
    n_inverse = sum(inverse(e) in edges_of(cut.graph) for e in held_edges(cut))
    assert check_leakage(graph, split, cut) == n_inverse > 0


def test_a_relation_is_out_in_both_directions_and_alone() -> None:
    graph, tables = small_graph()
    split = drawn("relation", graph, tables, what="drug|target|gene/protein")
    assert split.relation == Relation("target", "drug", "gene/protein")
    cut = hold_out(graph, split)
    out = {e for e in edges_of(graph) if e[0] in (split.relation, split.relation.inverse)}
    assert held_edges(cut) == out
    assert edges_of(cut.graph) == edges_of(graph) - out
    assert drawn("relation", graph, tables, what="disease|indication|drug").relation == Relation("indication", "disease", "drug")


def test_a_relation_is_drawn_among_those_between_two_types_with_enough_heads() -> None:
    graph, tables = small_graph()
    relations = [drawn("relation", graph, tables, seed).relation for seed in range(40)]
    assert {r.name for r in relations if r} == {"target", "indication", "interacts with", "associated with"}
    few = replace(graph, head=graph.head[:9], relation=graph.relation[:9], tail=graph.tail[:9], source=graph.source[:9])
    with pytest.raises(InputError, match="20 or more heads"):
        draw("relation", few, 0.1, 0)


def test_a_relation_within_one_type_can_be_held_out() -> None:
    graph, tables = small_graph()
    split = drawn("relation", graph, tables, what="gene/protein|ppi|gene/protein")
    cut = hold_out(graph, split)
    assert held_edges(cut) == {e for e in edges_of(graph) if e[0].name == "ppi"}
    assert check_leakage(graph, split, cut) == 0


@pytest.mark.parametrize(("what", "node_type"), [(None, NodeType.DISEASE), ("biological_process", NodeType.BIOLOGICAL_PROCESS)])
def test_a_modality_has_no_edge_in_training(what: str | None, node_type: NodeType) -> None:
    graph, tables = small_graph()
    split = drawn("modality", graph, tables, what=what)
    assert split.node_type is node_type
    cut = hold_out(graph, split)
    touching = {e for e in edges_of(graph) if node_type.value in (e[0].head_type, e[0].tail_type)}
    within = {e for e in touching if e[0].head_type == e[0].tail_type}
    assert edges_of(cut.graph) == edges_of(graph) - touching
    assert held_edges(cut) == touching - within
    assert sum(cut.unseen.skipped.values()) == len(within)


@pytest.mark.parametrize(("name", "what"), [("relation", "drug|target|gene/protein"), ("modality", None)])
def test_at_most_so_many_heads_of_a_type_are_tested_and_the_rest_is_counted(name: str, what: str | None) -> None:
    graph, _ = small_graph()
    full, part = (hold_out(graph, draw(name, graph, 0.1, 0, what=what, most=most)) for most in (1000, 5))
    assert len(full.unseen.nodes) > len(part.unseen.nodes) == 5 * len({n.type for n in part.unseen.nodes})
    assert edges_of(part.graph) == edges_of(full.graph)
    why = "edge of a head that was not drawn for the test"
    assert part.unseen.skipped[why] == len(held_edges(full)) - len(held_edges(part)) > 0
    assert why not in full.unseen.skipped


def test_the_share_decides_how_much_is_held_out() -> None:
    graph, tables = small_graph()
    for name in ("inductive", "inductive-cluster", "paper"):
        few, many = (draw(name, graph, f, 0, tables, thresholds=FAR if "cluster" in name else None) for f in (0.2, 0.5))
        assert len(few.all_held) < len(many.all_held), name


# Clusters


def test_clusters_leave_no_near_twin_in_training() -> None:
    graph, tables = small_graph()
    for seed in range(5):
        split = drawn("inductive-cluster", graph, tables, seed)
        assert {t: FAR.get(t, c) for t, c in THRESHOLDS.items()} == split.thresholds
        for node_type in HELD_TYPES:
            rows = set(graph.rank_in_type[split.held[node_type]].tolist())
            rest = set(range(len(tables[node_type]))) - rows
            assert len(rows) <= 1.5 * round(0.2 * len(tables[node_type]))
            for i in rows:
                for j in rest:
                    if node_type is NodeType.DRUG:
                        a, b = (murcko_scaffold(graph.nodes[graph.by_type[node_type][k]].values[0]) for k in (i, j))
                        assert a != b or not a
                        if a or b:
                            continue
                    assert tables[node_type][i] @ tables[node_type][j] < split.thresholds[node_type]


def test_a_plain_inductive_split_leaves_near_twins_in_training() -> None:
    graph, tables = small_graph()
    split = replace(draw("inductive", graph, 0.2, 0), name="inductive-cluster", thresholds={**THRESHOLDS, **FAR})
    with pytest.raises(LeakageError, match="share"):
        check_leakage(graph, split, hold_out(graph, split), tables)


def test_the_cosine_of_near_twins_decides() -> None:
    graph, tables = small_graph()
    proteins = [n for n in graph.nodes if n.type is NodeType.PROTEIN]
    assert len(set(cluster(proteins, tables[NodeType.PROTEIN], 0.7))) == 10
    assert len(set(cluster(proteins, tables[NodeType.PROTEIN], 0.9999))) == 30
    close = draw("inductive-cluster", graph, 0.2, 0, tables, thresholds={NodeType.PROTEIN: 0.9999})
    assert not np.array_equal(close.held[NodeType.PROTEIN], drawn("inductive-cluster", graph, tables).held[NodeType.PROTEIN])


def test_drugs_are_grouped_by_scaffold_and_those_without_rings_by_cosine() -> None:
    graph, tables = small_graph()
    drugs = [n for n in graph.nodes if n.type is NodeType.DRUG]
    labels = cluster(drugs, tables[NodeType.DRUG], 0.7)
    assert np.array_equal(labels[:30], np.arange(30) % 6)
    assert labels[30] == labels[31] and len(set(labels[30:])) == 3 and not set(labels[30:]) & set(labels[:30])


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.floats(0.05, 0.95))
@settings(max_examples=30, deadline=None)
def test_components_in_blocks_are_those_of_the_whole_matrix(seed: int, n: int, threshold: float) -> None:
    x = unit_rows(np.random.default_rng(seed).standard_normal((n, 4)))
    whole = connected_components(x @ x.T >= threshold, directed=False)[1]
    with mock.patch.multiple(clusters, _ROWS=7, _COLUMNS=11):
        blocks = components(x, threshold)
    assert np.array_equal(whole[:, None] == whole[None, :], blocks[:, None] == blocks[None, :])
    assert set(blocks.tolist()) == set(range(len(set(whole.tolist()))))


@given(st.lists(st.integers(0, 12), min_size=1, max_size=80), st.floats(0.01, 0.5), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_clusters_are_drawn_whole_and_never_a_giant_one(numbers: list[int], fraction: float, seed: int) -> None:
    labels = np.unique(numbers, return_inverse=True)[1]
    linked = np.flatnonzero(np.random.default_rng(seed).random(len(labels)) < 0.8)
    rows = draw_whole(labels, linked, fraction, np.random.default_rng(seed))
    target = max(1, round(fraction * len(linked)))
    count = len(np.intersect1d(rows, linked))
    assert count <= 1.5 * target
    size = np.bincount(labels[linked], minlength=labels.max() + 1)
    for c in range(len(size)):
        inside = np.isin(np.flatnonzero(labels == c), rows)
        assert inside.all() or not inside.any()
        if size[c] > target or size[c] == 0:
            assert not inside.any()
        elif not inside.any():
            assert count >= target or count + size[c] > 1.5 * target


def test_a_cluster_greater_than_the_share_is_passed_over_even_where_it_overshoots_by_less_than_half() -> None:
    labels = np.array([0, 0, 0, *range(1, 18)])
    everything = np.arange(len(labels))
    drawn_rows = [draw_whole(labels, everything, 0.1, np.random.default_rng(seed)) for seed in range(60)]
    assert all(len(rows) == 2 and rows[0] > 2 for rows in drawn_rows)
    assert any(0 in draw_whole(labels, everything, 0.15, np.random.default_rng(seed)) for seed in range(60))


def test_where_all_are_near_twins_nothing_can_be_held_out() -> None:
    graph, tables = small_graph()
    tables[NodeType.DISEASE] = unit_rows(np.ones((30, 64)) + 0.01 * tables[NodeType.DISEASE])
    with pytest.raises(InputError, match="No cluster of type disease"):
        drawn("inductive-cluster", graph, tables)


def test_tables_that_do_not_fit_are_refused() -> None:
    graph, tables = small_graph()
    with pytest.raises(InputError, match="embeddings of type gene/protein"):
        draw("inductive-cluster", graph, 0.1, 0)
    with pytest.raises(InputError, match="29 embeddings for 30 nodes"):
        drawn("inductive-cluster", graph, {**tables, NodeType.PROTEIN: tables[NodeType.PROTEIN][:29]})
    for bad in (2.0 * tables[NodeType.DISEASE], np.full((30, 64), np.nan)):
        with pytest.raises(InputError, match="unit length"):
            drawn("inductive-cluster", graph, {**tables, NodeType.DISEASE: bad})


@pytest.mark.parametrize(
    ("smiles", "scaffold"),
    [
        ("CC(=O)Oc1ccccc1C(=O)O", "c1ccccc1"),
        ("CCO", ""),
        ("no molecule", ""),
        ("", ""),
        ("C[C@H](N)C1CCCCC1", "C1CCCCC1"),
        ("CN1CCC(CC1)c1ccccc1.OS(=O)(=O)C", "c1ccc(C2CCNCC2)cc1"),
        ("CCCCCCCCCCCCN.OS(=O)(=O)c1ccccc1", ""),
        ("[C@@H]12CCCC[C@H]1CCCC2", "C1CCC2CCCCC2C1"),
    ],
)
def test_the_murcko_scaffold_is_of_the_largest_fragment_without_stereo(smiles: str, scaffold: str) -> None:
    assert murcko_scaffold(smiles) == scaffold


# Leaks, planted one by one


@pytest.mark.parametrize("name", ["inductive", "inductive-cluster"])
def test_a_held_out_node_in_training_is_found(name: str) -> None:
    graph, tables = small_graph()
    split = drawn(name, graph, tables)
    cut = hold_out(graph, split)
    back = graph.nodes[split.all_held[0]]
    leaking = replace(cut, graph=replace(cut.graph, nodes=(*cut.graph.nodes, back)))
    with pytest.raises(LeakageError, match=rf"held-out node {back.id} .* in training") as caught:
        check_leakage(graph, split, leaking, tables)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("name", ["inductive", "inductive-cluster"])
def test_a_test_node_that_training_knows_is_found(name: str) -> None:
    """The uncut graph, with the split's own test edges."""
    graph, tables = small_graph()
    split = drawn(name, graph, tables)
    with pytest.raises(LeakageError, match="held-out node"):
        check_leakage(graph, split, replace(hold_out(graph, split), graph=graph), tables)


@pytest.mark.parametrize("node_type", HELD_TYPES)
def test_a_near_twin_in_training_is_found(node_type: NodeType) -> None:
    graph, tables = small_graph()
    split = drawn("inductive-cluster", graph, tables)
    labels = cluster([n for n in graph.nodes if n.type is node_type], tables[node_type], split.thresholds[node_type])
    rows = graph.rank_in_type[split.held[node_type]]
    at = next(i for i, row in enumerate(rows) if (labels == labels[row]).sum() > 1)
    split = replace(split, held={**split.held, node_type: np.delete(split.held[node_type], at)})
    twin = graph.nodes[graph.by_type[node_type][rows[at]]]
    with pytest.raises(LeakageError, match=f"{twin.id} .* in training and the held-out .* share"):
        check_leakage(graph, split, hold_out(graph, split), tables)


def test_near_identical_drugs_without_rings_are_found() -> None:
    graph, tables = small_graph()
    held = {NodeType.DRUG: graph.by_type[NodeType.DRUG][[30]]}
    split = Split("inductive-cluster", 0, held)
    with pytest.raises(LeakageError, match=r"D31 \(drug\) in training and the held-out D30 \(drug\) share a cosine of 1.000"):
        check_leakage(graph, split, hold_out(graph, split), tables)
    tables[NodeType.DRUG][31] = -tables[NodeType.DRUG][30]
    assert check_leakage(graph, split, hold_out(graph, split), tables) == 0


def test_twins_cannot_be_looked_for_without_embeddings() -> None:
    graph, tables = small_graph()
    split = drawn("inductive-cluster", graph, tables)
    with pytest.raises(InputError, match="embeddings"):
        check_leakage(graph, split, hold_out(graph, split))


@pytest.mark.parametrize("name", ["paper", "relation", "modality"])
def test_a_test_edge_in_training_is_found(name: str) -> None:
    graph, tables = small_graph()
    split = drawn(name, graph, tables)
    cut = hold_out(graph, split)
    for edge in sorted(held_edges(cut))[::97]:
        leaking = replace(cut, graph=with_edges(cut.graph, [edge]))
        with pytest.raises(LeakageError, match=rf"{edge[1][1]} .* -{edge[0].name}-> {edge[2][1]} "):
            check_leakage(graph, split, leaking)


@pytest.mark.parametrize("name", ["relation", "modality"])
def test_an_inverse_edge_in_training_is_found(name: str) -> None:
    graph, tables = small_graph()
    split = drawn(name, graph, tables)
    cut = hold_out(graph, split)
    leaking = replace(cut, graph=with_edges(cut.graph, [inverse(min(held_edges(cut)))]))
    with pytest.raises(LeakageError, match="in training"):
        check_leakage(graph, split, leaking)


def test_an_inverse_edge_that_the_split_does_not_name_is_found() -> None:
    """A paper split that claims not to be leaky."""
    graph, tables = small_graph()
    split = replace(drawn("paper", graph, tables), leaky=False)
    with pytest.raises(LeakageError, match="inverse of a test edge"):
        check_leakage(graph, split, hold_out(graph, split))


def test_an_edge_out_of_the_test_is_found_too() -> None:
    """Edges that belong out of training, though no test edge says so: of a head that was not drawn, or within the held type."""
    graph, _ = small_graph()
    for name, what in (("relation", "drug|target|gene/protein"), ("modality", None)):
        split = draw(name, graph, 0.1, 0, what=what, most=3)
        cut = hold_out(graph, split)
        untested = edges_of(graph) - edges_of(cut.graph) - held_edges(cut) - {inverse(e) for e in held_edges(cut)}
        with pytest.raises(LeakageError, match="an edge of what is held out"):
            check_leakage(graph, split, replace(cut, graph=with_edges(cut.graph, [min(untested)])))


def test_a_test_node_that_the_split_did_not_hold_out_is_found() -> None:
    graph, tables = small_graph()
    split = drawn("inductive", graph, tables)
    cut = hold_out(graph, split)
    more = replace(cut, unseen=replace(cut.unseen, nodes=(*cut.unseen.nodes, cut.graph.nodes[0])))
    with pytest.raises(LeakageError, match=f"held-out node {cut.graph.nodes[0].id} "):
        check_leakage(graph, split, more)


def test_an_edge_that_the_graph_does_not_have_is_found() -> None:
    """Such as edges of a training graph whose nodes were counted wrongly."""
    graph, tables = small_graph()
    split = drawn("inductive", graph, tables)
    cut = hold_out(graph, split)
    moved = replace(cut.graph, nodes=(cut.graph.nodes[1], cut.graph.nodes[0], *cut.graph.nodes[2:]))
    with pytest.raises(LeakageError, match="an edge of training is not in the graph"):
        check_leakage(graph, split, replace(cut, graph=moved))


def test_a_training_node_of_another_graph_is_found() -> None:
    graph, tables = small_graph()
    split = drawn("inductive", graph, tables)
    cut = hold_out(graph, split)
    stranger = replace(cut.graph, nodes=(replace(cut.graph.nodes[0], id="X"), *cut.graph.nodes[1:]))
    with pytest.raises(LeakageError, match=r"X .* not in the graph"):
        check_leakage(graph, split, replace(cut, graph=stranger))


# Names, options, files


def test_an_unknown_split_lists_the_valid_ones() -> None:
    with pytest.raises(InputError, match=r"There is no split 'x'.*inductive, inductive-cluster, paper, relation, modality"):
        draw("x", small_graph()[0], 0.1, 0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("relation", {"what": "drug|likes|drug"}, "no relation 'drug|likes|drug'.*drug|target|gene/protein"),
        ("modality", {"what": "anatomy"}, "no node type 'anatomy'.*disease"),
        ("paper", {"what": "disease"}, "takes no relation"),
        ("paper", {"thresholds": {}}, "takes no cosine"),
        ("inductive-cluster", {"thresholds": {NodeType.BIOLOGICAL_PROCESS: 0.5}}, "alone"),
        ("inductive-cluster", {"thresholds": {NodeType.PROTEIN: 1.5}}, "at most 1"),
        ("relation", {"most": 0}, "At least one head"),
    ],
)
def test_options_that_do_not_fit_are_refused(name: str, options: dict[str, object], message: str) -> None:
    graph, tables = small_graph()
    with pytest.raises(InputError, match=message.replace("|", r"\|")):
        draw(name, graph, 0.1, 0, tables, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SPLITS)
def test_a_share_out_of_range_is_refused_by_every_split(name: str) -> None:
    with pytest.raises(InputError, match="share"):
        draw(name, small_graph()[0], 0.6, 0)


@pytest.mark.parametrize("name", SPLITS)
def test_a_saved_split_is_loaded_as_it_was(name: str, tmp_path: Path) -> None:
    graph, tables = small_graph()
    split = drawn(name, graph, tables, 3)
    save_split(split, graph, tmp_path / "split.json")
    loaded = load_split(tmp_path / "split.json", graph)
    assert [p.name for p in tmp_path.iterdir()] == ["split.json"]
    assert replace(loaded, held={}) == replace(split, held={})
    assert loaded.held.keys() == split.held.keys()
    assert all(np.array_equal(loaded.held[t], split.held[t]) for t in split.held)
    assert held_edges(hold_out(graph, loaded)) == held_edges(hold_out(graph, split))


def test_a_split_of_another_graph_is_refused(tmp_path: Path) -> None:
    graph, tables = small_graph()
    save_split(drawn("inductive", graph, tables), graph, tmp_path / "split.json")
    with pytest.raises(InputError, match="another graph"):
        load_split(tmp_path / "split.json", small_graph(1)[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"held": {"drug": ["D1", "D999"]}}, r"D999 \(drug\)"),
        ({"name": "easy"}, "unknown kind"),
        ({"format": 99}, "format 99"),
        ({"held": {"anatomy": []}}, "cannot be read"),
        ({"seed": None}, "cannot be read"),
    ],
)
def test_a_changed_file_is_refused(change: dict[str, object], message: str, tmp_path: Path) -> None:
    graph, tables = small_graph()
    path = tmp_path / "split.json"
    save_split(drawn("inductive", graph, tables), graph, path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=message):
        load_split(path, graph)


@pytest.mark.parametrize("text", ["", "[]", "{}", "\x00", '{"format": 1}'])
def test_a_file_that_is_no_split_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    path.write_text(text)
    with pytest.raises(FileError, match="cannot be read"):
        load_split(path, small_graph()[0])
    with pytest.raises(FileError, match="cannot be read"):
        load_split(tmp_path / "none.json", small_graph()[0])


def test_a_split_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    graph, tables = small_graph()
    with pytest.raises(DiskFullError, match="Cannot write"):
        save_split(drawn("inductive", graph, tables), graph, tmp_path / "none" / "split.json")


def test_draws_of_the_inductive_split_stay_what_they_were() -> None:
    """Figures measured on earlier draws remain comparable."""
    assert draw("inductive", small_graph()[0], 0.1, 0).all_held.tolist() == [15, 18, 23, 30, 31, 32, 79, 82, 90]
    assert np.array_equal(draw("inductive", load_starter(), 0.1, 0).all_held, draw_inductive(load_starter(), 0.1, 0).all_held)
