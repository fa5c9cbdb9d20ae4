"""Statements and choices in an answer: the side that the evidence is on, in front, and the evidence after it.

Knows: decisions, the ledger of evidence. Does not know: how decisions are made, linking, language models.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from biobridge_rag.qa.deciding import MIN_CHOICE, Decider, Option
from biobridge_rag.qa.gathering import Work
from biobridge_rag.qa.propositions import Claim, read_claim
from biobridge_rag.qa.wording import joined
from biobridge_rag.types import Node, NodeType

_AMONG = re.compile(r"(?i)^(?:these|those|the following|them)\b.*\b(?:with|for|of|to|by|in) ")
"""What goes before the name in "Which of these genes is associated with _", where names of the graph are masked by "_"."""
SIDES = {True: ("true", "yes"), False: ("false", "no")}


def judge(work: Work, decider: Decider) -> None:
    """Whether the statement of `work` holds. Where nothing speaks for a side, it is abstained from, or, if a side must be taken,
    the likelier one is taken and told to be a guess."""
    sides = sides_of(work.choices)
    claim = read_claim(work.question)
    if claim is None:
        work.fact("This is no statement that is read here: one thing, a relation and another thing.", abstains=True)
        return
    verdict = decider.verdict(claim)
    side = sides[verdict.holds]
    work.ledger.add(verdict.statements)
    for name in verdict.missing:
        work.fact(f'No node of this graph is named "{name}".')
    if verdict.basis == "guess":
        work.fact(f"{_nothing(claim)} To tell, the graph would need {_needed(claim, verdict.missing)}.", abstains=not work.forced)
        if not work.forced:
            return
        work.fact(f"{side} is only a guess: what a statement names together is linked more often than not.")
    elif verdict.basis == "predicted":
        work.fact(f"No edge or text decides this; {side} rests on a prediction alone{f': {verdict.said}' if verdict.said else ''}.")
    elif verdict.said:
        work.fact(f"What decides: {verdict.said}.")
    work.prediction = [side, sides[not verdict.holds]]
    work.head = f"Answer: {side}"


def choose(work: Work, decider: Decider, missing: Sequence[str]) -> None:
    """The option that is linked best to all entities of the question; abstains where none is linked well enough, and where the graph
    has no node for something that the question names."""
    choices = {choice.strip().casefold() for choice in work.choices}
    listed = {(link.node.type, link.node.id) for link in work.linked if link.text.casefold() in choices}
    named = [e.node for e in work.entities if e.node is not None and e.name.casefold() not in choices]
    entities = [node for node in named if (node.type, node.id) not in listed]
    ranked = decider.options(work.choices, entities, work.asked.names, [t for t in work.asked.tails if isinstance(t, NodeType)])
    missing = [name for name in (_AMONG.sub("", m) for m in missing) if re.search(r"[^\W_]", name)]
    unknown = [option.text for option in ranked if option.node is None]
    for name in missing:
        work.fact(f'No node of this graph is named "{name}".')
    if unknown:
        work.fact(f"The graph has no node for {joined([f'{name!r}' for name in unknown[:5]], more=len(unknown) > 5)}.")
    for option in ranked[:3]:
        work.ledger.add(option.statements)
    if ranked and _good_enough(ranked, entities) and not missing:
        best = ranked[0]
        work.prediction = [option.text for option in ranked]
        work.head = f"Answer: {best.text}"
        names = joined([e.name for e in entities])
        if best.score < len(entities):
            work.fact(f"Not every link of {best.text} to {names} is an edge of the graph; see what each rests on.")
        return
    spoken = joined([e.name for e in entities]) or "what the question names"
    work.fact(f"No option is linked to {spoken} well enough to be chosen. To tell, the graph would need edges between them.", abstains=True)


def _good_enough(ranked: Sequence[Option], entities: Sequence[Node]) -> bool:
    second = ranked[1].score if len(ranked) > 1 else 0.0
    return bool(entities) and ranked[0].score >= MIN_CHOICE and ranked[0].score > second


def sides_of(options: Sequence[str]) -> dict[bool, str]:
    """How the options call each side; True and False where they do not."""
    called = {holds: next((o for o in options if o.strip().lower() in words), "") for holds, words in SIDES.items()}
    return {holds: name or str(holds) for holds, name in called.items()}


def _nothing(claim: Claim) -> str:
    return f"The graph holds nothing for or against a link of {claim.subject} and {claim.object}."


def _needed(claim: Claim, missing: Sequence[str]) -> str:
    return f"a node for {joined([f'{m!r}' for m in missing])}" if missing else f"an edge or a text on {claim.subject} and {claim.object}"
