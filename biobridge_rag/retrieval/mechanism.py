"""Which proteins carry a drug's effect on a disease: the drug's own, ranked by how the graph links them to the disease.

Knows: paths of the graph. Does not know: the bridge, questions.

A protein's score is the sum of two degree-weighted path counts (Himmelstein & Baranzini 2015; paths.py): of all paths of up to three edges
from it to the disease that avoid the drug, and of protein - target - drug - indication - disease - indication - drug, for other drugs on
the protein share what the drug is used for. The drug's targets come before its enzymes, transporters and carriers.
"""

from __future__ import annotations

from dataclasses import dataclass

from biobridge_rag.errors import InputError
from biobridge_rag.retrieval.paths import Path, find_paths, neighbours, path_count
from biobridge_rag.types import KnowledgeGraph, Node, NodeType, Triple

_SHARED = ("target", "indication", "indication")


@dataclass(frozen=True, slots=True)
class Mechanism:
    """A protein of the drug: the edge from the drug to it, a score of at least 0 (higher is more telling), and the best paths from it to
    the disease, none where the graph links the two in no short way."""

    node: Node
    triple: Triple
    score: float
    paths: tuple[Path, ...]


def mechanisms(graph: KnowledgeGraph, drug: Node, disease: Node | None = None, limit: int = 5, n_paths: int = 2) -> list[Mechanism]:
    """The drug's proteins, best first; without a disease, by the second count alone. Of several edges between drug and protein, "target"
    is taken first. Raises UnknownNodeError for a node that the graph does not hold, InputError for one that is no drug or no disease."""
    if drug.type is not NodeType.DRUG or (disease is not None and disease.type is not NodeType.DISEASE):
        raise InputError("A mechanism is looked for between a drug and a disease.")
    first: dict[str, Triple] = {}
    for triple in sorted(neighbours(graph, drug), key=lambda t: t.relation.name != "target"):
        if triple.tail.type is NodeType.PROTEIN:
            first.setdefault(triple.tail.id, triple)
    scored: list[tuple[float, Triple]] = []
    for targets in (True, False):  # the rest is scored only where there is room for it
        if len(scored) < limit:
            some = [(_score(graph, t.tail, drug, disease), t) for t in first.values() if (t.relation.name == "target") is targets]
            scored += sorted(some, key=lambda row: (-row[0], row[1].tail.name))
    out = []
    for score, triple in scored[: max(limit, 0)]:
        paths = (
            find_paths(graph, triple.tail, disease, limit=n_paths, most_of_kind=1, without=drug) if disease is not None and n_paths else []
        )
        out.append(Mechanism(triple.tail, triple, score, tuple(paths)))
    return out


def _score(graph: KnowledgeGraph, protein: Node, drug: Node, disease: Node | None) -> float:
    shared = path_count(graph, protein, drug, names=_SHARED)
    return shared + (path_count(graph, protein, disease, without=drug) if disease is not None else 0.0)
