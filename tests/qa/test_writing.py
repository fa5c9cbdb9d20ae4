"""What a language model is shown and what becomes of its text: through a real protocol, well and badly, and over a budget of evidence."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from biobridge_rag.errors import LLMError
from biobridge_rag.qa.answering import Answerer
from biobridge_rag.qa.chat import CallError, DryRun
from biobridge_rag.qa.citations import MARK
from biobridge_rag.qa.llm import LanguageModel, LLMConfig
from biobridge_rag.types import Answer, Evidence, Query, Relation, Retrieval, Usage
from tests.qa.openai_server import OpenAIServer
from tests.qa.test_answering import GRAPH, LINKER, FakeModel, ask, retrieve

QUESTION = "Which drugs target EGFR?"
ALONE = "This is the answer from the evidence alone."


def over(server: OpenAIServer, timeout: float = 2.0, retries: int = 0, limit: float = 5.0) -> Answer:
    config = LLMConfig("tiny", server.url, "sk-secret", timeout, retries, limit)
    return Answerer(GRAPH, LINKER, retrieve, LanguageModel(config, sleep=lambda _: None)).ask(QUESTION)


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("html", "sent a web page"),
        ("nothing", "sent an empty answer"),
        ("empty", "sent an empty answer"),
        ("spent", "empty|did not|before"),
        ("stall", "fell silent for"),
        ("slow", "did not answer within"),
        ("drop", "broke the connection off"),
        ("garbage", "no answer"),
        ("endless", "more than|longer|seconds|characters"),
        ("error_event", "."),
        ("filtered", "."),
    ],
)
def test_a_server_that_fails_leaves_the_answer_of_the_evidence(mode: str, said: str) -> None:
    with OpenAIServer(mode) as server:
        answer = over(server, timeout=0.4, limit=1.5)
    without = ask(QUESTION)
    assert (answer.text, answer.citations, answer.model) == (without.text, without.citations, "none")
    assert re.search(said, answer.notice) and ALONE in answer.notice and "\n" not in answer.notice and "sk-" not in str(answer)


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        (["<!DOC", "TYPE html><html><body>502 Bad Gateway</body></html>"], "sent a web page in place of an answer"),
        (["  <html>", "<h1>Sign in</h1>"], "sent a web page in place of an answer"),
        (["  \n", "\n"], "sent an empty answer"),
        (["[1]", " [2]."], "sent an empty answer"),
        (["...", "**"], "sent an empty answer"),
    ],
)
def test_a_text_that_is_no_answer_leaves_the_answer_of_the_evidence(pieces: list[str], said: str) -> None:
    with OpenAIServer(pieces=pieces, usage=(50, 7)) as server:
        answer = over(server)
    assert answer.text == ask(QUESTION).text and answer.model == "none" and said in answer.notice and ALONE in answer.notice
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (50, 7)


def test_citations_that_do_not_exist_are_removed_and_counted() -> None:
    with OpenAIServer(pieces=["Gefitinib targets EGFR [2, 77]. Afatinib cures", " asthma [99]."]) as server:
        answer = over(server)
    assert answer.text == f"Gefitinib targets EGFR [2]. Afatinib cures asthma{MARK}." and answer.removed == 2
    assert answer.unsupported == ("Afatinib cures asthma.",) and answer.notice == "2 citations of evidence that does not exist removed."
    assert [c.key for c in answer.citations] == ["[2]"] and {c.key for c in answer.citations} <= {c.key for c in answer.shown}


def test_a_busy_server_is_asked_again() -> None:
    with OpenAIServer(pieces=["Gefitinib targets EGFR [2]."], before=[503, 429], usage=(90, 8)) as server:
        answer = over(server, retries=3)
    assert answer.text == "Gefitinib targets EGFR [2]." and answer.notice == "" and len(server.requests) == 3
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (90, 8)


class Failing(FakeModel):
    def stream(self, messages: Any) -> Any:
        yield "Half"
        raise CallError("The language model at h broke off.", usage=Usage(40, 3, 0.01, 1.0, 2))


def test_what_a_failed_call_took_is_counted() -> None:
    answer = Answerer(GRAPH, LINKER, retrieve, Failing()).ask(QUESTION)
    assert answer.usage == Usage(40, 3, 0.01, 1.0, 2) and answer.model == "none"
    plain = Answerer(GRAPH, LINKER, retrieve, FakeModel(error=LLMError("It failed."))).ask(QUESTION)
    assert plain.usage == Usage() and plain.notice == f"It failed. {ALONE}"


def test_a_text_is_held_against_what_was_shown_and_no_more() -> None:
    model = FakeModel("Gefitinib targets EGFR [2]. Afatinib is predicted to target EGFR, probability 62 % [4].")
    whole = Answerer(GRAPH, LINKER, retrieve, model).ask(QUESTION)
    assert whole.unsupported == () and whole.removed == 0 and "[4]" in [c.key for c in whole.shown]
    cut = Answerer(GRAPH, LINKER, retrieve, model, max_evidence=40).ask(QUESTION)
    evidence = model.sent[-1][1][1].partition("The question:")[0]
    keys = set(re.findall(r"(?m)^\[(\d+)\]", evidence))
    assert {c.key.strip("[]") for c in cut.shown} == keys and "4" not in keys and "2" in keys
    assert cut.removed == 1 and cut.unsupported == ("Afatinib is predicted to target EGFR, probability 62 %.",)
    dropped = re.search(r"Note: (\d+) weaker lines were left out\.", evidence)
    assert dropped and f"{dropped[1]} weaker lines of the evidence did not fit what the language model is shown." in cut.notice
    assert "weaker" not in whole.notice


def test_an_answer_that_adds_what_is_not_held_has_answered() -> None:
    told = "Gefitinib targets EGFR [2]. The graph holds no edge to asthma."
    assert not Answerer(GRAPH, LINKER, retrieve, FakeModel(told)).ask(QUESTION).abstained
    for text in ("**Answer:** The graph does not hold it.", "Sorry. The evidence does not hold the answer; trials are missing."):
        assert Answerer(GRAPH, LINKER, retrieve, FakeModel(text)).ask(QUESTION).abstained


def test_a_dry_run_shows_all_that_would_be_sent_and_says_so_once() -> None:
    dry = DryRun("tiny")
    answer = Answerer(GRAPH, LINKER, retrieve, dry, plans=True).ask(QUESTION)
    assert len(dry.shown) == 2 and "find_candidates" in dry.shown[0] and "[2] known: gefitinib targets EGFR" in dry.shown[1]
    assert answer.text == ask(QUESTION).text and answer.notice == "Nothing was sent to tiny: this is a dry run."


def test_a_question_that_is_cut_is_said() -> None:
    assert ask(f"{QUESTION} {'x' * 5000}").notice.startswith("The question has 5,025 characters; the first 4,000 are read.")


def test_the_score_of_a_reason_is_not_taken_for_a_probability() -> None:
    def by_bridge(query: Query, relation: Relation, top: int) -> Retrieval:
        found = retrieve(query, relation, top)
        reason = Evidence("bridge", "bridge: score 0.25, number 10 of 5,531 by the bridge alone", 0.25)
        return replace(found, hits=tuple(replace(hit, evidence=(reason, *hit.evidence)) for hit in found.hits))

    answer = Answerer(GRAPH, LINKER, by_bridge).ask(QUESTION)
    assert "bridge: score 0.25, number 10 of 5,531" in answer.text and answer.unsupported == ()
    for claimed, bad in (("62 %, as bridge: score 0.25, number 10 of 5,531 by the bridge alone", ()), ("25 %", 1), ("0.25", 1)):
        text = f"Afatinib is predicted to target EGFR with a probability of {claimed} [4]."
        assert len(Answerer(GRAPH, LINKER, by_bridge, FakeModel(text)).ask(QUESTION).unsupported) == (bad or 0)
