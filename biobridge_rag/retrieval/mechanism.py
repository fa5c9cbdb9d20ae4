"""Which proteins carry a drug's effect on a disease: the drug's own, ranked by how the graph and the drug's description speak for them.

Knows: paths of the graph, names and descriptions of nodes. Does not know: the bridge, questions.

A protein's score is (counted + 0.001) (1 + named). counted is the sum of two degree-weighted path counts (Himmelstein & Baranzini 2015;
paths.py): of all paths of up to three edges from the protein to the disease that avoid the drug, and of protein - target - drug -
indication - disease - indication - drug, for other drugs on the protein share what the drug is used for. named is the largest share of the
words of one of the protein's names that the drug's description uses; the 0.001 lets it decide where there is no path. The drug's targets
come before its enzymes, transporters and carriers.
"""

from __future__ import annotations

from dataclasses import dataclass

from biobridge_rag.errors import InputError
from biobridge_rag.retrieval.linking import words_of
from biobridge_rag.retrieval.paths import Path, find_paths, neighbours, path_count
from biobridge_rag.types import KnowledgeGraph, Node, NodeType, Triple

_SHARED = ("target", "indication", "indication")
_NO_PATH = 1e-3


@dataclass(frozen=True, slots=True)
class Mechanism:
    """A protein of the drug: the edge from the drug to it, its score above 0 (higher is more telling), the two that make it (counted,
    at least 0; named, in [0, 1]), and the best paths from it to the disease, none where the graph links the two in no short way."""

    node: Node
    triple: Triple
    score: float
    counted: float
    named: float
    paths: tuple[Path, ...]


def mechanisms(graph: KnowledgeGraph, drug: Node, disease: Node | None = None, limit: int = 5, n_paths: int = 2) -> list[Mechanism]:
    """The drug's proteins, best first; without a disease, by the second count and the names alone. Of several edges between drug and
    protein, "target" is taken first. Raises UnknownNodeError for a node that the graph does not hold, InputError for one that is no drug
    or no disease."""
    if drug.type is not NodeType.DRUG or (disease is not None and disease.type is not NodeType.DISEASE):
        raise InputError("A mechanism is looked for between a drug and a disease.")
    first: dict[str, Triple] = {}
    for triple in sorted(neighbours(graph, drug), key=lambda t: t.relation.name != "target"):
        if triple.tail.type is NodeType.PROTEIN:
            first.setdefault(triple.tail.id, triple)
    described = frozenset(words_of(drug.description))
    found: list[Mechanism] = []
    for targets in (True, False):  # the rest is scored only where there is room for it
        if len(found) < limit:
            some = [_scored(graph, t, disease, described) for t in first.values() if (t.relation.name == "target") is targets]
            found += sorted(some, key=lambda m: (-m.score, m.node.name))
    if disease is None or n_paths < 1:
        return found[: max(limit, 0)]
    return [
        Mechanism(m.node, m.triple, m.score, m.counted, m.named, _paths(graph, m.triple, disease, n_paths)) for m in found[: max(limit, 0)]
    ]


def _scored(graph: KnowledgeGraph, triple: Triple, disease: Node | None, described: frozenset[str]) -> Mechanism:
    drug, protein = triple.head, triple.tail
    counted = path_count(graph, protein, drug, names=_SHARED)
    counted += path_count(graph, protein, disease, without=drug) if disease is not None else 0.0
    named = max((_share(words, described) for name in (protein.name, *protein.synonyms) if (words := words_of(name))), default=0.0)
    return Mechanism(protein, triple, (counted + _NO_PATH) * (1.0 + named), counted, named, ())


def _share(words: list[str], described: frozenset[str]) -> float:
    return sum(word in described for word in words) / len(words)


def _paths(graph: KnowledgeGraph, triple: Triple, disease: Node, n_paths: int) -> tuple[Path, ...]:
    return tuple(find_paths(graph, triple.tail, disease, limit=n_paths, most_of_kind=1, without=triple.head))
