"""Answers a question: finds its entities, reads what it asks for, gathers numbered evidence, and writes it up or has it written.

Knows: the graph, linking, the ledger of evidence, and a retrieve function that it is given. Does not know: where hits come from,
settings, the page. Without a language model the text says what the evidence says and nothing else; with one it is checked.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from biobridge_rag.errors import BiobridgeError, LLMError
from biobridge_rag.qa.citations import (
    Ledger,
    Statement,
    about,
    check,
    known,
    md_escape,
    md_plain,
    percent,
    predicted,
    shortened,
    similar,
    without_keys,
)
from biobridge_rag.qa.prompting import render
from biobridge_rag.retrieval.linking import LinkedNode, NodeLinker
from biobridge_rag.types import Answer, KnowledgeGraph, Node, NodeType, Query, Relation, Retrieval, Triple

Retrieve = Callable[[Query, Relation, int], Retrieval]
History = Sequence[tuple[str, str, Sequence[Query]]]
MAX_ENTITIES, MAX_KNOWN, MAX_PREDICTED, MIN_PROBABILITY = 6, 12, 5, 0.02
TOP, TOP_PAIR, MAX_TOP = 20, 100, 1000
"""Hits asked of a retrieval beyond the known ones; TOP_PAIR where given nodes are looked for among them."""

_P, _D, _S = NodeType.PROTEIN, NodeType.DRUG, NodeType.DISEASE
_NOUNS: tuple[tuple[str, tuple[NodeType, ...]], ...] = (
    (r"drugs?|medicines?|medications?|compounds?|molecules?|inhibitors?|ligands?|agonists?|antagonists?|blockers?|therap(?:y|ies)"
     r"|treatments?|candidates?", (_D,)),
    (r"targets?|genes?|proteins?|receptors?|enzymes?|kinases?|transporters?|carriers?|mechanisms?", (_P,)),
    (r"diseases?|disorders?|indications?|conditions?|syndromes?|illness(?:es)?", (_S,)),
    (r"process(?:es)?|pathways?", (NodeType.BIOLOGICAL_PROCESS,)),
    (r"components?|compartments?|locations?|located|localis\w+|localiz\w+", (NodeType.CELLULAR_COMPONENT,)),
    (r"functions?|roles?|go terms?", (NodeType.BIOLOGICAL_PROCESS, NodeType.MOLECULAR_FUNCTION)),
)  # fmt: skip
_VERBS: tuple[tuple[str, frozenset[str]], ...] = (
    (r"contraindicat", frozenset({"contraindication"})),
    (r"off-label", frozenset({"off-label use"})),
    (
        r"treat|cure|indicat|approved|used (?:for|in|to|against)|prescri|therap|helps? (?:with|against)",
        frozenset({"indication"}),
    ),
    (r"metaboli[sz]|enzyme|substrate|break(?:s|ing)? down", frozenset({"enzyme"})),
    (r"transport", frozenset({"transporter"})),
    (r"carrie[rds]", frozenset({"carrier"})),
    (r"target|inhibit|bind|block|antagoni|agoni|\bacts? on|\bhits?\b|activat|modulat|ligand", frozenset({"target"})),
    (r"associat|caus|linked (?:to|with)|involved|implicated|risk", frozenset({"associated with"})),
    (r"interact|partner|\bppi\b", frozenset({"ppi", "interacts with"})),
    (r"_ (?:is|are) (?:not )?an? .*_|^is _ an? .*_|subtype|(?:kind|type|form)s? of", frozenset({"parent-child"})),
)
_OUTSIDE = (
    r"side.?effects?|adverse|toxic\w*|safe(?:ty)?\b|dos(?:e|es|age|ing)\b|half-li(?:fe|ves)|pric(?:e|es|ing)\b|costs?\b|clinical trials?"
    r"|pregnan\w+|overdose|survival|prognosis|symptoms?|prevalence|how common"
)
_STRONGER = (
    (r"metaboli|substrate|break", "enzyme", "It does not say whether the enzyme metabolises the drug or the drug changes the enzyme:"),
    (r"inhibit|block|antagoni|activat|\bagoni", "target", "It does not say whether the drug inhibits or activates"),
    (r"\bcaus", "associated with", "It does not say that one causes the other of"),
)
_IT = r"\b(?:its?|they|them|their|th(?:is|at) (?:one|drug|compound|molecule|protein|gene|disease)|this)\b"
_THESE = r"\b(?:these|those|them|ones|they)\b"
_FOLLOWS = rf"{_IT}|{_THESE}|\b(?:one|former|latter|same)\b|^(?:and|what about|how about|also)\b"
_ORDINALS = {"first": 0, "second": 1, "third": 2, "fourth": 3, "fifth": 4, "1st": 0, "2nd": 1, "3rd": 2, "last": -1}
_ORDER = ("target", "indication", "associated with", "ppi", "interacts with", "enzyme", "transporter", "carrier")
_ACRONYMS = frozenset({"AND", "CSV", "DNA", "EMA", "FASTA", "FDA", "LLM", "NOT", "PDB", "RNA", "SDF", "SMILES"})
_BETWEEN = re.compile(r"(?:relat\w+|connect\w+|links?|between).* _ (?:and|to|with) _")
_YES_NO = re.compile(r"(?i)^\W*(?:does|do|did|is|are|was|were|can|could|has|have|will)\b")
_WH = re.compile(r"(?i)\b(?:which|what|who|where|how|why|list|show|find|give|suggest|name|tell|compare|propose|any)\b")


@dataclass(frozen=True, slots=True)
class AnswerEvent:
    """What happens on the way: status (a line to show), retrieval, token (a piece of a model's text), answer (the last, final one).

    Tokens are raw Markdown of a model with HTML and links disarmed; the answer's text replaces them.
    """

    kind: Literal["status", "token", "retrieval", "answer"]
    text: str = ""
    retrieval: Retrieval | None = None
    answer: Answer | None = None


class Chat(Protocol):
    """A language model: `model` is its name, `stream` yields its answer and raises LLMError."""

    @property
    def model(self) -> str: ...

    def stream(self, messages: Sequence[tuple[str, str]]) -> Iterator[str]: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """What a question asks of its entities. kind: about | tails | pair | similar | outside; `names` are relations it names."""

    kind: str
    tails: tuple[NodeType, ...] = ()
    names: frozenset[str] = frozenset()
    topic: str = ""


def read_question(masked: str, types: Sequence[NodeType], attached: bool = False) -> Asked:
    """Rules for a question whose entities, of these types, are masked by "_"; `attached` if the first one is no node of the graph."""
    low = " ".join(masked.lower().split())
    names = frozenset(name for pattern, found in _VERBS if re.search(pattern, low) for name in found)
    outside = re.search(_OUTSIDE, low)
    if outside:
        return Asked("outside", topic=outside.group())
    wh = _WH.search(low)
    if len(types) > 1 and (_YES_NO.match(low) or not wh or _BETWEEN.search(low)):
        return Asked("pair", names=names)
    if types and re.search(r"similar|alike|resembl|homolog|analog|\blike _", low):
        return Asked("similar")
    tails = (_noun(low[wh.end() :]) if wh else ()) or _by_verb(names, types) or _noun(low)
    if set(types) == {_P} and tails == (_P,) and not names & {"ppi"}:
        tails = (_D,) if "target" in names else ()
    if not tails and types and types[0] is _P and re.search(r"what (?:does|do) .*\bdo\b", low):
        tails = (NodeType.BIOLOGICAL_PROCESS, NodeType.MOLECULAR_FUNCTION)
    if not tails and attached:
        tails = {_P: (_D,), _D: (_P,), _S: (_D,)}.get(types[0], (_P,))
    return Asked("tails", tails, names) if tails else Asked("about", names=names)


def _noun(text: str) -> tuple[NodeType, ...]:
    """The node types that the first noun of a kind in the text stands for."""
    found = [(m.start(), tails) for pattern, tails in _NOUNS if (m := re.search(rf"\b(?:{pattern})\b", text))]
    return min(found, key=lambda row: row[0])[1] if found else ()


def _by_verb(names: frozenset[str], types: Sequence[NodeType]) -> tuple[NodeType, ...]:
    pairs = {
        "indication": (_D, _S), "contraindication": (_D, _S), "off-label use": (_D, _S), "target": (_D, _P), "enzyme": (_D, _P),
        "transporter": (_D, _P), "carrier": (_D, _P), "associated with": (_S, _P), "ppi": (_P, _P), "parent-child": (_S, _S),
    }  # fmt: skip
    for name, (a, b) in pairs.items():
        if name in names and types and types[0] in (a, b):
            return (b if types[0] is a else a,)
    return ()


@dataclass
class _Work:
    """One question on its way: what was found, the sentences that lead the answer, and plain facts on what was not found."""

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

    def fact(self, text: str, abstains: bool = False) -> None:
        """A plain sentence on what the graph does not hold; part of the answer and of a prompt."""
        self.facts.append(text)
        self.lead.append(md_escape(text))
        self.abstained = self.abstained or abstains

    def named(self, query: Query) -> str:
        key = self.ledger.key(query.node) if query.node else ""
        return f"**{md_escape(query.name)}**" + (f" {key}" if key else "")


class Answerer:
    """Answers over one graph. `retrieve` gives the hits of a query along a relation; `llm` writes, where there is one."""

    def __init__(self, graph: KnowledgeGraph, linker: NodeLinker, retrieve: Retrieve, llm: Chat | None = None) -> None:
        self.graph, self.linker, self.retrieve, self.llm = graph, linker, retrieve, llm

    def ask(self, question: str, queries: Sequence[Query] = (), history: History = ()) -> Answer:
        """The answer alone; see ask_stream."""
        last = [event.answer for event in self.ask_stream(question, queries, history) if event.answer is not None]
        return last[-1]

    def ask_stream(self, question: str, queries: Sequence[Query] = (), history: History = ()) -> Iterator[AnswerEvent]:
        """Events up to one "answer", always the last. Failures of retrieval and of the model end up in its notice, none is raised.

        queries: what the user attached, first in line; history: (question, answer text, queries) of earlier turns, oldest first.
        """
        question = question.strip()[:4_000]
        yield AnswerEvent("status", "Reading the question")
        work = self._read(question, queries, history)
        if not work.entities:
            self._nothing_named(work)
        else:
            yield from self._gather(work)
        evidence = "\n".join([*work.ledger.lines(), *(f"Note: {without_keys(fact)}" for fact in work.facts)])
        text = _written(work)
        checked = check(text, work.ledger.citations(), work.ledger.statements)
        sha256 = hashlib.sha256(evidence.encode()).hexdigest()
        answer = Answer(question, text, work.abstained, checked.used, (), tuple(work.retrieved), "none", sha256)
        if self.llm is not None and work.ledger.statements:
            yield AnswerEvent("status", f"Writing the answer with {self.llm.model}")
            answer = yield from self._ask_model(self.llm, work, evidence, history, answer)
        yield AnswerEvent("answer", answer=replace(answer, notice=" ".join(work.notices)))

    def _ask_model(self, llm: Chat, work: _Work, evidence: str, history: History, fallback: Answer) -> Generator[AnswerEvent, None, Answer]:
        turns = [f"Question: {without_keys(q)}\nAnswer: {without_keys(md_plain(a))[:600]}" for q, a, _ in history[-3:]]
        prompt = render("answer", question=without_keys(work.question), evidence=evidence, history="\n".join(turns))
        sent = "\n\n".join(text for _, text in prompt.messages())
        pieces: list[str] = []
        try:
            for piece in disarmed(llm.stream(prompt.messages())):
                pieces.append(piece)
                yield AnswerEvent("token", piece)
        except LLMError as error:
            work.notices.append(f"{error.message} This is the answer from the evidence alone.")
            return replace(fallback, prompt=sent)
        checked = check("".join(pieces).strip(), work.ledger.citations(), work.ledger.statements)
        if checked.n_removed:
            work.notices.append(f"{checked.n_removed} citation{'s' * (checked.n_removed > 1)} of evidence that does not exist removed.")
        return replace(
            fallback, text=checked.text, abstained=not checked.used, citations=checked.used, unsupported=checked.unsupported,
            model=llm.model, prompt_sha256=prompt.sha256, prompt=sent,
        )  # fmt: skip

    def _read(self, question: str, queries: Sequence[Query], history: History) -> _Work:
        """Attached queries first, then the nodes named, then, for a follow-up, those of earlier turns."""
        linked = self.linker.mentions(question, MAX_ENTITIES)
        own = _queries(linked)
        asked_of, types_of = question, linked
        earlier: list[Query] = []
        options: list[Node] = []
        follows = re.search(_FOLLOWS, question.lower())
        if history and not queries and (follows or not own):
            listed = self._listed(history[-1][1])
            ordinal = re.search(rf"(?i)\b({'|'.join(_ORDINALS)})\b(?: one)?\W*$|\b({'|'.join(_ORDINALS)}) (?:one|of)\b", question)
            at = _ORDINALS[(ordinal[1] or ordinal[2]).lower()] if ordinal else 0
            if ordinal and -len(listed) <= at < len(listed):
                earlier = _queries([listed[at]])
            elif re.search(_THESE, question.lower()) and listed:
                options = [link.node for link in listed]
            if not earlier and not (own and (options or not re.search(_IT, question.lower()))):
                earlier = self._of_earlier(history)
            if own and not earlier and not options and not _by_rules(_masked(question, linked)):
                types_of = self.linker.mentions(history[-1][0], MAX_ENTITIES)
                asked_of = history[-1][0]
        entities = _unique([*queries, *earlier, *own])[:MAX_ENTITIES]
        attached = bool(entities) and entities[0].node is None
        asked = read_question(_masked(asked_of, types_of), [e.type for e in entities], attached)
        if options and asked.tails:
            turns = (self._listed(answer) for _, answer, _ in reversed(history))
            fitting = ([link.node for link in turn if link.node.type in asked.tails] for turn in turns)
            options = next((nodes for nodes in fitting if nodes), options)
        ledger = Ledger()
        ledger.add(about(e.node) for e in entities if e.node)
        work = _Work(question, entities, options, asked, ledger, [], [], [], [])
        for link in linked:
            if link.score < 0.98:
                work.lead.append(f"“{md_escape(link.text)}” is read as **{md_escape(link.node.name)}** {ledger.key(link.node)}.")
        self._missing(work, linked)
        return work

    def _listed(self, answer: str) -> list[LinkedNode]:
        """The nodes that an earlier answer listed, in its order: the first of each list item, or all that it names."""
        items = [m for m in re.findall(r"(?m)^\s*(?:[-*+]|\d+[.)])\s+(.*)$", answer)]
        found = [link for item in items for link in self.linker.mentions(md_plain(item), 1, fuzzy=False)]
        found = found or self.linker.mentions(md_plain(answer), 30, fuzzy=False)
        return list({(link.node.type, link.node.id): link for link in found}.values())

    def _of_earlier(self, history: History) -> list[Query]:
        """The entities of the latest turn that has any: attached, named in its question, or leading its answer."""
        for question, answer, queries in reversed(history):
            found = [*queries, *_queries(self.linker.mentions(question, MAX_ENTITIES))]
            found = found or _queries(self.linker.mentions(md_plain(answer.partition("\n")[0]), 1, fuzzy=False))
            if found:
                return found
        return []

    def _missing(self, work: _Work, linked: Sequence[LinkedNode]) -> None:
        """Says which names of the question no node has: a word after "Drug" or "Gene", and what looks like a gene symbol."""
        masked = _masked(work.question, linked)
        words = re.findall(r"\b(?:Drug|Gene|Protein)\s+(\w[\w-]{3,})|\b(?:drug|gene|protein)\s+([A-Z][\w-]{2,})", masked)
        named = [a or b for a, b in words]
        closed = bool(_YES_NO.match(work.question)) or not _WH.search(work.question)
        form = r"\b(?:[A-Z][A-Z0-9-]*[0-9][A-Z0-9-]*|[A-Z]{3,6})\b" if closed else r"\b[A-Z][A-Z0-9-]*[0-9][A-Z0-9-]*\b"
        symbols = [w for w in re.findall(form, masked) if w not in _ACRONYMS and masked.upper() != masked]
        for word in dict.fromkeys([*named, *symbols]):
            near = [link.node.name for link in self.linker.find(word, limit=3) if link.score >= 0.85]
            hint = f" The nearest by spelling: {_list(near)}." if near else ""
            work.fact(f'No node of this graph is named "{word}".{hint}', abstains=word in named or closed)

    def _nothing_named(self, work: _Work) -> None:
        graph, near = self.graph, list[str]()
        for word in re.findall(r"[^\W_][\w-]{4,}", work.question)[:12]:
            near += [link.node.name for link in self.linker.find(word, limit=1) if link.score >= 0.8]
        hint = f" Did you mean {_list(list(dict.fromkeys(near))[:3], 'or')}?" if near else ""
        work.fact(
            f"The graph {graph.name!r} holds no node that this question names, so it cannot be answered from it.{hint} Name a protein, a "
            "drug, a disease or a Gene Ontology term, or attach a sequence (FASTA) or a molecule (SMILES).", abstains=True,
        )  # fmt: skip

    def _gather(self, work: _Work) -> Iterator[AnswerEvent]:
        if work.asked.kind == "pair":
            yield from self._pairs(work)
        elif work.asked.kind == "similar":
            yield from self._similar(work)
        elif work.asked.kind == "tails":
            yield from self._tails(work)
        else:
            if work.asked.kind == "outside":
                relations = _list(sorted({r.name for r in self.graph.relations}))
                names = _list([e.name for e in work.entities])
                held = f"its relations are {relations}; an answer needs another source."
                work.fact(f"Of {names}, the graph {self.graph.name!r} holds nothing on {work.asked.topic}: {held}", abstains=True)
            self._about(work)

    def _about(self, work: _Work) -> None:
        for query in work.entities:
            if query.node is None:
                work.fact(f"{query.name} is not a node of the graph, so the graph describes nothing of it.", abstains=True)
                continue
            description = md_escape(shortened(query.node.description)).rstrip(".")
            of_relation: dict[Relation, int] = {}
            triples = self._triples(query.node)
            for triple in triples:
                of_relation[triple.relation] = of_relation.get(triple.relation, 0) + 1
                if of_relation[triple.relation] <= 4:
                    work.ledger.add([known(triple)])
            if work.asked.kind == "about":
                key = work.ledger.key(query.node)
                work.lead.append(f"**{md_escape(query.name)}** ({md_escape(query.node.id)}) is a {query.node.type.label} {key}.")
                work.lead += [f"{re.sub(r'[.] (?=[A-Z])', f' {key}. ', description)} {key}."] if description else []
                counts = [f"{n} {r.name} ({_plural(r.tail_type)})" for r, n in of_relation.items()]
                work.lead += (
                    [f"The graph holds {len(triples)} edges of {md_escape(query.name)} {key}: {md_escape(_list(counts))}."]
                    if counts
                    else []
                )

    def _tails(self, work: _Work) -> Iterator[AnswerEvent]:
        """Known and predicted tails of the asked types, for each entity that has relations to them."""
        tails, asked = work.asked.tails, work.asked
        sources = [e for e in work.entities if any(self._relations(e.type, t, asked.names) for t in tails)]
        others = [e for e in sources if e.type not in tails] or sources[:1]
        if work.options and not any(n.type in tails for n in work.options):
            work.fact(f"What was listed before holds no {_list([_plural(t) for t in tails], 'or')}.")
        options = {n.id for n in work.options if n.type in tails}
        options |= {e.node.id for e in work.entities if e.node and e.type in tails and e not in others}
        if not others:
            wanted = _list([_plural(t) for t in tails])
            work.fact(
                f"The graph has no relation from {_list([_plural(t) for t in {e.type: 0 for e in work.entities}])} to {wanted}.", True
            )
            return self._about(work)
        shared = self._shared(others, tails, asked.names)
        if len(others) > 1:
            self._lead_shared(work, others, shared, tails)
        for query in others:
            for tail in tails:
                relations = self._relations(query.type, tail, asked.names)
                if relations:
                    yield from self._one(work, query, relations, options, shared)

    def _one(self, work: _Work, query: Query, relations: list[Relation], options: set[str], first: set[str]) -> Iterator[AnswerEvent]:
        tail, plural = NodeType(relations[0].tail_type), _plural(relations[0].tail_type)
        yield AnswerEvent("status", f"Looking for {plural} of {query.name}")
        retrieval = self._retrieved(work, query, relations[0], TOP_PAIR if options else TOP)
        if retrieval is not None:
            yield AnswerEvent("retrieval", retrieval=retrieval)
        hits = retrieval.hits if retrieval else ()
        node = query.node or (retrieval.query.node if retrieval else None)
        if node is not None and query.node is None:
            query = replace(query, node=node)
            work.ledger.add([about(node)])
        rank = {hit.node.id: hit.rank for hit in hits}
        triples = [t for t in self._triples(node) if t.relation in relations] if node else []
        triples.sort(key=lambda t: (t.tail.id not in first, relations.index(t.relation), rank.get(t.tail.id, len(rank) + 1)))
        stated = {t.tail.id for t in triples}
        if options:
            triples = [t for t in triples if t.tail.id in options]
        fresh = [h for h in hits if not h.known and h.node.id not in stated and h.probability >= MIN_PROBABILITY]
        guesses = [h for h in fresh if not options or h.node.id in options]
        facts = [known(t) for t in triples[:MAX_KNOWN]]
        predictions = [predicted(query.name, query.type, relations[0].name, h) for h in guesses[:MAX_PREDICTED]]
        work.ledger.add([*facts, *predictions])
        among = " among those listed before" if work.options and options else ""
        if triples:
            n = len({t.tail.id for t in triples})
            names = _list([f"{md_escape(s.node.name)} {work.ledger.key(s.node)}" for s in _by_node(facts)[:3]], more=n > 3)
            listed = f", {MAX_KNOWN} of which are listed" if n > MAX_KNOWN else ""
            work.lead.append(f"The graph links {n} {plural if n > 1 else tail.label} to {work.named(query)}{among}{listed}: {names}.")
        elif node:
            work.fact(f"The graph holds no edge from {query.name} to {plural}{among}.", abstains=not predictions)
        else:
            work.fact(f"{query.name} is not in the graph, so nothing is known of it there.", abstains=not predictions)
        if predictions and not triples:
            best = predictions[0]
            work.lead.append(
                f"What follows is only predicted: {md_escape(best.node.name)} first, with a probability of {percent(best.probability)} "
                f"{work.ledger.key(best.node)}."
            )

    def _shared(self, queries: list[Query], tails: Sequence[NodeType], names: frozenset[str]) -> set[str]:
        """Ids of the tails that edges link to every one of the queries."""
        sets = []
        for query in queries:
            relations = {r for t in tails for r in self._relations(query.type, t, names)}
            sets.append({t.tail.id for t in self._triples(query.node) if t.relation in relations} if query.node else set())
        return set.intersection(*sets) if len(sets) > 1 else set()

    def _lead_shared(self, work: _Work, queries: list[Query], shared: set[str], tails: Sequence[NodeType]) -> None:
        wanted, both = _list([_plural(t) for t in tails], "or"), _list([q.name for q in queries])
        every = "both" if len(queries) == 2 else "all of"
        if not shared:
            return work.fact(
                f"The graph holds no {wanted} linked to {every} {both}.", abstains=bool(re.search(r"(?i)\b(?:both|all)\b", work.question))
            )
        for query in queries:
            if query.node:
                work.ledger.add(known(t) for t in self._triples(query.node) if t.tail.id in shared and t.tail.type in tails)
        nodes = [s.node for s in _by_node(work.ledger.of_kind("known"))]
        names = _list([f"{md_escape(n.name)} {work.ledger.key(n)}" for n in nodes[:8]], more=len(nodes) > 8)
        work.lead.append(f"Linked to {every} {_list([work.named(q) for q in queries])}: {names}.")

    def _pairs(self, work: _Work) -> Iterator[AnswerEvent]:
        """Whether edges link the first entity to each of the others, else whether the model predicts it."""
        head = work.entities[0]
        found = False
        for other in work.entities[1:4]:
            if head.node is None or other.node is None:
                head, other = (other, head) if head.node else (head, other)
            edges = [t for t in self._triples(head.node) if other.node and t.tail == other.node] if head.node else []
            asked = [t for t in edges if not work.asked.names or t.relation.name in work.asked.names]
            work.ledger.add(map(known, edges))
            if edges:
                found = True
                self._lead_pair(work, asked or edges, bool(asked))
                continue
            work.fact(f"The graph holds no edge between {head.name} and {other.name}.")
            for relation in self._relations(head.type, other.type, work.asked.names)[:1]:
                yield AnswerEvent("status", f"Asking the model about {head.name} and {other.name}")
                retrieval = self._retrieved(work, head, relation, TOP_PAIR)
                if retrieval is None:
                    continue
                yield AnswerEvent("retrieval", retrieval=retrieval)
                hit = next((h for h in retrieval.hits if other.node and h.node.id == other.node.id), None)
                if hit is None or hit.probability < MIN_PROBABILITY:
                    work.fact(f"The model does not predict one either; {other.name} is not among its likely {_plural(other.type)}.")
                    continue
                found = True
                statement = predicted(head.name, head.type, relation.name, hit)
                work.ledger.add([statement])
                chance = f"a probability of {percent(hit.probability)} (rank {hit.rank})"
                work.lead.append(f"The model gives it {chance}: {md_escape(statement.text)} {work.ledger.key(hit.node)}.")
        work.abstained = work.abstained or not found

    def _lead_pair(self, work: _Work, edges: list[Triple], as_asked: bool) -> None:
        question, key = work.question, work.ledger.key(edges[0].tail)
        clauses = _list([f"{md_escape(known(t).text)} {work.ledger.key(t.tail)}" for t in edges])
        negated = re.search(r"(?i)\bnot\b|n't\b|\bnever\b", question)
        stronger = next(
            (note for pattern, name, note in _STRONGER if edges[0].relation.name == name and re.search(pattern, question.lower())), ""
        )
        if not as_asked:
            opening = "Not as asked, but the graph links the two"
        elif negated:
            opening = "The graph says" if question.endswith("?") else "The graph says otherwise"
        else:
            opening = "The graph says" if stronger or not _YES_NO.match(question) else "Yes"
        work.lead.append(f"{opening}: {clauses}.")
        work.lead += [f"{stronger} {md_escape(edges[0].tail.name)} {key}."] if stronger else []

    def _similar(self, work: _Work) -> Iterator[AnswerEvent]:
        """The nearest nodes of an entity's own type by its frozen embedding."""
        from biobridge_rag.retrieval.retriever import SIMILAR

        query = work.entities[0]
        retrieval = self._retrieved(work, query, Relation(SIMILAR, query.type.value, query.type.value), TOP)
        if retrieval is not None:
            yield AnswerEvent("retrieval", retrieval=retrieval)
        nearest = [similar(query.name, hit) for hit in (retrieval.hits[:8] if retrieval else ())]
        work.ledger.add(nearest)
        names = _list([f"{md_escape(s.node.name)} {work.ledger.key(s.node)}" for s in nearest])
        if nearest:
            work.lead.append(f"Among the {_plural(query.type)} of the graph, the nearest to {work.named(query)} are {names}.")
        else:
            work.fact(f"There is no evidence on {_plural(query.type)} similar to {query.name}.", abstains=True)

    def _retrieved(self, work: _Work, query: Query, relation: Relation, top: int) -> Retrieval | None:
        try:
            retrieval = self.retrieve(query, relation, min(top + self._n_known(query, relation), MAX_TOP))
        except BiobridgeError as error:
            work.notices.append(f"No predictions for {query.name}: {error.message}")
            return None
        work.retrieved.append(retrieval)
        return retrieval

    def _n_known(self, query: Query, relation: Relation) -> int:
        return sum(t.relation == relation for t in self._triples(query.node)) if query.node else 0

    def _triples(self, node: Node) -> list[Triple]:
        at = self.graph.position(node.type, node.id)
        return [] if at is None else sorted(self.graph.triples_of(at), key=lambda t: (_order(t.relation), t.tail.name))

    def _relations(self, head: NodeType, tail: str, names: frozenset[str]) -> list[Relation]:
        """The relations between two types, those that the question names if there are such, the most telling first."""
        between = sorted((r for r in self.graph.relations if r.head_type == head and r.tail_type == tail), key=_order)
        return [r for r in between if r.name in names] or [r for r in between if r.name in _ORDER] or between


def disarmed(pieces: Iterator[str]) -> Iterator[str]:
    """A model's text piece by piece, without HTML, links and images; what may begin one is held back until its next piece."""
    held = ""
    for piece in pieces:
        text = held + piece
        cut = len(text.rstrip("]:/"))
        held = text[cut:]
        if text[:cut]:
            yield _disarm(text[:cut])
    if held:
        yield _disarm(held)


def _disarm(text: str) -> str:
    return text.replace("<", "&lt;").replace("](", "] (").replace("]:", "] :").replace("][", "] [").replace("://", ":\\//")


def _written(work: _Work) -> str:
    notes = dict.fromkeys([*(q.note for q in work.entities if q.note), *(note for r in work.retrieved for note in r.notes)])
    return "\n\n".join(part for part in (" ".join(work.lead), work.ledger.markdown(), *(f"Note: {md_escape(n)}" for n in notes)) if part)


def _queries(linked: Sequence[LinkedNode]) -> list[Query]:
    return [Query(link.node.type, link.node.name, node=link.node) for link in linked]


def _unique(queries: Sequence[Query]) -> list[Query]:
    return list({(q.type, q.node.id if q.node else q.value or q.name): q for q in reversed(queries)}.values())[::-1]


def _masked(question: str, linked: Sequence[LinkedNode]) -> str:
    for link in sorted(linked, key=lambda link: -len(link.text)):
        question = re.sub(rf"(?<!\w){re.escape(link.text)}(?!\w)", "_", question)
    return question


def _by_rules(masked: str) -> bool:
    return bool(_noun(masked.lower()) or any(re.search(pattern, masked.lower()) for pattern, _ in _VERBS))


def _by_node(statements: Sequence[Statement]) -> list[Statement]:
    return list({(s.node.type, s.node.id): s for s in reversed(statements)}.values())[::-1]


def _order(relation: Relation) -> tuple[int, str]:
    return (_ORDER.index(relation.name) if relation.name in _ORDER else len(_ORDER), relation.key)


def _plural(node_type: str) -> str:
    label = NodeType(node_type).label
    return f"{label}es" if label.endswith("s") else f"{label}s"


def _list(names: Sequence[str], word: str = "and", more: bool = False) -> str:
    if more:
        return ", ".join(names) + " and others"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}" if names else ""
