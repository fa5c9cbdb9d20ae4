"""What the rest of the project asks of a language model, and one that only shows what would be sent.

Knows: messages, tools as pydantic models, Usage. Does not know: LangChain, servers, models.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError

from biobridge_rag.errors import LLMError
from biobridge_rag.types import Usage

Messages = Sequence[tuple[str, str]]
Tools = Sequence[type[BaseModel]]
MAX_CALLS = 20


class NotSent(LLMError):
    """Nothing was sent, as was asked for."""


class CallError(LLMError):
    """What a language model raises. usage: what the failed call took nevertheless, as far as it is known."""

    def __init__(self, message: str, help: str = "", usage: Usage | None = None) -> None:
        super().__init__(message, help)
        self.usage = usage or Usage()


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that a model asks for: the name of its pydantic class, and arguments which that class has accepted, as JSON values."""

    name: str
    arguments: dict[str, Any]


class Chat(Protocol):
    """A language model. Both methods raise LLMError, of one line, for whatever goes wrong."""

    @property
    def model(self) -> str: ...

    def stream(self, messages: Messages) -> Generator[str, None, Usage]:
        """The answer to (role, text) messages, piece by piece; its return value is what it took."""
        ...

    def call_tools(self, messages: Messages, tools: Tools) -> tuple[list[ToolCall], Usage]:
        """The tools that the model asks for, at least one, and what it took."""
        ...


def checked_calls(asked: Sequence[tuple[str, Any]], tools: Tools) -> list[ToolCall]:
    """(name, arguments) pairs as a model gave them, each accepted by its class. Raises ValueError that says what is wrong: no call or
    too many, a tool that was not offered, arguments that its class refuses. It quotes nothing of the model's but names."""
    if not asked:
        raise ValueError("called no tool")
    if len(asked) > MAX_CALLS:
        raise ValueError(f"called {len(asked)} tools at once; {MAX_CALLS} are the most")
    offered = {tool.__name__: tool for tool in tools}
    calls = []
    for name, arguments in asked:
        tool = offered.get(str(name))
        if tool is None:
            raise ValueError(f"called a tool that there is not, {str(name)[:40]!r}")
        try:
            calls.append(ToolCall(tool.__name__, tool.model_validate(arguments).model_dump(mode="json")))
        except ValidationError as error:
            first = error.errors(include_input=False, include_context=False)[0]
            where = ".".join(str(part)[:40] for part in first["loc"])
            raise ValueError(
                f"called {tool.__name__} with arguments that do not fit ({where + ': ' if where else ''}{first['type']})"
            ) from None
    return calls


@dataclass
class DryRun:
    """Has the methods of a language model and sends nothing: both raise NotSent. `shown` keeps, in order, what would have been sent;
    show: makes text of messages and tools, as LanguageModel.preview does; by default the messages with their roles."""

    model: str
    show: Callable[[Messages, Tools], str] = field(default=lambda messages, tools: as_text(messages), repr=False)
    shown: list[str] = field(default_factory=list)

    def stream(self, messages: Messages) -> Generator[str, None, Usage]:
        self._refuse(messages, ())
        yield ""
        return Usage()

    def call_tools(self, messages: Messages, tools: Tools) -> tuple[list[ToolCall], Usage]:
        self._refuse(messages, tools)
        return [], Usage()

    def _refuse(self, messages: Messages, tools: Tools) -> None:
        self.shown.append(self.show(messages, tools))
        raise NotSent(f"Nothing was sent to {self.model}: this is a dry run.")


def without_thoughts(pieces: Iterable[str]) -> Iterator[str]:
    """A text piece by piece, without what some models think aloud before it, between <think> and </think>."""
    held, begun = "", False
    for piece in pieces:
        if begun:
            yield piece
            continue
        held += piece
        start = held.lstrip()
        answer = "" if "<think>".startswith(start) else held
        if start.startswith("<think>"):
            answer = start.partition("</think>")[2].lstrip()
        if answer:
            begun = True
            yield answer
    if not begun and held.strip() and not held.lstrip().startswith("<think>"):
        yield held


def as_text(messages: Messages) -> str:
    """The messages below each other, each under a line with its role."""
    return "\n\n".join(f"----- {role} -----\n{text}" for role, text in messages)
