"""The page without a browser: what turns stay in the session, what the HTML says, and that no text becomes markup."""

from __future__ import annotations

import csv
import io
import socket
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from biobridge_rag.errors import BiobridgeError
from biobridge_rag.qa.bundles import WARNING, read_bundle
from biobridge_rag.types import Answer, Citation, Evidence, Node, NodeType, Query, Relation, Retrieval, RetrievedNode, Usage
from biobridge_rag.ui import candidates, chat, downloads, evidence, freeing, page, status
from biobridge_rag.ui.blocks import CACHE_SECONDS, EXAMPLE_FASTA, Page
from biobridge_rag.ui.markup import answer_html, escape, link, percent, structure
from biobridge_rag.ui.messages import answer_message, preview_message, usage_line, user_message
from biobridge_rag.ui.session import Session
from tests.ui.fake_engine import ABL1, DRUGS, TARGET, FakeEngine, FakeStatus

EVIL = "<img src=x onerror=alert(1)>\"'><script>alert(2)</script>"
CITED = (
    Citation("1", "P00519", "ABL1", "https://www.uniprot.org/uniprotkb/P00519", ("imatinib targets ABL1",)),
    Citation("2", "x", "bad", "javascript:alert(1)"),
)


class Tags(HTMLParser):
    """Every tag with its attributes, and the text, of a piece of HTML."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def assert_harmless(source: str) -> None:
    found = Tags(source)
    assert not found.of("script")
    assert all(image["src"].startswith("data:image/svg+xml,") for image in found.of("img"))
    assert all(anchor["href"].startswith(("https://", "data:")) for anchor in found.of("a"))
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]


def ask(engine: FakeEngine, session: Session, text: str = "", *paths: Path) -> Tags:
    for _ in chat.respond(engine, session, text, paths):
        pass
    return Tags(session.messages[-1]["content"])


def hostile() -> Retrieval:
    """A retrieval in which every text is an attack."""
    node = Node(EVIL, NodeType.DRUG, EVIL, EVIL, EVIL, 'https://example.org/"onmouseover=alert(1)', ("CCO",))
    hit = RetrievedNode(
        node,
        1,
        1.0,
        0.5,
        True,
        tuple(Evidence(kind, EVIL, 0.5, "x", EVIL) for kind in ("edge", "analogue", "bridge", "prior", "new")),
        {EVIL: 1.0},
    )
    return Retrieval(Query(NodeType.PROTEIN, EVIL, "MKT", None, EVIL), TARGET, (hit,), (EVIL,))


def test_citations_become_links_and_only_https_ones() -> None:
    found = Tags(answer_html("It acts on ABL1 [1], and on [2], see [1, 2] and [3].", CITED))
    assert [a["href"] for a in found.of("a")] == [CITED[0].url] * 2
    assert all(a["target"] == "_blank" and "noopener" in a["rel"] for a in found.of("a"))
    assert "[3]" in found.text and "[1]" not in found.text


@pytest.mark.parametrize(
    "text",
    [
        EVIL,
        f"**{EVIL}**",
        f"- {EVIL}",
        f"```\n{EVIL}\n```",
        "![x](https://example.org/x.png)",
        "[x](javascript:alert(1))",
        "<https://example.org>",
    ],
)
def test_markdown_of_an_answer_brings_no_markup_image_or_link_of_its_own(text: str) -> None:
    rendered = answer_html(text)
    assert_harmless(rendered)
    assert not Tags(rendered).of("a") and not Tags(rendered).of("img")
    assert "\n" not in rendered


def test_an_answer_keeps_its_paragraphs_lists_and_escapes() -> None:
    found = Tags(answer_html("**Two** drugs.\n\n- a\\*b &lt;c&gt;\n- d \\[1\\]\n\n### Known\n\ntext [1]", CITED))
    assert [tag for tag, _ in found.tags] == ["p", "strong", "ul", "li", "li", "h3", "p", "a"]
    assert "a*b <c>" in found.text and "d [1]" in found.text


def test_no_text_of_graph_file_or_model_becomes_markup() -> None:
    retrieval = hostile()
    node = retrieval.hits[0].node
    answer = Answer(
        EVIL, EVIL, False, (Citation("1", "x", EVIL, "https://example.org/", (EVIL,)),), (EVIL,), (retrieval,), EVIL, EVIL, EVIL
    )
    session = Session()
    session.say("user", "")
    for source in (
        candidates.table(retrieval),
        evidence.panel(retrieval, 1),
        answer_message(answer, [EVIL]),
        status.status_line(
            FakeStatus(graph_name=EVIL, llm=EVIL, llm_host=EVIL, leaves_machine=True, index_host=EVIL, encoders={"protein": EVIL})
        ),
        status.prompt_html(EVIL),
        preview_message(EVIL, EVIL),
        user_message(EVIL, [EVIL], [Query(NodeType.PROTEIN, EVIL, "MKV", node), Query(NodeType.DRUG, EVIL, "CCO")]),
        answer_message(replace(answer, abstained=True, text=f"“{EVIL}” is read as {EVIL}. {EVIL}\n\n{EVIL}"), [EVIL]),
    ):
        assert_harmless(source)
        assert "alert(2)" in Tags(source).text


def test_templates_of_the_page_cannot_be_entered_from_a_name() -> None:
    assert "${" not in escape("${alert(1)}") and "{{" not in escape("{{7*7}}") and "`" not in escape("`")
    assert Tags(escape("${a} {{b}} `c`")).text == "${a} {{b}} `c`"


def test_links_are_https_or_plain_text() -> None:
    assert link("https://www.uniprot.org/uniprotkb/P00519", "ABL1").startswith("<a ")
    for bad in (
        "http://example.org",
        "javascript:alert(1)",
        "//example.org",
        "https://",
        "https://a b",
        "data:text/html,x",
        "https://[::1",
    ):
        assert "<a" not in link(bad, "x")


def test_probabilities_never_claim_certainty() -> None:
    assert [percent(p) for p in (0.0, 0.004, 0.126, 0.985, 0.999, 1.0)] == ["< 1 %", "< 1 %", "13 %", "98 %", "> 99 %", "> 99 %"]


def test_a_structure_is_drawn_and_a_broken_one_is_said() -> None:
    assert 'alt="Structure of aspirin"' in structure("CC(=O)Oc1ccccc1C(=O)O", "aspirin", 130, 78)
    assert "no structure" in structure("C1CC", "broken", 130, 78)


def test_the_table_has_one_radio_a_row_and_structures_for_drugs_only() -> None:
    engine = FakeEngine()
    drugs = Tags(candidates.table(engine.candidates(query=Query(NodeType.PROTEIN, "ABL1", "", ABL1), to="drug"), 3))
    assert len(drugs.of("input")) == len(drugs.of("img")) == len(DRUGS)
    assert [i["value"] for i in drugs.of("input") if "checked" in i] == ["3"]
    assert len({i["name"] for i in drugs.of("input")}) == 1
    assert [r["data-known"] for r in drugs.of("tr") if "data-known" in r] == ["true"] * 4 + ["false"] * 4
    diseases = Tags(candidates.table(engine.candidates(query=Query(NodeType.PROTEIN, "ABL1", "", ABL1), to="disease")))
    assert diseases.of("input") and not diseases.of("img")
    assert [a["id"] for a in diseases.of("a")] == ["download-csv"]


def test_an_empty_retrieval_says_so() -> None:
    retrieval = Retrieval(Query(NodeType.PROTEIN, "x"), TARGET, ())
    found = Tags(candidates.table(retrieval))
    assert "nothing to rank" in found.text and not found.of("a") and not found.of("input")


def test_the_evidence_panel_keeps_the_kinds_apart() -> None:
    retrieval = FakeEngine().candidates(query=Query(NodeType.PROTEIN, "ABL1", "", ABL1))
    found = Tags(evidence.panel(retrieval, 1))
    assert [s["data-kind"] for s in found.of("section")] == ["edge", "analogue", "bridge", "prior", "score"]
    assert "493.62 g/mol" in found.text and "C29H31N7O" in found.text
    assert found.of("a")[0]["href"] == DRUGS[0].url
    assert "edge" not in [s["data-kind"] for s in Tags(evidence.panel(retrieval, 5)).of("section")]


def test_relations_have_titles_and_the_usual_one_comes_first() -> None:
    relations = [Relation("ppi", "gene/protein", "gene/protein"), Relation("shadows", "gene/protein", "disease"), TARGET]
    choices = candidates.relation_choices(relations)
    assert [title for title, _ in choices] == ["Drugs that act on it", "Proteins that interact with it", "Diseases: shadows it"]
    assert candidates.relation_title(TARGET, "a{0}b") == "Drugs that act on a{0}b"


def test_csv_holds_the_table_and_runs_no_formula() -> None:
    retrieval = FakeEngine().candidates(query=Query(NodeType.PROTEIN, "=1+1", "", ABL1))
    rows = list(csv.DictReader(io.StringIO(downloads.to_csv(retrieval))))
    assert tuple(rows[0]) == downloads.CSV_COLUMNS
    assert [r["name"] for r in rows] == [n.name for n in DRUGS]
    assert rows[0]["known"] == "yes" and rows[-1]["known"] == "no" and float(rows[4]["probability"]) == 0.34
    assert rows[0]["query"] == "'=1+1"
    assert "IUPHAR" in rows[0]["evidence"]


def test_sdf_holds_the_drugs_and_a_name_cannot_end_a_record() -> None:
    from rdkit import Chem

    retrieval = FakeEngine().candidates(query=Query(NodeType.PROTEIN, "a\n$$$$\nb", "", ABL1))
    supplier = Chem.SDMolSupplier()
    supplier.SetData(downloads.to_sdf(retrieval))
    mols = list(supplier)
    assert [m.GetProp("_Name") for m in mols] == [n.name for n in DRUGS]
    assert mols[4].GetProp("probability") == "0.3400"
    assert downloads.file_stem(retrieval) == "a-b_target_drug"


def test_a_fasta_file_gives_a_table_an_answer_and_a_memory() -> None:
    engine, session = FakeEngine(), Session(top=8)
    changes = list(chat.respond(engine, session, "", [EXAMPLE_FASTA]))
    assert "candidates" in changes and changes[-1] == "conversation"
    assert session.shown is not None and session.shown.relation == TARGET and session.selected == 1
    question, queries, history = engine.asked[0]
    assert question == "Which drugs act on this protein?" and queries[0].node == ABL1 and history == []
    assert len(queries[0].value) == 1130
    assert "abl1_human.fasta" in session.messages[0]["content"]
    found = Tags(session.messages[1]["content"])
    assert "4 of these are known" in found.text and len([a for a in found.of("a") if a.get("class") == "cite"]) == 6
    ask(engine, session, "And which of them are new?")
    assert engine.asked[1][2] == [(question, engine.asked[1][2][0][1], queries)] and len(session.messages) == 4


def test_a_table_is_as_long_as_the_reader_chose() -> None:
    session = Session(top=3)
    ask(FakeEngine(), session, "Which drugs act on ABL1?")
    assert session.shown is not None and len(session.shown.hits) == 3


def test_words_and_a_pasted_value_are_told_apart() -> None:
    engine = FakeEngine()
    assert chat.read_text(engine, "Which drugs act on ABL1?") == ("Which drugs act on ABL1?", [])
    question, queries = chat.read_text(engine, "What hits this?\n>mine\nMKTAYIAKQR\nQISFVKSHFS")
    assert question == "What hits this?" and queries[0].name == "mine" and queries[0].value == "MKTAYIAKQRQISFVKSHFS"
    question, queries = chat.read_text(engine, "What does this act on?\nCC(=O)Oc1ccccc1C(=O)O")
    assert question == "What does this act on?" and queries[0].type is NodeType.DRUG
    assert chat.read_text(engine, "imatinib")[1][0].node == DRUGS[0]


def test_a_bad_file_is_one_line_and_the_session_goes_on(tmp_path: Path) -> None:
    engine, session = FakeEngine(), Session()
    binary, pdf = tmp_path / "x.fasta", tmp_path / "x.pdf"
    binary.write_bytes(b"\0\1")
    pdf.write_bytes(b"%PDF")
    assert "binary file" in ask(engine, session, "", binary).text
    assert "not a type of file" in ask(engine, session, "", pdf).text
    assert engine.asked == [] and session.turns == [] and not session.busy
    assert "known" in ask(engine, session, "Which drugs act on ABL1?").text


def test_a_fault_of_ours_is_said_and_logged(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    engine, session = FakeEngine(), Session()
    monkeypatch.setattr(engine, "candidates", lambda **_: 1 / 0)
    found = ask(engine, session, "Which drugs act on ABL1?")
    assert "ZeroDivisionError" in found.text and "Traceback" not in found.text
    assert "Traceback" in capsys.readouterr().err
    assert not session.busy


def test_a_stopped_turn_writes_no_more_and_a_second_one_waits_for_the_first() -> None:
    engine, session = FakeEngine(), Session()
    turn = chat.respond(engine, session, "Which drugs act on ABL1?", [])
    next(turn)
    assert list(chat.respond(engine, session, "another", [])) == []
    chat.stop(session)
    assert list(turn) == []
    assert "Stopped" in session.messages[-1]["content"] and session.turns == []
    ask(engine, session, "Which drugs act on ABL1?")
    assert len(session.turns) == 1


def test_another_relation_can_be_chosen_and_the_selected_row_stays_where_it_can() -> None:
    engine, session = FakeEngine(), Session()
    ask(engine, session, "ABL1")
    session.selected = 4
    assert chat.switch(engine, session, 0, TARGET.key, 10) == ""
    assert session.selected == 4 and session.top == 10
    linked = Relation("associated with", "gene/protein", "disease")
    assert chat.switch(engine, session, 0, linked.key, 10) == ""
    assert session.shown is not None and session.shown.relation == linked and session.selected == 1


def test_a_choice_that_fails_is_said_and_the_table_stays() -> None:
    engine, session = FakeEngine(), Session()
    ask(engine, session, "ABL1")
    before = session.shown
    session.retrievals = [Retrieval(Query(NodeType.PROTEIN, "asthma"), TARGET, ())]
    assert "No node is named" in chat.switch(engine, session, 0, TARGET.key, 20)
    assert session.shown is before


def test_the_status_says_whether_anything_leaves_the_machine() -> None:
    assert "Nothing leaves this machine" in status.status_line(FakeStatus())
    sent = status.status_line(FakeStatus(llm="m", llm_host="api.example.org", leaves_machine=True))
    assert "are sent to api.example.org" in sent and "Nothing leaves" not in sent
    away = status.status_line(FakeStatus(index_host="chroma.example.org:8000"))
    assert "are sent to the index on chroma.example.org:8000" in away and "Nothing leaves" not in away


def test_the_page_builds_and_is_served_from_this_machine_alone() -> None:
    import urllib.request

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    blocks = page.build(FakeEngine())
    page.serve(blocks, "127.0.0.1", port)
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        source = opener.open(f"http://127.0.0.1:{port}/", timeout=20).read().decode()
        assert "fonts.googleapis" not in source and "Nothing leaves this machine" in source
        for mark in ("chat-input", "candidates", "evidence", "status"):
            assert f'"elem_id":"{mark}"' in source.replace('": "', '":"')
        with pytest.raises(BiobridgeError, match=rf"Port {port} of 127\.0\.0\.1 is taken"):
            page.require_address("127.0.0.1", port)
    finally:
        blocks.close()


def test_an_address_of_another_machine_is_refused_in_one_line() -> None:
    with pytest.raises(BiobridgeError, match=r"cannot be served on 192\.0\.2\.1:7860"):
        page.require_address("192.0.2.1", 7860)


def answer(text: str, **more: Any) -> Answer:
    unsupported = more.pop("unsupported", ())
    return Answer("q", text, more.pop("abstained", False), CITED, unsupported, (), more.pop("model", "none"), "0" * 64, **more)


def test_the_page_is_served_where_gradio_found_the_machine_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradio gives its own server three seconds to answer, which a busy machine does not keep."""
    import gradio as gr

    monkeypatch.setattr("gradio.networking.url_ok", lambda url: False)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with gr.Blocks() as blocks:
        gr.Markdown("here")
    page.serve(blocks, "127.0.0.1", port)
    try:
        assert page._answers("127.0.0.1", port)
        answers = page._answers
        monkeypatch.setattr(page, "_answers", lambda host, port: False)
        with gr.Blocks() as other:
            gr.Markdown("there")
        with pytest.raises(BiobridgeError, match="does not answer there"):
            page.serve(other, "127.0.0.1", port + 1)
        other.close()
    finally:
        blocks.close()
    assert not answers("127.0.0.1", port, 0.3)


