"""The filter by licence on any graph of PrimeKG's layout: what is not known is forbidden, and nothing else changes."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biobridge_rag.errors import GraphFormatError
from biobridge_rag.fetching.licences import (
    NODES,
    RELATIONS,
    forbidden,
    keep_commercial_edges,
    keep_commercial_features,
    keep_commercial_nodes,
)

HEADER = ["relation", "x_source", "y_source", "x_name"]
relations = st.sampled_from([*RELATIONS, "", "drug_drug ", "newly made"])
sources = st.sampled_from([*NODES, "", "Wikidata"])


def write(path: Path, rows: list[list[str]]) -> Path:
    with gzip.open(path, "wt", newline="") if path.suffix == ".gz" else path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def read(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(relations, sources, sources, st.sampled_from(["a", 'b, "c"', "d\ne"])), max_size=12))
def test_only_edges_of_known_permitting_sources_stay(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]]) -> None:
    folder = tmp_path_factory.mktemp("kg")
    source = write(folder / "kg.csv.gz", [HEADER, *map(list, rows)])
    counts = keep_commercial_edges(source, folder / "out.csv")
    permitted = {"indication", "contraindication", "off-label use", "pathway_protein", "anatomy_anatomy"}
    kept = read(folder / "out.csv")
    assert kept[0] == HEADER and len(kept) - 1 + sum(counts.values()) == len(rows)
    expected = [list(r) for r in rows if forbidden(RELATIONS.get(r[0].strip(), ("?",))) is None and {r[1], r[2]} <= set(NODES) - {"CTD"}]
    assert kept[1:] == expected
    assert all(r[0] in RELATIONS and r[0] not in ("drug_drug", "drug_protein", "disease_protein", "drug_effect") for r in kept[1:])
    assert all(forbidden(RELATIONS[name]) is None for name in permitted)


def test_unknown_sources_are_named(tmp_path: Path) -> None:
    source = write(tmp_path / "kg.csv", [HEADER, ["gene_gene", "NCBI", "NCBI", ""], ["indication", "DrugBank", "Wikidata", ""]])
    assert keep_commercial_edges(source, tmp_path / "out.csv") == {"unknown source Wikidata": 1, "unknown source of relation gene_gene": 1}
    nodes = write(tmp_path / "nodes.csv", [["node_id", "node_source"], ["1", "NCBI"], ["2", ""], ["D1", "CTD"], ["DOID:1", "DO"]])
    assert keep_commercial_nodes(nodes, tmp_path / "kept.csv") == {"CTD": 1, "unknown source": 1}
    assert read(tmp_path / "kept.csv") == [["node_id", "node_source"], ["1", "NCBI"], ["DOID:1", "DO"]]


def test_texts_of_drugbank_go(tmp_path: Path) -> None:
    rows = [["node_index", "drugbank_id", "node_name", "smiles", "description", "groups"], ["0", "DB00001", "x", "C", "text", "approved"]]
    assert keep_commercial_features(write(tmp_path / "drug.csv", rows), tmp_path / "out.csv") == ["description", "groups"]
    assert read(tmp_path / "out.csv") == [["node_index", "drugbank_id", "node_name", "smiles"], ["0", "DB00001", "x", "C"]]


def test_files_that_are_no_graph_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GraphFormatError, match="no column y_source"):
        keep_commercial_edges(write(tmp_path / "kg.csv", [["relation", "x_source"], ["a", "b"]]), tmp_path / "out.csv")
    with pytest.raises(GraphFormatError, match="line 2: 2 values for 4 columns"):
        keep_commercial_edges(write(tmp_path / "kg.csv", [HEADER, ["indication", "DO"]]), tmp_path / "out.csv")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kg.csv"]
