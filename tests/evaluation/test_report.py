"""The report: what it says, that it says no more than the numbers do, and that no name of a graph can break it."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from biobridge_rag.errors import DiskFullError, InputError
from biobridge_rag.evaluation.report import LEAKY, write_report
from biobridge_rag.evaluation.report_figures import dot_plot, style
from biobridge_rag.evaluation.report_pages import Cell, Paragraph, Table, markdown, page

NASTY = "<script>alert(1)</script> | `a` *b* [c](d) $x^2$ &amp; \x00\x1b\ud800 \"'"
PLAIN = "<script>alert(1)</script> | `a` *b* [c](d) $x^2$ &amp; \"'"
HISTORY = [{"epoch": e, "loss": 3.0 / e, "validation_mrr": m} for e, m in ((1, 0.1), (2, 0.345), (3, 0.2))]
BINS = ((0.1, 0.12, 90), (None, None, 0), (0.8, 0.7, 10))
CALIBRATION = {"bins": [{"predicted": p, "observed": o, "n": n} for p, o, n in BINS], "ece": 0.0283}
ABLATION = [{"name": "full", "mrr": 0.5, "ci": [0.45, 0.55]}, {"name": "without votes", "mrr": 0.38, "ci": None}]


def metrics(mrr: float) -> dict[str, float]:
    return {"mrr": mrr, "hits@1": mrr / 2, "hits@3": mrr * 1.1, "hits@10": mrr * 1.5}


def around(mrr: float, width: float) -> dict[str, list[float]]:
    return {"mrr": [mrr - width, mrr + width], "hits@10": [mrr * 1.5 - width, mrr * 1.5 + width]}


def row(head: str, name: str, tail: str, figures: dict[str, float], difference: float) -> dict[str, Any]:
    return {
        "head_type": head, "relation": name, "tail_type": tail, "n_heads": 40, "n_triples": 1234, "n_candidates": 5531,
        "methods": {m: metrics(v) for m, v in figures.items()}, "ci": {m: around(v, 0.02) for m, v in figures.items()},
        "best_baseline": "analogues",
        "against_best_baseline": {"fused": {"mrr_difference": difference, "ci": [difference - 0.01, difference + 0.01], "p": 0.0004}},
    }  # fmt: skip


@pytest.fixture
def report() -> dict[str, Any]:
    rows = [
        row("drug", "target", "gene/protein", {"fused": 0.4, "analogues": 0.37, "popularity": 0.1}, 0.03),
        row("disease", "indication", "drug", {"fused": 0.6, "analogues": 0.605, "popularity": 0.2, "transe": 0.3}, -0.005),
    ]
    macro = {"fused": 0.5, "analogues": 0.4875, "popularity": 0.15}
    return {
        "protocol": "unseen heads; filtered", "split": "inductive", "n_unseen": 897, "relations": rows,
        "macro_over": ["drug|target|gene/protein", "disease|indication|drug"],
        "macro": {m: metrics(v) for m, v in macro.items()}, "micro": {m: metrics(v + 0.011) for m, v in macro.items()},
        "macro_ci": {m: around(v, 0.015) for m, v in macro.items()}, "macro_best_baseline": "analogues",
        "macro_against_best_baseline": {"fused": {"mrr_difference": 0.0126, "ci": [0.002, 0.023], "p": 0.018}},
        "skipped": {"edge between two unseen nodes": 312}, "leaky": False, "notes": ["Clusters at 0.3."],
        "missing": {"transe": ["drug|target|gene/protein"], "fused": []},
    }  # fmt: skip


class Reader(HTMLParser):
    """The text of a page, its tags, and whether every tag that opens is shut again in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.text = " ".join("".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data if self.open and self.open[-1] != "style" else " ")


def written(report: dict[str, Any], folder: Path, **options: Any) -> tuple[str, Reader]:
    write_report(report, folder, **options)
    reader = Reader((folder / "report.html").read_text())
    assert not reader.open
    return (folder / "report.md").read_text(), reader