def test_an_unsupported_sentence_is_marked_where_it_stands() -> None:
    found = Tags(answer_message(answer("It acts on ABL1 [1]. It cures all (not supported by the evidence).")))
    assert [a["class"] for a in found.of("mark")] == ["unsupported"] and "It cures all not supported by the evidence." in found.text
    assert not Tags(answer_message(answer("It acts on ABL1 [1]."))).of("mark")


def test_unsupported_sentences_are_listed_as_they_read() -> None:
    found = Tags(answer_message(answer("x", unsupported=("It cures &lt;b&gt; a\\_b.",))))
    assert "It cures <b> a_b." in found.text and not found.of("b")


def test_an_abstention_has_a_banner_of_its_own_with_what_is_needed() -> None:
    said = answer_message(answer("Nothing is known. Name a drug.\n\n- **a** [1]: b", abstained=True))
    banner = said[said.index('<div class="abstained"') :].partition("</div>")[0]
    assert "Not answered from the evidence" in banner and "Name a drug." in banner and "<li>" not in banner
    assert "<li>" in said and "Not answered" not in answer_message(answer("Nothing is known."))


def test_how_a_name_was_read_stands_apart() -> None:
    text = "“ABL” is read as **ABL1** [1]; other nodes of that name: ABL2 (gene/protein). It is a kinase [1]."
    said = answer_message(answer(text))
    reading = said[said.index('<div class="reading"') :].partition("</div>")[0]
    assert "other nodes of that name: ABL2" in reading and "kinase" not in reading and "It is a kinase" in said
    assert '<div class="reading"' not in answer_message(answer("It is a kinase [1]."))


