"""The numbered evidence: statements with the node they cite, their keys [1], [2], ..., how they are worded, and the check of a text.

Knows: nodes, edges, hits, Markdown. Does not know: questions, language models, where hits come from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from biobridge_rag.graph.phrases import phrase
from biobridge_rag.types import Citation, Node, NodeType, RetrievedNode, Triple

_KEY = re.compile(r"(?<!\\)\[(\d{1,4}(?:\s*[,;]\s*\d{1,4})*)\]")
_ABBREVIATION = re.compile(r"\b(?:al|pp?|e\.g|i\.e|vs|cf|approx|Dr|St|spp?|no|Fig|[A-Z])\.$")
_SENTENCE_END = re.compile(r"(?<=[.!?])[*_\"')]*\s+(?=[*_\"'(]*[A-Z0-9])")
_ABSTAINS = re.compile(
    r"(?i)\b(?:(?:do|does|did|could|can) ?n[o']t (?:know|hold|say|contain|state|list|link|tell|answer|mention|include|show|find|cover)"
    r"|cannot (?:be )?(?:say|said|tell|told|answer|answered|know|known|judge)|holds? (?:no|nothing)|there is no (?:evidence|edge|such)"
    r"|no (?:evidence|node|edge|prediction|answer)|nothing in the (?:graph|evidence)|not in the (?:graph|evidence)|insufficient evidence)"
)
_HEDGE = re.compile(r"(?i)predict|probab|likel|may\b|might|could|possib|candidate|suggest|%|not (?:stated|known|in the graph)")
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s?%")
_COMMON_WORDS = "that this with from which have been were they them also into about graph evidence drug drugs protein"
_COMMON = frozenset(_COMMON_WORDS.split())


def md_escape(text: str) -> str:
    """Text of a graph, file or user as Markdown that shows it letter by letter, on one line."""
    text = "".join(c if c.isprintable() else " " for c in text)
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_\[\]#|~$])", r"\\\1", text).replace("://", ":\\//")
    text = re.sub(r"(?i)\bwww\.", lambda m: m.group()[:3] + r"\.", text)
    return re.sub(r"^([-+]|\d+[.)])(?=\s)", r"\\\1", text)


def md_plain(text: str, *, keys: bool = False) -> str:
    """Markdown of an answer as the words in it: escapes undone, emphasis dropped, and the keys unless `keys` keeps them."""
    text = re.sub(r"(?<!\\)[*`#]", "", text if keys else _KEY.sub("", text))
    text = re.sub(r"\\([\\`*_\[\]#|~$/.\-+)])", r"\1", text)
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def without_keys(text: str) -> str:
    """The text on one line with [n] made (n), so that data cannot bring a key of its own."""
    return re.sub(r"\[(\s*\d[\d\s,;]*)\]", r"(\1)", " ".join(text.split()))


def percent(probability: float) -> str:
    """A probability in [0, 1] as per cent: "62 %"; "under 1 %" and "over 99 %" at the ends."""
    if probability < 0.01:
        return "under 1 %"
    return "over 99 %" if probability > 0.99 else f"{100 * probability:.0f} %"


@dataclass(frozen=True, slots=True)
class Statement:
    """One numbered line: kind about | known | predicted | similar, the node that it cites, and what it is said of.

    `text` is a plain clause; `probability` in [0, 1] for predictions; `why` are the reasons of a prediction.
    """

    kind: str
    node: Node
    text: str
    of: str = ""
    source: str = ""
    probability: float = 0.0
    why: tuple[str, ...] = ()

    def plain(self) -> str:
        if self.kind == "predicted":
            reasons = f" Why: {'; '.join(self.why)}." if self.why else ""
            return f"predicted, probability {percent(self.probability)}, not stated in the graph: {self.text}.{reasons}"
        return f"{self.kind}: {self.text}." + (f" Source: {self.source}." if self.source else "")


def shortened(description: str, most: int = 700) -> str:
    """A description on one line, cut at the end of a sentence (or a word) before `most` characters."""
    text = " ".join(description.split())
    if len(text) <= most:
        return text
    return text[: max(text.rfind(". ", 0, most) + 1, 0) or text.rfind(" ", 0, most)] if " " in text[:most] else text[:most]


def about(node: Node) -> Statement:
    description = shortened(node.description).rstrip(".")
    return Statement("about", node, f"{node.name} ({node.id}) is a {node.type.label}" + (f". {description}" if description else ""))


def known(triple: Triple) -> Statement:
    """An edge, cited by its tail."""
    text = phrase(triple.head, triple.relation.name, triple.tail)
    return Statement("known", triple.tail, text, triple.head.name, triple.source)


def predicted(name: str, node_type: NodeType, relation: str, hit: RetrievedNode, most: int = 3) -> Statement:
    """A hit that no edge states, for a query of that name and type, with its strongest reasons."""
    reasons = sorted((e for e in hit.evidence if e.kind != "edge"), key=lambda e: (e.kind != "analogue", -e.score))
    text = phrase(Node("", node_type, name), relation, hit.node)
    return Statement("predicted", hit.node, text, name, "", hit.probability, tuple(e.text.rstrip(".") for e in reasons[:most]))


def similar(name: str, hit: RetrievedNode) -> Statement:
    """A node near to a query of that name in the space of its encoder; the hit's score is the cosine, in [0, 1]."""
    return Statement("similar", hit.node, f"{hit.node.name} is {percent(hit.score)} like {name}", name)


