"""The evaluation as a whole: files in, records, summary and report out; no text can break a page, and all figures agree."""

from __future__ import annotations

import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from biobridge_rag.errors import InputError, SequenceError
from biobridge_rag.evaluation import qa_pages
from biobridge_rag.evaluation.qa import DEFAULT_ARMS, asking, check_arms, evaluate_qa, queries_of
from biobridge_rag.evaluation.qa_pages import outcome
from biobridge_rag.evaluation.qa_run import Budget
from biobridge_rag.evaluation.questions import Question
from biobridge_rag.qa.arms import ARMS
from biobridge_rag.types import Answer, NodeType, Query, Usage

from .qa_fakes import Oracle, answer, citation

NASTY = "<script>alert(1)</script> | `a` *b* [c](javascript:d) $x^2$ &amp; \x00\x1b \"'</pre></article>"


def write(path: Path, n: int = 12, **more: Any) -> Path:
    rows = [
        {"id": f"q{i}", "question": f"Which gene {i}?", "answers": [f"G{i}"], "answerable": i % 3 != 0, "kind": "open", **more}
        for i in range(n)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def reply(asked: Question, arm: str) -> Answer:
    """full is right on all, bridge on the even ones, text abstains, none is wrong, shuffled fails."""
    shown = (citation(1, asked.answers[0]), citation(2, "other"))
    if arm == "shuffled":
        raise InputError("This arm fails.")
    right = arm == "full" or (arm == "bridge" and int(asked.id[1:]) % 2 == 0)
    text = f"It is {asked.answers[0]} [1]. It may be other [2]."
    return answer(
        *([asked.answers[0]] if right else ["x"]), text=text, abstained=arm == "text", citations=shown, shown=shown,
        unsupported=("It may be other [2].",), usage=Usage(10, 5, 0.001, 0.5, 1),
    )  # fmt: skip


class Page(HTMLParser):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(path.read_text())
        assert not self.open, (path, self.open)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def ids(self) -> list[str]:
        return [a["id"] or "" for tag, a in self.tags if tag == "article"]


def test_a_run_leaves_all_its_files_and_figures_that_agree(tmp_path: Path) -> None:
    out, notes = tmp_path / "out", list[str]()
    summary = evaluate_qa(Oracle(reply), write(tmp_path / "q.jsonl"), DEFAULT_ARMS, out, llm="fake", home="h", note=notes.append)
    files = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file() and not p.name.endswith(".lock")}
    arms = {f"records/{a}-1.html" for a in DEFAULT_ARMS}
    figures = {"figures/accuracy.svg", "figures/kinds.svg"}
    assert files == {"records.jsonl", "run.json", "summary.json", "report.md", "report.html", "records/differences-1.html"} | arms | figures
    assert json.loads((out / "summary.json").read_text()) == json.loads(json.dumps(summary))
    assert {a: v["accuracy"] for a, v in summary["arms"].items()} == {
        "none": 0.0, "text": 0.0, "bridge": 0.5, "shuffled": None, "full": 1.0
    }  # fmt: skip
    assert summary["llm"] == "fake" and summary["run"]["complete"] and summary["arms"]["shuffled"]["errors"] == 12
    assert summary["arms"]["text"]["unanswerable"] | {"abstained": 1.0, "n": 4} == summary["arms"]["text"]["unanswerable"]
    assert summary["arms"]["full"]["citations"]["precision"] == 0.5 and summary["arms"]["full"]["citations"]["unsupported_share"] == 0.5
    assert summary["run"]["errors"] == {"This arm fails.": 12} and summary["run"]["usage"]["cost"] == pytest.approx(0.048)
    text = (out / "report.md").read_text()
    assert "the arm full answers 1.000 right" in text and "12 questions failed" in text
    assert "| full | **" not in text and re.search(r"\| full \| 1\.000 \(1\.000 to 1\.000\)", text)
    pairs = {(p["arm"], p["other"]): p for p in summary["paired"] if p["over"] == "all"}
    assert set(pairs) == set(itertools.combinations(("none", "text", "bridge", "full"), 2))
    assert pairs["bridge", "full"]["only_other"] == 6


