"""Whether a short answer is right: texts made comparable, word overlap, and the other names of a node.

Knows: texts, and nodes' names, synonyms and ids. Does not know: who answered, what is counted.

Normalisation, exact match and F1 are those of SQuAD (Rajpurkar et al. 2016, arXiv 1606.05250, evaluate-v1.1): lower case, without
punctuation, articles and surplus space; the best over all right answers counts. Here a right answer counts by all its names.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from biobridge_rag.types import KnowledgeGraph

Aliases = Callable[[str], Iterable[str]]  # a name -> all names of what it names, itself included

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_TRUTH = {"true": "true", "yes": "true", "false": "false", "no": "false"}


def normalised(text: str) -> str:
    """The text as SQuAD compares it; one that would be nothing then ("A", "+") only in lower case."""
    plain = " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())
    return plain or " ".join(text.lower().split())


def token_f1(prediction: str, answer: str) -> float:
    """F1 in [0, 1] of the words that the two have in common, both normalised."""
    mine, theirs = normalised(prediction).split(), normalised(answer).split()
    common = sum((Counter(mine) & Counter(theirs)).values())
    return 2.0 * common / (len(mine) + len(theirs)) if common else 0.0


def best_f1(prediction: str, names: Iterable[str]) -> float:
    return max((token_f1(prediction, name) for name in names), default=0.0)


def right_names(kind: str, answers: Sequence[str], aliases: Aliases | None = None) -> frozenset[str]:
    """What a right short answer reads, normalised.

    open: any of the answers, by its name or any other name of the node that it names. choice: the text of a right option, for an option
    is to be picked, not named; where the text stands twice, either is right. true_false: true, or false; yes and no mean the same.
    """
    if kind == "true_false":
        return frozenset(_TRUTH.get(normalised(a), normalised(a)) for a in answers)
    named = [n for a in answers for n in (a, *(aliases(a) if aliases and kind == "open" else ()))]
    return frozenset(normalised(n) for n in named)


def is_right(kind: str, prediction: str, names: frozenset[str]) -> bool:
    """Whether a short answer is one of `right_names`."""
    plain = normalised(prediction)
    return (_TRUTH.get(plain, plain) if kind == "true_false" else plain) in names


def first_right(kind: str, predictions: Sequence[str], names: frozenset[str]) -> int | None:
    """The rank, from 1, of the first short answer that is right, or None."""
    return next((rank for rank, p in enumerate(predictions, start=1) if is_right(kind, p, names)), None)


def node_aliases(graph: KnowledgeGraph) -> Aliases:
    """Names, synonyms and ids of all nodes that a name names: those whose name or id it is, or, where it is none, whose synonym."""
    exact: dict[str, list[int]] = {}
    other: dict[str, list[int]] = {}
    for i, node in enumerate(graph.nodes):
        for text in {normalised(node.name), normalised(node.id)}:
            exact.setdefault(text, []).append(i)
        for text in {normalised(s) for s in node.synonyms}:
            other.setdefault(text, []).append(i)

    def names(text: str) -> list[str]:
        plain = normalised(text)
        nodes = [graph.nodes[i] for i in exact.get(plain, []) or other.get(plain, [])]
        return [text, *(name for node in nodes for name in (node.name, node.id, *node.synonyms))]

    return names
