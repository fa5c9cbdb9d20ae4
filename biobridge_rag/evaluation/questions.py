"""The questions of an evaluation, read from a file and checked; what cannot be asked is left out, by line and reason.

Knows: what a question needs, kinds of answers. Does not know: how files are laid out (question_formats), who answers, how it is scored.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from biobridge_rag.errors import InputError
from biobridge_rag.evaluation.question_formats import as_list, read_rows

KINDS = ("open", "choice", "true_false")
MAX_QUESTION = 1_000_000  # characters
_TRUE = ("true", "false")
_SAID = {"true": True, "yes": True, "1": True, "1.0": True, "false": False, "no": False, "0": False, "0.0": False}


@dataclass(frozen=True, slots=True)
class Question:
    """kind: one of KINDS; answers: any of them is right, none where nobody knows; options: as they are offered, a text may stand there
    twice; answerable: whether the graph can answer it, None where the file does not say; sequences: proteins, each as residues or as
    FASTA; smiles: molecules; passages: texts that belong to it; line: where it stands in its file, from 1."""

    id: str
    kind: str
    question: str
    answers: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    answerable: bool | None = None
    source: str = ""
    sequences: tuple[str, ...] = ()
    smiles: tuple[str, ...] = ()
    passages: tuple[str, ...] = ()
    line: int = field(default=0, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """All of it but its line; what is empty is left out."""
        found = {
            "id": self.id, "kind": self.kind, "question": self.question, "options": list(self.options), "answers": list(self.answers),
            "answerable": self.answerable, "source": self.source, "sequences": list(self.sequences), "smiles": list(self.smiles),
            "passages": list(self.passages),
        }  # fmt: skip
        return {k: v for k, v in found.items() if v not in ("", [], None)}


@dataclass(frozen=True)
class Questions:
    """problems: (line, what is wrong), in order, of what was left out; n_unscored: questions without a right answer, which are asked."""

    path: Path
    questions: tuple[Question, ...]
    problems: tuple[tuple[int, str], ...] = ()

    @property
    def left_out(self) -> dict[str, int]:
        """How many lines were left out, by reason; details in brackets are not told apart."""
        return dict(Counter(re.sub(r" \(.*", "", reason) for _, reason in self.problems))

    @property
    def n_unscored(self) -> int:
        return sum(not q.answers for q in self.questions)

    @property
    def sha256(self) -> str:
        """A hash of all that is asked and of what is right."""
        return sha256_of(self.questions)


def sha256_of(questions: Sequence[Question]) -> str:
    h = hashlib.sha256()
    for question in questions:
        h.update(json.dumps(question.to_dict(), sort_keys=True).encode())
        h.update(b"\n")
    return h.hexdigest()


def read_questions(path: Path) -> Questions:
    """The questions of a file in any of the forms of question_formats, in its order.

    Fields: question; answers (or answer); and, where they are there, id, kind, options, answerable, source, sequence or fasta, smiles,
    passages. Lists are JSON lists, or texts with | between them. A kind that is not given is true_false where the options are True and
    False, choice where there are others, true_false where there are none and the answer is true, false, yes or no, else open. An answer
    that is a single letter stands for the option at its place (A the first), where it is no option itself. An id that is not given is
    made of a hash of the question. Of questions with one id the first is kept.

    Raises FileError and InputError in one line: for a file that cannot be read, for one without any usable question, and for one in
    which no question has an answer.
    """
    path = Path(path)
    found: dict[str, Question] = {}
    problems: list[tuple[int, str]] = []
    for line, row in read_rows(path):
        try:
            if isinstance(row, str):
                raise ValueError(row)
            question = _question(row, line)
            if question.id in found:
                raise ValueError(f"an id that was there before ({_short(question.id)}, line {found[question.id].line})")
        except ValueError as error:
            problems.append((line, str(error)))
            continue
        found[question.id] = question
    if not found:
        first = f" Line {problems[0][0]}: {problems[0][1]}." if problems else ""
        raise InputError(f"{path} holds no question that can be asked.{first}", "Each line needs a question and its answers.")
    if not any(q.answers for q in found.values()):
        raise InputError(
            f"No question of {path} has an answer, so nothing could be scored.", "Name the column of the right answers: answers, or answer."
        )
    return Questions(path, tuple(found.values()), tuple(problems))


def _question(row: dict[str, Any], line: int) -> Question:
    """Raises ValueError: what is wrong, in a few words."""
    text, kind, source = (_text(row, name) for name in ("question", "kind", "source"))
    if not text:
        raise ValueError("an empty question")
    if len(text) > MAX_QUESTION:
        raise ValueError(f"a question of more than {MAX_QUESTION:,} characters")
    options = _texts(row, "options")
    answers = _texts(row, "answers")
    kind = re.sub(r"[\s/-]+", "_", kind.lower()) or _kind(options, answers)
    if kind not in KINDS:
        raise ValueError(f"a kind that is none of {', '.join(KINDS)} ({_short(kind)})")
    if kind == "true_false" and not options:
        options = ("Yes", "No") if {a.lower() for a in answers} & {"yes", "no"} else ("True", "False")
    if kind == "choice" and len(options) < 2:
        raise ValueError("a choice with fewer than two options")
    if kind == "true_false" and any(a.lower() not in _SAID for a in answers):
        raise ValueError("an answer that is neither true nor false")
    if kind == "choice" and answers:
        answers = tuple(_option(answer, options) for answer in answers)
        if not {a.casefold() for a in answers} & {o.casefold() for o in options}:
            raise ValueError("a choice whose answer is none of its options")
    sequences = (*_texts(row, "sequence", split=False), *_texts(row, "fasta", split=False))
    smiles, passages = _texts(row, "smiles", split=False), _texts(row, "passages", split=False)
    name = _text(row, "id") or _made_id(text, options, sequences, smiles)
    if len(name) > 200:
        raise ValueError("an id of more than 200 characters")
    return Question(name, kind, text, answers, options, _answerable(row), source, sequences, smiles, passages, line)


def _kind(options: Sequence[str], answers: Sequence[str]) -> str:
    if options:
        return "true_false" if {o.lower() for o in options} == set(_TRUE) else "choice"
    said = {a.lower() for a in answers}
    return "true_false" if said and (said <= set(_TRUE) or said <= {"yes", "no"}) else "open"


def _option(answer: str, options: Sequence[str]) -> str:
    """The answer, or the option that its letter stands for."""
    if answer.casefold() in {o.casefold() for o in options} or not re.fullmatch(r"\(?([A-Za-z])[).]?", answer):
        return answer
    at = ord(answer.strip("().").upper()) - ord("A")
    return options[at] if at < len(options) else answer


def _text(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if value is None:
        return ""
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise ValueError(f"a field that is no text ({name})")
    return _valid(str(value).strip(), name)


def _texts(row: dict[str, Any], name: str, *, split: bool = True) -> tuple[str, ...]:
    try:
        return tuple(_valid(value, name) for value in as_list(row.get(name), split=split))
    except ValueError as error:
        raise ValueError(str(error) if "(" in str(error) else f"a field that is {error} ({name})") from None


def _valid(text: str, name: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"a field that is not UTF-8 ({name})") from None
    return text


def _answerable(row: dict[str, Any]) -> bool | None:
    value = row.get("answerable")
    if value is None or isinstance(value, bool) or not str(value).strip():
        return value if isinstance(value, bool) else None
    said = _SAID.get(str(value).strip().lower())
    if said is None:
        raise ValueError(f"an answerable that is neither true nor false ({_short(str(value))})")
    return said


def _made_id(*parts: object) -> str:
    return "q-" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def _short(text: str) -> str:
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= 60 else text[:59] + "…"
