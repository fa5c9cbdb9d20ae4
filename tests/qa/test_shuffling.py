"""The control: as many edges and predictions as before, all of other nodes, the same for a seed."""

from __future__ import annotations

from collections import Counter

import numpy as np

from biobridge_rag.qa.shuffling import shuffle
from biobridge_rag.types import Node, NodeType, Query, Relation, Retrieval
from tests.qa.worlds import MORE, graph_of, ranking

GRAPH = graph_of()
D = NodeType.DRUG
TARGET = Relation("target", D.value, NodeType.PROTEIN.value)


def edges(graph: object) -> list[tuple[int, int, int]]:
    return sorted(zip(graph.head.tolist(), graph.relation.tolist(), graph.tail.tolist(), strict=True))  # type: ignore[attr-defined]


def test_the_same_amount_of_edges_of_other_heads() -> None:
    shuffled, _ = shuffle(GRAPH, ranking(GRAPH), 3)
    assert shuffled.nodes == GRAPH.nodes and shuffled.relations == GRAPH.relations
    assert Counter(shuffled.relation.tolist()) == Counter(GRAPH.relation.tolist()) and sorted(shuffled.tail) == sorted(GRAPH.tail)
    for e in range(len(GRAPH.head)):
        old, new = GRAPH.nodes[GRAPH.head[e]], shuffled.nodes[shuffled.head[e]]
        assert old.type == new.type
        assert old != new or len(GRAPH.by_type[old.type]) == 1, "no node keeps its own edges"
    assert edges(shuffled) != edges(GRAPH)


def test_a_seed_gives_the_same_and_another_seed_another() -> None:
    def of(seed: int) -> list[int]:
        return shuffle(GRAPH, ranking(GRAPH), seed)[0].head.tolist()

    assert of(1) == of(1) and any(of(1) != of(seed) for seed in (2, 3, 4))


def test_what_is_asked_of_a_node_is_asked_of_the_one_whose_edges_it_got() -> None:
    asked: list[Query] = []

    def retrieve(query: Query, relation: Relation, top: int) -> Retrieval:
        asked.append(query)
        return ranking(GRAPH, "EGFR")(query, relation, top)

    shuffled, wrong = shuffle(GRAPH, retrieve, 5)
    for name in ("gefitinib", "lapatinib", "afatinib"):
        query = Query(D, name, node=MORE[name])
        found = wrong(query, TARGET, 5)
        other = asked[-1].node
        assert other is not None and other.type is D and other != MORE[name] and found.query is query and len(found.hits) == 1
        at, of = shuffled.position(D, MORE[name].id), GRAPH.position(D, other.id)
        assert at is not None and of is not None
        np.testing.assert_array_equal(np.sort(shuffled.tail[shuffled.head == at]), np.sort(GRAPH.tail[GRAPH.head == of]))


def test_an_unknown_value_gets_a_node_by_its_hash() -> None:
    asked: list[Node | None] = []

    def retrieve(query: Query, relation: Relation, top: int) -> Retrieval:
        asked.append(query.node)
        return Retrieval(query, relation, ())

    _, wrong = shuffle(GRAPH, retrieve, 5)
    for value in ("CCO", "CCO", *(f"C{i}" for i in range(20))):
        wrong(Query(D, "mine", value), TARGET, 5)
    assert asked[0] == asked[1] and len(set(n.id for n in asked if n is not None)) > 1 and all(n is not None and n.type is D for n in asked)


def test_a_type_with_one_node_stays_as_it_is() -> None:
    only = graph_of({k: MORE[k] for k in ("gefitinib", "EGFR")}, [("gefitinib", "target", "EGFR")])
    shuffled, _ = shuffle(only, ranking(only))
    assert edges(shuffled) == edges(only)
