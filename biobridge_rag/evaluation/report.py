"""The report of a retrieval evaluation: what was measured, every method beside every other, how sure it is, what is missing.

Knows: the report dict of the ranking protocol, and optional training history, calibration and ablation. Does not know: how they
were made, how a page looks (report_pages), how figures are drawn (report_figures).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from biobridge_rag.errors import DiskFullError, InputError
from biobridge_rag.evaluation import report_figures as draw
from biobridge_rag.evaluation.figures_said import NONE, number, p_value, signed, span
from biobridge_rag.evaluation.report_pages import TIED, Block, Cell, Facts, Figure, Heading, Paragraph, Table, markdown, page

TITLE = "Retrieval evaluation"
LEAKY = (
    "This split leaks. Training has seen the test heads, or the inverses of the edges that are asked for, so the figures say how well "
    "known facts are found again, not what the methods find for new nodes. Do not set them beside figures of a strict split."
)
_METRICS = ("mrr", "hits@1", "hits@3", "hits@10")
_NAMES = {"mrr": "MRR", "hits@1": "Hits@1", "hits@3": "Hits@3", "hits@10": "Hits@10"}
_FIGURES = ("macro", "relations", "learning_curve", "reliability")
Json = Mapping[str, Any]


def write_report(
    report: Json,
    directory: Path,
    *,
    title: str = TITLE,
    history: Sequence[Json] | None = None,
    calibration: Json | None = None,
    ablation: Sequence[Json] | None = None,
) -> list[Path]:
    """Writes report.md, report.html (one file, no scripts, no network), report.json and figures/*.svg; returns their paths.

    report: what the ranking protocol returns; metrics in [0, 1], higher is better, intervals [low, high]. history: rows with
    "epoch", "loss" and, or None, "validation_mrr". calibration: {"bins": [{"predicted", "observed", "n"}], "ece"}, in [0, 1].
    ablation: rows {"name", "mrr", "ci" or None}, macro MRR, the full system first. The same input gives the same bytes. Every file
    is written beside its place and renamed; figures of an earlier report that this one has no data for are removed. Raises
    InputError for a report that lacks a key, DiskFullError where nothing can be written.
    """
    try:
        plain = json.dumps(report, indent=1, allow_nan=False) + "\n"
        blocks = _contents(report, history, calibration, ablation)
    except KeyError as error:
        raise InputError(f"This is no report of evaluate retrieval: it lacks {error}.") from error
    except ValueError as error:
        raise InputError(f"This is no report of evaluate retrieval: {error}.") from error
    figures = {b.name: b.svg for b in blocks if isinstance(b, Figure)}
    texts = {
        "report.md": markdown(title, blocks),
        "report.html": page(title, blocks),
        "report.json": plain,
        **{f"figures/{name}.svg": svg for name, svg in figures.items()},
    }
    try:
        (directory / "figures").mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            temporary = directory / f"{name}.tmp"
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(directory / name)
        for name in set(_FIGURES) - set(figures):
            (directory / "figures" / f"{name}.svg").unlink(missing_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"The report cannot go to {directory}: that is a file.", "Give a folder.") from None
    except OSError as error:
        raise DiskFullError(f"Cannot write the report to {directory}: {error.strerror or error}.", "Choose another folder.") from error
    return [directory / name for name in texts]


def _contents(report: Json, history: Sequence[Json] | None, calibration: Json | None, ablation: Sequence[Json] | None) -> list[Block]:
    rows, macro = report["relations"], report["macro"]
    methods = list(dict.fromkeys([*macro, *(m for row in rows for m in row["methods"])]))
    ours = list(report.get("macro_against_best_baseline") or dict.fromkeys(m for r in rows for m in r.get("against_best_baseline") or {}))
    blocks: list[Block] = [Paragraph(LEAKY, "warning")] if report.get("leaky") else []
    blocks += _headline(report, ours)
    blocks += _measured(report, methods)
    blocks += _macro(report, methods, ours)
    blocks += _relations(rows, methods, ours)
    blocks += _paired(rows, ours)
    if ablation:
        blocks += _ablation(ablation)
    if history:
        caption = "Training loss, and filtered MRR on the validation heads where there are any."
        blocks += [Heading("Learning curve"), Figure("learning_curve", draw.learning_curve("learning_curve", history), caption)]
    if calibration and any(b["n"] for b in calibration["bins"]):
        total = sum(b["n"] for b in calibration["bins"])
        error = f"Expected calibration error {calibration['ece']:.3f}, {total:,} predictions."
        caption = f"Of predictions given a probability, the share that is true. {error}"
        blocks += [Heading("Calibration"), Figure("reliability", draw.reliability("reliability", calibration["bins"]), caption)]
    return [*blocks, *_left_out(report)]


def _headline(report: Json, ours: Sequence[str]) -> list[Block]:
    macro, base = report["macro"], report.get("macro_best_baseline")
    method = next((m for m in ours if m in macro), next(iter(macro), None))
    if method is None:
        return [Paragraph("No method could be ranked on every relation: there is no overall figure.", "lead")]
    text = f"{method} reaches a macro MRR of {number(macro[method]['mrr'])}"
    if ci := _interval(report.get("macro_ci"), method, "mrr"):
        text += f" (95 % interval {span(ci)})"
    tested = (report.get("macro_against_best_baseline") or {}).get(method)
    if base in macro and tested:
        text += f"; the best baseline, {base}, reaches {number(macro[base]['mrr'])}. {_verdict(method, tested)}"
    return [Paragraph(text.rstrip(".") + ".", "lead")]


def _verdict(method: str, tested: Json) -> str:
    """What a paired comparison shows, in words that say no more than it does."""
    difference, (low, high), chance = tested["mrr_difference"], tested["ci"], p_value(tested["p"])
    if low <= 0 <= high:
        return f"The test does not tell them apart: difference {signed(difference)}, {signed(low)} to {signed(high)}, {chance}"
    low, high = sorted((abs(low), abs(high)))
    return f"{method} is {'better' if difference > 0 else 'worse'} by {abs(difference):.3f} ({low:.3f} to {high:.3f}, {chance})"


def _measured(report: Json, methods: Sequence[str]) -> list[Block]:
    rows, over = report["relations"], report["macro_over"]
    triples = sum(r["n_triples"] for r in rows)
    facts = (
        ("Split", str(report["split"])),
        ("Protocol", str(report["protocol"])),
        ("Test nodes", f"{report['n_unseen']:,}"),
        ("Relations", f"{len(rows):,}, each direction apart; {len(over):,} enter the macro mean"),
        ("Test triples", f"{triples:,}"),
        ("Methods", ", ".join(methods) or "none"),
        *((f"Encoder of {modality} values", name) for modality, name in (report.get("encoders") or {}).items()),
    )
    notes = [Paragraph(str(note), "note") for note in report.get("notes") or []]
    return [Heading("What was measured"), Facts(facts), *notes]


def _macro(report: Json, methods: Sequence[str], ours: Sequence[str]) -> list[Block]:
    macro, micro, ci = report["macro"], report.get("micro") or {}, report.get("macro_ci")
    if not macro:
        return []
    tested, base = report.get("macro_against_best_baseline") or {}, report.get("macro_best_baseline")
    ranked = sorted((m for m in methods if m in macro), key=lambda m: -macro[m]["mrr"])
    marks = {k: _marked({m: macro[m] for m in ranked}, ci, k) for k in _METRICS}
    header = ["Method", *(_NAMES[k] for k in _METRICS), *(["MRR, micro"] if micro else []), *([f"MRR against {base}"] if tested else [])]
    rows: list[list[str | Cell]] = []
    for m in ranked:
        row: list[str | Cell] = [m, *(marks[k][m] for k in _METRICS)]
        if micro:
            row.append(Cell(number(micro.get(m, {}).get("mrr"))))
        if tested:
            row.append(_difference(tested[m]) if m in tested else Cell("best baseline" if m == base else ""))
        rows.append(row)
    caption = f"Mean over {len(report['macro_over']):,} relations, each counting the same." + (
        " Micro: mean over triples." if micro else ""
    )
    out: list[Block] = [Heading("Overall"), Table(caption + _legend(ci), header, rows)]
    if tested:
        out.append(
            Paragraph(
                "Comparisons are paired: both methods rank the same heads. p is two-sided and not corrected for the number of "
                "comparisons. The best baseline is the best on these very heads, which favours it.",
                "note",
            )
        )
    points = [(_short(m), {m: (macro[m]["mrr"], _interval(ci, m, "mrr"))}) for m in ranked]
    drawn = draw.dot_plot("macro", points, methods, "MRR, mean over relations", ours, legend=False)
    return [*out, Figure("macro", drawn, "Macro MRR of each method" + (" with its 95 % interval." if ci else "."))]


def _relations(rows: Sequence[Json], methods: Sequence[str], ours: Sequence[str]) -> list[Block]:
    if not rows:
        return [Heading("Relation by relation"), Paragraph("No relation could be ranked.")]
    lead = next((m for m in ours if any(m in r["methods"] for r in rows)), methods[0])
    rows = sorted(rows, key=lambda r: (-r["methods"].get(lead, {"mrr": -1.0})["mrr"], _label(r)))
    with_ci = any(r.get("ci") for r in rows)
    points = [(_short(_label(r)), {m: (v["mrr"], _interval(r.get("ci"), m, "mrr")) for m, v in r["methods"].items()}) for r in rows]
    drawn = draw.dot_plot("relations", points, methods, "MRR", ours, legend=True)
    caption = f"MRR of each relation, sorted by {lead}" + ("; bars are 95 % intervals." if with_ci else ".")
    tables = [
        Table(
            f"{_NAMES[k]} of every relation and method.{_legend(with_ci and k in ('mrr', 'hits@10'))}",
            ["Relation", "heads", "triples", "candidates", *methods],
            [[_label(r), *(f"{r[n]:,}" for n in ("n_heads", "n_triples", "n_candidates")), *_cells(r, methods, k)] for r in rows],
            folded=k != "mrr",
            notes_in_markdown=False,
        )
        for k in ("mrr", "hits@10")
    ]
    return [Heading("Relation by relation"), Figure("relations", drawn, caption), *tables]


def _cells(row: Json, methods: Sequence[str], metric: str) -> list[Cell]:
    marked = _marked(row["methods"], row.get("ci"), metric)
    return [marked.get(m, Cell(NONE)) for m in methods]


def _marked(values: Mapping[str, Json], ci: Json | None, metric: str) -> dict[str, Cell]:
    """A cell for each method; the best is bold, and those whose interval meets the best one's are marked as tied."""
    if not values:
        return {}
    best = max(v[metric] for v in values.values())
    intervals = {m: _interval(ci, m, metric) for m in values}
    floor = min((i[0] for m, i in intervals.items() if i and values[m][metric] == best), default=None)
    out = {}
    for m, v in values.items():
        interval, top = intervals[m], v[metric] == best
        tied = not top and floor is not None and interval is not None and interval[1] >= floor
        out[m] = Cell(number(v[metric]), span(interval) if interval else "", top, tied)
    return out


def _paired(rows: Sequence[Json], ours: Sequence[str]) -> list[Block]:
    tested = [r for r in rows if r.get("against_best_baseline")]
    if not tested:
        return []
    out: list[Block] = [Heading("Against the best baseline of each relation")]
    for m in ours:
        found = [r["against_best_baseline"][m]["ci"] for r in tested if m in r["against_best_baseline"]]
        better, worse = sum(low > 0 for low, _ in found), sum(high < 0 for _, high in found)
        counts = f"better in {better}, worse in {worse}, not told apart in {len(found) - better - worse}"
        out.append(Paragraph(f"{m}: {counts} of {len(found)} relations, by the 95 % interval."))
    body: list[list[str | Cell]] = []
    for r in sorted(tested, key=_label):
        base, against = r["best_baseline"], r["against_best_baseline"]
        cells = [_difference(against[m]) if m in against else Cell(NONE) for m in ours]
        body.append([_label(r), Cell(str(base), number(r["methods"][base]["mrr"])), *cells])
    return [*out, Table("Difference in MRR, its 95 % interval and p.", ["Relation", "best baseline", *ours], body)]


def _ablation(ablation: Sequence[Json]) -> list[Block]:
    full = ablation[0]["mrr"]
    rows: list[list[str | Cell]] = []
    for k, row in enumerate(ablation):
        ci = row.get("ci")
        cell = Cell(number(row["mrr"]), span(ci) if ci else "")
        rows.append([str(row["name"]), cell, Cell(signed(row["mrr"] - full) if k else "")])
    return [Heading("Ablation"), Table("Macro MRR with one part changed at a time.", ["Variant", "MRR", "difference"], rows)]


def _left_out(report: Json) -> list[Block]:
    out: list[Block] = [Heading("What was left out")]
    missing = {m: keys for m, keys in (report.get("missing") or {}).items() if keys}
    if missing:
        rows = [[m, str(len(keys)), "; ".join(k.replace("|", " – ") for k in keys)] for m, keys in missing.items()]
        caption = "Relations that a method could not score. It has no place in the macro mean where one of them enters it."
        out.append(Table(caption, ["Method", "relations", "which"], rows))
    skipped = report.get("skipped") or {}
    if skipped:
        out.append(Table("Input that was not tested.", ["Reason", "count"], [[str(k), f"{v:,}"] for k, v in skipped.items()]))
    return out if len(out) > 1 else [*out, Paragraph("Nothing: every method scored every relation, and no input was skipped.")]


def _label(row: Json) -> str:
    return f"{row['head_type']} – {row['relation']} → {row['tail_type']}".replace("_", " ")


def _short(text: str, most: int = 58) -> str:
    text = draw.clean(text)
    return text if len(text) <= most else text[: most - 1] + "…"


def _interval(ci: Json | None, method: str, metric: str) -> tuple[float, float] | None:
    found = ((ci or {}).get(method) or {}).get(metric)
    return (float(found[0]), float(found[1])) if found else None


def _difference(tested: Json) -> Cell:
    low, high = tested["ci"]
    return Cell(signed(tested["mrr_difference"]), f"{signed(low)} to {signed(high)}, {p_value(tested['p'])}")


def _legend(ci: object) -> str:
    tied = f" {TIED} its 95 % interval meets that of the best; intervals are a bootstrap over heads." if ci else ""
    return f" Bold: the best.{tied}"
