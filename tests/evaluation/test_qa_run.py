"""A question run: nothing is asked twice, whatever breaks it off; budgets hold; failures are recorded and asked again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from biobridge_rag.errors import DiskFullError, FileError, HomeLockedError, InputError, LLMError
from biobridge_rag.evaluation import qa_run
from biobridge_rag.evaluation.qa_records import open_records, read_records
from biobridge_rag.evaluation.qa_run import MAX_FAILURES, Budget, Run, ask_all
from biobridge_rag.evaluation.questions import Question
from biobridge_rag.types import Answer, Usage

from .qa_fakes import Oracle, answer, question

WHO = {"questions": "abc", "arms": ["none", "full"], "llm": "none", "seed": 0, "home": "h"}
ARMS = ("none", "full")
ROOT = Path(__file__).resolve().parents[2]


def run(ask: Any, folder: Path, n: int = 5, **more: Any) -> Run:
    return ask_all([question(i) for i in range(n)], ARMS, ask, folder, more.pop("identity", WHO), **more)


def keys(records: Any) -> list[tuple[str, str]]:
    return [(r["id"], r["arm"]) for r in records]


def test_every_question_is_asked_once_in_every_arm_and_recorded(tmp_path: Path) -> None:
    ask = Oracle()
    done = run(ask, tmp_path / "new" / "out")
    wanted = [(f"q{i}", arm) for i in range(5) for arm in ARMS]
    assert ask.asked == dict.fromkeys(wanted, 1) and keys(done.records) == wanted
    assert keys(read_records(tmp_path / "new" / "out")) == wanted
    first = json.loads((tmp_path / "new" / "out" / "records.jsonl").read_text().splitlines()[0])
    assert {"id", "arm", "kind", "prediction", "abstained", "text", "citations", "unsupported", "seconds", "usage", "shown"} <= set(first)
    assert (first["answers"], first["prediction"], first["question"], first["answerable"]) == (["G0"], ["G0"], "Which gene 0?", True)
    assert (done.n_asked, done.n_kept, done.n_wanted, done.stopped) == (10, 0, 10, "")


def test_a_finished_run_asks_nothing_and_a_longer_one_only_what_is_new(tmp_path: Path) -> None:
    run(Oracle(), tmp_path)
    before = (tmp_path / "records.jsonl").read_bytes()
    again = Oracle()
    assert run(again, tmp_path).n_kept == 10 and not again.asked
    assert (tmp_path / "records.jsonl").read_bytes() == before
    more = Oracle()
    assert run(more, tmp_path, 7).n_asked == 4 and set(more.asked) == {(f"q{i}", a) for i in (5, 6) for a in ARMS}
    fewer = run(Oracle(), tmp_path, 2)
    assert keys(fewer.records) == [("q0", "none"), ("q0", "full"), ("q1", "none"), ("q1", "full")]
    assert len(read_records(tmp_path)) == 14


@pytest.mark.parametrize(
    "what, value", [("questions", "other"), ("arms", ["none"]), ("llm", "gpt"), ("seed", 1), ("home", "x"), ("more", 1)]
)
def test_a_run_with_other_settings_is_refused_in_one_line(tmp_path: Path, what: str, value: Any) -> None:
    run(Oracle(), tmp_path)
    before = (tmp_path / "records.jsonl").read_bytes()
    with pytest.raises(InputError, match=f"a run with other {what}: ") as raised:
        run(Oracle(), tmp_path, identity=WHO | {what: value})
    assert "\n" not in str(raised.value) and (tmp_path / "records.jsonl").read_bytes() == before


def test_several_are_asked_at_once_and_no_more_than_allowed(tmp_path: Path) -> None:
    barrier = threading.Barrier(3, timeout=20)

    def reply(asked: Question, arm: str) -> Answer:
        barrier.wait()  # passes only when three are in flight
        return answer("x")

    ask = Oracle(reply)
    done = ask_all([question(i) for i in range(6)], ["none"], ask, tmp_path, WHO, concurrency=3)
    assert ask.most_at_once == 3 and keys(done.records) == [(f"q{i}", "none") for i in range(6)]


def test_failures_are_recorded_counted_and_asked_again(tmp_path: Path) -> None:
    def reply(asked: Question, arm: str) -> Answer:
        if asked.id == "q1":
            raise LLMError("The language model at x is gone.", "Start it.")
        if asked.id == "q2":
            raise ZeroDivisionError("a fault\nof ours \ud800")
        return answer("G")

    done = run(Oracle(reply), tmp_path)
    errors = {r["id"]: r["error"] for r in done.records if "error" in r}
    assert errors == {
        "q1": "The language model at x is gone. Start it.",
        "q2": "internal error: ZeroDivisionError: a fault of ours ?",
    }
    assert not done.stopped and len(done.records) == 10
    again = Oracle()
    second = run(again, tmp_path)
    assert set(again.asked) == {("q1", a) for a in ARMS} | {("q2", a) for a in ARMS}
    assert second.n_dropped == 4 and not any("error" in r for r in second.records)
    assert sorted(keys(read_records(tmp_path))) == sorted(keys(second.records))


def test_an_answer_in_place_of_a_model_that_failed_is_a_failure(tmp_path: Path) -> None:
    failed = answer("G0", prompt="what was sent", notice="It fell silent. This is the answer from the evidence alone.")
    done = run(Oracle(lambda q, a: failed), tmp_path, 1)
    assert all(r["error"].startswith("It fell silent.") for r in done.records)


def test_many_failures_in_a_row_end_the_run(tmp_path: Path) -> None:
    def reply(asked: Question, arm: str) -> Answer:
        raise LLMError("gone")

    ask = Oracle(reply)
    done = run(ask, tmp_path, 100)
    assert sum(ask.asked.values()) == MAX_FAILURES and "in a row failed; the last: gone" in done.stopped


def test_a_budget_in_dollars_holds_and_counts_what_earlier_runs_spent(tmp_path: Path) -> None:
    ask = Oracle(usage=Usage(100, 10, 0.01, 1.0, 1))
    done = run(ask, tmp_path, 50, budget=Budget(usd=0.105), concurrency=4)
    assert sum(ask.asked.values()) == 10 and done.usage.cost == pytest.approx(0.10)
    assert done.stopped.startswith("the budget of 0.105 US dollars is used up: 0.1000 spent")
    assert not run(again := Oracle(), tmp_path, 50, budget=Budget(usd=0.105)).n_asked and not again.asked
    more = Oracle(usage=Usage(100, 10, 0.01, 1.0, 1))
    assert run(more, tmp_path, 50, budget=Budget(usd=0.13)).n_asked == 3
    assert run(Oracle(), tmp_path, 50).stopped == ""


def test_a_budget_in_tokens_holds(tmp_path: Path) -> None:
    ask = Oracle(usage=Usage(90, 10, None, 1.0, 1))
    done = run(ask, tmp_path, 50, budget=Budget(tokens=1_000), concurrency=3)
    assert sum(ask.asked.values()) == 10 and "1,000 tokens is used up" in done.stopped
    assert run(none := Oracle(), tmp_path / "none", 5, budget=Budget(tokens=0)).n_asked == 0 and not none.asked


def test_a_budget_in_dollars_needs_a_price(tmp_path: Path) -> None:
    ask = Oracle(usage=Usage(90, 10, None, 1.0, 1))
    done = run(ask, tmp_path, 50, budget=Budget(usd=5.0), concurrency=4)
    assert sum(ask.asked.values()) == 1 and "give one in tokens" in done.stopped
    free = Oracle(usage=Usage(90, 10, None, 0.0, 1, cached=1))
    assert not run(free, tmp_path / "cached", 5, budget=Budget(usd=5.0)).stopped


def test_progress_tells_how_many_and_what_they_cost(tmp_path: Path) -> None:
    told: list[tuple[int, int, float]] = []
    run(Oracle(usage=Usage(1, 1, 0.5, 0.0, 1)), tmp_path, 2, progress=lambda d, t, u: told.append((d, t, u.cost or 0.0)))
    assert told == [(0, 4, 0.0), (1, 4, 0.5), (2, 4, 1.0), (3, 4, 1.5), (4, 4, 2.0)]


@pytest.mark.parametrize("damage", ["cut", "bit", "garbage", "swapped", "blank"])
def test_damaged_lines_are_asked_again_and_no_other(tmp_path: Path, damage: str) -> None:
    run(Oracle(), tmp_path)
    path = tmp_path / "records.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1]
    hurt: set[tuple[str, str]] = {("q4", "full")}
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    elif damage == "bit":
        lines[3] = lines[3].replace(b"G1", b"G7")
        path.write_bytes(b"\n".join(lines) + b"\n")
        hurt = {("q1", "full")}
    elif damage == "garbage":
        lines[0] = b"\x00\xff not a record"
        path.write_bytes(b"\n".join(lines) + b"\n")
        hurt = {("q0", "none")}
    elif damage == "swapped":
        path.write_bytes(b"\n".join(reversed(lines)) + b"\n")
        hurt = set()
    else:
        path.write_bytes(b"\n\n".join(lines) + b"\n")
        hurt = set()
    ask = Oracle()
    done = run(ask, tmp_path)
    assert set(ask.asked) == hurt and done.n_dropped == len(hurt)
    assert keys(done.records) == [(f"q{i}", arm) for i in range(5) for arm in ARMS]
    whole = [json.loads(line) for line in path.read_bytes().splitlines() if line]
    assert sorted(keys(whole)) == sorted(keys(done.records))


def test_a_line_without_its_end_is_not_joined_to_the_next(tmp_path: Path) -> None:
    run(Oracle(), tmp_path, 1)
    path = tmp_path / "records.jsonl"
    path.write_bytes(path.read_bytes()[:-1])  # the newline alone
    run(Oracle(), tmp_path, 2)
    assert len(path.read_bytes().splitlines()) == 4 == len(read_records(tmp_path))


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="that is a file"):
        run(Oracle(), tmp_path / "file")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "records.jsonl").write_text("mine\n")
    with pytest.raises(InputError, match=r"holds a records\.jsonl but no run\.json"):
        run(Oracle(), tmp_path / "other")
    assert (tmp_path / "other" / "records.jsonl").read_text() == "mine\n"
    run(Oracle(), tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text("[1")
    with pytest.raises(FileError, match="damaged"):
        run(Oracle(), tmp_path / "run")
    with pytest.raises(FileError, match="holds no"):
        read_records(tmp_path)


def test_two_processes_do_not_ask_into_one_folder(tmp_path: Path) -> None:
    with open_records(tmp_path, WHO), pytest.raises(HomeLockedError, match="Another process"):
        run(Oracle(), tmp_path)
    assert run(Oracle(), tmp_path).n_asked == 10


def test_a_full_disk_is_said_in_one_line_and_what_was_written_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = qa_run.RecordFile.add

    def add(self: Any, record: Any) -> None:
        if len(self.records) == 4:
            self._stream = Path("/dev/full").open("ab", buffering=0)  # noqa: SIM115
        real(self, record)

    monkeypatch.setattr(qa_run.RecordFile, "add", add)
    with pytest.raises(DiskFullError, match=r"records\.jsonl: No space left"):
        run(Oracle(), tmp_path / "out")
    monkeypatch.undo()
    assert run(Oracle(), tmp_path / "out").n_kept == 4


SCRIPT = textwrap.dedent(
    """
    import os, sys, time
    from pathlib import Path
    from biobridge_rag.evaluation.qa_run import ask_all
    from biobridge_rag.evaluation.questions import Question
    from biobridge_rag.types import Answer
    folder = Path(sys.argv[1])
    log = os.open(folder.with_suffix(".asked"), os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    def ask(q, arm):
        os.write(log, f"{q.id} {arm}\\n".encode())
        time.sleep(float(sys.argv[2]))
        return Answer(q.question, "x" * 5000, False, (), (), (), "none", "")
    questions = [Question(f"q{i}", "open", f"Which {i}?", ("x",)) for i in range(40)]
    ask_all(questions, ["none", "full"], ask, folder, {"a": 1}, concurrency=3)
    """
)


def started(folder: Path, seconds: float) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder), str(seconds)], env=environment, stderr=subprocess.PIPE)


def wait_for(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_a_killed_run_goes_on_without_asking_twice(tmp_path: Path, how: signal.Signals) -> None:
    folder = tmp_path / "out"
    process = started(folder, 0.05)
    path = folder / "records.jsonl"
    wait_for(lambda: path.exists() and path.stat().st_size > 40_000)
    process.send_signal(how)
    process.communicate(timeout=60)
    assert process.returncode != 0
    before = keys(read_records(folder))
    assert 3 < len(before) < 80
    asked = folder.with_suffix(".asked").read_text().splitlines()
    in_flight = {tuple(line.split()) for line in asked} - set(before)
    assert len(in_flight) <= 3 if how == signal.SIGKILL else not in_flight  # Ctrl-C waits for what is being asked
    last = started(folder, 0.0)
    last.communicate(timeout=60)
    assert last.returncode == 0
    twice = {
        k for k in (tuple(line.split()) for line in asked) if folder.with_suffix(".asked").read_text().splitlines().count(" ".join(k)) > 1
    }
    assert twice == in_flight
    after = keys(read_records(folder))
    assert len(after) == len(set(after)) == 80 and after[: len(before)] == before
