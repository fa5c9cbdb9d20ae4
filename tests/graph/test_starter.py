"""The starter graph: the shipped tables are sound, the check sees each kind of fault, the loader is deterministic."""

from __future__ import annotations

import copy
import csv
import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from biobridge_rag.errors import FileError, GraphFormatError
from biobridge_rag.graph.starter import COLUMNS, Row, Tables, build_graph, load_starter, read_tables
from biobridge_rag.graph.starter.check import compare, main, validate, without_edges
from biobridge_rag.types import KnowledgeGraph, NodeType, Relation

SHIPPED = read_tables()


@pytest.fixture
def tables() -> Tables:
    return copy.deepcopy(SHIPPED)


@pytest.fixture(scope="module")
def graph() -> KnowledgeGraph:
    return load_starter()


def row(tables: Tables, name: str, column: str, value: str) -> Row:
    return next(r for r in tables[name] if r[column] == value)


def test_shipped_tables_are_sound() -> None:
    assert validate(SHIPPED) == []
    assert without_edges(SHIPPED) == []


def test_shipped_files_are_ascii_with_lf_and_sorted() -> None:
    folder = Path(__file__).parents[2] / "biobridge_rag" / "graph" / "starter"
    for name in COLUMNS:
        data = (folder / f"{name}.csv").read_bytes()
        assert data.isascii() and b"\r" not in data and data.endswith(b"\n"), name
    keys = {"proteins": ("symbol",), "drugs": ("name",), "diseases": ("name",), "go": ("go_id",), "edges": ("relation", "head", "tail")}
    for name, columns in keys.items():
        found = [tuple(r[c] for c in columns) for r in SHIPPED[name]]
        assert found == sorted(found), name


def _set(name: str, column: str, value: str, at: int = 0) -> Callable[[Tables], None]:
    return lambda tables: tables[name][at].__setitem__(column, value)


def _edge(head: str, relation: str, tail: str, source: str = "OMIM") -> Callable[[Tables], None]:
    return lambda tables: tables["edges"].append({"head": head, "relation": relation, "tail": tail, "source": source})


def _mirror_a_ppi(tables: Tables) -> None:
    pair = row(tables, "edges", "relation", "ppi")
    tables["edges"].append({**pair, "head": pair["tail"], "tail": pair["head"]})


def _without_relation(relation: str) -> Callable[[Tables], None]:
    return lambda tables: tables.__setitem__("edges", [r for r in tables["edges"] if r["relation"] != relation])


def _without_branch(branch: str) -> Callable[[Tables], None]:
    return lambda tables: tables.__setitem__("go", [r for r in tables["go"] if r["branch"] != branch])


def _cut_off_a_drug(tables: Tables) -> None:
    imatinib = row(tables, "drugs", "name", "imatinib")["drugbank_id"]
    tables["edges"] = [r for r in tables["edges"] if r["head"] != imatinib]


def _residue(letter: str, at: int) -> Callable[[Tables], None]:
    def change(tables: Tables) -> None:
        protein = tables["proteins"][0]
        protein["sequence"] = protein["sequence"][:at] + letter + protein["sequence"][at + 1 :]

    return change


