"""What one browser session holds: the conversation as shown, earlier turns for follow-ups and for export, and the table's state.

Knows: queries, retrievals, turns. Does not know: gradio, how a turn is run, how a message looks (messages.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from biobridge_rag.qa.bundles import TurnRecord
from biobridge_rag.qa.replaying import HISTORY_TURNS
from biobridge_rag.types import Query, Retrieval

MAX_RECORDS = 200

Turn = tuple[str, str, tuple[Query, ...]]


@dataclass(eq=False)
class Session:
    """Lives as long as the tab. `retrievals` are those of the newest turn that had any; `shown` is the one in the table; `records` are
    turns for export, of which the `dropped` oldest are gone; `prompt` is what was sent last; `key` is the browser session's own."""

    messages: list[dict[str, str]] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    retrievals: list[Retrieval] = field(default_factory=list)
    shown: Retrieval | None = None
    selected: int = 1
    top: int = 20
    prompt: str = ""
    records: list[TurnRecord] = field(default_factory=list)
    dropped: int = 0
    key: str = ""
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
        self.records, self.dropped = [], 0

    def say(self, role: str, content: str) -> None:
        self.messages.append({"role": role, "content": content})

    def replace_last(self, content: str) -> None:
        self.messages[-1] = {"role": "assistant", "content": content}

    def replace_question(self, content: str) -> None:
        """Of the running turn."""
        self.messages[-2] = {"role": "user", "content": content}

    def remember(self, question: str, answer: str, queries: Sequence[Query], record: TurnRecord | None = None) -> None:
        """For follow-ups, and for export where there is a record of it."""
        self.turns = [*self.turns, (question, answer, tuple(queries))][-HISTORY_TURNS:]
        kept = [*self.records, record] if record is not None else self.records
        self.dropped += max(0, len(kept) - MAX_RECORDS) + (record is None)
        self.records = kept[-MAX_RECORDS:]

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
