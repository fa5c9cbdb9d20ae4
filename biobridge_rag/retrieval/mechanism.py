"""Which of a drug's targets its effect on a disease goes by: its known targets, ranked, each with the reasons.

Knows: the graph's edges, what the bridge predicts for the drug without its own edges, a way to match a description with a protein.
Does not know: questions, how evidence is worded in answers.

Most drugs have one target, many have five, and few of those carry the effect. What speaks for a target: drugs like this one have it
(the bridge); drugs for the same diseases have it; the diseases are associated with its gene; and the drug's description speaks of
it; what speaks against it: that many drugs have it anyway. The weights are those of a conditional logit, rounded, on the questions for
development that are made of DrugMechDB (five-fold over drugs: 0.83 of the first ones right, 0.74 by the bridge alone, 0.65 by how
many drugs have the target).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from biobridge_rag.graph.incidence import linked
from biobridge_rag.types import KnowledgeGraph, Node, NodeType

_P, _D, _S = NodeType.PROTEIN, NodeType.DRUG, NodeType.DISEASE
WEIGHTS = {"alike": 5.0, "peers": 1.0, "disease": 1.0, "diseases": 3.0, "described": 7.0, "common": -0.5}


@dataclass(frozen=True, slots=True)
class RankedTarget:
    """score: higher is more likely the mechanism; share in [0, 1]: of all the drug's targets together (softmax of the scores); described
    in [0, 1]: how well the drug's description fits it."""

    node: Node
    score: float
    share: float
    reasons: tuple[str, ...]
    described: float = 0.0


def rank_targets(
    graph: KnowledgeGraph,
    drug: Node,
    targets: Sequence[Node],
    diseases: Sequence[Node] = (),
    predicted: Mapping[str, float] | None = None,
    described: Callable[[Node, Node], float] | None = None,
) -> list[RankedTarget]:
    """The targets, best first. predicted: by node id, the bridge's score in [0, 1] without the drug's own edges; described: how well the
    drug's description fits a protein, in [0, 1]."""
    at = graph.position(drug.type, drug.id)
    indicated = linked(graph, at, "indication", _S) if at is not None else frozenset()
    terms_of = {s: {p, *linked(graph, p, "parent-child", _S)} for s in diseases if (p := graph.position(s.type, s.id)) is not None}
    genes_of = {s: _all(graph, terms, "associated with", _P) for s, terms in terms_of.items()}
    asked = frozenset().union(*terms_of.values())
    own = {at}
    peers, asked_peers = (_all(graph, some, "indication", _D) - own for some in (indicated, asked))
    of_asked = frozenset().union(*genes_of.values())
    of_indicated = [linked(graph, s, "associated with", _P) for s in indicated]
    rows = []
    for node in targets:
        position = graph.position(node.type, node.id)
        drugs = linked(graph, position, "target", _D) - own if position is not None else frozenset()
        alike = (predicted or {}).get(node.id, 0.0)
        n_associated = sum(position in genes for genes in of_indicated)
        text = described(drug, node) if described is not None else 0.0
        features = {
            "alike": alike,
            "peers": (len(drugs & peers) / (len(peers) + 5) + len(drugs & asked_peers) / (len(asked_peers) + 5)) / 2,
            "disease": float(position in of_asked),
            "diseases": min(n_associated, 3) / 3,
            "described": text,
            "common": math.log1p(len(drugs)),
        }
        reasons = []
        if alike >= 0.05:
            reasons.append(f"the bridge gives it {alike:.2f} from drugs like {drug.name}, its own edges left out")
        if drugs & peers:
            reasons.append(f"{len(drugs & peers)} of {len(peers)} other drugs for its indications target it")
        if features["disease"]:
            reasons.append(
                f"it is associated with {next(s.name for s, genes in genes_of.items() if position in genes)} or its parent or child terms"
            )
        elif n_associated:
            reasons.append(f"it is associated with {n_associated} of its {len(indicated)} indications")
        if text >= 0.3:
            reasons.append(f"the description of {drug.name} speaks of it")
        rows.append((sum(WEIGHTS[k] * v for k, v in features.items()), node, tuple(reasons), text))
    if not rows:
        return []
    highest = max(row[0] for row in rows)
    total = sum(math.exp(row[0] - highest) for row in rows)
    ranked = sorted(rows, key=lambda row: (-row[0], row[1].id))
    return [RankedTarget(node, score, math.exp(score - highest) / total, reasons, text) for score, node, reasons, text in ranked]


def _all(graph: KnowledgeGraph, positions: Collection[int], name: str, node_type: NodeType) -> frozenset[int]:
    """The nodes of a type that edges of that name link to any of these."""
    return frozenset[int]().union(*(linked(graph, at, name, node_type) for at in positions))
