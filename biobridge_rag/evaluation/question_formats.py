"""Rows of a file of questions, whatever its form: JSON lines, a JSON list, CSV, TSV, or PubMedQA's ori_pqal.json; plain or .gz.

Knows: the forms, and how a line of them can be broken. Does not know: what a question needs, how it is asked.

PubMedQA: Jin et al. 2019, arXiv 1909.06146; its file is one object {pmid: {QUESTION, CONTEXTS, LABELS, final_decision, ...}}.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from biobridge_rag.errors import FileError, InputError

MAX_FILE = 256_000_000  # bytes, unpacked
MAX_FIELD = 2_000_000  # characters of one CSV field or one JSON line
_NAMES = {"answer": "answers", "correct_answer": "answers", "choices": "options", "sequences": "sequence", "protein_sequence": "sequence"}
_FORMS = "Give JSON lines, CSV or TSV with the columns question and answers (or answer), or PubMedQA's ori_pqal.json, in UTF-8."

Row = tuple[int, dict[str, Any] | str]  # the line's number from 1, and its fields or what is wrong with it


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of the file in its order; fields have lower-case names, and those that hold lists may still be text or a list.

    Raises FileError for a file that cannot be read, is too large or is no text, InputError for an empty one or a table without a
    column of questions."""
    text = _text(path)
    name = re.sub(r"\.gz$", "", path.name.lower())
    if not text.strip():
        raise InputError(f"{path} is empty.", _FORMS)
    if name.endswith((".csv", ".tsv", ".tab")) or not text.lstrip().startswith(("{", "[")):
        if name.endswith((".jsonl", ".ndjson", ".json")):
            return _json_lines(text)
        return _table(text, path, "\t" if _tabs(name, text) else ",")
    whole = None if name.endswith((".jsonl", ".ndjson")) else _whole(text)
    if isinstance(whole, list):
        return ((number, _fields(row)) for number, row in enumerate(whole, start=1))
    if isinstance(whole, dict) and whole and all(isinstance(v, dict) and "QUESTION" in v for v in whole.values()):
        return _pubmedqa(whole)
    return _json_lines(text)


