"""A directory in PrimeKG's layout, with BioBridge's feature tables beside it, read into a KnowledgeGraph.

Knows: the files nodes, kg, protein, drug, disease, biological, molecular and cellular (.csv or .csv.gz), which columns
they have, and which rows cannot be used; every such row is counted by reason in `skipped`. kg.csv is streamed in blocks,
so memory holds the edges as integers and never the table.
Does not know: encoders, splits, homes, how a graph is saved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biobridge_rag.chemistry import mol_or_none
from biobridge_rag.errors import GraphFormatError
from biobridge_rag.graph.links import node_url
from biobridge_rag.graph.tables import Files, Row
from biobridge_rag.types import Indices, KnowledgeGraph, Node, NodeType, Relation

Say = Callable[[str], None]

_RESIDUES = frozenset("ABCDEFGHIKLMNOPQRSTUVWXYZ")
_TYPES = tuple(NodeType)
_UNKNOWN, _DROPPED, _NO_ENCODER = -1, -2, -3
_NOT_USABLE = {_NO_ENCODER: "edge to a node type without encoder", _DROPPED: "edge to a node that was dropped"}
_NOT_LISTED = "edge to a node that is not in nodes.csv"


@dataclass(frozen=True)
class UnseenNodes:
    """Nodes that a graph has never seen, with their edges into it.

    edges: for each relation whose head is an unseen node, heads (m,) int64 positions in `nodes` and tails (m,) int64 rows
    in `graph.by_type` of the relation's tail type, sorted, without duplicates. `skipped` counts the rest by reason.
    """

    nodes: tuple[Node, ...]
    edges: dict[Relation, tuple[Indices, Indices]]
    skipped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Table:
    """A feature table: its file, the columns that hold a node's id, those it must have and those it may have."""

    stem: str
    ids: tuple[str, ...]
    required: tuple[str, ...]
    optional: tuple[str, ...] = ("synonyms",)


_TABLES = {
    NodeType.PROTEIN: _Table("protein", ("node_id",), ("sequence",), ("description", "uniprot_id", "full_name", "synonyms")),
    NodeType.DRUG: _Table("drug", ("drugbank_id", "node_id"), ("smiles", "description")),
    NodeType.DISEASE: _Table("disease", ("mondo_id", "node_id"), ("mondo_name", "definition")),
    NodeType.BIOLOGICAL_PROCESS: _Table("biological", ("node_id",), ("description",)),
    NodeType.MOLECULAR_FUNCTION: _Table("molecular", ("node_id",), ("description",)),
    NodeType.CELLULAR_COMPONENT: _Table("cellular", ("node_id",), ("description",)),
}


