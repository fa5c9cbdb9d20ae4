"""The loader of PrimeKG's layout: what it reads, what it counts, what it refuses, and the links of nodes."""

from __future__ import annotations

import csv
import gzip
import random
from pathlib import Path

import numpy as np
import pytest

from biobridge_rag.errors import GraphFormatError
from biobridge_rag.graph.links import node_url
from biobridge_rag.graph.primekg import load_graph, load_unseen
from biobridge_rag.types import KnowledgeGraph, NodeType, Relation

Table = list[dict[str, str]]

NODES = """node_index,node_id,node_type,node_name,node_source
0,7157,gene/protein,TP53,NCBI
1,1956,gene/protein,EGFR,NCBI
2,DB00316,drug,Acetaminophen,DrugBank
3,13924_12592,disease,ear disorder,MONDO_grouped
4,9409,biological_process,axon guidance,GO
5,GO:0005524,molecular_function,ATP binding,GO
6,5634,cellular_component,nucleus,GO
7,UBERON:1,anatomy,lung,UBERON"""
FILES = {
    "nodes": NODES,
    "protein": "node_id,node_index,node_name,node_type,node_source,sequence,uniprot_id,full_name\n"
    "7157,0,TP53,gene/protein,NCBI,meepqsdp*,P04637,cellular tumor antigen p53\n"
    "1956,1,EGFR,gene/protein,NCBI,MRPSGTAG,P00533,epidermal growth factor receptor",
    "drug": "node_index,drugbank_id,node_name,smiles,description\n2,DB00316,Acetaminophen,CC(=O)Nc1ccc(O)cc1,\"An analgesic,\nmild.\"",
    "disease": "node_index,mondo_id,mondo_name,definition\n3,13924,ear disease,A disease of the ear.\n3,12592,ear tumour,\n"
    "3,13924,ear disease,A disease of the ear.",
    "biological": "node_id,node_index,node_name,node_type,description,node_source\n9409,4,axon guidance,biological_process,Growth.,GO",
    "molecular": "node_id,node_index,node_name,node_type,description,node_source\nGO:0005524,5,ATP binding,molecular_function,,GO",
    "cellular": "node_id,node_index,node_name,node_type,description,node_source\n5634,6,nucleus,cellular_component,,GO",
}  # fmt: skip
KG_HEADER = "relation,display_relation,x_index,x_id,x_type,x_name,x_source,y_index,y_id,y_type,y_name,y_source"
TP53, EGFR, DRUG, EAR = ("7157", "gene/protein"), ("1956", "gene/protein"), ("DB00316", "drug"), ("13924_12592", "disease")
LUNG, NOBODY = ("UBERON:1", "anatomy"), ("404", "gene/protein")


def kg_row(relation: str, x: tuple[str, str], y: tuple[str, str]) -> str:
    return f"raw_{relation},{relation},0,{x[0]},{x[1]},x,s,0,{y[0]},{y[1]},y,s"


KG = [
    kg_row("target", DRUG, EGFR), kg_row("target", EGFR, DRUG),
    kg_row("ppi", TP53, EGFR), kg_row("ppi", EGFR, TP53),
    kg_row("associated with", EAR, TP53), kg_row("associated with", TP53, EAR),
]  # fmt: skip


def write(directory: Path, packed: bool = False, kg: list[str] | None = None, **changed: str | None) -> Path:
    """A directory with the tables above; a table given as None is left out."""
    directory.mkdir(parents=True, exist_ok=True)
    for stem, text in {**FILES, "kg": "\n".join([KG_HEADER, *(KG if kg is None else kg)]), **changed}.items():
        if text is not None and packed:
            (directory / f"{stem}.csv.gz").write_bytes(gzip.compress(text.encode()))
        elif text is not None:
            (directory / f"{stem}.csv").write_text(text + "\n", encoding="utf-8")
    return directory


def triples(graph: KnowledgeGraph) -> list[tuple[str, str, str, str]]:
    found = [graph.triple(i) for i in range(graph.n_edges)]
    return [(t.head.id, t.relation.name, t.tail.id, t.source) for t in found]


