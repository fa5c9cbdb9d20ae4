"""The numbered evidence: statements with the nodes they cite, their keys [1], [2], ..., how they are worded, and what fits a prompt.

Knows: nodes, edges, hits, Markdown. Does not know: questions, language models, where hits come from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from biobridge_rag.graph.phrases import phrase
from biobridge_rag.qa.markdown import md_escape, visible, with_key, without_keys
from biobridge_rag.types import Citation, Node, NodeType, RetrievedNode, Triple

TEXTS = ("about", "passage", "given")
CHARACTERS_A_TOKEN = 4.0
"""An estimate for English with names and numbers; tokenisers of today's models take from 3 to 5."""
MAX_NAME, MAX_REASON, MAX_GIVEN = 160, 400, 4_000
_LENGTHS = (None, 700, 300, 120)
_STRENGTH = ("given", "known", "path", "predicted", "similar", "passage", "about")
_TITLES = {
    "known": "**Known in the graph**",
    "similar": "**Nearest by embedding**",
    "given": "**Texts that came with the question**",
    "passage": "**Texts of the graph**",
    "predicted": "**Predicted by the model, not stated in the graph**",
    "path": "**Paths of known edges**",
}


def percent(probability: float) -> str:
    """A probability in [0, 1] as per cent: "62 %"; "under 1 %" and "over 99 %" at the ends."""
    if probability < 0.01:
        return "under 1 %"
    return "over 99 %" if probability > 0.99 else f"{100 * probability:.0f} %"


@dataclass(frozen=True, slots=True)
class Statement:
    """One numbered line: kind about | known | predicted | similar | passage | given | path, the node that it cites, and what it is said of.

    `text` is a plain clause, of a passage any text; `probability` in [0, 1] for predictions; `why` are the reasons of a prediction and
    the edges of a path, as clauses; `nodes` are the nodes that an edge or a path joins, in its order. A path cites all of them.
    """

    kind: str
    node: Node
    text: str
    of: str = ""
    source: str = ""
    probability: float = 0.0
    why: tuple[str, ...] = ()
    nodes: tuple[Node, ...] = ()

    @property
    def id(self) -> str:
        """12 hex digits of what is stated, by kind, node and text: the same in every run, whatever else is in the evidence."""
        parts = (self.kind, self.node.type.value, self.node.id, self.text)
        return hashlib.sha256("\x1f".join(parts).encode("utf-8", "replace")).hexdigest()[:12]

    @property
    def cites(self) -> tuple[Node, ...]:
        return self.nodes if self.kind == "path" and self.nodes else (self.node,)

    def plain(self) -> str:
        if self.kind == "predicted":
            reasons = f" Why: {'; '.join(self.why)}." if self.why else ""
            return f"predicted, probability {percent(self.probability)}, not stated in the graph: {self.text}.{reasons}"
        if self.kind == "given":
            return f"passage: {short(self.node.name)}, which came with the question: {self.text.rstrip('.')}."
        named = f"of {short(self.node.name)}: " if self.kind == "passage" else ""
        return f"{self.kind}: {named}{self.text.rstrip('.')}." + (f" Source: {self.source}." if self.source else "")


def shortened(description: str, most: int = 700) -> str:
    """A description on one line, cut at the end of a sentence (or a word) before `most` characters."""
    text = " ".join(description.split())
    if len(text) <= most:
        return text
    return text[: max(text.rfind(". ", 0, most) + 1, 0) or text.rfind(" ", 0, most)] if " " in text[:most] else text[:most]


def short(name: str) -> str:
    """A name as evidence tells it: on one line, what can be seen of it, and where it is very long, its begin, so that it cannot fill a
    prompt."""
    name = visible(name)
    return name if len(name) <= MAX_NAME else f"{name[:MAX_NAME].rstrip()}…"


def about(node: Node) -> Statement:
    description = shortened(node.description).rstrip(".")
    told = f"{short(node.name)} ({short(node.id)}) is a {node.type.label}"
    return Statement("about", node, told + (f". {description}" if description else ""))


