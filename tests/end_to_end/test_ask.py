"""The command `ask`: what it is given, dry runs, bundles, and what it refuses, over a tiny home and a server on loopback."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from biobridge_rag.assembly import Engine, evaluate_questions, open_engine
from biobridge_rag.config import Settings
from tests.qa.openai_server import OpenAIServer

from .conftest import protein, smiles

Cli = Callable[..., Any]
QUESTION = "Which drugs bind KINA3?"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    with OpenAIServer(pieces=["The evidence does not hold the answer."], usage=(90, 8)) as server:
        monkeypatch.setenv("BIOBRIDGE_LLM_BASE_URL", server.url)
        monkeypatch.setenv("BIOBRIDGE_LLM_API_KEY", "sk-test-secret")
        monkeypatch.setenv("BIOBRIDGE_LLM_MODEL", "tiny")
        yield server


def test_a_dry_run_prints_what_would_be_sent_and_sends_nothing(cli: Cli, tiny_home: Path, server: OpenAIServer) -> None:
    found = cli("ask", QUESTION, "--home", tiny_home, "--dry-run")
    lines = found.out.splitlines()
    assert found.code == 0 and server.requests == [] and "sk-test" not in found.out + found.err
    assert (
        lines[0].startswith(f"What would be sent to tiny at {server.url.split('/')[2]}") and f"POST {server.url}/chat/completions" in lines
    )
    assert 'model: "tiny"' in lines and "----- system -----" in lines and "known: " in found.out
    data = cli("ask", QUESTION, "--home", tiny_home, "--dry-run", "--plan", "--json").json
    assert [call["kind"] for call in data["sent"]] == ["tools", "text"] and data["model"] == "tiny" and data["host"] in server.url
    assert [m["role"] for m in data["sent"][1]["messages"]] == ["system", "user"] and "find_candidates" in data["sent"][0]["as_text"]
    assert server.requests == [] and data["sent"][1]["as_text"] in found.out


def test_a_dry_run_says_what_is_really_sent(cli: Cli, tiny_home: Path, server: OpenAIServer) -> None:
    would = cli("ask", QUESTION, "--home", tiny_home, "--dry-run", "--json").json["sent"][0]["messages"]
    answer = cli("ask", QUESTION, "--home", tiny_home, "--json").json
    sent = [{"role": m["role"], "text": m["content"]} for m in server.requests[0]["messages"]]
    assert sent == would and answer["model"] == "tiny" and answer["usage"]["prompt_tokens"] == 90


@pytest.mark.parametrize(("question", "llm"), [(QUESTION, "none"), ("What is the capital of France?", None)])
def test_a_dry_run_without_a_model_or_evidence_is_one_line(
    cli: Cli, tiny_home: Path, server: OpenAIServer, question: str, llm: str | None
) -> None:
    found = cli("ask", question, "--home", tiny_home, "--dry-run", *(["--llm", llm] if llm else ["--arm", "bridge"]))
    assert found.code == 0 and len(found.out.splitlines()) == 1 and "othing would be sent" in found.out and server.requests == []


def test_an_answer_is_saved_and_asked_again(cli: Cli, tiny_home: Path, server: OpenAIServer, tmp_path: Path) -> None:
    saved = cli(
        "ask", QUESTION, "--home", tiny_home, "--save", tmp_path / "a.json", "--option", "CPD1", "--option", "CPD2", "--arm", "bridge"
    )
    assert saved.code == 0 and "unpublished sequences" in saved.err
    data = json.loads((tmp_path / "a.json").read_text())
    turn = data["turns"][0]
    assert (turn["options"], turn["arm"], data["llm"]["model"]) == (["CPD1", "CPD2"], "bridge", "tiny") and len(turn["exchanges"]) == 1
    assert "sk-test" not in (tmp_path / "a.json").read_text()
    again = cli("replay", tmp_path / "a.json", "--home", tiny_home, "--recorded")
    assert again.code == 0 and "1 turn asked again: the same." in again.out and len(server.requests) == 1


def test_several_attachments_are_read_in_order(cli: Cli, tiny_home: Path, tmp_path: Path) -> None:
    for name, n in (("a", 3), ("b", 5)):
        (tmp_path / f"{name}.fasta").write_text(f">{name}\n{protein(n)}\n")
    given = ["--fasta", tmp_path / "a.fasta", "--fasta", tmp_path / "b.fasta", "--smiles", smiles(7)]
    answer = cli("ask", "What is it linked to?", "--home", tiny_home, *given, "--json").json
    assert {"P00003", "P00005", "DB90007"} <= {c["node_id"] for c in answer["shown"]}


def test_a_choice_and_a_statement(cli: Cli, tiny_home: Path) -> None:
    options = ["--option", "KINA3", "--option", "nothing of the kind"]
    choice = cli("ask", "Which protein is it?", "--home", tiny_home, *options, "--json").json
    assert choice["kind"] == "choice" and set(choice["prediction"]) <= {"KINA3", "nothing of the kind"}
    assert cli("ask", "KINA3 is a kinase", "--home", tiny_home, "--kind", "true_false", "--json").json["kind"] == "true_false"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("x" * 100_000,), "100,000 characters; at most 20,000 are read"),
        (("  ",), "question is empty"),
        ((QUESTION, "--option", "a"), "one option only"),
        ((QUESTION, "--option", "a", "--option", "a"), "given twice"),
        ((QUESTION, "--option", "a", "--option", " "), "is empty"),
        ((QUESTION, "--kind", "choice"), "A choice needs its options"),
        ((QUESTION, "--kind", "open", "--option", "a", "--option", "b"), "no options"),
        ((QUESTION, "--kind", "poem"), "no kind of question 'poem'. Kinds: open, choice, true_false"),
        ((QUESTION, "--arm", "left"), "no arm 'left'. Arms: none, text"),
        ((QUESTION, "--save", "/nonexistent/a.json"), "its folder does not exist"),
        ((QUESTION, "--save", "a.json", "--dry-run"), "exclude each other"),
        ((QUESTION, "--smiles", "not a molecule"), "SMILES"),
    ],
)
def test_bad_input_is_one_line(cli: Cli, tiny_home: Path, arguments: tuple[str, ...], said: str) -> None:
    found = cli("ask", *arguments, "--home", tiny_home)
    assert found.code == 2 and said in found.line


@pytest.fixture
def engine(tiny_home: Path) -> Iterator[Engine]:
    engine = open_engine(Settings(home=tiny_home))
    yield engine
    engine.close()


def test_the_engine_knows_a_dry_run_by_name(engine: Engine, server: OpenAIServer, tiny_home: Path) -> None:
    without = [e.answer for e in engine.ask_stream(QUESTION, llm="dry-run") if e.answer][-1]
    assert without.model == "none"
    with_model = Engine(engine.home, Settings(home=tiny_home))
    answer = with_model.ask(QUESTION, llm="dry-run")
    assert answer.notice == "Nothing was sent to tiny: this is a dry run." and "known: " in answer.prompt and server.requests == []


def test_questions_are_evaluated_by_a_function(engine: Engine, tmp_path: Path) -> None:
    rows = [
        {"id": "1", "question": QUESTION, "answers": ["x"]},
        {"id": "2", "question": "Does it help?", "options": ["yes", "no", "maybe"], "answers": ["yes"], "passages": ["It helps."]},
    ]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = evaluate_questions(engine, tmp_path / "q.jsonl", tmp_path / "out", ("full", "none"))
    assert summary["llm"] == "none" and set(summary["arms"]) == {"full", "none"} and summary["run"]["n_asked"] == 4
    records = [json.loads(line) for line in (tmp_path / "out" / "records.jsonl").read_text().splitlines()]
    shown = {(r["id"], r["arm"]): [c["node_id"] for c in r["shown"]] for r in records}
    assert shown["2", "full"] == ["passage:1"] and shown["2", "none"] == [] and all("error" not in r for r in records)