def node(graph: KnowledgeGraph, node_type: str, node_id: str):  # type: ignore[no-untyped-def]
    position = graph.position(node_type, node_id)
    assert position is not None
    return graph.nodes[position]


def test_nodes_hold_what_their_encoders_read(tmp_path: Path) -> None:
    graph = load_graph(write(tmp_path / "mini"))
    assert graph.name == "mini"
    p53 = node(graph, "gene/protein", "7157")
    assert (p53.name, p53.values, p53.source) == ("TP53", ("MEEPQSDP",), "NCBI")
    assert p53.synonyms == ("P04637", "cellular tumor antigen p53")
    assert p53.url == "https://www.uniprot.org/uniprotkb/P04637/entry"
    drug = node(graph, "drug", "DB00316")
    assert (drug.values, drug.description) == (("CC(=O)Nc1ccc(O)cc1",), "An analgesic,\nmild.")
    ear = node(graph, "disease", "13924_12592")
    assert ear.values == ("Name: ear disease. Definition: A disease of the ear.", "Name: ear tumour.")
    assert ear.description == "A disease of the ear."
    assert ear.url == "https://monarchinitiative.org/MONDO:0013924"
    assert {"13924", "12592", "ear disease", "ear tumour"} == set(ear.synonyms)
    assert node(graph, "biological_process", "9409").values == ("Name: axon guidance. Definition: Growth.",)
    assert node(graph, "cellular_component", "5634").values == ("Name: nucleus.",)
    assert graph.skipped == {"node of type anatomy has no encoder": 1}


def test_edges_come_sorted_with_relation_types(tmp_path: Path) -> None:
    graph = load_graph(write(tmp_path / "mini"))
    assert [r.key for r in graph.relations] == sorted(r.key for r in graph.relations)
    assert triples(graph) == [
        ("13924_12592", "associated with", "7157", "mini"),
        ("DB00316", "target", "1956", "mini"),
        ("7157", "associated with", "13924_12592", "mini"),
        ("1956", "ppi", "7157", "mini"),
        ("7157", "ppi", "1956", "mini"),
        ("1956", "target", "DB00316", "mini"),
    ]
    assert (graph.head.dtype, graph.relation.dtype, graph.tail.dtype, graph.source.dtype) == (np.int32, np.int16, np.int32, np.int16)


def test_packed_and_plain_read_the_same_and_plain_goes_first(tmp_path: Path) -> None:
    plain, packed = load_graph(write(tmp_path / "a"), name="g"), load_graph(write(tmp_path / "b", packed=True), name="g")
    assert plain.sha256 == packed.sha256 and plain.nodes == packed.nodes
    (tmp_path / "b" / "kg.csv").write_text("\n".join([KG_HEADER, *KG[:2]]))
    assert load_graph(tmp_path / "b").n_edges == 2


def test_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    shuffled = list(KG)
    random.Random(3).shuffle(shuffled)
    head, *rows = NODES.split("\n")
    a = load_graph(write(tmp_path / "a"), name="g")
    b = load_graph(write(tmp_path / "b", kg=shuffled, nodes="\n".join([head, *reversed(rows)])), name="g")
    assert shuffled != KG
    assert a.sha256 == b.sha256 and triples(a) == triples(b)


def test_a_missing_inverse_is_added_and_a_duplicate_counted(tmp_path: Path) -> None:
    lines: list[str] = []
    graph = load_graph(write(tmp_path / "g", kg=[*KG[:1], KG[2], KG[3], KG[2], KG[2]]), progress=lines.append)
    assert triples(graph) == [
        ("DB00316", "target", "1956", "g"),
        ("1956", "ppi", "7157", "g"),
        ("7157", "ppi", "1956", "g"),
        ("1956", "target", "DB00316", "g"),
    ]
    assert graph.skipped["duplicate edge"] == 2
    assert any("1 edges were listed in one direction only" in line for line in lines)


