"""Every record of a question run as HTML pages: what was asked, what was answered, from what, and whether it was right.

Knows: records and their scores, how they look. Does not know: how they were made, what a summary says. No scripts, no network: links lead
to the other pages alone, and what a page hides or shows is chosen by buttons that the style obeys.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from biobridge_rag.evaluation.report_figures import clean
from biobridge_rag.evaluation.report_pages import STYLE

Record = Mapping[str, Any]
Scored = Mapping[tuple[str, str], Mapping[str, Any]]
PER_PAGE = 250
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_MOST = 20_000  # characters of one text on a page; the whole is in records.jsonl
SIGNS = {"right": "✓", "wrong": "✗", "abstained": "–", "unscored": "?", "error": "!", "missing": ""}


def outcome(scored: Mapping[str, Any] | None) -> str:
    """right | wrong | abstained | unscored | error | missing."""
    if scored is None:
        return "missing"
    if "error" in scored:
        return "error"
    if scored["abstained"]:
        return "abstained"
    return "unscored" if scored["right"] is None else "right" if scored["right"] else "wrong"


def differing(records: Sequence[Record], arms: Sequence[str], scored: Scored) -> list[tuple[Record, list[str]]]:
    """The questions on which arms differ, each with the outcome in every arm; in the order of the records."""
    first: dict[str, Record] = {}
    for record in records:
        first.setdefault(record["id"], record)
    found = [(record, [outcome(scored.get((name, arm))) for arm in arms]) for name, record in first.items()]
    return [(record, said) for record, said in found if len(set(said) - {"missing"}) > 1]


def record_pages(records: Sequence[Record], arms: Sequence[str], scored: Scored) -> dict[str, str]:
    """The pages by file name, all in one folder: `<arm>-<page>.html`, each of PER_PAGE records, and `differences-<page>.html`."""
    by_arm = {arm: [r for r in records if r["arm"] == arm] for arm in arms}
    place = {(r["id"], arm): (at // PER_PAGE + 1, at) for arm, mine in by_arm.items() for at, r in enumerate(mine)}
    pages: dict[str, str] = {}
    for arm, mine in by_arm.items():
        parts = _parts(mine)
        for number, part in enumerate(parts, start=1):
            cards = "\n".join(_card(r, scored[r["id"], arm], place[r["id"], arm][1], place, arms) for r in part)
            links = _pager(arm, number, len(parts))
            pages[f"{arm}-{number}.html"] = _page(f"Answers of the arm {arm}, page {number} of {len(parts)}", links, _FILTER + cards)
    differences = differing(records, arms, scored)
    parts_ = _parts(differences)
    for number, rows in enumerate(parts_, start=1):
        head = "".join(f'<th scope="col">{html.escape(a)}</th>' for a in arms)
        body = "\n".join(_row(record, said, arms, place) for record, said in rows)
        legend = ", ".join(f"{sign} {name}" for name, sign in SIGNS.items() if sign)
        caption = f'<p class="caption">{len(differences):,} questions on which the arms differ. {legend}.</p>'
        header = f'<thead><tr><th scope="col">Question</th><th scope="col">right answer</th>{head}</tr></thead>'
        table = f'{caption}<div class="scroll" tabindex="0"><table>{header}<tbody>{body}</tbody></table></div>'
        pages[f"differences-{number}.html"] = _page("What differs between the arms", _pager("differences", number, len(parts_)), table)
    return pages


def _parts(items: Sequence[Any]) -> list[Sequence[Any]]:
    return [items[i : i + PER_PAGE] for i in range(0, len(items), PER_PAGE)] or [[]]


def _pager(stem: str, number: int, n: int) -> str:
    near = [f'<a href="{stem}-{k}.html">{k}</a>' if k != number else f"<strong>{k}</strong>" for k in range(1, n + 1)]
    return f'<nav><a href="../report.html">Report</a>{" pages: " + " ".join(near) if n > 1 else ""}</nav>'


def _href(name: str, arm: str, place: Mapping[tuple[str, str], tuple[int, int]]) -> str:
    page, at = place[name, arm]
    return f"{arm}-{page}.html#r{at}"


def _row(record: Record, said: Sequence[str], arms: Sequence[str], place: Mapping[tuple[str, str], tuple[int, int]]) -> str:
    cells = [
        f'<td class="{s}"><a href="{_href(record["id"], arm, place)}" title="{s}">{SIGNS[s]}</a></td>' if s != "missing" else "<td></td>"
        for arm, s in zip(arms, said, strict=True)
    ]
    answers = _line("; ".join(record.get("answers") or []), 120)
    unable = "<br><small>the graph cannot answer it</small>" if record.get("answerable") is False else ""
    return f'<tr><th scope="row">{_line(record["question"], 300)}{unable}</th><td class="answers">{answers}</td>{"".join(cells)}</tr>'


def _card(record: Record, scored: Mapping[str, Any], at: int, place: Mapping[tuple[str, str], tuple[int, int]], arms: Sequence[str]) -> str:
    said = outcome(scored)
    facts = [
        ("Right answer", "; ".join(record.get("answers") or []) or "not known"),
        ("Options", "; ".join(record.get("options") or [])),
        ("Answerable", {True: "yes", False: "no"}.get(record.get("answerable"), "")),  # type: ignore[arg-type]
        ("Predicted", "; ".join(record.get("prediction") or []) or ("" if "error" in record else "nothing")),
        ("Error", record.get("error", "")),
        ("Notice", record.get("notice", "") if "error" not in record else ""),
        ("Ranks", _ranks(scored)),
        ("Unsupported", " | ".join(record.get("unsupported") or [])),
        ("Made-up citations", str(record["removed"]) if record.get("removed") else ""),
        ("Model", record.get("model", "")),
        ("Time and cost", _cost(record)),
        ("Source", record.get("source", "")),
    ]
    lines = "".join(f"<dt>{name}</dt><dd>{_line(value)}</dd>" for name, value in facts if value)
    others = " ".join(
        f'<a href="{_href(record["id"], arm, place)}">{html.escape(arm)}</a>'
        for arm in arms
        if arm != record["arm"] and (record["id"], arm) in place
    )
    folded = [
        ("Sequences and molecules", "\n\n".join([*(record.get("sequences") or []), *(record.get("smiles") or [])])),
        ("Evidence that was shown", "\n".join(_citation(c) for c in record.get("shown") or [])),
        ("Retrieved", "\n".join(_retrieved(r) for r in record.get("retrieved") or [])),
        ("Sent to the language model", record.get("prompt", "")),
    ]
    details = "".join(f"<details><summary>{name}</summary><pre>{_text(value)}</pre></details>" for name, value in folded if value)
    label = f"{_line(record['id'])}, {_line(record['kind']).replace('_', '/')}{', other arms: ' + others if others else ''}"
    return (
        f'<article id="r{at}" class="{said}"><h2>{_line(record["question"], 2_000)}</h2>'
        f'<p class="caption"><span class="sign">{SIGNS[said]} {said}</span> {label}</p>'
        f"<pre>{_text(record.get('text', ''))}</pre><dl>{lines}</dl>{details}</article>"
    )


def _ranks(scored: Mapping[str, Any]) -> str:
    found = [("among the predictions", scored.get("rank")), ("in the evidence", scored.get("evidence_rank"))]
    return ", ".join(f"{rank} {where}" for where, rank in found if rank)


def _cost(record: Record) -> str:
    usage, seconds = record.get("usage") or {}, f"{record['seconds']:.3f} s"
    if not usage.get("calls"):
        return seconds
    cost = f", ${usage['cost']:.5f}" if usage.get("cost") is not None else ""
    return f"{seconds}, {usage['prompt_tokens']:,} + {usage['completion_tokens']:,} tokens{cost}"


def _citation(citation: Mapping[str, Any]) -> str:
    edges = "".join(f"\n    {edge}" for edge in citation.get("edges") or [])
    return f"{citation['key']} {citation['name']} ({citation['node_id']}) {citation.get('url', '')}{edges}"


def _retrieved(found: Mapping[str, Any]) -> str:
    hits = "".join(
        f"\n    {h['rank']}. {h['name']} ({h['id']}), " + ("known" if h["known"] else f"probability {h['probability']}")
        for h in found["hits"]
    )
    return f"{found['query']}: {found['relation']}, {found['n_hits']} hits{hits}"


def _line(text: object, most: int = _MOST) -> str:
    plain = clean(text)
    return html.escape(plain if len(plain) <= most else plain[: most - 1] + "…")


def _text(text: object) -> str:
    plain = _CONTROL.sub("", text if isinstance(text, str) else json.dumps(text))
    return html.escape(plain if len(plain) <= _MOST else plain[: _MOST - 1] + "…")


def _page(title: str, links: str, body: str) -> str:
    name = html.escape(title)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"\n<title>{name}</title>\n<style>{STYLE}{_STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{name}</h1>\n{links}\n{body}\n{links}\n</main>\n"
        "</body>\n</html>\n"
    )


_SHOWN = ("all", "right", "wrong", "abstained", "unscored", "error")
_FILTER = "".join(
    f'<input type="radio" name="show" id="show-{s}"{" checked" if s == "all" else ""}><label for="show-{s}">{s}</label>\n' for s in _SHOWN
)
_STYLE = """
nav { margin: 1rem 0; }
article { border-top: 1px solid var(--line); margin-top: 2rem; content-visibility: auto; contain-intrinsic-size: auto 30rem; }
article h2 { font-size: 1.05rem; margin: 1.25rem 0 0.25rem; overflow-wrap: anywhere; max-width: 60rem; }
.sign { font-weight: 600; color: var(--ink); }
.wrong .sign, td.wrong a, .error .sign, td.error a { color: var(--red); }
td.answers { white-space: normal; overflow-wrap: anywhere; min-width: 8rem; max-width: 16rem; text-align: left; }
tbody th:first-child { max-width: 34rem; min-width: 18rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font: 0.9rem/1.5 ui-monospace, monospace; background: var(--shade);
  padding: 0.75rem 1rem; border-radius: 4px; max-width: 60rem; }
pre:empty { display: none; }
input[name="show"] { margin: 0 0.35rem 0 0; } input[name="show"] + label { margin-right: 1.1rem; }
""" + "".join(f"#show-{s}:checked ~ article:not(.{s}) {{ display: none; }}\n" for s in _SHOWN[1:])
