"""The head and foot of the page: what it is, what it runs on, and whether anything leaves the machine.

Knows: the engine's status. Does not know: gradio, how the parts work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from biobridge_rag.types import Modality
from biobridge_rag.ui.markup import escape

if TYPE_CHECKING:
    from biobridge_rag.assembly import EngineStatus

TITLE = "biobridge-rag"
TAGLINE = "Bring a protein sequence, a molecule, a disease or a question. Get ranked candidates, each with its evidence."
FOOTER = "Predictions are hypotheses for the laboratory. They are not medical advice."


def masthead() -> str:
    return f'<header class="masthead"><h1>{TITLE}</h1><p>{TAGLINE}</p></header>'


def footer() -> str:
    return f'<footer class="foot"><p>{FOOTER}</p></footer>'


def status_line(status: EngineStatus) -> str:
    """Privacy first, then graph, encoders, bridge and language model, each a term and its value."""
    ordered = [(m.value, status.encoders[m.value]) for m in Modality if m.value in status.encoders]
    encoders = ", ".join(name for _, name in ordered)
    kinds = "; ".join(f"{kind}: {name}" for kind, name in ordered)
    items = (
        ("Graph", f"{status.graph_name}, {status.n_nodes:,} nodes, {status.n_edges:,} edges", ""),
        ("Encoders", encoders, kinds),
        ("Bridge", status.bridge, ""),
        ("Language model", status.llm or "none, evidence only", ""),
    )
    terms = "".join(f'<div title="{escape(title or value)}"><dt>{term}</dt><dd>{escape(value)}</dd></div>' for term, value, title in items)
    return f'<div class="status-line">{_privacy(status)}<dl>{terms}</dl></div>'


def _privacy(status: EngineStatus) -> str:
    sent = []
    if status.leaves_machine:
        sent.append(f"Questions and the evidence shown are sent to {escape(status.llm_host or 'the language model')}")
    if status.index_host:
        sent.append(f"Vectors made of what you ask for are sent to the index on {escape(status.index_host)}")
    if not sent:
        return '<p class="privacy stays">Nothing leaves this machine</p>'
    return f'<p class="privacy leaves">{". ".join(sent)}</p>'


def prompt_html(prompt: str) -> str:
    """The last prompt that was sent, letter by letter."""
    return f"<pre>{escape(prompt)}</pre>"