def test_edges_that_cannot_be_used_are_counted_by_reason(tmp_path: Path) -> None:
    kg = [*KG, kg_row("ppi", TP53, NOBODY), kg_row("ppi", NOBODY, TP53), kg_row("expression present", LUNG, TP53)]
    kg += [kg_row("target", DRUG, TP53), kg_row("", EGFR, TP53)]
    drug = FILES["drug"].replace("CC(=O)Nc1ccc(O)cc1", "not a molecule")
    graph = load_graph(write(tmp_path, kg=kg, drug=drug))
    assert graph.skipped == {
        "drug whose SMILES RDKit refuses": 1,
        "edge to a node that is not in nodes.csv": 2,
        "edge to a node that was dropped": 3,
        "edge to a node type without encoder": 1,
        "edge without a relation": 1,
        "node of type anatomy has no encoder": 1,
    }
    assert graph.n_edges == 4


@pytest.mark.parametrize(
    ("table", "old", "new", "reason"),
    [
        ("drug", "CC(=O)Nc1ccc(O)cc1", "", "drug without SMILES"),
        ("drug", "CC(=O)Nc1ccc(O)cc1", "C(C)(C)(C)(C)C", "drug whose SMILES RDKit refuses"),
        ("drug", "\n2,DB00316", "\n9,DB1", "drug node without a row in drug.csv"),
        ("protein", "meepqsdp*", "*", "protein without sequence"),
        ("protein", "meepqsdp*", "MEEPJ", "protein with letters that are no residues"),
        ("protein", "meepqsdp*", "ME*EP", "protein with letters that are no residues"),
        ("protein", "7157,0,", "77,99,", "gene/protein node without a row in protein.csv"),
        ("nodes", "\n1,1956", "\n1,7157", "duplicate node"),
        ("nodes", "\n1,1956", "\n1,", "node without an id"),
        ("protein", "7157,0,", "7157,1,", "row of protein.csv whose node_index and node_id are those of two nodes"),
        ("protein", "7157,0,", "77,99,", "row of protein.csv that belongs to no node of nodes.csv"),
    ],
)
def test_what_cannot_be_used_is_counted(tmp_path: Path, table: str, old: str, new: str, reason: str) -> None:
    assert FILES[table].count(old) == 1
    graph = load_graph(write(tmp_path, **{table: FILES[table].replace(old, new)}))
    assert graph.skipped[reason] == 1


def test_rare_residues_are_kept(tmp_path: Path) -> None:
    graph = load_graph(write(tmp_path, protein=FILES["protein"].replace("meepqsdp*", "MUXBZO")))
    assert node(graph, "gene/protein", "7157").values == ("MUXBZO",)


def test_a_nameless_node_is_called_by_its_id(tmp_path: Path) -> None:
    graph = load_graph(write(tmp_path, nodes=NODES.replace("Acetaminophen", "")))
    assert node(graph, "drug", "DB00316").name == "DB00316"


def test_ids_join_where_there_is_no_node_index(tmp_path: Path) -> None:
    def without_index(text: str) -> str:
        rows = list(csv.reader(text.splitlines(keepends=True)))
        at = rows[0].index("node_index")
        lines = [[cell for i, cell in enumerate(row) if i != at] for row in rows]
        return "\n".join(",".join(f'"{cell}"' for cell in line) for line in lines)

    disease = "mondo_id,mondo_name,definition\n13924_12592,ear disease,A disease of the ear."
    changed = {stem: without_index(FILES[stem]) for stem in ("protein", "drug", "biological", "molecular", "cellular")}
    graph = load_graph(write(tmp_path, **changed, disease=disease))
    assert node(graph, "gene/protein", "7157").values == ("MEEPQSDP",)
    assert node(graph, "drug", "DB00316").values == ("CC(=O)Nc1ccc(O)cc1",)
    assert node(graph, "disease", "13924_12592").description == "A disease of the ear."


def test_the_same_id_in_two_types_is_two_nodes(tmp_path: Path) -> None:
    nodes = NODES.replace("9409", "7157")
    kg = [*KG, kg_row("interacts with", TP53, ("7157", "biological_process"))]
    biological = FILES["biological"].replace("9409", "7157")
    graph = load_graph(write(tmp_path, nodes=nodes, kg=kg, biological=biological))
    heads, tails = graph.edges(Relation("interacts with", "gene/protein", "biological_process"))
    assert len(heads) == 1
    assert graph.nodes[graph.by_type[NodeType.BIOLOGICAL_PROCESS][tails[0]]].name == "axon guidance"


