"""The graph that ships with the package: five small CSV tables of public facts, read into a KnowledgeGraph.

Knows: the columns of the tables and what each encoder reads of them. Does not know: whether the facts hold (check.py
validates the tables, SOURCES.md says where they come from), PrimeKG's files, encoders, models.
"""

from __future__ import annotations

import csv
import io
from importlib.resources import files

import numpy as np

from biobridge_rag.errors import GraphFormatError
from biobridge_rag.types import KnowledgeGraph, Node, NodeType, Relation

Row = dict[str, str]
Tables = dict[str, list[Row]]

COLUMNS: dict[str, tuple[str, ...]] = {
    "proteins": ("uniprot_id", "symbol", "name", "synonyms", "length", "sequence", "description"),
    "drugs": ("drugbank_id", "name", "synonyms", "formula", "smiles", "drug_class", "description"),
    "diseases": ("disease_id", "name", "synonyms", "description"),
    "go": ("go_id", "name", "branch", "description"),
    "edges": ("head", "relation", "tail", "source"),
}


def read_tables() -> Tables:
    """The shipped tables as text, by name (`proteins`, `drugs`, `diseases`, `go`, `edges`), rows in file order."""
    folder = files(__name__)
    texts = {name: folder.joinpath(f"{name}.csv").read_text(encoding="utf-8") for name in COLUMNS}
    return {name: list(csv.DictReader(io.StringIO(text))) for name, text in texts.items()}


def load_starter() -> KnowledgeGraph:
    """The starter graph: nodes by type in the order of `NodeType`, both directions of every edge, a source on each.

    Ids are UniProt accessions, DrugBank ids, DOID or MESH ids and GO ids. Edges are sorted by (relation, head, tail).
    Raises GraphFormatError if an edge names a node that no table holds.
    """
    return build_graph(read_tables())


def build_graph(tables: Tables) -> KnowledgeGraph:
    """A KnowledgeGraph named `starter` from tables with `COLUMNS`; `load_starter` says what is in it and what it raises."""
    nodes = _nodes(tables)
    position = {node.id: i for i, node in enumerate(nodes)}
    sources = tuple(sorted({row["source"] for row in tables["edges"]}))
    source_position = {source: i for i, source in enumerate(sources)}

    directed: set[tuple[Relation, int, int, int]] = set()
    for row in tables["edges"]:
        ends = position.get(row["head"]), position.get(row["tail"])
        if ends[0] is None or ends[1] is None:
            raise GraphFormatError(
                f"The edge {row['head']} -{row['relation']}-> {row['tail']} of the starter graph names a node that no table holds.",
                "Run python -m biobridge_rag.graph.starter.check.",
            )
        head, tail = ends[0], ends[1]
        relation = Relation(row["relation"], nodes[head].type.value, nodes[tail].type.value)
        at = source_position[row["source"]]
        directed |= {(relation, head, tail, at), (relation.inverse, tail, head, at)}

    relations = tuple(sorted({edge[0] for edge in directed}, key=lambda r: r.key))
    rank = {relation: i for i, relation in enumerate(relations)}
    rows = sorted((rank[relation], head, tail, at) for relation, head, tail, at in directed)
    columns = np.asarray(rows, dtype=np.int64).reshape(-1, 4)
    return KnowledgeGraph(
        name="starter",
        nodes=nodes,
        relations=relations,
        head=columns[:, 1].astype(np.int32),
        relation=columns[:, 0].astype(np.int16),
        tail=columns[:, 2].astype(np.int32),
        source=columns[:, 3].astype(np.int16),
        sources=sources,
    )


def _nodes(tables: Tables) -> tuple[Node, ...]:
    made = [
        *(_protein(row) for row in tables["proteins"]),
        *(_drug(row) for row in tables["drugs"]),
        *(_disease(row) for row in tables["diseases"]),
        *(_go_term(row) for row in tables["go"]),
    ]
    order = list(NodeType)
    return tuple(sorted(made, key=lambda node: order.index(node.type)))


def _url(node_type: NodeType, node_id: str, uniprot: str = "") -> str:
    from biobridge_rag.graph.links import node_url

    return node_url(node_type, node_id, uniprot)


def _protein(row: Row) -> Node:
    return Node(
        id=row["uniprot_id"],
        type=NodeType.PROTEIN,
        name=row["symbol"],
        description=row["description"],
        source="UniProt",
        url=_url(NodeType.PROTEIN, row["uniprot_id"], row["uniprot_id"]),
        values=(row["sequence"],),
        synonyms=(row["name"], *_split(row["synonyms"])),
    )


def _drug(row: Row) -> Node:
    return Node(
        id=row["drugbank_id"],
        type=NodeType.DRUG,
        name=row["name"],
        description=row["description"],
        source="DrugBank",
        url=_url(NodeType.DRUG, row["drugbank_id"]),
        values=(row["smiles"],),
        synonyms=_split(row["synonyms"]),
    )


def _disease(row: Row) -> Node:
    return Node(
        id=row["disease_id"],
        type=NodeType.DISEASE,
        name=row["name"],
        description=row["description"],
        source="MeSH" if row["disease_id"].startswith("MESH:") else "DO",
        url=_url(NodeType.DISEASE, row["disease_id"]),
        values=(_definition(row),),
        synonyms=_split(row["synonyms"]),
    )


def _go_term(row: Row) -> Node:
    node_type = NodeType(row["branch"])
    return Node(
        id=row["go_id"],
        type=node_type,
        name=row["name"],
        description=row["description"],
        source="GO",
        url=_url(node_type, row["go_id"]),
        values=(_definition(row),),
    )


def _definition(row: Row) -> str:
    return f"Name: {row['name']}. Definition: {row['description']}"


def _split(synonyms: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in synonyms.split(";") if part.strip())
