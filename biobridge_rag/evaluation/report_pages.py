"""A document of headings, paragraphs, tables and figures, written as Markdown and as one HTML file that needs nothing else.

Knows: how each looks. Does not know: what is reported.

Every text is escaped here and nowhere else: blocks hold plain text, whatever a graph's names may contain.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from biobridge_rag.evaluation.report_figures import clean, inline


@dataclass(frozen=True)
class Heading:
    text: str


@dataclass(frozen=True)
class Paragraph:
    """kind: "" | "lead" (the result in a sentence) | "warning" | "note" (small print)."""

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Facts:
    """Names and what they stand for, one a line."""

    items: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Cell:
    """One figure of a table; `note` stands small beneath it, `best` is bold, `tied` means not told apart from the best."""

    text: str
    note: str = ""
    best: bool = False
    tied: bool = False


@dataclass(frozen=True)
class Table:
    """The first column is text, the others are figures. `folded` tables are shut in HTML until they are opened."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    folded: bool = False
    notes_in_markdown: bool = True


@dataclass(frozen=True)
class Figure:
    """An SVG drawing; `name` is its file's, without the ending."""

    name: str
    svg: str
    caption: str


@dataclass(frozen=True)
class Links:
    """Files beside the document: (what each is, its place relative to it)."""

    items: Sequence[tuple[str, str]]


Block = Heading | Paragraph | Facts | Table | Figure | Links
_MARKUP = re.compile(r"([\\`*\[\]|~$])|(?<![A-Za-z0-9])(_)|(_)(?![A-Za-z0-9])")
_ENTITY = re.compile(r"<(?=[A-Za-z/!?])|&(?=#?[A-Za-z0-9]+;)")
TIED = "≈"


def markdown(title: str, blocks: Sequence[Block]) -> str:
    """The document as Markdown (GitHub's tables); figures are links to figures/<name>.svg."""
    parts = [f"# {_mark(title)}"]
    for block in blocks:
        match block:
            case Heading():
                parts.append(f"## {_mark(block.text)}")
            case Paragraph(kind="warning"):
                parts.append(f"> **Warning: {_mark(block.text)}**")
            case Paragraph(kind="lead"):
                parts.append(f"**{_mark(block.text)}**")
            case Paragraph():
                parts.append(_line_start(_mark(block.text)))
            case Facts():
                parts.append("\n".join(f"- **{_mark(name)}:** {_mark(value)}" for name, value in block.items))
            case Links():
                parts.append("\n".join(f"- [{_mark(name)}]({quote(place)})" for name, place in block.items))
            case Figure():
                parts.append(f"![{_mark(block.caption)}](figures/{block.name}.svg)")
            case Table():
                head = [f"| {' | '.join(_mark(h) for h in block.header)} |", f"| --- |{' ---: |' * (len(block.header) - 1)}"]
                rows = [f"| {' | '.join(_mark_cell(c, block.notes_in_markdown) for c in row)} |" for row in block.rows]
                parts.append("\n".join([*([_line_start(_mark(block.caption)), ""] if block.caption else []), *head, *rows]))
    return "\n\n".join(parts) + "\n"


def _mark(text: str) -> str:
    """Plain text as Markdown shows it: characters that would mean something are escaped, all others left readable."""
    return _ENTITY.sub(lambda m: "&lt;" if m[0] == "<" else "&amp;", _MARKUP.sub(lambda m: "\\" + m[0], clean(text)))


def _line_start(text: str) -> str:
    """The line, so that its first characters make no heading, list or quotation."""
    return re.sub(r"^(\d+)([.)] )|^([#+\-=>])", lambda m: f"{m[1]}\\{m[2]}" if m[1] else "\\" + m[0], text)


def _mark_cell(cell: str | Cell, notes: bool) -> str:
    if isinstance(cell, str):
        return _mark(cell)
    text = _mark(cell.text)
    text = f"**{text}**" if cell.best else f"{text} {TIED}" if cell.tied else text
    return f"{text} ({_mark(cell.note)})" if cell.note and notes else text


def page(title: str, blocks: Sequence[Block]) -> str:
    """The document as one HTML file: no scripts, no network, figures in place, light or dark as the reader has it."""
    body = "\n".join(_block(b) for b in blocks)
    return _PAGE.format(title=html.escape(clean(title)), style=STYLE, body=body)


