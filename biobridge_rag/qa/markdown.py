"""Markdown of answers: text of others shown letter by letter, the words of a text, its keys and its sentences.

Knows: Markdown, keys of the form [1] or [2, 5]. Does not know: evidence, language models, HTML.
"""

from __future__ import annotations

import re

MARK = " (not supported by the evidence)"
"""Stands at the end of an unsupported sentence, before its full stop; escaped where others wrote it."""
KEY = re.compile(r"(?<!\\)\[(\d{1,4}(?:\s*[,;]\s*\d{1,4})*)\]")
"""A key, or several, in a text; not one whose bracket is escaped."""

_ABBREVIATION = re.compile(r"\b(?:al|pp?|e\.g|i\.e|vs|cf|approx|Dr|St|spp?|no|Fig|[A-Z])\.$")
_SENTENCE_END = re.compile(r"[.!?][*_\"')]*(?:\s*" + KEY.pattern + r")*(?:\s+(?=[*_\"'(“]*[^\W_a-z]|\*\*)|$)|(?<=\d\])[.!?]\s+")
_ITEM = re.compile(r"\s*(?:[-*+>]|\d+[.)])\s+|\s+|#{1,6}\s+")


def visible(text: str) -> str:
    """The text on one line, with a space for what cannot be seen: control characters, zero-width and bidirectional ones."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def md_escape(text: str) -> str:
    """Text of a graph, file or user as Markdown that shows it letter by letter, on one line."""
    text = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_\[\]#|~$])", r"\\\1", text).replace("://", ":\\//")
    text = re.sub(r"(?i)\bwww\.", lambda m: m.group()[:3] + r"\.", text)
    text = text.replace(MARK.strip(), "\\" + MARK.strip())
    return re.sub(r"^([-+]|\d+[.)])(?=\s)", r"\\\1", text)


def md_plain(text: str, *, keys: bool = False) -> str:
    """Markdown of an answer as the words in it: escapes undone, emphasis dropped, and the keys unless `keys` keeps them."""
    text = re.sub(r"(?<!\\)[*`#]", "", text if keys else KEY.sub("", text))
    text = re.sub(r"\\([\\`*_\[\]#|~$/.\-+()])", r"\1", text)
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def without_keys(text: str) -> str:
    """The text on one line with [n] made (n), so that data cannot bring a key of its own."""
    return re.sub(r"\[(\s*\d[\d\s,;]*)\]", r"(\1)", " ".join(text.split()))


def keys_of(text: str) -> list[str]:
    """The numbers of the keys in a text, in its order, each once."""
    return list(dict.fromkeys(n for m in KEY.finditer(text) for n in re.split(r"\s*[,;]\s*", m[1])))


def spans(text: str) -> list[tuple[int, int]]:
    """Where the sentences of a Markdown text begin and end. A list item is at least one; a key after the full stop belongs to what is
    before it; marks of lists and headings are left out."""
    out: list[tuple[int, int]] = []
    at = 0
    for line in text.splitlines(keepends=True):
        begin, end = at, at + len(line.rstrip())
        at += len(line)
        while mark := _ITEM.match(text, begin, end):
            begin = mark.end()
        for match in _SENTENCE_END.finditer(text, begin, end):
            if begin < match.end() and not _ABBREVIATION.search(text[begin : match.start() + 1]):
                out.append((begin, match.start() + len(match.group().rstrip())))
                begin = match.end()
        if text[begin:end].strip():
            out.append((begin, end))
    return out


def sentences(text: str) -> list[str]:
    """The sentences of a Markdown text, each with its keys before its full stop."""
    return [re.sub(r"([.!?])((?:\s*\[\d[\d,; ]*\])+)$", lambda m: f" {m[2].strip()}{m[1]}", text[a:b]) for a, b in spans(text)]


def with_key(text: str, key: str) -> str:
    """Each sentence of the Markdown text with that key, before its full stop."""
    for begin, end in reversed(spans(text)):
        bare = text[begin:end].rstrip(".")
        text = text[:begin] + f"{bare} {key}" + text[begin + len(bare) :]
    return text
