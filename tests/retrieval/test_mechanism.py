"""Mechanisms over a hand-made graph: targets before enzymes, the protein that the disease is linked to before others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from biobridge_rag.errors import InputError, UnknownNodeError
from biobridge_rag.retrieval.mechanism import mechanisms
from biobridge_rag.types import KnowledgeGraph, Node, NodeType, Relation

P, D, S = NodeType.PROTEIN, NodeType.DRUG, NodeType.DISEASE
ABL1, CYP, ALB = (Node(f"P{i}", P, name) for i, name in enumerate(("ABL1", "CYP3A4", "ALB")))
KIT = Node("P9", P, "KIT", synonyms=("stem cell growth factor receptor",))
IMATINIB, DASATINIB, SUNITINIB, PLAIN = (Node(f"DB{i}", D, name) for i, name in enumerate(("imatinib", "dasatinib", "sunitinib", "plain")))
CML, GIST, OTHER = (Node(f"S{i}", S, name) for i, name in enumerate(("CML", "GIST", "other")))
NODES = (ABL1, KIT, CYP, ALB, IMATINIB, DASATINIB, SUNITINIB, PLAIN, CML, GIST, OTHER)
EDGES = (
    (IMATINIB, "enzyme", CYP), (IMATINIB, "enzyme", ABL1), (IMATINIB, "target", ABL1), (IMATINIB, "target", KIT),
    (IMATINIB, "carrier", ALB),
    (DASATINIB, "target", ABL1), (DASATINIB, "indication", CML), (IMATINIB, "indication", CML),
    (SUNITINIB, "target", KIT), (SUNITINIB, "indication", GIST), (IMATINIB, "indication", GIST), (KIT, "associated with", GIST),
    (CYP, "associated with", CML), (CYP, "associated with", GIST),
)  # fmt: skip


def make_graph() -> KnowledgeGraph:
    rows = [*EDGES, *((t, r, h) for h, r, t in EDGES)]
    relations = sorted({Relation(r, h.type.value, t.type.value) for h, r, t in rows})
    head, tail = (np.array([NODES.index(row[i]) for row in rows], np.int32) for i in (0, 2))
    which = np.array([relations.index(Relation(r, h.type.value, t.type.value)) for h, r, t in rows], np.int16)
    return KnowledgeGraph("small", NODES, tuple(relations), head, which, tail, np.zeros(len(rows), np.int16), ("Label",))


GRAPH = make_graph()


def test_the_target_that_the_disease_is_linked_to_comes_first() -> None:
    for disease, first, second in ((CML, ABL1, KIT), (GIST, KIT, ABL1)):
        found = mechanisms(GRAPH, IMATINIB, disease)
        assert [m.node for m in found[:2]] == [first, second] and {m.node for m in found[2:]} == {CYP, ALB}
        assert found[0].score > found[1].score > 0 and found[0].triple.relation.name == "target"
        assert found[0].paths[0].nodes[0] is first and found[0].paths[0].nodes[-1] is disease
        assert all(IMATINIB not in p.nodes for m in found for p in m.paths)
    assert found[0].paths[0].words == "KIT is associated with GIST"


def test_enzymes_come_after_targets_however_well_linked_and_only_where_there_is_room() -> None:
    found = mechanisms(GRAPH, IMATINIB, CML)
    assert found[2].node is CYP and found[2].score > found[1].score and found[2].triple.relation.name == "enzyme"
    assert [m.node for m in mechanisms(GRAPH, IMATINIB, CML, limit=1)] == [ABL1]
    assert [m.paths for m in mechanisms(GRAPH, IMATINIB, CML, n_paths=0)] == [()] * 4


def test_without_a_disease_what_other_drugs_on_the_protein_are_used_for_counts() -> None:
    found = mechanisms(GRAPH, IMATINIB)
    assert {m.node for m in found[:2]} == {ABL1, KIT} and min(m.counted for m in found[:2]) > 0
    assert [(m.node, m.counted) for m in found[2:]] == [(ALB, 0.0), (CYP, 0.0)] and not any(m.paths for m in found)


def test_a_protein_that_the_description_of_the_drug_names_comes_first_among_the_likes() -> None:
    for described, first in (("Blocks the stem cell growth factor receptor.", KIT), ("An inhibitor of ABL1 kinase", ABL1)):
        drug = replace(IMATINIB, description=described)
        found = mechanisms(replace(GRAPH, nodes=tuple(drug if n is IMATINIB else n for n in NODES)), drug)
        assert found[0].node.id == first.id and found[0].named == 1.0 and found[1].named < 0.5
        assert found[0].score == pytest.approx(2 * (found[0].counted + 0.001))


def test_what_has_no_mechanism() -> None:
    assert mechanisms(GRAPH, PLAIN, CML) == []
    assert all(not m.paths and not m.named for m in mechanisms(GRAPH, IMATINIB, OTHER))
    for drug, disease in ((ABL1, CML), (IMATINIB, KIT)):
        with pytest.raises(InputError, match="between a drug and a disease"):
            mechanisms(GRAPH, drug, disease)
    with pytest.raises(UnknownNodeError):
        mechanisms(GRAPH, Node("X", D, "X"), CML)
