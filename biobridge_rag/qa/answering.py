"""Answers a question: finds its entities, has it read and its evidence gathered, and writes the answer up or has it written.

Knows: linking, earlier turns, the ledger of evidence, and a retrieve function that it is given. Does not know: where hits come from,
settings, the page. Without a language model the text says what the evidence says and nothing else; with one it is checked.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from biobridge_rag.errors import LLMError
from biobridge_rag.qa.asking import WH, YES_NO, by_rules, read_question
from biobridge_rag.qa.citations import check
from biobridge_rag.qa.gathering import Gatherer, Retrieve, Work, joined
from biobridge_rag.qa.markdown import md_escape, md_plain, without_keys
from biobridge_rag.qa.prompting import render
from biobridge_rag.qa.statements import MAX_NAME, Ledger, about, short
from biobridge_rag.retrieval.linking import LinkedNode, NodeLinker
from biobridge_rag.types import Answer, KnowledgeGraph, Node, Query, Retrieval

History = Sequence[tuple[str, str, Sequence[Query]]]
MAX_ENTITIES = 6

_IT = r"\b(?:its?|they|them|their|th(?:is|at) (?:one|drug|compound|molecule|protein|gene|disease)|this)\b"
_THESE = r"\b(?:these|those|them|ones|they)\b"
_FOLLOWS = rf"{_IT}|{_THESE}|\b(?:one|former|latter|same)\b|^(?:and|what about|how about|also)\b"
_ORDINALS = {"first": 0, "second": 1, "third": 2, "fourth": 3, "fifth": 4, "1st": 0, "2nd": 1, "3rd": 2, "last": -1}
_ACRONYMS = frozenset({"AND", "CSV", "DNA", "EMA", "FASTA", "FDA", "LLM", "NOT", "PDB", "RNA", "SDF", "SMILES"})


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
        queries = [replace(q, name=short(q.name)) if len(q.name) > MAX_NAME else q for q in queries]
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

    def _gather(self, work: Work) -> Iterator[AnswerEvent]:
        for step in Gatherer(self.graph, self.retrieve).gather(work):
            yield AnswerEvent("status", step) if isinstance(step, str) else AnswerEvent("retrieval", retrieval=step)

    def _ask_model(self, llm: Chat, work: Work, evidence: str, history: History, fallback: Answer) -> Generator[AnswerEvent, None, Answer]:
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

    def _read(self, question: str, queries: Sequence[Query], history: History) -> Work:
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
            if own and not earlier and not options and not by_rules(_masked(question, linked)):
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
        work = Work(question, entities, options, asked, ledger, [], [], [], [])
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

    def _missing(self, work: Work, linked: Sequence[LinkedNode]) -> None:
        """Says which names of the question no node has: a word after "Drug" or "Gene", and what looks like a gene symbol."""
        masked = _masked(work.question, linked)
        words = re.findall(r"\b(?:Drug|Gene|Protein)\s+(\w[\w-]{3,})|\b(?:drug|gene|protein)\s+([A-Z][\w-]{2,})", masked)
        named = [a or b for a, b in words]
        closed = bool(YES_NO.match(work.question)) or not WH.search(work.question)
        form = r"\b(?:[A-Z][A-Z0-9-]*[0-9][A-Z0-9-]*|[A-Z]{3,6})\b" if closed else r"\b[A-Z][A-Z0-9-]*[0-9][A-Z0-9-]*\b"
        symbols = [w for w in re.findall(form, masked) if w not in _ACRONYMS and masked.upper() != masked]
        for word in dict.fromkeys([*named, *symbols]):
            near = [link.node.name for link in self.linker.find(word, limit=3) if link.score >= 0.85]
            hint = f" The nearest by spelling: {joined(near)}." if near else ""
            work.fact(f'No node of this graph is named "{word}".{hint}', abstains=word in named or closed)

    def _nothing_named(self, work: Work) -> None:
        graph, near = self.graph, list[str]()
        for word in re.findall(r"[^\W_][\w-]{4,}", work.question)[:12]:
            near += [link.node.name for link in self.linker.find(word, limit=1) if link.score >= 0.8]
        hint = f" Did you mean {joined(list(dict.fromkeys(near))[:3], 'or')}?" if near else ""
        work.fact(
            f"The graph {graph.name!r} holds no node that this question names, so it cannot be answered from it.{hint} Name a protein, a "
            "drug, a disease or a Gene Ontology term, or attach a sequence (FASTA) or a molecule (SMILES).", abstains=True,
        )  # fmt: skip


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


def _written(work: Work) -> str:
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
