"""The commands as scripts use them: the JSON of each, exit codes, and that every option changes the result."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biobridge_rag.encoders import make_encoder
from biobridge_rag.types import Modality

from .conftest import Result, call, protein, smiles, write_graph

Cli = Callable[..., Result]
NEW = protein(3)[:60] + protein(4)[60:]
RETRIEVAL = {"query", "relation", "tail_type", "notes", "likeness_percentile", "out_of_distribution", "hits"}
HIT = {"rank", "id", "name", "type", "score", "probability", "known", "smiles", "url", "parts", "evidence"}


@pytest.fixture
def ask_for(cli: Cli, tiny_home: Path) -> Callable[..., Any]:
    """The parsed answer of `candidates` on the tiny home."""

    def run(*arguments: object) -> Any:
        result = cli("candidates", "--home", tiny_home, "--json", *arguments)
        assert result.code == 0, result
        return result.json

    return run


def ids(answer: Any) -> list[str]:
    return [hit["id"] for hit in answer["hits"]]


def test_candidates_of_the_starter_graph_on_its_first_use(starter_home: Path) -> None:
    """A home that is not there yet: it is built on the way, with all that is said on stderr, and stdout is one document."""
    answer = json.loads((starter_home.parent / "first.json").read_text())
    assert set(answer) == RETRIEVAL
    assert answer["query"] == {
        "type": "gene/protein",
        "name": "ABL1",
        "node_id": "P00519",
        "in_graph": True,
        "note": answer["query"]["note"],
    }
    assert (answer["relation"], answer["tail_type"], len(answer["hits"])) == ("target", "drug", 5)
    for rank, hit in enumerate(answer["hits"], start=1):
        assert set(hit) == HIT and hit["rank"] == rank and hit["type"] == "drug" and hit["smiles"] and hit["url"].startswith("https://")
        assert 0 <= hit["probability"] <= 1 and hit["evidence"]
        assert all(set(e) == {"kind", "text", "score", "node_id", "source"} and 0 <= e["score"] <= 1 for e in hit["evidence"])
    assert "imatinib" in {hit["name"] for hit in answer["hits"]} and answer["hits"][0]["known"]
    assert "indexing drug.bridge" in (starter_home.parent / "first.err").read_text()


def test_a_known_kinase_given_as_a_file_finds_its_inhibitors(cli: Cli, starter_home: Path) -> None:
    example = Path(__file__).parents[2] / "biobridge_rag" / "ui" / "examples" / "abl1_human.fasta"
    answer = cli("candidates", "--home", starter_home, "--fasta", example, "--json").json
    assert answer["query"]["node_id"] == "P00519"
    assert {"imatinib", "dasatinib"} & {hit["name"] for hit in answer["hits"][:5]}


def test_ask_answers_with_citations(cli: Cli, starter_home: Path) -> None:
    result = cli("ask", "Which drugs inhibit ABL1?", "--home", starter_home, "--json")
    answer = result.json
    assert result.code == 0
    assert set(answer) >= {"question", "text", "abstained", "citations", "unsupported", "retrieved", "model", "prompt_sha256"}
    assert answer["question"] == "Which drugs inhibit ABL1?" and not answer["abstained"] and "imatinib" in answer["text"]
    assert all(set(c) == {"key", "node_id", "name", "url", "edges"} and c["key"] in answer["text"] for c in answer["citations"])
    assert set(answer["retrieved"][0]) == RETRIEVAL
    nothing = cli("ask", "What is the capital of France?", "--home", starter_home, "--json")
    assert nothing.code == 0 and nothing.json["abstained"] and nothing.json["citations"] == []
    text = cli("ask", "Which drugs inhibit ABL1?", "--home", starter_home)
    assert "imatinib" in text.out and "[1]" in text.out and not text.out.startswith("{")


def test_the_four_ways_to_give_a_query(ask_for: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "a.fasta").write_text(f">mine\n{NEW}\n")
    by_file, by_text = ask_for("--fasta", tmp_path / "a.fasta"), ask_for("--sequence", NEW)
    assert by_file["hits"] == by_text["hits"] and by_file["query"]["name"] == "mine" and not by_file["query"]["in_graph"]
    assert ask_for("--sequence", protein(3))["query"]["node_id"] == "P00003"
    assert ask_for("--node", "P00003")["hits"] == ask_for("--node", "KINA3")["hits"] == ask_for("--sequence", protein(3))["hits"]
    drug = ask_for("--smiles", smiles(7), "--to", "disease")
    assert drug["query"]["node_id"] == "DB90007" and drug["relation"] == "indication"


def test_top_to_and_relation_change_the_answer(ask_for: Callable[..., Any]) -> None:
    three = ask_for("--node", "KINA3", "--top", "3")
    assert len(three["hits"]) == 3 and ids(three) == ids(ask_for("--node", "KINA3"))[:3] and len(ask_for("--node", "KINA3")["hits"]) == 20
    assert {hit["type"] for hit in ask_for("--node", "KINA3", "--to", "disease")["hits"]} == {"disease"}
    assert {hit["type"] for hit in ask_for("--node", "DB90003", "--to", "protein")["hits"]} == {"gene/protein"}
    similar = ask_for("--node", "KINA3", "--to", "gene/protein")
    assert similar["relation"] == "similar to" and set(ids(similar)[:4]) == {"P00000", "P00001", "P00002", "P00004"}
    assert ask_for("--node", "kinase deficiency 4", "--relation", "indication")["relation"] == "indication"
    assert ask_for("--node", "kinase deficiency 4", "--to", "disease", "--relation", "similar to")["relation"] == "similar to"


EXCHANGED = str.maketrans("ARNDCQEGHILKMFPSTWYV", "SKDEAEQAYVMRLYATSFFI")


def remote(i: int) -> str:
    """A relative of protein i that shares few words with it: three residues of five exchanged for like ones, six put in."""
    rng, residues = random.Random(i), list(protein(i))
    for at in rng.sample(range(len(residues)), 70):
        residues[at] = residues[at].translate(EXCHANGED)
    return "".join(residues[:60]) + "GGSGGS" + "".join(residues[60:])


def test_similar_proteins_are_found_by_alignment(ask_for: Callable[..., Any]) -> None:
    """Of a remote relative the whole family, and none but it is near; the vectors miss some of them."""
    encoder = make_encoder(Modality.PROTEIN, "kmer")
    families = encoder.encode([protein(i) for i in range(20)])
    for first in (5, 10, 15):
        family = {f"P{i:05d}" for i in range(first, first + 5)}
        found = ask_for("--sequence", remote(first), "--to", "gene/protein", "--top", "20")
        assert found["relation"] == "similar to" and not found["query"]["in_graph"] and set(ids(found)[:5]) == family
        scores = [hit["score"] for hit in found["hits"]]
        assert scores == sorted(scores, reverse=True) and scores[4] > 0.5 > 0.3 > scores[5]
        said = found["hits"][0]["evidence"][0]["text"]
        assert re.match(r"\d\d% identical over 1\d\d residues to ", said) and "by local alignment" in said
        assert "by local alignment" in found["notes"][0]
        by_vectors = np.argsort(-(encoder.encode([remote(first)]) @ families.T)[0])[:5]
        assert {f"P{i:05d}" for i in by_vectors} != family


def test_similar_drugs_are_found_by_their_vectors(ask_for: Callable[..., Any]) -> None:
    found = ask_for("--node", "DB90003", "--to", "drug")
    assert found["relation"] == "similar to" and "by the cosine of the frozen embeddings" in found["notes"][0]


def test_drugs_of_a_remote_relative_are_those_of_its_family(ask_for: Callable[..., Any]) -> None:
    for first in (5, 10, 15):
        found = ask_for("--sequence", remote(first), "--top", "4")
        assert {int(i[3:]) // 5 for i in ids(found)} == {first // 5}
        assert any("identical over" in e["text"] for hit in found["hits"] for e in hit["evidence"] if e["kind"] == "analogue")


def test_a_second_relation_between_the_same_types_is_another_answer(cli: Cli, starter_home: Path) -> None:
    target, enzyme = (
        cli("candidates", "--home", starter_home, "--node", "CYP3A4", "--relation", r, "--json") for r in ("target", "enzyme")
    )
    assert enzyme.code == 0 and enzyme.json["relation"] == "enzyme"
    assert target.code == 0 and ids(target.json) != ids(enzyme.json)


def test_known_edges_come_first_and_text_says_the_same_as_json(cli: Cli, ask_for: Callable[..., Any], tiny_home: Path) -> None:
    hits = ask_for("--node", "KINA3")["hits"]
    known = [hit["known"] for hit in hits]
    assert known == sorted(known, reverse=True) and known[0]
    assert [hit["score"] for hit in hits if not hit["known"]] == sorted((hit["score"] for hit in hits if not hit["known"]), reverse=True)
    text = cli("candidates", "--home", tiny_home, "--node", "KINA3")
    assert text.code == 0 and text.out.splitlines()[0] == "KINA3 - target -> drug"
    assert all(hit["id"] in line for hit, line in zip(hits, text.out.splitlines()[1:], strict=True))


def test_ask_takes_a_file_and_a_smiles(cli: Cli, tiny_home: Path, tmp_path: Path) -> None:
    (tmp_path / "a.fasta").write_text(f">mine\n{NEW}\n")
    plain = cli("ask", "Which drugs may bind it?", "--home", tiny_home, "--json").json
    by_file = cli("ask", "Which drugs may bind it?", "--home", tiny_home, "--fasta", tmp_path / "a.fasta", "--json").json
    assert plain["abstained"] and not by_file["abstained"]
    assert by_file["retrieved"][0]["query"]["name"] == "mine" and by_file["retrieved"][0]["tail_type"] == "drug"
    by_smiles = cli("ask", "Which proteins does it act on?", "--home", tiny_home, "--smiles", smiles(7), "--json").json
    assert by_smiles["retrieved"][0]["query"]["node_id"] == "DB90007" and by_smiles["retrieved"][0]["tail_type"] == "gene/protein"


def test_llm_names_a_model_or_none(cli: Cli, tiny_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIOBRIDGE_LLM_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("BIOBRIDGE_LLM_API_KEY", "none")
    without = cli("ask", "Which drugs bind KINA3?", "--home", tiny_home, "--llm", "none", "--json")
    assert without.code == 0 and without.json["notice"] == "" and without.err == ""
    failed = cli("ask", "Which drugs bind KINA3?", "--home", tiny_home, "--llm", "some-model", "--json")
    assert failed.code == 0 and failed.json["notice"] and failed.json["notice"] in failed.err and failed.json["citations"]
    assert failed.json["text"] == without.json["text"]
    monkeypatch.setenv("BIOBRIDGE_LLM_MODEL", "some-model")
    assert cli("ask", "Which drugs bind KINA3?", "--home", tiny_home, "--json").json["notice"]


def test_home_and_graph_say_where_to_look(cli: Cli, tiny: Path, tiny_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BIOBRIDGE_HOME", str(tiny_home))
    assert cli("candidates", "--node", "KINA3", "--json").json["query"]["node_id"] == "P00003"
    monkeypatch.delenv("BIOBRIDGE_HOME")
    (tmp_path / "vectorstore").mkdir()
    (tmp_path / "vectorstore" / "tiny").symlink_to(tiny_home)
    assert cli("candidates", "--graph", tiny, "--node", "KINA3", "--json").json["query"]["node_id"] == "P00003"


def test_doctor_lists_what_it_looked_at(cli: Cli, tiny_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = cli("doctor", "--home", tiny_home, "--json")
    assert result.code == 0 and all(set(f) == {"what", "ok", "detail", "do"} for f in result.json)
    findings = {f["what"]: f for f in result.json}
    assert {"Python", "torch", "rdkit", "chromadb", f"home {tiny_home}", "language model"} <= set(findings)
    assert "tiny, 50 nodes" in findings[f"home {tiny_home}"]["detail"]
    unbuilt = cli("doctor", "--home", tmp_path / "none", "--json")
    assert "built on first use" in unbuilt.out and not (tmp_path / "none").exists()
    missing = cli("doctor", "--home", tmp_path / "none", "--graph", "/data/other", "--json")
    assert missing.code == 1 and "no built home" in missing.out
    monkeypatch.setenv("BIOBRIDGE_LLM_MODEL", "m")
    monkeypatch.setenv("BIOBRIDGE_LLM_BASE_URL", "http://127.0.0.1:9/v1")
    unreachable = cli("doctor", "--home", tiny_home)
    assert unreachable.code == 1 and "no  language model: m at 127.0.0.1:9 is not reachable" in unreachable.out


METRICS = {"mrr", "hits@1", "hits@3", "hits@10"}
METHODS = {"fused", "bridge", "popularity", "analogues"}


def check_report(report: Any, methods: set[str]) -> None:
    assert set(report) >= {"protocol", "split", "relations", "macro", "skipped"}
    assert report["relations"] and set(report["macro"]) == methods
    for row in report["relations"]:
        assert set(row) >= {"head_type", "relation", "tail_type", "n_triples", "n_candidates", "methods"}
        assert set(row["methods"]) == methods and row["n_triples"] >= 1
    for scores in [*report["macro"].values(), *(s for row in report["relations"] for s in row["methods"].values())]:
        assert set(scores) >= METRICS and all(0 <= scores[m] <= 1 for m in METRICS)
        assert scores["hits@1"] <= scores["hits@3"] <= scores["hits@10"] and scores["hits@1"] <= scores["mrr"]


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five proteins that the tiny graph does not hold and one that it does, with edges to its drugs and diseases."""
    seen = {"protein": range(20), "drug": range(20), "disease": range(10)}
    directory = tmp_path_factory.mktemp("unseen") / "cut"
    return write_graph(directory, range(19, 25), range(0), range(0), seed=3, also=seen)