def _text(path: Path) -> str:
    """The file as text; bytes that are not UTF-8 become lone surrogates, so that only their rows are lost."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            data = (gzip.GzipFile(fileobj=raw) if packed else raw).read(MAX_FILE + 1)
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise FileError(f"{path} cannot be read: {reason}.", _FORMS) from error
    if len(data) > MAX_FILE:
        raise FileError(f"{path} is too large: at most {MAX_FILE / 1e6:,.0f} MB of questions are read.", "Split it.")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:1000]:
        raise FileError(f"{path} is not UTF-8 text.", _FORMS)
    return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="surrogateescape")


def _whole(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _json_lines(text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        if len(line) > MAX_FIELD:
            yield number, f"longer than {MAX_FIELD:,} characters"
            continue
        try:
            yield number, _fields(json.loads(line))
        except (ValueError, RecursionError):
            yield number, "not JSON"


def _names(cells: Sequence[object]) -> list[str]:
    """Lower-case names of columns; another spelling of a name that is not there itself becomes that name."""
    names = ["_".join(str(cell).lower().split()) for cell in cells]
    return [_NAMES.get(n, n) if _NAMES.get(n) not in names else n for n in names]


def _fields(row: Any) -> dict[str, Any] | str:
    if not isinstance(row, dict):
        return "not a JSON object"
    if "QUESTION" in row and "final_decision" in row:
        return _of_pubmedqa("", row)
    return dict(zip(_names(list(row)), row.values(), strict=True))


def _pubmedqa(whole: dict[str, Any]) -> Iterator[Row]:
    for number, (pmid, row) in enumerate(whole.items(), start=1):
        yield number, _of_pubmedqa(pmid, row)


def _of_pubmedqa(pmid: str, row: dict[str, Any]) -> dict[str, Any] | str:
    """Yes, no or maybe; the sections of the abstract, each with its label, are its passages."""
    try:
        contexts, labels = as_list(row.get("CONTEXTS"), split=False), as_list(row.get("LABELS"))
    except ValueError as error:
        return f"a field that is {error} (CONTEXTS or LABELS)"
    labels += [""] * (len(contexts) - len(labels))
    passages = [f"{label}: {text}" if label else str(text) for label, text in zip(labels, contexts, strict=False)]
    decision = row.get("final_decision")
    return {
        "id": pmid or row.get("id"), "kind": "choice", "question": row["QUESTION"], "options": ["yes", "no", "maybe"],
        "answers": [decision] if decision else [], "source": f"PubMedQA {pmid}".strip(), "passages": passages,
    }  # fmt: skip


def _tabs(name: str, text: str) -> bool:
    first = text.partition("\n")[0]
    return name.endswith((".tsv", ".tab")) or (not name.endswith(".csv") and first.count("\t") > first.count(","))


def _table(text: str, path: Path, delimiter: str) -> Iterator[Row]:
    """A line that cannot be parsed, for instance for a quotation mark that is never closed, is left, and reading goes on after it."""
    records = [
        r for r in _records(text.replace("\0", "\ufffd").split("\n"), delimiter) if isinstance(r[1], str) or any(map(str.strip, r[1]))
    ]
    header = next((_names(record) for _, record in records if isinstance(record, list)), [])
    if "question" not in header:
        have = " ".join(", ".join(header).encode(errors="replace").decode().split())[:200]
        raise InputError(f"{path} has no column question; it has: {have or 'none'}.", _FORMS)
    if len(set(header)) < len(header):
        raise InputError(f"{path} names a column twice.", "Give each column a name of its own.")
    return _cells(records, header)


def _cells(records: list[tuple[int, list[str] | str]], header: list[str]) -> Iterator[Row]:
    begun = False
    for number, record in records:
        if isinstance(record, str):
            yield number, record
        elif not begun:
            begun = True
        elif len(record) > len(header):
            yield number, f"{len(record)} columns, not {len(header)}"
        else:
            yield number, dict(zip(header, [*record, *[""] * (len(header) - len(record))], strict=True))


def _records(lines: list[str], delimiter: str) -> list[tuple[int, list[str] | str]]:
    """The records with the number of the line that each begins on, or what is wrong with that line."""
    out: list[tuple[int, list[str] | str]] = []
    before, at = csv.field_size_limit(MAX_FIELD), 0
    try:
        while at < len(lines):
            begin = at
            reader = csv.reader((lines[i] + "\n" for i in range(begin, len(lines))), delimiter=delimiter, strict=True)
            try:
                for record in reader:
                    out.append((at + 1, record))
                    at = begin + reader.line_num
            except csv.Error as error:
                out.append((at + 1, f"not CSV ({error})"))
                at += 1
    finally:
        csv.field_size_limit(before)
    return out


def as_list(value: Any, *, split: bool = True) -> list[str]:
    """A field that may hold several texts: a list, a JSON list, or texts with | between them; blank ones are dropped.

    Booleans become "True" and "False", numbers their digits. Raises ValueError for anything else, such as an object."""
    if value is None:
        return []
    if isinstance(value, str):
        stripped = value.strip()
        if split and stripped.startswith("[") and stripped.endswith("]"):
            try:
                return as_list(json.loads(stripped))
            except (ValueError, RecursionError):
                pass
        return [part.strip() for part in (stripped.split("|") if split else [stripped]) if part.strip()]
    if isinstance(value, bool | int | float):
        return [str(value)]
    if isinstance(value, list):
        if any(not isinstance(v, str | bool | int | float) for v in value):
            raise ValueError("not a list of texts")
        return [text for v in value if (text := str(v).strip())]
    raise ValueError("neither text nor a list of texts")
