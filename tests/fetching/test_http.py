"""Asking servers: what is tried again and how often, what is told at once, pace, redirects, limits."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from biobridge_rag.errors import BiobridgeError, FetchError
from biobridge_rag.fetching import http as module
from biobridge_rag.fetching.http import LONGEST_WAIT, TRIES, AnswerError, Http
from tests.fetching.conftest import Reply, Server

OK = Reply(b'{"a": 1}')


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again_with_growing_patience(server: Server, status: int) -> None:
    waits: list[float] = []
    url = server.on("/x", Reply(status=status), Reply(status=status), Reply(status=status), OK)
    assert Http(sleep=waits.append).get_json(url).content == {"a": 1}
    assert len(server.asked) == 4 and len(waits) == 3
    assert 1 <= waits[0] <= 2 and 2 <= waits[1] <= 3 and 4 <= waits[2] <= 5
    assert server.asked[0].headers["user-agent"].startswith("biobridge-rag/")


def test_a_server_that_stays_busy_is_given_up(server: Server) -> None:
    waits: list[float] = []
    with pytest.raises(AnswerError, match=r"127\.0\.0\.1:\d+ is busy or down \(HTTP 503\)") as caught:
        Http(sleep=waits.append).get_json(server.on("/x", Reply(b"later", 503)))
    assert len(server.asked) == TRIES and len(waits) == TRIES - 1 and caught.value.body == "later" and caught.value.status == 503


@pytest.mark.parametrize(
    ("stated", "least", "most"),
    [
        ("7", 7, 7),
        ("86400", LONGEST_WAIT, LONGEST_WAIT),
        (timedelta(seconds=60), 30, 60),
        ("soon", 1, 2),
        (timedelta(hours=-1), 1, 2),
    ],
    ids=["seconds", "capped", "date", "nonsense", "past"],
)
def test_retry_after_is_honoured(server: Server, stated: str | timedelta, least: float, most: float) -> None:
    """Seconds, or a date, which is that of now and some time."""
    if isinstance(stated, timedelta):
        stated = format_datetime(datetime.now(UTC) + stated, usegmt=True)
    waits: list[float] = []
    Http(sleep=waits.append).get_json(server.on("/x", Reply(status=429, headers={"Retry-After": stated}), OK))
    assert len(waits) == 1 and least <= waits[0] <= most


@pytest.mark.parametrize(("status", "words"), [(404, "has gone"), (410, "has gone"), (403, "does not give"), (400, "refuses")])
def test_other_refusals_are_final(server: Server, status: int, words: str) -> None:
    with pytest.raises(AnswerError, match=words) as caught:
        Http(sleep=lambda _: pytest.fail("waited")).get_json(server.on("/x", Reply(b"why", status)) + "?secret=1")
    assert len(server.asked) == 1 and "\n" not in str(caught.value) and "secret" not in str(caught.value) and caught.value.body == "why"


def test_a_truncated_answer_is_asked_for_again(server: Server) -> None:
    url = server.on("/x", Reply(b'{"a": 1}', cut=3), OK)
    assert Http(sleep=lambda _: None).get_json(url).content == {"a": 1} and len(server.asked) == 2


def test_a_refused_connection_is_told_after_two_tries() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        waits: list[float] = []
        with pytest.raises(FetchError, match=r"127\.0\.0\.1:\d+ cannot be reached") as caught:
            Http(sleep=waits.append).get_json(f"http://127.0.0.1:{taken.getsockname()[1]}/x")
    assert waits == [0.5] and "HTTPS_PROXY" in caught.value.help


def failing(error: Callable[[str], Exception], tries: list[str]) -> httpx.MockTransport:
    def handle(request: httpx.Request) -> httpx.Response:
        tries.append(str(request.url))
        raise error("it failed")

    return httpx.MockTransport(handle)


@pytest.mark.parametrize(
    ("error", "n"),
    [
        (httpx.ConnectError, 2),
        (httpx.ConnectTimeout, 2),
        (httpx.ProxyError, 2),
        (httpx.ReadTimeout, TRIES),
        (httpx.ReadError, TRIES),
        (httpx.RemoteProtocolError, TRIES),
        (httpx.UnsupportedProtocol, 1),
        (lambda why: httpx.ConnectError(f"[SSL: CERTIFICATE_VERIFY_FAILED] {why}"), 1),
    ],
)
def test_how_often_a_failure_is_tried(error: Callable[[str], Exception], n: int) -> None:
    tries: list[str] = []
    with pytest.raises(FetchError):
        Http(sleep=lambda _: None, transport=failing(error, tries)).get_json("https://example.org/x")
    assert len(tries) == n


def test_a_slow_name_server_is_not_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNREACHABLE_SECONDS", -1)
    tries: list[str] = []
    with pytest.raises(FetchError, match="cannot be reached"):
        Http(sleep=lambda _: None, transport=failing(httpx.ConnectError, tries)).get_json("https://example.org/x")
    assert len(tries) == 1


@pytest.mark.parametrize(
    ("first", "to", "followed"),
    [
        ("https://a.org/x", "https://b.org/y", True),
        ("http://a.org/x", "https://b.org/y", True),
        ("http://a.org/x", "http://b.org/y", True),
        ("https://a.org/x", "/y", True),
        ("https://a.org/x", "http://a.org/y", False),
        ("https://a.org/x", "file:///etc/passwd", False),
        ("http://a.org/x", "ftp://a.org/y", False),
    ],
)
def test_redirects_never_become_less_safe(first: str, to: str, followed: bool) -> None:
    visited: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        visited.append(str(request.url))
        return httpx.Response(302, headers={"Location": to}) if len(visited) == 1 else httpx.Response(200, json=[])

    client = Http(transport=httpx.MockTransport(handle), sleep=lambda _: pytest.fail("waited"))
    if followed:
        assert client.get_json(first).content == [] and len(visited) == 2
    else:
        with pytest.raises(FetchError, match="not followed"):
            client.get_json(first)
        assert len(visited) == 1


def test_answers_are_limited_and_checked(server: Server) -> None:
    client = Http(sleep=lambda _: pytest.fail("waited"))
    long, page, binary = (
        server.on("/long", Reply(b"[" + b"1," * 999 + b"1]")),
        server.on("/page", Reply(b"<html>")),
        server.on("/b", Reply(b"\xff")),
    )
    assert len(client.get_json(long).content) == 1000
    with pytest.raises(FetchError, match=r"longer than 1,000 bytes"):
        client.get_json(long, max_bytes=1000)
    with pytest.raises(FetchError, match="not JSON"):
        client.get_json(page)
    assert client.get_text(page).content == "<html>"
    with pytest.raises(FetchError, match="not text"):
        client.get_text(binary)


def test_the_next_page_is_read_from_the_link_header(server: Server) -> None:
    url = server.on("/x", Reply(b"[]", headers={"Link": '</x?cursor=abc&size=2>; rel="next"'}), OK)
    client = Http()
    answer = client.get_json(url, {"size": "2"})
    assert answer.next == url + "?cursor=abc&size=2" and client.get_json(answer.next).next is None
    assert [a.query for a in server.asked] == [{"size": "2"}, {"cursor": "abc", "size": "2"}]


def paced(server: Server, **given: Any) -> tuple[Http, Callable[[], float]]:
    now = [100.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    return Http(sleep=sleep, clock=lambda: now[0], **given), lambda: now[0] - 100


def test_requests_keep_their_pace(server: Server) -> None:
    client, elapsed = paced(server, per_second=4)
    for _ in range(5):
        client.get_json(server.on("/x", OK))
    assert elapsed() == pytest.approx(1.0)


def test_a_server_that_asks_for_rest_gets_it(server: Server) -> None:
    client, elapsed = paced(server, rest_after=lambda headers: float(headers.get("x-rest", 0)))
    url = server.on("/x", Reply(b"{}", headers={"X-Rest": "9"}), OK)
    client.get_json(url)
    assert elapsed() == 0
    client.get_json(url)
    assert elapsed() == pytest.approx(9)
    client.get_json(url)
    assert elapsed() == pytest.approx(9)


def test_proxies_of_the_environment_are_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    server.on("/x", OK)
    assert Http().get_json("http://nowhere.invalid/x").content == {"a": 1} and server.asked[0].headers["host"] == "nowhere.invalid"
    monkeypatch.setenv("HTTP_PROXY", "gopher://127.0.0.1:1")
    with pytest.raises(FetchError, match="The proxy of the environment cannot be used"):
        Http()


def test_a_form_is_posted(server: Server) -> None:
    url = server.on("/x", lambda asked: Reply(json.dumps(asked.form).encode()))
    assert Http().get_json(url, form={"ids": "1,2", "from": "GeneID"}).content == {"ids": "1,2", "from": "GeneID"}
    assert server.asked[0].method == "POST" and issubclass(FetchError, BiobridgeError)