def test_evaluate_on_unseen_nodes(cli: Cli, tiny: Path, tiny_home: Path, unseen: Path, tmp_path: Path) -> None:
    arguments = ("evaluate", "retrieval", "--graph", tiny, "--home", tiny_home, "--unseen", unseen)
    result = cli(*arguments, "--json", "--out", tmp_path / "report.json")
    assert result.code == 0, result
    check_report(result.json, METHODS)
    assert result.json["split"] == "unseen" and result.json["n_unseen"] == 5
    assert {(r["head_type"], r["relation"], r["tail_type"], r["n_candidates"]) for r in result.json["relations"]} == {
        ("gene/protein", "target", "drug", 20), ("gene/protein", "associated with", "disease", 10),
    }  # fmt: skip
    assert result.json["skipped"]["node already in the graph"] == 1 and "left out: 1 x node already in the graph" in result.err
    assert json.loads((tmp_path / "report.json").read_text()) == result.json
    assert json.loads(cli(*arguments).out) == result.json, "the same twice, and JSON where stdout is no terminal"
    quiet = cli(*arguments, "--out", tmp_path / "again.json")
    assert quiet.out == "" and json.loads((tmp_path / "again.json").read_text()) == result.json


def test_evaluate_on_an_inductive_split(cli: Cli, tiny: Path) -> None:
    arguments = ("evaluate", "retrieval", "--graph", tiny, "--json")
    usual = cli(*arguments)
    assert usual.code == 0, usual
    check_report(usual.json, METHODS)
    assert usual.json["split"] == "inductive"
    more = cli(*arguments, "--fraction", "0.3").json
    assert sum(r["n_triples"] for r in more["relations"]) > sum(r["n_triples"] for r in usual.json["relations"])
    assert cli(*arguments, "--seed", "3").json["relations"] != usual.json["relations"]
    check_report(cli(*arguments, "--baselines", "analogues").json, {"fused", "bridge", "analogues"})
    check_report(cli(*arguments, "--baselines", "").json, {"fused", "bridge"})


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--split", "random"), "no split 'random'. Valid names: inductive"),
        (("--baselines", "popularity,magic"), "no baseline 'magic'. Valid names: popularity, analogues"),
        (("--fraction", "0"), "above 0 and at most 0.5, not 0.0"),
        (("--fraction", "nan"), "not nan"),
        (("--unseen", "/no/such/cut"), "directory /no/such/cut does not exist"),
        (("--out", "/no/such/folder/report.json"), "folder of --out /no/such/folder/report.json does not exist"),
        (("--out", "/"), "it is a folder"),
    ],
)
def test_an_evaluation_that_cannot_be_run(cli: Cli, tiny: Path, tiny_home: Path, arguments: tuple[str, ...], says: str) -> None:
    result = cli("evaluate", "retrieval", "--graph", tiny, "--home", tiny_home, *arguments)
    assert result.code == 2 and says in result.line


def test_an_evaluation_on_a_home_of_something_else(cli: Cli, tiny: Path, tiny_home: Path, unseen: Path) -> None:
    arguments = ("evaluate", "retrieval", "--home", tiny_home, "--unseen", unseen)
    assert "with the graph 'tiny', not 'starter'" in cli(*arguments, "--graph", "starter").line
    assert "with the seed 0, not 4" in cli(*arguments, "--graph", tiny, "--seed", "4").line


def test_an_unseen_directory_without_a_table(cli: Cli, tiny: Path, tiny_home: Path, unseen: Path, tmp_path: Path) -> None:
    cut = Path(shutil.copytree(unseen, tmp_path / "cut"))
    (cut / "protein.csv").unlink()
    result = cli("evaluate", "retrieval", "--graph", tiny, "--home", tiny_home, "--unseen", cut)
    assert result.code == 2 and "protein.csv (or protein.csv.gz) is missing" in result.line


def test_help_and_no_command() -> None:
    shown = call("--help")
    assert shown.code == 0 and all(name in shown.out for name in ("build", "candidates", "ask", "serve", "doctor", "evaluate"))
    empty = call()
    assert empty.code == 2 and "Usage" in empty.out + empty.err