def _block(block: Block) -> str:
    def text(value: str) -> str:
        return html.escape(clean(value))

    match block:
        case Heading():
            return f"<h2>{text(block.text)}</h2>"
        case Paragraph(kind="warning"):
            return f'<p class="warning"><strong>Warning.</strong> {text(block.text)}</p>'
        case Paragraph():
            return f'<p class="{block.kind}">{text(block.text)}</p>' if block.kind else f"<p>{text(block.text)}</p>"
        case Facts():
            return f"<dl>{''.join(f'<dt>{text(name)}</dt><dd>{text(value)}</dd>' for name, value in block.items)}</dl>"
        case Links():
            items = [f'<li><a href="{quote(place)}">{text(name)}</a></li>' for name, place in block.items]
            return f"<ul>{''.join(items)}</ul>"
        case Figure():
            caption = text(block.caption)
            drawing = inline(block.svg).replace("<svg ", f'<svg role="img" aria-label="{caption}" ', 1)
            return f'<figure><div class="scroll" tabindex="0">{drawing}</div><figcaption>{caption}</figcaption></figure>'
        case Table():
            return _table(block)


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{html.escape(clean(h))}</th>' for h in table.header)
    rows = "\n".join(f"<tr>{''.join(_cell(c, k == 0) for k, c in enumerate(row))}</tr>" for row in table.rows)
    caption = html.escape(clean(table.caption))
    inner = f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>'
    if table.folded:
        return f"<details><summary>{caption}</summary>{inner}</details>"
    return f'<p class="caption">{caption}</p>{inner}' if caption else inner


def _cell(cell: str | Cell, first: bool) -> str:
    if isinstance(cell, str):
        return f'<th scope="row">{html.escape(clean(cell))}</th>' if first else f"<td>{html.escape(clean(cell))}</td>"
    text = html.escape(clean(cell.text))
    text = f"<strong>{text}</strong>" if cell.best else f'{text}<span class="tied"> {TIED}</span>' if cell.tied else text
    note = f"<small>{html.escape(clean(cell.note))}</small>" if cell.note else ""
    opening = '<td class="best">' if cell.best else "<td>"
    return f"{opening}{text}{note}</td>"


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{body}
</main>
</body>
</html>
"""
STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1f2328; --soft: #59636e; --line: #d8dee4; --shade: #f2f5f8;
  --red: #b3151d; --pink: #fdeced; --accent: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181d; --ink: #e3e8ed; --soft: #9aa5b1; --line: #343c45;
  --shade: #1d232a; --red: #ff8d8d; --pink: #3a1a1d; --accent: #79b8ff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 3.5rem 1.5rem 5rem; }
h1 { font-size: 2rem; line-height: 1.2; letter-spacing: -0.01em; margin: 0 0 1.5rem; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 3.5rem 0 0.75rem; }
p { max-width: 46rem; margin: 0.75rem 0; overflow-wrap: anywhere; }
.lead { font-size: 1.2rem; line-height: 1.5; margin: 0 0 1.5rem; }
.note, .caption, figcaption { color: var(--soft); font-size: 0.9rem; line-height: 1.5; max-width: 46rem; }
.caption { margin: 1.25rem 0 0.5rem; }
.warning { border-left: 5px solid var(--red); background: var(--pink); color: var(--red); padding: 0.9rem 1.1rem; border-radius: 4px; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 0.35rem 1.5rem; max-width: 52rem; margin: 1rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
.scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; font-size: 0.9rem; line-height: 1.35; font-variant-numeric: tabular-nums; margin: 0.5rem 0; }
th, td { padding: 0.5rem 0.8rem; text-align: right; vertical-align: top; white-space: nowrap; border-bottom: 1px solid var(--line); }
thead th { color: var(--soft); font-weight: 600; border-bottom-width: 2px; vertical-align: bottom; }
th:first-child { text-align: left; font-weight: 500; padding-left: 0; white-space: normal; min-width: 11rem; max-width: 20rem;
  overflow-wrap: anywhere; position: sticky; left: 0; background: var(--paper); }
td.best { background: var(--shade); }
td small { display: block; color: var(--soft); font-size: 0.78rem; }
.tied { color: var(--soft); }
figure { margin: 1.5rem 0; }
figure svg { display: block; width: var(--width); height: auto; max-width: 100%; }
details { margin: 1.25rem 0; }
a { color: var(--accent); }
summary { cursor: pointer; color: var(--accent); font-size: 0.95rem; padding: 0.25rem 0; }
@media (max-width: 40rem) { main { padding: 2rem 1rem 3rem; } h1 { font-size: 1.6rem; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: 0.6rem; }
  .lead { font-size: 1.1rem; }
  th:first-child { min-width: 8.5rem; max-width: 9.5rem; } figure svg { min-width: calc(0.7 * var(--width)); } }
@media print { main { max-width: none; padding: 0; } .scroll { overflow: visible; } h2, figure { break-inside: avoid; } }
"""