@dataclass
class Ledger:
    """Statements in the order of the evidence; each node gets one key, by its first statement."""

    statements: list[Statement] = field(default_factory=list)
    _keys: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, statements: Iterable[Statement]) -> None:
        for statement in statements:
            if statement not in self.statements:
                self.statements.append(statement)
                self._keys.setdefault((statement.node.type.value, statement.node.id), len(self._keys) + 1)

    def key(self, node: Node) -> str:
        """The key "[n]" of a node, or "" where no statement cites it."""
        number = self._keys.get((node.type.value, node.id))
        return f"[{number}]" if number else ""

    def of_kind(self, *kinds: str) -> list[Statement]:
        return [s for s in self.statements if s.kind in kinds]

    def markdown(self) -> str:
        """Known, similar and predicted statements as lists, each item with its key, its source or its probability and reasons."""
        parts = []
        for kind, title in (
            ("known", "**Known in the graph**"),
            ("similar", "**Nearest by embedding**"),
            ("predicted", "**Predicted by the model, not stated in the graph**"),
        ):
            items = [f"- **{md_escape(s.node.name)}** {self.key(s.node)}: {_item(s)}" for s in self.of_kind(kind)]
            if items:
                parts.append("\n".join([title, "", *items]))
        return "\n\n".join(parts)

    def lines(self) -> list[str]:
        """The evidence as numbered plain lines, for a prompt; keys come only from here, brackets in data are made round."""
        return [f"{self.key(s.node)} {without_keys(s.plain())}" for s in self.statements]

    def citations(self) -> tuple[Citation, ...]:
        nodes: dict[str, Node] = {}
        edges: dict[str, list[str]] = {}
        for s in self.statements:
            nodes.setdefault(self.key(s.node), s.node)
            if s.kind == "known":
                edges.setdefault(self.key(s.node), []).append(s.text + (f" ({s.source})" if s.source else ""))
        return tuple(Citation(key, n.id, n.name, n.url, tuple(edges.get(key, ()))) for key, n in nodes.items())


def _item(s: Statement) -> str:
    if s.kind == "predicted":
        return "; ".join([f"probability {percent(s.probability)}", *map(md_escape, s.why)])
    return md_escape(s.text) + (f" (source: {md_escape(s.source)})" if s.source else "")