def known(triple: Triple) -> Statement:
    """An edge, cited by its tail."""
    return Statement("known", triple.tail, _clause(triple), short(triple.head.name), triple.source, nodes=(triple.head, triple.tail))


def predicted(name: str, node_type: NodeType, relation: str, hit: RetrievedNode, most: int = 3) -> Statement:
    """A hit that no edge states, for a query of that name and type, with its strongest reasons."""
    reasons = sorted((e for e in hit.evidence if e.kind != "edge"), key=lambda e: (e.kind != "analogue", -e.score))
    text = phrase(Node("", node_type, short(name)), relation, _named(hit.node))
    why = tuple(shortened(visible(e.text), MAX_REASON).rstrip(".") for e in reasons[:most])
    return Statement("predicted", hit.node, text, short(name), "", hit.probability, why)


def similar(name: str, hit: RetrievedNode) -> Statement:
    """A node near to a query of that name in the space of its encoder; the hit's score is the cosine, in [0, 1]."""
    return Statement("similar", hit.node, f"{short(hit.node.name)} is {percent(hit.score)} like {short(name)}", short(name))


def passage(node: Node, text: str, source: str = "") -> Statement:
    """A piece of a node's text that a search for words or meaning has found."""
    return Statement("passage", node, shortened(text).rstrip("."), source=source)


def given(number: int, text: str, name: str = "") -> Statement:
    """A text that came with a question, at most 4,000 characters of it. It is cited as a node of its own that is in no graph: its id is
    "passage:1", its type says nothing, and it has no address."""
    node = Node(f"passage:{number}", NodeType.BIOLOGICAL_PROCESS, short(name) or f"Passage {number}")
    return Statement("given", node, shortened(visible(text), MAX_GIVEN).rstrip("."))


def path(triples: Sequence[Triple]) -> Statement:
    """A chain of edges, each beginning where the one before ends: "A targets B; B is associated with C". Raises ValueError for none."""
    if not triples:
        raise ValueError("A path has at least one edge.")
    clauses = tuple(map(_clause, triples))
    sources = ", ".join(dict.fromkeys(t.source for t in triples if t.source))
    nodes = (triples[0].head, *(t.tail for t in triples))
    return Statement("path", nodes[-1], "; ".join(clauses), short(nodes[0].name), sources, why=clauses, nodes=nodes)


def _clause(triple: Triple) -> str:
    return phrase(_named(triple.head), triple.relation.name, _named(triple.tail))


def _named(node: Node) -> Node:
    name = short(node.name)
    return node if name == node.name else replace(node, name=name)


