"""The HTTP client of the language model: one pool of connections for all threads, with limits on every answer. Imports httpx.

Knows: httpx. Does not know: the chat protocol.
"""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable, Iterator

import httpx

from biobridge_rag.qa.llm_failures import Exceeded

MAX_BYTES = 16 << 20
# Until when, by time.monotonic, the answer of the current context may come in, and seconds to name when it does not.
limits: contextvars.ContextVar[tuple[float, float]] = contextvars.ContextVar("limits", default=(float("inf"), float("inf")))


def bounded_client(timeout_s: float) -> httpx.Client:
    """Waits timeout_s for each piece of an answer; raises Exceeded where the whole passes `limits` or MAX_BYTES, also where a server
    sends much that is no piece of an answer. Follows no redirection: what is sent goes to the host that was named."""
    pool = httpx.Limits(max_connections=None, max_keepalive_connections=32)
    return httpx.Client(timeout=timeout_s, limits=pool, event_hooks={"response": [_bound]})


def capturing_client(keep: Callable[[httpx.Request], None]) -> httpx.Client:
    """Sends nothing: hands the request over and fails as an unreachable server does."""

    def handle(request: httpx.Request) -> httpx.Response:
        keep(request)
        raise httpx.ConnectError("nothing is sent")

    return httpx.Client(transport=httpx.MockTransport(handle))


def _bound(response: httpx.Response) -> None:
    assert isinstance(response.stream, httpx.SyncByteStream)
    page = response.is_success and "text/html" in response.headers.get("content-type", "").lower()
    response.stream = _Bounded(response.stream, *limits.get(), page)


class _Bounded(httpx.SyncByteStream):
    def __init__(self, raw: httpx.SyncByteStream, deadline: float, limit_s: float, page: bool) -> None:
        self._raw, self._deadline, self._limit_s, self._page = raw, deadline, limit_s, page

    def __iter__(self) -> Iterator[bytes]:
        if self._page:
            raise Exceeded("sent a web page, which is no answer")
        size = 0
        for block in self._raw:
            size += len(block)
            if size > MAX_BYTES:
                raise Exceeded(f"did not stop after {MAX_BYTES:,} bytes")
            if time.monotonic() > self._deadline:
                raise Exceeded(f"was not done after {self._limit_s:g} seconds")
            yield block

    def close(self) -> None:
        self._raw.close()
