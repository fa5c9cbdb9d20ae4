"""Asks servers over HTTP: at an agreed pace, retried with patience, and quick to say that there is no network.

Knows: httpx, tenacity, status codes. Does not know: files, what is fetched, from whom, under which licence.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from biobridge_rag import __version__
from biobridge_rag.errors import BiobridgeError, FetchError

if TYPE_CHECKING:
    import httpx
    from tenacity import RetryCallState

T = TypeVar("T")

USER_AGENT = f"biobridge-rag/{__version__}"
CONNECT_SECONDS = 5.0
READ_SECONDS = 60.0
TRIES = 6
UNREACHABLE_TRIES = 2
# Where saying so took longer than this (a name server that does not answer), there is no second try.
UNREACHABLE_SECONDS = 3.0
LONGEST_WAIT = 120.0
MAX_ANSWER = 64 << 20
_WORTH_ANOTHER = frozenset({408, 429, 500, 502, 503, 504})
GO_ON = "Run the same command again: it goes on where it stopped."
_NO_NETWORK = f"Check the network and, behind a proxy, HTTPS_PROXY. {GO_ON}"


class AnswerError(FetchError):
    """A server's refusal. status: of HTTP; body: how the answer begins."""

    def __init__(self, message: str, help: str, status: int, body: str) -> None:
        super().__init__(message, help)
        self.status = status
        self.body = body