@pytest.mark.parametrize(
    ("usage", "line"),
    [
        (Usage(), ""),
        (Usage(1204, 96, 0.00088, 2.13, 1), "1,204 tokens in, 96 out, $0.0009, 2.1 s"),
        (Usage(10, 5, None, 0.5, 2, 1), "10 tokens in, 5 out, 0.5 s"),
        (Usage(10, 5, 1.5, 0.0, 1, 1), "10 tokens in, 5 out, $1.50, from the cache"),
        (Usage(0, 0, 0.0, 3.0, 1), "$0.00, 3.0 s"),
    ],
)
def test_what_a_model_took_is_said_as_far_as_it_is_known(usage: Usage, line: str) -> None:
    assert usage_line(usage) == line
    assert (f"{line}. Prompt" if line else "evidence. Prompt") in answer_message(answer("x", model="tiny", usage=usage))


def test_several_attachments_are_listed_with_what_they_are() -> None:
    queries = [Query(NodeType.PROTEIN, "mine", "M" * 1130), Query(NodeType.DRUG, "x", "CCO", DRUGS[0]), Query(NodeType.DRUG, "named", "")]
    found = Tags(user_message("Which?", ["a.fasta", "b.smi"], queries))
    assert "mine protein, 1,130 residues" in found.text and "x molecule, known as imatinib" in found.text and "named" not in found.text
    many = Tags(user_message("", ["a.fasta"], [Query(NodeType.PROTEIN, f"p{i}", "MK") for i in range(30)]))
    assert len(many.of("li")) == 9 and "and 22 more" in many.text


