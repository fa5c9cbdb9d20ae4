"""The language model over a stub server: a good stream, and every failure as one line that never holds the key."""

from __future__ import annotations

import json
import socket
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from biobridge_rag.errors import InputError, LLMError
from biobridge_rag.qa import llm_http
from biobridge_rag.qa.llm import CallError, DryRun, LanguageModel, LLMConfig, NotSent, make_llm
from biobridge_rag.types import Usage
from tests.qa.openai_server import OpenAIServer

KEY = "sk-test-7f3a91"
MESSAGES = [("system", "rules"), ("user", "question")]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "OPENAI_PROXY"):
        monkeypatch.delenv(name, raising=False)


def model(url: str, sleep: Any = time.sleep, **kw: Any) -> LanguageModel:
    values = {"model": "tiny", "base_url": url, "api_key": KEY, "timeout_s": 5.0, "max_retries": 0} | kw
    return LanguageModel(LLMConfig(**values), sleep=sleep)


def text_of(language_model: LanguageModel, messages: Sequence[tuple[str, str]] = MESSAGES) -> str:
    return "".join(language_model.stream(messages))


class Lookup(BaseModel):
    """Looks a name up."""

    name: str


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
    ("html", {}, "sent a web page, which is no answer"),
    ("wrong_json", {}, "sent something that is no answer"),
    ("error_event", {}, "sent something that is no answer"),
    ("empty", {}, "sent an empty answer."),
    ("nothing", {}, "sent an empty answer."),
    ("spent", {}, "sent an empty answer after all of its tokens."),
    ("filtered", {}, "held its answer back (content filter)"),
    ("drop", {}, "broke the connection off"),
    ("stall", {}, "fell silent for 0.3 seconds in the middle of its answer"),
    ("status", {"status": 307, "headers": {"location": "http://127.0.0.1:9/v1/chat/completions"}}, "answered 307 (not accepted)"),
    ("status", {"status": 429, "code": "insufficient_quota"}, "answered 429 (the account has no credit)"),
    ("status", {"status": 400, "code": "context_length_exceeded"}, "answered 400 (the prompt is too long)"),
    ("cut_off", {}, "broke off before the end of its answer"),
    ("no_finish", {}, "broke off before the end of its answer"),
    ("endless", {}, "did not stop after 20,000 characters"),
]


@pytest.mark.parametrize(("mode", "options", "what"), FAILURES)
def test_each_failure_is_one_line_without_the_key(mode: str, options: dict[str, Any], what: str) -> None:
    with OpenAIServer(mode, body=f"Incorrect API key provided: {KEY}", **options) as server:
        language_model = model(server.url, timeout_s=0.3)
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


