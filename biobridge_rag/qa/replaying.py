"""Asks a conversation again, turn by turn, and says what comes out otherwise than it is recorded.

Knows: bundles, the engine's calls. Does not know: files, the page, the command line.

Each turn is asked after the turns as they are recorded, so that one that differs does not make the next ones differ too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from biobridge_rag import __version__
from biobridge_rag.errors import BiobridgeError, HomeMismatchError, InputError
from biobridge_rag.qa.bundles import AnswerRecord, Bundle, HomeRecord, TurnRecord, home_record, libraries, model_record, printable
from biobridge_rag.qa.recording import Recorded
from biobridge_rag.types import Answer, Query

HISTORY_TURNS = 20
"""How many earlier turns a question is asked with, on the page and here."""
COMPARED = ("prompt_sha256", "text", "prediction", "abstained", "citations", "unsupported", "removed", "shown", "kind", "model")
_HOME = {
    "graph_sha256": "graph", "encoders": "encoders", "bridge_sha256": "bridge", "fusion": "fusion weights",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Difference:
    """A field that is not as recorded: both texts, on one line each, from where they part. `turn` counts from 1; 0 is the whole."""

    turn: int
    field: str
    recorded: str
    found: str

    def to_dict(self) -> dict[str, Any]:
        return {"turn": self.turn, "field": self.field, "recorded": self.recorded, "found": self.found}


@dataclass(frozen=True, slots=True)
class Replay:
    """differences: of the answers; around: of what they rest on (home, package, libraries, language model), which need not matter."""

    turns: int
    recorded: bool
    differences: tuple[Difference, ...]
    around: tuple[Difference, ...]

    @property
    def same(self) -> bool:
        return not self.differences

    def to_dict(self) -> dict[str, Any]:
        return {
            "turns": self.turns, "same": self.same, "recorded": self.recorded, "differences": [d.to_dict() for d in self.differences],
            "around": [d.to_dict() for d in self.around],
        }  # fmt: skip


def replay(bundle: Bundle, engine: Any, llm: str | None = None, *, recorded: bool = False, force: bool = False) -> Replay:
    """Asks every turn again on the engine's home.

    llm: the model to ask, "none" for none; None is the one of the settings. recorded: what the model wrote is taken from the bundle
    and goes through the checks again; nothing is sent. force: also on another home.
    Raises HomeMismatchError for another home, InputError where a model wrote and none is there.
    """
    here = home_record(engine)
    around = _home_differences(bundle.home, here)
    if around and not force:
        what = " and ".join(d.field for d in around)
        raise HomeMismatchError(
            f"The conversation was held on another home: the {what} of {printable(bundle.home.graph, 60)!r} there "
            f"{'differs' if len(around) == 1 else 'differ'} from {here.graph!r} here.",
            "Name its home with --home, or replay it here all the same with --force.",
        )
    model = None if recorded else engine.llm_of(engine.settings, llm)
    writers = [i for i, turn in enumerate(bundle.turns, 1) if turn.answer.model not in ("", "none")]
    if writers and model is None and llm is None and not recorded:
        name = printable(bundle.turns[writers[0] - 1].answer.model, 60)
        raise InputError(
            f"The answer of turn {writers[0]} was written by the language model {name!r}, and none is set here.",
            "Take what it wrote from the bundle with --recorded, name a model with --llm, or compare the evidence alone with --llm none.",
        )
    around += _around(bundle, None if model is None else model_record(model).model_dump())
    differences: list[Difference] = []
    for i, turn in enumerate(bundle.turns):
        differences += _turn(bundle.turns[max(0, i - HISTORY_TURNS) : i], turn, i + 1, engine, llm, recorded)
    return Replay(len(bundle.turns), recorded, tuple(differences), tuple(around))


def _turn(before: Sequence[TurnRecord], turn: TurnRecord, number: int, engine: Any, llm: str | None, recorded: bool) -> list[Difference]:
    queries, missing = _queries(turn, engine)
    if missing:
        return [Difference(number, "queries", missing, "not in this graph")]
    chat = None
    if recorded:
        llm = "none"
        if turn.exchanges:
            chat = Recorded(turn.answer.model if turn.answer.model != "none" else "recorded", turn.exchanges)
    history = [(t.question, t.answer.text, _queries(t, engine)[0]) for t in before]
    how: dict[str, Any] = {"options": tuple(turn.options), "kind": turn.kind, "arm": turn.arm, "chat": chat}
    if any(said.kind == "tools" for said in turn.exchanges):
        how["plan"] = True
    try:
        events = engine.ask_stream(turn.question, queries, llm, history, **how)
        answers = [event.answer for event in events if event.answer is not None]
    except BiobridgeError as error:
        return [Difference(number, "answer", "an answer", printable(error.message))]
    found = answers[-1]
    differences = _compared(turn.answer, found, number)
    if chat is not None and chat.other_prompts and not any(d.field == "prompt_sha256" for d in differences):
        differences.insert(0, Difference(number, "prompt", "the recorded prompt", "another one"))
    if differences and found.notice and found.notice != turn.answer.notice:
        differences.append(Difference(number, "notice", printable(turn.answer.notice) or "none", printable(found.notice)))
    return differences


def _queries(turn: TurnRecord, engine: Any) -> tuple[list[Query], str]:
    """The turn's queries, and the id of a node that this graph does not hold, else an empty string."""
    queries, missing = [], ""
    for q in turn.queries:
        at = engine.graph.position(q.type, q.node_id) if q.node_id is not None else None
        if q.node_id is not None and at is None:
            missing = missing or printable(q.node_id, 60)
        queries.append(Query(q.type, q.name, q.value, engine.graph.nodes[at] if at is not None else None, q.note))
    return queries, missing


def _compared(recorded: AnswerRecord, found: Answer, number: int) -> list[Difference]:
    then, now = recorded.model_dump(), found.to_dict()
    return [Difference(number, name, *_apart(then[name], now[name])) for name in COMPARED if then[name] != now[name]]


def _apart(then: Any, now: Any) -> tuple[str, str]:
    """Both from where they part, on one line each."""
    if isinstance(then, list) and isinstance(now, list):
        at = next((i for i, (a, b) in enumerate(zip(then, now, strict=False)) if a != b), min(len(then), len(now)))
        one, other = (f"{len(v)} in all; number {at + 1}: {_item(v[at])}" if at < len(v) else f"{len(v)} in all" for v in (then, now))
        return one, other
    a, b = str(then), str(now)
    at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    start = max(0, at - 40)
    lead = "…" if start else ""
    return lead + printable(a[start:]), lead + printable(b[start:])


def _item(value: Any) -> str:
    return printable(f"{value['key']} {value['name']} ({value['node_id']})" if isinstance(value, dict) and "key" in value else str(value))


def _home_differences(then: HomeRecord, now: HomeRecord) -> list[Difference]:
    a, b = then.model_dump(), now.model_dump()
    return [Difference(0, label, printable(str(a[name])), printable(str(b[name]))) for name, label in _HOME.items() if a[name] != b[name]]


def _around(bundle: Bundle, model: dict[str, Any] | None) -> list[Difference]:
    rows = [("package version", bundle.package, __version__)]
    here = libraries()
    rows += [(f"version of {name}", version, here.get(name, "not installed")) for name, version in sorted(bundle.libraries.items())]
    then = bundle.llm.model_dump() if bundle.llm else None
    if model is not None and then is not None:
        rows += [(f"language model's {name}", str(then[name]), str(model[name])) for name in ("model", "host", "parameters")]
    return [Difference(0, printable(field, 60), printable(a), printable(b)) for field, a, b in rows if a != b]
