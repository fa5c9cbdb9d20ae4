"""The components of the page, where they stand, and what happens when they are used.

Knows: gradio, the session. Does not know: how a turn runs (chat.py), how things look as HTML, models, retrieval, chemistry.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from biobridge_rag.errors import BiobridgeError
from biobridge_rag.qa.bundles import WARNING
from biobridge_rag.ui import candidates, chat, evidence, freeing, status
from biobridge_rag.ui.markup import escape
from biobridge_rag.ui.session import Session, query_key

if TYPE_CHECKING:
    from biobridge_rag.assembly import Engine

EXAMPLE_FASTA = Path(__file__).parent / "examples" / "abl1_human.fasta"
EXAMPLES: tuple[tuple[str, str, tuple[Path, ...]], ...] = (
    ("Drugs for the kinase ABL1 (FASTA)", "", (EXAMPLE_FASTA,)),
    ("Targets of ibuprofen (SMILES)", "CC(C)Cc1ccc(cc1)C(C)C(=O)O", ()),
    ("Drugs for rheumatoid arthritis", "Which drugs are used for rheumatoid arthritis, and what do they act on?", ()),
    ("What is imatinib known to act on?", "What is imatinib known to act on?", ()),
)
WELCOME = (
    '<div class="welcome"><h2>Ask, or bring your own</h2><p>Type a question, paste a sequence or a SMILES, or attach a FASTA, SDF or '
    "SMILES file. Answers cite the graph; the table lists what is known and what is predicted.</p></div>"
)
PLACEHOLDER = "Question, sequence, SMILES or file"
CACHE_SECONDS = 1800
OPEN_SECONDS = 24 * 3600
"""How long a session without a new turn is kept while its tab is open; after that, as after CACHE_SECONDS once the tab is closed,
nothing of it is left."""
STREAMS_AT_ONCE = 4
SAVE_JS = """
(text) => {
  if (!text) return;
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], { type: 'application/json' }));
  link.download = 'conversation-' + JSON.parse(text).created.slice(0, 16).replace(/[T:]/g, '-') + '.json';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
