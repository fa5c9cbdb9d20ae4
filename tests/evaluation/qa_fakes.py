"""Questions and answers made by hand, and who answers in an evaluation's place.

Knows: the nouns of questions and answers. Does not know: engines, files.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from biobridge_rag.evaluation.questions import Question
from biobridge_rag.types import Answer, Citation, Usage


def question(n: int, **more: Any) -> Question:
    return Question(
        **{"id": f"q{n}", "kind": "open", "question": f"Which gene {n}?", "answers": (f"G{n}",), "answerable": n % 2 == 0} | more
    )


def answer(*prediction: str, text: str = "", abstained: bool = False, **more: Any) -> Answer:
    given = {"citations": (), "unsupported": (), "retrieved": (), "model": "none", "prompt_sha256": "0" * 64} | more
    return Answer(question="asked", text=text, abstained=abstained, prediction=prediction, **given)


def citation(n: int, name: str = "", node_id: str = "") -> Citation:
    return Citation(f"[{n}]", node_id or f"id{n}", name or f"node {n}", "")


class Oracle:
    """Answers with what `reply` says, or right; counts what it was asked, and how many at once."""

    def __init__(self, reply: Callable[[Question, str], Answer] | None = None, usage: Usage = Usage()) -> None:  # noqa: B008
        self.asked: Counter[tuple[str, str]] = Counter()
        self.most_at_once = self._now = 0
        self._reply, self._usage, self._lock = reply, usage, threading.Lock()

    def __call__(self, asked: Question, arm: str) -> Answer:
        with self._lock:
            self.asked[asked.id, arm] += 1
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            return self._reply(asked, arm) if self._reply else answer(*asked.answers, usage=self._usage)
        finally:
            with self._lock:
                self._now -= 1
