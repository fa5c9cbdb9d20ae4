"""Answers a question: finds its entities, has it read and its evidence gathered, and writes the answer up or has it written.

Knows: linking, earlier turns, the ledger of evidence, and a retrieve function that it is given. Does not know: where hits come from,
settings, the page. Without a language model the text says what the evidence says and nothing else; with one it is checked.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from biobridge_rag.errors import LLMError
from biobridge_rag.qa.arms import FULL, Arm
from biobridge_rag.qa.asking import WH, YES_NO, kind_of, options_of
from biobridge_rag.qa.assertions import ABSTAINS
from biobridge_rag.qa.chat import Chat
from biobridge_rag.qa.citations import check
from biobridge_rag.qa.deciding import Decider
from biobridge_rag.qa.gathering import Gatherer, Retrieve, Work, joined
from biobridge_rag.qa.judging import choose, judge, sides_of
from biobridge_rag.qa.markdown import md_escape, md_plain, without_keys
from biobridge_rag.qa.mechanisms import mechanism
from biobridge_rag.qa.prompting import render
from biobridge_rag.qa.referring import MAX_ENTITIES, History, References
from biobridge_rag.qa.statements import MAX_NAME, Ledger, about, passage, short
from biobridge_rag.qa.verdicts import read_choice, read_verdict
from biobridge_rag.retrieval.language import language_of
from biobridge_rag.retrieval.linking import MAX_QUESTION, LinkedNode, NodeLinker
from biobridge_rag.types import Answer, KnowledgeGraph, Node, Query, Retrieval, Usage

MAX_EVIDENCE = 6_000  # tokens of a prompt
MAX_PASSAGES, MAX_NAMED = 8, 30
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


@dataclass(frozen=True)
class Texts:
    """What the texts of nodes are asked: `search` gives passages that fit a question, (node, text) best first; `described` how well a
    node's description fits another node, in [0, 1]."""

    search: Callable[[str, int], list[tuple[Node, str]]]
    described: Callable[[Node, Node], float]