def test_a_source_column_names_the_source_of_an_edge(tmp_path: Path) -> None:
    rows = [KG[0] + ",DrugBank", KG[1] + ",", KG[2] + ",STRING", KG[2] + ",BioGRID"]
    for order in (rows, rows[::-1]):
        graph = load_graph(_with_sources(tmp_path, order), name="mine")
        assert triples(graph) == [
            ("DB00316", "target", "1956", "DrugBank"),
            ("1956", "ppi", "7157", "BioGRID"),
            ("7157", "ppi", "1956", "BioGRID"),
            ("1956", "target", "DB00316", "mine"),
        ]
        assert graph.sources == ("BioGRID", "DrugBank", "mine")


def _with_sources(directory: Path, rows: list[str]) -> Path:
    write(directory)
    (directory / "kg.csv").write_text("\n".join([KG_HEADER + ",source", *rows]))
    return directory


def test_relation_stands_in_for_a_missing_display_relation(tmp_path: Path) -> None:
    write(tmp_path)
    text = "relation,x_id,x_type,y_id,y_type\ndrug_protein,DB00316,drug,1956,gene/protein\n"
    (tmp_path / "kg.csv").write_text(text)
    assert {r.name for r in load_graph(tmp_path).relations} == {"drug_protein"}


def test_a_table_is_needed_only_for_nodes_of_its_type(tmp_path: Path) -> None:
    nodes = "\n".join(line for line in NODES.split("\n") if "cellular_component" not in line)
    assert load_graph(write(tmp_path / "a", nodes=nodes, cellular=None)).n_edges == 6
    with pytest.raises(GraphFormatError, match=r"cellular\.csv .*is missing .*1 nodes of type cellular_component"):
        load_graph(write(tmp_path / "b", cellular=None))


@pytest.mark.parametrize("stem", ["nodes", "kg", "protein", "drug", "disease", "biological", "molecular"])
def test_a_missing_file_is_named(tmp_path: Path, stem: str) -> None:
    with pytest.raises(GraphFormatError, match=rf"{stem}\.csv \(or {stem}\.csv\.gz\) is missing"):
        load_graph(_without(write(tmp_path), stem))


@pytest.mark.parametrize(
    ("stem", "column"),
    [("nodes", "node_id"), ("nodes", "node_type"), ("nodes", "node_name"), ("nodes", "node_source"), ("protein", "sequence"),
     ("drug", "smiles"), ("drug", "description"), ("disease", "mondo_name"), ("disease", "definition"),
     ("biological", "description"), ("kg", "x_id"), ("kg", "y_type")],
)  # fmt: skip
def test_a_missing_column_is_named_with_its_file(tmp_path: Path, stem: str, column: str) -> None:
    write(tmp_path)
    path = tmp_path / f"{stem}.csv"
    path.write_text(path.read_text().replace(column, "other", 1))
    with pytest.raises(GraphFormatError) as caught:
        load_graph(tmp_path)
    assert f"{stem}.csv has no column {column}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "data", "said"),
    [
        ("kg.csv", b"", "is empty"),
        ("nodes.csv", b"\x00\x01\x02PNG" * 50, "not a CSV text file"),
        ("nodes.csv", b"\xff\xfe\xfa caf\xe9\n", "not a CSV text file"),
        ("kg.csv", KG_HEADER.encode() + b"\na,b\n", "cannot be read as CSV"),
        ("protein.csv", FILES["protein"].encode().replace(b"P04637", b"\xe9\xe9"), "cannot be read as CSV"),
        ("kg.csv.gz", gzip.compress("\n".join([KG_HEADER, *KG]).encode())[:-20], "cannot be read"),
        ("kg.csv.gz", b"no gzip at all", "cannot be read"),
    ],
)
def test_a_damaged_file_is_one_clear_line(tmp_path: Path, file: str, data: bytes, said: str) -> None:
    write(tmp_path)
    if file.endswith(".gz"):
        (tmp_path / file.removesuffix(".gz")).unlink()
    (tmp_path / file).write_bytes(data)
    with pytest.raises(GraphFormatError) as caught:
        load_graph(tmp_path)
    assert said in str(caught.value) and file in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500 + len(str(tmp_path))


