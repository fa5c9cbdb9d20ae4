"""A graph with a user's entries and statements added: which are new, which it holds already, under the same or another id.

Knows: graphs, entries and statements. Does not know: files, encoders, homes.

New nodes come after all others and new edges after all edges, so that positions and rows stay, and `shortened` gives the graph
back as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biobridge_rag.chemistry import canonical_smiles
from biobridge_rag.errors import InputError
from biobridge_rag.graph.additions import Entry, Statement, Tally
from biobridge_rag.graph.links import node_url
from biobridge_rag.types import Indices, KnowledgeGraph, Modality, Node, NodeType, Relation, Triple

_MOST_SOURCES = 32_767
_TAKEN = "id that stands for another node of the graph or of the files"


@dataclass(frozen=True)
class Extension:
    """The longer graph, and how it came about. already: entries that the graph held under their id; recognised: those whose content it
    holds under another id; triples: the new edges, each once; known_edges: statements of edges that were there."""

    graph: KnowledgeGraph
    nodes: tuple[Node, ...]
    triples: tuple[Triple, ...]
    already: int
    recognised: tuple[tuple[Entry, Node], ...]
    known_edges: int


@dataclass
class _Nodes:
    """The nodes of a graph and the new ones; known: (type, id) -> position, of new nodes and of other ids of nodes."""

    graph: KnowledgeGraph
    new: list[Node] = field(default_factory=list)
    known: dict[tuple[NodeType, str], int] = field(default_factory=dict)
    refused: set[tuple[NodeType, str]] = field(default_factory=set)
    _contents: dict[NodeType, dict[str, int]] = field(default_factory=dict)

    def __getitem__(self, position: int) -> Node:
        n = len(self.graph.nodes)
        return self.graph.nodes[position] if position < n else self.new[position - n]

    def position(self, node_type: NodeType, node_id: str) -> int | None:
        here = self.graph.position(node_type, node_id)
        return self.known.get((node_type, node_id)) if here is None else here

    def contents(self, node_type: NodeType) -> dict[str, int]:
        """Position by content: a sequence, a canonical SMILES, a text."""
        if node_type not in self._contents:
            found: dict[str, int] = {}
            for i in self.graph.by_type.get(node_type, ()):
                for value in self.graph.nodes[i].values:
                    found.setdefault(_key(node_type, value), int(i))
            self._contents[node_type] = found
        return self._contents[node_type]

    def add(self, entry: Entry) -> None:
        self.known[entry.type, entry.id] = position = len(self.graph.nodes) + len(self.new)
        for key in entry.keys:
            self.contents(entry.type).setdefault(key, position)
        url = node_url(entry.type, entry.id, entry.id)
        source = f"added: {entry.file}"
        self.new.append(
            Node(entry.id, entry.type, entry.name, entry.description, source, url, (entry.value,), entry.synonyms)
        )  # fmt: skip


def _key(node_type: NodeType, value: str) -> str:
    return canonical_smiles(value) or value if node_type.modality is Modality.MOLECULE else value


def extend(graph: KnowledgeGraph, entries: Iterable[Entry], stated: Sequence[Statement], tally: Tally) -> Extension:
    """Adds entries, then statements, whose ends may be new nodes or old. Both directions of every edge are added.

    What cannot be used is counted in `tally`. Raises InputError, naming those that there are, for a relation that the graph does not
    know, or not between nodes of these types."""
    _check_names(graph, stated)
    nodes, already, recognised = _Nodes(graph), 0, []
    for entry in entries:
        if entry.type not in graph.by_type:
            tally.leave("node of a type that the graph has no nodes of", f"{entry.id}: {entry.type.label}")
        elif (at := nodes.position(entry.type, entry.id)) is not None:
            if _same(entry, nodes[at]):
                already += 1
            else:
                nodes.refused.add((entry.type, entry.id))
                tally.leave(_TAKEN, f"{entry.id} is {nodes[at].name}, whose {_what(entry.type)} is another")
        elif (at := next((c[k] for c in [nodes.contents(entry.type)] for k in entry.keys if k in c), None)) is not None:
            nodes.known[entry.type, entry.id] = at
            recognised.append((entry, nodes[at]))
        else:
            nodes.add(entry)
    return _with_edges(nodes, stated, already, tuple(recognised), tally)


def shortened(graph: KnowledgeGraph, n_nodes: int, n_edges: int, n_sources: int) -> KnowledgeGraph:
    """The graph's first nodes, edges and sources: what it was before it was extended."""
    return replace(
        graph, nodes=graph.nodes[:n_nodes], head=graph.head[:n_edges], relation=graph.relation[:n_edges], tail=graph.tail[:n_edges],
        source=graph.source[:n_edges], sources=graph.sources[:n_sources], skipped=dict(graph.skipped),
    )  # fmt: skip


def _what(node_type: NodeType) -> str:
    return {Modality.PROTEIN: "sequence", Modality.MOLECULE: "structure"}.get(node_type.modality, "name or text")


def _same(entry: Entry, node: Node) -> bool:
    """Whether the contents are equal; a text entry without a description need only have the node's name."""
    if any(_key(node.type, value) in entry.keys for value in node.values):
        return True
    names = {name.casefold() for name in (node.name, *node.synonyms)}
    return entry.type.modality is Modality.TEXT and not entry.description and entry.name.casefold() in names


