"""The mechanism of a drug: its known targets in the order in which they carry its effect, or those that are predicted.

Knows: the ranking of targets, the ledger of evidence, and a retrieve function that it is given. Does not know: how a question is read,
language models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from biobridge_rag.graph.incidence import linked
from biobridge_rag.qa.comparing import explained
from biobridge_rag.qa.gathering import MAX_KNOWN, MAX_PREDICTED, MIN_PROBABILITY, TOP_PAIR, Gatherer, Step, Work
from biobridge_rag.qa.markdown import md_escape
from biobridge_rag.qa.statements import about, known, percent, predicted
from biobridge_rag.qa.wording import joined
from biobridge_rag.retrieval.mechanism import rank_targets
from biobridge_rag.types import Node, NodeType, Query, Relation, RetrievedNode

LIKELY = 0.5
MANY = 3  # of so many targets, one that no text speaks of is right less often than not
_P, _D, _S = NodeType.PROTEIN, NodeType.DRUG, NodeType.DISEASE
_TARGET = Relation("target", _D.value, _P.value)
_BESIDES = ("enzyme", "transporter", "carrier")


def mechanism(work: Work, gatherer: Gatherer, described: Callable[[Node, Node], float] | None) -> Iterator[Step]:
    """Ranks the targets of the first drug of `work`, with the diseases that it names in view."""
    drug = next(e for e in work.entities if e.type is _D)
    drug = gatherer.settled(work, drug)
    diseases = [e.node for e in work.entities if e.type is _S and e.node is not None]
    yield f"Looking for what {drug.name} acts by"
    retrieval = gatherer.retrieved(work, drug, _TARGET, TOP_PAIR)
    if retrieval is not None:
        yield retrieval
    if drug.node is None and retrieval is not None and retrieval.query.node is not None:
        work.ledger.add([about(retrieval.query.node)])
        drug = gatherer.settled(work, replace(drug, node=retrieval.query.node))
    hits = retrieval.hits if retrieval else ()
    predictions = [h for h in hits if not h.known and h.probability >= MIN_PROBABILITY]
    ranked = _known(work, gatherer, drug, diseases, hits, described)
    work.prediction = [*ranked, *(h.node.name for h in predictions if h.node.name not in ranked)]
    if not ranked and drug.node is not None:
        work.ledger.add(known(t) for t in gatherer.triples(drug.node) if t.relation.name in _BESIDES)
    guesses = [predicted(drug.name, _D, _TARGET.name, h) for h in predictions[:MAX_PREDICTED]]
    work.ledger.add(guesses)
    if not ranked:
        explained(work, gatherer.graph, drug.node, _TARGET, predictions)
    if not ranked and guesses:
        best = guesses[0]
        work.fact(f"The graph holds no target of {drug.name}.", abstains=best.probability < LIKELY)
        work.lead.append(
            f"What follows is only predicted: {md_escape(best.node.name)} first, with a probability of {percent(best.probability)} "
            f"{work.ledger.key(best.node)}."
        )
    elif not ranked:
        work.fact(f"The graph holds no target of {drug.name}, and none is predicted.", abstains=True)


def _known(
    work: Work, gatherer: Gatherer, drug: Query, diseases: list[Node], hits: tuple[RetrievedNode, ...],
    described: Callable[[Node, Node], float] | None,
) -> list[str]:  # fmt: skip
    """Names of the known targets, best first; their edges and reasons go to the evidence."""
    if drug.node is None:
        return []
    graph = gatherer.graph
    triples = gatherer.triples(drug.node)
    edges = {t.tail.id: t for t in triples if t.relation == _TARGET}
    by_bridge = {h.node.id: h.parts.get("bridge", 0.0) for h in hits}
    ranked = rank_targets(graph, drug.node, [t.tail for t in edges.values()], diseases, by_bridge, described)
    if not ranked:
        return []
    facts = [known(edges[r.node.id]) for r in ranked[:MAX_KNOWN]]
    work.ledger.add(facts)
    best, key = ranked[0], work.ledger.key(ranked[0].node)
    at = graph.position(best.node.type, best.node.id)
    gene_of = linked(graph, at, "associated with", _S) if at is not None else frozenset()
    for disease in diseases:
        if graph.position(disease.type, disease.id) in gene_of:
            work.ledger.add(known(t) for t in gatherer.triples(best.node) if t.tail == disease)
    work.lead.append(f"{md_escape(facts[0].text)} {key}.")
    if len(ranked) > 1:
        others = joined([f"{md_escape(r.node.name)} {work.ledger.key(r.node)}" for r in ranked[1:4]], more=len(ranked) > 4)
        work.lead.append(f"The graph links {len(ranked)} proteins to {work.named(drug)}: {md_escape(best.node.name)} {key}, {others}.")
        share = f"{best.node.name} is put first of {len(ranked)} targets, at {percent(best.share)} of the weight"
        work.fact(f"{share}{': ' + '; '.join(best.reasons) if best.reasons else ''}.")
    if described is not None and len(ranked) >= MANY and best.described == 0.0:
        work.fact(
            f"Which of these targets carries the effect is not settled: the description of {drug.name} names none of them. To tell, the "
            "graph would need a text or an edge that does.", abstains=True,
        )  # fmt: skip
    return [r.node.name for r in ranked]
