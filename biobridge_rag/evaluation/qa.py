"""The evaluation of question answering, from a file of questions to records, a summary and a report.

Knows: the parts of it, and what it needs of an engine. Does not know: settings, the command line, how answers are found.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from biobridge_rag import __version__
from biobridge_rag.errors import InputError
from biobridge_rag.evaluation.qa_matching import node_aliases
from biobridge_rag.evaluation.qa_report import write_report
from biobridge_rag.evaluation.qa_run import UNLIMITED, Ask, Budget, Progress, Run, ask_all
from biobridge_rag.evaluation.qa_scores import score_record, summarise
from biobridge_rag.evaluation.questions import Question, Questions, read_questions
from biobridge_rag.fetching.records import replacing
from biobridge_rag.qa.arms import ARMS
from biobridge_rag.qa.chat import Chat
from biobridge_rag.store.manifest import Manifest
from biobridge_rag.types import Answer, KnowledgeGraph, Query

SUMMARY = "summary.json"
DEFAULT_ARMS = ("none", "text", "bridge", "shuffled", "full")


class Reader(Protocol):
    """Reads what a question brings."""

    def sequence(self, sequence: str, name: str = "") -> Query: ...

    def molecule(self, smiles: str, name: str = "") -> Query: ...

    def fasta(self, data: bytes | str) -> tuple[list[Query], list[str]]: ...


class QuestionEngine(Protocol):
    """What answers: an engine of one home, asked from several threads."""

    @property
    def graph(self) -> KnowledgeGraph: ...

    @property
    def reader(self) -> Reader: ...

    def ask(
        self, question: str, queries: Sequence[Query] = (), llm: str | None = None, *, options: Sequence[str], kind: str, arm: str,
        chat: Chat | None = None, passages: Sequence[tuple[str, str]] = (),
    ) -> Answer: ...  # fmt: skip


def check_arms(names: Sequence[str]) -> list[str]:
    """The arms, each once. Raises InputError that lists the names there are."""
    arms = list(dict.fromkeys(name for n in names if (name := n.strip())))
    unknown = next((a for a in arms if a not in ARMS), None)
    if unknown is not None or not arms:
        raise InputError(f"There is no arm {unknown!r}." if arms else "No arm is named.", f"Valid names: {', '.join(ARMS)}.")
    return arms


def queries_of(question: Question, reader: Reader) -> list[Query]:
    """The sequences and molecules of a question as queries. Raises SequenceError or MoleculeError."""
    queries: list[Query] = []
    for text in question.sequences:
        queries += reader.fasta(text)[0] if text.lstrip().startswith(">") else [reader.sequence(text)]
    return [*queries, *(reader.molecule(smiles) for smiles in question.smiles)]


def asking(engine: QuestionEngine, chat: Chat | None = None) -> Ask:
    """Answers a question in an arm by the engine, with that language model for all questions, or with none."""

    def ask(question: Question, arm: str) -> Answer:
        queries = queries_of(question, engine.reader)
        passages = [(f"Passage {number}", text) for number, text in enumerate(question.passages, 1)]
        return engine.ask(
            question.question, queries, "none", options=question.options, kind=question.kind, arm=arm, chat=chat, passages=passages
        )

    return ask


def home_sha256(manifest: Manifest) -> str:
    """A hash of what a home answers from: its graph, encoders and bridge."""
    parts = (
        manifest.graph_sha256, sorted(manifest.encoders.items()), manifest.bridge_kind, manifest.bridge_sha256, manifest.seed,
        manifest.epochs, sorted(manifest.training.items()), manifest.format,
    )  # fmt: skip
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def evaluate_qa(
    ask: Ask,
    questions: Path | Questions,
    arms: Sequence[str],
    out: Path,
    *,
    llm: str = "none",
    home: str = "",
    graph: KnowledgeGraph | None = None,
    seed: int = 0,
    concurrency: int = 1,
    budget: Budget = UNLIMITED,
    limit: int | None = None,
    progress: Progress = lambda done, total, usage: None,
    note: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Asks the questions in each arm and writes records.jsonl, run.json, summary.json, report.md, report.html, figures/ and
    records/*.html to `out`; returns the summary.

    ask: answers a question in an arm (see `asking`); llm: the model's name, or "none", for the record; home: a hash of what is answered
    from (see `home_sha256`); graph: where the other names of right answers are taken from; limit: only the first so many questions;
    progress: see qa_run; note: takes lines for the reader, such as what was left out. A run that was broken off goes on where it
    stopped, also with another limit, budget or concurrency; with other questions, arms, llm, seed or home it is refused.
    Raises InputError and FileError in one line.
    """
    arms = check_arms(arms)
    if limit is not None and limit < 1:
        raise InputError(f"The limit must be 1 or more questions, not {limit}.")
    found = questions if isinstance(questions, Questions) else read_questions(questions)
    _report_problems(found, note)
    identity = {"questions": found.sha256, "arms": arms, "llm": llm, "seed": seed, "home": home, "version": __version__}
    chosen = found.questions[:limit]
    run = ask_all(chosen, arms, ask, out, identity, concurrency=concurrency, budget=budget, progress=progress)
    if run.stopped:
        note(f"Stopped: {run.stopped}. The same command goes on where it stopped.")
    aliases = node_aliases(graph) if graph is not None else None
    summary = {
        "llm": llm,
        **summarise(run.records, arms, seed, aliases),
        "questions": _questions(found, len(chosen)),
        "run": _run(run, concurrency),
    }
    scored = {(s["id"], s["arm"]): s for s in (score_record(r, aliases) for r in run.records)}
    write_report(summary, run.records, scored, out)
    with replacing(out / SUMMARY) as file:
        json.dump(summary, file, indent=1, allow_nan=False)
        file.write("\n")
    return summary


def _report_problems(found: Questions, note: Callable[[str], None], most: int = 20) -> None:
    for line, reason in found.problems[:most]:
        note(f"line {line}: {reason}; left out")
    if len(found.problems) > most:
        note(f"{len(found.problems) - most:,} more lines left out; summary.json lists them")
    if found.n_unscored:
        note(f"{found.n_unscored:,} questions have no answer: they are asked and not scored")


def _questions(found: Questions, n: int) -> dict[str, Any]:
    return {
        "file": found.path.name, "n": n, "n_in_file": len(found.questions), "n_without_answer": found.n_unscored, "sha256": found.sha256,
        "left_out": found.left_out, "problems": [{"line": line, "reason": reason} for line, reason in found.problems[:1000]],
    }  # fmt: skip


def _run(run: Run, concurrency: int) -> dict[str, Any]:
    errors: dict[str, int] = {}
    for record in run.records:
        if "error" in record:
            errors[record["error"]] = errors.get(record["error"], 0) + 1
    return {
        "complete": len(run.records) == run.n_wanted, "stopped": run.stopped, "n_wanted": run.n_wanted, "n_records": len(run.records),
        "n_asked": run.n_asked, "n_from_earlier_runs": run.n_kept, "n_asked_again": run.n_dropped, "concurrency": concurrency,
        "errors": dict(sorted(errors.items(), key=lambda e: (-e[1], e[0]))[:20]), "usage": _rounded(run.usage.to_dict()),
    }  # fmt: skip


def _rounded(usage: dict[str, Any]) -> dict[str, Any]:
    return usage | {"cost": None if usage["cost"] is None else round(usage["cost"], 6)}