def test_a_truncated_gzip_of_many_blocks_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "kg.csv").unlink()
    rng = random.Random(0)
    rows = [kg_row("ppi", TP53, (str(rng.getrandbits(60)), "gene/protein")) for _ in range(40_000)]
    packed = gzip.compress("\n".join([KG_HEADER, *rows]).encode())
    (tmp_path / "kg.csv.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(GraphFormatError, match=r"kg\.csv\.gz cannot be read"):
        load_graph(tmp_path)


def _without(directory: Path, stem: str) -> Path:
    (directory / f"{stem}.csv").unlink()
    return directory


def test_a_missing_directory_and_a_file_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(GraphFormatError, match="does not exist"):
        load_graph(tmp_path / "none")
    (tmp_path / "file").write_text("x")
    with pytest.raises(GraphFormatError, match="is not a directory"):
        load_graph(tmp_path / "file")


def test_a_graph_with_nothing_to_use_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GraphFormatError, match=r"no node that can be used \(node of type anatomy"):
        load_graph(write(tmp_path / "a", nodes=NODES.split("\n")[0] + "\n7,UBERON:1,anatomy,lung,UBERON"))
    with pytest.raises(GraphFormatError, match="no edge between nodes that can be used"):
        load_graph(write(tmp_path / "b", kg=[kg_row("ppi", NOBODY, NOBODY)]))
    assert load_graph(write(tmp_path / "c", kg=[])).n_edges == 0