class Model:
    """A language model of which FakeEngine is told; what is asked for is recorded by the engine's use of it."""

    model, host = "tiny", "api.example.org"

    def dry_run(self) -> Any:
        return SimpleNamespace(model="tiny", shown=["POST https://api.example.org", f"evidence {EVIL}"])

    def stream(self, messages: Any) -> Iterator[str]:
        yield "x"


def test_what_would_be_sent_is_shown_and_the_turn_is_not_remembered() -> None:
    engine, session = FakeEngine(), Session()
    assert not chat.can_preview(engine)
    engine.model = Model()
    assert chat.can_preview(engine)
    list(chat.respond(engine, session, "Which drugs act on ABL1?", [], dry=True))
    shown = Tags(session.messages[-1]["content"])
    assert "Nothing was sent. This would be sent to api.example.org:" in shown.text and f"evidence {EVIL}" in shown.text
    assert_harmless(session.messages[-1]["content"])
    assert session.turns == [] and session.records == [] and session.prompt == "" and not session.busy


def test_a_conversation_is_exported_with_its_attachments_and_a_warning_stands_by_the_button() -> None:
    engine, session = FakeEngine(), Session()
    list(chat.respond(engine, session, "", [EXAMPLE_FASTA]))
    ask(engine, session, "And which of them are new?")
    bundle = read_bundle(chat.exported(engine, session).encode())
    assert [t.question for t in bundle.turns] == ["Which drugs act on this protein?", "And which of them are new?"]
    assert len(bundle.turns[0].queries[0].value) == 1130 and bundle.turns[0].notes == ["1 record was read."]
    assert "unpublished sequences" in WARNING
    with pytest.raises(BiobridgeError, match="0 turns"):
        chat.exported(engine, Session())


