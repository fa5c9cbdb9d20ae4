"""Definitions from a small go-basic.obo in the real format."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from biobridge_rag.errors import FileError, InputError
from biobridge_rag.fetching import Outcome, fetch_go
from biobridge_rag.fetching.go import go_id, read_obo
from biobridge_rag.fetching.http import Http
from tests.fetching.conftest import Server, ranged

OBO = r"""format-version: 1.2
data-version: releases/2025-07-22
subsetdef: goslim_generic "Generic GO slim"
default-namespace: gene_ontology
ontology: go

[Term]
id: GO:0000001
name: mitochondrion inheritance
namespace: biological_process
def: "The distribution of mitochondria, with \"quotes\", a colon: and a bang ! inside." [GOC:mcc, PMID:10873824]
synonym: "mitochondrial inheritance" EXACT []
is_a: GO:0048308 ! organelle inheritance

[Term]
id: GO:0000002
name: mitochondrial genome maintenance
namespace: biological_process
alt_id: GO:0000003
alt_id: GO:0000001
def: "Maintenance of\nthe genome." [GOC:ai]

[Term]
id: GO:0000005
name: obsolete ribosomal chaperone activity
namespace: molecular_function
def: "OBSOLETE. (Was not defined before being made obsolete)." [GOC:ai]
is_obsolete: true
consider: GO:0042254

[Term]
id: GO:0005507
name: copper ion binding
namespace: molecular_function
def: "Binding to a copper (Cu) ion." [GOC:ai]

[Term]
id: GO:0005575
name: cellular_component
namespace: cellular_component

[Typedef]
id: part_of
name: part of
def: "Not a term." []
is_transitive: true
"""
NODES = """node_index,node_id,node_type,node_name,node_source
0,GO:0000001,biological_process,mitochondrion inheritance,GO
1,3,biological_process,"old name, kept",GO
2,5,molecular_function,ribosomal chaperone activity,GO
3,5507,molecular_function,copper ion binding,GO
4,GO:0005575,cellular_component,cellular_component,GO
5,GO:7777777,cellular_component,newer than the file,GO
6,HP:0000001,cellular_component,not of GO,HPO
7,DB00001,drug,Lepirudin,DrugBank
"""


def run(server: Server, graph: Path) -> Outcome:
    return fetch_go(graph, url=server.url + "/ontology/go-basic.obo", http=Http(sleep=lambda _: None))


def descriptions(graph: Path, name: str) -> dict[str, str]:
    with (graph / name).open(newline="") as file:
        return {row["node_id"]: row["description"] for row in csv.DictReader(file)}


def test_definitions_are_written_for_each_node(server: Server, tmp_path: Path) -> None:
    server.on("/ontology/go-basic.obo", ranged(OBO.encode()))
    (tmp_path / "nodes.csv").write_text(NODES)
    outcome = run(server, tmp_path)
    assert descriptions(tmp_path, "biological.csv") == {
        "GO:0000001": 'The distribution of mitochondria, with "quotes", a colon: and a bang ! inside.',
        "3": "Maintenance of the genome.",
    }
    assert descriptions(tmp_path, "molecular.csv") == {"5": "", "5507": "Binding to a copper (Cu) ion."}
    assert descriptions(tmp_path, "cellular.csv") == {"GO:0005575": "", "GO:7777777": "", "HP:0000001": ""}
    assert (tmp_path / "biological.csv").read_text().splitlines()[0] == "node_id,node_index,node_name,node_type,description,node_source"
    assert outcome.fetched["molecular.csv"].left_out == {"obsolete term": ["5"]}
    assert outcome.fetched["cellular.csv"].skipped == {
        "term without a definition": 1, "term that go-basic.obo does not have": 1, "id that is no GO id": 1,
    }  # fmt: skip
    assert outcome.fetched["go-basic.obo"].note == "release 2025-07-22" and outcome.fetched["biological.csv"].licence.name == "CC BY 4.0"
    server.asked.clear()
    assert run(server, tmp_path).fetched == {} and server.asked == []
    (tmp_path / "cellular.csv").unlink()
    outcome = run(server, tmp_path)
    assert server.asked == [] and "cellular.csv" in outcome.fetched and set(outcome.kept) == {"go-basic.obo"}
    (tmp_path / "nodes.csv").write_text(NODES + "8,GO:0000002,biological_process,added,GO\n")
    assert set(run(server, tmp_path).fetched) == {"biological.csv", "molecular.csv", "cellular.csv"}
    assert len(descriptions(tmp_path, "biological.csv")) == 3


def test_a_table_of_someone_else_is_not_overwritten(server: Server, tmp_path: Path) -> None:
    url = server.on("/go.obo", ranged(OBO.encode()))
    (tmp_path / "nodes.csv").write_text(NODES)
    (tmp_path / "molecular.csv").write_text("mine")
    with pytest.raises(InputError, match=r"molecular\.csv is there, and was not fetched"):
        fetch_go(tmp_path, url=url)
    assert (tmp_path / "molecular.csv").read_text() == "mine" and server.asked == []
    assert "molecular.csv" in fetch_go(tmp_path, url=url, overwrite=True).fetched


def test_a_term_goes_before_an_alternative_id(tmp_path: Path) -> None:
    (tmp_path / "x.obo").write_text(OBO)
    ontology = read_obo(tmp_path / "x.obo")
    assert ontology.release == "2025-07-22" and ontology.terms["GO:0000001"].name == "mitochondrion inheritance"
    assert ontology.terms["GO:0000003"].id == "GO:0000002" and "part_of" not in ontology.terms and len(ontology.terms) == 6
    assert ontology.terms["GO:0000005"].obsolete and ontology.terms["GO:0005507"].namespace == "molecular_function"


def test_it_reads_what_obonet_reads(tmp_path: Path) -> None:
    obonet = pytest.importorskip("obonet")
    (tmp_path / "x.obo").write_text(OBO)
    ours, theirs = read_obo(tmp_path / "x.obo").terms, obonet.read_obo(tmp_path / "x.obo", ignore_obsolete=False)
    named = {id: data for id, data in theirs.nodes(data=True) if data}
    assert {t.id for t in ours.values()} == set(named)
    for id, data in named.items():
        assert (ours[id].name, ours[id].namespace) == (data["name"], data["namespace"])


@pytest.mark.parametrize(
    ("text", "id"),
    [("GO:0000002", "GO:0000002"), ("2", "GO:0000002"), ("5507", "GO:0005507"), ("12345678", None), ("DOID:1", None), ("", None)],
)
def test_ids_of_graphs_are_understood(text: str, id: str | None) -> None:
    assert go_id(text) == id


def test_a_page_instead_of_an_ontology_is_refused(server: Server, tmp_path: Path) -> None:
    (tmp_path / "nodes.csv").write_text(NODES)
    server.on("/ontology/go-basic.obo", ranged(b"<html>moved</html>"))
    with pytest.raises(FileError, match="holds no term"):
        run(server, tmp_path)
    server.on("/ontology/go-basic.obo", ranged(OBO.encode()))
    assert "go-basic.obo" in run(server, tmp_path).fetched
