"""Carries out a plan: fetches what its steps name into the evidence.

Knows: plans, the gatherer, paths, a search in texts that it is handed. Does not know: language models, how a plan is made.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace

from biobridge_rag.qa.asking import Asked
from biobridge_rag.qa.gathering import MAX_KNOWN, Gatherer, Work
from biobridge_rag.qa.gathering import Step as Done
from biobridge_rag.qa.planning import Plan, Step
from biobridge_rag.qa.referring import MAX_ENTITIES
from biobridge_rag.qa.statements import about, known, passage, path
from biobridge_rag.qa.texts import MAX_PASSAGES, Search
from biobridge_rag.retrieval.paths import find_paths
from biobridge_rag.types import NodeType, Query

MAX_OF_RELATION, MAX_PATHS = 4, 5


def adopt(plan: Plan, work: Work) -> None:
    """Takes the entities of a plan into `work`, beside those that are there, and the types that it looks for."""
    have = {_place(e) for e in work.entities}
    fresh = [e for e in plan.entities if _place(e) not in have][: max(0, MAX_ENTITIES - len(work.entities))]
    work.entities += fresh
    work.ledger.add(about(e.node) for e in fresh if e.node is not None)
    tails = tuple(dict.fromkeys(step.to for step in plan.steps if step.to is not None))
    if tails and work.asked.kind not in ("mechanism", "pair", "compare"):
        work.asked = Asked("tails", tails, frozenset(step.relation for step in plan.steps if step.relation))


def carry_out(plan: Plan, work: Work, gatherer: Gatherer, search: Search | None) -> Iterator[Done]:
    """Fetches step by step; `work` abstains where no step brings anything."""
    found = False
    for step in plan.steps:
        before = len(work.ledger.statements)
        match step.tool:
            case "find_candidates":
                brought = yield from _candidates(step, work, gatherer)
            case "lookup_edges":
                brought = _edges(step, work, gatherer)
            case "find_paths":
                brought = _paths(step, work, gatherer)
            case "find_nodes":
                work.ledger.add(about(e.node) for e in step.entities if e.node is not None)
                brought = True
            case _:
                brought = _texts(step, work, search)
        found = found or brought or len(work.ledger.statements) > before
    work.abstained = work.abstained or not found


def _candidates(step: Step, work: Work, gatherer: Gatherer) -> Generator[Done, None, bool]:
    query, to = step.entities[0], step.to
    assert to is not None
    asked = Asked("similar") if query.type is to else Asked("tails", (to,), frozenset({step.relation} - {""}))
    part = replace(work, entities=[query], options=[], asked=asked, abstained=False)
    yield from gatherer.gather(part)
    work.prediction = part.prediction
    return not part.abstained


def _edges(step: Step, work: Work, gatherer: Gatherer) -> bool:
    """The edges of a node, those to what the question names first."""
    query = step.entities[0]
    assert query.node is not None
    fitting = [
        t
        for t in gatherer.triples(query.node)
        if step.relation in ("", t.relation.name) and step.to in (None, NodeType(t.relation.tail_type))
    ]
    named = {_place(e) for e in work.entities}
    fitting.sort(key=lambda t: (t.tail.type, t.tail.id) not in named)
    of_relation: dict[object, int] = {}
    taken = []
    most = MAX_KNOWN if step.relation or step.to else MAX_OF_RELATION
    for triple in fitting:
        of_relation[triple.relation] = of_relation.get(triple.relation, 0) + 1
        if of_relation[triple.relation] <= most:
            taken.append(triple)
    work.ledger.add(map(known, taken))
    work.prediction += [t.tail.name for t in fitting if step.to is not None and t.tail.name not in work.prediction]
    what = " ".join(part for part in (step.relation, "edge") if part) + (f" to a {step.to.label}" if step.to else "")
    if not fitting:
        work.fact(f"The graph holds no {what} of {query.name}.")
    elif len(taken) < len(fitting):
        work.fact(f"The graph holds {len(fitting)} edges of {query.name} of the kind that was looked for; {len(taken)} are listed.")
    return bool(fitting)


def _paths(step: Step, work: Work, gatherer: Gatherer) -> bool:
    a, b = step.entities
    assert a.node is not None and b.node is not None
    found = find_paths(gatherer.graph, a.node, b.node, limit=MAX_PATHS)
    work.ledger.add(known(p.triples[0]) if len(p.triples) == 1 else path(p.triples) for p in found)
    if not found:
        work.fact(f"The graph holds no path of up to three edges between {a.name} and {b.name}.")
    return bool(found)


def _texts(step: Step, work: Work, search: Search | None) -> bool:
    hits = search(step.text, MAX_PASSAGES) if search is not None else []
    work.ledger.add(passage(node, text) for node, text in hits if text)
    return any(text for _, text in hits)


def _place(query: Query) -> tuple[NodeType, str]:
    return query.type, query.node.id if query.node is not None else query.value or query.name
