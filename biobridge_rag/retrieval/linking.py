"""Words to nodes: names, symbols, identifiers and synonyms, forgiving of case, punctuation, Greek letters and typing errors.

Knows: the names in a KnowledgeGraph. Does not know: what a question asks for, embeddings, edges.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from biobridge_rag.errors import UnknownNodeError
from biobridge_rag.retrieval.spelling import bare_key, loose_key, other_names, substance_key, words_of
from biobridge_rag.types import GO_TYPES, KnowledgeGraph, Node, NodeType

MAX_QUESTION = 4_000
MAX_WINDOW = 14
MAX_TRIES = 80
MIN_MENTION = 0.88
MIN_LONG = 0.85  # of one word of _LONG letters or more, which a single wrong letter brings under MIN_MENTION
_SHORT, _LONG = 4, 7
_WORD = re.compile(r"[^\W_]+")
_SUBTYPE = re.compile(r",? (?:type|group|stage|class|subtype) [0-9]{0,2}[A-Z]?[0-9]?\b| [0-9]{1,2}[A-Z]?\b(?!\s*%)", re.IGNORECASE)
_STOP_WORDS = """
a about after all also am an and any are as at be been between both but by can could did do does for from gene genes give had has have how
i if in into is it its list may me might most must my no nor not of on one or other our out over she should show so some such than that
the their them then there these they this those through to under up us use used was we were what when where which while who whom whose why
will with would yes you your
"""
# Alone, these words are hardly ever the node of the same name; in capitals ("MET", "KIT") they may be.
_GENERIC_WORDS = """
act acts active activity age agent agents aid approved arm art bad bag bank bar base behavior best bind binding block blood body cancer
candidate cap case cat cause cell cells chip clock come compound day disease diseases disorder dose drug drugs end enzyme fast fat find
fit function gas gap genetic growth hand help high hit human impact inhibitor interaction kit large ligand light localization long low
mass medicine membrane met mice model molecule name new nod nucleus pain part pathway patient pet plan protein proteins reason receptor
related reproduction rest role set side signaling similar sit small spin syndrome target targets tell therapy time tip top transport treat
treatment treatments tumor type chromatic creative
"""
_STOP = frozenset(_STOP_WORDS.split())
_GENERIC = frozenset(_GENERIC_WORDS.split())
_TYPE_WORDS = {
    "gene": NodeType.PROTEIN, "protein": NodeType.PROTEIN, "kinase": NodeType.PROTEIN, "receptor": NodeType.PROTEIN,
    "drug": NodeType.DRUG, "compound": NodeType.DRUG, "medicine": NodeType.DRUG,
    "disease": NodeType.DISEASE, "disorder": NodeType.DISEASE, "syndrome": NodeType.DISEASE,
    "process": NodeType.BIOLOGICAL_PROCESS, "function": NodeType.MOLECULAR_FUNCTION, "component": NodeType.CELLULAR_COMPONENT,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class LinkedNode:
    """A node, how well it fits (score in [0, 1], 1 is exact), the spelling in the graph that matched, and the user's words; `others` are
    further nodes that the same words name as well."""

    node: Node
    score: float
    matched: str
    text: str = ""
    others: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class _Token:
    word: str
    start: int
    end: int


class NodeLinker:
    """An index over the names of a graph; building takes seconds for 85,000 nodes, a look-up milliseconds. Safe to share."""

    def __init__(self, graph: KnowledgeGraph) -> None:
        self.graph = graph
        self._degree = np.bincount(graph.head, minlength=len(graph.nodes))
        self._exact: dict[str, list[tuple[int, int, str]]] = {}  # key -> (0 id, 1 name, 2 synonym; position; spelling)
        self._loose: dict[str, list[tuple[int, int, str]]] = {}
        self._bare: dict[str, list[tuple[int, int, str]]] = {}  # diseases only
        self._substances: dict[str, list[tuple[int, int, str]]] = {}  # drugs only
        same = other_names()
        spelled: list[tuple[int, str, int, str]] = []
        for at, node in enumerate(graph.nodes):
            self._exact.setdefault("".join(words_of(node.id)), []).append((0, at, node.id))
            for quality, name in ((1, node.name), *((2, s) for s in node.synonyms)):
                words = words_of(name)
                if not words:
                    continue
                key = "".join(words)
                self._exact.setdefault(key, []).append((quality, at, name))
                if len(words) > 1:
                    self._loose.setdefault(loose_key(words), []).append((quality, at, name))
                if node.type is NodeType.DISEASE and (bare := bare_key(words)):
                    self._bare.setdefault(bare, []).append((quality, at, name))
                if node.type is NodeType.DRUG:
                    substance = substance_key(words)
                    if substance:
                        self._substances.setdefault(substance, []).append((quality, at, name))
                    for other in same.get(substance or key, ()) if quality == 1 else ():
                        spellings = words_of(other)
                        self._exact.setdefault("".join(spellings), []).append((2, at, other))
                        if other_key := substance_key(spellings):
                            self._substances.setdefault(other_key, []).append((2, at, other))
                        spelled.append((len(" ".join(spellings)), " ".join(spellings), at, other))
                text = " ".join(words)
                spelled.append((len(text), text, at, name))
        spelled.sort()
        self._lengths = [row[0] for row in spelled]
        self._texts = [row[1] for row in spelled]
        self._at = [(row[2], row[3]) for row in spelled]
        self._joined = "\n".join(self._texts)
        self._offsets = np.cumsum([0, *(length + 1 for length in self._lengths)])
        self._prose: dict[str, bool] = {}
        self._by_letter: dict[tuple[str, int], list[int]] = {}
        for i, text in enumerate(self._texts):
            self._by_letter.setdefault((text[0], len(text)), []).append(i)

    def find(self, text: str, node_type: str | None = None, limit: int = 5) -> list[LinkedNode]:
        """The nodes a text may mean, best first: exact ones (score 1; 0.98 by synonym), then word order, typing errors, parts."""
        text = text.strip()[:MAX_QUESTION]
        words = words_of(text)
        if not words or limit < 1:
            return []
        found: dict[int, LinkedNode] = {}
        for at, score, matched in [*self._exactly(words, node_type), *self._similar(words, node_type, limit)]:
            if at not in found or score > found[at].score:
                found[at] = LinkedNode(self.graph.nodes[at], score, matched, text)
        ranked = sorted(found.items(), key=lambda item: (-item[1].score, item[1].node.type in GO_TYPES, -self._degree[item[0]], item[0]))
        return [linked for _, linked in ranked[:limit]]

    def resolve(self, text: str, node_type: str | None = None) -> Node:
        """The node of that name, symbol, identifier or synonym. Raises UnknownNodeError, which names the nearest."""
        exact = self._exactly(words_of(text.strip()[:MAX_QUESTION]), node_type)
        if exact:
            return self.graph.nodes[exact[0][0]]
        shown = " ".join(text.split())
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        kind = f" among the {NodeType(node_type).label} nodes" if node_type in set(NodeType) else ""
        near = [linked.node.name for linked in self.find(text, node_type, 3)]
        if near:
            raise UnknownNodeError(f"No node is named {shown!r}{kind}.", f"Did you mean {_or(near)}?")
        raise UnknownNodeError(f"No node is named {shown!r}{kind}.", "Give a name, a gene symbol or an identifier of the graph.")

    def named(self, text: str, node_type: str) -> Node | None:
        """The node of that type that the whole text names: exactly, in another form, or with a typing error; None where there is none."""
        exact = self._exactly(words_of(text.strip()[:MAX_QUESTION]), node_type)
        if exact:
            return self.graph.nodes[exact[0][0]]
        close = self._nearest_spelling(text.strip()[:MAX_QUESTION], node_type)
        return close.node if close is not None else None

    def mentions(self, question: str, limit: int = 5, fuzzy: bool = True) -> list[LinkedNode]:
        """The nodes a text speaks of, in its order, at most `limit`; exact spellings first, then typing errors (score >= 0.88,
        of one long word 0.85)."""
        question = question[:MAX_QUESTION]
        tokens = [_Token(m.group(), m.start(), m.end()) for m in _WORD.finditer(question)]
        taken: list[tuple[int, int, LinkedNode, bool]] = []
        free = [True] * len(tokens)
        shouting = question.upper() == question
        for size in range(min(MAX_WINDOW, len(tokens)), 0, -1):
            for i in range(len(tokens) - size + 1):
                if not all(free[i : i + size]) or not self._worth_looking(tokens[i : i + size], shouting):
                    continue
                linked = self._window(question, tokens, i, size)
                if linked is not None:
                    generic = size == 1 and tokens[i].word.lower() in _GENERIC and not tokens[i].word.isupper()
                    if generic and _is_symbol(linked.matched):
                        continue
                    taken.append((i, size, linked, generic))
                    if not generic:
                        free[i : i + size] = [False] * size
        if fuzzy:
            taken += self._misspelled(question, tokens, free)
        proper = [row for row in taken if not row[3]] or taken
        unique: dict[tuple[str, str], LinkedNode] = {}
        for _, _, linked, _ in sorted(proper, key=lambda row: row[0]):
            unique.setdefault((linked.node.type.value, linked.node.id), linked)
        return list(unique.values())[:limit]

    def _exactly(self, words: list[str], node_type: str | None) -> list[tuple[int, float, str]]:
        """(position, score, spelling), best first: of the same letters, else of the same words in another order, else of the same
        substance or disease under another form of its name."""
        nodes = self.graph.nodes
        for score, rows in self._spelled_alike(words, node_type):
            fitting = [row for row in rows if node_type is None or nodes[row[1]].type == node_type]
            if fitting:
                fitting.sort(key=lambda row: (row[0] == 2, nodes[row[1]].type in GO_TYPES, -self._degree[row[1]], row[1]))
                return [(at, 0.98 if score == 1.0 and quality == 2 else score, name) for quality, at, name in fitting]
        return []

    def _spelled_alike(self, words: list[str], node_type: str | None) -> Iterator[tuple[float, list[tuple[int, int, str]]]]:
        yield 1.0, self._exact.get("".join(words), [])
        if len(words) > 1:
            yield 0.95, self._loose.get(loose_key(words), [])
        if words and words[-1].endswith("s") and len(words[-1]) > _SHORT + 1:
            yield 0.95, self._exact.get("".join([*words[:-1], words[-1][:-1]]), [])
        if substance := substance_key(words):
            yield 0.93, self._substances.get(substance, [])
        bare = bare_key(words)
        if bare and (node_type == NodeType.DISEASE or (" " in bare and len(words) > 1)):
            yield 0.9, self._bare.get(bare, [])

    def _similar(self, words: list[str], node_type: str | None, limit: int) -> Iterator[tuple[int, float, str]]:
        from rapidfuzz import fuzz, process
        from rapidfuzz.distance import OSA

        text, nodes = " ".join(words), self.graph.nodes
        slack = max(2, len(text) // 6) if len(text) > _SHORT else 1
        low, high = bisect_left(self._lengths, len(text) - slack), bisect_right(self._lengths, len(text) + slack)
        spare = 10 * limit if node_type is None else None
        for name, score, i in process.extract(text, self._texts[low:high], scorer=fuzz.ratio, score_cutoff=75, limit=spare):
            at, spelling = self._at[low + i]
            if node_type is not None and nodes[at].type != node_type:
                continue
            if min(len(text), len(name)) <= _SHORT or _is_symbol(spelling):
                if OSA.distance(text, name, score_cutoff=1) <= 1:
                    yield at, 0.6 if len(text) <= _SHORT else 0.75, spelling
            else:
                yield at, min(score / 100, 0.97), spelling
        for i in self._containing(text) if len(text) > _SHORT else ():
            at, spelling = self._at[i]
            if node_type is None or nodes[at].type == node_type:
                yield at, 0.5 + 0.35 * len(text) / self._lengths[i], spelling

    def _containing(self, text: str, most: int = 500) -> Iterator[int]:
        """Rows of longer spellings that hold `text` from the start of a word, shortest first."""
        at = -1
        for _ in range(most):
            at = self._joined.find(text, at + 1)
            if at < 0:
                return
            i = int(np.searchsorted(self._offsets, at, side="right")) - 1
            if self._joined[at - 1 : at] in (" ", "\n", "") and self._lengths[i] > len(text):
                yield i

    def _worth_looking(self, window: list[_Token], shouting: bool) -> bool:
        if len(window) > 2:
            return True
        if len(window) == 2:
            return not any(t.word.lower() in _STOP for t in window)
        word = window[0].word
        if word.isdigit() or len(word) < 2 or word.lower() in _TYPE_WORDS or word.lower().rstrip("s") in _TYPE_WORDS:
            return False
        return word.lower() not in _STOP or (word.isupper() and not shouting)

    def _window(self, question: str, tokens: list[_Token], i: int, size: int) -> LinkedNode | None:
        text = question[tokens[i].start : tokens[i + size - 1].end]
        words = words_of(text)
        if "".join(words).isdigit():
            return None
        if _inside_a_compound(question, tokens[i].start):
            return None
        hint, only = _hint(tokens, i)
        rows = self._exactly(words, hint) if hint else []
        rows = [row for row in rows if size > 1 or row[1] > 0.9]  # "Pulmonary" alone is no lung disease
        rows = rows if rows or only else self._exactly(words, None)
        if not rows or (rows[0][1] <= 0.95 and not _may_be_reworded(text, tokens[i], tokens[i + size - 1])):
            return None
        at, score, matched = rows[0]
        others = tuple(self.graph.nodes[other] for other, same, _ in rows[1:4] if same == score and other != at)
        if (subtype := _SUBTYPE.match(question, tokens[i + size - 1].end)) and self.graph.nodes[at].type is NodeType.DISEASE:
            return LinkedNode(self.graph.nodes[at], 0.85, matched, text + subtype.group().rstrip(), others)
        return LinkedNode(self.graph.nodes[at], score, matched, text, others)

    def _misspelled(self, question: str, tokens: list[_Token], free: list[bool]) -> list[tuple[int, int, LinkedNode, bool]]:
        """Windows of one to four untaken words, at least one long or capitalised; one typing error a word, first letter right."""
        out: list[tuple[int, int, LinkedNode, bool]] = []
        tried = 0
        for size in range(min(4, len(tokens)), 0, -1):
            for i in range(len(tokens) - size + 1):
                window = tokens[i : i + size]
                if not all(free[i : i + size]) or window[0].word.lower() in _STOP or window[-1].word.lower() in _STOP:
                    continue
                if _inside_a_compound(question, window[0].start):
                    continue
                if not any(self._spellable(t.word, t.start == 0, 6 if size == 1 else 5) for t in window):
                    continue
                tried += 1
                if tried > MAX_TRIES:
                    return out
                text = question[window[0].start : window[-1].end]
                linked = self._nearest_spelling(text)
                hint, only = _hint(tokens, i)
                if linked is not None and not (only and linked.node.type is not hint):
                    out.append((i, size, linked, False))
                    free[i : i + size] = [False] * size
        return out

    @staticmethod
    def _spellable(word: str, first: bool, least: int) -> bool:
        if not word.isalpha() or word.lower() in _STOP | _GENERIC or (word.isupper() and len(word) < 7):
            return False
        return len(word) >= least or (word[0].isupper() and not first and len(word) > _SHORT)

    def _nearest_spelling(self, text: str, node_type: str | None = None) -> LinkedNode | None:
        from rapidfuzz import fuzz
        from rapidfuzz.distance import OSA

        words = words_of(text)
        spelled = " ".join(words)
        if len(spelled) <= _SHORT:
            return None
        long = len(words) == 1 and len(spelled) >= _LONG
        least = MIN_LONG if long else MIN_MENTION
        best: list[tuple[int, str]] = []
        highest = 0.0
        for length in range(len(spelled) - 2, len(spelled) + 3):
            for i in self._by_letter.get((spelled[0], length), ()):
                at, spelling = self._at[i]
                if _is_symbol(spelling) or (node_type is not None and self.graph.nodes[at].type != node_type):
                    continue
                score = fuzz.ratio(spelled, self._texts[i], score_cutoff=100 * least) / 100
                if not score or score < highest:
                    continue
                other = self._texts[i].split()
                apart = [(a, b) for a, b in zip(words, other, strict=False) if a != b]
                if len(other) != len(words) or len(apart) > 2:
                    continue
                if all(min(len(a), len(b)) >= _SHORT and a.isalpha() and b.isalpha() and OSA.distance(a, b) <= 1 for a, b in apart):
                    best = [*best, self._at[i]] if score == highest else [self._at[i]]
                    highest = score
        if not best or (highest < MIN_MENTION and self._is_prose(spelled)):
            return None
        others = dict.fromkeys(at for at, _ in best if at != best[0][0])
        at, spelling = best[0]
        return LinkedNode(self.graph.nodes[at], min(highest, 0.97), spelling, text, tuple(self.graph.nodes[o] for o in others)[:3])

    def _is_prose(self, word: str) -> bool:
        """Whether a word, in lower case, stands in a name or a description of the graph, and so is hardly another one misspelled."""
        if word not in self._prose:
            whole = re.compile(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])")
            self._prose[word] = bool(
                whole.search(self._joined) or any(word in (low := n.description.lower()) and whole.search(low) for n in self.graph.nodes)
            )
        return self._prose[word]


def _may_be_reworded(text: str, first: _Token, last: _Token) -> bool:
    """Whether a window may match in another word order: one phrase, with no stop word or type word at its ends."""
    ends = {first.word.lower(), last.word.lower()}
    return not ends & _STOP and first.word.lower() not in _TYPE_WORDS and not re.search(r"[.;:?!()]\s", text)


def _hint(tokens: list[_Token], i: int) -> tuple[NodeType | None, bool]:
    """The type that the word before a window names, and whether nothing else can be meant: "Drug X" inside a sentence."""
    hint = _TYPE_WORDS.get(tokens[i - 1].word.lower()) if i else None
    return hint, hint is not None and i > 1 and tokens[i - 1].word[0].isupper()


def _inside_a_compound(question: str, start: int) -> bool:
    """Whether what starts there is the end of a compound such as Charcot-Marie-Tooth, of which it is no part of its own."""
    return bool(re.search(r"\b[A-Z][A-Za-z]{3,}-$", question[max(0, start - 30) : start]))


def _is_symbol(spelling: str) -> bool:
    """A gene symbol, a code or an identifier: one typing error in it is another one, not the same."""
    return " " not in spelling and (spelling.isupper() or any(c.isdigit() for c in spelling))


def _or(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
