"""What one browser session holds: the conversation as shown, earlier turns for follow-ups, and the table's state.

Knows: queries, retrievals, answers and how a message looks. Does not know: gradio, how a turn is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from biobridge_rag.types import Answer, Citation, Query, Retrieval
from biobridge_rag.ui.markup import answer_html, escape, lines_html, link, shorten

LONGEST_SHOWN = 600
MAX_TURNS_KEPT = 20

Turn = tuple[str, str, tuple[Query, ...]]


@dataclass(eq=False)
class Session:
    """Lives as long as the tab. `retrievals` are those of the newest turn that had any; `shown` is the one in the table."""

    messages: list[dict[str, str]] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    retrievals: list[Retrieval] = field(default_factory=list)
    shown: Retrieval | None = None
    selected: int = 1
    top: int = 20
    prompt: str = ""
    turn: int = 0
    busy: bool = False

    def begin(self) -> int:
        """Starts a turn and returns its number; what an older, stopped turn still brings is dropped by comparing numbers."""
        self.turn, self.busy = self.turn + 1, True
        return self.turn

    def finish(self) -> None:
        self.turn, self.busy = self.turn + 1, False

    def clear(self) -> None:
        """Forgets everything but the chosen length of the table."""
        self.finish()
        self.messages, self.turns, self.retrievals, self.shown, self.selected, self.prompt = [], [], [], None, 1, ""

    def say(self, role: str, content: str) -> None:
        self.messages.append({"role": role, "content": content})

    def replace_last(self, content: str) -> None:
        self.messages[-1] = {"role": "assistant", "content": content}

    def remember(self, question: str, answer: str, queries: Sequence[Query]) -> None:
        self.turns = [*self.turns, (question, answer, tuple(queries))][-MAX_TURNS_KEPT:]

    def show(self, retrieval: Retrieval) -> None:
        """Puts a retrieval in the table; the selected node stays selected where the same thing is looked for again."""
        before, self.shown = self.shown, retrieval
        again = before is not None and (before.relation, query_key(before.query)) == (retrieval.relation, query_key(retrieval.query))
        chosen = {h.node.id for h in before.hits if h.rank == self.selected} if before is not None and again else set()
        first = retrieval.hits[0].rank if retrieval.hits else 1
        self.selected = next((h.rank for h in retrieval.hits if h.node.id in chosen), first)

    def queries(self) -> list[Query]:
        """The distinct queries of the newest turn, in order."""
        found: dict[tuple[str, str, str], Query] = {}
        for retrieval in self.retrievals:
            found.setdefault(query_key(retrieval.query), retrieval.query)
        return list(found.values())


def query_key(query: Query) -> tuple[str, str, str]:
    return (query.type.value, query.node.id if query.node else query.value, query.name)


def user_message(text: str, file_names: Sequence[str]) -> str:
    """The user's words as text; long sequences are cut in the display only."""
    shown = text.strip()
    cut = f'<span class="cut">… {len(shown):,} characters in all</span>' if len(shown) > LONGEST_SHOWN else ""
    files = "".join(f'<span class="file">{escape(shorten(name, 60))}</span>' for name in file_names)
    words = f"<div>{lines_html(shown[:LONGEST_SHOWN])}{cut}</div>" if shown else ""
    return f'<div class="said">{words}{f"<div>{files}</div>" if files else ""}</div>'


def working(status: str, partial: str = "") -> str:
    """The answer so far and what is being done."""
    return f'<div class="answer">{answer_html(partial) if partial else ""}<p class="working" role="status">{escape(status)}</p></div>'


def error_line(message: str) -> str:
    return f'<div class="answer"><p class="error" role="alert">{escape(message)}</p></div>'


def notes_html(notes: Sequence[str]) -> str:
    return "".join(f'<p class="note">{escape(note)}</p>' for note in notes)


def answer_message(answer: Answer, notes: Sequence[str] = ()) -> str:
    """The answer, what it cites, what it could not back, and who wrote it."""
    lines = [*notes, answer.notice] if answer.notice else list(notes)
    parts = (notes_html(lines), answer_html(answer.text, answer.citations), _cited(answer), _unsupported(answer), _author(answer))
    return f'<div class="answer">{"".join(parts)}</div>'


def _cited(answer: Answer) -> str:
    if not answer.citations:
        return ""
    items = "".join(f"<li>{_citation(c)}</li>" for c in answer.citations)
    n = len(answer.citations)
    opened = " open" if n <= 6 else ""
    return f'<details class="cited"{opened}><summary>{n} cited {"node" if n == 1 else "nodes"}</summary><ol>{items}</ol></details>'


def _citation(citation: Citation) -> str:
    key = f'<span class="key">{escape(citation.key.strip("[]"))}</span>'
    edge = f'<span class="edge">{escape(shorten(citation.edges[0], 110))}</span>' if citation.edges else ""
    return f"{key} {link(citation.url, shorten(citation.name, 80))} {edge}"


def _unsupported(answer: Answer) -> str:
    if not answer.unsupported:
        return ""
    n = len(answer.unsupported)
    items = "".join(f"<li>{escape(shorten(sentence, 300))}</li>" for sentence in answer.unsupported)
    summary = f"{n} {'sentence cites' if n == 1 else 'sentences cite'} no evidence"
    return f'<details class="unsupported"><summary>{summary}</summary><ul>{items}</ul></details>'


def _author(answer: Answer) -> str:
    if answer.model in ("", "none"):
        return '<p class="author">Composed from the evidence of the graph, without a language model.</p>'
    return f'<p class="author">Written by {escape(answer.model)} from the evidence. Prompt {escape(answer.prompt_sha256[:12])}.</p>'
