"""A graph and what a user adds: new nodes and edges come last, duplicates are recognised, wrong relations are named."""

from __future__ import annotations

import numpy as np
import pytest

from biobridge_rag.errors import InputError
from biobridge_rag.graph import extending
from biobridge_rag.graph.additions import Entry, Statement, Tally
from biobridge_rag.graph.extending import Extension, extend, shortened
from biobridge_rag.types import KnowledgeGraph, Node, NodeType, Relation

PROTEIN, DRUG, DISEASE = NodeType.PROTEIN, NodeType.DRUG, NodeType.DISEASE
TARGET, PPI = Relation("target", PROTEIN, DRUG), Relation("ppi", PROTEIN, PROTEIN)
PPI_EDGE = Statement("P9", "ppi", "P1")
UNUSED = Relation("enzyme", DRUG, PROTEIN)


def graph() -> KnowledgeGraph:
    nodes = (
        Node("P1", PROTEIN, "KIN1", values=("MKTAYIAK",)),
        Node("P2", PROTEIN, "KIN2", values=("MKTAYIAR",)),
        Node("D1", DRUG, "ethanol", values=("OCC",)),
        Node("D2", DRUG, "amine salt", values=("CCN.Cl",)),
        Node("both", PROTEIN, "KIN3", values=("MMMMMM",)),
        Node("both", DRUG, "propane", values=("CCC",)),
        Node("X1", DISEASE, "fever", "Hot.", values=("Name: fever. Definition: Hot.",), synonyms=("heat",)),
    )
    relations = tuple(sorted({TARGET, TARGET.inverse, PPI, UNUSED}, key=lambda r: r.key))
    at = {r: i for i, r in enumerate(relations)}
    edges = sorted([(at[TARGET], 0, 2), (at[TARGET.inverse], 2, 0), (at[PPI], 0, 1), (at[PPI], 1, 0)])
    r, h, t = np.array(edges).T
    return KnowledgeGraph(
        "g", nodes, relations, h.astype(np.int32), r.astype(np.int16), t.astype(np.int32), np.zeros(len(r), np.int16), ("s",), {"x": 1}
    )


def protein(node_id: str, sequence: str) -> Entry:
    return Entry(node_id, PROTEIN, node_id.lower(), sequence, (sequence,), file="f")


def drug(node_id: str, *keys: str) -> Entry:
    return Entry(node_id, DRUG, node_id.lower(), keys[-1], keys, file="f")


def disease(node_id: str, name: str, text: str = "") -> Entry:
    value = f"Name: {name}. Definition: {text}" if text else f"Name: {name}."
    return Entry(node_id, DISEASE, name, value, (value,), text, file="f")


def run(entries: list[Entry], stated: list[Statement]) -> tuple[Extension, Tally]:
    tally = Tally()
    return extend(graph(), entries, stated, tally), tally


def test_new_nodes_and_edges_come_last_in_both_directions() -> None:
    old = graph()
    found, tally = run(
        [protein("P9", "MKWW"), drug("D9", "CCCl")], [Statement("D9", "target", "P9", source="mine"), Statement("P9", "ppi", "P1")]
    )
    longer = found.graph
    assert longer.nodes[: len(old.nodes)] == old.nodes and [n.id for n in longer.nodes[len(old.nodes) :]] == ["P9", "D9"]
    for name in ("head", "relation", "tail", "source"):
        column = getattr(longer, name)
        assert np.array_equal(column[: old.n_edges], getattr(old, name)) and column.dtype == getattr(old, name).dtype
    stated = {(t.head.id, t.relation, t.tail.id, t.source) for i in range(old.n_edges, longer.n_edges) for t in [longer.triple(i)]}
    assert stated == {("D9", TARGET.inverse, "P9", "mine"), ("P9", TARGET, "D9", "mine"), ("P9", PPI, "P1", ""), ("P1", PPI, "P9", "")}
    assert len(found.triples) == 2 and not tally.counts and longer.sources == ("s", "mine", "")
    assert {t: len(p) for t, p in longer.by_type.items()} == {PROTEIN: 4, DRUG: 4, DISEASE: 1}


def test_shortening_gives_the_graph_back() -> None:
    old = graph()
    longer = run([protein("P9", "MKWW")], [Statement("P9", "target", "D1", source="new")])[0].graph
    back = shortened(longer, len(old.nodes), old.n_edges, len(old.sources))
    assert longer.sha256 != old.sha256 == back.sha256 and (back.nodes, back.sources, back.skipped) == (old.nodes, old.sources, old.skipped)
    assert np.array_equal(back.source, old.source)


