"""How the messages of the conversation look: what was asked and attached, what is being done, the answer and what stands behind it.

Knows: answers, citations, queries, HTML. Does not know: gradio, sessions, how an answer is made.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from biobridge_rag.types import Answer, Citation, NodeType, Query, Usage
from biobridge_rag.ui.markup import answer_html, escape, lines_html, link, shorten

LONGEST_SHOWN = 600
MOST_LISTED = 8
_READING = re.compile(r"“[^“”]{1,200}” is read as .+?\.(?=\s|$)")


def user_message(text: str, file_names: Sequence[str], queries: Sequence[Query] = ()) -> str:
    """The user's words as text; long sequences are cut in the display only. queries: what was read of files and pasted values."""
    shown = text.strip()
    cut = f'<span class="cut">… {len(shown):,} characters in all</span>' if len(shown) > LONGEST_SHOWN else ""
    files = "".join(f'<span class="file">{escape(shorten(name, 60))}</span>' for name in file_names)
    words = f"<div>{lines_html(shown[:LONGEST_SHOWN])}{cut}</div>" if shown else ""
    return f'<div class="said">{words}{f"<div>{files}</div>" if files else ""}{_read(queries)}</div>'


def _read(queries: Sequence[Query]) -> str:
    """What was attached, one line each: name, what it is, how long."""
    brought = [q for q in queries if q.value]
    lines = [f"<li><b>{escape(shorten(q.name, 60))}</b> {escape(_size(q))}</li>" for q in brought[:MOST_LISTED]]
    if len(brought) > MOST_LISTED:
        lines.append(f"<li>and {len(brought) - MOST_LISTED:,} more</li>")
    return f'<ul class="attached" aria-label="Read from what you attached">{"".join(lines)}</ul>' if lines else ""


def _size(query: Query) -> str:
    known = f", known as {query.node.name}" if query.node is not None and query.node.name != query.name else ""
    if query.type is NodeType.PROTEIN:
        return f"protein, {len(query.value):,} residues{known}"
    return f"{'molecule' if query.type is NodeType.DRUG else query.type.label}{known}"


def working(status: str, partial: str = "") -> str:
    """The answer so far and what is being done."""
    return f'<div class="answer">{answer_html(partial) if partial else ""}<p class="working" role="status">{escape(status)}</p></div>'


def error_line(message: str) -> str:
    return f'<div class="answer"><p class="error" role="alert">{escape(message)}</p></div>'


def notes_html(notes: Sequence[str]) -> str:
    return "".join(f'<p class="note">{escape(note)}</p>' for note in notes)


def answer_message(answer: Answer, notes: Sequence[str] = ()) -> str:
    """How names were read, the answer or that there is none, what it cites, what it could not back, and who wrote it."""
    lines = [*notes, answer.notice] if answer.notice else list(notes)
    reading, text = _readings(answer.text)
    said = answer_html(text, answer.citations)
    if answer.abstained:
        lead, rest = _lead(text)
        said = _abstained(answer_html(lead, answer.citations)) + (answer_html(rest, answer.citations) if rest.strip() else "")
    read = "".join(f'<div class="reading">{answer_html(r, answer.citations)}</div>' for r in reading)
    return f'<div class="answer">{notes_html(lines)}{read}{said}{_cited(answer)}{_unsupported(answer)}{_author(answer)}</div>'


def preview_message(sent: str, host: str) -> str:
    """What would be sent to the language model, letter by letter; nothing was."""
    to = f" to {escape(host)}" if host else " to the language model"
    if not sent:
        return f'<div class="answer">{notes_html(["Nothing was sent, and nothing would be: there is no evidence to write from."])}</div>'
    lines = "&#10;".join(escape(line) for line in sent.splitlines())
    said = f'<p class="note">Nothing was sent. This would be sent{to}:</p>'
    return f'<div class="answer">{said}<pre class="preview" tabindex="0">{lines}</pre></div>'


def _readings(text: str) -> tuple[list[str], str]:
    """The sentences at the start of an answer's first paragraphs that say how a name was read, and the rest of it."""
    found: list[str] = []
    paragraphs = text.split("\n\n")
    for i, paragraph in enumerate(paragraphs[:2]):
        while match := _READING.match(paragraph):
            found.append(match.group())
            paragraph = paragraph[match.end() :].lstrip(" ")
        paragraphs[i] = paragraph
    return found, "\n\n".join(p for p in paragraphs if p.strip())


def _lead(text: str) -> tuple[str, str]:
    """What an answer says before its lists and notes, and those."""
    paragraphs = text.split("\n\n")
    n = next((i for i, p in enumerate(paragraphs) if re.match(r"\*\*[^*]+\*\*$|[-*] |\d+\. |Note: ", p)), len(paragraphs))
    return "\n\n".join(paragraphs[: max(n, 1)]), "\n\n".join(paragraphs[max(n, 1) :])


def _abstained(lead: str) -> str:
    return f'<div class="abstained" role="status"><p class="title">Not answered from the evidence</p>{lead}</div>'


def _cited(answer: Answer) -> str:
    if not answer.citations:
        return ""
    items = "".join(f"<li>{_citation(c)}</li>" for c in answer.citations)
    n = len(answer.citations)
    opened = " open" if n <= 6 else ""
    return f'<details class="cited"{opened}><summary>{n} cited {"node" if n == 1 else "nodes"}</summary><ol>{items}</ol></details>'


def _citation(citation: Citation) -> str:
    key = f'<span class="key">{escape(citation.key.strip("[]"))}</span>'
    edge = f'<span class="edge">{escape(shorten(citation.edges[0], 110))}</span>' if citation.edges else ""
    return f"{key} {link(citation.url, shorten(citation.name, 80))} {edge}"


def _unsupported(answer: Answer) -> str:
    if not answer.unsupported:
        return ""
    n = len(answer.unsupported)
    items = "".join(f"<li>{escape(shorten(sentence, 300))}</li>" for sentence in answer.unsupported)
    summary = f"{n} {'sentence is' if n == 1 else 'sentences are'} not supported by the evidence"
    return f'<details class="unsupported"><summary>{summary}</summary><ul>{items}</ul></details>'


def _author(answer: Answer) -> str:
    if answer.model in ("", "none"):
        return '<p class="author">Composed from the evidence of the graph, without a language model.</p>'
    taken = usage_line(answer.usage)
    hashed = f"Prompt {escape(answer.prompt_sha256[:12])}."
    return f'<p class="author">Written by {escape(answer.model)} from the evidence. {f"{taken}. " if taken else ""}{hashed}</p>'


def usage_line(usage: Usage) -> str:
    """Tokens, cost and seconds, as far as they are known: "1,204 tokens in, 96 out, $0.0009, 2.1 s"."""
    parts = []
    if usage.prompt_tokens or usage.completion_tokens:
        parts.append(f"{usage.prompt_tokens:,} tokens in, {usage.completion_tokens:,} out")
    if usage.cost is not None:
        parts.append(f"${usage.cost:.2f}" if usage.cost >= 0.1 or not usage.cost else f"${usage.cost:.4f}")
    if usage.calls and usage.cached >= usage.calls:
        parts.append("from the cache")
    elif usage.seconds:
        parts.append(f"{usage.seconds:.1f} s")
    return ", ".join(parts)
