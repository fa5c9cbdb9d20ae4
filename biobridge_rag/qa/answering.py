"""Answers a question: finds its entities, has it read or planned and its evidence gathered, and writes the answer up or has it written.

Knows: linking, earlier turns, the ledger of evidence, and a retrieve function that it is given. Does not know: where hits come from,
settings, the page. Without a language model the text says what the evidence says and nothing else; with one it is checked.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from biobridge_rag.errors import LLMError
from biobridge_rag.qa.arms import FULL, Arm
from biobridge_rag.qa.asking import WH, YES_NO, kind_of, options_of
from biobridge_rag.qa.assertions import ABSTAINS
from biobridge_rag.qa.chat import Chat, NotSent
from biobridge_rag.qa.citations import check
from biobridge_rag.qa.deciding import Decider
from biobridge_rag.qa.gathering import Gatherer, Retrieve, Step, Work, joined
from biobridge_rag.qa.judging import choose, judge, sides_of
from biobridge_rag.qa.markdown import md_escape, md_plain, sentences
from biobridge_rag.qa.mechanisms import mechanism
from biobridge_rag.qa.planning import Plan, plan
from biobridge_rag.qa.referring import MAX_ENTITIES, History, References
from biobridge_rag.qa.statements import MAX_NAME, Ledger, about, short
from biobridge_rag.qa.steps import adopt, carry_out
from biobridge_rag.qa.texts import Texts, add_given, add_passages, from_texts, only_texts_tell
from biobridge_rag.qa.verdicts import read_choice, read_verdict
from biobridge_rag.qa.writing import MAX_EVIDENCE, Sheet, notes_of, plain_of, sheet_of, usage_of, write
from biobridge_rag.qa.writing import disarmed as disarmed
from biobridge_rag.retrieval.language import language_of
from biobridge_rag.retrieval.linking import MAX_QUESTION, LinkedNode, NodeLinker
from biobridge_rag.types import Answer, KnowledgeGraph, NodeType, Query, Retrieval, Usage

MAX_NAMED = 30
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


@dataclass
class Turn(Work):
    """A question on its way. plan: what a model has planned; given: how many texts came with the question; usage: of planning."""

    plan: Plan | None = None
    given: int = 0
    usage: Usage = field(default_factory=Usage)


class Answerer:
    """Answers over one graph. `retrieve` gives the hits of a query along a relation; `llm` writes, where there is one, and plans what is
    looked up, where it `plans`; `texts` finds passages, where there is one; `arm` says what of this an answer may rest on."""

    def __init__(
        self, graph: KnowledgeGraph, linker: NodeLinker, retrieve: Retrieve, llm: Chat | None = None, texts: Texts | None = None,
        arm: Arm = FULL, plans: bool = False, max_evidence: int = MAX_EVIDENCE,
    ) -> None:  # fmt: skip
        self.graph, self.linker, self.retrieve, self.llm, self.arm = graph, linker, retrieve, llm, arm
        self.texts = texts if arm.texts else None
        self.plans, self.max_evidence = plans, max_evidence
        self.references = References(graph, linker)

    def ask(
        self, question: str, queries: Sequence[Query] = (), history: History = (), options: Sequence[str] = (), kind: str = "",
        passages: Sequence[tuple[str, str]] = (),
    ) -> Answer:  # fmt: skip
        """The answer alone; see ask_stream."""
        events = self.ask_stream(question, queries, history, options, kind, passages)
        return [event.answer for event in events if event.answer is not None][-1]

    def ask_stream(
        self, question: str, queries: Sequence[Query] = (), history: History = (), options: Sequence[str] = (), kind: str = "",
        passages: Sequence[tuple[str, str]] = (),
    ) -> Iterator[AnswerEvent]:  # fmt: skip
        """Events up to one "answer", always the last. Failures of retrieval and of the model end up in its notice, none is raised.

        queries: what the user attached, first in line; history: (question, answer text, queries) of earlier turns, oldest first; options:
        those of a choice, or what true and false are called; kind: open | choice | true_false, or "" to be read from the question;
        passages: (name, text) of texts that came with the question, which are evidence in all arms but "none".
        """
        question, whole = question.strip()[:MAX_QUESTION], len(question.strip())
        queries = [replace(q, name=short(q.name)) if len(q.name) > MAX_NAME else q for q in queries]
        options = tuple(options) or options_of(question)
        yield AnswerEvent("status", "Reading the question")
        work = self._read(question, queries, history)
        work.kind, work.forced, work.choices = kind or kind_of(options), bool(kind), options
        if whole > MAX_QUESTION:
            work.notices.append(f"The question has {whole:,} characters; the first {MAX_QUESTION:,} are read.")
        if self.arm.name != "none":
            work.given = add_given(work, passages)
        if self.llm is not None and self.plans and self.arm.graph:
            yield AnswerEvent("status", f"Planning with {self.llm.model}")
            self._plan(self.llm, work, question, queries)
        if work.kind == "open":
            self._missing(work, question)
        if work.kind != "open" or work.entities or work.abstained or work.plan is not None:
            yield from self._gather(work)
        elif not work.given:
            self._nothing_named(work)
        if work.given and self.llm is None and work.kind == "open" and not work.prediction:
            work.fact("What the texts that came with the question say of it, only a language model can tell; none is set.", abstains=True)
        if self.texts is not None and not self.arm.graph:
            add_passages(work, self.texts, described=False)
        work.question = question
        if self.llm is None and not self._english(work):
            work.notices.append("The question does not seem to be in English. Without a language model it is read as far as names go.")
        answer = self._composed(work, sheet_of(work, self.max_evidence))
        if self.texts is not None and self.arm.graph and self.llm is not None:  # for a model to read, not to be listed
            add_passages(work, self.texts, described=True)
        if self.llm is not None and (work.ledger.statements or work.plan is not None or self.arm.name == "none"):
            yield AnswerEvent("status", f"Writing the answer with {self.llm.model}")
            answer = yield from self._ask_model(self.llm, work, sheet_of(work, self.max_evidence), history, answer)
        notice = " ".join(dict.fromkeys(work.notices))
        yield AnswerEvent("answer", answer=replace(answer, notice=notice, usage=work.usage + answer.usage))

    def _plan(self, llm: Chat, work: Turn, question: str, queries: Sequence[Query]) -> None:
        """Has the model say what is to be looked up; where it does not, the rules do."""
        try:
            made = plan(llm, question, work.linked, self.linker, attached=queries, options=work.choices)
        except LLMError as error:
            work.usage += usage_of(error)
            instead = "" if isinstance(error, NotSent) else " What is looked up is chosen by rules instead."
            work.notices.append(f"{error.message}{instead}")
            return
        work.plan, work.usage = made, work.usage + made.usage
        work.notices += made.notes
        if made.kind and not work.forced and not work.choices:
            work.kind, work.choices = made.kind, made.options
        adopt(made, work)

    def _gather(self, work: Turn) -> Iterator[AnswerEvent]:
        for step in self._steps(work):
            yield AnswerEvent("status", step) if isinstance(step, str) else AnswerEvent("retrieval", retrieval=step)

    def _steps(self, work: Turn) -> Iterator[Step]:
        gatherer = Gatherer(self.graph, self.retrieve)
        decider = Decider(self.graph, self.linker, self.retrieve, self.texts is not None or self.arm is FULL, self.arm.graph, work.notices)
        by_rules = True
        if work.kind == "true_false":
            judge(work, decider)
        elif work.kind == "choice" and work.given and only_texts_tell(work.choices):
            if self.llm is None:
                work.fact("Which option the texts that came with the question support, only a language model can tell; none is set.")
            work.abstained = True
        elif work.kind == "choice":
            choose(work, decider, self._unread(work))
        elif not self.arm.graph:
            from_texts(work, self.texts)
        elif work.asked.kind == "mechanism" and any(e.type is NodeType.DRUG for e in work.entities):
            yield from mechanism(work, gatherer, self.texts.described if self.texts is not None else None)
        else:
            by_rules = False
        search = self.texts.search if self.texts is not None else None
        if work.plan is not None:  # beside a decision by rules, steps bring only evidence
            yield from carry_out(work.plan, replace(work, lead=[], prediction=[]) if by_rules else work, gatherer, search)
        elif not by_rules:
            yield from gatherer.gather(work)

    def _composed(self, work: Work, sheet: Sheet) -> Answer:
        """The answer from the evidence alone, held against it by the same check as a model's."""
        citations = work.ledger.citations()
        checked = check(_written(work), citations, work.ledger.statements, plain_of(work))
        prediction = () if work.abstained and work.kind != "open" else tuple(dict.fromkeys(work.prediction))
        return Answer(
            work.question, checked.text, work.abstained, checked.used, checked.unsupported, tuple(work.retrieved), "none",
            hashlib.sha256(sheet.text.encode("utf-8", "replace")).hexdigest(), kind=work.kind, prediction=prediction, shown=citations,
            removed=checked.n_removed,
        )  # fmt: skip

    @staticmethod
    def _english(work: Work) -> bool:
        return language_of(work.question) in (None, "en")

    def _ask_model(
        self, llm: Chat, work: Turn, sheet: Sheet, history: History, fallback: Answer
    ) -> Generator[AnswerEvent, None, Answer]:  # fmt: skip
        planned = work.plan.prompt.messages() if work.plan is not None and work.plan.prompt is not None else []
        pieces = write(
            llm, work, sheet, history, fallback, lambda text: self._short(text, work), self._english(work), self.arm.name == "none"
        )
        while True:
            try:
                piece = next(pieces)
            except StopIteration as end:
                answer: Answer = end.value
                return replace(answer, prompt="\n\n".join([*(text for _, text in planned), answer.prompt]))
            yield AnswerEvent("token", piece)

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
        return tuple(dict.fromkeys(found)), not _abstains(text)

    def _unread(self, work: Work) -> list[str]:
        """What the question names and the graph does not: the words that are left where "both _ and _" or "with _" is read."""
        masked = _masked(work.question, work.linked)
        slots = re.search(r"\bboth (.+?) and (.+?)\s*[?.]?$", masked) or re.search(r"\b(?:with|for|of|to|by|in) (.+?)\s*[?.]?$", masked)
        return [
            slot.strip(" \"'") for slot in (slots.groups() if slots else ()) if re.sub(r"[\W_]+|\b(?:the|gene|drug|disease)\b", "", slot)
        ]

    def _read(self, question: str, queries: Sequence[Query], history: History) -> Turn:
        """Attached queries first, then the nodes named, then, for a follow-up, those of earlier turns."""
        read = self.references.read(question, queries, history)
        entities = read.entities[:MAX_ENTITIES]
        ledger = Ledger()
        if self.arm.graph:
            ledger.add(about(e.node) for e in entities if e.node)
        work = Turn(question, entities, read.options, read.asked, ledger, [], [], [], [])
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


def _abstains(text: str) -> bool:
    """Whether a model's text says that the answer is not known: in its first sentence of some length, or in the words it was given."""
    told = [md_plain(sentence) for sentence in sentences(text)]
    first = next((t for t in told if len(t.split()) > 3), " ".join(told))
    return bool(ABSTAINS.search(first) or re.search(r"(?i)evidence does not hold the answer", text))


def _written(work: Work) -> str:
    parts = (work.head, " ".join(work.lead), work.ledger.markdown(), *(f"Note: {md_escape(n)}" for n in notes_of(work)))
    return "\n\n".join(part for part in parts if part)


def _masked(question: str, linked: Sequence[LinkedNode]) -> str:
    for link in sorted(linked, key=lambda link: -len(link.text)):
        question = re.sub(rf"(?<!\w){re.escape(link.text)}(?!\w)", "_", question)
    return question
