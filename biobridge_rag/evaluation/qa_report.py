"""The report of a question run: how each arm did, how sure that is, what its answers rest on and cost, and where arms differ.

Knows: the summary, records and scores. Does not know: how they were made, how a page looks (report_pages, qa_pages).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from biobridge_rag.errors import InputError
from biobridge_rag.evaluation import report_figures as draw
from biobridge_rag.evaluation.figures_said import NONE, number, p_value, signed, span
from biobridge_rag.evaluation.qa_pages import SIGNS, Record, Scored, differing, record_pages
from biobridge_rag.evaluation.report_pages import Block, Cell, Facts, Figure, Heading, Links, Paragraph, Table, markdown, page
from biobridge_rag.fetching.downloads import saying_disk_full
from biobridge_rag.fetching.records import replacing

TITLE = "Question answering"
SHOWN_DIFFERENCES = 40
_LABELS = {"true_false": "true/false"}
Json = Mapping[str, Any]


def write_report(summary: Json, records: Sequence[Record], scored: Scored, directory: Path, *, title: str = TITLE) -> list[Path]:
    """Writes report.md, report.html, figures/*.svg and records/*.html (no scripts, no network) beside the run's records.

    summary: as evaluation.qa makes it; scored: as qa_scores.score_record, by id and arm. Files are written beside their place and renamed;
    pages of an earlier report that are not written anew are removed. Raises InputError where a file stands in a folder's place and
    DiskFullError."""
    arms = list(summary["arms"])
    pages = record_pages(records, arms, scored)
    blocks = _contents(summary, records, scored, list(pages))
    texts = {
        "report.md": markdown(title, blocks),
        "report.html": page(title, blocks),
        **{f"figures/{b.name}.svg": b.svg for b in blocks if isinstance(b, Figure)},
        **{f"records/{name}": text for name, text in pages.items()},
    }
    for folder in (directory / "figures", directory / "records"):
        if folder.exists() and not folder.is_dir():
            raise InputError(f"The report needs a folder {folder}, which is a file.", "Give another folder.")
        with saying_disk_full(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for old in folder.glob("*.html"):
                if f"{folder.name}/{old.name}" not in texts:
                    old.unlink()
    for name, text in texts.items():
        with replacing(directory / name) as file:
            file.write(text)
    return [directory / name for name in texts]


def _contents(summary: Json, records: Sequence[Record], scored: Scored, pages: Sequence[str]) -> list[Block]:
    arms: Mapping[str, Json] = summary["arms"]
    return [
        *_lead(summary),
        *_asked(summary),
        *_overall(arms),
        *_groups(arms),
        *_evidence(arms),
        *_abstention(arms),
        *_citations(arms),
        *_costs(arms, summary),
        *_paired(summary["paired"], summary["resamples"]),
        *_differences(records, list(arms), scored),
        Heading("Every answer"),
        Paragraph("Each question with its whole answer, the evidence that was shown, and what was sent to the language model."),
        Links([(name.removesuffix(".html").replace("-", ", page "), f"records/{name}") for name in pages]),
        *_left_out(summary),
    ]


def _lead(summary: Json) -> list[Block]:
    run, arms = summary["run"], summary["arms"]
    out: list[Block] = []
    if run["stopped"] or not run["complete"]:
        why = run["stopped"] or "it was broken off"
        out.append(Paragraph(f"This run is not complete ({run['n_records']:,} of {run['n_wanted']:,} answers): {why}", "warning"))
    if failed := sum(a["errors"] for a in arms.values()):
        out.append(Paragraph(f"{failed:,} questions failed. They are in no figure; the same command asks them again.", "warning"))
    scored = {name: a for name, a in arms.items() if a["accuracy"] is not None}
    if not scored:
        return [*out, Paragraph("Nothing could be scored.", "lead")]
    best = max(scored, key=lambda name: scored[name]["accuracy"])
    text = f"Of {scored[best]['n_scored']:,} questions, the arm {best} answers {number(scored[best]['accuracy'])} right"
    text += f" (95 % interval {span(scored[best]['ci'])})"
    others = [f"{name} {number(a['accuracy'])}" for name, a in scored.items() if name != best]
    return [*out, Paragraph(text + (f"; {', '.join(others)}." if others else "."), "lead")]


def _asked(summary: Json) -> list[Block]:
    asked, run = summary["questions"], summary["run"]
    of = f" of {asked['n_in_file']:,}" if asked["n"] != asked["n_in_file"] else ""
    facts = [
        ("Questions", f"{asked['n']:,}{of} from {asked['file']}"),
        ("Arms", ", ".join(summary["arms"])),
        ("Language model", "none: answers are composed from the evidence" if summary["llm"] == "none" else summary["llm"]),
        ("Answers", f"{run['n_records']:,}, {run['concurrency']} at a time"),
        ("Seed", f"{summary['seed']}, {summary['resamples']:,} resamples"),
    ]
    note = (
        "Right means: the first short answer is one of the right ones and the answer does not abstain. In open questions a node counts by "
        "any of its names and ids, in a choice the option's text, in true/false yes counts as true. The arms: none has no evidence, text "
        "descriptions found by words and embedding, bridge the graph's edges, the bridge and analogues, shuffled the same of other nodes "
        "as a control, full all."
    )
    return [Heading("What was asked"), Facts(facts), Paragraph(note, "note")]


def _overall(arms: Mapping[str, Json]) -> list[Block]:
    columns: list[tuple[str, Callable[[Json], Cell]]] = [
        ("accuracy", lambda a: _measured(a)),
        ("answerable", lambda a: _measured(a.get("answerable"))),
        ("unanswerable: abstained", lambda a: Cell(number((a.get("unanswerable") or {}).get("abstained")))),
        ("exact match", lambda a: Cell(number(a["exact_match"]))),
        ("F1", lambda a: Cell(number(a["f1"]))),
        ("questions", lambda a: Cell(f"{a['n']:,}")),
        ("failed", lambda a: Cell(f"{a['errors']:,}")),
    ]
    table = _by_arm("Shares of questions, with 95 % bootstrap intervals of the accuracy.", arms, columns)
    return [Heading("Overall"), table, *_figure("accuracy", {n: a for n, a in arms.items() if a["accuracy"] is not None})]


def _figure(name: str, arms: Mapping[str, Json]) -> list[Block]:
    if not arms:
        return []
    points = [(arm, {arm: _point(a)}) for arm, a in arms.items()]
    drawn = draw.dot_plot(name, points, list(arms), "accuracy, all questions", list(arms), legend=False)
    return [Figure(name, drawn, "Accuracy of each arm with its 95 % interval.")]


def _groups(arms: Mapping[str, Json]) -> list[Block]:
    """Accuracy where the graph can answer and abstention where it cannot, by kind."""
    kinds = sorted({kind for a in arms.values() for kind in a["by_kind"]})
    parts = [(kind, part) for part in ("", "answerable", "unanswerable") for kind in kinds]
    rows: list[list[str | Cell]] = []
    points: list[tuple[str, dict[str, draw.Point]]] = []
    for kind, part in parts:
        of_kind = {arm: a["by_kind"].get(kind) or {} for arm, a in arms.items()}
        blocks = {arm: b for arm, found in of_kind.items() if (b := found.get(part) if part else found)}
        if not blocks:
            continue
        label = f"{_label(kind)}, {part}" if part else _label(kind)
        n = max(b["n"] for b in blocks.values())
        rows.append([label, Cell(f"{n:,}"), *(_measured(blocks.get(arm), abstained=part == "unanswerable") for arm in arms)])
        if values := {arm: _point(b) for arm, b in blocks.items() if b["accuracy"] is not None}:
            points.append((label, values))
    if not rows:
        return []
    caption = "Accuracy by kind of question; where the graph cannot answer, the share that abstains stands below."
    out: list[Block] = [Heading("By kind"), Table(caption, ["Questions", "n", *arms], rows)]
    if points:
        drawn = draw.dot_plot("kinds", points, list(arms), "accuracy", list(arms), legend=True)
        out.append(Figure("kinds", drawn, "Accuracy by kind of question and by whether the graph can answer; bars are 95 % intervals."))
    return out


def _evidence(arms: Mapping[str, Json]) -> list[Block]:
    header = [f"predicted, top {k}" for k in (1, 5, 10)] + [f"shown, top {k}" for k in (1, 5, 10)] + ["shown at all"]
    rows: list[list[str | Cell]] = [
        [arm, *(Cell(number(a["recall"][k])) for k in ("1", "5", "10")),
         *(Cell(number(a["evidence_recall"][k])) for k in ("1", "5", "10", "all"))]
        for arm, a in arms.items()
    ]  # fmt: skip
    caption = (
        "Share of open and choice questions that have a right answer among the first short answers, and its node among the first of the "
        "evidence that was shown."
    )
    return [Heading("Is the right node found"), Table(caption, ["Arm", *header], rows)]


def _abstention(arms: Mapping[str, Json]) -> list[Block]:
    if not any(a["abstention"][k] for a in arms.values() for k in ("right", "wrong", "missed")):
        return []
    columns: list[tuple[str, Callable[[Json], Cell]]] = [
        ("abstained rightly", lambda a: Cell(f"{a['abstention']['right']:,}")),
        ("should have abstained", lambda a: Cell(f"{a['abstention']['missed']:,}")),
        ("abstained wrongly", lambda a: Cell(f"{a['abstention']['wrong']:,}")),
        ("precision", lambda a: Cell(number(a["abstention"]["precision"]))),
    ]
    return [
        Heading("Abstention"),
        _by_arm(
            "Numbers of questions: to abstain is right where the graph cannot answer. Precision is the share of right abstentions.",
            arms,
            columns,
        ),
    ]


def _citations(arms: Mapping[str, Json]) -> list[Block]:
    columns: list[tuple[str, Callable[[Json], Cell]]] = [
        ("citations", lambda a: Cell(f"{a['citations']['n']:,}")),
        ("precision", lambda a: Cell(number(a["citations"]["precision"]))),
        ("dangling", lambda a: Cell(f"{a['citations']['dangling']:,}")),
        ("not shown", lambda a: Cell(f"{a['citations']['not_shown']:,}")),
        ("made up, removed", lambda a: Cell(f"{a['citations']['removed']:,}")),
        ("unsupported sentences", lambda a: Cell(number(a["citations"]["unsupported_share"]), f"{a['citations']['unsupported']:,}")),
    ]
    caption = "A citation is right when its evidence was shown and its sentence is supported by what it cites."
    return [Heading("Citations"), _by_arm(caption, arms, columns)]


def _costs(arms: Mapping[str, Json], summary: Json) -> list[Block]:
    columns: list[tuple[str, Callable[[Json], Cell]]] = [
        ("seconds, p50", lambda a: Cell(number(a["latency"]["p50"]))),
        ("seconds, p99", lambda a: Cell(number(a["latency"]["p99"]))),
        ("calls", lambda a: Cell(f"{a['usage']['calls']:,}")),
        ("tokens", lambda a: Cell(f"{a['usage']['tokens']:,}")),
        ("US dollars", lambda a: Cell(NONE if a["usage"]["cost"] is None else f"{a['usage']['cost']:.4f}")),
    ]
    caption = f"Seconds of one answer with {summary['run']['concurrency']} at a time, and what language models were asked."
    return [Heading("Time and cost"), _by_arm(caption, arms, columns)]


def _paired(rows: Sequence[Json], resamples: int) -> list[Block]:
    if not rows:
        return []
    out: list[Block] = [Heading("Arms against each other")]
    for over in dict.fromkeys(r["over"] for r in rows):
        body: list[list[str | Cell]] = []
        for r in (r for r in rows if r["over"] == over):
            cell = Cell(signed(r["accuracy_difference"]), f"{signed(r['ci'][0])} to {signed(r['ci'][1])}, {p_value(r['p'])}")
            f1 = Cell(signed(r["f1_difference"]), f"{signed(r['f1_ci'][0])} to {signed(r['f1_ci'][1])}")
            body.append(
                [f"{r['arm']} – {r['other']}", Cell(f"{r['n']:,}"), cell, f1, Cell(f"{r['only_arm']:,}"), Cell(f"{r['only_other']:,}")]
            )
        name = "all questions" if over == "all" else f"{_label(over)} questions"
        out.append(
            Table(
                f"Paired difference over {name}, its 95 % interval and p.",
                ["Arms", "questions", "accuracy", "F1", "only the first right", "only the second right"],
                body,
                folded=over not in ("all", "answerable"),
            )
        )
    note = f"Both arms answered the same questions, drawn anew {resamples:,} times. p is two-sided, by sign flips, not corrected."
    return [*out, Paragraph(note, "note")]


def _differences(records: Sequence[Record], arms: list[str], scored: Scored) -> list[Block]:
    found = differing(records, arms, scored)
    if len(arms) < 2:
        return []
    if not found:
        return [Heading("What differs between the arms"), Paragraph("Nothing: on every question all arms came to the same.")]
    rows = [
        [_short(r["question"], 160), _short("; ".join(r.get("answers") or []) or NONE, 60), *(SIGNS[s] for s in said)]
        for r, said in found[:SHOWN_DIFFERENCES]
    ]
    legend = ", ".join(f"{sign} {name}" for name, sign in SIGNS.items() if sign)
    which = f"the first {SHOWN_DIFFERENCES} of {len(found):,}" if len(found) > SHOWN_DIFFERENCES else f"{len(found):,}"
    caption = f"Questions on which the arms came to different ends, {which}: {legend}. All of them are listed under “Every answer”."
    return [Heading("What differs between the arms"), Table(caption, ["Question", "right answer", *arms], rows, folded=True)]


def _left_out(summary: Json) -> list[Block]:
    asked, out = summary["questions"], list[Block]([Heading("What was left out")])
    if asked["left_out"]:
        rows = [[reason, f"{n:,}"] for reason, n in asked["left_out"].items()]
        out.append(Table("Lines of the file that were not asked.", ["Reason", "lines"], rows))
        listed = [[str(p["line"]), p["reason"]] for p in asked["problems"]]
        out.append(Table("Each of them.", ["Line", "reason"], listed, folded=True))
    if asked["n_without_answer"]:
        out.append(Paragraph(f"{asked['n_without_answer']:,} questions of the file have no right answer: they were asked and not scored."))
    if errors := summary["run"]["errors"]:
        out.append(Table("Failures.", ["Error", "answers"], [[_short(e, 300), f"{n:,}"] for e, n in errors.items()]))
    return out if len(out) > 1 else [*out, Paragraph("Nothing.")]


def _by_arm(caption: str, arms: Mapping[str, Json], columns: Sequence[tuple[str, Callable[[Json], Cell]]]) -> Table:
    return Table(caption, ["Arm", *(name for name, _ in columns)], [[arm, *(cell(a) for _, cell in columns)] for arm, a in arms.items()])


def _measured(block: Json | None, *, abstained: bool = False) -> Cell:
    if not block:
        return Cell(NONE)
    note = f"abstained {number(block['abstained'])}" if abstained else span(block["ci"]) if block["ci"] else ""
    return Cell(number(block["accuracy"]), note)


def _point(block: Json) -> draw.Point:
    return block["accuracy"], (block["ci"][0], block["ci"][1])


def _label(kind: str) -> str:
    return _LABELS.get(kind, kind)


def _short(text: str, most: int) -> str:
    text = draw.clean(text)
    return text if len(text) <= most else text[: most - 1] + "…"
