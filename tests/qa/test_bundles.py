"""Conversations as files: what stands in them, that reading trusts nothing, and that asking again tells the same from the different."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace as changed
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biobridge_rag.errors import BiobridgeError, FileError, HomeMismatchError, InputError, LLMError
from biobridge_rag.qa.bundles import (
    Bundle,
    load_bundle,
    make_bundle,
    model_record,
    read_bundle,
    record_turn,
    save_answer,
    save_bundle,
    to_bytes,
)
from biobridge_rag.qa.recording import Recorded, Recorder
from biobridge_rag.qa.replaying import replay
from biobridge_rag.types import KnowledgeGraph, NodeType, Query
from tests.qa.small_engine import SmallEngine
from tests.qa.test_answering import GRAPH, NODES

WHEN = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)
SEQUENCE = "MKVLAAGGTRQ"


class Model:
    """Says its pieces; may fail after them. Has a key that no bundle may hold."""

    host, api_key = "127.0.0.1:9", "sk-secret"
    parameters: ClassVar[dict[str, Any]] = {"temperature": 0, "seed": 1, "api_key": "sk-secret", "stop": ["x"]}

    def __init__(self, *pieces: str, error: str = "", model: str = "tiny") -> None:
        self.pieces, self.error, self.model = pieces, error, model
        self.sent: list[Sequence[tuple[str, str]]] = []

    def stream(self, messages: Sequence[tuple[str, str]]) -> Iterator[str]:
        self.sent.append(messages)
        yield from self.pieces
        if self.error:
            raise LLMError(self.error)


def talk(engine: SmallEngine, *questions: str, queries: Sequence[Query] = (), model: Model | None = None) -> Bundle:
    """A conversation, the queries attached to its first question."""
    history: list[tuple[str, str, Sequence[Query]]] = []
    turns = []
    for question in questions:
        attached = () if history else queries
        recorder = Recorder(model) if model else None
        answer = [e.answer for e in engine.ask_stream(question, attached, "none", history, chat=recorder) if e.answer][-1]
        turns.append(record_turn(answer, attached, recorder))
        history.append((question, answer.text, attached))
    return make_bundle(engine, turns, model, WHEN)


@pytest.fixture
def engine(tmp_path: Path) -> SmallEngine:
    return SmallEngine(tmp_path)


def data_of(bundle: Bundle) -> Any:
    return json.loads(to_bytes(bundle))


def test_a_conversation_holds_what_was_asked_shown_and_what_it_rests_on(engine: SmallEngine, tmp_path: Path) -> None:
    bundle = talk(
        engine, "What could bind this?", "and EGFR?", queries=[Query(NodeType.PROTEIN, "mine", SEQUENCE, None, "read as protein")]
    )
    save_bundle(bundle, tmp_path / "talk.json")
    assert load_bundle(tmp_path / "talk.json") == bundle
    assert (tmp_path / "talk.json").stat().st_mode & 0o077 == 0 and not list(tmp_path.glob(".*tmp"))
    data = data_of(bundle)
    assert data["created"] == "2026-11-02T09:30:00+00:00" and data["seeds"] == {"home": 7} and data["libraries"]["numpy"]
    assert data["home"]["graph_sha256"] == GRAPH.sha256 and data["home"]["bridge_sha256"] == "b" * 64 and len(data["home"]["fusion"]) == 64
    query = data["turns"][0]["queries"][0]
    assert query == {"type": "gene/protein", "name": "mine", "value": SEQUENCE, "node_id": None, "note": "read as protein"}
    answer = data["turns"][1]["answer"]
    assert {"kind", "prediction", "shown", "removed", "usage", "citations", "retrieved"} <= set(answer) and answer["citations"]
    assert data["llm"] is None


def test_one_answer_is_saved_with_a_word_on_what_is_inside(engine: SmallEngine, tmp_path: Path) -> None:
    recorder = Recorder(Model("Gefitinib targets EGFR [2]."))
    query = Query(NodeType.PROTEIN, "mine", SEQUENCE)
    answer = [e.answer for e in engine.ask_stream("What binds this?", [query], chat=recorder) if e.answer][-1]
    said = save_answer(engine, tmp_path / "one.json", answer, [query], recorder, ["a note"], kind="open")
    assert "unpublished sequences" in said and "\n" not in said
    bundle = load_bundle(tmp_path / "one.json")
    assert bundle.llm is not None and bundle.llm.model == "tiny" and bundle.turns[0].kind == "open" and bundle.turns[0].notes == ["a note"]


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    one, other = (talk(SmallEngine(tmp_path), "Which drugs target EGFR?", "the second one") for _ in range(2))
    assert to_bytes(one) == to_bytes(other) == to_bytes(read_bundle(to_bytes(one)))


def test_of_a_model_the_words_are_kept_and_never_a_key(engine: SmallEngine) -> None:
    model = Model("Gefitinib targets <b>EGFR</b> [2].", " It cures [77].")
    bundle = talk(engine, "Which drugs target EGFR?", model=model)
    assert b"sk-secret" not in to_bytes(bundle)
    assert data_of(bundle)["llm"] == {"model": "tiny", "host": "127.0.0.1:9", "parameters": {"temperature": 0, "seed": 1}}
    (exchange,) = bundle.turns[0].exchanges
    assert exchange.text == "Gefitinib targets <b>EGFR</b> [2]. It cures [77]." and exchange.error == ""
    assert exchange.messages == [list(m) for m in model.sent[0]]
    assert exchange.prompt_sha256 == bundle.turns[0].answer.prompt_sha256
    assert model_record(Model()).parameters == {"temperature": 0, "seed": 1}


def test_a_replay_without_a_model_is_the_same(engine: SmallEngine) -> None:
    questions = ("Which drugs target EGFR?", "the second one", "and its side effects?", "Does it treat breast cancer?", "hello")
    found = replay(talk(engine, *questions), engine)
    assert found.same and found.turns == 5 and found.around == ()
    known = Query(NodeType.DRUG, "gefitinib", "", NODES["gefitinib"])
    assert replay(talk(engine, "What is this for?", "and its target?", queries=[known]), engine).same


def test_recorded_words_of_a_model_are_checked_again_to_the_same_answer(engine: SmallEngine) -> None:
    model = Model("Gefitinib targets EGFR [2]. ", "It cures all [77].")
    bundle = read_bundle(to_bytes(talk(engine, "Which drugs target EGFR?", "and ERBB2?", model=model)))
    found = replay(bundle, engine, recorded=True)
    assert found.same and found.recorded
    assert bundle.turns[0].answer.unsupported and bundle.turns[0].answer.model == "tiny"
    failed = talk(engine, "Which drugs target EGFR?", model=Model("Half an", error="The language model at h answered 429."))
    assert failed.turns[0].exchanges[0].error and replay(failed, engine, recorded=True).same


def test_a_model_that_is_there_is_asked_again_and_one_that_says_otherwise_is_told(engine: SmallEngine) -> None:
    model = Model("Gefitinib targets EGFR [2].")
    bundle = talk(engine, "Which drugs target EGFR?", model=model)
    engine.models[""] = model
    assert replay(bundle, engine).same and len(model.sent) == 2 and model.sent[0] == model.sent[1]
    engine.models["other"] = Model("Lapatinib targets EGFR [3].", model="other")
    found = replay(bundle, engine, "other")
    assert {d.field for d in found.differences} == {"text", "prediction", "citations", "model"}
    text = next(d for d in found.differences if d.field == "text")
    assert (text.turn, text.recorded, text.found) == (1, "Gefitinib targets EGFR [2].", "Lapatinib targets EGFR [3].")
    assert [d.field for d in found.around] == ["language model's model"]


def test_a_model_that_is_not_there_is_one_line_and_one_that_fails_is_a_difference(engine: SmallEngine) -> None:
    bundle = talk(engine, "Which drugs target EGFR?", model=Model("Gefitinib targets EGFR [2]."))
    with pytest.raises(InputError, match=r"turn 1 was written by the language model 'tiny', and none is set here.*--recorded"):
        replay(bundle, engine)
    assert "model" in {d.field for d in replay(bundle, engine, "none").differences}
    engine.models[""] = Model(error="The language model at h could not be reached.")
    found = replay(bundle, engine)
    assert next(d for d in found.differences if d.field == "notice").found.startswith("The language model at h could not be reached.")


def edited(bundle: Bundle, **answer: Any) -> Bundle:
    data = data_of(bundle)
    data["turns"][0]["answer"] |= answer
    return read_bundle(json.dumps(data).encode())


@pytest.mark.parametrize(
    ("field", "value"),
    [("text", "Another text."), ("prediction", ["x"]), ("abstained", True), ("citations", []), ("prompt_sha256", "0" * 64), ("removed", 3)],
)
def test_each_field_that_differs_is_told_by_turn(engine: SmallEngine, field: str, value: Any) -> None:
    bundle = edited(talk(engine, "Which drugs target EGFR?", "hello"), **{field: value})
    found = replay(bundle, engine)
    assert [(d.turn, d.field) for d in found.differences] == [(1, field)] and not found.same


def test_a_prompt_that_is_not_the_recorded_one_is_told(engine: SmallEngine) -> None:
    bundle = talk(engine, "Which drugs target EGFR?", model=Model("Gefitinib targets EGFR [2]."))
    data = data_of(bundle)
    data["turns"][0]["exchanges"][0]["prompt_sha256"] = "0" * 64
    assert [d.field for d in replay(read_bundle(json.dumps(data).encode()), engine, recorded=True).differences] == ["prompt"]


def test_another_home_is_refused_in_one_line_and_forced_it_says_what_differs(tmp_path: Path, engine: SmallEngine) -> None:
    bundle = talk(engine, "Which drugs target EGFR?")
    engine.home.manifest = changed(engine.home.manifest, bridge_sha256="c" * 64)
    (tmp_path / "fusion.json").write_text('{"other": 1}')
    with pytest.raises(HomeMismatchError, match="another home: the bridge and fusion weights of 'small' there differ") as refused:
        replay(bundle, engine)
    assert refused.value.exit_code == 2 and "--force" in refused.value.help
    found = replay(bundle, engine, force=True)
    assert found.same and [d.field for d in found.around] == ["bridge", "fusion weights"]


def test_a_node_that_the_graph_does_not_hold_is_a_difference(engine: SmallEngine) -> None:
    bundle = talk(engine, "What is this for?", queries=[Query(NodeType.DRUG, "gefitinib", "", NODES["gefitinib"])])
    nodes = tuple(n for n in GRAPH.nodes if n.name != "gefitinib")
    none = (np.zeros(0, t) for t in (np.int32, np.int16, np.int32, np.int16))
    engine.graph = KnowledgeGraph("small", nodes, GRAPH.relations, *none, ())
    (difference,) = replay(bundle, engine, force=True).differences
    assert (difference.turn, difference.field, difference.recorded) == (1, "queries", "DB00317")


def test_another_version_is_said_and_makes_no_difference(engine: SmallEngine) -> None:
    data = data_of(talk(engine, "Which drugs target EGFR?"))
    data["package"], data["libraries"]["numpy"] = "0.0.1", "1.0"
    found = replay(read_bundle(json.dumps(data).encode()), engine)
    assert found.same and [d.field for d in found.around] == ["package version", "version of numpy"]


BROKEN: list[tuple[bytes, str]] = [
    (b"", "is not JSON"),
    (b"\xff\xfe\x00", "not text in UTF-8"),
    (b"\x80\x04\x95pickle", "not text in UTF-8"),
    (b"[" * 100_000, "is not JSON"),
    (b'{"format": "biobridge-rag conversation", "version": NaN}', "is not JSON"),
    (b"[1, 2]", "not an exported conversation"),
    (b'{"format": "something else"}', "not an exported conversation"),
    (b'{"format": "biobridge-rag conversation", "version": 9}', "format version 9; this version reads 1"),
    (b'{"format": "biobridge-rag conversation", "version": true}', "format version of another kind"),
    (b'{"format": "biobridge-rag conversation", "version": 1}', "is damaged"),
]


@pytest.mark.parametrize(("data", "said"), BROKEN)
def test_what_is_no_bundle_is_one_line(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(data)
    with pytest.raises(FileError, match=said) as error:
        load_bundle(path)
    assert "\n" not in str(error.value) and error.value.exit_code == 2


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda d: d["turns"].clear(), "turns"),
        (lambda d: d["turns"][0].pop("question"), "turns.0.question"),
        (lambda d: d["turns"][0]["queries"].append({"type": "planet", "name": "x"}), "turns.0.queries.0.type"),
        (lambda d: d["turns"][0]["answer"].update(text=7), "turns.0.answer.text"),
        (lambda d: d["turns"][0]["answer"]["citations"].append({"key": 1}), "turns.0.answer.citations"),
        (lambda d: d.update(surprise=1), "surprise"),
        (lambda d: d.update({"\x1b[31m\nx": 1}), r"\[31m x"),
        (lambda d: d["home"].update(encoders=["kmer"]), "home.encoders"),
    ],
)
def test_a_damaged_field_is_named(engine: SmallEngine, change: Any, where: str) -> None:
    data = data_of(talk(engine, "Which drugs target EGFR?"))
    change(data)
    with pytest.raises(FileError, match=f"damaged.*{where}") as error:
        read_bundle(json.dumps(data).encode())
    assert str(error.value).isprintable()


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s), max_leaves=8)
)
def test_whatever_stands_in_a_file_is_refused_without_a_traceback(value: Any) -> None:
    for data in (value, {"format": "biobridge-rag conversation", "version": 1, "turns": value, "home": value}):
        with pytest.raises(FileError):
            read_bundle(json.dumps(data).encode())


def test_missing_big_and_unwritable_files(tmp_path: Path, engine: SmallEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileError, match="cannot be read"):
        load_bundle(tmp_path / "none.json")
    monkeypatch.setattr("biobridge_rag.qa.bundles.MAX_BYTES", 1_000_000)
    (tmp_path / "big.json").write_bytes(b" " * 1_000_001)
    with pytest.raises(FileError, match="more than 1 MB"):
        load_bundle(tmp_path / "big.json")
    for path in (tmp_path, tmp_path / "none" / "x.json"):
        with pytest.raises(InputError, match="cannot be written"):
            save_bundle(talk(engine, "hello"), path)
    with pytest.raises(InputError, match="0 turns"):
        make_bundle(engine, [])


def test_differences_show_no_control_characters_of_a_bundle(engine: SmallEngine) -> None:
    found = replay(edited(talk(engine, "hello"), text="\x1b]0;title\x07\nsecond line"), engine)
    assert all(d.recorded.isprintable() for d in found.differences) and not found.same


def test_tool_calls_are_heard_and_played_back() -> None:
    class Planner(Model):
        def call_tools(self, messages: Any, tools: Any) -> Any:
            from biobridge_rag.types import Usage

            return [type("Call", (), {"name": "find", "arguments": {"of": "EGFR"}})()], Usage(prompt_tokens=5, calls=1)

    recorder = Recorder(Planner("x"))
    recorder.call_tools([("user", "plan")], [])
    assert list(recorder.stream([("user", "answer")])) == ["x"]
    again = Recorded("tiny", recorder.exchanges)
    (call,), usage = again.call_tools([("user", "plan")], [])
    assert (call.name, call.arguments, usage.prompt_tokens) == ("find", {"of": "EGFR"}, 5)
    assert list(again.stream([("user", "other")])) == ["x"] and again.other_prompts == 1
    with pytest.raises(LLMError, match="holds nothing"):
        list(again.stream([("user", "more")]))


def test_a_stream_that_is_left_early_is_closed_and_kept() -> None:
    recorder = Recorder(Model("one", "two"))
    stream = recorder.stream([("user", "q")])
    assert next(stream) == "one"
    stream.close()
    assert recorder.exchanges[0].text == "one"


def test_the_real_protocol_replays_against_the_same_server(engine: SmallEngine) -> None:
    from biobridge_rag.qa.llm import LanguageModel, LLMConfig
    from tests.qa.openai_server import OpenAIServer

    with OpenAIServer(pieces=["Gefitinib ", "targets EGFR [2]."]) as server:
        engine.models[""] = LanguageModel(LLMConfig("tiny", server.url, "sk-secret", 5.0, 0))
        bundle = talk(engine, "Which drugs target EGFR?", model=engine.models[""])
        assert replay(bundle, engine).same
    assert b"sk-secret" not in to_bytes(bundle) and len(server.requests) == 2
    assert not isinstance(replay(bundle, engine, recorded=True), BiobridgeError)
    assert replay(bundle, engine, recorded=True).same