def test_every_record_can_be_reached_and_every_link_leads_somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qa_pages, "PER_PAGE", 5)
    out = tmp_path / "out"
    evaluate_qa(Oracle(reply), write(tmp_path / "q.jsonl"), ("none", "full"), out)
    names = {p.name for p in (out / "records").iterdir()}
    assert names == {f"{stem}-{k}.html" for stem in ("none", "full", "differences") for k in (1, 2, 3)}
    pages = {p: Page(p) for p in [out / "report.html", *(out / "records").iterdir()]}
    seen = 0
    for path, page in pages.items():
        seen += len(page.ids)
        assert len(set(page.ids)) == len(page.ids)
        for tag, attributes in page.tags:
            assert not [n for n in attributes if n.startswith("on")] and tag not in ("script", "link", "img", "iframe", "object")
            for name in ("href", "src", "xlink:href"):
                if (target := attributes.get(name)) and not target.startswith("#"):
                    file, _, anchor = target.partition("#")
                    linked = (path.parent / file).resolve()
                    assert linked in pages and (not anchor or anchor in pages[linked].ids), (path, target)
    assert seen == 24
    reached = {a["href"] for tag, a in pages[out / "report.html"].tags if tag == "a"}
    assert reached == {f"records/{name}" for name in names}
    assert "Which gene 11?" in "".join(pages[out / "records" / "full-3.html"].words)


def test_pages_of_a_longer_report_do_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qa_pages, "PER_PAGE", 5)
    evaluate_qa(Oracle(reply), write(tmp_path / "q.jsonl"), ("none", "full"), tmp_path / "out")
    evaluate_qa(Oracle(reply), write(tmp_path / "q.jsonl"), ("none", "full"), tmp_path / "out", limit=5)
    assert {p.name for p in (tmp_path / "out" / "records").iterdir()} == {"none-1.html", "full-1.html", "differences-1.html"}


def test_no_text_can_break_a_page(tmp_path: Path) -> None:
    def nasty(asked: Question, arm: str) -> Answer:
        shown = (citation(1, NASTY, NASTY),)
        prediction = (NASTY if arm == "full" else "EGFR",)
        return Answer("", NASTY + " [1]", False, shown, (NASTY,), (), NASTY, "0", NASTY, NASTY, "open", prediction, shown)

    out = tmp_path / "out"
    path = write(tmp_path / "q.jsonl", 2, question="Is it " + NASTY, answers=[NASTY], source=NASTY)
    evaluate_qa(Oracle(nasty), path, ("none", "full"), out)
    for file in (out / "report.html", *(out / "records").iterdir()):
        page = Page(file)
        assert not {tag for tag, _ in page.tags} & {"script", "a href=javascript"} and "\x00" not in file.read_text()
        assert not [a for tag, a in page.tags if tag == "a" and "javascript" in (a.get("href") or "")]
    words = "".join(Page(out / "records" / "full-1.html").words)
    assert words.count("<script>alert(1)</script>") > 8
    rendered = MarkdownIt("commonmark").enable("table").render((out / "report.md").read_text())
    assert "<script>" not in rendered and "javascript:d" not in re.sub(r"<[^a][^>]*>", "", rendered).replace("[c](javascript:d)", "")


@pytest.mark.parametrize(
    "scored, said",
    [
        (None, "missing"),
        ({"error": "x"}, "error"),
        ({"abstained": True, "right": False}, "abstained"),
        ({"abstained": False, "right": None}, "unscored"),
        ({"abstained": False, "right": True}, "right"),
        ({"abstained": False, "right": False}, "wrong"),
    ],
)
def test_outcomes(scored: Any, said: str) -> None:
    assert outcome(scored) == said


def test_a_run_that_a_budget_ended_says_so_and_goes_on(tmp_path: Path) -> None:
    path, notes = write(tmp_path / "q.jsonl"), list[str]()
    summary = evaluate_qa(Oracle(reply), path, ["full"], tmp_path / "out", budget=Budget(usd=0.0045), note=notes.append)
    assert not summary["run"]["complete"] and summary["run"]["n_records"] == 4 and "goes on where it stopped" in notes[-1]
    assert "not complete (4 of 12 answers)" in (tmp_path / "out" / "report.md").read_text()
    summary = evaluate_qa(Oracle(reply), path, ["full"], tmp_path / "out")
    assert summary["run"] | {"complete": True, "n_from_earlier_runs": 4, "n_asked": 8, "stopped": ""} == summary["run"]


