"""Gathers the numbered evidence for a question that has been read, and the sentences that lead its answer.

Knows: the graph, the ledger of evidence, and a retrieve function that it is given. Does not know: how a question is read or linked,
earlier turns, language models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace

from biobridge_rag.errors import BiobridgeError
from biobridge_rag.qa.asking import YES_NO, Asked
from biobridge_rag.qa.comparing import compare, exist, explained, hang_together
from biobridge_rag.qa.markdown import md_escape, with_key
from biobridge_rag.qa.statements import Ledger, Statement, about, known, percent, predicted, shortened, similar
from biobridge_rag.qa.wording import ORDER, order, plural
from biobridge_rag.qa.wording import joined as joined
from biobridge_rag.retrieval.linking import LinkedNode
from biobridge_rag.types import KnowledgeGraph, Node, NodeType, Query, Relation, Retrieval, RetrievedNode, Triple

Retrieve = Callable[[Query, Relation, int], Retrieval]
Step = str | Retrieval
"""What happens on the way: a line to show, or a retrieval."""
MAX_KNOWN, MAX_PREDICTED, MIN_PROBABILITY = 12, 5, 0.02
FIRST = 1.5  # what a probability along the relation that is usually meant counts for beside one along another
TOP, TOP_PAIR, MAX_TOP = 20, 100, 1000
"""Hits asked of a retrieval beyond the known ones; TOP_PAIR where given nodes are looked for among them."""

_STRONGER = (
    (r"metaboli|substrate|break", "enzyme", "It does not say whether the enzyme metabolises the drug or the drug changes the enzyme:"),
    (r"inhibit|block|antagoni|activat|\bagoni", "target", "It does not say whether the drug inhibits or activates"),
    (r"\bcaus", "associated with", "It does not say that one causes the other of"),
)


_P, _D, _S = NodeType.PROTEIN, NodeType.DRUG, NodeType.DISEASE
_BETWEEN: dict[str, set[NodeType]] = {
    "indication": {_D, _S}, "contraindication": {_D, _S}, "off-label use": {_D, _S}, "target": {_D, _P}, "enzyme": {_D, _P},
    "transporter": {_D, _P}, "carrier": {_D, _P}, "associated with": {_P, _S}, "ppi": {_P}, "parent-child": {_S},
}  # fmt: skip
_TOGETHER = re.compile(r"(?i)\b(?:both|shared?|common|all (?:of|these|those|two|three|four)|each of|every one)\b")


@dataclass
class Work:
    """One question on its way: what was found, the sentences that lead the answer, and plain facts on what was not found.

    linked: the nodes that the question names, with its words; kind: open | choice | true_false; choices: the options; forced: whether a
    side must be taken; head: the line of a verdict; prediction: short answers, best first."""

    question: str
    entities: list[Query]
    options: list[Node]
    asked: Asked
    ledger: Ledger
    retrieved: list[Retrieval]
    lead: list[str]
    facts: list[str]
    notices: list[str]
    abstained: bool = False
    linked: Sequence[LinkedNode] = ()
    kind: str = "open"
    choices: Sequence[str] = ()
    forced: bool = False
    head: str = ""
    prediction: list[str] = field(default_factory=list)

    def fact(self, text: str, abstains: bool = False) -> None:
        """A plain sentence on what the graph does not hold; part of the answer and of a prompt."""
        self.facts.append(text)
        self.lead.append(md_escape(text))
        self.abstained = self.abstained or abstains

    def named(self, query: Query) -> str:
        key = self.ledger.key(query.node) if query.node else ""
        return f"**{md_escape(query.name)}**" + (f" {key}" if key else "")


class Gatherer:
    """Gathers over one graph. `retrieve` gives the hits of a query along a relation."""

    def __init__(self, graph: KnowledgeGraph, retrieve: Retrieve) -> None:
        self.graph, self.retrieve = graph, retrieve

    def gather(self, work: Work) -> Iterator[Step]:
        work.entities = [self.settled(work, e) for e in work.entities]
        alike = len({e.type for e in work.entities}) < 2
        if work.asked.kind == "pair" or (work.asked.kind == "compare" and not alike):
            yield from self._pairs(work)
        elif work.asked.kind == "similar":
            yield from self._similar(work)
        elif work.asked.kind == "tails":
            yield from self._tails(work)
        elif work.asked.kind == "compare":
            compare(work, self)
        else:
            if work.asked.kind == "outside":
                relations = joined(sorted({r.name for r in self.graph.relations}))
                names = joined([e.name for e in work.entities])
                held = f"its relations are {relations}; an answer needs another source."
                work.fact(f"Of {names}, the graph {self.graph.name!r} holds nothing on {work.asked.topic}: {held}", abstains=True)
            self._about(work)

    @staticmethod
    def settled(work: Work, query: Query) -> Query:
        """What is attached under another name than that of its node, under the node's name; says so."""
        node = query.node
        if node is None or query.name.casefold() in {n.casefold() for n in (node.name, node.id, *node.synonyms)}:
            return query
        work.fact(f"{query.name} is {node.name} ({node.id}) in the graph.")
        return replace(query, name=node.name)

    def _about(self, work: Work) -> None:
        for query in work.entities:
            if query.node is None:
                work.fact(f"{query.name} is not a node of the graph, so the graph describes nothing of it.", abstains=True)
                continue
            description = md_escape(shortened(query.node.description)).rstrip(".")
            of_relation: dict[Relation, int] = {}
            triples = self.triples(query.node)
            for triple in triples:
                of_relation[triple.relation] = of_relation.get(triple.relation, 0) + 1
                if of_relation[triple.relation] <= 4:
                    work.ledger.add([known(triple)])
            if work.asked.kind == "about":
                key = work.ledger.key(query.node)
                work.lead.append(f"**{md_escape(query.name)}** ({md_escape(query.node.id)}) is a {query.node.type.label} {key}.")
                work.lead += [with_key(f"{description}.", key)] if description else []
                counts = [f"{n} {r.name} ({plural(r.tail_type)})" for r, n in of_relation.items()]
                if counts:
                    held = f"The graph holds {len(triples)} edges of {query.name}"
                    work.ledger.add([Statement("about", query.node, f"{held}: {joined(counts)}")])
                    work.lead.append(f"{md_escape(held)} {key}: {md_escape(joined(counts))}.")

    def _tails(self, work: Work) -> Iterator[Step]:
        """Known and predicted tails of the asked types, for each entity that has relations to them."""
        tails, asked = work.asked.tails, work.asked
        sources = [e for e in work.entities if any(self._relations(e.type, t, asked.names) for t in tails)]
        alike = sources[:1] if re.search(r"(?i)\b(?:which|any|one) of\b", work.question) else sources
        others = [e for e in sources if e.type not in tails] or alike
        if work.options and not any(n.type in tails for n in work.options):
            work.fact(f"What was listed before holds no {joined([plural(t) for t in tails], 'or')}.")
        if not others:
            wanted = joined([plural(t) for t in tails])
            work.fact(
                f"The graph has no relation from {joined([plural(t) for t in {e.type: 0 for e in work.entities}])} to {wanted}.", True
            )
            return self._about(work)
        options = {n.id: n.name for n in work.options if n.type in tails} | self._options(work, others)
        shared = self._shared(others, tails, asked.names)
        if len(others) > 1:
            self._lead_shared(work, [q for q in others if q.node is not None], shared, tails)
        found, lacking = False, set[str]()
        for query in others:
            for tail in tails:
                relations, lacks = self._relations(query.type, tail, asked.names), self._lacks(query.type, tail, asked.names)
                if lacks:
                    lacking.add(lacks)
                elif relations:
                    found = (yield from self._one(work, query, relations, options, shared)) or found
        for lacks in sorted(lacking):
            work.fact(lacks)
        work.abstained = work.abstained or not found

    @staticmethod
    def _options(work: Work, others: Sequence[Query]) -> dict[str, str]:
        """Ids and names of the entities among which tails are asked for: those of a tail type that the question names, and those that
        are attached or were spoken of where it says so and itself names what they may be linked to."""
        spoken = {(link.node.type, link.node.id) for link in work.linked}
        own = [(e.type, e.node.id) in spoken for e in others if e.node is not None]
        pointed = (
            all(own) and len(own) == len(others) and re.search(r"(?i)\b(?:(?:which|any|one) of|these|those|them|attached)\b", work.question)
        )
        found = [e for e in work.entities if e.node is not None and e.type in work.asked.tails and e not in others]
        taken = [e for e in found if e.node is not None and (pointed or (e.type, e.node.id) in spoken)]
        left = [e.name for e in found if e not in taken]
        if left:
            work.fact(f"Not looked up here, as {'they are' if len(left) > 1 else 'it is'} what is asked for: {joined(left)}.")
        return {e.node.id: e.name for e in taken if e.node is not None}

    def _one(
        self, work: Work, query: Query, relations: list[Relation], options: dict[str, str], first: set[str]
    ) -> Generator[Step, None, bool]:
        """Adds the known and predicted tails of one entity; whether there are any."""
        tail, tails = NodeType(relations[0].tail_type), plural(relations[0].tail_type)
        yield f"Looking for {tails} of {query.name}"
        retrieval = self.retrieved(work, query, relations[0], TOP_PAIR if options else TOP)
        if retrieval is not None:
            yield retrieval
        hits = retrieval.hits if retrieval else ()
        node = query.node or (retrieval.query.node if retrieval else None)
        if node is not None and query.node is None:
            work.ledger.add([about(node)])
            query = self.settled(work, replace(query, node=node))
        rank = {hit.node.id: hit.rank for hit in hits}
        triples = [t for t in self.triples(node) if t.relation in relations] if node else []
        triples.sort(key=lambda t: (t.tail.id not in first, relations.index(t.relation), rank.get(t.tail.id, len(rank) + 1)))
        stated = {t.tail.id for t in triples}
        if options:
            triples = [t for t in triples if t.tail.id in options]
        fresh = [(h, relations[0]) for h in hits if not h.known and h.node.id not in stated]
        if node is None and (not work.asked.names or re.search(r"(?i)\bacts? on\b", work.question)):
            fresh = self._along_others(work, query, self._relations(query.type, tail, frozenset()), fresh)
        likely = [(h, r) for h, r in fresh if h.probability >= MIN_PROBABILITY and (not options or h.node.id in options)]
        facts = [known(t) for t in triples[:MAX_KNOWN]]
        predictions = [predicted(query.name, query.type, r.name, h) for h, r in likely[:MAX_PREDICTED]]
        work.ledger.add([*facts, *predictions])
        explained(work, self.graph, node, relations[0], [h for h, _ in likely])
        work.prediction += [t.tail.name for t in triples if t.tail.name not in work.prediction]
        named = likely if options or not likely else fresh
        work.prediction += [h.node.name for h, _ in named if h.node.name not in work.prediction]
        among = (" among those listed before" if work.options else " among those named") if options else ""
        if triples:
            n = len({t.tail.id for t in triples})
            names = joined([f"{md_escape(s.node.name)} {work.ledger.key(s.node)}" for s in _by_node(facts)[:3]], more=n > 3)
            listed = f", {MAX_KNOWN} of which are listed" if n > MAX_KNOWN else ""
            work.lead.append(f"The graph links {n} {tails if n > 1 else tail.label} to {work.named(query)}{among}{listed}: {names}.")
        elif node:
            among = among if work.options or not options else f" among {joined(list(options.values()))}"
            work.fact(f"The graph holds no edge from {query.name} to {tails}{among}.")
        else:
            work.fact(f"{query.name} is not in the graph, so nothing is known of it there.")
        if predictions and not triples:
            best = predictions[0]
            work.lead.append(
                f"What follows is only predicted: {md_escape(best.node.name)} first, with a probability of {percent(best.probability)} "
                f"{work.ledger.key(best.node)}."
            )
        return bool(triples or predictions)

    def _along_others(
        self, work: Work, query: Query, relations: list[Relation], first: list[tuple[RetrievedNode, Relation]]
    ) -> list[tuple[RetrievedNode, Relation]]:
        """The hits of a query that is no node along all relations to the tails, where the question names none of these: the best of each
        tail by its probability, which counts half as much again along the first relation. What a new protein is to a drug (its target, an
        enzyme) is not known beforehand; on held-out proteins this finds a true drug among ten a little more often than targets alone."""
        found = [(h, r, FIRST * h.probability) for h, r in first]
        for relation in relations[1:]:
            retrieval = self.retrieved(work, query, relation, TOP)
            found += [(h, relation, h.probability) for h in (retrieval.hits if retrieval else ())]
        found.sort(key=lambda row: -row[2])
        best: dict[str, tuple[RetrievedNode, Relation]] = {}
        for hit, relation, _ in found:
            best.setdefault(hit.node.id, (hit, relation))
        return list(best.values())

    def _shared(self, queries: list[Query], tails: Sequence[NodeType], names: frozenset[str]) -> set[str]:
        """Ids of the tails that edges link to every one of the queries that are nodes."""
        sets = []
        for query in queries:
            if query.node is not None:
                relations = {r for t in tails for r in self._relations(query.type, t, names)}
                sets.append({t.tail.id for t in self.triples(query.node) if t.relation in relations})
        return set.intersection(*sets) if len(sets) > 1 else set()

    def _lead_shared(self, work: Work, queries: list[Query], shared: set[str], tails: Sequence[NodeType]) -> None:
        """Says what all are linked to; that there is nothing, where the question asks for it or the entities are of several types."""
        wanted, both = joined([plural(t) for t in tails], "or"), joined([q.name for q in queries])
        every = "both" if len(queries) == 2 else "all of"
        asked = bool(_TOGETHER.search(work.question))
        if not shared:
            if len(queries) > 1 and (asked or len({q.type for q in queries}) > 1):
                work.fact(f"The graph holds no {wanted} linked to {every} {both}.", abstains=asked)
            return
        for query in queries:
            if query.node:
                work.ledger.add(known(t) for t in self.triples(query.node) if t.tail.id in shared and t.tail.type in tails)
        nodes = [s.node for s in _by_node(work.ledger.of_kind("known"))]
        work.prediction += [n.name for n in nodes]
        names = joined([f"{md_escape(n.name)} {work.ledger.key(n)}" for n in nodes[:8]], more=len(nodes) > 8)
        work.lead.append(f"Linked to {every} {joined([work.named(q) for q in queries])}: {names}.")

    def _pairs(self, work: Work) -> Iterator[Step]:
        """Whether edges link the first entity to each of the others, else whether the model predicts it; and by what paths they hang
        together, where no edge links them or the question asks for these."""
        first, paths = work.entities[0], work.asked.topic == "paths"
        found = False
        for second in work.entities[1:4]:
            head, other = (second, first) if first.node is not None and second.node is None else (first, second)
            edges = [t for t in self.triples(head.node) if other.node and t.tail == other.node] if head.node else []
            asked = [t for t in edges if not work.asked.names or t.relation.name in work.asked.names]
            work.ledger.add(map(known, edges))
            if edges:
                found = True
                self._lead_pair(work, asked or edges, bool(asked))
                if paths:
                    self._by_paths(work, head, other)
                continue
            by_paths = self._by_paths(work, head, other)
            hint = ", only paths over other nodes: hints, not links" if by_paths else ""
            work.fact(f"The graph holds no edge between {head.name} and {other.name}{hint}.")
            found = (by_paths and paths) or found
            lacks = self._lacks(head.type, other.type, work.asked.names)
            if lacks:
                work.fact(lacks)
                continue
            for relation in self._relations(head.type, other.type, work.asked.names)[:1]:
                yield f"Asking the model about {head.name} and {other.name}"
                retrieval = self.retrieved(work, head, relation, TOP_PAIR)
                if retrieval is None:
                    continue
                yield retrieval
                hit = next((h for h in retrieval.hits if other.node and h.node.id == other.node.id), None)
                if hit is None or hit.probability < MIN_PROBABILITY:
                    work.fact(f"The model does not predict one either; {other.name} is not among its likely {plural(other.type)}.")
                    continue
                found = True
                statement = predicted(head.name, head.type, relation.name, hit)
                work.ledger.add([statement])
                chance = f"a probability of {percent(hit.probability)} (rank {hit.rank})"
                work.lead.append(f"The model gives it {chance}: {md_escape(statement.text)} {work.ledger.key(hit.node)}.")
        work.abstained = work.abstained or not found

    def _by_paths(self, work: Work, head: Query, other: Query) -> bool:
        return head.node is not None and other.node is not None and hang_together(work, self.graph, head.node, other.node) > 0

    def _lacks(self, head: NodeType, tail: NodeType, names: frozenset[str]) -> str:
        """A sentence, where a question names relations that go between these types and the graph has none of them; else nothing."""
        named = sorted(n for n in names if _BETWEEN.get(n) == {head, tail})
        if not named or exist(self.graph, named, head, (tail,)):
            return ""
        ends = f"between {plural(head)} and {plural(tail)}" if head != tail else f"between {plural(head)}"
        return f"The graph {self.graph.name!r} has no relation {joined([repr(n) for n in named], 'or')} {ends}, so it cannot tell."

    def _lead_pair(self, work: Work, edges: list[Triple], as_asked: bool) -> None:
        question, key = work.question, work.ledger.key(edges[0].tail)
        clauses = joined([f"{md_escape(known(t).text)} {work.ledger.key(t.tail)}" for t in edges])
        negated = re.search(r"(?i)\bnot\b|n't\b|\bnever\b", question)
        stronger = next(
            (note for pattern, name, note in _STRONGER if edges[0].relation.name == name and re.search(pattern, question.lower())), ""
        )
        if not as_asked:
            opening = "Not as asked, but the graph links the two"
        elif negated:
            opening = "The graph says" if question.endswith("?") else "The graph says otherwise"
        else:
            opening = "The graph says" if stronger or not YES_NO.match(question) else "Yes"
        work.lead.append(f"{opening}: {clauses}.")
        work.lead += [f"{stronger} {md_escape(edges[0].tail.name)} {key}."] if stronger else []

    def _similar(self, work: Work) -> Iterator[Step]:
        """The nearest nodes of an entity's own type by its frozen embedding."""
        from biobridge_rag.retrieval.retriever import SIMILAR

        query = work.entities[0]
        retrieval = self.retrieved(work, query, Relation(SIMILAR, query.type.value, query.type.value), TOP)
        if retrieval is not None:
            yield retrieval
        nearest = [similar(query.name, hit) for hit in (retrieval.hits[:8] if retrieval else ())]
        work.ledger.add(nearest)
        names = joined([f"{md_escape(s.node.name)} {work.ledger.key(s.node)}" for s in nearest])
        if nearest:
            work.lead.append(f"Among the {plural(query.type)} of the graph, the nearest to {work.named(query)} are {names}.")
        else:
            work.fact(f"There is no evidence on {plural(query.type)} similar to {query.name}.", abstains=True)

    def retrieved(self, work: Work, query: Query, relation: Relation, top: int) -> Retrieval | None:
        try:
            retrieval = self.retrieve(query, relation, min(top + self._n_known(query, relation), MAX_TOP))
        except BiobridgeError as error:
            work.notices.append(f"No predictions for {query.name}: {error.message}")
            return None
        work.retrieved.append(retrieval)
        return retrieval

    def _n_known(self, query: Query, relation: Relation) -> int:
        return sum(t.relation == relation for t in self.triples(query.node)) if query.node else 0

    def triples(self, node: Node) -> list[Triple]:
        at = self.graph.position(node.type, node.id)
        return [] if at is None else sorted(self.graph.triples_of(at), key=lambda t: (order(t.relation), t.tail.name))

    def _relations(self, head: NodeType, tail: str, names: frozenset[str]) -> list[Relation]:
        """The relations between two types, those that the question names if there are such, the most telling first."""
        between = sorted((r for r in self.graph.relations if r.head_type == head and r.tail_type == tail), key=order)
        return [r for r in between if r.name in names] or [r for r in between if r.name in ORDER] or between


def _by_node(statements: Sequence[Statement]) -> list[Statement]:
    return list({(s.node.type, s.node.id): s for s in reversed(statements)}.values())[::-1]
