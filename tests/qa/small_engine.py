"""The calls of an engine that conversations use, over the small graph of test_answering, with a home that is a manifest and a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from biobridge_rag.qa.answering import Answerer, AnswerEvent
from biobridge_rag.qa.arms import ARMS
from biobridge_rag.store.manifest import Manifest
from biobridge_rag.types import KnowledgeGraph, Query
from tests.qa.test_answering import GRAPH, LINKER, retrieve


@dataclass
class SmallEngine:
    """`models`: the chat models that there are, by name; "" is the one of the settings."""

    path: Path
    models: dict[str, Any] = field(default_factory=dict)
    seed: int = 7
    graph: KnowledgeGraph = GRAPH

    def __post_init__(self) -> None:
        (self.path / "fusion.json").write_text("{}")
        self.settings = SimpleNamespace()
        manifest = Manifest("small", GRAPH.sha256, {"protein": "kmer-1"}, {"protein": "kmer"}, {}, "default", self.seed, 1, "b" * 64)
        self.home = SimpleNamespace(manifest=manifest, path=self.path)

    def llm_of(self, settings: Any, choice: str | None = None) -> Any:
        return None if choice == "none" else self.models.get(choice or "")

    def ask_stream(
        self, question: str, queries: Sequence[Query] = (), llm: str | None = None, history: Sequence[Any] = (), *,
        options: Sequence[str] = (), kind: str = "", arm: str = "full", chat: Any = None,
        plan: bool | None = None,
    ) -> Iterator[AnswerEvent]:  # fmt: skip
        chat = chat if chat is not None else self.llm_of(self.settings, llm)
        answerer = Answerer(self.graph, LINKER, retrieve, chat, None, ARMS[arm], bool(plan))
        return answerer.ask_stream(question, queries, history, options, kind)

    def close(self) -> None:
        return