def test_byte_order_mark_windows_lines_and_extra_columns_are_read(tmp_path: Path) -> None:
    write(tmp_path)
    text = (tmp_path / "nodes.csv").read_text().replace("node_source\n", "node_source,more\n").replace(",NCBI\n", ",NCBI,1\n")
    text = text.replace(",DrugBank\n", ",DrugBank,\n").replace(",MONDO_grouped\n", ",MONDO_grouped,\n").replace(",GO\n", ",GO,\n")
    text = text.replace(",UBERON\n", ",UBERON,\n").replace("\n", "\r\n")
    (tmp_path / "nodes.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert len(load_graph(tmp_path).nodes) == 7


def test_blocks_join_without_a_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load_graph(write(tmp_path))
    monkeypatch.setattr("biobridge_rag.graph.tables._BLOCK_BYTES", 160)
    lines: list[str] = []
    pieces = load_graph(tmp_path, progress=lines.append)
    assert sum("kg.csv" in line for line in lines) > 2
    assert pieces.sha256 == whole.sha256


NEW = {
    "nodes": "node_index,node_id,node_type,node_name,node_source\n0,672,gene/protein,BRCA1,NCBI\n1,675,gene/protein,BRCA2,NCBI\n"
    "2,7157,gene/protein,TP53,NCBI\n3,580,gene/protein,BARD1,NCBI",
    "protein": "node_id,node_index,sequence\n672,0,MDLSALR\n675,1,MPIGSKE\n580,3,",
}  # fmt: skip
BRCA1, BRCA2, BARD1 = ("672", "gene/protein"), ("675", "gene/protein"), ("580", "gene/protein")


def write_unseen(directory: Path, kg: list[str]) -> Path:
    return write(directory, kg=kg, **{**dict.fromkeys(FILES), **NEW})


def test_unseen_nodes_and_their_edges_into_the_graph(tmp_path: Path) -> None:
    graph = load_graph(write(tmp_path / "seen"))
    kg = [
        kg_row("target", BRCA1, DRUG), kg_row("target", DRUG, BRCA1),  # listed in both directions: one edge
        kg_row("target", DRUG, BRCA2),  # only listed towards the unseen node
        kg_row("ppi", BRCA2, EGFR), kg_row("ppi", BRCA2, EGFR),
        kg_row("ppi", BRCA1, BRCA2), kg_row("ppi", TP53, EGFR),
        kg_row("ppi", BRCA1, NOBODY), kg_row("ppi", BARD1, EGFR), kg_row("expression present", LUNG, BRCA1),
    ]  # fmt: skip
    unseen = load_unseen(write_unseen(tmp_path / "new", kg), graph)
    assert [n.name for n in unseen.nodes] == ["BRCA1", "BRCA2"]
    assert unseen.nodes[0].values == ("MDLSALR",)
    named = {
        (unseen.nodes[h].name, relation.name, graph.nodes[graph.by_type[NodeType(relation.tail_type)][t]].name)
        for relation, (heads, tails) in unseen.edges.items()
        for h, t in zip(heads, tails, strict=True)
    }
    assert named == {("BRCA1", "target", "Acetaminophen"), ("BRCA2", "target", "Acetaminophen"), ("BRCA2", "ppi", "EGFR")}
    assert sorted(r.key for r in unseen.edges) == ["gene/protein|ppi|gene/protein", "gene/protein|target|drug"]
    assert sum(len(heads) for heads, _ in unseen.edges.values()) == 3
    assert all(column.dtype == np.int64 for pair in unseen.edges.values() for column in pair)
    assert unseen.skipped == {
        "duplicate edge": 1,
        "edge between two nodes of the graph": 1,
        "edge between two unseen nodes": 1,
        "edge to a node that is neither in nodes.csv nor in the graph": 1,
        "edge to a node that was dropped": 1,
        "edge to a node type without encoder": 1,
        "node already in the graph": 1,
        "protein without sequence": 1,
    }


def test_an_unseen_directory_of_known_nodes_is_empty_and_says_so(tmp_path: Path) -> None:
    graph = load_graph(write(tmp_path / "seen"))
    unseen = load_unseen(tmp_path / "seen", graph)
    assert unseen.nodes == () and unseen.edges == {}
    assert unseen.skipped["node already in the graph"] == 7
    assert unseen.skipped["edge between two nodes of the graph"] == 6


@pytest.mark.parametrize(
    ("node_type", "node_id", "uniprot", "url"),
    [
        ("gene/protein", "7157", "P04637", "https://www.uniprot.org/uniprotkb/P04637/entry"),
        ("gene/protein", "7157", "", "https://www.ncbi.nlm.nih.gov/gene/7157"),
        ("gene/protein", "7157", "not one", "https://www.ncbi.nlm.nih.gov/gene/7157"),
        ("gene/protein", "A0A024R1R8", "", "https://www.uniprot.org/uniprotkb/A0A024R1R8/entry"),
        ("gene/protein", "P00533-2", "", "https://www.uniprot.org/uniprotkb/P00533/entry"),
        ("drug", "DB00316", "", "https://go.drugbank.com/drugs/DB00316"),
        ("drug", "CID2244", "", "https://pubchem.ncbi.nlm.nih.gov/compound/2244"),
        ("drug", "DB00316", "P04637", "https://go.drugbank.com/drugs/DB00316"),
        ("drug", "2244", "", ""),
        ("disease", "DOID:0001816", "", "https://disease-ontology.org/?id=DOID:0001816"),
        ("disease", "MONDO:0005148", "", "https://monarchinitiative.org/MONDO:0005148"),
        ("disease", "5148", "", "https://monarchinitiative.org/MONDO:0005148"),
        ("disease", "MESH:D003920", "", "https://meshb.nlm.nih.gov/record/ui?ui=D003920"),
        ("disease", "13924_12592", "", ""),
        ("biological_process", "GO:0000002", "", "https://www.ebi.ac.uk/QuickGO/term/GO:0000002"),
        ("cellular_component", "5634", "", "https://www.ebi.ac.uk/QuickGO/term/GO:0005634"),
        ("molecular_function", "9" * 5000, "", ""),
        ("gene/protein", '"><script>', "", ""),
        ("anatomy", "UBERON:1", "", ""),
    ],
)
def test_links(node_type: str, node_id: str, uniprot: str, url: str) -> None:
    assert node_url(node_type, node_id, uniprot) == url
