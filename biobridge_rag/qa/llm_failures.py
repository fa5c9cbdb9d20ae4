"""What went wrong with a call to a language model, in words, and whether another try is worth it.

Knows: errors of the OpenAI client and of HTTP clients by the names of their classes, status codes, tenacity. Does not know: models,
messages, addresses.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from biobridge_rag.errors import BiobridgeError
from biobridge_rag.fetching.http import seconds_to_wait
from biobridge_rag.qa.chat import CallError

if TYPE_CHECKING:
    from tenacity import RetryCallState

LONGEST_WAIT = 60.0  # seconds before another try, however long a server asks for
UNREACHABLE_TRIES = 2
_WORTH_ANOTHER = frozenset({408, 409, 429})
_MEANINGS = {
    400: "bad request",
    401: "the key was not accepted",
    402: "the account has no credit",
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
_CODES = {"insufficient_quota": "the account has no credit", "context_length_exceeded": "the prompt is too long"}


class Exceeded(Exception):
    """A limit was passed, or what comes cannot be an answer; its text goes on from "The language model"."""


class Again(CallError):
    """A failure that another try may not meet. after: seconds that the server asks to wait."""

    after = 0.0
    unreachable = False


@dataclass(frozen=True, slots=True)
class Failure:
    """what: goes on from "The language model at HOST"; help: another than the usual."""

    what: str
    help: str = ""
    again: bool = False
    after: float = 0.0
    unreachable: bool = False


def failure_of(error: Exception, timeout_s: float, begun: bool) -> Failure:
    """begun: whether a part of the answer had come."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    status = getattr(error, "status_code", None)
    if isinstance(error, BiobridgeError):
        return Failure(f"cannot be used: {error.message}", error.help)
    if isinstance(error, Exceeded):
        return Failure(str(error))
    if isinstance(status, int):
        code = _CODES.get(str(getattr(error, "code", "")))
        meaning = _MEANINGS.get(status, "an error of the server" if status >= 500 else "not accepted")
        again = code is None and (status in _WORTH_ANOTHER or status >= 500)
        return Failure(f"answered {status} ({code or meaning})", again=again and not begun, after=_asked_to_wait(error))
    if kinds & {"APITimeoutError", "TimeoutException"}:
        if begun:
            return Failure(f"fell silent for {timeout_s:g} seconds in the middle of its answer")
        return Failure(f"did not answer within {timeout_s:g} seconds")
    if _caused(error) & {"InvalidURL", "UnsupportedProtocol"}:
        return Failure("could not be reached: its address is not one")
    if kinds & {"APIConnectionError", "TransportError"}:
        if begun:
            return Failure("broke off before the end of its answer")
        unreachable = bool(_caused(error) & {"ConnectError", "ConnectTimeout", "ProxyError"})
        return Failure("could not be reached" if unreachable else "broke the connection off", again=True, unreachable=unreachable)
    if "No generation chunks" in str(error):  # LangChain's words for a stream without events
        return Failure("sent an empty answer")
    return Failure(f"sent something that is no answer ({type(error).__name__})")


def _caused(error: BaseException | None) -> set[str]:
    """Names of the classes of an error and of what it came from."""
    names = set[str]()
    while error is not None and type(error).__name__ not in names:
        names.add(type(error).__name__)
        error = error.__cause__
    return names


def _asked_to_wait(error: Any) -> float:
    headers = getattr(getattr(error, "response", None), "headers", {})
    return seconds_to_wait(headers.get("retry-after", ""))


def retrying(most: int, deadline: float, sleep: Callable[[float], None]) -> Any:
    """Calls a function, and calls it again where it raises Again: `most` times more, not past the deadline (of time.monotonic), once
    more where the server is not there. Waits as long as the server asks, at most LONGEST_WAIT, and a random time that doubles
    (full jitter). Raises the last error."""
    from tenacity import Retrying, retry_if_exception_type, wait_random_exponential

    back_off = wait_random_exponential(multiplier=0.5, max=20)

    def wait(state: RetryCallState) -> float:
        return min(_again(state).after, LONGEST_WAIT) + float(back_off(state))

    def stop(state: RetryCallState) -> bool:
        tries = min(most, UNREACHABLE_TRIES - 1) if _again(state).unreachable else most
        return state.attempt_number > tries or time.monotonic() + state.upcoming_sleep > deadline

    return Retrying(retry=retry_if_exception_type(Again), wait=wait, stop=stop, sleep=sleep, reraise=True)


def _again(state: RetryCallState) -> Again:
    error = state.outcome.exception() if state.outcome is not None else None
    assert isinstance(error, Again)
    return error
