"""Tool calls over a stub server: what the model asks for is checked by the tools' own classes, and all else is one line."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from biobridge_rag.errors import LLMError
from biobridge_rag.qa.llm import LanguageModel, LLMConfig, ToolCall
from tests.qa.openai_server import OpenAIServer

MESSAGES = [("system", "plan"), ("user", "Which drugs target EGFR?")]


class Neighbours(BaseModel):
    """The neighbours of a node in the graph."""

    node: str = Field(min_length=1, max_length=50, description="Its name.")
    to: Literal["drug", "disease"] = "drug"
    most: int = Field(default=5, ge=1, le=50)


class Nothing(BaseModel):
    """No retrieval."""


TOOLS = [Neighbours, Nothing]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "OPENAI_PROXY"):
        monkeypatch.delenv(name, raising=False)


def model(url: str, **kw: Any) -> LanguageModel:
    return LanguageModel(LLMConfig("tiny", url, "sk-x", 5.0, 0, **kw))


def test_several_calls_with_checked_arguments() -> None:
    asked = [("Neighbours", '{"node": "EGFR", "most": "7"}'), ("Nothing", "{}"), ("Neighbours", '{"node": "gout", "to": "disease"}')]
    with OpenAIServer(tools=asked, usage=(30, 9)) as server:
        calls, usage = model(server.url, price_in=1.0, price_out=1.0).call_tools(MESSAGES, TOOLS)
    assert calls == [
        ToolCall("Neighbours", {"node": "EGFR", "to": "drug", "most": 7}),
        ToolCall("Nothing", {}),
        ToolCall("Neighbours", {"node": "gout", "to": "disease", "most": 5}),
    ]
    assert (usage.prompt_tokens, usage.completion_tokens, usage.calls) == (30, 9, 1) and usage.cost == pytest.approx(39e-6)
    (request,) = server.requests
    assert request["tool_choice"] == "required" and request["stream"] is True
    functions = [tool["function"] for tool in request["tools"]]
    assert [f["name"] for f in functions] == ["Neighbours", "Nothing"] and functions[0]["description"] == Neighbours.__doc__
    assert functions[0]["parameters"]["properties"]["to"]["enum"] == ["drug", "disease"] and functions[0]["parameters"]["required"] == [
        "node"
    ]


def test_a_tool_without_arguments_may_come_with_none() -> None:
    with OpenAIServer(tools=[("Nothing", "")]) as server:
        assert model(server.url).call_tools(MESSAGES, TOOLS)[0] == [ToolCall("Nothing", {})]


WRONG = [
    ([("Neighbours", '{"node": "EGFR"')], "called a tool with arguments that are no JSON"),
    ([("Neighbours", "EGFR")], "called a tool with arguments that are no JSON"),
    ([("Neighbours", '["EGFR"]')], r"called Neighbours with arguments that do not fit \(model_type\)"),
    ([("Neighbours", "{}")], r"called Neighbours with arguments that do not fit \(node: missing\)"),
    ([("Neighbours", '{"node": "EGFR", "most": 5000}')], r"do not fit \(most: less_than_equal\)"),
    ([("Neighbours", '{"node": "EGFR", "to": "moon"}')], r"do not fit \(to: literal_error\)"),
    ([("rm_rf", "{}")], "called a tool that there is not, 'rm_rf'"),
    ([("Neighbours", '{"node": "EGFR"}'), ("eval", '{"x": 1}')], "called a tool that there is not, 'eval'"),
    ([("Nothing", "{}")] * 21, "called 21 tools at once; 20 are the most"),
    ([("Neighbours", json.dumps({"node": "x" * 30_000}))], "did not stop after 20,000 characters"),
]


@pytest.mark.parametrize(("asked", "what"), WRONG)
def test_wrong_calls_are_one_line(asked: list[tuple[str, str]], what: str) -> None:
    with OpenAIServer(tools=asked, usage=(30, 9)) as server, pytest.raises(LLMError, match=what) as error:
        model(server.url).call_tools(MESSAGES, TOOLS)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_text_in_place_of_calls_is_one_line_and_says_what_it_took() -> None:
    with OpenAIServer(usage=(30, 9)) as server, pytest.raises(LLMError, match=r"called no tool\.") as error:
        model(server.url).call_tools(MESSAGES, TOOLS)
    assert error.value.usage.prompt_tokens == 30  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", ["garbage", "html", "empty", "nothing", "cut_off", "no_finish", "endless", "wrong_json", "stall"])
def test_broken_answers_are_one_line(mode: str) -> None:
    with OpenAIServer(mode) as server, pytest.raises(LLMError) as error:
        LanguageModel(LLMConfig("tiny", server.url, "sk-x", 0.3, 0)).call_tools(MESSAGES, TOOLS)
    assert "\n" not in str(error.value) and "sk-x" not in str(error.value)


def test_a_server_without_tool_choice_is_asked_without() -> None:
    with OpenAIServer(tools=[("Nothing", "{}")], refuses=["tool_choice"]) as server:
        assert model(server.url).call_tools(MESSAGES, TOOLS)[0] == [ToolCall("Nothing", {})]
    assert ["tool_choice" in request for request in server.requests] == [True, False]


def test_an_error_of_the_server_passes() -> None:
    sleeps: list[float] = []
    with OpenAIServer(tools=[("Nothing", "{}")], before=[503]) as server:
        chat = LanguageModel(LLMConfig("tiny", server.url, "", 5.0, 1), sleep=sleeps.append)
        assert chat.call_tools(MESSAGES, TOOLS)[0] == [ToolCall("Nothing", {})] and len(sleeps) == 1