@dataclass(frozen=True, slots=True)
class Checked:
    """`used`: citations of the text, by key; `unsupported`: sentences; `text` without keys that do not exist; how many those were."""

    used: tuple[Citation, ...]
    unsupported: tuple[str, ...]
    text: str
    n_removed: int


def check(text: str, citations: Sequence[Citation], evidence: Sequence[Statement]) -> Checked:
    """Holds a text against the evidence, sentence by sentence.

    A sentence that states something is unsupported when it cites no existing key, when it shares no telling word with what
    the cited evidence says, when it gives a per cent figure that the evidence does not, or when all that it cites is
    predicted and it does not say so.
    """
    keys = {c.key.strip("[]"): c for c in citations}
    n_removed = 0

    def keep(match: re.Match[str]) -> str:
        nonlocal n_removed
        numbers = re.split(r"\s*[,;]\s*", match[1])
        existing = [n for n in numbers if n in keys]
        n_removed += len(numbers) - len(existing)
        return f"[{', '.join(existing)}]" if existing else ""

    cleaned = re.sub(r" +(?=[.,;:!?])", "", re.sub(r"(?<=\S)  +", " ", _KEY.sub(keep, text)))
    said = {c.key.strip("[]"): [s for s in evidence if (s.node.id, s.node.name) == (c.node_id, c.name)] for c in citations}
    used: dict[str, Citation] = {}
    unsupported = []
    for sentence in sentences(cleaned):
        cited = list(dict.fromkeys(n for m in _KEY.finditer(sentence) for n in re.split(r"\s*[,;]\s*", m[1])))
        used.update({n: keys[n] for n in cited if n in keys})
        if _states(sentence) and not _supported(sentence, [s for n in cited for s in said.get(n, ())]):
            unsupported.append(" ".join(sentence.split()))
    order = sorted(used, key=int)
    return Checked(tuple(used[n] for n in order), tuple(unsupported), cleaned, n_removed)


def sentences(text: str) -> list[str]:
    """The sentences of a Markdown text; a list item is at least one; a key after the full stop belongs to what is before it."""
    out: list[str] = []
    for line in text.splitlines():
        line = re.sub(r"^\s*(?:[-*+]|\d+[.)])\s+", "", line).strip()
        line = re.sub(r"([.!?])((?:\s*\[\d[\d,; ]*\])+)", lambda m: f" {m[2].strip()}{m[1]}", line)
        begin = 0
        for match in _SENTENCE_END.finditer(line):
            if _ABBREVIATION.search(line[begin : match.start()]):
                continue
            out.append(line[begin : match.end()].strip())
            begin = match.end()
        out.append(line[begin:].strip())
    return [s for s in out if s]


def _states(sentence: str) -> bool:
    bare = md_plain(sentence).strip()
    heading = sentence.startswith("#") or bool(re.fullmatch(r"\*\*[^*]+\*\*:?(?: \([^)]*\))?:?", sentence))
    lead_in = bare.endswith(":") and len(bare.split()) <= 12 and not _KEY.search(sentence)
    return bool(re.search(r"[A-Za-z]{2}", bare)) and not (bare.endswith("?") or heading or lead_in or _ABSTAINS.search(bare))


def _supported(sentence: str, cited: Sequence[Statement]) -> bool:
    if not cited:
        return False
    bare, said = md_plain(sentence), " ".join(f"{s.node.name} {s.plain()}" for s in cited)
    if set(_PERCENT.findall(bare)) - set(_PERCENT.findall(said)):
        return False
    if all(s.kind in ("predicted", "similar") for s in cited if s.kind != "about") and any(s.kind == "predicted" for s in cited):
        return bool(_HEDGE.search(bare))
    return bool(_telling(bare) & _telling(said))


def _telling(text: str) -> set[str]:
    return {w for w in re.findall(r"[a-z0-9]+", text.lower()) if (len(w) > 3 or any(c.isdigit() for c in w)) and w not in _COMMON}