class Sleeps(list[float]):
    """In place of time.sleep."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.mark.parametrize("first", [408, 409, 429, 500, 502, 503, 529, "drop"])
def test_what_may_pass_is_tried_again(first: int | str) -> None:
    sleeps = Sleeps()
    with OpenAIServer(before=[first, first]) as server:
        assert text_of(model(server.url, sleep=sleeps, max_retries=2)) == "Hello world."
    assert len(server.requests) == 3 and len(sleeps) == 2 and all(0 <= s <= 1.0 for s in sleeps)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 501])
def test_no_more_tries_than_allowed_and_none_where_it_is_no_use(status: int) -> None:
    sleeps = Sleeps()
    with OpenAIServer("status", status=status) as server, pytest.raises(LLMError):
        text_of(model(server.url, sleep=sleeps, max_retries=2))
    assert len(server.requests) == {400: 2, 422: 2, 501: 3}.get(status, 1)  # 400 and 422: once more without stream_options


def test_no_more_tries_without_credit() -> None:
    with OpenAIServer("status", status=429, code="insufficient_quota") as server, pytest.raises(LLMError):
        text_of(model(server.url, max_retries=5))
    assert len(server.requests) == 1


@pytest.mark.parametrize(("asked", "least", "most"), [("3", 3, 4), ("999999", 60, 61), ("x", 0, 1), ("-5", 0, 1)])
def test_the_server_says_how_long_to_wait(asked: str, least: float, most: float) -> None:
    sleeps = Sleeps()
    with OpenAIServer(before=[(429, {"retry-after": asked})]) as server:
        assert text_of(model(server.url, sleep=sleeps, max_retries=2)) == "Hello world."
    assert len(sleeps) == 1 and least <= sleeps[0] <= most


def test_no_wait_past_the_limit() -> None:
    sleeps = Sleeps()
    with OpenAIServer(before=[(429, {"retry-after": "50"})]) as server, pytest.raises(LLMError, match="answered 429"):
        text_of(model(server.url, sleep=sleeps, max_retries=2, limit_s=20.0))
    assert not sleeps and len(server.requests) == 1


def test_nothing_is_asked_again_once_a_piece_was_shown() -> None:
    for mode in ("cut_off", "stall", "no_finish"):
        with OpenAIServer(mode) as server, pytest.raises(LLMError):
            text_of(model(server.url, max_retries=5, timeout_s=0.3))
        assert len(server.requests) == 1


def test_a_server_that_is_not_there_is_tried_twice() -> None:
    sleeps = Sleeps()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(LLMError, match="could not be reached"):
        text_of(model(url, max_retries=9, sleep=sleeps))
    assert len(sleeps) == 1


@pytest.mark.parametrize(("mode", "what"), [("pings", "was not done after 0.4 seconds"), ("flood", "did not stop after 16,777,216 bytes")])
def test_a_server_that_sends_no_pieces_but_does_not_stop(mode: str, what: str) -> None:
    with OpenAIServer(mode) as server, pytest.raises(LLMError, match=what):
        text_of(model(server.url, limit_s=0.4 if mode == "pings" else 60.0))


def test_a_server_that_never_answers_is_asked_once() -> None:
    with OpenAIServer("slow") as server, pytest.raises(LLMError, match="did not answer within"):
        text_of(model(server.url, max_retries=3, timeout_s=0.2))
    assert len(server.requests) == 1


@pytest.mark.parametrize(("refuses", "names"), [(["stream_options"], None), (["stream_options"], ""), (["seed", "temperature"], None)])
@pytest.mark.parametrize("refusal", [400, 422])
def test_a_server_that_refuses_an_option_is_asked_without(refuses: list[str], names: str | None, refusal: int) -> None:
    with OpenAIServer(refuses=refuses, names=names, refusal=refusal, usage=(9, 2), always_usage=True) as server:
        language_model = model(server.url, seed=4)
        assert text_of(language_model) == text_of(language_model) == "Hello world."
    assert [set(refuses) & set(r) for r in server.requests] == [set(refuses), set(), set()]
    assert ("stream_options" in server.requests[1]) == (refuses != ["stream_options"])


def test_what_is_asked_for() -> None:
    with OpenAIServer() as server:
        text_of(model(server.url, max_tokens=77, seed=5))
        text_of(model(server.url))
        text_of(model(server.url, model="o3-mini"))
    full, bare, reasoning = server.requests
    assert (full["temperature"], full["max_tokens"], full["seed"], full["stream_options"]) == (0, 77, 5, {"include_usage": True})
    assert "max_completion_tokens" not in full and not {"max_tokens", "seed"} & set(bare) and "temperature" not in reasoning


def usage_of(stream: Any) -> Usage:
    while True:
        try:
            next(stream)
        except StopIteration as end:
            return end.value


def test_what_an_answer_takes() -> None:
    with OpenAIServer(usage=(1000, 200)) as server:
        known = usage_of(model(server.url, price_in=2.0, price_out=10.0).stream(MESSAGES))
        unknown = usage_of(model(server.url).stream(MESSAGES))
    assert (known.prompt_tokens, known.completion_tokens, known.calls, known.cached) == (1000, 200, 1, 0) and known.seconds > 0
    assert known.cost == pytest.approx(0.004) and unknown.cost is None and unknown.prompt_tokens == 1000
    with OpenAIServer() as server:
        silent = usage_of(model(server.url, price_in=2.0, price_out=10.0).stream(MESSAGES))
    assert (silent.prompt_tokens, silent.completion_tokens, silent.cost, silent.calls) == (0, 0, None, 1)


def test_a_running_total_is_not_added_up() -> None:
    with OpenAIServer(pieces=["a", "b", "c"], usage=(1000, 200), always_usage=True) as server:
        usage = usage_of(model(server.url).stream(MESSAGES))
    assert (usage.prompt_tokens, usage.completion_tokens) == (1000, 200)


def test_a_failed_call_says_what_it_took() -> None:
    with OpenAIServer("filtered", usage=(1000, 200)) as server, pytest.raises(CallError) as error:
        text_of(model(server.url, price_in=1.0, price_out=1.0))
    assert error.value.usage.cost == pytest.approx(0.0012) and error.value.usage.calls == 1


def test_many_threads_share_a_model_and_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr(llm_http, "bounded_client", lambda t, new=llm_http.bounded_client: made.append(t) or new(t))

    def echo(request: dict[str, Any]) -> list[str]:
        return [request["messages"][0]["content"]] * 3

    with OpenAIServer(answer=echo, usage=(1, 3)) as server, ThreadPoolExecutor(8) as pool:
        language_model = model(server.url)
        answers = list(pool.map(lambda i: text_of(language_model, [("user", f"q{i} ")]), range(64)))
    assert answers == [f"q{i} " * 3 for i in range(64)]
    assert len(server.requests) == 64 and len(made) == 1


def test_text_that_is_no_unicode_is_sent_as_far_as_it_goes() -> None:
    with OpenAIServer() as server:
        text_of(model(server.url), [("user", "a\ud800b")])
    assert server.requests[0]["messages"][0]["content"] == "a?b"


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


def test_what_would_be_sent_is_what_is_sent() -> None:
    with OpenAIServer(tools=[("Lookup", '{"name": "EGFR"}')]) as server:
        language_model = model(server.url, max_tokens=7)
        shown = language_model.preview(MESSAGES, [Lookup])
        assert server.requests == []
        language_model.call_tools(MESSAGES, [Lookup])
        (sent,) = server.requests
        plain = language_model.preview(MESSAGES)
    assert shown.startswith(f"POST {server.url}/chat/completions\n") and KEY not in shown
    assert "----- system -----\nrules\n\n----- user -----\nquestion" in shown and plain.endswith("question")
    for name, value in sent.items():
        if name not in ("path", "messages", "tools"):
            assert f"\n{name}: {json.dumps(value)}" in shown
    assert json.loads(shown.partition("----- tool -----\n")[2]) == sent["tools"][0]


def test_a_dry_run_sends_nothing_and_keeps_what_it_would_have_sent() -> None:
    with OpenAIServer() as server:
        dry = model(server.url).dry_run()
        with pytest.raises(NotSent):
            list(dry.stream(MESSAGES))
        with pytest.raises(NotSent, match="Nothing was sent to tiny: this is a dry run"):
            dry.call_tools(MESSAGES, [Lookup])
        assert dry.shown == [model(server.url).preview(MESSAGES), model(server.url).preview(MESSAGES, [Lookup])]
    assert server.requests == []
    alone = DryRun("x")
    with pytest.raises(NotSent):
        next(alone.stream(MESSAGES))
    assert alone.shown == ["----- system -----\nrules\n\n----- user -----\nquestion"]


def test_a_preview_of_an_address_that_is_none_is_an_error() -> None:
    with pytest.raises(LLMError):
        model("http://[::1").preview(MESSAGES)


def test_made_from_settings() -> None:
    assert make_llm("") is None and make_llm("none") is None
    made = make_llm("m", "http://localhost:1/v1", "k", price_in=1.0, price_out=2.0)
    assert made is make_llm("m", "http://localhost:1/v1", "k", price_in=1.0, price_out=2.0) and made is not make_llm("m")
    assert made is not None and made.host == "localhost:1" and not made.local


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no language model"):
        make_llm(str(tmp_path))
    with pytest.raises(InputError, match="There is no folder"):
        make_llm(str(tmp_path / "nothing"))
    assert make_llm(str(tmp_path), "http://localhost:1/v1") is not None  # a server may call its model by a path


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "org/" + "y" * 300])
def test_a_name_that_is_no_path_is_a_servers(name: str) -> None:
    made = make_llm(name)
    assert made is not None and not made.local


@pytest.mark.parametrize("key", ["sk-é", "sk a", "sk\nb", "sk\x00"])
def test_a_key_that_is_none_is_not_shown(key: str) -> None:
    with pytest.raises(InputError, match="holds characters that no key has") as error:
        make_llm("m", "http://localhost:1/v1", key)
    assert key not in str(error.value)


@pytest.mark.parametrize("cut", [1, 3, 8, 500])
@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("<think>\nHm [9].\n</think>\n\nEGFR <think> [1].", "EGFR <think> [1]."),
        ("\n <think></think>x", "x"),
        ("  <thin air>", "  <thin air>"),
        ("<", "<"),
        ("plain </think> text", "plain </think> text"),
    ],
)
def test_thoughts_are_left_out_however_they_are_cut(sent: str, shown: str, cut: int) -> None:
    with OpenAIServer(pieces=[sent[i : i + cut] for i in range(0, len(sent), cut)]) as server:
        assert text_of(model(server.url)) == shown


@pytest.mark.parametrize("sent", ["<think>and on and on", "<think>done</think>  ", " \n "])
def test_thoughts_or_blanks_alone_are_no_answer(sent: str) -> None:
    with OpenAIServer(pieces=[sent]) as server, pytest.raises(LLMError, match="sent an empty answer"):
        text_of(model(server.url))


def test_an_answer_left_early_closes_the_connection() -> None:
    with OpenAIServer("endless") as server:
        stream = model(server.url).stream(MESSAGES)
        assert next(stream)
        stream.close()
