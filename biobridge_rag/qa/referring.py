"""Finds what a question speaks of where it leans on earlier turns: "it", "those", "the second one", "and for lapatinib?", "why?".

Knows: linking, what a question asks for, the texts of earlier answers. Does not know: evidence, retrieval, language models.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from biobridge_rag.qa.asking import Asked, by_rules, read_question
from biobridge_rag.qa.markdown import md_plain
from biobridge_rag.retrieval.linking import LinkedNode, NodeLinker
from biobridge_rag.types import KnowledgeGraph, Node, Query

History = Sequence[tuple[str, str, Sequence[Query]]]
MAX_ENTITIES = 6
_DEEPEST = 5

_IT = re.compile(r"\b(?:its?|th(?:is|at) (?:one|drug|compound|molecule|protein|gene|disease)|this)\b")
_THESE = re.compile(r"\b(?:these|those|them|ones|they|their|both)\b")
_FOLLOWS = re.compile(rf"{_IT.pattern}|{_THESE.pattern}|\b(?:one|same)\b|^\W*(?:and|what about|how about|also|or)\b")
_AGAIN = re.compile(
    r"^\W*(?:but |and |so )?(?:why(?: (?:so|not|is that|do you (?:say|think) (?:so|that)))?|how so|how do you know(?: that)?"
    r"|are you sure(?: about (?:it|that))?|explain(?: that| this| it)?|what(?:'s| is) the evidence(?: for (?:it|that|this))?|says who)\W*$"
)
# What a question may hold that names nothing of its own; any other word of four letters or more names something.
_ASKING = re.compile(
    r"\b(?:what|which|where|when|who|whom|whose|does|have|with|from|that|this|than|then|there|here|about|into|over|only|just|also|more|most"
    r"|some|many|much|known|predicted|graph|list|show|tell|give|find|suggest|propose|name|names|please|could|would|should|will|must|want"
    r"|need|look|like|other|others|else|another|further|full|whole|long|short|are|used|using|work|works|made|been|being|were|your|very"
    r"|drugs?|medicines?|compounds?|molecules?|inhibitors?|ligands?|agonists?|antagonists?|blockers?|therap\w+|treat\w*|candidates?"
    r"|targets?|targeted|genes?|proteins?|receptors?|enzymes?|kinases?|transport\w*|carriers?|mechanisms?|diseases?|disorders?|indicat\w+"
    r"|conditions?|syndromes?|illness\w*|process\w*|pathways?|components?|compartments?|locat\w+|locali[sz]\w+|functions?|roles?|terms?"
    r"|contraindicat\w+|off-label|uses?|approved|prescri\w+|metaboli\w+|substrates?|inhibit\w*|bind\w*|block\w*|acts?|hits?|activat\w+"
    r"|modulat\w+|associat\w+|caus\w+|link\w*|involved|implicated|risks?|interact\w*|partners?|similar|alike|effects?|side|adverse|toxic\w*"
    r"|safe|safety|dos\w+|pric\w+|costs?|trials?|clinical|pregnan\w+|symptoms?|prevalence|evidence|details?|explain|describe|summar\w+"
    r"|continue|compare|differ\w*|known|sources?|references?|likely|strongest|best|related|relations?|neighbou?rs|edges?)\b"
)
_STRANGE = re.compile(r"\b[^\W\d_]{4,}\b|\b[a-z]+\d\w*\b")
_NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "2": 2, "3": 3, "4": 4, "5": 5, "6": 6}
_PLACES = {
    "first": 0, "second": 1, "third": 2, "fourth": 3, "fifth": 4, "sixth": 5, "seventh": 6, "eighth": 7, "ninth": 8, "tenth": 9,
    "1st": 0, "2nd": 1, "3rd": 2, "4th": 3, "5th": 4, "last": -1, "former": 0, "latter": -1,
}  # fmt: skip
_SOME = re.compile(rf"\b(first|last|top) ({'|'.join(_NUMBERS)})\b")
_ONE = re.compile(rf"\b({'|'.join(_PLACES)})\b(?: (?:one|of|drug|protein|gene|disease|compound|molecule)s?\b|\W*$)|\bthe (former|latter)\b")


@dataclass
class Reading:
    """What a question is about. entities: attached first, then those of earlier turns, then those it names; options: nodes listed
    before, among which it asks; linked: the nodes it names itself; asked_of: the question whose words say what is asked (an earlier one
    for "and EGFR?" and "why?"); missing: a sentence on what it refers to that is not there."""

    entities: list[Query]
    options: list[Node]
    linked: list[LinkedNode]
    asked: Asked
    asked_of: str
    missing: str = ""


@dataclass
class References:
    """Reads questions over one graph."""

    graph: KnowledgeGraph
    linker: NodeLinker
    _fits: dict[tuple[str, tuple[str, ...], frozenset[str]], bool] = field(default_factory=dict, repr=False)

    def read(self, question: str, queries: Sequence[Query] = (), history: History = (), depth: int = 0) -> Reading:
        """What the question is about and what it asks for; history: earlier turns, oldest first."""
        low = " ".join(question.lower().split())
        if history and not queries and depth < _DEEPEST and _AGAIN.match(low):
            asked, _, attached = history[-1]
            return self.read(asked, attached, history[:-1], depth + 1)
        linked = self.linker.mentions(question, MAX_ENTITIES)
        own = as_queries(linked)
        plain = Reading(_unique([*queries, *own]), [], linked, self._asked(question, linked, [*queries, *own]), question)
        follows = bool(_FOLLOWS.search(low) or _SOME.search(low) or _ONE.search(low))
        if not history or queries or not (follows or not own) or depth >= _DEEPEST:
            return plain
        if not (follows or own) and (_STRANGE.search(_ASKING.sub(" ", low)) or not (_ASKING.search(low) or "?" in low)):
            return plain  # it names something, but nothing that the graph holds; or it asks nothing ("ok")
        return self._following(plain, low, own, history, depth)

    def _following(self, plain: Reading, low: str, own: list[Query], history: History, depth: int) -> Reading:
        found = self._placed(plain, low, history)
        if found is not None:
            return found
        these = _THESE.search(low)
        if these and (listed := self._listed_fitting(plain.asked, history)):
            if own:
                options = [n for n in self._listed_among(plain.asked, history)] or listed
                return self._with(plain, own, options)
            return self._with(plain, as_queries(listed)[:MAX_ENTITIES])
        if own and not by_rules(_masked(plain.asked_of, plain.linked)) and plain.asked.kind != "outside":
            return self._in_place(plain, own, history, depth)
        if own and not (_IT.search(low) or these):
            return plain
        earlier = self._of_earlier(history)
        if not own and plain.asked.tails and not any(self._leads(e, plain.asked) for e in earlier):
            last = [q for q in as_queries(self.listed(history[-1][1])) if self._leads(q, plain.asked)]
            earlier = last[:1] or earlier
        return self._with(plain, [*earlier, *own])

    def _placed(self, plain: Reading, low: str, history: History) -> Reading | None:
        """For "the first two", "the second one", "the latter": those nodes of the newest list where what is asked makes sense."""
        some, one = _SOME.search(low), _ONE.search(low)
        if not some and not one:
            return None
        lists = [nodes for _, answer, _ in reversed(history) if (nodes := self.listed(answer))]
        if not lists:
            return None
        picked: list[list[Node]] = []
        for nodes in lists:
            if some:
                n = _NUMBERS[some[2]]
                picked.append((nodes[-n:] if some[1] == "last" else nodes[:n]) if len(nodes) >= n else [])
            elif one:
                at = _PLACES[one[1] or one[2]]
                picked.append([nodes[at]] if -len(nodes) <= at < len(nodes) else [])
        chosen = next((p for p in picked if p and self._makes_sense(p, plain)), picked[0])
        if not chosen:
            plain.missing = f"The last answer lists {len(lists[0])}, so there is no {(some or one or [''])[0].strip(' ?.!')} to speak of."
            return self._with(plain, [])
        return self._with(plain, [*as_queries(chosen), *as_queries(plain.linked)])

    def _makes_sense(self, nodes: Sequence[Node], plain: Reading) -> bool:
        asked = self._asked(plain.asked_of, plain.linked, as_queries(nodes))
        if asked.kind not in ("tails", "about"):
            return True
        return all(self._related(n.type.value, asked.tails, asked.names) for n in nodes)

    def _in_place(self, plain: Reading, own: list[Query], history: History, depth: int) -> Reading:
        """For "and lapatinib?": the earlier question with what it named of that type replaced."""
        before = self.read(history[-1][0], history[-1][2], history[:-1], depth + 1)
        entities = own
        if before.asked.kind == "pair" and len(own) == 1:
            rest = [e for e in before.entities if e.type is not own[0].type]
            entities = [e if e.type is not own[0].type else own[0] for e in before.entities] if rest else own
        types = [e.type for e in entities]
        attached = bool(entities) and entities[0].node is None
        masked = _masked(before.asked_of, before.linked)
        return Reading(_unique(entities), [], plain.linked, read_question(masked, types, attached), before.asked_of)

    def _with(self, plain: Reading, entities: Sequence[Query], options: Sequence[Node] = ()) -> Reading:
        found = _unique(entities)[:MAX_ENTITIES]
        asked = self._asked(plain.asked_of, plain.linked, found)
        return Reading(found, list(options), plain.linked, asked, plain.asked_of, plain.missing)

    def _asked(self, question: str, linked: Sequence[LinkedNode], entities: Sequence[Query]) -> Asked:
        attached = bool(entities) and entities[0].node is None
        types = [e.type for e in entities]
        if not linked and len(set(types)) == 1:  # several of a list are asked about each, not about what links them
            types = types[:1]
        return read_question(_masked(question, linked), types, attached)

    def _listed_fitting(self, asked: Asked, history: History) -> list[Node]:
        """The nodes of the newest list of which what is asked can be asked."""
        for _, answer, _ in reversed(history):
            nodes = self.listed(answer)
            of_type = [n for n in nodes if self._can_be_asked(n, asked)]
            if of_type:
                return of_type
        return []

    def _can_be_asked(self, node: Node, asked: Asked) -> bool:
        if asked.kind == "tails" and node.type in asked.tails:
            return True
        tails = asked.tails if asked.kind == "tails" else ()
        return not (tails or asked.names) or self._related(node.type.value, tails, asked.names)

    def _listed_among(self, asked: Asked, history: History) -> list[Node]:
        """The nodes of the newest list that has any of the asked types."""
        lists = ([n for n in self.listed(answer) if n.type in asked.tails] for _, answer, _ in reversed(history))
        return next((nodes for nodes in lists if nodes), [])

    def _leads(self, query: Query, asked: Asked) -> bool:
        return self._related(query.type.value, asked.tails, asked.names)

    def _related(self, head: str, tails: Sequence[str], names: frozenset[str]) -> bool:
        """Whether the graph has a relation from that type to one of the others, of one of the names where there are such."""
        key = (head, tuple(tails), names)
        if key not in self._fits:
            own = [r for r in self.graph.relations if r.head_type == head and (not tails or r.tail_type in tails)]
            self._fits[key] = any(r.name in names for r in own) if names else bool(own)
        return self._fits[key]

    def listed(self, answer: str) -> list[Node]:
        """The nodes that an earlier answer listed, in its order: the one that opens each list item, or all that it names."""
        items = re.findall(r"(?m)^\s*(?:[-*+]|\d+[.)])\s+(.*)$", answer)
        found: list[LinkedNode] = []
        for item in items:
            bold = re.match(r"\*\*(.+?)(?<!\\)\*\*", item)
            linked = self.linker.find(md_plain(bold[1]), limit=1) if bold else []
            found += [link for link in linked if link.score >= 0.98] or self.linker.mentions(md_plain(item), 1, fuzzy=False)
        found = found or self.linker.mentions(md_plain(answer), 30, fuzzy=False)
        return list({(link.node.type, link.node.id): link.node for link in found}.values())

    def _of_earlier(self, history: History) -> list[Query]:
        """The entities of the latest turn that has any: attached, named in its question, or leading its answer."""
        for question, answer, queries in reversed(history):
            found = [*queries, *as_queries(self.linker.mentions(question, MAX_ENTITIES))]
            found = found or as_queries(self.linker.mentions(md_plain(answer.partition("\n")[0]), 1, fuzzy=False))
            if found:
                return found
        return []


def as_queries(found: Sequence[LinkedNode] | Sequence[Node]) -> list[Query]:
    nodes = [item.node if isinstance(item, LinkedNode) else item for item in found]
    return [Query(node.type, node.name, node=node) for node in nodes]


def _unique(queries: Sequence[Query]) -> list[Query]:
    return list({(q.type, q.node.id if q.node else q.value or q.name): q for q in reversed(queries)}.values())[::-1]


def _masked(question: str, linked: Sequence[LinkedNode]) -> str:
    for link in sorted(linked, key=lambda link: -len(link.text)):
        question = re.sub(rf"(?<!\w){re.escape(link.text)}(?!\w)", "_", question)
    return question
