"""A conversation as one file: all that was asked, shown, sent and said, with what it was asked of, so that it can be asked again.

Knows: answers, queries, a home's manifest, JSON. Does not know: how a question is answered, the page, the command line.

A bundle is JSON, in UTF-8, keys in order: the same content gives the same bytes. What users attach is text and stands in it as it is,
unpublished sequences included. A key never does: of a language model it holds the name, the host and the parameters. Reading one is
reading what anybody may have written: its size, its form and every field that is used are checked.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from biobridge_rag import __version__
from biobridge_rag.errors import DiskFullError, FileError, InputError
from biobridge_rag.qa.recording import Exchange, Recorder
from biobridge_rag.types import Answer, NodeType, Query

FORMAT = "biobridge-rag conversation"
VERSION = 1
MAX_BYTES, MAX_TURNS = 64_000_000, 1_000
WARNING = "The file holds all of the conversation as it was, unpublished sequences and molecules included."
LIBRARIES = ("chromadb", "langchain-core", "langchain-openai", "numpy", "rapidfuzz", "rdkit", "torch", "transformers")
_SECRET = re.compile(r"(?i)api.?key|secret|password|authori[sz]ation|headers|access.?token|^key$|^token$")


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class QueryRecord(_Record):
    """A Query; node_id is that of the graph's node, where it was one."""

    type: NodeType = Field(strict=False)
    name: str
    value: str = ""
    node_id: str | None = None
    note: str = ""


class CitationRecord(_Record):
    key: str
    node_id: str
    name: str
    url: str
    edges: list[str]


class AnswerRecord(BaseModel):
    """Answer.to_dict(): what replay compares is checked, the rest is kept as it is."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    question: str
    kind: str
    text: str
    prediction: list[str]
    abstained: bool
    citations: list[CitationRecord]
    unsupported: list[str]
    retrieved: list[dict[str, JsonValue]]
    model: str
    prompt_sha256: str
    notice: str
    prompt: str
    shown: list[CitationRecord]
    removed: int
    usage: dict[str, JsonValue]


class TurnRecord(_Record):
    """One question: its attachments, how it was put, its answer, and what a language model was sent and wrote on the way."""

    question: str
    queries: list[QueryRecord]
    notes: list[str] = []
    options: list[str] = []
    kind: str = ""
    arm: str = "full"
    exchanges: list[Exchange] = []
    answer: AnswerRecord


class HomeRecord(_Record):
    """What the answers rest on. fusion: sha256 of the home's fusion.json."""

    graph: str
    graph_sha256: str
    nodes: int
    edges: int
    encoders: dict[str, str]
    bridge: str
    bridge_sha256: str
    fusion: str


class ModelRecord(_Record):
    model: str
    host: str = ""
    parameters: dict[str, JsonValue] = {}


class Bundle(_Record):
    """A conversation, oldest turn first. dropped: how many turns before these were no longer held."""

    format: Literal["biobridge-rag conversation"] = "biobridge-rag conversation"
    version: Literal[1] = 1
    created: str
    package: str
    libraries: dict[str, str]
    home: HomeRecord
    seeds: dict[str, int]
    llm: ModelRecord | None
    dropped: int = Field(default=0, ge=0)
    turns: list[TurnRecord] = Field(min_length=1, max_length=MAX_TURNS)


def record_turn(
    answer: Answer, queries: Sequence[Query] = (), recorder: Recorder | None = None, notes: Sequence[str] = (),
    options: Sequence[str] = (), kind: str = "", arm: str = "full",
) -> TurnRecord:  # fmt: skip
    """One turn as it was: what the engine was asked with, its answer, and what `recorder` heard of a language model meanwhile."""
    asked = [QueryRecord(type=q.type, name=q.name, value=q.value, node_id=q.node.id if q.node else None, note=q.note) for q in queries]
    said = AnswerRecord.model_validate(answer.to_dict())
    exchanges = list(recorder.exchanges) if recorder is not None else []
    return TurnRecord(
        question=answer.question, queries=asked, notes=list(notes), options=list(options), kind=kind, arm=arm, exchanges=exchanges,
        answer=said,
    )  # fmt: skip


