"""The language model over a stub server: a good stream, and every failure as one line that never holds the key."""

from __future__ import annotations

import socket
import traceback
from typing import Any

import pytest

from biobridge_rag.errors import LLMError
from biobridge_rag.qa.llm import LanguageModel, LLMConfig
from tests.qa.openai_server import OpenAIServer

KEY = "sk-test-7f3a91"
MESSAGES = [("system", "rules"), ("user", "question")]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "OPENAI_PROXY"):
        monkeypatch.delenv(name, raising=False)


def model(url: str, **kw: Any) -> LanguageModel:
    return LanguageModel(LLMConfig(**({"model": "tiny", "base_url": url, "api_key": KEY, "timeout_s": 2.0, "max_retries": 0} | kw)))


def test_a_good_stream_comes_in_pieces_with_key_and_messages() -> None:
    with OpenAIServer(pieces=["EGFR ", "is [1]", "."]) as server:
        assert list(model(server.url).stream(MESSAGES)) == ["EGFR ", "is [1]", "."]
    (request,) = server.requests
    assert request["path"] == "/v1/chat/completions" and request["model"] == "tiny" and request["stream"] is True
    assert request["messages"] == [{"role": "system", "content": "rules"}, {"role": "user", "content": "question"}]
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


FAILURES = [
    ("status", {"status": 401}, "answered 401 (the key was not accepted)"),
    ("status", {"status": 404}, "answered 404 (no such model or address)"),
    ("status", {"status": 429}, "answered 429 (too many requests)"),
    ("status", {"status": 500}, "answered 500 (an error of the server)"),
    ("garbage", {}, "sent something that is no answer"),
    ("html", {}, "sent something that is no answer"),
    ("empty", {}, "sent an empty answer"),
    ("cut_off", {}, "broke off before the end of its answer"),
    ("no_finish", {}, "broke off before the end of its answer"),
    ("endless", {}, "did not stop after 20,000 characters"),
]


@pytest.mark.parametrize(("mode", "options", "what"), FAILURES)
def test_each_failure_is_one_line_without_the_key(mode: str, options: dict[str, Any], what: str) -> None:
    with OpenAIServer(mode, body=f"Incorrect API key provided: {KEY}", **options) as server:
        language_model = model(server.url)
        with pytest.raises(LLMError) as error:
            list(language_model.stream(MESSAGES))
    assert error.value.message.startswith(f"The language model at {language_model.host} {what}") and "\n" not in str(error.value)
    assert KEY not in "".join(traceback.format_exception(error.value))


def test_time_out() -> None:
    with OpenAIServer("slow") as server, pytest.raises(LLMError, match=r"did not answer within 0\.3 seconds"):
        list(model(server.url, timeout_s=0.3).stream(MESSAGES))


def test_refused_and_malformed_addresses() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(LLMError, match=f"at 127.0.0.1:{port} could not be reached"):
        list(model(f"http://127.0.0.1:{port}/v1").stream(MESSAGES))
    for url in ("no address", "http://[::1", "ftp://x"):
        with pytest.raises(LLMError):
            list(model(url).stream(MESSAGES))


def test_what_came_before_a_break_was_streamed() -> None:
    seen = []
    with OpenAIServer("cut_off", pieces=["one ", "two "]) as server, pytest.raises(LLMError):
        for piece in model(server.url).stream(MESSAGES):
            seen.append(piece)
    assert "".join(seen).startswith("one")


def test_too_many_requests_is_tried_again() -> None:
    with OpenAIServer("status", status=500) as server, pytest.raises(LLMError):
        list(model(server.url, max_retries=1).stream(MESSAGES))
    assert len(server.requests) == 2


def test_key_is_nowhere_to_be_read() -> None:
    config = LLMConfig("tiny", f"http://user:{KEY}@127.0.0.1:1/v1", KEY)
    assert KEY not in repr(LanguageModel(config)) and LanguageModel(config).host == "127.0.0.1:1"
    assert KEY not in repr(LLMConfig("tiny", "http://x/v1", KEY))
    assert LanguageModel(LLMConfig("gpt")).host == "api.openai.com"


def test_nothing_is_traced_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with OpenAIServer("status", status=500) as collector, OpenAIServer() as server:
        monkeypatch.setenv("LANGSMITH_TRACING", "true")
        monkeypatch.setenv("LANGCHAIN_TRACING_V2", "true")
        monkeypatch.setenv("LANGSMITH_API_KEY", "x")
        monkeypatch.setenv("LANGSMITH_ENDPOINT", collector.url)
        assert "".join(model(server.url).stream(MESSAGES)) == "Hello world."
        from langchain_core.tracers.langchain import wait_for_all_tracers

        wait_for_all_tracers()
    assert collector.requests == []


def test_an_answer_left_early_closes_the_connection() -> None:
    with OpenAIServer("endless") as server:
        stream = model(server.url).stream(MESSAGES)
        assert next(stream)
        stream.close()
