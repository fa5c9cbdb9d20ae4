"""A small engine with real nodes and real structures, for tests of the page alone: no models, no index, no network.

Its numbers are made up; its edges are public facts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from biobridge_rag.errors import SequenceError, UnknownNodeError
from biobridge_rag.qa.answering import AnswerEvent
from biobridge_rag.store.manifest import Manifest
from biobridge_rag.types import (
    Answer,
    Citation,
    Evidence,
    KnowledgeGraph,
    Node,
    NodeType,
    Query,
    Relation,
    Retrieval,
    RetrievedNode,
)

UNIPROT = "https://www.uniprot.org/uniprotkb"
ABL1 = Node("P00519", NodeType.PROTEIN, "ABL1", "Non-receptor tyrosine kinase.", "UniProt", f"{UNIPROT}/P00519", ("MLEICLKLVGCKSKK",))
KIT = Node("P10721", NodeType.PROTEIN, "KIT", "Receptor of stem cell factor.", "UniProt", f"{UNIPROT}/P10721", ("MRGARGAWDFLCVLL",))
CML = Node(
    "DOID:8552",
    NodeType.DISEASE,
    "chronic myeloid leukemia",
    "Cancer of white blood cells.",
    "DO",
    "https://disease-ontology.org/?id=DOID:8552",
)
ASTHMA = Node("DOID:2841", NodeType.DISEASE, "asthma", "Airways that narrow.", "DO", "https://disease-ontology.org/?id=DOID:2841")
_DRUGS = (
    ("DB00619", "imatinib", "Cc1ccc(NC(=O)c2ccc(CN3CCN(C)CC3)cc2)cc1Nc1nccc(-c2cccnc2)n1", 0.995, True),
    ("DB04868", "nilotinib", "Cc1ccc(C(=O)Nc2cc(-n3cnc(C)c3)cc(C(F)(F)F)c2)cc1Nc1nccc(-c2cccnc2)n1", 0.97, True),
    ("DB01254", "dasatinib", "Cc1cccc(Cl)c1NC(=O)c1cnc(Nc2cc(N3CCN(CCO)CC3)nc(C)n2)s1", 0.96, True),
    ("DB06616", "bosutinib", "COc1cc(Nc2c(C#N)cnc3cc(OCCCN4CCN(C)CC4)c(OC)cc23)c(Cl)cc1Cl", 0.94, True),
    ("DB00317", "gefitinib", "COc1cc2ncnc(Nc3ccc(F)c(Cl)c3)c2cc1OCCCN1CCOCC1", 0.34, False),
    ("DB00530", "erlotinib", "COCCOc1cc2ncnc(Nc3cccc(c3)C#C)c2cc1OCCOC", 0.27, False),
    ("DB01050", "ibuprofen", "CC(C)Cc1ccc(cc1)C(C)C(=O)O", 0.031, False),
    ("DB00945", "acetylsalicylic acid", "CC(=O)Oc1ccccc1C(=O)O", 0.004, False),
)
DRUGS = tuple(
    Node(i, NodeType.DRUG, n, f"{n} is a medicine.", "DrugBank", f"https://go.drugbank.com/drugs/{i}", (s,)) for i, n, s, _, _ in _DRUGS
)
TARGET = Relation("target", "gene/protein", "drug")
LINKED = Relation("associated with", "gene/protein", "disease")
RELATIONS = (
    TARGET,
    LINKED,
    TARGET.inverse,
    LINKED.inverse,
    Relation("indication", "drug", "disease"),
    Relation("indication", "disease", "drug"),
)


@dataclass(frozen=True)
class FakeStatus:
    graph_name: str = "starter"
    n_nodes: int = 642
    n_edges: int = 3_984
    encoders: dict[str, str] = field(default_factory=lambda: {"protein": "kmer-1", "molecule": "morgan-1", "text": "minilm-l6-v2"})
    bridge: str = "default, 6 relations"
    llm: str | None = None
    llm_host: str | None = None
    leaves_machine: bool = False
    index_host: str | None = None


class FakeEngine:
    """The calls of the engine that the page uses. `asked` records what ask_stream was given."""

    def __init__(self, delay: float = 0.0, status: FakeStatus | None = None, text: str | None = None) -> None:
        nodes = (ABL1, KIT, CML, ASTHMA, *DRUGS)
        self.graph = KnowledgeGraph(
            "starter", nodes, RELATIONS, *(np.zeros(0, t) for t in (np.int32, np.int16, np.int32, np.int16)), ("UniProt",)
        )
        self.delay, self._status, self.text = delay, status or FakeStatus(), text
        self.asked: list[tuple[str, tuple[Query, ...], list[Any]]] = []
        self.settings, self.model, self.answer = None, None, dict[str, Any]()
        manifest = Manifest("starter", "g" * 64, {"protein": "kmer-1"}, {"protein": "kmer"}, {}, "default", 7, 1, "b" * 64)
        self.home = SimpleNamespace(manifest=manifest, path=Path("/nowhere"))

    def llm_of(self, settings: Any, choice: str | None = None) -> Any:
        return self.model

    @property
    def retriever(self) -> FakeEngine:
        return self

    def relations(self, head_type: NodeType) -> list[Relation]:
        return [r for r in RELATIONS if r.head_type == head_type.value]

    def status(self) -> FakeStatus:
        return self._status

    def read(self, text: str) -> Query | None:
        words = text.strip()
        if words.startswith(">"):
            header, _, sequence = words[1:].partition("\n")
            return Query(NodeType.PROTEIN, header.strip(), "".join(sequence.split()))
        if len(words) >= 10 and words.isalpha() and words.isupper():
            return Query(NodeType.PROTEIN, "pasted sequence", words)
        if " " not in words and any(c in words for c in "()=#"):
            return Query(NodeType.DRUG, "pasted molecule", words)
        return next((Query(n.type, n.name, n.values[0] if n.values else "", n) for n in self.graph.nodes if n.name == words), None)

    def read_file(self, path: str | Path) -> tuple[list[Query], list[str]]:
        data = Path(path).read_bytes()
        if b"\0" in data:
            raise SequenceError(f"{Path(path).name} is a binary file.", "Attach text such as FASTA.")
        query = self.read(data.decode())
        if query is None:
            raise SequenceError(f"{Path(path).name} holds no sequence.")
        node = ABL1 if "ABL1" in query.name else None
        return [Query(query.type, query.name, query.value, node, f"recognised as {ABL1.name} ({ABL1.id})" if node else "")], [
            "1 record was read."
        ]

    def candidates(self, *, query: Query, to: str = "drug", relation: str | None = None, top: int = 20) -> Retrieval:
        if query.name == "asthma":
            raise UnknownNodeError("No node is named 'asthma'.")
        tail = NodeType(to)
        chosen = next((r for r in RELATIONS if r.head_type == query.type.value and r.tail_type == to and relation in (None, r.name)), None)
        assert chosen is not None, (query.type, to, relation)
        if tail is NodeType.DRUG:
            hits = tuple(self._hit(i + 1, DRUGS[i], p, known, query.name) for i, (_, _, _, p, known) in enumerate(_DRUGS))
        else:
            nodes = [n for n in self.graph.nodes if n.type is tail]
            hits = tuple(self._hit(i + 1, n, 0.9 - 0.5 * i, i == 0, query.name) for i, n in enumerate(nodes))
        return Retrieval(query, chosen, hits[:top])

    def _hit(self, rank: int, node: Node, p: float, known: bool, name: str) -> RetrievedNode:
        edge = (
            [Evidence("edge", f"{node.name} acts on {name}", 1.0, node.id, "IUPHAR/BPS Guide to Pharmacology: imatinib")] if known else []
        )
        why = [
            Evidence("analogue", "82 % like KIT (receptor tyrosine kinase), which imatinib, dasatinib and nilotinib inhibit", 0.82, KIT.id),
            Evidence("analogue", "61 % like LCK, which dasatinib inhibits", 0.61, "P06239"),
            Evidence("bridge", f"the bridge places {node.name} at cosine 0.71 from {name}, rank 3 of 158", 0.71),
            Evidence("prior", f"{node.name} acts on 14 proteins of the graph", 0.4),
        ]
        return RetrievedNode(node, rank, p * 3, p, known, (*edge, *why), {"bridge": 0.71, "analogue": 0.82, "prior": 0.4})

    def ask_stream(
        self, question: str, queries: Sequence[Query] = (), llm: str | None = None, history: Sequence[Any] = (), chat: Any = None
    ) -> Iterator[AnswerEvent]:
        self.asked.append((question, tuple(queries), list(history)))
        yield AnswerEvent("status", "Searching the graph…")
        time.sleep(self.delay)
        query = queries[0] if queries else Query(NodeType.PROTEIN, "ABL1", "", ABL1)
        to = "gene/protein" if query.type is NodeType.DRUG else "drug"
        retrieval = self.candidates(query=query, to=to, top=10)
        yield AnswerEvent("retrieval", retrieval=retrieval)
        first, second = retrieval.hits[:2]
        text = self.text or (
            f"**{len([h for h in retrieval.hits if h.known])} of these are known.** The graph states that {first.node.name} acts on it [1] "
            f"and {second.node.name} too [2].\n\n### Known\n\n- {first.node.name} acts on ABL1 [1], Guide to Pharmacology\n"
            f"- {second.node.name} acts on ABL1 [2]\n\n### Predicted\n\n- gefitinib, 34 %: ABL1 is 82 % like KIT [1, 2]\n"
        )
        for word in text.split(" "):
            time.sleep(self.delay / 10)
            yield AnswerEvent("token", word + " ")
        citations = tuple(
            Citation(str(i + 1), h.node.id, h.node.name, h.node.url, (h.evidence[0].text,)) for i, h in enumerate((first, second))
        )
        yield AnswerEvent("answer", answer=Answer(question, text, False, citations, (), (retrieval,), "none", "0" * 64))
