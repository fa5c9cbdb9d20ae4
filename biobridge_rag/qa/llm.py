"""The language model: any server that speaks the OpenAI chat protocol, through LangChain. The only user of its chat models.

Knows: LangChain's ChatOpenAI and how its calls fail. Does not know: prompts, evidence, the environment. What a server writes
about an error is not shown, since it may hold the key.
"""

from __future__ import annotations

import contextvars
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from biobridge_rag.errors import LLMError

OPENAI_URL = "https://api.openai.com/v1"
MAX_ANSWER = 20_000
_MEANINGS = {
    400: "bad request",
    401: "the key was not accepted",
    403: "not allowed with this key",
    404: "no such model or address",
    408: "time-out",
    413: "the prompt is too long",
    422: "bad request",
    429: "too many requests",
    500: "an error of the server",
    502: "an error of the server",
    503: "the server is busy",
    504: "time-out of the server",
}


@dataclass(frozen=True, slots=True)
class LLMConfig:
    """Which model, where (empty: OpenAI), with which key (local servers need none), how long to wait for each piece, in seconds."""

    model: str
    base_url: str = ""
    api_key: str = field(default="", repr=False)
    timeout_s: float = 60.0
    max_retries: int = 1


class LanguageModel:
    """A chat model; building it connects to nothing."""

    def __init__(self, config: LLMConfig) -> None:
        self._config = config

    def __repr__(self) -> str:
        return f"LanguageModel({self.model!r} at {self.host!r})"

    @property
    def model(self) -> str:
        return self._config.model

    @property
    def host(self) -> str:
        """Host and port, for display; never a user name or key that stands in the address."""
        try:
            parts = urlsplit(self._config.base_url or OPENAI_URL)
            return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname or "?"
        except ValueError:
            return "?"

    def stream(self, messages: Sequence[tuple[str, str]]) -> Iterator[str]:
        """The answer to (role, text) messages, piece by piece.

        Raises LLMError, of one line, for whatever goes wrong: refused, not authorised, too many requests, an error of the
        server, time-out, an answer that is garbage, empty, endless, or broken off before its end.
        """
        pieces, length, finished = self._pieces(messages), 0, False
        try:
            for text, finish in pieces:
                finished = finished or bool(finish)
                length += len(text)
                if length > MAX_ANSWER:
                    raise self._error(f"did not stop after {MAX_ANSWER:,} characters")
                if text:
                    yield text
        finally:
            pieces.close()
        if not length:
            raise self._error("sent an empty answer")
        if not finished:
            raise self._error("broke off before the end of its answer")

    def _pieces(self, messages: Sequence[tuple[str, str]]) -> Any:
        """(text, finish reason or "") of each chunk. Runs in a context of its own, where LangChain's tracing is off."""
        import langsmith

        context = contextvars.copy_context()
        context.run(langsmith.tracing_context(enabled=False).__enter__)
        stream: Any = None
        begun = False
        try:
            stream = context.run(self._client().stream, list(messages))
            while (chunk := context.run(next, stream, None)) is not None:
                if not isinstance(chunk.content, str):
                    raise self._error("sent something that is no text")
                begun = True
                yield chunk.content, str(chunk.response_metadata.get("finish_reason") or "")
        except LLMError:
            raise
        except Exception as error:
            raise self._error(_what_happened(error, self._config.timeout_s, begun)) from None
        finally:
            if stream is not None:
                context.run(stream.close)

    def _client(self) -> Any:
        from langchain_openai import ChatOpenAI
        from pydantic import SecretStr

        return ChatOpenAI(
            model=self._config.model,
            base_url=self._config.base_url or OPENAI_URL,
            api_key=SecretStr(self._config.api_key or "none"),
            timeout=self._config.timeout_s,
            max_retries=self._config.max_retries,
            temperature=None if re.match(r"o\d", self._config.model) else 0,  # OpenAI's reasoning models refuse 0
            streaming=True,
            use_responses_api=False,
            stream_usage=False,
        )

    def _error(self, what: str) -> LLMError:
        return LLMError(
            f"The language model at {self.host} {what}.", "Check BIOBRIDGE_LLM_BASE_URL, BIOBRIDGE_LLM_MODEL and OPENAI_API_KEY."
        )


def _what_happened(error: Exception, timeout_s: float, begun: bool) -> str:
    import httpx
    import openai

    if isinstance(error, openai.APIStatusError):
        status = error.status_code
        return f"answered {status} ({_MEANINGS.get(status, 'an error of the server' if status >= 500 else 'not accepted')})"
    if isinstance(error, openai.APITimeoutError | httpx.TimeoutException):
        return (
            f"fell silent for {timeout_s:g} seconds in the middle of its answer"
            if begun
            else f"did not answer within {timeout_s:g} seconds"
        )
    if isinstance(error, openai.APIConnectionError | httpx.TransportError | httpx.InvalidURL):
        return "broke off before the end of its answer" if begun else "could not be reached"
    return f"sent something that is no answer ({type(error).__name__})"
