"""The figures of a retrieval report, as SVG text that is the same for the same numbers.

Knows: matplotlib (imported when a figure is drawn), numbers and labels. Does not know: files, pages, how anything was measured.

Text stays text, so that it can be searched and read aloud; labels are never read as formulas. Ink, grid and paper have one colour
each, which `inline` turns into those of the page that holds the figure, light or dark.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from biobridge_rag.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GRID, PAPER = "#24292f", "#d8dee4", "#fdfdfe"
COLOURS = ("#1f77b4", "#d55e00", "#109b6f", "#a8699b", "#b58900", "#4aa3d8", "#7f7f7f")  # markers differ too: colour alone tells nothing
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
_WIDE, _NARROW = 8.6, 5.6  # inches
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "axes.facecolor": PAPER,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "legend.frameon": False,
}
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

Point = tuple[float, tuple[float, float] | None]  # a value and its interval


def clean(text: object) -> str:
    """The text on one line, without characters that no page or drawing may hold."""
    return " ".join(_CONTROL.sub("", str(text)).split())


def dot_plot(
    name: str, rows: Sequence[tuple[str, Mapping[str, Point]]], methods: Sequence[str], axis: str, ours: Sequence[str], *, legend: bool
) -> str:
    """One line a row, from the top; one dot a method with its interval as a bar. `ours` are filled, the others hollow.

    methods: all of the report, in one order, for a method's place in it gives its colour and marker in every figure. Without a
    `legend` the rows' labels must say which method they hold.
    """
    with _matplotlib(name) as new:
        shown = [m for m in methods if any(m in row for _, row in rows)]
        step = max(0.3, 0.08 * len(shown) + 0.12) if legend else 0.26
        columns = 5
        above = 0.26 * math.ceil(len(shown) / columns) if legend else 0.0
        figure = new(figsize=(_WIDE if legend else _NARROW, step * len(rows) + above + 0.75), layout="constrained")
        axes = figure.subplots()
        for k, method in enumerate(shown):
            offset = ((k + 0.5) / len(shown) - 0.5) * 0.76 if legend else 0.0
            at = [(i + offset, row[method]) for i, (_, row) in enumerate(rows) if method in row]
            colour, marker = style(methods.index(method))
            for y, (_, interval) in at:
                if interval is not None:
                    axes.plot(interval, (y, y), color=colour, linewidth=1.4, alpha=0.75, solid_capstyle="butt")
            face = colour if method in ours else PAPER
            x, y_all = [p[0] for _, p in at], [y for y, _ in at]
            axes.plot(x, y_all, marker, color=colour, markerfacecolor=face, markersize=5, label=clean(method))
        for i in range(len(rows) - 1 if legend else 0):
            axes.axhline(i + 0.5, color=GRID, linewidth=0.8)
        axes.set_yticks(range(len(rows)), [clean(label) for label, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(left=0.0)
        axes.grid(axis="y", visible=not legend)
        axes.set_xlabel(axis)
        if legend:
            keys = axes.get_legend_handles_labels()
            figure.legend(*keys, loc="outside upper left", ncols=columns, columnspacing=1.4, handletextpad=0.3)
        return _svg(figure)


def style(k: int) -> tuple[str, str]:
    """Colour and marker of the k-th method; no two of the first 49 have both in common."""
    return COLOURS[k % len(COLOURS)], MARKERS[(k + k // len(COLOURS)) % len(MARKERS)]


def learning_curve(name: str, history: Sequence[Mapping[str, Any]]) -> str:
    """Loss, and below it the validation MRR with its best epoch, over the epochs."""
    with _matplotlib(name) as new:
        validated = [(r["epoch"], r["validation_mrr"]) for r in history if r.get("validation_mrr") is not None]
        figure = new(figsize=(_NARROW, 4.4 if validated else 2.6), layout="constrained")
        panels = figure.subplots(2 if validated else 1, 1, sharex=True, squeeze=False)[:, 0]
        panels[0].plot([r["epoch"] for r in history], [r["loss"] for r in history], ".-", color=COLOURS[0])
        panels[0].set_ylabel("training loss")
        if validated:
            epoch, best = max(validated, key=lambda r: (r[1], -r[0]))
            panels[1].plot(*zip(*validated, strict=True), ".-", color=COLOURS[1])
            panels[1].plot([epoch], [best], "o", markersize=9, markerfacecolor="none", color=COLOURS[1])
            panels[1].annotate(f"best: epoch {epoch}, {best:.3f}", (epoch, best), (0, -16), textcoords="offset points", ha="center")
            panels[1].margins(y=0.25)
            panels[1].set_ylabel("validation MRR")
        _whole_numbers(panels[-1])
        panels[-1].set_xlabel("epoch")
        return _svg(figure)


def _whole_numbers(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def reliability(name: str, bins: Sequence[Mapping[str, Any]]) -> str:
    """Observed share against predicted probability, one dot a bin, its area as the number of predictions; empty bins left out."""
    with _matplotlib(name) as new:
        used = [b for b in bins if b["n"] > 0]
        figure = new(figsize=(4.8, 4.4), layout="constrained")
        axes = figure.subplots()
        top = max([0.05, *(max(b["predicted"], b["observed"]) for b in used)]) * 1.08
        axes.plot((0, top), (0, top), color=INK, linewidth=1, linestyle=(0, (4, 3)), label="perfect calibration")
        most = max((b["n"] for b in used), default=1)
        x, y = [b["predicted"] for b in used], [b["observed"] for b in used]
        axes.plot(x, y, color=COLOURS[0], linewidth=1)
        axes.scatter(x, y, [14 + 160 * b["n"] / most for b in used], color=COLOURS[0], alpha=0.85, label="predictions, area by number")
        axes.set(xlim=(0, top), ylim=(0, top), aspect="equal", xlabel="predicted probability", ylabel="observed share that is true")
        axes.legend(loc="upper left", markerscale=0.6)
        return _svg(figure)


@contextmanager
def _matplotlib(name: str) -> Any:
    """matplotlib's Figure class, with the report's settings and neither display nor state of pyplot."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("A report with figures needs the package matplotlib.", "Install it: pip install matplotlib.") from error
    with rc_context({**_SETTINGS, "svg.hashsalt": name}):
        new: Callable[..., Figure] = Figure
        yield new


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()


def inline(svg: str) -> str:
    """The figure as a part of an HTML page: without prologue and fixed size, its ink, grid and paper those of the page."""
    body = svg[svg.index("<svg") :]
    found = re.search(r'<svg[^>]*?\bwidth="([\d.]+)pt"', body)
    width = float(found[1]) * 4 / 3 if found else 800.0
    body = re.sub(r'(<svg[^>]*?) height="[\d.]+pt"', r"\1", body, count=1)
    body = re.sub(r'(<svg[^>]*?) width="[\d.]+pt"', rf'\1 style="--width:{width:.0f}px"', body, count=1)
    return body.replace(INK, "currentColor").replace(GRID, "var(--line)").replace(PAPER, "var(--paper)")
