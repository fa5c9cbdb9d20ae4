"""Reads the short answer off the first line of a model's text: one of the options, or true or false. Never guesses.

Knows: Markdown, option letters, the line "Answer: ...". Does not know: prompts, evidence, questions.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal

_LABEL = re.compile(
    r"^(?:(?:(?:the|my|final|best|correct) )*(?:answer|verdict|choice|option|statement|claim)(?: is|\s*[:=–—-])*\s*)+", re.IGNORECASE
)
_KEYS = re.compile(r"\s*\[\d{1,4}(?:\s*[,;]\s*\d{1,4})*\]")
_LETTERED = re.compile(r"^(?:option )?[(\[]?([A-Za-z]|\d{1,2})(?:[)\]]|[.:])(?:\s+|$)", re.IGNORECASE)
_WORDS: dict[str, Literal["True", "False"]] = {"true": "True", "yes": "True", "false": "False", "no": "False", "not true": "False"}


def read_verdict(text: str) -> Literal["True", "False"] | None:
    """The verdict of the first line ("Answer: True", "**False.**", "No, ..."), or None: where it is Unknown, absent, or both."""
    line = _first_line(text)
    said = {
        verdict
        for word, verdict in _WORDS.items()
        if re.match(rf"{word}(?:$|\s*[.,;:!–—(-])", line, re.IGNORECASE) and not re.match(rf"{word}-\w", line, re.IGNORECASE)
    }
    words = set(re.findall(r"[a-z]+", line.lower()))
    if len(said) != 1 or ("true" in words and "false" in words) or words & {"unknown", "unclear", "neither"}:
        return None
    return said.pop()


def read_choice(text: str, options: Sequence[str]) -> str | None:
    """The option that the first line gives, as `options` spells it, or None.

    Taken in this order: the line is an option; an option's letter or number (A, B, ... or 1, 2, ..., alone or before its own text); the
    line names exactly one option, not counting one within another and none that is denied. Case, Markdown, quotes, keys and spaces do
    not count. A letter that stands before another option's text, and options that read the same, give None.
    """
    line = _first_line(text)
    plain = [_folded(option) for option in options]
    if options.count(line) == 1:
        return line
    if not line or len(set(plain)) < len(plain):
        return None
    whole = _folded(line)
    if whole in plain:
        return options[plain.index(whole)]
    lettered = _LETTERED.match(line) or re.fullmatch(r"(?:option )?([A-Za-z]|\d{1,2})", line.rstrip(". "), re.IGNORECASE)
    if lettered:
        letter, rest = lettered[1], _folded(line[lettered.end() :])
        at = int(letter) - 1 if letter.isdigit() else ord(letter.lower()) - ord("a")
        if 0 <= at < len(options) and (not rest or rest == plain[at] or set(_named(rest, plain)) == {at}):
            return options[at]
        return None
    named = _named(whole, plain)
    denied = re.search(r"\b(?:not|none|neither|nor|no|unknown|unclear|never|except|or)\b|n['’]t\b", _without(whole, plain))
    return options[named[0]] if len(named) == 1 and not denied else None


def _first_line(text: str) -> str:
    """The first line with a word in it, without Markdown, its label and keys."""
    line = next((line for line in text.splitlines() if re.search(r"\w", line)), "")[:2_000]
    line = re.sub(r"^[\s>#*+•-]*\s|[*`\"“”]+", "", _KEYS.sub("", line).strip())
    return _LABEL.sub("", re.sub(r"(?<!\w)_+|_+(?!\w)", "", line).strip()).strip()


def _folded(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).replace("’", "'").casefold()
    return " ".join(re.sub(r"[*`\"“”]+", "", text).split()).strip(" .,;:!")


def _named(line: str, plain: Sequence[str]) -> list[int]:
    """Places of the options that stand in the line as whole words, the longest first; what it covers is not read again."""
    found = []
    for at in sorted(range(len(plain)), key=lambda at: -len(plain[at])):
        pattern = rf"(?<![\w-]){re.escape(plain[at])}(?![\w-])"
        if plain[at] and re.search(pattern, line):
            found.append(at)
            line = re.sub(pattern, "\x00", line)
    return found


def _without(line: str, plain: Sequence[str]) -> str:
    for option in sorted(plain, key=len, reverse=True):
        line = re.sub(rf"(?<![\w-]){re.escape(option)}(?![\w-])", "_", line) if option else line
    return line
