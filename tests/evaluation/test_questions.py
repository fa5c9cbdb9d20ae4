"""Reading questions: every form gives the same, and whatever is broken is left out by its line while the rest is kept."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biobridge_rag.errors import FileError, InputError
from biobridge_rag.evaluation import question_formats
from biobridge_rag.evaluation.question_formats import as_list
from biobridge_rag.evaluation.questions import MAX_QUESTION, Question, read_questions, sha256_of

OPEN = {"id": "o", "kind": "open", "question": "Which gene?", "answers": ["EGFR", "ERBB1"], "answerable": True, "source": "s"}
CHOICE = {
    "id": "c",
    "kind": "choice",
    "question": "Which?",
    "options": ["A1", "B1", "A1"],
    "answers": ["B1"],
    "answerable": False,
    "source": "",
}
TRUE = {"id": "t", "kind": "true_false", "question": "X is Y", "options": ["True", "False"], "answers": ["True"], "answerable": True}
ROWS: list[dict[str, Any]] = [OPEN, CHOICE, TRUE]


def lines(*rows: object) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def of(folder: Path, text: str | bytes, name: str = "q.jsonl") -> Any:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_questions(path)


def table(delimiter: str, lists: Any) -> str:
    import io

    out = io.StringIO()
    columns = ["id", "kind", "question", "options", "answers", "answerable", "source"]
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerow(columns)
    for row in ROWS:
        writer.writerow([lists(v) if isinstance(v := row.get(c, ""), list) else v for c in columns])
    return out.getvalue()


def test_json_lines_as_they_are(tmp_path: Path) -> None:
    found = of(tmp_path, lines(*ROWS))
    assert not found.problems and found.n_unscored == 0
    assert found.questions[0] == Question("o", "open", "Which gene?", ("EGFR", "ERBB1"), (), True, "s")
    assert found.questions[1].options == ("A1", "B1", "A1") and found.questions[1].answerable is False
    assert [q.kind for q in found.questions] == ["open", "choice", "true_false"] and [q.line for q in found.questions] == [1, 2, 3]


@pytest.mark.parametrize("delimiter, name", [(",", "q.csv"), ("\t", "q.tsv"), ("\t", "q.txt"), (",", "q.txt")])
@pytest.mark.parametrize("lists", [json.dumps, "|".join], ids=["json", "bars"])
def test_tables_hold_the_same_as_json_lines(tmp_path: Path, delimiter: str, name: str, lists: Any) -> None:
    wanted = of(tmp_path, lines(*ROWS))
    found = of(tmp_path, table(delimiter, lists), name)
    assert found.questions == wanted.questions and found.sha256 == wanted.sha256 and not found.problems


def test_a_json_list_bom_crlf_gz_and_no_newline_at_the_end_change_nothing(tmp_path: Path) -> None:
    wanted = of(tmp_path, lines(*ROWS)).questions
    assert of(tmp_path, json.dumps(ROWS), "q.json").questions == wanted
    assert of(tmp_path, b"\xef\xbb\xbf" + lines(*ROWS).replace("\n", "\r\n").encode()).questions == wanted
    assert of(tmp_path, gzip.compress(lines(*ROWS).encode()), "q.jsonl.gz").questions == wanted
    assert of(tmp_path, gzip.compress(table(",", json.dumps).encode()), "q.csv.gz").questions == wanted
    assert of(tmp_path, "\ufeff" + table(",", json.dumps).rstrip(), "q.csv").questions == wanted
    assert of(tmp_path, lines(*ROWS).rstrip()).questions == wanted


@pytest.mark.parametrize("header", ["Question,Answer", "question,ANSWERS", " question , answer "])
def test_a_plain_table_of_questions_and_answers(tmp_path: Path, header: str) -> None:
    found = of(tmp_path, f'{header}\nWhat inhibits ABL1?,imatinib|dasatinib\n"Is it, ""so""?",Yes\n', "plain.csv")
    assert [(q.kind, q.question, q.answers, q.options) for q in found.questions] == [
        ("open", "What inhibits ABL1?", ("imatinib", "dasatinib"), ()),
        ("true_false", 'Is it, "so"?', ("Yes",), ("Yes", "No")),
    ]
    assert all(q.id.startswith("q-") and q.answerable is None for q in found.questions)


def test_made_ids_are_stable_and_tell_questions_apart(tmp_path: Path) -> None:
    row = {"question": "Which drugs bind this protein?", "answers": ["x"]}
    first = of(tmp_path, lines(row, row | {"sequence": "MKV"}, row | {"sequence": "MKL"}))
    assert len({q.id for q in first.questions}) == 3 and not first.problems
    assert [q.id for q in first.questions] == [
        q.id for q in of(tmp_path, lines(row, row | {"sequence": "MKV"}, row | {"sequence": "MKL"})).questions
    ]
    again = of(tmp_path, lines(row, row))
    assert len(again.questions) == 1 and again.problems[0][0] == 2


def test_pubmedqa_as_its_authors_publish_it(tmp_path: Path) -> None:
    data = {
        "21645374": {
            "QUESTION": "Do mitochondria play a role?", "CONTEXTS": ["First part.", "Second part."], "LABELS": ["BACKGROUND", "RESULTS"],
            "MESHES": ["Mitochondria"], "YEAR": "2011", "reasoning_required_pred": "yes", "reasoning_free_pred": "yes",
            "final_decision": "yes", "LONG_ANSWER": "Results depicted it.",
        },
        "1": {"QUESTION": "Unlabelled?", "CONTEXTS": [], "LABELS": [], "LONG_ANSWER": "."},
        "2": {"QUESTION": "Broken?", "CONTEXTS": [{"a": 1}], "final_decision": "no"},
    }  # fmt: skip
    found = of(tmp_path, json.dumps(data, indent=4), "ori_pqal.json")
    assert found.questions[0] == Question(
        "21645374", "choice", "Do mitochondria play a role?", ("yes",), ("yes", "no", "maybe"), None, "PubMedQA 21645374",
        passages=("BACKGROUND: First part.", "RESULTS: Second part."),
    )  # fmt: skip
    assert found.questions[1].answers == () and found.n_unscored == 1
    assert found.problems == ((3, "a field that is not a list of texts (CONTEXTS or LABELS)"),)
    assert of(tmp_path, json.dumps(data), "ori_pqal.json").questions == found.questions


def test_sequences_and_molecules_come_along_whole(tmp_path: Path) -> None:
    fasta, smiles = ">sp|P1| a|b\nMKV\nLLA", "[Na+].C(=O)[O-]"
    found = of(tmp_path, lines(OPEN | {"sequence": "MKV"}, OPEN | {"id": "2", "fasta": fasta, "smiles": smiles}))
    assert found.questions[0].sequences == ("MKV",)
    assert found.questions[1].sequences == (fasta,) and found.questions[1].smiles == (smiles,)
    assert of(tmp_path, f"question,answer,smiles\nWhat?,x,{smiles}\n", "q.csv").questions[0].smiles == (smiles,)


@pytest.mark.parametrize(
    "row, reason",
    [
        ("{broken", "not JSON"),
        ("[1, 2]", "not a JSON object"),
        ("[" * 100_000, "not JSON"),
        ({"question": "  ", "answers": ["x"]}, "an empty question"),
        ({"answers": ["x"]}, "an empty question"),
        ({"question": ["a"], "answers": ["x"]}, "a field that is no text (question)"),
        ({"question": "q" * (MAX_QUESTION + 1), "answers": ["x"]}, "a question of more than 1,000,000 characters"),
        (OPEN | {"id": "x", "kind": "essay"}, "a kind that is none of open, choice, true_false (essay)"),
        (CHOICE | {"id": "x", "options": ["A1"]}, "a choice with fewer than two options"),
        (CHOICE | {"id": "x", "answers": ["Z9"]}, "a choice whose answer is none of its options"),
        (TRUE | {"id": "x", "answers": ["perhaps"]}, "an answer that is neither true nor false"),
        (OPEN | {"id": "x", "answerable": "perhaps"}, "an answerable that is neither true nor false (perhaps)"),
        (OPEN | {"id": "x", "answers": {"a": 1}}, "a field that is neither text nor a list of texts (answers)"),
        (OPEN | {"id": "x", "answers": [["a"]]}, "a field that is not a list of texts (answers)"),
        (OPEN | {"id": "x" * 201}, "an id of more than 200 characters"),
        (OPEN | {"id": "x", "question": "\ud800?"}, "a field that is not UTF-8 (question)"),
        (OPEN, "an id that was there before (o, line 1)"),
    ],
)
def test_what_is_broken_is_left_out_by_its_line_and_the_rest_is_kept(tmp_path: Path, row: Any, reason: str) -> None:
    found = of(tmp_path, lines(OPEN, "", row, CHOICE))
    assert found.problems == ((3, reason),)
    assert [q.id for q in found.questions] == ["o", "c"]
    assert found.left_out == {reason.partition(" (")[0]: 1}


def test_bytes_that_are_not_utf8_cost_only_their_line(tmp_path: Path) -> None:
    latin = lines(OPEN | {"id": "x"}).encode().replace(b"gene", b"g\xe8ne")
    found = of(tmp_path, lines(OPEN).encode() + latin + lines(CHOICE).encode())
    assert found.problems == ((2, "a field that is not UTF-8 (question)"),) and len(found.questions) == 2


def test_broken_rows_of_a_table(tmp_path: Path) -> None:
    text = 'question,answer\nA?,x\n"never closed,y\nB?,x\nC?,x,surplus\nD?\n\n"good, one?",x\n"a"b,c\nE?,x\n"and again\nF?,x\n'
    found = of(tmp_path, text, "q.csv")
    assert [q.question for q in found.questions] == ["A?", "B?", "D?", "good, one?", "E?", "F?"]
    assert [line for line, _ in found.problems] == [3, 5, 9, 11] and found.n_unscored == 1
    assert found.problems[1][1] == "3 columns, not 2" and all("not CSV" in found.problems[i][1] for i in (0, 2, 3))


def test_a_question_of_100_kb_is_kept_whole(tmp_path: Path) -> None:
    long = "Why? " * 20_000
    assert of(tmp_path, lines(OPEN | {"question": long})).questions[0].question == long.strip()
    before = csv.field_size_limit()
    assert of(tmp_path, f"question,answer\n{long * 2},x\n", "q.csv").questions[0].question == (long * 2).strip()
    assert csv.field_size_limit() == before


def test_kinds_that_are_not_given_are_inferred(tmp_path: Path) -> None:
    rows = [
        {"question": "a", "answers": "EGFR"},
        {"question": "b", "answers": "x", "options": ["x", "y"]},
        {"question": "c", "answers": "false", "options": ["True", "False"]},
        {"question": "d", "answers": True},
        {"question": "e", "answers": "no", "options": ["yes", "no", "maybe"]},
        {"question": "f", "answers": "x", "kind": "Open"},
        {"question": "g", "answers": "true", "kind": "true/false"},
    ]
    found = of(tmp_path, lines(*rows)).questions
    assert [q.kind for q in found] == ["open", "choice", "true_false", "true_false", "choice", "open", "true_false"]
    assert found[3].answers == ("True",) and found[3].options == ("True", "False")


def test_a_letter_stands_for_its_option_unless_it_is_one(tmp_path: Path) -> None:
    rows = [
        {"question": "1", "answers": "B", "options": ["x", "y"]},
        {"question": "2", "answers": "(a)", "options": ["x", "y"]},
        {"question": "3", "answers": "B", "options": ["A", "B"]},
        {"question": "4", "answers": "b", "options": ["C", "A", "B"]},
    ]
    assert [q.answers for q in of(tmp_path, lines(*rows)).questions] == [("y",), ("x",), ("B",), ("b",)]
    assert of(tmp_path, lines(OPEN, {"question": "5", "answers": "Z", "options": ["x", "y"]})).problems[0][0] == 2


@pytest.mark.parametrize(
    "name, text, error, said",
    [
        ("q.jsonl", b"", InputError, "is empty"),
        ("q.csv", b" \n \n", InputError, "is empty"),
        ("q.csv", b"query text,reply\nA?,x\n", InputError, "no column question; it has: query_text, reply"),
        ("q.csv", b"question,answer,question\nA?,x,y\n", InputError, "names a column twice"),
        ("q.csv", b"question,source\nA?,x\n", InputError, "No question of"),
        ("q.jsonl", lines({"question": "A?"}).encode(), InputError, "has an answer"),
        ("q.jsonl", b"nothing here\n", InputError, "holds no question that can be asked. Line 1: not JSON."),
        ("q.jsonl", lines(OPEN).encode("utf-16"), FileError, "not UTF-8"),
        ("q.csv.gz", b"\x1f\x8bnot really", FileError, "cannot be read"),
        ("q.csv.gz", gzip.compress(b"question,answer\n" * 9)[:-12], FileError, "cannot be read"),
    ],
)
def test_files_that_cannot_be_used_say_so_in_one_line(tmp_path: Path, name: str, text: bytes, error: type[Exception], said: str) -> None:
    with pytest.raises(error) as raised:
        of(tmp_path, text, name)
    assert said in str(raised.value) and "\n" not in str(raised.value)


def test_no_file_a_folder_and_a_gz_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(FileError, match="cannot be read"):
            read_questions(path)
    monkeypatch.setattr(question_formats, "MAX_FILE", 1000)
    with pytest.raises(FileError, match="too large"):
        of(tmp_path, gzip.compress(b"x" * 100_000), "bomb.jsonl.gz")


def test_the_hash_is_of_what_is_asked_and_not_of_where_it_stands(tmp_path: Path) -> None:
    one = of(tmp_path, lines(OPEN, CHOICE))
    assert one.sha256 == of(tmp_path, lines("", OPEN, "{", CHOICE)).sha256
    assert one.sha256 != of(tmp_path, lines(CHOICE, OPEN)).sha256
    for change in ({"answers": ["EGFR"]}, {"question": "Which Gene?"}, {"answerable": False}, {"sequence": "M"}):
        assert of(tmp_path, lines(OPEN | change, CHOICE)).sha256 != one.sha256
    assert sha256_of(()) != one.sha256


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1).map(str.strip).filter(bool), min_size=1, max_size=5))
def test_a_json_list_in_a_cell_survives_whatever_its_texts_hold(texts: list[str]) -> None:
    assert as_list(json.dumps(texts)) == texts


@given(st.binary(max_size=300), st.sampled_from(["q.jsonl", "q.csv", "q.tsv", "q.json", "q"]))
def test_no_bytes_bring_it_down(tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str) -> None:
    path = tmp_path_factory.getbasetemp() / f"fuzz-{name}"
    for content in (data, b"question,answer\n" + data, lines(OPEN).encode() + data):
        path.write_bytes(content)
        try:
            found = read_questions(path)
        except (InputError, FileError):
            continue
        assert found.questions and all(q.question and q.id for q in found.questions)
