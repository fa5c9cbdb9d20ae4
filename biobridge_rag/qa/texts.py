"""What texts add to the evidence: those that came with a question, those of the nodes that it names, and those that a search finds.

Knows: the ledger, how descriptions name genes, searches that it is handed. Does not know: indexes, edges, language models.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from biobridge_rag.qa.gathering import Work, joined
from biobridge_rag.qa.statements import given, passage
from biobridge_rag.retrieval.gene_names import rank_genes
from biobridge_rag.retrieval.passages import sentences
from biobridge_rag.types import Node, NodeType

MAX_PASSAGES, MAX_GIVEN, MAX_GENES = 8, 20, 200
UNDECIDED = frozenset({"yes", "no", "maybe", "true", "false", "unknown", "unsure"})


class Search(Protocol):
    """The nodes, of those types or of all, whose texts fit, best first, each with the sentences that do."""

    def __call__(self, text: str, k: int, types: Collection[NodeType] | None = None) -> list[tuple[Node, str]]: ...


@dataclass(frozen=True)
class Texts:
    """What the texts of nodes are asked: `search` gives passages that fit a question; `described` how well a node's description fits
    another node, in [0, 1]."""

    search: Search
    described: Callable[[Node, Node], float]


def add_given(work: Work, passages: Sequence[tuple[str, str]]) -> int:
    """Puts the (name, text) passages that came with a question into the evidence, at most 20; returns how many."""
    texts = [(name, text) for name, text in passages if text.strip()]
    if len(texts) > MAX_GIVEN:
        work.notices.append(f"{len(texts):,} passages came with the question; the first {MAX_GIVEN} are read.")
    work.ledger.add(given(number, text, name) for number, (name, text) in enumerate(texts[:MAX_GIVEN], 1))
    return min(len(texts), MAX_GIVEN)


def only_texts_tell(options: Sequence[str]) -> bool:
    """Whether the options are yes, no and the like, of which one stands in no graph (maybe): a reader of texts alone can choose."""
    said = {option.strip().lower() for option in options}
    return len(said) > 2 and said <= UNDECIDED


def from_texts(work: Work, texts: Texts | None) -> None:
    """What texts alone say: of a drug's mechanism the genes that its description names, else nodes of the asked types whose texts fit."""
    if texts is None:
        return work.fact("Without retrieval nothing is known here.", abstains=True)
    if work.asked.kind == "mechanism":
        _genes(work, texts)
    for node, text in [] if work.prediction else texts.search(work.question, MAX_PASSAGES):
        if node.type in work.asked.tails:
            work.ledger.add([passage(node, text or node.name)])
            work.prediction.append(node.name)
    if not work.prediction:
        work.fact("No text of the graph fits the question.", abstains=True)


def _genes(work: Work, texts: Texts) -> None:
    """The proteins that the description of the first drug names, best match first."""
    drug = next((e.node for e in work.entities if e.type is NodeType.DRUG and e.node is not None), None)
    if drug is None or not drug.description:
        return
    genes = [node for node, _ in texts.search(drug.description, MAX_GENES, {NodeType.PROTEIN})]
    ranked = [(node, match) for node, match in rank_genes(drug.description, genes) if match.score > 0]
    work.prediction += list(dict.fromkeys(node.name for node, _ in ranked))
    if ranked:
        work.ledger.add([passage(drug, drug.description), *(passage(node, node.description or node.name) for node, _ in ranked[:5])])
        named = joined([f'{node.name} ("{match.matched}")' for node, match in ranked[:3]], more=len(ranked) > 3)
        work.fact(f"The description of {drug.name} names {named}.")


def add_passages(work: Work, texts: Texts, described: bool) -> None:
    """Passages for a reader: those of the question's own nodes, then those that a search finds; no sentence that stands in the evidence
    already. described: whether the descriptions of the question's nodes are there."""
    own = {(e.node.type, e.node.id): e.node for e in work.entities if e.node is not None}
    hits = texts.search(work.question, MAX_PASSAGES + len(own))
    found = {(node.type, node.id): text for node, text in hits}
    first = [(node, found.get(at, "") if described else node.description) for at, node in own.items()]
    others = [(node, text) for node, text in hits if (node.type, node.id) not in own]
    told = " ".join(s.text for s in work.ledger.of_kind("about", "passage"))
    for node, text in [*first, *others[:MAX_PASSAGES]]:
        fresh = _fresh(text, told)
        if fresh:
            work.ledger.add([passage(node, fresh)])


def _fresh(text: str, told: str) -> str:
    """The sentences that were not told yet."""
    parts = ([s for s in sentences(part) if s.rstrip(".") not in told] for part in text.split(" ... "))
    return " ... ".join(" ".join(part) for part in parts if part)
