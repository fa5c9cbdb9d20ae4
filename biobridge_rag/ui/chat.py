"""One turn of the conversation: reads what the user brought, asks the engine, and keeps the session up to date.

Knows: the engine's calls, the session. Does not know: gradio, HTML (session.py), how answers are made.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from biobridge_rag.errors import BiobridgeError, FileError
from biobridge_rag.qa.bundles import TurnRecord, make_bundle, record_turn, to_bytes
from biobridge_rag.qa.recording import Recorder
from biobridge_rag.types import Answer, NodeType, Query, Relation, Retrieval
from biobridge_rag.ui.messages import answer_message, error_line, notes_html, preview_message, user_message, working
from biobridge_rag.ui.session import Session

if TYPE_CHECKING:
    from biobridge_rag.assembly import Engine

FILE_TYPES = (".fasta", ".fa", ".faa", ".txt", ".sdf", ".mol", ".smi", ".smiles")

Change = Literal["conversation", "candidates"]

_QUESTIONS = {
    NodeType.PROTEIN: "Which drugs act on this protein?",
    NodeType.DRUG: "Which proteins does this molecule act on?",
    NodeType.DISEASE: "Which drugs are used for this disease, and which proteins are linked to it?",
}


def respond(engine: Engine, session: Session, text: str, paths: Sequence[str | Path], dry: bool = False) -> Iterator[Change]:
    """Runs one turn; after each yield the session holds something new to show. Errors end as one line in the conversation.

    dry: shows what would be sent to the language model and sends nothing; the turn is not remembered.
    Does nothing while another turn of the session runs, and stops where the session went on without it.
    """
    if session.busy or not (text.strip() or paths):
        return
    turn = session.begin()
    names = [Path(p).name for p in paths]
    session.say("user", user_message(text, names))
    session.say("assistant", working(f"Reading {names[0]}…" if len(names) == 1 else "Reading…"))
    yield "conversation"
    try:
        yield from _turn(engine, session, turn, text.strip(), [Path(p) for p in paths], dry)
    except BiobridgeError as error:
        if session.turn == turn:
            session.replace_last(error_line(str(error)))
            yield "conversation"
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        if session.turn == turn:
            session.replace_last(error_line(f"This could not be answered ({type(error).__name__}). The server's log says more."))
            yield "conversation"
    if session.turn == turn:
        session.finish()


def _turn(engine: Engine, session: Session, turn: int, text: str, paths: Sequence[Path], dry: bool) -> Iterator[Change]:
    queries: list[Query] = []
    notes: list[str] = []
    for path in paths:
        found, said = engine.read_file(check_file(path))
        queries += found
        notes += [s if len(paths) == 1 else f"{path.name}: {s}" for s in said]
    question, pasted = read_text(engine, text)
    queries = [*pasted, *queries]
    question = question or _QUESTIONS.get(queries[0].type, "What is this linked to?")
    if session.turn != turn:
        return
    session.replace_question(user_message(text, [p.name for p in paths], queries))
    session.replace_last(working(_reading(queries)))
    yield "conversation"
    yield from _answer(engine, session, turn, question, queries, notes, dry)


def _answer(
    engine: Engine, session: Session, turn: int, question: str, queries: Sequence[Query], notes: Sequence[str], dry: bool
) -> Iterator[Change]:
    partial, status, fresh = "", "Searching the graph…", True
    model = language_model(engine)
    chat: Any = None if model is None else model.dry_run() if dry else Recorder(model)
    for event in engine.ask_stream(question, queries, history=list(session.turns), chat=chat):
        if session.turn != turn:
            return
        if event.kind == "retrieval" and event.retrieval is not None:
            session.retrievals = [event.retrieval] if fresh else [*session.retrievals, event.retrieval]
            if fresh:
                session.show(_filled(engine, event.retrieval, session.top))
                yield "candidates"
            fresh = False
        elif event.kind == "answer" and event.answer is not None:
            if dry and chat is not None:
                session.replace_last(preview_message("\n\n".join(chat.shown), model.host))
            else:
                session.replace_last(answer_message(event.answer, notes))
                session.prompt = event.answer.prompt or session.prompt
                session.remember(question, event.answer.text, queries, _record(event.answer, queries, chat, notes))
            yield "conversation"
        else:
            if event.kind == "token":
                partial, status = partial + event.text, "Writing…"
            else:
                status = event.text.rstrip(".… ") + "…" if event.text else status
            session.replace_last(working(status, partial))
            yield "conversation"
    if fresh and queries and session.turn == turn:
        session.retrievals = [default_candidates(engine, queries[0], session.top)]
        session.show(session.retrievals[0])
        yield "candidates"


def _record(answer: Answer, queries: Sequence[Query], chat: Recorder | None, notes: Sequence[str]) -> TurnRecord | None:
    """The turn for export; None where its text is such that no file could hold it."""
    try:
        return record_turn(answer, queries, chat, notes)
    except ValueError:
        return None


def language_model(engine: Engine) -> Any:
    """The language model of the settings, or None."""
    return engine.llm_of(engine.settings)


def can_preview(engine: Engine) -> bool:
    """Whether it can be shown what would be sent to a language model."""
    return language_model(engine) is not None


def exported(engine: Engine, session: Session) -> str:
    """The conversation as the text of a bundle. Raises InputError where there is nothing to export."""
    return to_bytes(make_bundle(engine, session.records, language_model(engine), dropped=session.dropped)).decode()


def read_text(engine: Engine, text: str) -> tuple[str, list[Query]]:
    """Parts a message into words and what was pasted: (question, queries).

    A message that is a sequence, a SMILES or a name as a whole leaves no question. In a longer message, FASTA records and
    lines that the engine reads as a sequence or SMILES are taken out; the other lines are the question.
    """
    if not text:
        return "", []
    whole = engine.read(text)
    if whole is not None:
        return "", [whole]
    head, mark, records = text.partition("\n>")
    if mark:
        found = engine.read(">" + records)
        return (head.strip(), [found]) if found is not None else (text, [])
    words: list[str] = []
    queries: list[Query] = []
    for line in text.splitlines():
        query = engine.read(line.strip()) if " " not in line.strip() and len(line.strip()) > 3 else None
        if query is not None and "\n" in text:
            queries.append(query)
        else:
            words.append(line)
    return "\n".join(words).strip(), queries


def check_file(path: Path) -> Path:
    """The path, if its name is that of a file that is read here. Raises FileError with one line."""
    if path.suffix.lower() not in FILE_TYPES:
        raise FileError(f"{path.name} is not a type of file that is read here.", f"Attach one of {', '.join(FILE_TYPES)}.")
    return path


def default_candidates(engine: Engine, query: Query, top: int) -> Retrieval:
    """Drugs for a protein or a disease, proteins for anything else."""
    to = NodeType.DRUG if query.type in (NodeType.PROTEIN, NodeType.DISEASE) else NodeType.PROTEIN
    return engine.candidates(query=query, to=to.value, top=top)


def relations(engine: Engine, query: Query) -> list[Relation]:
    """What can be looked for from this query."""
    return list(engine.retriever.relations(query.type))


def switch(engine: Engine, session: Session, at: int, key: str, top: int) -> str:
    """Shows other candidates of the newest turn's query number `at`; returns an error line, or an empty string.

    A relation key that does not fit the query's type (another query was chosen) gives what is usually looked for.
    """
    queries = session.queries()
    query = queries[at] if 0 <= at < len(queries) else None
    if query is None:
        return ""
    relation = next((r for r in relations(engine, query) if r.key == key), None)
    try:
        if relation is None:
            session.show(default_candidates(engine, query, top))
            return ""
        session.show(engine.candidates(query=query, to=relation.tail_type, relation=relation.name, top=top))
    except BiobridgeError as error:
        return str(error)
    finally:
        session.top = top
    return ""


def _filled(engine: Engine, retrieval: Retrieval, top: int) -> Retrieval:
    """The same ranking at the length the reader chose."""
    if len(retrieval.hits) == top:
        return retrieval
    return engine.candidates(query=retrieval.query, to=retrieval.relation.tail_type, relation=retrieval.relation.name, top=top)


def _reading(queries: Sequence[Query]) -> str:
    if not queries:
        return "Searching the graph…"
    if len(queries) > 1:
        return f"Reading {len(queries)} queries…"
    return {NodeType.PROTEIN: "Reading the sequence…", NodeType.DRUG: "Reading the molecule…"}.get(queries[0].type, "Reading…")


def stop(session: Session) -> None:
    """Ends the running turn; its unfinished answer is marked as stopped."""
    if session.busy:
        session.finish()
        session.replace_last(f'<div class="answer">{notes_html(["Stopped."])}</div>')