def make_bundle(engine: Any, turns: Sequence[TurnRecord], llm: Any = None, created: datetime | None = None, dropped: int = 0) -> Bundle:
    """The turns that were asked of this engine's home. llm: the language model in use, of which name, host and parameters are kept.

    Raises InputError where there are none, or too many."""
    if not 0 < len(turns) <= MAX_TURNS:
        raise InputError(
            f"A conversation of {len(turns):,} turns cannot be exported.", f"1 to {MAX_TURNS:,} can." if turns else "Ask something first."
        )
    when = (created or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds")
    return Bundle(
        created=when, package=__version__, libraries=libraries(), home=home_record(engine), seeds={"home": engine.home.manifest.seed},
        llm=None if llm is None else model_record(llm), dropped=dropped, turns=list(turns),
    )  # fmt: skip


def save_answer(
    engine: Any, path: Path, answer: Answer, queries: Sequence[Query] = (), recorder: Recorder | None = None, notes: Sequence[str] = (),
    options: Sequence[str] = (), kind: str = "", arm: str = "full",
) -> str:  # fmt: skip
    """Writes a single answer as a conversation of one turn; see record_turn and save_bundle. Returns the line to tell the user."""
    turn = record_turn(answer, queries, recorder, notes, options, kind, arm)
    save_bundle(make_bundle(engine, [turn], recorder.chat if recorder is not None else None), path)
    return f"{path}: {WARNING}"


def home_record(engine: Any) -> HomeRecord:
    """Of the engine's home, what its answers depend on."""
    manifest = engine.home.manifest
    fusion = engine.home.path / "fusion.json"
    return HomeRecord(
        graph=manifest.graph_name, graph_sha256=manifest.graph_sha256, nodes=len(engine.graph.nodes), edges=engine.graph.n_edges,
        encoders=dict(manifest.encoders), bridge=manifest.bridge_kind, bridge_sha256=manifest.bridge_sha256,
        fusion=hashlib.sha256(fusion.read_bytes()).hexdigest() if fusion.exists() else "",
    )  # fmt: skip


def model_record(llm: Any) -> ModelRecord:
    """Name, host and parameters of a language model; nothing that looks like a key."""
    options = getattr(getattr(llm, "config", None), "options", None)
    given = options(()) if callable(options) else getattr(llm, "parameters", {})
    plain: dict[str, JsonValue] = {
        k: v for k, v in given.items() if isinstance(v, str | int | float | bool | None) and not _SECRET.search(k)
    }
    return ModelRecord(model=llm.model, host=str(getattr(llm, "host", "")), parameters=plain)


def libraries() -> dict[str, str]:
    """The versions of the libraries that an answer depends on; those that are not installed are left out."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def to_bytes(bundle: Bundle) -> bytes:
    """The file's bytes, the same for the same content."""
    data = bundle.model_dump(mode="json")
    return (json.dumps(data, ensure_ascii=False, sort_keys=True, indent=1, allow_nan=False) + "\n").encode("utf-8", "backslashreplace")


def save_bundle(bundle: Bundle, path: Path) -> None:
    """Writes the file, for its owner alone to read, beside its place and renames it. Raises InputError or DiskFullError."""
    check_place(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            out.write(to_bytes(bundle))
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DiskFullError(f"Cannot write {path}: {error.strerror or error}.", "Free some space, or choose another place.") from error


def check_place(path: Path) -> None:
    """Raises InputError where no bundle can be written, as its folder is not there or it is one."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise InputError(f"The bundle cannot be written to {path}: {'it is a folder' if path.is_dir() else 'its folder does not exist'}.")


def load_bundle(path: Path) -> Bundle:
    """Reads a bundle. Raises FileError with one line for a file that is missing, too big, no bundle, of another version or damaged."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise FileError(f"The bundle {path} cannot be read: {error.strerror or error}.") from error
    if len(data) > MAX_BYTES:
        raise FileError(f"The file {path} has more than {MAX_BYTES // 1_000_000} MB, which no bundle has.")
    return read_bundle(data, str(path))


def read_bundle(data: bytes, name: str = "bundle") -> Bundle:
    """A bundle of a file's bytes; see load_bundle."""
    try:
        found = json.loads(data.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise FileError(f"{name} is not a bundle: it is not text in UTF-8.") from None
    except (ValueError, RecursionError):
        raise FileError(f"{name} is not a bundle, or is cut off: it is not JSON.", "Export the conversation again.") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise FileError(f"{name} is JSON, but not an exported conversation.", f'Its "format" would be {FORMAT!r}.')
    version = found.get("version")
    number = isinstance(version, int) and not isinstance(version, bool) and abs(version) < 10**6
    if version != VERSION or not number:
        shown = version if number else "of another kind"
        raise FileError(
            f"{name} is a conversation of format version {shown}; this version reads {VERSION}.", "Use the version that wrote it."
        )
    try:
        return Bundle.model_validate(found)
    except (ValidationError, RecursionError) as error:
        what = ""
        if isinstance(error, ValidationError):
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(printable(str(part), 40) for part in first["loc"])
            what = f" {where}: {first['msg']}."
        raise FileError(f"The bundle {name} is damaged.{what}", "Export the conversation again.") from None


def printable(text: str, most: int = 160) -> str:
    """Text of a bundle on one line for a terminal: no control characters, shortened."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _no_constant(name: str) -> float:
    raise ValueError(name)
