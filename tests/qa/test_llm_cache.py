"""The cache of answers: repeats without asking, keeps nothing secret and nothing half, and survives damage, threads and processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from biobridge_rag.errors import InputError, LLMError
from biobridge_rag.qa.llm import LanguageModel, LLMConfig, ToolCall, make_llm
from biobridge_rag.qa.llm_cache import LLMCache, key_of
from biobridge_rag.types import Usage
from tests.qa.openai_server import OpenAIServer

MESSAGES = [("system", "rules"), ("user", "question")]
KEY = "sk-test-7f3a91"


class Lookup(BaseModel):
    """Looks a name up."""

    name: str


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "OPENAI_PROXY"):
        monkeypatch.delenv(name, raising=False)


def model(url: str, folder: Path, **kw: Any) -> LanguageModel:
    values = {"model": "tiny", "base_url": url, "api_key": KEY, "timeout_s": 5.0, "max_retries": 0} | kw
    return LanguageModel(LLMConfig(**values), LLMCache(folder))


def answer(language_model: LanguageModel, messages: Any = MESSAGES) -> tuple[str, Usage]:
    stream, pieces = language_model.stream(messages), []
    while True:
        try:
            pieces.append(next(stream))
        except StopIteration as end:
            return "".join(pieces), end.value


def entries(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def test_the_second_time_nothing_is_asked(tmp_path: Path) -> None:
    with OpenAIServer(pieces=["α ", "β\n", "“γ”"], usage=(11, 3)) as server:
        first, spent = answer(model(server.url, tmp_path, price_in=1.0, price_out=1.0))
        again, free = answer(model(server.url, tmp_path, price_in=1.0, price_out=1.0))
    assert first == again == "α β\n“γ”" and len(server.requests) == 1
    assert (spent.prompt_tokens, spent.completion_tokens, spent.calls, spent.cached) == (11, 3, 1, 0) and spent.cost == pytest.approx(14e-6)
    assert (free.prompt_tokens, free.completion_tokens, free.calls, free.cached, free.cost) == (11, 3, 1, 1, 0.0)


def test_tool_calls_are_kept_too_and_checked_again(tmp_path: Path) -> None:
    with OpenAIServer(tools=[("Lookup", '{"name": "EGFR"}')], usage=(11, 3)) as server:
        first = model(server.url, tmp_path).call_tools(MESSAGES, [Lookup])
        again = model(server.url, tmp_path).call_tools(MESSAGES, [Lookup])
    assert first[0] == again[0] == [ToolCall("Lookup", {"name": "EGFR"})] and (first[1].cached, again[1].cached) == (0, 1)
    assert len(server.requests) == 1


def test_what_an_answer_depends_on_changes_the_key(tmp_path: Path) -> None:
    with OpenAIServer() as server:
        for kw in ({}, {"model": "other"}, {"seed": 1}, {"max_tokens": 9}, {"base_url": server.url + "/"}):
            answer(model(server.url, tmp_path, **kw))
        answer(model(server.url, tmp_path), [("system", "rules"), ("user", "question?")])
        answer(model(server.url, tmp_path), [("user", "rules"), ("user", "question")])
        assert len(server.requests) == 7
        for kw in ({"api_key": "another"}, {"timeout_s": 9.0}, {"max_retries": 4}, {"price_in": 1.0}, {"limit_s": 9.0}):
            assert answer(model(server.url, tmp_path, **kw))[1].cached == 1
    assert len(server.requests) == 7 and len(entries(tmp_path)) == 7


def test_the_key_is_not_kept(tmp_path: Path) -> None:
    with OpenAIServer() as server:
        there = server.url.replace("http://", f"http://user:{KEY}@") + f"?key={KEY}"
        answer(model(server.url, tmp_path))
        made = model(there, tmp_path)
        assert made._key(MESSAGES, ()) == model(server.url, tmp_path)._key(MESSAGES, ())
    assert all(KEY not in p.read_text() for p in entries(tmp_path))


@pytest.mark.parametrize("mode", ["cut_off", "no_finish", "too_long", "filtered", "empty", "endless"])
def test_only_whole_answers_are_kept(tmp_path: Path, mode: str) -> None:
    with OpenAIServer(mode) as server:
        try:
            answer(model(server.url, tmp_path))
        except LLMError:
            assert mode != "too_long"
    assert entries(tmp_path) == []


def test_an_answer_that_is_left_early_is_not_kept(tmp_path: Path) -> None:
    with OpenAIServer() as server:
        stream = model(server.url, tmp_path).stream(MESSAGES)
        next(stream)
        stream.close()
    assert entries(tmp_path) == []


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda b: b[: len(b) // 2],
    "empty": lambda b: b"",
    "zeros": lambda b: bytes(len(b)),
    "changed": lambda b: b.replace(b"Hello", b"Hullo"),
    "other key": lambda b: b.replace(b'"key": "', b'"key": "0'),
    "no object": lambda b: b"[]",
    "deep": lambda b: b"[" * 100_000,
    "binary": lambda b: b"\xff\xfe" + b,
    "other format": lambda b: b.replace(b'"format": 1', b'"format": 2'),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_written_anew(tmp_path: Path, damage: str) -> None:
    with OpenAIServer() as server:
        answer(model(server.url, tmp_path))
        (entry,) = entries(tmp_path)
        whole = entry.read_bytes()
        entry.write_bytes(DAMAGE[damage](whole))
        assert entry.read_bytes() != whole
        text, usage = answer(model(server.url, tmp_path))
        assert (text, usage.cached) == ("Hello world.", 0) and entry.read_bytes() == whole
        assert answer(model(server.url, tmp_path))[1].cached == 1


def test_a_whole_entry_of_another_kind_counts_as_none(tmp_path: Path) -> None:
    cache = LLMCache(tmp_path)
    with OpenAIServer() as server:
        made = model(server.url, tmp_path)
        for content in (
            {"text": 7, "in": 1, "out": 1},
            {"calls": [], "in": 1, "out": 1},
            {"text": "x", "in": True, "out": 1},
            {"text": "x"},
        ):
            cache.put(made._key(MESSAGES, ()), content)
            assert answer(made)[1].cached == 0
            (entry,) = entries(tmp_path)
            entry.unlink()


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere")):
        with pytest.raises(InputError, match="cannot be written"):
            make_llm("m", "http://localhost:1/v1", cache=folder)


def test_an_entry_that_cannot_be_written_is_counted_and_the_answer_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    cache = LLMCache(tmp_path)
    monkeypatch.setattr(os, "replace", full)
    with OpenAIServer() as server:
        made = LanguageModel(LLMConfig("tiny", server.url), cache)
        assert answer(made)[0] == answer(made)[0] == "Hello world."
    assert cache.n_unwritten == 2 and entries(tmp_path) == []


def test_threads_share_a_folder(tmp_path: Path) -> None:
    cache = LLMCache(tmp_path)
    keys = [key_of({"n": n % 5}) for n in range(200)]

    def work(i: int) -> bool:
        cache.put(keys[i], {"text": keys[i] * 50})
        return cache.get(keys[i]) == {"text": keys[i] * 50}

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(200)))
    assert len(entries(tmp_path)) == 5


def _fill(folder: str, who: int) -> int:
    cache = LLMCache(Path(folder))
    wrong = 0
    for n in range(60):
        key = key_of({"n": n % 4})
        cache.put(key, {"text": key * 20})
        wrong += cache.get(key) != {"text": key * 20}
    return wrong


def test_processes_share_a_folder(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.starmap(_fill, [(str(tmp_path), who) for who in range(2)]) == [0, 0]
    assert len(entries(tmp_path)) == 4


def test_what_a_killed_process_left_is_no_entry(tmp_path: Path) -> None:
    cache, key = LLMCache(tmp_path), key_of({})
    cache.put(key, {"text": "x"})
    cache.path(key).rename(cache.path(key).with_name(".left.tmp"))
    assert cache.get(key) is None


def test_an_entry_can_be_read_by_a_person_and_is_private(tmp_path: Path) -> None:
    with OpenAIServer() as server:
        answer(model(server.url, tmp_path))
    (entry,) = entries(tmp_path)
    assert json.loads(entry.read_text())["answer"]["text"] == "Hello world."
    assert stat.S_IMODE(entry.stat().st_mode) == 0o600
