"""Hears what a language model is sent and says, and plays that back in its place.

Knows: the calls of a chat model. Does not know: prompts, evidence, files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from biobridge_rag.errors import LLMError
from biobridge_rag.types import Usage


class ToolRecord(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str
    arguments: dict[str, JsonValue]


class Exchange(BaseModel):
    """One call of a model: kind text | tools, the messages that were sent as [role, text] and their hash, what came back, letter by
    letter, and what went wrong, if anything did."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    kind: Literal["text", "tools"]
    messages: list[list[str]]
    prompt_sha256: str
    text: str = ""
    tools: list[ToolRecord] = []
    error: str = ""
    usage: dict[str, int | float | None] = {}


def sha256_of(messages: Sequence[tuple[str, str]]) -> str:
    """The hash of what is sent: that of the prompt it was made of."""
    return hashlib.sha256("\x1e".join(text for _, text in messages).encode("utf-8", "backslashreplace")).hexdigest()


class Recorder:
    """A chat model that hands every call on to another one and keeps it in `exchanges`. One for each answer."""

    def __init__(self, chat: Any) -> None:
        self.chat = chat
        self.exchanges: list[Exchange] = []

    @property
    def model(self) -> str:
        return str(self.chat.model)

    @property
    def host(self) -> str:
        return str(getattr(self.chat, "host", ""))

    @property
    def local(self) -> bool:
        return bool(getattr(self.chat, "local", False))

    def stream(self, messages: Sequence[tuple[str, str]]) -> Generator[str, None, Usage]:
        pieces: list[str] = []
        usage, problem = Usage(), ""
        try:
            usage = (yield from _heard(self.chat.stream(messages), pieces)) or usage
        except LLMError as error:
            problem, usage = error.message, getattr(error, "usage", usage)
            raise
        finally:
            self._keep("text", messages, text="".join(pieces), error=problem, usage=usage.to_dict())
        return usage

    def call_tools(self, messages: Sequence[tuple[str, str]], tools: Sequence[Any]) -> tuple[list[Any], Usage]:
        try:
            calls, usage = self.chat.call_tools(messages, tools)
        except LLMError as error:
            self._keep("tools", messages, error=error.message, usage=getattr(error, "usage", Usage()).to_dict())
            raise
        made = [ToolRecord(name=call.name, arguments=dict(call.arguments)) for call in calls]
        self._keep("tools", messages, tools=made, usage=usage.to_dict())
        return calls, usage

    def _keep(self, kind: Literal["text", "tools"], messages: Sequence[tuple[str, str]], **said: Any) -> None:
        sent = [[role, text] for role, text in messages]
        self.exchanges.append(Exchange(kind=kind, messages=sent, prompt_sha256=sha256_of(messages), **said))


class Recorded:
    """A chat model that says what was recorded, call by call, and sends nothing. `other_prompts` counts calls whose messages are
    not those that were recorded."""

    def __init__(self, model: str, exchanges: Sequence[Exchange]) -> None:
        self.model = model
        self._left = list(exchanges)
        self.other_prompts = 0

    def stream(self, messages: Sequence[tuple[str, str]]) -> Generator[str, None, Usage]:
        said = self._next("text", messages)
        if said.text:
            yield said.text
        if said.error:
            raise LLMError(said.error)
        return _usage(said)

    def call_tools(self, messages: Sequence[tuple[str, str]], tools: Sequence[Any]) -> tuple[list[Any], Usage]:
        from biobridge_rag.qa import llm

        said = self._next("tools", messages)
        if said.error:
            raise LLMError(said.error)
        made: Any = getattr(llm, "ToolCall", ToolRecord)
        return [made(name=call.name, arguments=dict(call.arguments)) for call in said.tools], _usage(said)

    def _next(self, kind: str, messages: Sequence[tuple[str, str]]) -> Exchange:
        if not self._left or self._left[0].kind != kind:
            raise LLMError("The record holds nothing that the language model said here.")
        said = self._left.pop(0)
        self.other_prompts += said.prompt_sha256 != sha256_of(messages)
        return said


def _heard(stream: Iterator[str], pieces: list[str]) -> Generator[str, None, Any]:
    """Hands on a stream and keeps its pieces; returns what the stream returns."""
    try:
        while True:
            try:
                piece = next(stream)
            except StopIteration as end:
                return end.value
            pieces.append(piece)
            yield piece
    finally:
        close = getattr(stream, "close", None)
        if close is not None:
            close()


def _usage(said: Exchange) -> Usage:
    known = {k: v for k, v in said.usage.items() if k in Usage.__slots__}
    return Usage(**known)  # type: ignore[arg-type]