def test_what_is_there_is_not_added_again() -> None:
    found, tally = run(
        [protein("P1", "MKTAYIAK"), drug("D1", "CCO"), drug("D2", "CCN.Cl", "CCN"), disease("X1", "Fever"), disease("X1", "fever", "Hot.")],
        [Statement("P1", "target", "D1"), Statement("D1", "target", "P1"), Statement("P2", "ppi", "P1")],
    )
    assert (found.nodes, found.already, found.recognised, found.triples, found.known_edges) == ((), 5, (), (), 3)
    assert found.graph.sha256 == graph().sha256 and not tally.counts


def test_the_same_content_under_another_id_is_recognised_and_stands_for_it() -> None:
    found, tally = run(
        [protein("MINE", "MKTAYIAR"), drug("E", "CCO"), protein("N1", "MKWW"), protein("N2", "MKWW"), disease("Y", "fever", "Hot.")],
        [Statement("MINE", "target", "E"), Statement("N2", "target", "D1")],
    )
    assert [(e.id, n.id) for e, n in found.recognised] == [("MINE", "P2"), ("E", "D1"), ("N2", "N1"), ("Y", "X1")]
    assert [(t.head.id, t.tail.id) for t in found.triples] == [("P2", "D1"), ("N1", "D1")]
    assert [n.id for n in found.nodes] == ["N1"] and not tally.counts


def test_an_id_of_another_node_is_refused_with_its_edges() -> None:
    found, tally = run([protein("P1", "MWWWW"), disease("X1", "chill"), drug("D9", "CCCl"), drug("D9", "CCBr")], [
        Statement("P1", "target", "D2"), Statement("P2", "target", "D9"),
    ])  # fmt: skip
    assert [n.id for n in found.nodes] == ["D9"] and not found.triples
    assert tally.counts == {"id that stands for another node of the graph or of the files": 3, "edge to an id that stands for two nodes": 2}
    assert any("P1 is KIN1, whose sequence is another" in line for line in tally.lines())


def test_edges_that_cannot_be_used_are_counted() -> None:
    found, tally = run([Entry("C", NodeType.CELLULAR_COMPONENT, "c", "Name: c.", ("Name: c.",))], [
        Statement("P1", "target", "nowhere"), Statement("P1", "ppi", "P1"), Statement("P1", "ppi", "both"),
        Statement("both", "target", "both"),
        Statement("both", "target", "both", PROTEIN, DRUG), Statement("both", "target", "both", DRUG, PROTEIN),
        Statement("P1", "target", "D1", DISEASE),
    ])  # fmt: skip
    assert tally.counts == {
        "edge to a node that is neither in the graph nor in the files": 2,
        "edge from a node to itself": 1,
        "edge whose ids are those of nodes of several types (give head_type and tail_type)": 1,
        "node of a type that the graph has no nodes of": 1,
    }
    assert [(t.head.name, t.relation, t.tail.name) for t in found.triples] == [("KIN1", PPI, "KIN3"), ("KIN3", TARGET, "propane")]
    assert found.known_edges == 1


@pytest.mark.parametrize("name", ["cures", "enzyme", "Target"])
def test_an_unknown_relation_names_those_that_there_are(name: str) -> None:
    with pytest.raises(InputError, match=f"no relation '{name}'. It has: ppi, target") as error:
        run([], [Statement("P1", "target", "D2"), Statement("P1", name, "D1")])
    assert error.value.exit_code == 2


def test_a_relation_between_other_types_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"no relation 'target' from disease to drug \(X1 - target - D1\). It leads from drug to gene/protein"
    ):
        run([], [Statement("X1", "target", "D1")])


def test_a_direction_that_is_missing_is_added() -> None:
    old = graph()
    keep = np.array([i for i in range(old.n_edges) if not (old.relations[old.relation[i]] == PPI and old.head[i] == 1)])
    cut = KnowledgeGraph("g", old.nodes, old.relations, old.head[keep], old.relation[keep], old.tail[keep], old.source[keep], old.sources)
    found = extend(cut, [], [Statement("P1", "ppi", "P2")], Tally())
    assert len(found.triples) == 1 and found.graph.n_edges == cut.n_edges + 1


def test_too_many_sources_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extending, "_MOST_SOURCES", 3)
    stated = [Statement("P2", "target", node, source=node) for node in ("D1", "D2", "both")]
    assert len(run([], stated[:2])[0].graph.sources) == 3
    with pytest.raises(InputError, match="more than 3 sources"):
        run([], stated)