def load_graph(directory: Path, name: str | None = None, progress: Say | None = None) -> KnowledgeGraph:
    """The graph in `directory`; `name` (the directory's, where none is given) is also the source of edges that state none.

    Nodes come sorted by type and id, relations by key, edges by relation, head and tail, so the order of the rows does not
    matter. Edges listed in one direction only get their inverse. `progress` is called with lines of text. Raises
    GraphFormatError with one line that names the file, and the column where one is missing.
    """
    say = progress or (lambda line: None)
    directory = Path(directory)
    name = name or directory.resolve().name
    skipped: Counter[str] = Counter()
    nodes, status = _read_nodes(Files(directory), skipped, lambda node_type, node_id: False, say)
    if not nodes:
        raise GraphFormatError(f"nodes.csv in {directory} has no node that can be used{_most(skipped)}.")
    types = np.array([_TYPES.index(node.type) for node in nodes])
    edges = _read_edges(Files(directory), lambda key: status.get(key, _UNKNOWN), name, _NOT_LISTED, skipped, say)
    if edges.n_rows and not len(edges.head):
        raise GraphFormatError(f"kg.csv in {directory} has no edge between nodes that can be used{_most(skipped)}.")
    relations, relation = edges.relations(types)
    n, n_relations = len(nodes), len(relations)
    inverse = np.array([relations.index(r.inverse) for r in relations], dtype=np.int64)
    order = np.lexsort((edges.source, (relation * n + edges.head) * n + edges.tail))
    relation, head, tail, source = (column[order] for column in (relation, edges.head, edges.tail, edges.source))
    key = (relation * n + head) * n + tail
    first = np.r_[True, key[1:] != key[:-1]][: len(key)]
    skipped["duplicate edge"] += int(len(key) - first.sum())
    relation, head, tail, source, key = (column[first] for column in (relation, head, tail, source, key))
    mirrored = (inverse[relation] * n + tail) * n + head
    missing = ~np.isin(mirrored, key)
    if missing.any():
        say(f"kg.csv: {int(missing.sum()):,} edges were listed in one direction only; their inverses were added")
        key, source = np.r_[key, mirrored[missing]], np.r_[source, source[missing]]
        order = np.argsort(key, kind="stable")
        key, source = key[order], source[order]
    del mirrored, missing, relation, head, tail
    used, source = np.unique(source, return_inverse=True)
    say(f"{n:,} nodes, {len(key):,} edges of {n_relations} relations; {sum(skipped.values()):,} rows could not be used")
    return KnowledgeGraph(
        name, nodes, tuple(relations), (key // n % n).astype(np.int32), (key // (n * n)).astype(np.int16),
        (key % n).astype(np.int32), source.astype(np.int16), tuple(edges.sources[i] for i in used), _counts(skipped),
    )  # fmt: skip


def load_unseen(directory: Path, graph: KnowledgeGraph) -> UnseenNodes:
    """Nodes of `directory` (laid out as a graph's) that `graph` does not have, and their edges to nodes it has.

    Raises GraphFormatError as `load_graph` does.
    """
    files, skipped = Files(Path(directory)), Counter[str]()
    nodes, status = _read_nodes(files, skipped, lambda t, i: graph.position(t, i) is not None, lambda line: None)
    n = len(nodes)

    def resolve(key: tuple[str, str]) -> int:
        seen = graph.position(*key)
        return status.get(key, _UNKNOWN) if seen is None else n + seen

    neither = "edge to a node that is neither in nodes.csv nor in the graph"
    edges = _read_edges(files, resolve, graph.name, neither, skipped, lambda line: None)
    head_new, tail_new = edges.head < n, edges.tail < n
    skipped["edge between two unseen nodes"] += int((head_new & tail_new).sum())
    skipped["edge between two nodes of the graph"] += int((~head_new & ~tail_new).sum())
    types = np.array([_TYPES.index(node.type) for node in (*nodes, *graph.nodes)])
    relations, relation = edges.relations(types)
    found: dict[Relation, tuple[Indices, Indices]] = {}
    for i, listed in enumerate(relations):
        mirror = relations.index(listed.inverse)
        out = (relation == i) & head_new & ~tail_new
        back = (relation == mirror) & ~head_new & tail_new
        out_pairs, back_pairs = edges.head[out] * len(types) + edges.tail[out], edges.tail[back] * len(types) + edges.head[back]
        skipped["duplicate edge"] += sum(len(pairs) - len(np.unique(pairs)) for pairs in (out_pairs, back_pairs))
        if len(pairs := np.union1d(out_pairs, back_pairs)):
            found[listed] = (pairs // len(types), graph.rank_in_type[pairs % len(types) - n])
    return UnseenNodes(nodes, found, _counts(skipped))


def _counts(skipped: Counter[str]) -> dict[str, int]:
    return {reason: skipped[reason] for reason in sorted(skipped) if skipped[reason]}


def _most(skipped: Counter[str]) -> str:
    return "".join(f" ({reason}: {n:,})" for reason, n in skipped.most_common(1))


def _read_nodes(
    files: Files, skipped: Counter[str], known: Callable[[str, str], bool], say: Say
) -> tuple[tuple[Node, ...], dict[tuple[str, str], int]]:
    """The usable nodes sorted by type and id, and for each listed (type, id) its position or why it has none."""
    files.path("kg")
    listed: dict[NodeType, dict[str, Row]] = {t: {} for t in _TYPES}
    status: dict[tuple[str, str], int] = {}
    for row in files.rows(files.path("nodes"), ("node_id", "node_type", "node_name", "node_source"), ("node_index",)):
        node_type, node_id = row["node_type"], row["node_id"]
        if node_type not in _TYPES:
            skipped[f"node of type {node_type or '(none)'} has no encoder"] += 1
        elif not node_id:
            skipped["node without an id"] += 1
        elif node_id in listed[NodeType(node_type)]:
            skipped["duplicate node"] += 1
        else:
            listed[NodeType(node_type)][node_id] = row
            status[node_type, node_id] = _DROPPED
    nodes: list[Node] = []
    for node_type in _TYPES:
        wanted = sorted(i for i in listed[node_type] if not known(node_type, i))
        skipped["node already in the graph"] += len(listed[node_type]) - len(wanted)
        features = _read_features(files, node_type, listed[node_type], skipped) if wanted else {}
        for node_id in wanted:
            node = _node(node_type, listed[node_type][node_id], features.get(node_id, []))
            if isinstance(node, str):
                skipped[node] += 1
            else:
                status[node_type, node_id] = len(nodes)
                nodes.append(node)
        if wanted:
            say(f"{_TABLES[node_type].stem}.csv: {len(wanted):,} nodes of type {node_type} read")
    return tuple(nodes), status


def _read_features(files: Files, node_type: NodeType, listed: dict[str, Row], skipped: Counter[str]) -> dict[str, list[Row]]:
    """The feature rows of each node, joined on node_index, or on the id column where either side has no index."""
    table = _TABLES[node_type]
    path = files.path(table.stem, f", and nodes.csv has {len(listed):,} nodes of type {node_type}")
    by_index = {row["node_index"]: node_id for node_id, row in listed.items() if row.get("node_index")}
    present, _ = files.header(path)
    id_column = next((c for c in table.ids if c in present), "")
    if not id_column and not (by_index and "node_index" in present):
        raise GraphFormatError(f"{path} has no column node_index or {table.ids[0]} to join it with nodes.csv.")
    features: dict[str, list[Row]] = {}
    for row in files.rows(path, table.required, ("node_index", *table.ids, *table.optional)):
        row["id"] = row.get(id_column, "")
        node_id = by_index.get(row["node_index"]) if by_index and row.get("node_index") else row["id"]
        if node_id is None or node_id not in listed:
            skipped[f"row of {table.stem}.csv that belongs to no node of nodes.csv"] += 1
        elif node_id != row["id"] and row["id"] in listed:
            skipped[f"row of {table.stem}.csv whose node_index and {id_column} are those of two nodes"] += 1
        else:
            features.setdefault(node_id, []).append(row)
    return features


def _node(node_type: NodeType, listed: Row, rows: list[Row]) -> Node | str:
    """A node from its row of nodes.csv and its feature rows, or why it cannot be used."""
    name = listed["node_name"] or listed["node_id"]
    values = _VALUES.get(node_type, _texts)(name, rows)
    if isinstance(values, str):
        return values
    accessions = [a.strip() for row in rows for a in row.get("uniprot_id", "").split(";")]
    ids = [row["id"] for row in rows]
    others = [*accessions, *(row.get(c, "") for row in rows for c in ("full_name", "mondo_name")), *ids]
    others += [s.strip() for row in rows for s in row.get("synonyms", "").split(";")]
    texts = (row.get(c, "") for c in ("definition", "description", "full_name") for row in rows)
    urls = (node_url(node_type, i, next(filter(None, accessions), "")) for i in (listed["node_id"], *ids))
    return Node(
        id=listed["node_id"],
        type=node_type,
        name=name,
        description=next(filter(None, texts), ""),
        source=listed["node_source"],
        url=next(filter(None, urls), ""),
        values=values,
        synonyms=tuple(s for s in dict.fromkeys(others) if s and s not in (name, listed["node_id"])),
    )


def _sequence(name: str, rows: list[Row]) -> tuple[str, ...] | str:
    sequences = ["".join(row["sequence"].split()).upper().removesuffix("*") for row in rows]
    if not rows:
        return "gene/protein node without a row in protein.csv"
    if not any(sequences):
        return "protein without sequence"
    return next(((s,) for s in sequences if s and _RESIDUES.issuperset(s)), "protein with letters that are no residues")


def _smiles(name: str, rows: list[Row]) -> tuple[str, ...] | str:
    smiles = [row["smiles"] for row in rows if row["smiles"]]
    if not rows:
        return "drug node without a row in drug.csv"
    if not smiles:
        return "drug without SMILES"
    return next(((s,) for s in smiles if mol_or_none(s) is not None), "drug whose SMILES RDKit refuses")


def _texts(name: str, rows: list[Row]) -> tuple[str, ...]:
    """One text a row; a disease that PrimeKG grouped from several has as many."""
    stated = [(row.get("mondo_name") or name, row.get("definition") or row.get("description", "")) for row in rows] or [(name, "")]
    return tuple(dict.fromkeys(f"Name: {title}. Definition: {text}" if text else f"Name: {title}." for title, text in stated))


_VALUES: dict[NodeType, Callable[[str, list[Row]], tuple[str, ...] | str]] = {NodeType.PROTEIN: _sequence, NodeType.DRUG: _smiles}


@dataclass(frozen=True)
class _Edges:
    """Usable rows of kg.csv as columns (m,) int64: positions of head and tail, codes of relation name and source."""

    head: Indices
    tail: Indices
    name: Indices
    source: Indices
    names: tuple[str, ...]
    sources: tuple[str, ...]
    n_rows: int

    def relations(self, types: NDArray[np.int64]) -> tuple[list[Relation], Indices]:
        """The relations with their inverses, sorted by key, and each edge's place among them; `types`: of each node."""
        k = len(_TYPES)
        code = (self.name * k + types[self.head]) * k + types[self.tail]
        kinds = {int(c): Relation(self.names[c // (k * k)], _TYPES[c // k % k].value, _TYPES[c % k].value) for c in np.unique(code)}
        relations = sorted({r for kind in kinds.values() for r in (kind, kind.inverse)}, key=lambda r: r.key)
        place = np.zeros(max(kinds, default=0) + 1, dtype=np.int64)
        for c, relation in kinds.items():
            place[c] = relations.index(relation)
        return relations, place[code]


def _read_edges(
    files: Files, resolve: Callable[[tuple[str, str]], int], source: str, unknown: str, skipped: Counter[str], say: Say
) -> _Edges:
    """Streams kg.csv. `resolve` gives a node's position, or why it has none; `source` stands where the file states none."""
    path = files.path("kg")
    present, any_rows = files.header(path)
    label = "display_relation" if "display_relation" in present else "relation"
    columns, _ = files.columns(path, (label, "x_id", "x_type", "y_id", "y_type"), ("source",))
    names: dict[str, int] = {}
    sources: dict[str, int] = {}
    parts: list[NDArray[np.int32]] = [np.zeros((4, 0), np.int32)]
    n_rows = 0
    for batch in files.batches(path, columns, encode=True) if any_rows else ():
        head, tail = (_positions(batch.column(f"{side}_type"), batch.column(f"{side}_id"), resolve) for side in "xy")
        name = _codes(batch.column(label), names)
        given = "source" in columns
        stated = _codes(batch.column("source"), sources, source) if given else np.full(len(head), sources.setdefault(source, 0))
        worst = np.minimum(head, tail)
        for code, reason in {**_NOT_USABLE, _UNKNOWN: unknown}.items():
            skipped[reason] += int((worst == code).sum())
        nameless = name == names.get("", -1)
        skipped["edge without a relation"] += int((nameless & (worst >= 0)).sum())
        parts.append(np.stack((head, tail, name, stated)).astype(np.int32)[:, (worst >= 0) & ~nameless])
        n_rows += len(head)
        say(f"kg.csv: {n_rows:,} rows read")
    if max(len(names), len(sources)) > 32_767:
        raise GraphFormatError(f"{path} names more than 32,767 relations or sources.")
    ordered = sorted(sources)
    places = {s: i for i, s in enumerate(ordered)}
    place = np.array([places[s] for s in sources] or [0], dtype=np.int64)
    head, tail, name, stated = (np.concatenate([part[i] for part in parts]).astype(np.int64) for i in range(4))
    return _Edges(head, tail, name, place[stated], tuple(names), tuple(ordered), n_rows)


def _codes(column: Any, seen: dict[str, int], default: str = "") -> Indices:
    """The column as codes in `seen`, which grows."""
    lookup = [seen.setdefault(value.strip() or default, len(seen)) for value in column.dictionary.to_pylist()]
    return np.array(lookup, dtype=np.int64)[column.indices.to_numpy()]


def _positions(types: Any, ids: Any, resolve: Callable[[tuple[str, str]], int]) -> Indices:
    """Each row's node as a position or a negative code; only the pairs that occur in the block are looked up."""
    kinds, names = ([value.strip() for value in column.dictionary.to_pylist()] for column in (types, ids))
    pair = types.indices.to_numpy().astype(np.int64) * len(names) + ids.indices.to_numpy()
    lookup = np.zeros(len(kinds) * len(names), dtype=np.int64)
    present = np.zeros(len(lookup), dtype=bool)
    present[pair] = True
    for p in np.flatnonzero(present):
        kind = kinds[p // len(names)]
        lookup[p] = resolve((kind, names[p % len(names)])) if kind in _TYPES else _NO_ENCODER
    return lookup[pair]
