"""`evaluate qa` as a script uses it, on the engine of a built home."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from biobridge_rag import assembly
from biobridge_rag.types import Answer, Query

from .conftest import Result, protein

Cli = Callable[..., Result]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the engine is asked, which answers with the first node that it finds for what was brought."""
    calls: list[dict[str, Any]] = []

    def ask(
        self: Any, question: str, queries: Any = (), llm: str | None = None, *, options: Any = (), kind: str = "", arm: str = "full",
        chat: Any = None, passages: Any = (),
    ) -> Answer:  # fmt: skip
        calls.append(
            {"question": question, "queries": queries, "llm": chat.model if chat else llm, "options": options, "kind": kind, "arm": arm}
        )
        found = list(queries) or [Query(n.type, n.name, node=n) for n in [link.node for link in self.linker.mentions(question, 3)]]
        names = tuple(options) or tuple(q.name for q in found)
        return Answer(question, "", not names or arm == "none", (), (), (), "none", "0" * 64, kind=kind, prediction=names)

    monkeypatch.setattr(assembly.Engine, "ask", ask)
    return calls


def questions(path: Path) -> Path:
    rows = [
        {"id": "open", "kind": "open", "question": "Say P00003", "answers": ["KINA3"], "answerable": True},
        {"id": "choice", "question": "Which?", "options": ["a", "b"], "answers": ["a"], "answerable": True},
        {"id": "true", "kind": "true_false", "question": "So?", "options": ["True", "False"], "answers": ["False"], "answerable": False},
        {"id": "sequence", "question": "What is it?", "answers": ["P00007"], "sequence": protein(7), "answerable": True},
        {"id": "bad", "question": "What is it?", "answers": ["x"], "sequence": "123!", "answerable": True},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken\n")
    return path


def test_the_contract(cli: Cli, tiny_home: Path, tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    out = tmp_path / "out"
    arguments = ("evaluate", "qa", "--questions", questions(tmp_path / "q.jsonl"), "--home", tiny_home, "--out", out, "--json")
    result = cli(*arguments)
    assert result.code == 0, result
    summary = result.json
    assert json.loads((out / "summary.json").read_text()) == summary
    assert list(summary["arms"]) == ["none", "text", "bridge", "shuffled", "full"] and summary["llm"] == "none"
    full = summary["arms"]["full"]
    assert {"n", "accuracy", "by_kind", "answerable", "unanswerable", "citations"} <= set(full) and {"n", "abstained"} <= set(
        full["unanswerable"]
    )
    assert (full["n"], full["errors"], full["accuracy"]) == (4, 1, 0.75)  # open, choice, sequence; true is wrong, bad failed
    assert summary["arms"]["none"]["accuracy"] == 0.0 and summary["arms"]["none"]["abstained"] == 1.0
    records = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    assert len(records) == 25
    assert all(
        {"id", "arm", "kind", "prediction", "abstained", "text", "citations", "unsupported"} <= set(r) for r in records if "error" not in r
    )
    bad = [r for r in records if r["id"] == "bad"]
    assert len(bad) == 5 and all("error" in r and "internal" not in r["error"] for r in bad)
    assert "line 6: not JSON; left out" in result.err and "asking: 25 of 25" in result.err
    by_sequence = next(c for c in asked if c["question"] == "What is it?")
    assert by_sequence["queries"][0].node.id == "P00007" and by_sequence["llm"] == "none"
    assert {(c["kind"], tuple(c["options"])) for c in asked} == {("open", ()), ("choice", ("a", "b")), ("true_false", ("True", "False"))}
    asked.clear()
    assert cli(*arguments).code == 0 and not asked  # the failed ones break before they are asked


def test_options_change_the_run(cli: Cli, tiny_home: Path, tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    path = questions(tmp_path / "q.jsonl")
    base = ("evaluate", "qa", "--questions", path, "--home", tiny_home, "--json")
    assert cli(*base, "--out", tmp_path / "a", "--arms", "full,none", "--limit", 2).code == 0
    assert [(c["question"], c["arm"]) for c in asked] == [
        ("Say P00003", "full"),
        ("Say P00003", "none"),
        ("Which?", "full"),
        ("Which?", "none"),
    ]
    refused = cli(*base, "--out", tmp_path / "a", "--arms", "full")
    assert refused.code == 2 and "a run with other arms: full,none, not full" in refused.err.splitlines()[-1]
    one = cli(*base, "--out", tmp_path / "b", "--arms", "full", "--seed", 1).json
    two = cli(*base, "--out", tmp_path / "c", "--arms", "full", "--seed", 2, "--concurrency", 3).json
    assert (one["seed"], two["seed"], two["run"]["concurrency"]) == (1, 2, 3)
    stopped = cli(*base, "--out", tmp_path / "d", "--token-budget", 0)
    assert stopped.code == 0 and stopped.json["run"]["n_records"] == 0 and "budget of 0 tokens" in stopped.err
    assert cli(*base, "--out", tmp_path / "e", "--budget", 0).json["run"]["n_records"] == 0


def test_a_language_model_is_one_environment_variable_away(
    cli: Cli, tiny_home: Path, tmp_path: Path, asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIOBRIDGE_LLM_MODEL", "some-model")
    base = ("evaluate", "qa", "--questions", questions(tmp_path / "q.jsonl"), "--home", tiny_home, "--arms", "full", "--json")
    result = cli(*base, "--out", tmp_path / "a")
    assert (
        result.json["llm"] == "some-model" and {c["llm"] for c in asked} == {"some-model"} and "some-model at api.openai.com" in result.err
    )
    assert result.json["run"]["concurrency"] == 8
    assert cli(*base, "--out", tmp_path / "b", "--llm", "none").json["llm"] == "none"
    assert cli(*base, "--out", tmp_path / "c", "--llm", "other").json["llm"] == "other"
    refused = cli(*base, "--out", tmp_path / "a", "--llm", "none")
    assert refused.code == 2 and "a run with other llm: some-model, not none" in refused.err


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("--questions", "nowhere.jsonl"), "cannot be read"),
        (("--questions", "{q}", "--arms", "none,all"), "no arm 'all'"),
        (("--questions", "{q}", "--limit", "0"), "--limit"),
        (("--questions", "{q}", "--out", "{q}"), "that is a file"),
        (("--questions", "{bad}"), "no column question"),
        ((), "--questions"),
    ],
)
def test_bad_input_is_one_line(cli: Cli, tiny_home: Path, tmp_path: Path, asked: Any, arguments: tuple[str, ...], said: str) -> None:
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    places = {"q": questions(tmp_path / "q.jsonl"), "bad": tmp_path / "bad.csv"}
    result = cli("evaluate", "qa", "--home", tiny_home, *(a.format(**places) for a in arguments))
    assert result.code == 2 and said in result.err.splitlines()[-1] and "Traceback" not in result.err and not asked


def known_drug(home: Path) -> list[dict[str, Any]]:
    """Questions that the tiny graph answers: which drugs target a protein."""
    from biobridge_rag.homes import open_home
    from biobridge_rag.types import NodeType, Relation

    opened = open_home(home)
    try:
        graph, rows = opened.graph, list[dict[str, Any]]()
        heads, tails = graph.edges(Relation("target", NodeType.PROTEIN, NodeType.DRUG))
        for head in sorted(set(heads.tolist()))[:4]:
            protein_node = graph.nodes[graph.by_type[NodeType.PROTEIN][head]]
            drugs = [graph.nodes[graph.by_type[NodeType.DRUG][t]].name for t in tails[heads == head]]
            rows.append({"question": f"Which drugs target {protein_node.name}?", "answers": drugs, "answerable": True})
        return rows
    finally:
        opened.index.close()


@pytest.fixture
def known_questions(tiny_home: Path, tmp_path: Path) -> Path:
    path = tmp_path / "known.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in known_drug(tiny_home)))
    return path


def test_the_arms_of_the_engine_itself(cli: Cli, tiny_home: Path, known_questions: Path, tmp_path: Path) -> None:
    result = cli("evaluate", "qa", "--questions", known_questions, "--home", tiny_home, "--out", tmp_path / "out", "--json")
    assert result.code == 0, result
    arms = result.json["arms"]
    assert all(a["errors"] == 0 and a["n"] == 4 for a in arms.values())
    assert arms["full"]["accuracy"] == arms["bridge"]["accuracy"] == 1.0 and arms["none"]["accuracy"] == 0.0
    assert arms["shuffled"]["accuracy"] < 1.0 and arms["none"]["abstained"] == 1.0
    for arm in arms.values():
        assert arm["citations"]["dangling"] == arm["citations"]["not_shown"] == 0
    assert arms["full"]["evidence_recall"]["all"] == 1.0 and arms["full"]["citations"]["n"] > 0


def test_arms_with_a_language_model_that_answers_and_one_that_fails(
    cli: Cli, tiny_home: Path, known_questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.qa.openai_server import OpenAIServer

    monkeypatch.setattr("socketserver.BaseServer.handle_error", lambda *_: None)  # the stand-in, where its caller hangs up, on stderr
    base = ("evaluate", "qa", "--questions", known_questions, "--home", tiny_home, "--arms", "none,full", "--json")
    monkeypatch.setenv("BIOBRIDGE_LLM_MODEL", "tiny")
    with OpenAIServer("good", pieces=["The drug acts [1]. It also cures all [99]."]) as server:
        monkeypatch.setenv("BIOBRIDGE_LLM_BASE_URL", server.url)
        result = cli(*base, "--out", tmp_path / "good")
        assert result.code == 0, result
        full = result.json["arms"]["full"]
        assert full["errors"] == 0 and full["n"] == 4 and full["citations"]["removed"] == 4 and full["usage"]["calls"] == 4
        n_requests = len(server.requests)
        assert cli(*base, "--out", tmp_path / "good").json["run"]["n_asked"] == 0 and len(server.requests) == n_requests
    with OpenAIServer("status", status=401) as server:
        monkeypatch.setenv("BIOBRIDGE_LLM_BASE_URL", server.url)
        result = cli(*base, "--out", tmp_path / "bad")
        assert result.code == 0 and result.json["arms"]["full"]["errors"] == 4, result
        assert all("401" in error for error in result.json["run"]["errors"])