FAULTS: list[tuple[str, Callable[[Tables], None], str]] = [
    ("too few proteins", lambda t: t["proteins"].__delitem__(slice(119, None)), "proteins: 119 rows, at least 120 are needed"),
    ("too few drugs", lambda t: t["drugs"].__delitem__(slice(149, None)), "drugs: 149 rows, at least 150 are needed"),
    ("too few diseases", lambda t: t["diseases"].__delitem__(slice(59, None)), "diseases: 59 rows, at least 60 are needed"),
    ("too few terms", lambda t: t["go"].__delitem__(slice(119, None)), "go: 119 rows, at least 120 are needed"),
    ("too few edges", lambda t: t["edges"].__delitem__(slice(1499, None)), "edges: 1499 rows, at least 1500 are needed"),
    ("no table", lambda t: t.__delitem__("go"), "go: 0 rows, at least 120 are needed"),
    ("relation missing", _without_relation("ppi"), "edges: none of the relation ppi"),
    ("branch missing", _without_branch("cellular_component"), "go: no term of the branch cellular_component"),
    ("branch unknown", _set("go", "branch", "organ"), "has the unknown branch organ"),
    ("column missing", lambda t: t["drugs"][3].__delitem__("smiles"), "drugs: line 5 does not have the columns drugbank_id, name"),
    ("cell empty", _set("diseases", "description", " "), "diseases: line 2 has no description"),
    ("not ASCII", _set("diseases", "description", "\u03b2 cells are lost."), "diseases: line 2, description is not plain ASCII"),
    ("accession", _set("proteins", "uniprot_id", "P0053"), "proteins: 'P0053' of ABCB1 is not a well-formed id"),
    ("DrugBank id", _set("drugs", "drugbank_id", "DB0001"), "drugs: 'DB0001' of abemaciclib is not a well-formed id"),
    ("disease id", _set("diseases", "disease_id", "DOID:0123"), "diseases: 'DOID:0123' of"),
    ("GO id", _set("go", "go_id", "GO:123"), "go: 'GO:123' of"),
    ("id twice", _set("drugs", "drugbank_id", SHIPPED["drugs"][1]["drugbank_id"]), "stands 2 times"),
    ("name twice", _set("drugs", "name", SHIPPED["drugs"][1]["name"].upper()), f"drugs: name {SHIPPED['drugs'][1]['name']} stands 2 times"),
    ("SMILES", _set("drugs", "smiles", "c1ccccc"), "drugs: the SMILES of abemaciclib does not parse"),
    ("formula", _set("drugs", "smiles", "CCO"), "its SMILES has C2H6O"),
    ("start", _residue("A", 0), "proteins: the sequence of ABCB1 starts with A, not M"),
    ("letter", _residue("B", 9), "proteins: the sequence of ABCB1 has the letters B"),
    ("length", _set("proteins", "length", "12a"), "proteins: ABCB1 states 12a residues, its sequence has 1280"),
    ("unknown id", _edge("DB99999", "target", "P00533"), "names DB99999, which no table holds"),
    ("unknown relation", _edge("DB00619", "cures", "P00519"), "DB00619 -cures-> P00519 has an unknown relation"),
    ("wrong types", _edge("P00533", "target", "DB00619"), "joins proteins to drugs, which does not fit the relation"),
    ("branches mixed", _edge("GO:0005886", "parent-child", "GO:0007165"), "joins cellular_component to biological_process"),
    ("loop", _edge("P00533", "ppi", "P00533"), "joins a node to itself"),
    ("edge twice", lambda t: t["edges"].append(dict(t["edges"][0])), "stands twice"),
    ("edge mirrored", _mirror_a_ppi, "stands mirrored as well"),
    ("no source", _set("edges", "source", ""), "edges: line 2 has no source"),
    ("drug without edge", _cut_off_a_drug, "drugs: imatinib has no edge"),
]


