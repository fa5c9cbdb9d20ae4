"""A KnowledgeGraph saved to a directory and loaded again: nodes.parquet, edges.parquet and graph.json.

Knows: parquet, hashes, how to write so that a reader never meets half a file. graph.json is written last and holds the
hash of the graph and of both other files, so a set that does not belong together is found out.
Does not know: where the graph came from, the other stages of a home, locks.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from biobridge_rag.errors import DiskFullError, HomeError
from biobridge_rag.types import KnowledgeGraph, Node, NodeType, Relation

NODES, EDGES, GRAPH = "nodes.parquet", "edges.parquet", "graph.json"
_TEXTS = ("id", "type", "name", "description", "source", "url")
_LISTS = ("values", "synonyms")
_COLUMNS = {"head": np.int32, "relation": np.int16, "tail": np.int32, "source": np.int16}
_AGAIN = "Build the home again."


def save_graph(graph: KnowledgeGraph, directory: Path) -> None:
    """Writes the three files into `directory` (made where it is missing), each to a temporary file that is then renamed.

    Raises DiskFullError where there is no room, HomeError where the directory cannot be written.
    """
    import pyarrow as pa
    from pyarrow import parquet

    directory = Path(directory)
    nodes = pa.table(
        {column: pa.array([str(getattr(node, column)) for node in graph.nodes], pa.string()) for column in _TEXTS}
        | {column: pa.array([list(getattr(node, column)) for node in graph.nodes], pa.list_(pa.string())) for column in _LISTS}
    )
    edges = pa.table({column: np.asarray(getattr(graph, column), dtype) for column, dtype in _COLUMNS.items()})
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for file, table in ((NODES, nodes), (EDGES, edges)):
            _write(directory / file, partial(parquet.write_table, table, compression="zstd"))
        document = {
            "name": graph.name,
            "n_nodes": len(graph.nodes),
            "n_edges": graph.n_edges,
            "sources": list(graph.sources),
            "relations": [[r.name, r.head_type, r.tail_type] for r in graph.relations],
            "skipped": graph.skipped,
            "sha256": graph.sha256,
            "files": {file: _file_sha256(directory / file) for file in (NODES, EDGES)},
        }
        text = json.dumps(document, indent=1, ensure_ascii=False)
        _write(directory / GRAPH, lambda path: path.write_text(text, encoding="utf-8"))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(f"There is no room to write the graph into {directory}.", "Free some space and build again.") from error
        raise HomeError(f"The graph cannot be written into {directory}: {error.strerror or error}.") from error


def load_saved_graph(directory: Path) -> KnowledgeGraph:
    """The graph that `save_graph` wrote. Raises HomeError where a file is missing or damaged, or a hash does not fit."""
    import pyarrow as pa
    from pyarrow import parquet

    directory = Path(directory)
    for file in (GRAPH, NODES, EDGES):
        if not (directory / file).is_file():
            raise HomeError(f"{file} is missing in {directory}.", _AGAIN)
    try:
        document = json.loads((directory / GRAPH).read_text(encoding="utf-8"))
        for file in (NODES, EDGES):
            if _file_sha256(directory / file) != document["files"][file]:
                raise HomeError(f"{directory / file} is damaged or belongs to another graph: its hash does not fit {GRAPH}.", _AGAIN)
        nodes = parquet.read_table(directory / NODES).to_pydict()
        edges = parquet.read_table(directory / EDGES)
        graph = KnowledgeGraph(
            name=str(document["name"]),
            nodes=_nodes(nodes),
            relations=tuple(Relation(*map(str, relation)) for relation in document["relations"]),
            **{column: edges[column].to_numpy().astype(dtype, copy=False) for column, dtype in _COLUMNS.items()},
            sources=tuple(map(str, document["sources"])),
            skipped={str(reason): int(n) for reason, n in document["skipped"].items()},
        )
        fits = graph.sha256 == document["sha256"] and int(graph.source.max(initial=-1)) < len(graph.sources)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        what = f"{GRAPH}, {NODES} or {EDGES} cannot be read ({type(error).__name__})"
        raise HomeError(f"The graph in {directory} is damaged: {what}.", _AGAIN) from error
    if not fits:
        raise HomeError(f"The graph in {directory} is damaged: it does not fit the hash in {GRAPH}.", _AGAIN)
    return graph


def _nodes(columns: dict[str, list[Any]]) -> tuple[Node, ...]:
    types = {t.value: t for t in NodeType}
    return tuple(
        Node(node_id, types[node_type], name, description, source, url, tuple(values), tuple(synonyms))
        for node_id, node_type, name, description, source, url, values, synonyms in zip(
            *(columns[column] for column in (*_TEXTS, *_LISTS)), strict=True
        )
    )


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """Runs `write` on a temporary path beside `path` and renames it; a killed run leaves at most the temporary file."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        write(temporary)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