def test_a_long_conversation_keeps_its_newest_turns_and_says_how_many_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biobridge_rag.ui.session.MAX_RECORDS", 2)
    engine, session = FakeEngine(), Session()
    for i in range(4):
        ask(engine, session, f"Question {i} about ABL1?")
    bundle = read_bundle(chat.exported(engine, session).encode())
    assert [t.question for t in bundle.turns] == ["Question 2 about ABL1?", "Question 3 about ABL1?"] and bundle.dropped == 2


def started(blocks: Any) -> Any:
    """The page's memory of browser sessions, as gradio keeps it while it serves."""
    from gradio.state_holder import StateHolder

    holder = StateHolder()
    holder.set_blocks(blocks)
    return holder


def turn_of(shown: Page, holder: Any, key: str, text: str, files: tuple[Path, ...] = ()) -> Session:
    """A turn as gradio runs it: the session's own state goes in, and is set where the turn gives it back."""
    state = holder[key]
    session: Session = state[shown.session._id]
    for update in shown._run(session, text, files, SimpleNamespace(session_hash=key)):  # type: ignore[arg-type]
        if shown.session in update:
            state[shown.session._id] = update[shown.session]
        if shown.chat in update:
            state._update_value_in_config(shown.chat._id, update[shown.chat])
    return session