@dataclass
class Ledger:
    """Statements in the order of the evidence; each node gets one key, by its first statement."""

    statements: list[Statement] = field(default_factory=list)
    _keys: dict[tuple[str, str], int] = field(default_factory=dict)
    _at: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, statements: Iterable[Statement]) -> None:
        for statement in statements:
            place = (statement.id, statement.source)
            if place not in self._at:
                self._at[place] = len(self.statements)
                self.statements.append(statement)
                for node in statement.cites:
                    self._keys.setdefault((node.type.value, node.id), len(self._keys) + 1)

    def key(self, node: Node) -> str:
        """The key "[n]" of a node, or "" where no statement cites it."""
        number = self._keys.get((node.type.value, node.id))
        return f"[{number}]" if number else ""

    def keys(self, statement: Statement) -> str:
        """The keys of all that a statement cites, as "[n]" or "[n, m]"."""
        return f"[{', '.join(dict.fromkeys(self.key(node).strip('[]') for node in statement.cites))}]"

    def of_kind(self, *kinds: str) -> list[Statement]:
        return [s for s in self.statements if s.kind in kinds]

    def markdown(self) -> str:
        """All but the about statements as lists, each item with its keys, its source or its probability and reasons; no edge twice."""
        parts = []
        for kind, title in _TITLES.items():
            items = [f"- **{md_escape(short(s.node.name))}** {self.keys(s)}: {self._item(s)}" for s in _no_edge_twice(self.of_kind(kind))]
            if items:
                parts.append("\n".join([title, "", *items]))
        return "\n\n".join(parts)

    def _item(self, s: Statement) -> str:
        if s.kind == "predicted":
            return "; ".join([f"probability {percent(s.probability)}", *map(md_escape, s.why)])
        text = with_key(md_escape(s.text), self.keys(s)) if s.kind in ("passage", "given") else md_escape(s.text)
        return text + (f" (source: {md_escape(s.source)})" if s.source else "")

    def lines(self) -> list[str]:
        """The evidence as numbered plain lines, for a prompt; keys come only from here, brackets in data are made round."""
        return [f"{self.keys(s)} {without_keys(s.plain())}" for s in self.statements]

    def citations(self) -> tuple[Citation, ...]:
        nodes: dict[str, Node] = {}
        edges: dict[str, list[str]] = {}
        for s in self.statements:
            for node in s.cites:
                nodes.setdefault(self.key(node), node)
                if s.kind in ("known", "path"):
                    edges.setdefault(self.key(node), []).append(s.text + (f" ({s.source})" if s.source else ""))
        return tuple(Citation(key, n.id, n.name, n.url, tuple(edges.get(key, ()))) for key, n in nodes.items())

    def within(self, budget: int, asked: Collection[Node] = (), characters: float = CHARACTERS_A_TOKEN) -> tuple[Ledger, int]:
        """What of the evidence fits `budget` tokens at so many `characters` a token, in its order and with its keys, and how many
        statements were dropped for that.

        An edge stated from both its ends is kept once (which counts as none dropped). Texts are shortened before anything is dropped.
        Then the strongest are kept: edges among the nodes `asked` of, what came with the question, other edges, paths, predictions by
        their probability, what is similar, passages, descriptions; those alike in the order of the evidence. The budget holds for
        `lines`, one line break each.
        """
        whole = _no_edge_twice(self.statements)
        kept = whole
        for most in _LENGTHS:
            kept = [replace(s, text=shortened(s.text, most)) if most and s.kind in TEXTS else s for s in whole]
            if sum(self._tokens(s, characters) for s in kept) <= budget:
                return self._of(kept), 0
        places = {(n.type, n.id) for n in asked}

        def strength(s: Statement) -> tuple[bool, int, float]:
            among = bool(s.nodes) and all((n.type, n.id) in places for n in s.nodes)
            return not (s.kind == "known" and among), _STRENGTH.index(s.kind) if s.kind in _STRENGTH else len(_STRENGTH), -s.probability

        chosen, left = set[int](), float(budget)
        for at in sorted(range(len(kept)), key=lambda at: strength(kept[at])):
            cost = self._tokens(kept[at], characters)
            if cost <= left:
                chosen.add(at)
                left -= cost
        return self._of([s for at, s in enumerate(kept) if at in chosen]), len(kept) - len(chosen)

    def _tokens(self, s: Statement, characters: float) -> float:
        return (len(f"{self.keys(s)} {s.plain()}") + 1) / characters

    def _of(self, statements: list[Statement]) -> Ledger:
        return Ledger(statements, dict(self._keys), {(s.id, s.source): at for at, s in enumerate(statements)})


def _no_edge_twice(statements: Sequence[Statement]) -> list[Statement]:
    """The statements but for an edge whose other direction stands before it: the same two nodes, clause and source."""
    out, seen = [], set[tuple[object, ...]]()
    for s in statements:
        ends = frozenset((n.type.value, n.id) for n in s.nodes)
        edge = (ends, " ".join(sorted(s.text.split())), s.source)
        if s.kind != "known" or not ends or edge not in seen:
            out.append(s)
        if s.kind == "known" and ends:
            seen.add(edge)
    return out
