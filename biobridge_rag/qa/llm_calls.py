"""One call to a language model: which parameters it is sent with, its chunks, tries, limits, and what it took.

Knows: LangChain's chat models as they are handed in. Does not know: how they are made, caches, prompts, the environment.
What a server writes about an error is not shown, since it may hold the key.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import re
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from biobridge_rag.qa.chat import CallError, Messages, Tools
from biobridge_rag.qa.llm_failures import Again, failure_of, retrying
from biobridge_rag.types import Usage

E = TypeVar("E", bound=CallError)
OPENAI_URL = "https://api.openai.com/v1"
MAX_ANSWER = 20_000  # characters
LOCAL_TOKENS = 1_024
# What a request can do without, where a server refuses it.
_OPTIONAL = ("stream_options", "temperature", "seed", "tool_choice")


@dataclass(frozen=True, slots=True)
class LLMConfig:
    """Which model, where (empty: OpenAI, or this machine where `model` is an existing folder), with which key (local servers need none).

    timeout_s: how long to wait for each piece; limit_s: for the whole answer, tries and waits included; max_tokens: of an answer, None
    for what the server does of itself (a local model: LOCAL_TOKENS); price_in, price_out: US dollars for a million tokens, None for
    unknown; device: of a local model, "cpu" or "cuda"."""

    model: str
    base_url: str = ""
    api_key: str = field(default="", repr=False)
    timeout_s: float = 60.0
    max_retries: int = 3
    limit_s: float = 600.0
    max_tokens: int | None = None
    seed: int | None = None
    price_in: float | None = None
    price_out: float | None = None
    device: str = "cpu"

    @property
    def local(self) -> bool:
        """Whether the model runs in this process."""
        return not self.base_url and is_folder(self.model)

    @property
    def name(self) -> str:
        return Path(self.model).resolve().name if self.local else self.model

    @property
    def host(self) -> str:
        """Host and port, for display; never a user name or key that stands in the address. Empty for a model on this machine."""
        if self.local:
            return ""
        try:
            parts = urlsplit(self.base_url or OPENAI_URL)
            return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname or "?"
        except ValueError:
            return "?"

    def options(self, tools: Tools) -> dict[str, Any]:
        """What is asked for besides model, messages and tools. A local model is greedy, so it has no seed."""
        if self.local:
            return {"temperature": 0, "max_tokens": self.max_tokens or LOCAL_TOKENS}
        fixed = re.match(r"o\d|gpt-5", self.model)  # OpenAI's reasoning models refuse another temperature than their own
        wanted = {
            "temperature": None if fixed else 0,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            "tool_choice": "required" if tools else None,
        }
        return {name: value for name, value in wanted.items() if value is not None}


@dataclass
class Tally:
    """What a call has taken so far. tokens: (in, out) as the server counts them, None where it does not say."""

    seconds: float = 0.0
    length: int = 0
    finish: str = ""
    tokens: tuple[int, int] | None = None

    def add(self, chunk: Any) -> None:
        self.length += len(chunk.content) + sum(len(c.get("args") or c.get("name") or "") for c in chunk.tool_call_chunks)
        self.finish = str(chunk.response_metadata.get("finish_reason") or "") or self.finish
        if counted := chunk.usage_metadata:
            before = self.tokens or (0, 0)  # some servers send a running total with each piece
            self.tokens = max(before[0], counted["input_tokens"]), max(before[1], counted["output_tokens"])

    def usage(self, config: LLMConfig) -> Usage:
        sent, written = self.tokens or (0, 0)
        priced = self.tokens is not None and config.price_in is not None and config.price_out is not None
        cost = (sent * (config.price_in or 0.0) + written * (config.price_out or 0.0)) / 1e6 if priced else None
        return Usage(sent, written, cost, self.seconds, 1)


class Caller:
    """Calls of one model. chat: the LangChain model, made once by the one that hands it over; sleep: waits before another try."""

    def __init__(self, config: LLMConfig, chat: Callable[[], Any], sleep: Callable[[float], None] = time.sleep) -> None:
        self._config, self._chat, self._sleep = config, chat, sleep
        self._refused: frozenset[str] = frozenset()

    def chunks(self, messages: Messages, tools: Tools, tally: Tally) -> Generator[Any, None, None]:
        """The chunks of an answer, counted in `tally`, up to its end. Raises CallError for whatever goes wrong. What may pass is tried
        again, but not once something was said. Runs in a context of its own, where LangChain's tracing is off."""
        from biobridge_rag.qa.llm_http import limits

        context = untraced()
        deadline = time.monotonic() + self._config.limit_s
        context.run(limits.set, (deadline, self._config.limit_s))
        stream: Any = None
        try:
            stream, chunks = retrying(self._config.max_retries, deadline, self._sleep)(self._begin, context, messages, tools, tally)
            while chunks:
                chunk = chunks.pop(0)
                if not isinstance(chunk.content, str):
                    raise self.error("sent something that is no text", tally)
                tally.add(chunk)
                if tally.length > MAX_ANSWER:
                    raise self.error(f"did not stop after {MAX_ANSWER:,} characters", tally)
                yield chunk
                if not chunks and (following := _next(context, stream, tally)) is not None:
                    chunks.append(following)
        except CallError:
            raise
        except Exception as error:
            raise self.failed(error, tally, begun=True) from None
        finally:
            _close(context, stream)
        if tally.finish == "content_filter":
            raise self.error("held its answer back (content filter)", tally)
        if not tally.length:
            spent = " after all of its tokens" if tally.finish == "length" else ""
            raise self.error(f"sent an empty answer{spent}", tally)
        if not tally.finish:
            raise self.error("broke off before the end of its answer", tally)

    def _begin(self, context: contextvars.Context, messages: Messages, tools: Tools, tally: Tally) -> tuple[Iterator[Any], list[Any]]:
        """A stream, and its chunks up to the first that says something. Goes without what the server refuses and need not have."""
        refused = self._refused
        while True:
            stream: Any = None
            try:
                stream = context.run(self.open, self._chat(), messages, tools, refused)
                chunks: list[Any] = []
                while (chunk := _next(context, stream, tally)) is not None:
                    chunks.append(chunk)
                    if chunk.content or chunk.tool_call_chunks or chunk.response_metadata.get("finish_reason"):
                        break
                if refused > self._refused:
                    what = ", ".join(sorted(refused))
                    logging.getLogger(__name__).info("%s at %s is asked without %s.", self._config.name, self._config.host, what)
                    self._refused |= refused
                return stream, chunks
            except Exception as error:
                _close(context, stream)
                without = self._not_wanted(error, tools) - refused
                if not without:
                    raise self.failed(error, tally) from None
                refused |= without

    def _not_wanted(self, error: Exception, tools: Tools) -> frozenset[str]:
        """What the server's refusal names among what can be left out; where it names nothing, the option that many do not know."""
        if getattr(error, "status_code", None) not in (400, 422):
            return frozenset()
        said = f"{getattr(error, 'message', '')} {getattr(error, 'body', '')}".lower()
        sent = {"stream_options", *self._config.options(tools)}
        return frozenset(name for name in _OPTIONAL if name in sent and name in said) or frozenset({"stream_options"})

    def open(self, chat: Any, messages: Messages, tools: Tools, refused: frozenset[str] | None = None) -> Iterator[Any]:
        """The chunks of `chat`, asked without the options in `refused` (by default those that the server is known to refuse)."""
        refused = self._refused if refused is None else refused
        options = {name: value for name, value in self._config.options(tools).items() if name not in refused}
        most, choice = options.pop("max_tokens", None), options.pop("tool_choice", None)
        if self._config.local:
            options = {"max_tokens": most, "limit_s": self._config.limit_s}
        else:
            if most is not None:  # other servers know the name that OpenAI gave up
                at_openai = self._config.host == urlsplit(OPENAI_URL).hostname
                options |= {"max_tokens": most} if at_openai else {"extra_body": {"max_tokens": most}}
            if "stream_options" not in refused:
                options["stream_usage"] = True
        bound = chat.bind_tools(list(tools), **({"tool_choice": choice} if choice else {})) if tools else chat
        return bound.stream(list(messages), **options)

    def failed(self, error: Exception, tally: Tally, begun: bool = False) -> CallError:
        """The error to raise for what a library raised."""
        failure = failure_of(error, self._config.timeout_s, begun)
        if not failure.again:
            return self.error(failure.what, tally, failure.help)
        again = self.error(failure.what, tally, failure.help, Again)
        again.after, again.unreachable = failure.after, failure.unreachable
        return again

    def error(self, what: str, tally: Tally, help: str = "", kind: type[E] = CallError) -> E:  # type: ignore[assignment]
        config = self._config
        who = f"The local language model {config.name!r}" if config.local else f"The language model at {config.host}"
        usual = "Name another model." if config.local else "Check BIOBRIDGE_LLM_BASE_URL, BIOBRIDGE_LLM_MODEL and OPENAI_API_KEY."
        return kind(f"{who} {what.rstrip('.')}.", help or usual, tally.usage(config))


def is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except OSError:  # longer than a path may be, or not to be looked at
        return False


def untraced() -> contextvars.Context:
    """A copy of the context where LangChain's tracing is off."""
    import langsmith

    context = contextvars.copy_context()
    context.run(langsmith.tracing_context(enabled=False).__enter__)
    return context


def _next(context: contextvars.Context, stream: Iterator[Any], tally: Tally) -> Any:
    started = time.perf_counter()
    try:
        return context.run(next, stream, None)
    finally:
        tally.seconds += time.perf_counter() - started


def _close(context: contextvars.Context, stream: Any) -> None:
    if stream is not None:
        with contextlib.suppress(Exception):
            context.run(stream.close)
