"""Plans of a language model, carried out: what is fetched, what is said, and what happens without one."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from biobridge_rag.errors import LLMError
from biobridge_rag.qa.answering import Answerer
from biobridge_rag.qa.arms import ARMS
from biobridge_rag.qa.bundles import make_bundle, record_turn
from biobridge_rag.qa.chat import CallError, ToolCall
from biobridge_rag.qa.llm import LanguageModel, LLMConfig
from biobridge_rag.qa.recording import Recorder
from biobridge_rag.qa.replaying import replay
from biobridge_rag.types import Answer, NodeType, Query, Usage
from tests.qa.openai_server import OpenAIServer
from tests.qa.small_engine import SmallEngine
from tests.qa.test_answering import GRAPH, LINKER, FakeModel, ask, retrieve

QUESTION = "How are gefitinib and ERBB2 connected?"
PLANNED, WRITTEN = Usage(100, 20, 0.01, 1.0, 1), Usage(300, 30, 0.02, 2.0, 1)


class Planner(FakeModel):
    """Calls tools, then says what it is told to."""

    def __init__(self, calls: Sequence[tuple[str, dict[str, Any]]], *pieces: str, fails: LLMError | None = None) -> None:
        super().__init__(*(pieces or ("Gefitinib targets EGFR [3].",)))
        self.calls, self.fails, self.planned = calls, fails, list[Any]()

    def call_tools(self, messages: Any, tools: Any) -> tuple[list[ToolCall], Usage]:
        self.planned.append(messages)
        if self.fails:
            raise self.fails
        return [ToolCall(name, arguments) for name, arguments in self.calls], PLANNED

    def stream(self, messages: Any) -> Any:
        yield from super().stream(messages)
        return WRITTEN


def planned(
    question: str,
    *calls: tuple[str, dict[str, Any]],
    arm: str = "full",
    fails: LLMError | None = None,
    says: str = "Gefitinib targets EGFR [3].",
) -> tuple[Answer, str]:
    """The answer, and the evidence that the model was shown."""
    model = Planner(calls, says, fails=fails)
    answer = Answerer(GRAPH, LINKER, retrieve, model, None, ARMS[arm], plans=True).ask(question)
    return answer, re.split(r"The question:|The statement to judge:", model.sent[0][1][1])[0]


def test_paths_that_a_plan_asks_for_are_evidence() -> None:
    answer, evidence = planned(QUESTION, ("find_paths", {"a": "gefitinib", "b": "ERBB2"}))
    assert "path: gefitinib targets EGFR; EGFR interacts with ERBB2" in evidence
    assert answer.usage == PLANNED + WRITTEN and answer.model == "fake" and "find_paths" in answer.prompt
    _, evidence = planned("How are gefitinib and TP53 linked?", ("find_paths", {"a": "gefitinib", "b": "asthma"}))
    assert "known: gefitinib is contraindicated in asthma" in evidence


def test_edges_are_those_of_the_relation_and_the_type_and_the_named_come_first() -> None:
    _, evidence = planned("Tell me of EGFR", ("lookup_edges", {"entity": "EGFR", "relation": "target", "to": "drug"}))
    assert "gefitinib targets EGFR" in evidence and "lapatinib targets EGFR" in evidence and "lung cancer" not in evidence
    answer, evidence = planned("Tell me of asthma", ("lookup_edges", {"entity": "asthma", "relation": "indication", "to": "drug"}))
    assert "Note: The graph holds no indication edge to a drug of asthma." in evidence and answer.model == "fake"


def test_candidates_are_known_and_predicted_nodes_of_the_type() -> None:
    answer, evidence = planned("Anything new for EGFR?", ("find_candidates", {"entity": "EGFR", "to": "drug"}))
    assert "known: gefitinib targets EGFR" in evidence and "predicted, probability 62 %" in evidence
    assert answer.retrieved[0].relation.name == "target" and answer.prediction == ("gefitinib",)


def test_what_is_attached_and_unknown_to_the_graph_can_be_a_candidates_head() -> None:
    model = Planner([("find_candidates", {"entity": "mine", "to": "drug"})], "It may bind [1].")
    answer = Answerer(GRAPH, LINKER, retrieve, model, plans=True).ask("And now?", [Query(NodeType.PROTEIN, "mine", "MKV")])
    assert answer.retrieved[0].query.name == "mine" and "mine (protein; attached, no node of the graph)" in model.planned[0][1][1]


def test_nodes_that_the_question_describes_are_found_and_a_kind_is_taken() -> None:
    _, evidence = planned("the receptor kinase", ("find_nodes", {"text": "EGFR"}))
    assert "about: EGFR (P00533)" in evidence
    text = "gefitinib hits EGFR, true or not"
    calls = ("decide_kind", {"kind": "true_false"}), ("lookup_edges", {"entity": "gefitinib"})
    answer, evidence = planned(text, *calls, says="Answer: True")
    assert answer.kind == "true_false" and answer.prediction == ("True",) and "gefitinib is contraindicated in asthma" in evidence


@pytest.mark.parametrize(
    ("calls", "fails", "said"),
    [
        ([], CallError("The language model at h answered 500.", usage=PLANNED), "The language model at h answered 500."),
        ([("find_nodes", {"text": "plutonium mines"})], None, "planned nothing that can be looked up"),
        ([("shell", {"command": "rm"})], None, "planned nothing that can be looked up"),
    ],
)
def test_without_a_plan_the_rules_take_over_with_one_notice(calls: Any, fails: LLMError | None, said: str) -> None:
    answer, evidence = planned("Which drugs target EGFR?", *calls, fails=fails)
    assert said in answer.notice and answer.notice.count("chosen by rules") == 1 and answer.usage == PLANNED + WRITTEN
    assert "gefitinib targets EGFR" in evidence and answer.retrieved == ask("Which drugs target EGFR?").retrieved


def test_what_was_left_out_of_a_plan_is_said() -> None:
    answer, _ = planned(QUESTION, ("lookup_edges", {"entity": "unobtainium"}), ("find_paths", {"a": "gefitinib", "b": "ERBB2"}))
    assert "No node is named 'unobtainium'." in answer.notice


@pytest.mark.parametrize("arm", ["none", "text"])
def test_arms_without_the_graph_do_not_plan(arm: str) -> None:
    model = Planner([("lookup_edges", {"entity": "EGFR"})])
    Answerer(GRAPH, LINKER, retrieve, model, None, ARMS[arm], plans=True).ask("Which drugs target EGFR?")
    assert model.planned == []


def test_a_plan_over_a_real_protocol() -> None:
    tools = [("find_paths", json.dumps({"a": "gefitinib", "b": "ERBB2"})), ("lookup_edges", json.dumps({"entity": "EGFR", "to": "drug"}))]
    with OpenAIServer(tools=tools, usage=(70, 9)) as server:
        model = LanguageModel(LLMConfig("tiny", server.url, "", 5.0, 0))
        events = Answerer(GRAPH, LINKER, retrieve, model, plans=True).ask_stream(QUESTION)
        for event in events:
            if event.kind == "status" and event.text.startswith("Writing"):
                server.tools, server.pieces = [], ["Gefitinib targets EGFR, and EGFR interacts with ERBB2 [1, 2]."]
        answer = event.answer
    assert answer is not None and answer.model == "tiny" and answer.notice == "" and answer.unsupported == ()
    assert [bool(r.get("tools")) for r in server.requests] == [True, False] and answer.usage.calls == 2
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (140, 18)


def test_a_planned_answer_is_replayed_from_its_record(tmp_path: Path) -> None:
    engine = SmallEngine(tmp_path)
    recorder = Recorder(Planner([("find_paths", {"a": "gefitinib", "b": "ERBB2"})]))
    answer = [e.answer for e in engine.ask_stream(QUESTION, chat=recorder, plan=True) if e.answer][-1]
    bundle = make_bundle(engine, [record_turn(answer, (), recorder)], recorder.chat)
    assert [e.kind for e in bundle.turns[0].exchanges] == ["tools", "text"]
    found = replay(bundle, engine, recorded=True)
    assert found.same, found.differences