class Again(Exception):
    """An attempt that failed in a way that another may not. after: seconds that the server asks to wait."""

    def __init__(self, error: BiobridgeError, after: float = 0.0, unreachable: bool = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.after = after
        self.unreachable = unreachable


@dataclass(frozen=True)
class Answer:
    """An answer's content (parsed JSON or text), its headers in lower case, and the address of the next page where there is one."""

    content: Any
    headers: Mapping[str, str]
    next: str | None = None


class Http:
    """A client for one service.

    per_second: at most so many requests start in a second. rest_after: from an answer's headers (names in lower case), seconds to
    leave the server in peace. sleep, clock and transport are there for tests. Proxies come from the environment, as httpx reads it.
    """

    def __init__(
        self,
        *,
        per_second: float | None = None,
        rest_after: Callable[[Mapping[str, str]], float] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        import httpx

        self.sleep = sleep
        self._clock = clock
        self._interval = 1 / per_second if per_second else 0.0
        self._rest_after = rest_after
        self._not_before = 0.0
        try:
            self._client = httpx.Client(
                headers={"User-Agent": USER_AGENT},
                follow_redirects=True,
                max_redirects=10,
                timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
                transport=transport,
                event_hooks={"response": [_refuse_unsafe_redirect]},
            )
        except (ImportError, ValueError, httpx.InvalidURL) as error:
            raise FetchError(f"The proxy of the environment cannot be used: {_line(error)}.", "Check HTTPS_PROXY and ALL_PROXY.") from error

    def __enter__(self) -> Http:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def get_json(
        self, url: str, params: Mapping[str, str] | None = None, form: Mapping[str, str] | None = None, max_bytes: int = MAX_ANSWER
    ) -> Answer:
        """The JSON at `url`; with `form`, the answer to posting it. Raises FetchError in one line."""
        body, answer = self._ask(url, params, form, max_bytes)
        try:
            return Answer(json.loads(body), answer.headers, answer.next)
        except ValueError as error:
            raise FetchError(
                f"{_host(url)} answers with something that is not JSON.",
                "A login page of the network may stand in between; look in a browser.",
            ) from error

    def get_text(self, url: str, params: Mapping[str, str] | None = None, max_bytes: int = MAX_ANSWER) -> Answer:
        """The UTF-8 text at `url`. Raises FetchError in one line."""
        body, answer = self._ask(url, params, None, max_bytes)
        try:
            return Answer(body.decode("utf-8-sig"), answer.headers, answer.next)
        except UnicodeDecodeError as error:
            raise FetchError(f"{short(url)} is not text in UTF-8.") from error

    def _ask(self, url: str, params: Mapping[str, str] | None, form: Mapping[str, str] | None, max_bytes: int) -> tuple[bytes, Answer]:
        def attempt() -> tuple[bytes, Answer]:
            body = bytearray()
            with self.stream("POST" if form is not None else "GET", url, params=params, data=form) as response:
                check_answer(response)
                for block in response.iter_bytes():
                    body += block
                    if len(body) > max_bytes:
                        raise FetchError(f"The answer of {short(url)} is longer than {max_bytes:,} bytes.")
                link = response.links.get("next", {}).get("url")
                following = str(response.url.join(link)) if link else None
                return bytes(body), Answer(None, {k.lower(): v for k, v in response.headers.items()}, following)

        try:
            return self.patiently(attempt)
        except Again as again:
            raise again.error from again

    @contextmanager
    def stream(self, method: str, url: str, **given: Any) -> Iterator[httpx.Response]:
        """One request at the agreed pace; whatever goes wrong with the network becomes Again or FetchError."""
        import httpx

        if (wait := self._not_before - self._clock()) > 0:
            self.sleep(wait)
        self._not_before = self._clock() + self._interval
        try:
            with self._client.stream(method, url, **given) as response:
                if self._rest_after is not None:
                    rest = self._rest_after({k.lower(): v for k, v in response.headers.items()})
                    self._not_before = max(self._not_before, self._clock() + min(rest, LONGEST_WAIT))
                yield response
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            why = _line(error)
            if "CERTIFICATE" in why.upper():
                raise FetchError(
                    f"{_host(url)} shows a certificate that is not trusted: {why}.", "Check the clock and the proxy."
                ) from error
            unreachable = FetchError(f"{_host(url)} cannot be reached: {why}.", _NO_NETWORK)
            raise Again(unreachable, unreachable=True) from error
        except (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.DecodingError) as error:
            raise Again(FetchError(f"The connection to {_host(url)} broke off: {_line(error)}.", GO_ON)) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise FetchError(f"{short(url)} cannot be fetched: {_line(error)}.") from error

    def patiently(self, attempt: Callable[[], T]) -> T:
        """Tries with exponential back-off and jitter; raises the last Again."""
        from tenacity import Retrying, retry_if_exception_type, wait_exponential_jitter

        back_off = wait_exponential_jitter(initial=1, max=30, jitter=1)

        def wait(state: RetryCallState) -> float:
            again = _again(state)
            return 0.5 if again.unreachable else min(max(again.after, back_off(state)), LONGEST_WAIT)

        def stop(state: RetryCallState) -> bool:
            if not _again(state).unreachable:
                return state.attempt_number >= TRIES
            return state.attempt_number >= UNREACHABLE_TRIES or (state.seconds_since_start or 0.0) > UNREACHABLE_SECONDS

        return Retrying(retry=retry_if_exception_type(Again), wait=wait, stop=stop, sleep=self.sleep, reraise=True)(attempt)


def check_answer(response: httpx.Response) -> None:
    """Raises Again or AnswerError unless the answer is a success."""
    status, url = response.status_code, str(response.url)
    if 200 <= status < 300:
        return
    body = next(response.iter_bytes(4096), b"").decode(errors="replace")
    if status in _WORTH_ANOTHER:
        error = AnswerError(f"{_host(url)} is busy or down (HTTP {status}).", f"Try again later. {GO_ON}", status, body)
        raise Again(error, seconds_to_wait(response.headers.get("Retry-After", "")))
    if status in (404, 410):
        raise AnswerError(f"{short(url)} has gone (HTTP {status}).", "It may have moved: look on the site.", status, body)
    if status in (401, 403):
        raise AnswerError(f"{_host(url)} does not give {short(url)} to everyone (HTTP {status}).", "It may need an account.", status, body)
    raise AnswerError(f"{_host(url)} refuses {short(url)} (HTTP {status} {response.reason_phrase}).", "", status, body)


def _refuse_unsafe_redirect(response: httpx.Response) -> None:
    if response.has_redirect_location:
        to = response.url.join(response.headers["Location"])
        if to.scheme not in ("http", "https") or (response.url.scheme == "https" and to.scheme == "http"):
            raise FetchError(f"{response.url.host} sends to {short(str(to))}, which is not followed: it is less safe.")


def seconds_to_wait(retry_after: str) -> float:
    """A Retry-After header (seconds or a date) in seconds; 0 for none."""
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0


def _again(state: RetryCallState) -> Again:
    error = state.outcome.exception() if state.outcome is not None else None
    assert isinstance(error, Again)
    return error


def _host(url: str) -> str:
    return re.sub(r"^\w+://([^/?#]*@)?([^/?#]*).*$", r"\2", url)


def short(url: str) -> str:
    """An address without its query, which may hold a signature."""
    plain = re.sub(r"[?#].*$", "", url)
    return plain if len(plain) <= 120 else plain[:117] + "..."


def _line(error: BaseException) -> str:
    text = re.sub(r"^\[Errno -?\d+\] ", "", " ".join(str(error).split()))
    return (text or type(error).__name__).rstrip(".")[:160]
