"""What nodes have in common and what each has alone, relation by relation; and the paths by which two nodes hang together.

Knows: the graph's edges and paths, the ledger of evidence. Does not know: how a question is read, predictions, language models.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from biobridge_rag.qa.markdown import md_escape
from biobridge_rag.qa.statements import known, path
from biobridge_rag.qa.wording import joined, order, plural
from biobridge_rag.retrieval.paths import explain, find_paths
from biobridge_rag.types import KnowledgeGraph, Node, NodeType, Relation, RetrievedNode, Triple

if TYPE_CHECKING:
    from biobridge_rag.qa.gathering import Gatherer, Work

_BY = {"ppi": "By interaction", "parent-child": "Of parent and child terms"}
MAX_COMPARED, MAX_RELATIONS, MAX_SHARED, MAX_OWN = 3, 4, 5, 3
MAX_EXPLAINED, MAX_LINES, MAX_BETWEEN = 3, 4, 3


def compare(work: Work, gatherer: Gatherer) -> None:
    """The tails that the entities share, and those that each has alone, for each relation of theirs, along those asked for."""
    entities = [e for e in work.entities if e.node is not None][:MAX_COMPARED]
    nodes = [e.node for e in entities if e.node is not None]
    for query in work.entities:
        if query.node is None:
            work.fact(f"{query.name} is not a node of the graph, so the graph holds nothing of it to compare.")
    if len(nodes) < 2:
        return work.fact("To compare, at least two nodes of the graph must be named.", abstains=True)
    if len(work.entities) > MAX_COMPARED:
        work.fact(f"Only the first {MAX_COMPARED} are compared: {joined([n.name for n in nodes])}.")
    of_relation: dict[Relation, list[dict[str, Triple]]] = {}
    for i, node in enumerate(nodes):
        for triple in gatherer.triples(node):
            if triple.tail not in nodes:
                of_relation.setdefault(triple.relation, [{} for _ in nodes])[i].setdefault(triple.tail.id, triple)
    for triple in gatherer.triples(nodes[0]):
        if triple.tail in nodes:
            work.ledger.add([known(triple)])
            work.lead.append(f"{md_escape(known(triple).text)} {work.ledger.key(triple.tail)}.")
    held = sorted((r for r in of_relation if not work.asked.tails or r.tail_type in work.asked.tails), key=order)
    relations = [r for r in held if r.name in work.asked.names] or held
    for relation in relations[:MAX_RELATIONS]:
        _compared(work, relation, nodes, of_relation[relation])
    if not relations:
        wanted = joined([plural(t) for t in work.asked.tails]) or "any other node"
        work.fact(f"The graph holds no edge of {joined([n.name for n in nodes])} to {wanted}.", abstains=True)
    elif len(relations) > MAX_RELATIONS:
        work.fact(f"Relations left out here: {joined(list(dict.fromkeys(r.name for r in relations[MAX_RELATIONS:])))}.")


def _compared(work: Work, relation: Relation, nodes: Sequence[Node], edges: Sequence[dict[str, Triple]]) -> None:
    by = f"Of {plural(relation.tail_type)}" if relation.name == "interacts with" else _BY.get(relation.name, f"By '{relation.name}'")
    shared = [t for t in edges[0] if all(t in own for own in edges[1:])]
    if shared:
        work.ledger.add(known(own[t]) for t in shared[:MAX_SHARED] for own in edges)
        every = joined([_keyed(work, n, bold=True) for n in nodes])
        both = "both " if len(nodes) == 2 else ""
        names = joined([_keyed(work, edges[0][t].tail) for t in shared[:MAX_SHARED]], more=len(shared) > MAX_SHARED)
        work.lead.append(f"{by} the graph links {both}{every} to {names}.")
        work.prediction += [edges[0][t].tail.name for t in shared if edges[0][t].tail.name not in work.prediction]
    for node, own in zip(nodes, edges, strict=True):
        alone = [t for t in own if sum(t in other for other in edges) == 1]
        if alone:
            work.ledger.add(known(own[t]) for t in alone[:MAX_OWN])
            names = joined([_keyed(work, own[t].tail) for t in alone[:MAX_OWN]], more=len(alone) > MAX_OWN)
            work.lead.append(f"{by} the graph links only {_keyed(work, node, bold=True)} to {names}.")


def _keyed(work: Work, node: Node, bold: bool = False) -> str:
    name = f"**{md_escape(node.name)}**" if bold else md_escape(node.name)
    return f"{name} {work.ledger.key(node)}".rstrip()


def hang_together(work: Work, graph: KnowledgeGraph, head: Node, tail: Node) -> int:
    """Adds the best paths of two or three edges between two nodes to the evidence; how many there are, at most three."""
    found = [p for p in find_paths(graph, head, tail, 2, MAX_BETWEEN + 3) if len(p.triples) > 1][:MAX_BETWEEN]
    if not found:
        found = [p for p in find_paths(graph, head, tail, 3, MAX_BETWEEN, most_of_kind=2) if len(p.triples) > 1]
    work.ledger.add(path(p.triples) for p in found)
    return len(found)


def explained(work: Work, graph: KnowledgeGraph, node: Node | None, relation: Relation, hits: Sequence[RetrievedNode]) -> None:
    """Adds paths of known edges that speak for the best predictions of a node: the best path of each of three, then others, at most
    two of one prediction and four in all. What is no node of the graph has none."""
    left = MAX_LINES - len(work.ledger.of_kind("path"))
    if node is None or left < 1:
        return
    found = [explain(graph, node, hit, relation, 2) for hit in hits[:MAX_EXPLAINED]]
    chosen = [p for paths in found for p in paths[:1]] + [p for paths in found for p in paths[1:]]
    work.ledger.add(path(p.triples) for p in chosen[:left])


def exist(graph: KnowledgeGraph, names: Collection[str], head: NodeType, tails: Collection[str]) -> bool:
    """Whether the graph has a relation of one of these names from that type to one of the others."""
    return any(r.name in names and r.head_type == head and r.tail_type in tails for r in graph.relations)
