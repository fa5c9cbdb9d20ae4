"""Sentences of descriptions: cutting them, and finding those in which a name stands as whole words.

Knows: English prose as ontologies and drug texts write it, nodes' names. Does not know: indexes, embeddings, edges.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

from biobridge_rag.retrieval.spelling import words_of
from biobridge_rag.types import Node

MAX_SNIPPET = 400  # characters
MAX_CHUNK = 80  # characters between white space; a longer one is a sequence or a structure
_END = re.compile(r"[.!?][\"'\u201d)\]]*\s+(?=[\"'\u201c(\[]?[A-Z0-9\u0391-\u03a9])|\n\s*\n|\s+(?=\[(?:PubChem|Wikipedia|url)\b)")
_ABBREVIATION = re.compile(r"(?:\b(?:[A-Z]|e\.g|i\.e|cf|vs|ca|approx|Dr|Prof|St|Fig|fig|No|no|Inc|Ltd|Co|al|sp|spp|subsp|var|pp|ed))\.$")
_COMPOUND = re.compile(r"[^\W_]+(?:[-\u2010\u2011/][^\W_]+)+|[^\W\d_]+\d[^\W_]*|\d+[^\W\d_][^\W_]*")
_PARTS = re.compile(r"\d+|[^\W\d_]+")


@dataclass(frozen=True, slots=True)
class Passage:
    """A sentence of a node's description, at most 400 characters, and the name that stands in it."""

    node: Node
    text: str
    matched: str


def sentences(text: str) -> list[str]:
    """The sentences of a text, in order, without the white space between them. Abbreviations (e.g., S. cerevisiae) end none."""
    out, start = [], 0
    for end in _END.finditer(text):
        stop = end.start() + len(end.group().rstrip())
        if end.group()[0] == "." and _ABBREVIATION.search(text[max(start, stop - 12) : stop]):
            continue
        out.append(text[start:stop])
        start = end.end()
    out.append(text[start:])
    return [" ".join(s.split()) for s in out if s.strip()]


def best_sentences(text: str, weight: Callable[[str], float], limit: int = MAX_SNIPPET) -> str:
    """The sentences of the highest weight, in their order, together at most `limit` characters (" ... " stands where some are left
    out); the first one where none has a weight. A sentence that alone is longer is cut after a word and ends in " ..."."""
    found = sentences(text)
    weighed = [(weight(s), i) for i, s in enumerate(found)]
    order = sorted(weighed, key=lambda row: (-row[0], row[1]))
    if not order:
        return ""
    taken = [order[0][1]]
    for value, i in order[1:]:
        rows = sorted([*taken, i])
        if value > 0 and len(_joined(found, rows)) <= limit:
            taken = rows
    return clipped(_joined(found, taken), limit)


def clipped(text: str, limit: int = MAX_SNIPPET) -> str:
    """The text, cut after a word where it is longer than `limit`."""
    return text if len(text) <= limit else text[: limit - 4].rsplit(None, 1)[0].rstrip(",;:") + " ..."


def _joined(found: list[str], rows: list[int]) -> str:
    out = found[rows[0]]
    for before, i in pairwise(rows):
        out += (" " if i == before + 1 else " ... ") + found[i]
    return out


def stem(word: str) -> str:
    """A word without the plural's s, in one spelling."""
    word = word.replace("lling", "ling")
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def spelled(text: str) -> str:
    """The words of a text as they are compared, each between spaces, so that whole words can be looked for in it."""
    return f" {' '.join(stem(w) for w in words_of(text))} "


def tokens_of(text: str) -> list[str]:
    """The words of a text as they are indexed: also in one where hyphens part them (IL-6: il, 6, il6), also apart where they hold
    digits (IL6: il6, il, 6)."""
    out = [stem(w) for w in words_of(text)]
    for chunk in text.split():
        if len(chunk) > MAX_CHUNK or chunk.strip(",.;:()").isalpha():
            continue
        for match in _COMPOUND.finditer(chunk):
            words = words_of(match.group())
            if len(words) > 1:
                out.append("".join(words))
            out += [part for w in words if not w.isdigit() and not w.isalpha() for part in _PARTS.findall(w)]
    return out


def spellings(name: str) -> list[str]:
    """How `spelled` may write a name: as it is, in one word, and with letters and digits apart."""
    words = words_of(name)
    forms = [words]
    if _COMPOUND.search(name) and len(words) <= 4:
        forms += [["".join(words)], [part for w in words for part in _PARTS.findall(w)]]
    return list(dict.fromkeys(f" {' '.join(stem(w) for w in form)} " for form in forms if form))


class Names:
    """The names of a node, ready to be looked for. One in capitals without digits (MET, KIT) is found in capitals only, as others
    are words; one of a single character never."""

    def __init__(self, names: Iterable[str]) -> None:
        self.capitals: list[tuple[str, re.Pattern[str]]] = []
        self.forms: list[tuple[str, str]] = []
        for name in dict.fromkeys(n.strip() for n in names):
            if len("".join(words_of(name))) < 2 or name.isdigit():
                continue
            if name.isupper() and name.isalpha() and name.isascii():
                self.capitals.append((name, re.compile(rf"(?<![A-Za-z0-9]){name}(?![A-Za-z0-9])")))
            else:
                self.forms += [(name, form) for form in spellings(name)]

    def within(self, text: str, words: str | None = None) -> str:
        """The name that stands in the text, or nothing. words: `spelled(text)`."""
        words = spelled(text) if words is None else words
        return next(
            (name for name, pattern in self.capitals if pattern.search(text)),
            next((name for name, form in self.forms if form in words), ""),
        )


def names_of(node: Node) -> list[str]:
    return [node.name, *node.synonyms]


def passages_linking(a: Node, names: Iterable[str], limit: int = 5) -> list[Passage]:
    """The sentences of a's description in which one of the names stands as whole words, in their order."""
    wanted, out = Names(names), []
    for sentence in sentences(a.description):
        if matched := wanted.within(sentence):
            out.append(Passage(a, clipped(sentence), matched))
    return out[:limit]


def linking(a: Node, b: Node, limit: int = 5) -> list[Passage]:
    """The sentences of a's description that name b, then those of b's that name a."""
    return [*passages_linking(a, names_of(b), limit), *passages_linking(b, names_of(a), limit)][:limit]
