"""Has a language model write an answer from the evidence that it is shown, and holds what it wrote against that.

Knows: prompts, the ledger, chat models, the check of citations. Does not know: questions' words, how evidence is gathered, linking.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace

from biobridge_rag.errors import LLMError
from biobridge_rag.qa.chat import Chat, NotSent
from biobridge_rag.qa.citations import check
from biobridge_rag.qa.gathering import Work
from biobridge_rag.qa.markdown import md_plain, without_keys
from biobridge_rag.qa.prompting import render
from biobridge_rag.qa.referring import History
from biobridge_rag.qa.statements import Ledger
from biobridge_rag.types import Answer, Usage

MAX_EVIDENCE = 6_000  # tokens of a prompt
Short = Callable[[str], tuple[tuple[str, ...], bool]]
"""The short answers in a text, and whether it answers at all."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """The evidence as a model is shown it. kept: the statements, with the keys of the whole ledger; plain: sentences that need no key
    (what was not found, notes); dropped: how many weaker statements did not fit."""

    kept: Ledger
    plain: tuple[str, ...]
    dropped: int
    text: str


def notes_of(work: Work) -> list[str]:
    return list(dict.fromkeys([*(q.note for q in work.entities if q.note), *(note for r in work.retrieved for note in r.notes)]))


def plain_of(work: Work) -> list[str]:
    """The sentences that need no key: what was not found, and notes."""
    return [*work.facts, *(f"Note: {n}" for n in notes_of(work))]


def sheet_of(work: Work, budget: int = MAX_EVIDENCE) -> Sheet:
    """What of the evidence fits a prompt of so many tokens."""
    kept, dropped = work.ledger.within(budget, [e.node for e in work.entities if e.node is not None])
    left_out = f"{dropped} weaker {'lines were' if dropped > 1 else 'line was'} left out." if dropped else ""
    lines = [*kept.lines(), *(f"Note: {without_keys(fact)}" for fact in work.facts), *([f"Note: {left_out}"] if dropped else [])]
    return Sheet(kept, (*plain_of(work), *([left_out] if dropped else [])), dropped, "\n".join(lines))


def write(
    llm: Chat, work: Work, sheet: Sheet, history: History, fallback: Answer, short: Short, english: bool, unaided: bool = False
) -> Generator[str, None, Answer]:
    """The pieces of a model's text, disarmed; returns the checked answer, or `fallback` with a notice where the model fails.

    unaided: the model is shown no evidence and answers from what it knows, as a control."""
    if unaided:
        listed = "\n".join(without_keys(option) for option in work.choices or (("True", "False") if work.kind == "true_false" else ()))
        prompt = render("unaided", None, question=without_keys(work.question), options=listed)
    else:
        prompt = render("answer" if fallback.kind == "open" else fallback.kind, None, **_fields(work, sheet, history, fallback.kind))
    fallback = replace(fallback, prompt="\n\n".join(text for _, text in prompt.messages()))
    pieces, watched = list[str](), Watched(llm.stream(prompt.messages()))
    try:
        for piece in disarmed(watched):
            pieces.append(piece)
            yield piece
    except LLMError as error:
        alone = "" if isinstance(error, NotSent) else " This is the answer from the evidence alone."
        work.notices.append(f"{error.message}{alone}")
        return replace(fallback, usage=usage_of(error))
    text = "".join(pieces).strip()
    failure = _no_answer(text)
    if failure:
        work.notices.append(f"The language model {llm.model} {failure}. This is the answer from the evidence alone.")
        return replace(fallback, usage=watched.usage)
    if sheet.dropped:
        lines = "lines" if sheet.dropped > 1 else "line"
        work.notices.append(f"{sheet.dropped:,} weaker {lines} of the evidence did not fit what the language model is shown.")
    citations = sheet.kept.citations()
    checked = check(text, citations, sheet.kept.statements, sheet.plain, english)
    if checked.n_removed:
        work.notices.append(f"{checked.n_removed} citation{'s' * (checked.n_removed > 1)} of evidence that does not exist removed.")
    prediction, decided = short(text)
    return replace(
        fallback, text=checked.text, abstained=not decided, citations=checked.used, unsupported=checked.unsupported, shown=citations,
        model=llm.model, prompt_sha256=prompt.sha256, prediction=prediction, removed=checked.n_removed, usage=watched.usage,
    )  # fmt: skip


def usage_of(error: LLMError) -> Usage:
    """What a failed call took nevertheless, as far as it is known."""
    found = getattr(error, "usage", None)
    return found if isinstance(found, Usage) else Usage()


def _fields(work: Work, sheet: Sheet, history: History, kind: str) -> dict[str, str]:
    fields = {"question": without_keys(work.question), "evidence": sheet.text or "(none)"}
    if kind == "choice":
        fields["options"] = "\n".join(without_keys(option) for option in work.choices)
    elif kind == "open":
        turns = [f"Question: {without_keys(q)}\nAnswer: {without_keys(md_plain(a))[:600]}" for q, a, _ in history[-3:]]
        fields["history"] = "\n".join(turns)
    return fields


def _no_answer(text: str) -> str:
    """Why a text is no answer, or nothing."""
    if re.match(r"(?i)(?:<|&lt;)(?:!doctype\s+html|html)\b", text):
        return "sent a web page in place of an answer"
    return "" if re.search(r"[^\W_]", re.sub(r"\[[\d,\s]*\]", "", text)) else "sent an empty answer"


class Watched:
    """A model's pieces; `usage` is what it cost, once they have ended."""

    def __init__(self, stream: Generator[str, None, Usage]) -> None:
        self._stream, self.usage = stream, Usage()

    def __iter__(self) -> Iterator[str]:
        self.usage = (yield from self._stream) or Usage()


def disarmed(pieces: Iterable[str]) -> Iterator[str]:
    """A model's text piece by piece, without HTML, links and images; what may begin one is held back until its next piece."""
    held = ""
    for piece in pieces:
        text = held + piece
        cut = len(text.rstrip("]:/"))
        held = text[cut:]
        if text[:cut]:
            yield _disarm(text[:cut])
    if held:
        yield _disarm(held)


def _disarm(text: str) -> str:
    return text.replace("<", "&lt;").replace("](", "] (").replace("]:", "] :").replace("][", "] [").replace("://", ":\\//")