class Answerer:
    """Answers over one graph. `retrieve` gives the hits of a query along a relation; `llm` writes, where there is one; `texts` finds
    passages, where there is one; `arm` says what of this an answer may rest on."""

    def __init__(
        self, graph: KnowledgeGraph, linker: NodeLinker, retrieve: Retrieve, llm: Chat | None = None, texts: Texts | None = None,
        arm: Arm = FULL,
    ) -> None:  # fmt: skip
        self.graph, self.linker, self.retrieve, self.llm, self.arm = graph, linker, retrieve, llm, arm
        self.texts = texts if arm.texts else None
        self.references = References(graph, linker)

    def ask(
        self, question: str, queries: Sequence[Query] = (), history: History = (), options: Sequence[str] = (), kind: str = ""
    ) -> Answer:
        """The answer alone; see ask_stream."""
        last = [event.answer for event in self.ask_stream(question, queries, history, options, kind) if event.answer is not None]
        return last[-1]

    def ask_stream(
        self, question: str, queries: Sequence[Query] = (), history: History = (), options: Sequence[str] = (), kind: str = ""
    ) -> Iterator[AnswerEvent]:
        """Events up to one "answer", always the last. Failures of retrieval and of the model end up in its notice, none is raised.

        queries: what the user attached, first in line; history: (question, answer text, queries) of earlier turns, oldest first; options:
        those of a choice, or what true and false are called; kind: open | choice | true_false, or "" to be read from the question.
        """
        question = question.strip()[:MAX_QUESTION]
        queries = [replace(q, name=short(q.name)) if len(q.name) > MAX_NAME else q for q in queries]
        options = tuple(options) or options_of(question)
        yield AnswerEvent("status", "Reading the question")
        work = self._read(question, queries, history)
        work.kind, work.forced, work.choices = kind or kind_of(options), bool(kind), options
        if work.kind == "open":
            self._missing(work, question)
        if work.kind != "open" or work.entities or work.abstained:
            yield from self._gather(work)
        else:
            self._nothing_named(work)
        self._add_passages(work)
        work.question = question
        if self.llm is None and not self._english(work):
            work.notices.append("The question does not seem to be in English. Without a language model it is read as far as names go.")
        answer = self._composed(work)
        if self.llm is not None and (work.ledger.statements or self.arm.name == "none"):
            yield AnswerEvent("status", f"Writing the answer with {self.llm.model}")
            answer = yield from self._ask_model(self.llm, work, history, answer)
        yield AnswerEvent("answer", answer=replace(answer, notice=" ".join(work.notices)))

    def _gather(self, work: Work) -> Iterator[AnswerEvent]:
        gatherer = Gatherer(self.graph, self.retrieve)
        decider = Decider(self.graph, self.linker, self.retrieve, self.texts is not None or self.arm is FULL, self.arm.graph, work.notices)
        described = self.texts.described if self.texts is not None else None
        steps: Iterator[str | Retrieval] = iter(())
        if work.kind == "true_false":
            judge(work, decider)
        elif work.kind == "choice":
            choose(work, decider, self._unread(work))
        elif not self.arm.graph:
            self._from_texts(work)
        elif work.asked.kind == "mechanism":
            steps = mechanism(work, gatherer, described)
        else:
            steps = gatherer.gather(work)
        for step in steps:
            yield AnswerEvent("status", step) if isinstance(step, str) else AnswerEvent("retrieval", retrieval=step)

    def _composed(self, work: Work) -> Answer:
        """The answer from the evidence alone, held against it by the same check as a model's."""
        text = _written(work)
        evidence = self._evidence(work)
        checked = check(text, work.ledger.citations(), work.ledger.statements, self._plain(work))
        prediction = () if work.abstained and work.kind != "open" else tuple(dict.fromkeys(work.prediction))
        return Answer(
            work.question, checked.text, work.abstained, checked.used, checked.unsupported, tuple(work.retrieved), "none",
            hashlib.sha256(evidence.encode("utf-8", "replace")).hexdigest(), kind=work.kind, prediction=prediction,
            shown=work.ledger.citations(), removed=checked.n_removed,
        )  # fmt: skip

    @staticmethod
    def _plain(work: Work) -> list[str]:
        """The sentences that need no key: what was not found, and notes."""
        return [*work.facts, *(f"Note: {n}" for n in _notes(work))]

    @staticmethod
    def _english(work: Work) -> bool:
        return language_of(work.question) in (None, "en")

    @staticmethod
    def _evidence(work: Work) -> str:
        kept, dropped = work.ledger.within(MAX_EVIDENCE, [e.node for e in work.entities if e.node is not None])
        lines = [*kept.lines(), *(f"Note: {without_keys(fact)}" for fact in work.facts)]
        return "\n".join([*lines, *([f"Note: {dropped} weaker lines were left out."] if dropped else [])])

    def _ask_model(self, llm: Chat, work: Work, history: History, fallback: Answer) -> Generator[AnswerEvent, None, Answer]:
        turns = [f"Question: {without_keys(q)}\nAnswer: {without_keys(md_plain(a))[:600]}" for q, a, _ in history[-3:]]
        fields = {"question": without_keys(work.question), "evidence": self._evidence(work) or "(none)"}
        if fallback.kind == "choice":
            fields["options"] = "\n".join(without_keys(option) for option in work.choices)
        elif fallback.kind == "open":
            fields["history"] = "\n".join(turns)
        prompt = render("answer" if fallback.kind == "open" else fallback.kind, None, **fields)
        sent = "\n\n".join(text for _, text in prompt.messages())
        fallback = replace(fallback, prompt=sent)
        pieces: list[str] = []
        stream, usage = llm.stream(prompt.messages()), Usage()
        try:
            for piece in disarmed(watched := Watched(stream)):
                pieces.append(piece)
                yield AnswerEvent("token", piece)
            usage = watched.usage
        except LLMError as error:
            work.notices.append(f"{error.message} This is the answer from the evidence alone.")
            return fallback
        text = "".join(pieces).strip()
        checked = check(text, work.ledger.citations(), work.ledger.statements, self._plain(work), self._english(work))
        if checked.n_removed:
            work.notices.append(f"{checked.n_removed} citation{'s' * (checked.n_removed > 1)} of evidence that does not exist removed.")
        prediction, decided = self._short(text, work)
        return replace(
            fallback, text=checked.text, abstained=not decided, citations=checked.used, unsupported=checked.unsupported,
            model=llm.model, prompt_sha256=prompt.sha256, prediction=prediction, removed=checked.n_removed, usage=usage,
        )  # fmt: skip

    def _short(self, text: str, work: Work) -> tuple[tuple[str, ...], bool]:
        """The short answers in a model's text, and whether it answers at all."""
        if work.kind == "choice":
            chosen = read_choice(text, work.choices)
            return ((chosen,) if chosen else ()), chosen is not None
        if work.kind == "true_false":
            side = read_verdict(text)
            called = {"True": True, "False": False}.get(side or "")
            return ((sides_of(work.choices)[called],) if called is not None else ()), called is not None
        named = [link.node for link in self.linker.mentions(md_plain(text), MAX_NAMED, fuzzy=False)]
        asked = {(e.node.type, e.node.id) for e in work.entities if e.node is not None}
        found = [n.name for n in named if (n.type, n.id) not in asked and (not work.asked.tails or n.type in work.asked.tails)]
        return tuple(dict.fromkeys(found)), not ABSTAINS.search(md_plain(text))

    def _from_texts(self, work: Work) -> None:
        """What the descriptions alone say: nodes of the asked types whose texts fit the question."""
        assert self.arm.name in ("none", "text")
        if self.texts is None:
            return work.fact("Without retrieval nothing is known here.", abstains=True)
        for node, text in self.texts.search(work.question, MAX_PASSAGES):
            if node.type in work.asked.tails:
                work.ledger.add([passage(node, text or node.name)])
                work.prediction.append(node.name)
        if not work.prediction:
            work.fact("No text of the graph fits the question.", abstains=True)

    def _add_passages(self, work: Work) -> None:
        """Passages for a model to read: they come last, and only where a model or the texts alone are to answer."""
        if self.texts is None or (self.llm is None and self.arm.graph):
            return
        for node, text in self.texts.search(work.question, MAX_PASSAGES):
            if text:
                work.ledger.add([passage(node, text)])

    def _unread(self, work: Work) -> list[str]:
        """What the question names and the graph does not: the words that are left where "both _ and _" or "with _" is read."""
        masked = _masked(work.question, work.linked)
        slots = re.search(r"\bboth (.+?) and (.+?)\s*[?.]?$", masked) or re.search(r"\b(?:with|for|of|to|by|in) (.+?)\s*[?.]?$", masked)
        return [
            slot.strip(" \"'") for slot in (slots.groups() if slots else ()) if re.sub(r"[\W_]+|\b(?:the|gene|drug|disease)\b", "", slot)
        ]

    def _read(self, question: str, queries: Sequence[Query], history: History) -> Work:
        """Attached queries first, then the nodes named, then, for a follow-up, those of earlier turns."""
        read = self.references.read(question, queries, history)
        entities = read.entities[:MAX_ENTITIES]
        ledger = Ledger()
        if self.arm.graph:
            ledger.add(about(e.node) for e in entities if e.node)
        work = Work(question, entities, read.options, read.asked, ledger, [], [], [], [])
        for link in read.linked:
            if link.score < 0.98:
                work.fact(f'"{link.text}" is read as {link.node.name} ({link.node.id}).')
            if link.others:
                others = joined([f"{n.name} ({n.type.label} {n.id})" for n in link.others])
                work.fact(f'"{link.text}" is read as the {link.node.type.label} {link.node.name}; it also names {others}.')
        self._contradictions(work, queries, read.linked)
        if read.missing:
            work.fact(read.missing, abstains=True)
        work.linked = read.linked
        work.question = read.asked_of
        return work

    @staticmethod
    def _contradictions(work: Work, queries: Sequence[Query], linked: Sequence[LinkedNode]) -> None:
        """Says so where a question names another node of the type of what is attached."""
        for query in queries:
            named = [link.node for link in linked if link.node.type is query.type]
            if named and query.node not in named:
                attached = f"{query.name} is attached" if query.node is None else f"What is attached is {query.node.name}"
                work.fact(f"{attached}, but the question names {joined([n.name for n in named])}; both are looked up.")

    def _missing(self, work: Work, question: str) -> None:
        """Says which names of the question no node has: a word after "Drug" or "Gene", and what looks like a gene symbol."""
        masked = _masked(question, work.linked)
        words = re.findall(r"\b(?:Drug|Gene|Protein)\s+(\w[\w-]{3,})|\b(?:drug|gene|protein)\s+([A-Z][\w-]{2,})", masked)
        named = [a or b for a, b in words]
        closed = bool(YES_NO.match(question)) or not WH.search(question)
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


class Watched:
    """A model's pieces; `usage` is what it cost, once they have ended."""

    def __init__(self, stream: Generator[str, None, Usage]) -> None:
        self._stream, self.usage = stream, Usage()

    def __iter__(self) -> Iterator[str]:
        self.usage = (yield from self._stream) or Usage()


def disarmed(pieces: Iterable[str]) -> Iterator[str]:
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


def _notes(work: Work) -> list[str]:
    return list(dict.fromkeys([*(q.note for q in work.entities if q.note), *(note for r in work.retrieved for note in r.notes)]))


def _written(work: Work) -> str:
    parts = (work.head, " ".join(work.lead), work.ledger.markdown(), *(f"Note: {md_escape(n)}" for n in _notes(work)))
    return "\n\n".join(part for part in parts if part)


def _masked(question: str, linked: Sequence[LinkedNode]) -> str:
    for link in sorted(linked, key=lambda link: -len(link.text)):
        question = re.sub(rf"(?<!\w){re.escape(link.text)}(?!\w)", "_", question)
    return question