def table_rows(text: str, first: str) -> list[str]:
    """The cells of the first Markdown table row that begins with `first`."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_all_files_are_written_and_none_is_left_over(report: dict[str, Any], tmp_path: Path) -> None:
    paths = write_report(report, tmp_path / "new" / "folder", history=HISTORY, calibration=CALIBRATION, ablation=ABLATION)
    names = {str(p.relative_to(tmp_path / "new" / "folder")) for p in paths}
    figures = {f"figures/{n}.svg" for n in ("macro", "relations", "learning_curve", "reliability")}
    assert names == {"report.md", "report.html", "report.json"} | figures
    assert {str(p.relative_to(tmp_path / "new" / "folder")) for p in tmp_path.rglob("*") if p.is_file()} == names
    assert json.loads((tmp_path / "new" / "folder" / "report.json").read_text()) == report
    write_report(report, tmp_path / "new" / "folder")
    assert {p.name for p in (tmp_path / "new" / "folder" / "figures").iterdir()} == {"macro.svg", "relations.svg"}


def test_the_same_report_gives_the_same_bytes(report: dict[str, Any], tmp_path: Path) -> None:
    first = [p.read_bytes() for p in write_report(report, tmp_path / "a", history=HISTORY, calibration=CALIBRATION)]
    second = [p.read_bytes() for p in write_report(copy.deepcopy(report), tmp_path / "b", history=HISTORY, calibration=CALIBRATION)]
    assert first == second


def test_the_page_needs_no_network_and_no_scripts(report: dict[str, Any], tmp_path: Path) -> None:
    _, reader = written(report, tmp_path, history=HISTORY, calibration=CALIBRATION)
    assert not {tag for tag, _ in reader.tags} & {"script", "link", "img", "iframe", "object", "image"}
    for _, attributes in reader.tags:
        assert not [n for n in attributes if n.startswith("on")]
        for name in ("href", "src", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#")
    style_text = re.search(r"<style>(.*?)</style>", (tmp_path / "report.html").read_text(), re.S)
    assert style_text and "url(" not in style_text[1] and "@import" not in style_text[1] and "prefers-color-scheme: dark" in style_text[1]
    drawn = [a for tag, a in reader.tags if tag == "svg"]
    assert len(drawn) == 4 and all(a["role"] == "img" and a["aria-label"] for a in drawn)


def test_figures_take_the_colours_of_the_page_and_have_their_own_in_files(report: dict[str, Any], tmp_path: Path) -> None:
    written(report, tmp_path)
    html, svg = (tmp_path / "report.html").read_text(), (tmp_path / "figures" / "macro.svg").read_text()
    assert "#24292f" in svg and "#fdfdfe" in svg
    assert "currentColor" in html and "#24292f" not in html and "#fdfdfe" not in html


def test_the_headline_is_the_paired_comparison(report: dict[str, Any], tmp_path: Path) -> None:
    text, reader = written(report, tmp_path)
    line = "fused reaches a macro MRR of 0.500 (95 % interval 0.485 to 0.515); the best baseline, analogues, reaches 0.487."
    assert line in text and line in reader.text
    assert "fused is better by 0.013 (0.002 to 0.023, p = 0.018)" in text


@pytest.mark.parametrize(
    ("difference", "ci", "says"),
    [
        (-0.02, [-0.03, -0.01], "fused is worse by 0.020 (0.010 to 0.030, p < 0.001)."),
        (0.004, [-0.002, 0.01], "The test does not tell them apart: difference +0.004, −0.002 to +0.010, p < 0.001."),
    ],
)
def test_a_loss_and_a_draw_are_called_so(report: dict[str, Any], tmp_path: Path, difference: float, ci: list[float], says: str) -> None:
    report["macro_against_best_baseline"]["fused"] = {"mrr_difference": difference, "ci": ci, "p": 0.00001}
    text, reader = written(report, tmp_path)
    assert says in text and says in reader.text and "is better" not in text


def test_the_best_is_bold_and_what_its_interval_meets_is_tied(report: dict[str, Any], tmp_path: Path) -> None:
    text, reader = written(report, tmp_path)
    overall = table_rows(text, "fused"), table_rows(text, "analogues"), table_rows(text, "popularity")
    assert overall[0][1] == "**0.500** (0.485 to 0.515)" and overall[1][1].startswith("0.487 ≈") and "≈" not in overall[2][1]
    assert [cells[5] for cells in overall] == ["0.511", "0.498", "0.161"]
    assert [cells[6] for cells in overall[1:]] == ["best baseline", ""] and overall[0][6].startswith("+0.01")
    first = table_rows(text, "drug – target → gene/protein")
    assert first == ["drug – target → gene/protein", "40", "1,234", "5,531", "**0.400**", "0.370 ≈", "0.100", "–"]
    second = table_rows(text, "disease – indication → drug")
    assert second[4:] == ["0.600 ≈", "**0.605**", "0.200", "0.300"]
    assert ("td", {"class": "best"}) in reader.tags and "0.380 to 0.420" in reader.text


def test_relations_are_sorted_and_the_intervals_drawn(report: dict[str, Any], tmp_path: Path) -> None:
    text, _ = written(report, tmp_path)
    assert text.index("| disease – indication → drug | 40") < text.index("| drug – target → gene/protein | 40")
    with_intervals = (tmp_path / "figures" / "relations.svg").read_text()
    for r in report["relations"]:
        del r["ci"]
    text, _ = written(report, tmp_path)
    without = (tmp_path / "figures" / "relations.svg").read_text()
    assert with_intervals.count("<path") - without.count("<path") == 7  # one bar for each method of each relation
    assert table_rows(text, "disease – indication → drug")[4:] == ["0.600", "**0.605**", "0.200", "0.300"]  # no interval, no tie


def test_relations_won_and_lost_are_counted(report: dict[str, Any], tmp_path: Path) -> None:
    text, _ = written(report, tmp_path)
    assert "fused: better in 1, worse in 0, not told apart in 1 of 2 relations" in text
    assert "| drug – target → gene/protein | analogues (0.370) | +0.030 (+0.020 to +0.040, p < 0.001) |" in text


def test_a_leaky_split_is_warned_of_first(report: dict[str, Any], tmp_path: Path) -> None:
    text, reader = written(report, tmp_path / "strict")
    assert "leaks" not in text + reader.text and not [a for _, a in reader.tags if a.get("class") == "warning"]
    text, reader = written({**report, "leaky": True}, tmp_path / "leaky")
    assert LEAKY in reader.text and ("p", {"class": "warning"}) in reader.tags
    assert text.split("\n\n")[1] == f"> **Warning: {LEAKY}**"


def test_what_is_missing_and_skipped_is_said(report: dict[str, Any], tmp_path: Path) -> None:
    text, _ = written(report, tmp_path)
    assert "| transe | 1 | drug – target – gene/protein |" in text and "| edge between two unseen nodes | 312 |" in text
    assert "- **Test nodes:** 897" in text and "- **Test triples:** 2,468" in text and "Clusters at 0.3." in text
    text, _ = written({**report, "skipped": {}, "missing": {}}, tmp_path)
    assert "Nothing: every method scored every relation" in text


def test_history_calibration_and_ablation_are_shown_where_given(report: dict[str, Any], tmp_path: Path) -> None:
    text, _ = written(report, tmp_path)
    assert not [t for t in ("Learning curve", "Calibration", "Ablation") if t in text]
    text, reader = written(report, tmp_path, history=HISTORY, calibration=CALIBRATION, ablation=ABLATION)
    assert "best: epoch 2, 0.345" in reader.text
    assert "Expected calibration error 0.028, 100 predictions." in text
    assert "| full | 0.500 (0.450 to 0.550) |  |" in text and "| without votes | 0.380 | −0.120 |" in text
    plain = [{**r, "validation_mrr": None} for r in HISTORY]
    _, reader = written(report, tmp_path, history=plain)
    assert "training loss" in reader.text and "validation MRR" not in reader.text


def test_the_title_is_the_callers(report: dict[str, Any], tmp_path: Path) -> None:
    text, reader = written(report, tmp_path, title="Trial <b>7</b>")
    assert text.startswith("# Trial &lt;b>7&lt;/b>\n") and reader.text.startswith("Trial <b>7</b> Trial <b>7</b>")


def test_a_report_of_the_plain_contract_is_enough(report: dict[str, Any], tmp_path: Path) -> None:
    keys = ("protocol", "split", "n_unseen", "relations", "macro_over", "macro", "skipped")
    plain = {k: report[k] for k in keys}
    for r in plain["relations"]:
        for k in ("ci", "best_baseline", "against_best_baseline"):
            del r[k]
    text, reader = written(plain, tmp_path)
    assert "fused reaches a macro MRR of 0.500." in text and "interval" not in reader.text and "≈" not in text
    text, _ = written({**plain, "relations": [], "macro": {}, "macro_over": []}, tmp_path)
    assert "No relation could be ranked." in text and not list((tmp_path / "figures").iterdir())


def test_names_cannot_break_the_page_the_tables_or_the_figures(report: dict[str, Any], tmp_path: Path) -> None:
    report["relations"][0]["relation"] = NASTY
    report["skipped"], report["notes"], report["missing"] = {NASTY: 1}, [NASTY], {NASTY: [NASTY]}
    report["relations"][0]["methods"][NASTY] = metrics(0.01)
    text, reader = written(report, tmp_path, title=NASTY, ablation=[{"name": NASTY, "mrr": 0.1, "ci": None}])
    assert "script" not in {tag for tag, _ in reader.tags} and reader.text.count(PLAIN) >= 8
    seen = [a["aria-label"] for tag, a in reader.tags if tag == "svg"]
    assert len(seen) == 2
    for path in (tmp_path / "figures").iterdir():
        root = ElementTree.parse(path).getroot()
        assert not root.findall(".//{*}script")
        if path.stem == "relations":
            assert any("<script>alert(1)" in "".join(t.itertext()) for t in root.iter("{http://www.w3.org/2000/svg}text"))
    rendered = Reader(MarkdownIt("commonmark", {"html": True}).enable("table").render(text))
    assert "script" not in {tag for tag, _ in rendered.tags} and not rendered.open
    assert rendered.text.count(PLAIN) >= 6
    assert not {tag for tag, _ in rendered.tags} & {"em", "code", "a"}
    widths = [
        len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("| drug – <") or "drug – &lt;" in line[:14]
    ]
    assert widths and widths[0] == 10  # four columns, five methods: ten unescaped bars


@pytest.mark.parametrize("start", ["# no heading", "- no list", "1. no list", "> no quotation", "+ no list", "=== no heading"])
def test_a_paragraph_stays_a_paragraph(start: str) -> None:
    rendered = Reader(MarkdownIt("commonmark").render(markdown("t", [Paragraph(start)])))
    assert [tag for tag, _ in rendered.tags] == ["h1", "p"] and rendered.text == f"t {start}"


def test_underscores_within_words_stay_readable_and_others_mark_nothing() -> None:
    text = markdown("t", [Paragraph("biological_process _not_ marked")])
    assert "biological_process" in text
    assert Reader(MarkdownIt("commonmark").render(text)).text == "t biological_process _not_ marked"


def test_a_folded_table_and_notes_left_out_of_markdown() -> None:
    rows = [["a", Cell("0.1", note="small")]]
    open_table, folded = Table("c", ["x", "y"], rows), Table("c", ["x", "y"], rows, folded=True, notes_in_markdown=False)
    assert "<details>" in page("t", [folded]) and "<details>" not in page("t", [open_table])
    assert "(small)" in markdown("t", [open_table]) and "small" not in markdown("t", [folded]) and "small" in page("t", [folded])


def test_a_method_looks_the_same_in_every_figure_and_no_two_alike() -> None:
    assert len({style(k) for k in range(49)}) == 49
    methods = ["a", "b", "c"]
    alone = dot_plot("x", [("row", {"c": (0.3, None)})], methods, "MRR", [], legend=False)
    assert style(2)[0] in alone and style(0)[0] not in alone and style(1)[0] not in alone
    hollow, filled = (dot_plot("x", [("row", {"c": (0.3, None)})], methods, "MRR", ours, legend=False) for ours in ([], ["c"]))
    assert hollow != filled


@pytest.mark.parametrize("key", ["relations", "macro", "split", "n_unseen", "macro_over"])
def test_a_report_that_lacks_a_key_is_one_clear_line(report: dict[str, Any], tmp_path: Path, key: str) -> None:
    del report[key]
    with pytest.raises(InputError, match=f"no report of evaluate retrieval: it lacks '{key}'"):
        write_report(report, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_figure_that_is_no_number_is_refused(report: dict[str, Any], tmp_path: Path) -> None:
    report["macro"]["fused"]["mrr"] = float("nan")
    with pytest.raises(InputError, match="no report of evaluate retrieval"):
        write_report(report, tmp_path)


def test_a_file_in_the_way_is_one_clear_line(report: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="that is a file"):
            write_report(report, place)
    (tmp_path / "out" / "report.md").mkdir(parents=True)
    with pytest.raises((InputError, DiskFullError), match="report"):
        write_report(report, tmp_path / "out")


def test_importing_the_report_does_not_load_matplotlib() -> None:
    code = "import sys, biobridge_rag.evaluation.report; print('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