"""
"""Hands the bundle to the reader as a file; none is written on the server."""


class Page:
    """The components of one page and what happens when they are used. Holds no state of any user."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def build(self) -> gr.Blocks:
        with gr.Blocks(
            title=status.TITLE, analytics_enabled=False, fill_width=True, delete_cache=(CACHE_SECONDS // 3, CACHE_SECONDS)
        ) as blocks:
            self.blocks = blocks
            self.session = gr.State(Session(), time_to_live=OPEN_SECONDS, delete_callback=self.ended)
            gr.HTML(status.masthead(), elem_id="masthead", apply_default_css=False)
            self.status = gr.HTML(status.status_line(self.engine.status()), elem_id="status", apply_default_css=False)
            with gr.Accordion("What was sent last", open=False, visible=False, elem_id="prompt") as self.prompt_box:
                self.prompt = gr.HTML(apply_default_css=False)
            with gr.Row(elem_id="workspace", equal_height=False):
                with gr.Column(scale=5, min_width=320, elem_id="conversation"):
                    self._conversation()
                with gr.Column(scale=6, min_width=320, elem_id="results"):
                    self._results()
            gr.HTML(status.footer(), elem_id="foot", apply_default_css=False)
            self._wire()
        return blocks

    def _conversation(self) -> None:
        self.chat = gr.Chatbot(
            elem_id="chat",
            show_label=False,
            label="Conversation",
            height="100%",
            buttons=[],
            autoscroll=False,
            placeholder=WELCOME,
            layout="bubble",
            latex_delimiters=[],
            feedback_options=None,
            sanitize_html=True,
            allow_file_downloads=False,
        )
        with gr.Row(elem_id="examples") as self.examples:
            self.example_buttons = [gr.Button(label, size="sm", elem_classes="example", min_width=80) for label, _, _ in EXAMPLES]
        self.input = gr.MultimodalTextbox(
            elem_id="chat-input",
            show_label=False,
            label="Your question",
            placeholder=PLACEHOLDER,
            file_types=list(chat.FILE_TYPES),
            file_count="multiple",
            sources=["upload"],
            lines=1,
            max_lines=6,
            max_plain_text_length=60_000,
        )
        self.dry = gr.Checkbox(
            label="Show what would be sent, and send nothing",
            elem_id="dry-run",
            visible=chat.can_preview(self.engine),
            container=False,
        )
        with gr.Row(elem_id="after", visible=False) as self.after:
            self.again = gr.Button("New conversation", size="sm", elem_id="new-conversation", min_width=80)
            self.export = gr.Button("Export conversation", size="sm", elem_id="export", min_width=80)
            gr.HTML(f'<p class="hint">{WARNING}</p>', elem_id="export-warning", apply_default_css=False)
        self.bundle = gr.Textbox(visible="hidden", elem_id="bundle", show_label=False)

    def _results(self) -> None:
        with gr.Row(elem_id="selectors", visible=False) as self.selectors:
            self.of = gr.Dropdown([], label="For", elem_id="select-query", visible=False, min_width=120, filterable=False)
            self.relation = gr.Dropdown([], label="Look for", elem_id="select-relation", scale=3, min_width=160, filterable=False)
            self.top = gr.Dropdown(
                [(f"Top {n}", n) for n in candidates.TOP_CHOICES],
                value=20,
                label="Show",
                elem_id="select-top",
                scale=1,
                min_width=90,
                filterable=False,
            )
        self.table = gr.HTML(candidates.empty_table(), elem_id="candidates", apply_default_css=False, js_on_load=candidates.SELECT_ROW_JS)
        self.evidence = gr.HTML("", elem_id="evidence", apply_default_css=False)

    def _wire(self) -> None:
        shown = [self.table, self.evidence, self.selectors, self.of, self.relation, self.top]
        turn = [self.chat, *shown, self.prompt, self.prompt_box, self.input, self.examples, self.after, self.session]
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        runs = [self.input.submit(self.ask, [self.input, self.dry, self.session], turn, concurrency_limit=STREAMS_AT_ONCE, **quiet)]
        for button, (_, text, files) in zip(self.example_buttons, EXAMPLES, strict=True):
            runs.append(button.click(self.example(text, files), [self.session], turn, concurrency_limit=STREAMS_AT_ONCE, **quiet))
        self.input.stop(self.stopped, [self.session], [self.chat, self.input], cancels=runs, queue=False, **quiet)
        self.again.click(self.restart, [self.session], turn, cancels=runs, queue=False, **quiet)
        saved = self.export.click(self.exported, [self.session], [self.bundle], **quiet)
        saved.then(None, [self.bundle], None, js=SAVE_JS, **quiet).then(lambda: "", None, [self.bundle], **quiet)
        self.table.pick(self.pick, [self.session], [self.evidence], **quiet)
        for selector in (self.of, self.relation, self.top):
            selector.input(self.switched, [self.of, self.relation, self.top, self.session], shown, **quiet)

    def ask(self, message: dict[str, Any], dry: bool, session: Session, request: gr.Request) -> Iterator[dict[Any, Any]]:
        yield from self._run(session, message.get("text") or "", [Path(f) for f in message.get("files") or []], request, dry)

    def example(self, text: str, files: tuple[Path, ...]) -> Any:
        def run(session: Session, request: gr.Request) -> Iterator[dict[Any, Any]]:
            yield from self._run(session, text, files, request)

        return run

    def _run(self, session: Session, text: str, files: Sequence[Path], request: gr.Request, dry: bool = False) -> Iterator[dict[Any, Any]]:
        freeing.hold(self.blocks, session, request.session_hash or "", CACHE_SECONDS)
        first = {self.examples: gr.Row(visible=False), self.after: gr.Row(visible=True)}
        first[self.input] = gr.MultimodalTextbox(**({} if dry else {"value": None}), submit_btn=False, stop_btn=True)
        try:
            for change in chat.respond(self.engine, session, text, files, dry):
                yield {self.chat: list(session.messages), **first, **(self._shown(session) if change == "candidates" else {})}
                first = {}
        finally:
            if not dry:
                freeing.forget(files, Path(self.input.GRADIO_CACHE))
        yield {self.input: self._ready(), self.session: session, **self._sent(session)}

    def _sent(self, session: Session) -> dict[Any, Any]:
        return {self.prompt: status.prompt_html(session.prompt), self.prompt_box: gr.Accordion(visible=bool(session.prompt))}

    def exported(self, session: Session) -> str:
        try:
            return chat.exported(self.engine, session)
        except BiobridgeError as error:
            gr.Warning(escape(str(error)))
            return ""

    def ended(self, session: Session) -> None:
        freeing.end(self.blocks, session)

    def _ready(self) -> gr.MultimodalTextbox:
        return gr.MultimodalTextbox(submit_btn=True, stop_btn=False)

    def _shown(self, session: Session) -> dict[Any, Any]:
        """Updates of the right side for the retrieval that the session shows."""
        retrieval = session.shown
        if retrieval is None:
            return {self.table: candidates.empty_table(), self.evidence: "", self.selectors: gr.Row(visible=False)}
        keys = [query_key(q) for q in session.queries()]
        options = [(f"{i + 1}. {candidates.query_label(q)}", i) for i, q in enumerate(session.queries())]
        of = keys.index(query_key(retrieval.query)) if query_key(retrieval.query) in keys else 0
        choices = candidates.relation_choices(chat.relations(self.engine, retrieval.query))
        return {
            self.table: candidates.table(retrieval, session.selected),
            self.evidence: evidence.panel(retrieval, session.selected),
            self.selectors: gr.Row(visible=True),
            self.of: gr.Dropdown(options, value=of, visible=len(options) > 1),
            self.relation: gr.Dropdown(choices, value=retrieval.relation.key),
            self.top: gr.Dropdown(value=session.top),
        }

    def pick(self, session: Session, event: gr.EventData) -> str:
        session.selected = int(event.rank)
        return evidence.panel(session.shown, session.selected) if session.shown else ""

    def switched(self, of: int | None, relation: str, top: int, session: Session) -> dict[Any, Any]:
        problem = chat.switch(self.engine, session, of or 0, relation, top)
        if problem:
            gr.Warning(escape(problem))
        return self._shown(session)

    def stopped(self, session: Session) -> dict[Any, Any]:
        chat.stop(session)
        return {self.chat: list(session.messages), self.input: self._ready()}

    def restart(self, session: Session) -> dict[Any, Any]:
        session.clear()
        return {
            self.chat: [],
            self.input: gr.MultimodalTextbox(value=None, submit_btn=True, stop_btn=False),
            self.examples: gr.Row(visible=True),
            self.after: gr.Row(visible=False),
            self.session: session,
            **self._sent(session),
            **self._shown(session),
        }