def test_what_was_left_out_is_said_by_line_and_written(tmp_path: Path) -> None:
    path, notes = write(tmp_path / "q.jsonl", 2), list[str]()
    path.write_text(path.read_text() + "{broken\n" + json.dumps({"question": "Nobody knows?"}) + "\n" + "also broken\n" * 30)
    summary = evaluate_qa(Oracle(), path, ["full"], tmp_path / "out", note=notes.append)
    assert notes[0] == "line 3: not JSON; left out" and len([n for n in notes if n.startswith("line ")]) == 20
    assert "11 more lines left out" in notes[20] and notes[21].startswith("1 questions have no answer")
    assert summary["questions"]["left_out"] == {"not JSON": 31} and len(summary["questions"]["problems"]) == 31
    assert "| not JSON | 31 |" in (tmp_path / "out" / "report.md").read_text()
    assert summary["arms"]["full"]["n"] == 3 and summary["arms"]["full"]["n_scored"] == 2


def test_settings_of_a_run_are_kept_to(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl")
    evaluate_qa(Oracle(), path, ["full"], tmp_path / "out", llm="a", home="h")
    for more in ({"llm": "b", "home": "h"}, {"llm": "a", "home": "i"}, {"llm": "a", "home": "h", "seed": 1}):
        with pytest.raises(InputError, match="a run with other"):
            evaluate_qa(Oracle(), path, ["full"], tmp_path / "out", **more)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="a run with other questions"):
        evaluate_qa(Oracle(), write(path, 11), ["full"], tmp_path / "out", llm="a", home="h")
    with pytest.raises(InputError, match="limit must be 1"):
        evaluate_qa(Oracle(), path, ["full"], tmp_path / "out2", limit=0)


def test_arms_are_those_there_are() -> None:
    assert set(DEFAULT_ARMS) == set(ARMS) and check_arms([" none ", "full", "none", ""]) == ["none", "full"]
    with pytest.raises(InputError, match=r"There is no arm 'all'\. Valid names: none, text, bridge, shuffled, full"):
        check_arms(["none", "all"])
    with pytest.raises(InputError, match="No arm is named"):
        check_arms([" "])


class FakeReader:
    def sequence(self, sequence: str, name: str = "") -> Query:
        if "!" in sequence:
            raise SequenceError("not a sequence")
        return Query(NodeType.PROTEIN, name or "pasted", sequence)

    def molecule(self, smiles: str, name: str = "") -> Query:
        return Query(NodeType.DRUG, name or "pasted", smiles)

    def fasta(self, data: bytes | str) -> tuple[list[Query], list[str]]:
        return [self.sequence(line) for line in str(data).splitlines()[1:]], []


class FakeEngine:
    graph: Any = None
    reader = FakeReader()

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def ask(
        self, question: str, queries: Any = (), llm: str | None = None, *, options: Any, kind: str, arm: str, chat: Any = None,
        passages: Any = (),
    ) -> Answer:  # fmt: skip
        self.asked.append((question, [q.value for q in queries], chat, options, kind, arm, passages))
        return answer("x")


def test_an_engine_is_asked_with_all_that_a_question_brings() -> None:
    engine = FakeEngine()
    brought = Question(
        "1", "choice", "Which?", ("a",), ("a", "b"), sequences=("MKV", ">x\nMKL\nMKA"), smiles=("CCO",), passages=("AIM: so",)
    )
    chat: Any = object()
    asking(engine, chat)(brought, "bridge")
    assert engine.asked == [("Which?", ["MKV", "MKL", "MKA", "CCO"], chat, ("a", "b"), "choice", "bridge", [("Passage 1", "AIM: so")])]
    with pytest.raises(SequenceError):
        queries_of(Question("1", "open", "?", sequences=("!",)), FakeReader())
