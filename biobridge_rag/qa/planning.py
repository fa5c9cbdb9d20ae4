"""Plans the retrieval for a question with a language model that calls tools, and makes of its calls steps that may be carried out.

Knows: the tools of plan_tools.py, the names in a graph. Does not know: how a step is carried out, evidence, which model is asked.

Nothing that a model says is carried out as it stands: a call that does not fit is left out, names must be those of nodes (or of what was
attached), relations those of the graph, options words of the question; what was left out is counted and said. Nothing here changes
anything or reaches beyond the graph. Where no step is left, NoPlan is raised, and the rules of asking.py may take over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError

from biobridge_rag.errors import LLMError, UnknownNodeError
from biobridge_rag.qa.plan_tools import TOOLS, decide_kind, find_candidates, find_nodes, find_paths, lookup_edges, search_texts
from biobridge_rag.qa.prompting import Prompt, render
from biobridge_rag.retrieval.linking import LinkedNode, NodeLinker
from biobridge_rag.retrieval.spelling import words_of
from biobridge_rag.types import NodeType, Query, Usage

MAX_STEPS, MAX_QUESTION, MAX_ENTITIES = 8, 10_000, 20
MIN_FOUND = 0.75


class Call(Protocol):
    """What a model asked for."""

    @property
    def name(self) -> str: ...

    @property
    def arguments(self) -> Mapping[str, Any]: ...


class Caller(Protocol):
    """The part of a chat model that is asked: raises LLMError, of one line."""

    def call_tools(self, messages: Sequence[tuple[str, str]], tools: Sequence[type[BaseModel]]) -> tuple[Sequence[Call], Usage]: ...


class NoPlan(LLMError):
    """The model answered, but nothing that can be carried out. usage: what its answer took."""

    def __init__(self, message: str, usage: Usage) -> None:
        super().__init__(message, "The question is read by rules instead.")
        self.usage = usage


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to fetch. tool: find_nodes | lookup_edges | find_candidates | find_paths | search_texts; entities: the nodes, or what was
    attached (find_candidates alone), that it is about; relation: a name of the graph, or empty; to: a type, or None; text: of a search."""

    tool: str
    entities: tuple[Query, ...] = ()
    relation: str = ""
    to: NodeType | None = None
    text: str = ""

    def to_dict(self) -> dict[str, Any]:
        nodes = [{"name": q.name, "type": q.type.value, "node_id": q.node.id if q.node else None} for q in self.entities]
        return {
            "tool": self.tool,
            "entities": nodes,
            "relation": self.relation,
            "to": self.to.value if self.to else None,
            "text": self.text,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps, at most eight, in the model's order. kind: "" where it did not say; options: those of a choice; unknown: names that are
    no node's; dropped: calls left out, counted by reason; notes: one line on each thing that was left out; prompt: what was asked."""

    steps: tuple[Step, ...]
    kind: str = ""
    options: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    usage: Usage = field(default_factory=Usage)
    prompt: Prompt | None = None

    @property
    def entities(self) -> tuple[Query, ...]:
        """What the steps are about, each once."""
        return tuple(
            {(q.type, q.node.id if q.node else q.value): q for step in reversed(self.steps) for q in reversed(step.entities)}.values()
        )[::-1]

    def to_dict(self) -> dict[str, Any]:
        return {
            "steps": [step.to_dict() for step in self.steps], "kind": self.kind, "options": list(self.options),
            "unknown": list(self.unknown), "dropped": dict(self.dropped), "notes": list(self.notes),
            "prompt_sha256": self.prompt.sha256 if self.prompt else "",
        }  # fmt: skip


def plan(
    llm: Caller, question: str, linked: Sequence[LinkedNode], linker: NodeLinker, *,
    attached: Sequence[Query] = (), options: Sequence[str] = (), directory: Path | None = None,
) -> Plan:  # fmt: skip
    """The plan of a model that is shown a question, the nodes found in it and what was attached.

    options: those that came with the question, which stand beside its words as what a choice may be among. directory: of the templates.
    Raises LLMError where the model does not answer, and NoPlan, one of them, where nothing of its answer can be carried out.
    """
    shown = _Shown(linker, linked, attached)
    asked = "\n".join([question[:MAX_QUESTION], *(f"- {_line(option, 300)}" for option in options)])
    prompt = render("plan", directory, question=asked, entities=shown.lines())
    calls, usage = llm.call_tools(prompt.messages(), TOOLS)
    work = _Work(shown, asked)
    for call in calls:
        work.take(str(call.name), call.arguments)
    if not work.steps:
        reasons = ", ".join(f"{n} {reason}" for reason, n in work.dropped.items())
        raise NoPlan(f"The language model planned nothing that can be looked up{f' ({reasons})' if reasons else ''}.", usage)
    if len(question) > MAX_QUESTION:
        work.notes.append(f"Only the first {MAX_QUESTION:,} characters of the question were shown to the model that plans.")
    return Plan(tuple(work.steps), work.kind, work.options, tuple(work.unknown), dict(work.dropped), tuple(work.notes), usage, prompt)


class _Shown:
    """The entities that the model is shown, and the nodes of the graph, by the names that it may use."""

    def __init__(self, linker: NodeLinker, linked: Sequence[LinkedNode], attached: Sequence[Query]) -> None:
        self.linker = linker
        found = [Query(r.node.type, r.node.name, r.node.values[0] if r.node.values else "", r.node) for r in linked]
        self.listed = [*attached, *found][:MAX_ENTITIES]
        self._by_name: dict[str, Query] = {}
        names = [(q.node.id, q) for q in self.listed if q.node] + [(q.name, q) for q in self.listed]
        for name, query in [*names, *((row.text, query) for row, query in zip(linked, found, strict=True))]:
            self._by_name.setdefault("".join(words_of(name)), query)
        self.relations = {r.name.casefold(): r.name for r in linker.graph.relations}

    def lines(self) -> str:
        """One line an entity: its name, type and id."""
        return "\n".join(
            f"{_line(q.name, 200)} ({q.type.label}; {_line(q.node.id, 60) if q.node else 'attached, no node of the graph'})"
            for q in self.listed
        )

    def resolve(self, name: str) -> Query:
        """Raises UnknownNodeError."""
        known = self._by_name.get("".join(words_of(name)))
        if known is not None:
            return known
        node = self.linker.resolve(name)
        return Query(node.type, node.name, node.values[0] if node.values else "", node)


class _Unfit(Exception):
    """A call that cannot be carried out: the reason it is counted under, and a line on it."""

    def __init__(self, reason: str, note: str) -> None:
        super().__init__(reason)
        self.reason, self.note = reason, note


class _Work:
    """Takes calls one by one."""

    def __init__(self, shown: _Shown, asked: str) -> None:
        self.shown, self.asked = shown, " ".join(words_of(asked))
        self.steps: list[Step] = []
        self.kind = ""
        self.options: tuple[str, ...] = ()
        self.unknown: list[str] = []
        self.dropped: Counter[str] = Counter()
        self.notes: list[str] = []

    def take(self, name: str, arguments: Any) -> None:
        try:
            tool = next((t for t in TOOLS if t.__name__ == name), None)
            if tool is None:
                raise _Unfit("of no such tool", f"The model called a tool that there is not: {_line(name)!r}.")
            try:
                given = tool.model_validate(arguments)
            except ValidationError as error:
                where = ".".join(_line(str(part), 30) for part in error.errors(include_input=False)[0]["loc"])
                raise _Unfit(
                    "with arguments that do not fit", f"The model called {name} with arguments that do not fit: {where}."
                ) from None
            step = self._step(given)
            if step is None or step in self.steps:
                return
            if len(self.steps) == MAX_STEPS:
                raise _Unfit("beyond the eighth", f"The model planned more than {MAX_STEPS} steps; the first {MAX_STEPS} are taken.")
            self.steps.append(step)
        except _Unfit as unfit:
            self.dropped[unfit.reason] += 1
            if unfit.note not in self.notes and len(self.notes) < MAX_STEPS:
                self.notes.append(unfit.note)

    def _step(self, given: BaseModel) -> Step | None:
        match given:
            case find_nodes():
                return self._nodes(given)
            case lookup_edges():
                return self._edges(given)
            case find_candidates():
                return self._candidates(given)
            case find_paths():
                a, b = self._node(given.a), self._node(given.b)
                if a.node == b.node:
                    raise _Unfit("from a node to itself", f"The model asked for paths from {_line(a.name)} to itself.")
                return Step("find_paths", (a, b))
            case search_texts():
                return Step("search_texts", text=_line(given.query, 500))
            case decide_kind():
                self._decide(given)
        return None

    def _nodes(self, given: find_nodes) -> Step:
        found = [row.node for row in self.shown.linker.find(given.text, given.type, 3) if row.score >= MIN_FOUND]
        if not found:
            raise self._no_node(given.text)
        return Step(
            "find_nodes", tuple(Query(n.type, n.name, n.values[0] if n.values else "", n) for n in found), text=_line(given.text, 300)
        )

    def _edges(self, given: lookup_edges) -> Step:
        query, to = self._node(given.entity), NodeType(given.to) if given.to else None
        relation = self.shown.relations.get(given.relation.strip().casefold(), "")
        if given.relation.strip() and not relation:
            self._note(f"The graph has no relation {_line(given.relation)!r}; all edges of {_line(query.name)} are read.")
        self._has(query, to, relation)
        return Step("lookup_edges", (query,), relation, to)

    def _candidates(self, given: find_candidates) -> Step:
        query, to = self._entity(given.entity), NodeType(given.to)
        if query.type is not to:
            self._has(query, to, "")
        return Step("find_candidates", (query,), to=to)

    def _has(self, query: Query, to: NodeType | None, relation: str) -> None:
        graph = self.shown.linker.graph
        if not any(
            r.head_type == query.type and r.tail_type in (to, to or r.tail_type) and relation in ("", r.name) for r in graph.relations
        ):
            what = f" {relation}" if relation else ""
            raise _Unfit(
                "along no relation", f"The graph has no relation{what} from {query.type.label} to {to.label if to else 'any other type'}."
            )

    def _decide(self, given: decide_kind) -> None:
        options = tuple(dict.fromkeys(_line(o, 300) for o in given.options if words_of(o) and self._said(o)))
        if len(options) < len(set(given.options)):
            self._note("The model named options that the question does not.")
        if given.kind == "choice" and len(options) < 2:
            raise _Unfit("of a choice without options", "The model took the question for a choice, but names no two of its options.")
        self.kind, self.options = given.kind, options if given.kind == "choice" else ()

    def _said(self, option: str) -> bool:
        return f" {' '.join(words_of(option))} " in f" {self.asked} "

    def _entity(self, name: str) -> Query:
        try:
            return self.shown.resolve(name)
        except UnknownNodeError:
            raise self._no_node(name) from None

    def _node(self, name: str) -> Query:
        query = self._entity(name)
        if query.node is None:
            raise _Unfit("about what is no node", f"{_line(query.name)} is no node of the graph, so it has no edges there.")
        return query

    def _no_node(self, name: str) -> _Unfit:
        if _line(name) not in self.unknown:
            self.unknown.append(_line(name))
        return _Unfit("about no node", f"No node is named {_line(name)!r}.")

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


def _line(text: str, most: int = 60) -> str:
    """Text of others on one line, without control characters, cut."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * most]).split())
    return text if len(text) <= most else text[: most - 1] + "…"
