"""The language model against a real server of the OpenAI protocol on loopback: `transformers serve` with a tiny Llama."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from biobridge_rag.errors import LLMError
from biobridge_rag.qa.llm import LanguageModel, LLMConfig
from biobridge_rag.qa.llm_cache import LLMCache
from biobridge_rag.types import Usage
from tests.qa.serving import can_serve, serving
from tests.qa.tiny_llama import ANSWER, QUESTION, make_tiny_llama

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_serve(), reason="needs transformers[serving] (accelerate, fastapi, uvicorn, rich, openai)"),
]
MESSAGES = [("system", "rules"), ("user", QUESTION)]


class Lookup(BaseModel):
    """Looks a name up."""

    name: str


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LLMConfig]:
    folder = make_tiny_llama(tmp_path_factory.mktemp("models") / "tiny-llama")
    with serving(folder, tmp_path_factory.mktemp("serving")) as url:
        yield LLMConfig(str(folder), url, timeout_s=60.0, max_retries=0, max_tokens=40, price_in=1.0, price_out=2.0)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "OPENAI_PROXY"):
        monkeypatch.delenv(name, raising=False)


def answer(language_model: LanguageModel, messages: Any = MESSAGES) -> tuple[list[str], Usage]:
    stream, pieces = language_model.stream(messages), []
    while True:
        try:
            pieces.append(next(stream))
        except StopIteration as end:
            return pieces, end.value


def test_it_streams_and_counts(config: LLMConfig) -> None:
    pieces, usage = answer(LanguageModel(config))
    assert "".join(pieces).strip() == ANSWER and len(pieces) > 3
    assert usage.prompt_tokens > 5 and usage.completion_tokens > 10 and usage.calls == 1
    assert usage.cost == pytest.approx((usage.prompt_tokens + 2 * usage.completion_tokens) / 1e6)


def test_the_same_model_on_this_machine_says_the_same(config: LLMConfig) -> None:
    there, here = answer(LanguageModel(config))[1], answer(LanguageModel(LLMConfig(config.model, max_tokens=40)))
    assert "".join(here[0]) == ANSWER and here[1].prompt_tokens == there.prompt_tokens


def test_a_longest_answer_is_kept_to_and_not_cached(config: LLMConfig, tmp_path: Path) -> None:
    cache = LLMCache(tmp_path)
    for _ in range(2):
        usage = answer(LanguageModel(replace(config, max_tokens=5), cache))[1]
        assert (usage.completion_tokens, usage.cached) == (5, 0)


def test_repeated_from_the_cache(config: LLMConfig, tmp_path: Path) -> None:
    cache = LLMCache(tmp_path)
    first, again = answer(LanguageModel(config, cache)), answer(LanguageModel(config, cache))
    assert "".join(first[0]) == "".join(again[0]) and again[1].cached == 1 and again[1].prompt_tokens == first[1].prompt_tokens


def test_from_several_threads(config: LLMConfig) -> None:
    model = LanguageModel(config)
    with ThreadPoolExecutor(4) as pool:
        assert {"".join(pieces).strip() for pieces, _ in pool.map(lambda _: answer(model), range(8))} == {ANSWER}


def test_a_model_that_it_does_not_have(config: LLMConfig) -> None:
    with pytest.raises(LLMError, match=r"The language model at 127\.0\.0\.1:\d+ answered 4\d\d") as error:
        answer(LanguageModel(replace(config, model="no/such-model")))
    assert "\n" not in str(error.value)


def test_tools_are_offered_and_no_call_is_one_line(config: LLMConfig) -> None:
    with pytest.raises(LLMError) as error:
        LanguageModel(config).call_tools(MESSAGES, [Lookup])
    assert "called no tool" in str(error.value) and "\n" not in str(error.value)