def _check_names(graph: KnowledgeGraph, stated: Sequence[Statement]) -> None:
    names = {r.name for r in _stated(graph)}
    unknown = sorted({s.relation for s in stated} - names)
    if unknown:
        shown = ", ".join(repr(name[:60]) for name in unknown[:3]) + (", ..." if len(unknown) > 3 else "")
        raise InputError(f"The graph has no relation {shown}.", f"It has: {', '.join(sorted(names))}.")


def _with_edges(
    nodes: _Nodes, stated: Sequence[Statement], already: int, recognised: tuple[tuple[Entry, Node], ...], tally: Tally
) -> Extension:
    graph, total = nodes.graph, len(nodes.graph.nodes) + len(nodes.new)
    code = _stated(graph)
    rows = [row for s in stated if (row := _row(nodes, code, s, tally)) is not None]
    sources = {source: i for i, source in enumerate(graph.sources)}

    used = np.unique([c for r, _, _, _ in rows for c in (code[r], code[r.inverse])]).astype(np.int64)
    old = np.flatnonzero(np.isin(graph.relation, used))
    keys = (graph.relation[old].astype(np.int64) * total + graph.head[old]) * total + graph.tail[old]
    wanted = np.array([_keys(code, row, total) for row in rows], dtype=np.int64).reshape(-1, 2)
    there = np.isin(wanted, keys)
    added: dict[int, int] = {}
    triples, known_edges = [], 0
    for (relation, head, tail, source), pair, held in zip(rows, wanted.tolist(), there.tolist(), strict=True):
        missing = [key for key, is_there in zip(pair, held, strict=True) if not is_there and key not in added]
        if not missing:
            known_edges += 1
            continue
        added.update(dict.fromkeys(missing, sources.setdefault(source, len(sources))))
        triples.append(Triple(nodes[head], relation, nodes[tail], source))
    if len(sources) > _MOST_SOURCES:
        raise InputError(f"The edges would have more than {_MOST_SOURCES:,} sources in all.", "Give fewer in the column source.")
    order = np.array(sorted(added), dtype=np.int64)
    at = np.array([added[key] for key in order.tolist()], dtype=np.int64)
    longer = replace(
        graph, nodes=(*graph.nodes, *nodes.new), sources=tuple(sources), skipped=dict(graph.skipped),
        head=_append(graph.head, order // total % total), relation=_append(graph.relation, order // (total * total)),
        tail=_append(graph.tail, order % total), source=_append(graph.source, at),
    )  # fmt: skip
    return Extension(longer, tuple(nodes.new), tuple(triples), already, recognised, known_edges)


def _stated(graph: KnowledgeGraph) -> dict[Relation, int]:
    """The relations that have an edge, which the bridge is trained on, and their places among all."""
    return {relation: i for i, relation in enumerate(graph.relations) if len(graph.edge_numbers(relation))}


def _append(column: NDArray[Any], new: Indices) -> NDArray[Any]:
    return np.concatenate([column, new.astype(column.dtype)])


def _keys(code: dict[Relation, int], row: tuple[Relation, int, int, str], total: int) -> tuple[int, int]:
    relation, head, tail, _ = row
    return (code[relation] * total + head) * total + tail, (code[relation.inverse] * total + tail) * total + head


def _row(nodes: _Nodes, code: dict[Relation, int], stated: Statement, tally: Tally) -> tuple[Relation, int, int, str] | None:
    """The edge that is meant, by its relation, positions and source; None, counted, where it cannot be told."""
    shown = f"{stated.head[:60]} - {stated.relation} - {stated.tail[:60]}"
    heads, tails = _ends(nodes, stated.head, stated.head_type), _ends(nodes, stated.tail, stated.tail_type)
    if not heads or not tails:
        tally.leave("edge to a node that is neither in the graph nor in the files", shown)
        return None
    if any((t, end) in nodes.refused for end, found in ((stated.head, heads), (stated.tail, tails)) for t in found):
        tally.leave("edge to an id that stands for two nodes", shown)
        return None
    fitting = [r for h in heads for t in tails if (r := Relation(stated.relation, h.value, t.value)) in code and r.inverse in code]
    if not fitting:
        kinds = ", ".join(sorted({f"{r.head_type} to {r.tail_type}" for r in code if r.name == stated.relation}))
        between = f"{next(iter(heads)).label} to {next(iter(tails)).label} ({shown})"
        raise InputError(f"The graph has no relation {stated.relation!r} from {between}.", f"It leads from {kinds}.")
    if len(fitting) > 1:
        tally.leave("edge whose ids are those of nodes of several types (give head_type and tail_type)", shown)
        return None
    head, tail = heads[NodeType(fitting[0].head_type)], tails[NodeType(fitting[0].tail_type)]
    if head == tail:
        tally.leave("edge from a node to itself", shown)
        return None
    return fitting[0], head, tail, stated.source


def _ends(nodes: _Nodes, node_id: str, node_type: NodeType | None) -> dict[NodeType, int]:
    found = {t: nodes.position(t, node_id) for t in ([node_type] if node_type else NodeType)}
    return {t: at for t, at in found.items() if at is not None}