def test_two_sessions_share_nothing_and_the_end_of_one_frees_it_alone() -> None:
    shown = Page(FakeEngine())
    holder = started(shown.build())
    one, other = turn_of(shown, holder, "a", "Which drugs act on ABL1?"), turn_of(shown, holder, "b", "My secret question about ABL1?")
    assert one is not other and len(one.turns) == len(other.turns) == 1
    assert "secret" not in repr(one.messages) + repr(one.records) and "secret" in repr(list(holder["b"].components))
    holder["b"].is_closed = True
    assert holder["b"].STATE_TTL_WHEN_CLOSED == CACHE_SECONDS
    holder.delete_all_expired_state()
    assert len(other.turns) == 1
    holder["b"].STATE_TTL_WHEN_CLOSED = -1
    holder.delete_all_expired_state()
    assert "b" not in holder and "a" in holder and "b" not in holder.time_last_used
    assert (other.messages, other.turns, other.records, other.retrievals, other.shown, other.prompt) == ([], [], [], [], None, "")
    assert len(one.turns) == 1


def test_a_turn_says_that_its_tab_is_open() -> None:
    shown = Page(FakeEngine())
    holder = started(shown.build())
    turn_of(shown, holder, "a", "Which drugs act on ABL1?")
    holder["a"].is_closed = True  # a connection that broke and came back
    turn_of(shown, holder, "a", "And ABL1?")
    assert holder["a"].is_closed is False


def test_an_upload_is_gone_once_it_is_read_and_an_example_stays(tmp_path: Path) -> None:
    shown = Page(FakeEngine())
    holder = started(shown.build())
    shown.input.GRADIO_CACHE = str(tmp_path)
    upload = tmp_path / "0123abcd" / "mine.fasta"
    upload.parent.mkdir()
    upload.write_text(">ABL1\nMKTAYIAKQR\n")
    assert turn_of(shown, holder, "a", "", (upload, EXAMPLE_FASTA)).turns
    assert list(tmp_path.iterdir()) == [] and EXAMPLE_FASTA.exists()
    upload.parent.mkdir()
    upload.write_bytes(b"\0\1")
    turn_of(shown, holder, "a", "", (upload,))
    assert list(tmp_path.iterdir()) == []
    outside = tmp_path.parent / "outside.fasta"
    outside.write_text("x")
    freeing.forget([outside, tmp_path / ".." / "outside.fasta", tmp_path / "none"], tmp_path)
    assert outside.exists()
