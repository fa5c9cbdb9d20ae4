"""Turns text into HTML that is safe to show: escaping, links, drawn structures, and answers with clickable citations.

Knows: HTML, Markdown. Does not know: gradio, the engine, where the text came from. Every text that reaches the page goes
through here: names and edges of the graph, what users paste, file headers, what a language model wrote.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlsplit

from biobridge_rag.chemistry import draw_svg
from biobridge_rag.types import Citation

_CITATION = re.compile(r"( ?)\[(\d{1,4}(?:\s*[,;]\s*\d{1,4})*)\]")
UNSUPPORTED = "not supported by the evidence"
"""The words in brackets that the check of an answer puts after a sentence which nothing shown supports."""
_BLOCKED_MARKDOWN = ["link", "image", "autolink", "html_inline", "html_block", "reference", "text_join"]


def escape(text: object) -> str:
    """Text as HTML that shows it letter by letter, inside elements and inside quoted attributes."""
    return html.escape(str(text), quote=True).replace("{", "&#123;").replace("$", "&#36;").replace("`", "&#96;")


def safe_url(url: str) -> str:
    """The address if it is https with a host, else an empty string."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return url if parts.scheme == "https" and parts.hostname and not re.search(r"[\s<>\"'`\\]", url) else ""


def link(url: str, text: str, css: str = "", title: str = "") -> str:
    """A link that opens a new tab; plain text where the address is not https."""
    attributes = (f' class="{css}"' if css else "") + (f' title="{escape(title)}"' if title else "")
    address = safe_url(url)
    if not address:
        return f"<span{attributes}>{escape(text)}</span>"
    return f'<a{attributes} href="{escape(address)}" target="_blank" rel="noopener noreferrer">{escape(text)}</a>'


def shorten(text: str, limit: int) -> str:
    """One line of at most `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def percent(p: float) -> str:
    """A probability in [0, 1] as a reader writes it: whole per cent, without claiming 0 or 100."""
    if p < 0.01:
        return "< 1 %"
    return "> 99 %" if p > 0.99 else f"{p * 100:.0f} %"


@lru_cache(maxsize=1024)
def structure(smiles: str, name: str, width: int, height: int) -> str:
    """A drawing of the molecule as an image element, or a dash where it cannot be drawn.

    The SVG is an image source, not part of the page, so that nothing in it could run.
    """
    svg = draw_svg(smiles, width, height)
    if not svg:
        return '<span class="no-structure">no structure</span>'
    source = "data:image/svg+xml," + quote(" ".join(svg.split()), safe=" =:/,;.'-?()!")
    return f'<img class="structure" src="{source}" width="{width}" height="{height}" alt="Structure of {escape(name)}">'


@lru_cache(maxsize=1)
def _markdown() -> Any:
    """A Markdown reader without links, images and HTML; its text rule makes the citations."""
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": False}).enable("table").disable(_BLOCKED_MARKDOWN)

    def text(self: Any, tokens: Sequence[Any], at: int, options: Any, env: Mapping[str, Citation]) -> str:
        return _cite(tokens[at].content, env)

    def plain(self: Any, tokens: Sequence[Any], at: int, options: Any, env: Mapping[str, Citation]) -> str:
        return escape(tokens[at].content)

    reader.add_render_rule("text", text)
    reader.add_render_rule("text_special", plain)
    return reader


def _marked(text: str) -> str:
    """Escaped text in which the mark of an unsupported sentence stands out."""
    return escape(text).replace(f"({UNSUPPORTED})", f'<mark class="unsupported">{UNSUPPORTED}</mark>')


def _cite(text: str, citations: Mapping[str, Citation]) -> str:
    out, start = [], 0
    for match in _CITATION.finditer(text):
        keys = re.split(r"\s*[,;]\s*", match[2])
        if not all(k in citations for k in keys):
            continue
        out.append(_marked(text[start : match.start()]) + ("&nbsp;" if match[1] else ""))
        out += [link(citations[k].url, k, "cite", citations[k].name) for k in keys]
        start = match.end()
    return "".join([*out, _marked(text[start:])])


def answer_html(text: str, citations: Sequence[Citation] = ()) -> str:
    """Markdown of an answer as HTML on one line; [n] of a known citation becomes a link to its node's page.

    On one line, because the conversation reads Markdown too and a blank line would end the block of HTML.
    """
    keyed = {c.key.strip("[]"): c for c in citations}
    rendered = str(_markdown().render(text, keyed)).strip()
    return "".join(_one_line(part) for part in re.split(r"(<pre>.*?</pre>)", rendered, flags=re.DOTALL))


def _one_line(part: str) -> str:
    return part.strip().replace("\n", "&#10;") if part.startswith("<pre>") else part.replace("\n", " ")


def lines_html(text: str) -> str:
    """What a user typed, as HTML on one line with its line breaks."""
    return "<br>".join(escape(line) for line in text.strip().splitlines())