@pytest.mark.parametrize(("change", "expected"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_each_kind_of_fault_is_caught(tables: Tables, change: Callable[[Tables], None], expected: str) -> None:
    change(tables)
    assert any(expected in fault for fault in validate(tables))


def test_selenocysteine_is_a_letter(tables: Tables) -> None:
    _residue("U", 9)(tables)
    assert validate(tables) == []


def test_node_without_edges_is_a_warning(tables: Tables) -> None:
    tables["edges"] = [r for r in tables["edges"] if "GO:0005886" not in (r["head"], r["tail"])]
    assert validate(tables) == []
    assert without_edges(tables) == ["go: plasma membrane"]


def test_loading_twice_gives_the_same_graph(graph: KnowledgeGraph, tables: Tables) -> None:
    again = load_starter()
    assert again.sha256 == graph.sha256
    assert (again.nodes, again.relations, again.sources) == (graph.nodes, graph.relations, graph.sources)
    assert np.array_equal(again.source, graph.source)
    tables["edges"].reverse()
    assert build_graph(tables).sha256 == graph.sha256


def test_both_directions_are_there_and_sorted(graph: KnowledgeGraph) -> None:
    edges = list(zip(graph.relation.tolist(), graph.head.tolist(), graph.tail.tolist(), strict=True))
    assert edges == sorted(edges) and len(edges) == len(set(edges)) == 2 * len(SHIPPED["edges"])
    assert [r.key for r in graph.relations] == sorted(r.key for r in graph.relations)
    place = {relation: i for i, relation in enumerate(graph.relations)}
    stated = {edge: source for edge, source in zip(edges, graph.source.tolist(), strict=True)}
    for (relation, head, tail), source in stated.items():
        assert stated[place[graph.relations[relation].inverse], tail, head] == source


def test_nodes_carry_what_encoders_and_readers_need(graph: KnowledgeGraph) -> None:
    at = graph.position(NodeType.PROTEIN, "P00533")
    assert at is not None
    egfr = graph.nodes[at]
    assert (egfr.name, egfr.source, len(egfr.values[0])) == ("EGFR", "UniProt", 1210)
    assert egfr.synonyms[0] == "Epidermal growth factor receptor" and "HER1" in egfr.synonyms
    found = {t.tail.name: t.source for t in graph.triples_of(at) if t.relation == Relation("target", "gene/protein", "drug")}
    assert found.get("erlotinib")

    by_name = {node.name: node for node in graph.nodes}
    assert by_name["imatinib"].id == "DB00619" and by_name["imatinib"].source == "DrugBank"
    assert by_name["breast cancer"].source == "DO" and by_name["stroke"].source == "MeSH"
    assert by_name["breast cancer"].values[0].startswith("Name: breast cancer. Definition: Malignant growth")
    assert by_name["nucleus"].type is NodeType.CELLULAR_COMPONENT and by_name["nucleus"].source == "GO"
    assert all(node.url.startswith("https://") and node.id.split(":")[-1] in node.url for node in graph.nodes)
    assert set(graph.by_type) == set(NodeType)


def test_unknown_end_of_an_edge_is_an_error(tables: Tables) -> None:
    _edge("DB99999", "target", "P00533")(tables)
    with pytest.raises(GraphFormatError, match="DB99999"):
        build_graph(tables)


def _write(path: Path, rows: list[Row]) -> None:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_comparison_lists_what_differs(tmp_path: Path, tables: Tables) -> None:
    tables["proteins"] = [row(tables, "proteins", "symbol", s) for s in ("INS", "SNCA", "SOD1")]
    tables["drugs"] = [row(tables, "drugs", "name", n) for n in ("aspirin", "caffeine", "naproxen", "nicotine")]
    ins, snca, _ = (r["sequence"] for r in tables["proteins"])
    _write(
        tmp_path / "protein.csv.gz",
        [{"node_name": "INS", "sequence": ins, "uniprot_id": ""}, {"node_name": "x", "sequence": "MA" + snca[2:], "uniprot_id": "P37840"}],
    )
    smiles = {"DB00945": "OC(=O)c1ccccc1OC(C)=O", "DB00201": "CCO", "DB00788": "COc1ccc2cc(C(C)C(=O)O)ccc2c1"}
    _write(tmp_path / "drug.csv", [{"drugbank_id": i, "smiles": s} for i, s in smiles.items()])
    lines = compare(tables, tmp_path).splitlines()
    assert lines[0].endswith("1 equal, 1 differ, 1 not there (SOD1)")
    assert lines[1] == "differs: SNCA (P37840): 140 residues here, 140 there; 1 positions differ, the first at 2"
    assert lines[2].endswith("1 equal, 2 differ, 1 not there (nicotine)")
    assert lines[3].endswith("another skeleton, C8H10N4O2 here, C2H6O there")
    assert lines[4] == "differs: naproxen (DB00788): the same skeleton with other stereochemistry or charge"

    (tmp_path / "drug.csv").write_text("drugbank_id\nDB00945\n")
    with pytest.raises(GraphFormatError, match="no column smiles"):
        compare(tables, tmp_path)
    (tmp_path / "drug.csv").unlink()
    with pytest.raises(FileError, match=r"no drug\.csv"):
        compare(tables, tmp_path)


def test_command_prints_a_report_or_the_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert f"{len(SHIPPED['edges'])} edges" in printed and printed.endswith("no faults\n")

    assert main(["--realkg", str(tmp_path / "absent")]) == 2
    assert capsys.readouterr().err.count("\n") == 1

    broken = copy.deepcopy(SHIPPED)
    broken["drugs"][0]["smiles"] = "C("
    monkeypatch.setattr("biobridge_rag.graph.starter.check.read_tables", lambda: broken)
    assert main([]) == 1
    assert capsys.readouterr().out == "fault: drugs: the SMILES of abemaciclib does not parse\n1 faults\n"
