"""The main job in a real browser against the real application: a kinase as FASTA, its inhibitors, evidence, a follow-up, files."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from biobridge_rag.graph.starter import load_starter
from biobridge_rag.types import KnowledgeGraph, NodeType

pytestmark = pytest.mark.browser

KINASE = "P00533"
EVIL = "<img src=x onerror=alert(1)><script>alert(2)</script>"


@pytest.fixture(scope="module")
def starter() -> KnowledgeGraph:
    return load_starter()


def sequence_of(graph: KnowledgeGraph, accession: str) -> str:
    position = graph.position(NodeType.PROTEIN, accession)
    assert position is not None
    return graph.nodes[position].values[0]


def drugs_on(graph: KnowledgeGraph, accession: str) -> set[str]:
    position = graph.position(NodeType.PROTEIN, accession)
    assert position is not None
    return {t.tail.name for t in graph.triples_of(position) if t.relation.name == "target" and t.tail.type is NodeType.DRUG}


def upload(page: Any, path: Path) -> None:
    page.locator("#chat-input input[type=file]").set_input_files(str(path))
    page.wait_for_selector("#chat-input .thumbnail-item")


def send(page: Any, text: str = "") -> None:
    """Sends the message and waits for its answer to be complete."""
    answers = page.locator("#chat .answer").count()
    if text:
        page.fill("#chat-input textarea", text)
    page.locator("#chat-input button.submit-button").click()
    page.wait_for_function(
        "n => { const all = document.querySelectorAll('#chat .answer');"
        " return all.length > n && !document.querySelector('#chat .working') && all[all.length - 1].innerText.trim(); }",
        arg=answers,
    )
    page.wait_for_selector("#chat-input button.submit-button")


def fasta(directory: Path, header: str, sequence: str, name: str = "kinase.fasta") -> Path:
    path = directory / name
    path.write_text(f">{header}\n{sequence}\n")
    return path


def test_a_kinase_gives_its_inhibitors_their_evidence_a_follow_up_and_files(page: Any, starter: KnowledgeGraph, tmp_path: Path) -> None:
    known = drugs_on(starter, KINASE)
    upload(page, fasta(tmp_path, "my kinase", sequence_of(starter, KINASE)))
    send(page, "Which drugs act on this protein?")

    rows = page.locator("#candidates tbody tr")
    assert rows.count() == 20
    names = [rows.nth(i).locator("label").inner_text() for i in range(5)]
    assert len(set(names) & known) >= 3, (names, known)
    for i, name in enumerate(names):
        assert (rows.nth(i).get_attribute("data-known") == "true") == (name in known)
    drawn = page.evaluate("[...document.querySelectorAll('#candidates img')].filter(i => i.complete && i.naturalWidth > 0).length")
    assert drawn == 20

    rows.nth(2).click()
    page.wait_for_selector("#evidence article[data-rank='3']")
    evidence = page.locator("#evidence").inner_text()
    assert names[2] in evidence and "g/mol" in evidence
    assert page.locator("#evidence section[data-kind='edge'] .source").count() >= 1
    assert page.locator("#candidates input:checked").get_attribute("value") == "3"
    page.keyboard.press("ArrowDown")
    page.wait_for_selector("#evidence article[data-rank='4']")

    cited = page.locator("#chat a.cite")
    assert cited.count() >= 3
    for i in range(cited.count()):
        link = cited.nth(i)
        assert link.get_attribute("href").startswith("https://") and link.get_attribute("target") == "_blank"
        assert "noopener" in link.get_attribute("rel")

    with page.expect_download() as waiting:
        page.click("#download-csv")
    table = list(csv.DictReader(io.StringIO(Path(waiting.value.path()).read_text(encoding="utf-8-sig"))))
    assert waiting.value.suggested_filename.endswith(".csv")
    assert [row["rank"] for row in table] == [str(i) for i in range(1, 21)]
    assert [row["name"] for row in table[:5]] == names
    assert {row["name"] for row in table if row["known"] == "yes"} <= known
    assert all(row["smiles"] and row["evidence"] and 0 <= float(row["probability"]) <= 1 for row in table)
    with page.expect_download() as waiting:
        page.click("#download-sdf")
    assert Path(waiting.value.path()).read_text().count("$$$$") == 20

    send(page, "And which diseases is it associated with?")
    assert page.locator("#chat .answer").count() == 2
    assert "lung" in page.locator("#chat .answer").last.inner_text().lower()
    assert "Diseases" in page.locator("#candidates h2").inner_text()
    assert page.locator("#candidates img").count() == 0 and page.locator("#download-sdf").count() == 0
    assert page.faults == []


def test_the_page_asks_this_machine_alone(page: Any, app_url: str) -> None:
    send(page, "What is imatinib known to act on?")
    hosts = {urlsplit(url).hostname for url in page.requested if urlsplit(url).scheme not in ("data", "blob")}
    assert hosts == {"127.0.0.1"}
    assert "Nothing leaves this machine" in page.locator("#status").inner_text()


def test_markup_in_a_fasta_header_is_shown_as_text(page: Any, starter: KnowledgeGraph, tmp_path: Path) -> None:
    sequence = sequence_of(starter, KINASE)
    changed = sequence[:700] + "A" + sequence[701:]
    upload(page, fasta(tmp_path, f"{EVIL} ${{alert(3)}} {{{{7*7}}}} ![x](https://example.org/x.png)", changed))
    send(page, f"Which drugs act on this? {EVIL}")
    page.wait_for_selector("#candidates tbody tr")
    assert EVIL in page.locator("#chat .user").first.inner_text()
    assert "<img src=x" in page.locator("#candidates h2").inner_text()
    injected = (
        "#chat img[src='x'], #candidates img[src='x'], #evidence img[src='x'], #chat script, #candidates script, #chat img[src^='http']"
    )
    assert page.locator(injected).count() == 0
    assert page.faults == []
    assert not any("example.org" in url for url in page.requested)


def test_a_relation_and_a_length_can_be_chosen(page: Any) -> None:
    send(page, "EGFR")
    page.click("#select-relation input")
    page.get_by_role("option", name="Diseases linked to it").click()
    page.wait_for_selector("#candidates h2:has-text('Diseases linked to EGFR')")
    page.click("#select-top input")
    page.get_by_role("option", name="Top 10").click()
    page.wait_for_function("document.querySelectorAll('#candidates tbody tr').length === 10")
    assert page.locator("#candidates th", has_text="Structure").count() == 0


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.fasta", b"", "empty"),
        ("binary.fasta", bytes(range(256)) * 20, "binary"),
        ("dna.fasta", b">gene\n" + b"ACGT" * 60 + b"\n", "DNA"),
        ("big.fasta", b">big\n" + b"A" * 6_000_000 + b"\n", "MB"),
    ],
)
def test_a_bad_file_is_one_plain_line_and_the_page_goes_on(page: Any, tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    upload(page, path)
    send(page)
    error = page.locator("#chat .error")
    assert error.count() == 1
    assert said in error.inner_text() and "Traceback" not in error.inner_text()
    send(page, "What is imatinib known to act on?")
    assert page.locator("#candidates tbody tr").count() > 0


def test_a_pasted_smiles_is_recognised(page: Any) -> None:
    send(page, "CC(=O)Oc1ccccc1C(=O)O")
    assert "aspirin" in page.locator("#candidates h2").inner_text()


def test_a_narrow_screen_stacks_without_sideways_scrolling(page: Any) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    send(page, "EGFR")
    wide = page.evaluate(
        "[...document.querySelectorAll('body *')].filter(e => { const b = e.getBoundingClientRect();"
        " return b.height > 2 && b.right > innerWidth + 1; }).map(e => e.id || e.className)"
    )
    assert wide == []
    left, right = page.locator("#conversation").bounding_box(), page.locator("#results").bounding_box()
    assert right["y"] >= left["y"] + left["height"] and right["width"] <= 400


def test_an_exported_conversation_is_asked_again_to_the_same_answers(
    page: Any, starter: KnowledgeGraph, tmp_path: Path, home: Path, temporary: Path
) -> None:
    upload(page, fasta(tmp_path, f"mine {EVIL}", sequence_of(starter, KINASE)[:900]))
    send(page, "Which drugs act on this protein?")
    send(page, "the second one")
    assert "900 residues" in page.locator("#chat .user").first.inner_text()
    assert "unpublished sequences" in page.locator("#export-warning").inner_text()
    with page.expect_download() as waiting:
        page.click("#export")
    file = tmp_path / "talk.json"
    waiting.value.save_as(file)
    assert waiting.value.suggested_filename.startswith("conversation-") and waiting.value.suggested_filename.endswith(".json")
    turns = json.loads(file.read_text())["turns"]
    assert [t["question"] for t in turns] == ["Which drugs act on this protein?", "the second one"] and len(
        turns[0]["queries"][0]["value"]
    ) == 900
    command = [sys.executable, "-m", "biobridge_rag.cli", "replay", str(file), "--home", str(home)]
    replayed = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).resolve().parents[2], timeout=300)
    assert (replayed.returncode, replayed.stdout) == (0, "2 turns asked again: the same.\n"), replayed.stderr
    assert [p for p in temporary.rglob("*.fasta") if p.is_file()] == []
    assert page.faults == []


def test_another_tab_sees_nothing_of_this_one(page: Any, browser: Any, app_url: str) -> None:
    send(page, "What is imatinib known to act on?")
    context = browser.new_context()
    other = context.new_page()
    other.goto(app_url)
    other.wait_for_selector("#chat-input textarea")
    assert "imatinib known" not in other.locator("#chat").inner_text()
    send(other, "and its side effects?")
    assert "holds no node that this question names" in other.locator("#chat .answer").last.inner_text()
    context.close()
    send(page, "and its side effects?")
    assert "Of imatinib" in page.locator("#chat .abstained").inner_text()


def test_a_new_conversation_exports_nothing_of_the_old_one(page: Any) -> None:
    send(page, "EGFR")
    page.click("#new-conversation")
    page.wait_for_selector("#after", state="hidden")
    assert page.locator("#chat .answer").count() == 0
    send(page, "What is aspirin?")
    with page.expect_download() as waiting:
        page.click("#export")
    assert "EGFR" not in [t["question"] for t in json.loads(Path(waiting.value.path()).read_text())["turns"]]
    page.wait_for_function("document.querySelector('#bundle textarea').value === ''")


def test_a_phone_shows_all_of_the_foot_of_the_conversation(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    send(page, "What are the side effects of imatinib?")
    assert "Not answered from the evidence" in page.locator("#chat .abstained").inner_text()
    for mark in ("#export", "#new-conversation", "#export-warning .hint", "#chat .abstained"):
        box = page.locator(mark).bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= 390, mark
