"""The BioBridge authors' release, read and written: their bridge, and the frozen embeddings that it takes.

Knows: which files a release has, how its embeddings join a graph. Does not know: encoders, how a home is built from it.

A release is a folder with model_config.json, data_config.json, pytorch_model.bin and the tables protein.pkl, drug.pkl,
disease.pkl, bp.pkl, mf.pkl and cc.pkl (any of them), or a checkout of the authors' repository, which keeps them apart. With
nodes.csv beside them, in PrimeKG's layout, their node_index says which node is meant; disease.pkl states nothing else.

The vectors are not of unit length, and the bridge is not linear: it takes them as they are. Where cosines between frozen
embeddings are wanted, scale a copy (`biobridge_rag.bridge.model.unit`).
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from biobridge_rag.bridge.embedding_pickles import ReleasedEmbeddings, read_embeddings, write_embeddings
from biobridge_rag.bridge.official import HEADS, OfficialBridge, load_official
from biobridge_rag.errors import DiskFullError, GraphFormatError, InputError
from biobridge_rag.graph.parts import part
from biobridge_rag.graph.tables import Files
from biobridge_rag.types import Bridge, Indices, KnowledgeGraph, NodeType, Vectors

__all__ = ["Release", "ReleasedEmbeddings", "export_release", "graph_and_tables", "node_indices", "read_embeddings", "read_release"]

TABLES = {
    NodeType.PROTEIN: "protein.pkl",
    NodeType.DRUG: "drug.pkl",
    NodeType.DISEASE: "disease.pkl",
    NodeType.BIOLOGICAL_PROCESS: "bp.pkl",
    NodeType.MOLECULAR_FUNCTION: "mf.pkl",
    NodeType.CELLULAR_COMPONENT: "cc.pkl",
}
_TABLES_IN_CHECKOUT = "data/embeddings/esm2b_unimo_pubmedbert"
_NODES_IN_CHECKOUT = "data/PrimeKG"
_MARK = "export.json"


@dataclass(frozen=True)
class Release:
    """The bridge, the tables by node type, and the (type, id) that each node_index means where the release says so."""

    bridge: OfficialBridge
    embeddings: dict[NodeType, ReleasedEmbeddings]
    listed: dict[int, tuple[str, str]]


def node_indices(directory: Path | str) -> dict[int, tuple[str, str]]:
    """node_index -> (node type, node id), from the nodes.csv or nodes.csv.gz of a directory in PrimeKG's layout.

    Raises GraphFormatError where there is none, or it lacks a column or a whole number in node_index.
    """
    files = Files(Path(directory))
    out = {}
    for row in files.rows(files.path("nodes"), ("node_index", "node_id", "node_type"), ()):
        if not row["node_index"].isdecimal():
            raise GraphFormatError(f"nodes.csv in {directory} has the node_index {row['node_index'][:20]!r}, which is no whole number.")
        out[int(row["node_index"])] = (row["node_type"], row["node_id"])
    return out


def read_release(directory: Path | str) -> Release:
    """The release in a folder, or in a checkout of the authors' repository. Nothing that its files name is run.

    Raises GraphFormatError in one line where a file is missing or damaged, or the tables do not fit the bridge.
    """
    folder = Path(directory)
    bridge = load_official(folder)
    dims = bridge.dims
    places = (folder, folder / _TABLES_IN_CHECKOUT)
    embeddings = {}
    for node_type, name in TABLES.items():
        path = next((place / name for place in places if (place / name).is_file()), None)
        if path is None:
            continue
        table = read_embeddings(path)
        width = table.embedding.shape[1]
        if dims.get(node_type.value) != width:
            takes = f"of {dims[node_type.value]} numbers" if node_type.value in dims else f"of no {node_type.label} nodes"
            raise GraphFormatError(f"The embeddings in {path} have {width} numbers each; the bridge in {folder} takes those {takes}.")
        embeddings[node_type] = table
    if not embeddings:
        raise GraphFormatError(f"The folder {folder} has no embeddings.", f"It takes any of {', '.join(TABLES.values())}.")
    listing = next((p for p in (folder, folder / _NODES_IN_CHECKOUT) for end in ("csv", "csv.gz") if (p / f"nodes.{end}").is_file()), None)
    return Release(bridge, embeddings, node_indices(listing) if listing else {})


def graph_and_tables(
    release: Release, graph: KnowledgeGraph, listed: Mapping[int, tuple[str, str]] | None = None
) -> tuple[KnowledgeGraph, dict[NodeType, Vectors]]:
    """The part of the graph that the release has embeddings of, and those, (n_t, d_t) float32 as released, in its order.

    listed: `node_indices` of the graph's own directory, for a release without nodes.csv. A row belongs to the node of its
    node_index and of its node_id; where the two are those of different nodes it is left out. Several rows of one node are
    averaged. All that is left out or averaged is counted by reason in `skipped`. Raises GraphFormatError where a table states
    no ids and nothing says what its indices mean, or where no row belongs to any node.
    """
    meaning = release.listed or listed or {}
    skipped: Counter[str] = Counter()
    found: dict[NodeType, Vectors] = {}
    keep = np.zeros(len(graph.nodes), dtype=bool)
    for node_type in sorted(release.embeddings.keys() | graph.by_type.keys()):
        positions = graph.by_type.get(node_type, np.zeros(0, np.int64))
        table = release.embeddings.get(node_type)
        if table is not None:
            place = _places(table, node_type, graph, meaning, skipped)
            count = np.bincount(place[place >= 0], minlength=len(positions))
            rows = _by_node(table.embedding, place, count)
            skipped[f"released embedding averaged with another of the same {node_type.label} node"] += int((count[count > 1] - 1).sum())
            keep[positions[count > 0]] = True
            if count.any():
                found[node_type] = rows[count > 0]
        skipped[f"{node_type.label} node without a released embedding"] += int((~keep[positions]).sum())
    if not found:
        total = sum(len(table.embedding) for table in release.embeddings.values())
        raise GraphFormatError(
            f"None of the {total:,} released embeddings belongs to a node of the graph {graph.name!r}.",
            "The release is of PrimeKG's nodes: give the graph in its own ids, or its nodes.csv.",
        )
    if keep.all():
        return replace(graph, skipped={**graph.skipped, **{reason: n for reason, n in sorted(skipped.items()) if n}}), found
    return part(graph, keep, skipped, "edge to a node without a released embedding"), found


def _places(
    table: ReleasedEmbeddings, node_type: NodeType, graph: KnowledgeGraph, meaning: Mapping[int, tuple[str, str]], skipped: Counter[str]
) -> Indices:
    """The row that each embedding has in the graph's table of the type, -1 where it has none."""
    if not table.node_id and not meaning:
        raise GraphFormatError(
            f"{TABLES[node_type]} states no node_id, and there is no nodes.csv that says which nodes its indices mean.",
            "Put the nodes.csv of PrimeKG beside it.",
        )
    out = np.full(len(table.embedding), -1, dtype=np.int64)
    for i, index in enumerate(table.node_index.tolist()):
        by_id = graph.position(node_type, table.node_id[i]) if table.node_id and table.node_id[i] else None
        kind, node_id = meaning.get(index, ("", ""))
        by_index = graph.position(node_type, node_id) if kind == node_type else None
        if by_id is not None and by_index is not None and by_id != by_index:
            skipped[f"released {node_type.label} embedding whose node_index and node_id are those of two nodes"] += 1
        elif by_id is None and by_index is None:
            skipped[f"released {node_type.label} embedding of no node of the graph"] += 1
        else:
            out[i] = graph.rank_in_type[by_index if by_id is None else by_id]
    return out


def _by_node(embedding: Vectors, place: Indices, count: Indices) -> Vectors:
    """(n, d): the embedding of each node, the mean where it has several, 0 where it has none."""
    out = np.zeros((len(count), embedding.shape[1]), dtype=np.float32)
    out[place[place >= 0]] = embedding[place >= 0]
    for row in np.flatnonzero(count > 1):
        out[row] = embedding[place == row].mean(axis=0, dtype=np.float64)
    return out


def export_release(
    bridge: Bridge,
    tables: Mapping[NodeType, Vectors],
    graph: KnowledgeGraph,
    directory: Path | str,
    *,
    node_index: Mapping[tuple[str, str], int] | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Writes a trained official bridge and its tables as the authors released theirs, with the nodes.csv that their indices
    mean, so that `read_release` and the authors' own code read them. Returns the files.

    tables: (n_t, d_t) in the order of the graph. node_index: (type, id) -> index, of all nodes; else their places in the graph.
    Every file is written beside its place, then all are renamed. Raises InputError for the default bridge, tables that do not
    fit, and a folder that holds anything but an earlier export unless `overwrite`; DiskFullError where it cannot be written.
    """
    if not isinstance(bridge, OfficialBridge):
        raise InputError(
            "The default bridge has no such layout.", "Train the authors' architecture: biobridge-rag build --bridge official."
        )
    folder = Path(directory)
    numbers = [i if node_index is None else node_index.get((node.type.value, node.id), -1) for i, node in enumerate(graph.nodes)]
    if min(numbers, default=-1) < 0 or len(set(numbers)) < len(numbers):
        raise InputError("Every node of the graph needs a node_index of its own, 0 or more.")
    contents = {**_settings(bridge), "nodes.csv": _listing(graph, numbers)}
    for node_type, x in sorted(tables.items()):
        positions = graph.by_type.get(node_type, np.zeros(0, np.int64))
        if not len(x) or x.shape != (len(positions), bridge.dims.get(node_type.value)) or not np.isfinite(x).all():
            raise InputError(f"The {node_type.label} table of shape {x.shape} does not fit the graph and the bridge, or is not finite.")
        nodes = [graph.nodes[i] for i in positions]
        index = np.array([numbers[i] for i in positions], dtype=np.int64)
        table = ReleasedEmbeddings(index, tuple(n.id for n in nodes), tuple(n.name for n in nodes), x)
        contents[TABLES[node_type]] = write_embeddings(table)
    contents[_MARK] = _json({"format": 1, "files": sorted(contents), "graph": graph.name, "graph_sha256": graph.sha256})
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not overwrite and not _is_export(folder):
            raise InputError(f"{folder} holds something other than an export.", "Choose an empty folder, or allow it to be overwritten.")
        return _write(folder, contents)
    except OSError as error:
        raise DiskFullError(
            f"Cannot write to {folder}: {error.strerror or error}.", "Choose another folder, or free some space."
        ) from error


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=4) + "\n").encode()


def _settings(bridge: OfficialBridge) -> dict[str, bytes]:
    """The bridge's three files. n_head is stated only where it is not the authors' 12: their code takes no such setting."""
    config: dict[str, Any] = bridge.config()
    model = {key: value for key, value in config["model"].items() if key != "n_head" or value != HEADS}
    data = {"node_type": config["node_type"], "relation_type": config["relation_type"], "emb_dim": bridge.dims}
    weights = io.BytesIO()
    torch.save({name: value.clone() for name, value in bridge.network.state_dict().items()}, weights)
    return {"model_config.json": _json(model), "data_config.json": _json(data), "pytorch_model.bin": weights.getvalue()}


def _listing(graph: KnowledgeGraph, numbers: list[int]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("node_index", "node_id", "node_type", "node_name", "node_source"))
    writer.writerows((number, n.id, n.type.value, n.name, n.source) for number, n in zip(numbers, graph.nodes, strict=True))
    return text.getvalue().encode()


def _is_export(folder: Path) -> bool:
    try:
        return "graph_sha256" in json.loads((folder / _MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _write(folder: Path, contents: Mapping[str, bytes]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    waiting = {folder / name: folder / f"{name}.tmp" for name in contents}
    try:
        for path, temporary in waiting.items():
            with temporary.open("wb") as stream:
                stream.write(contents[path.name])
                stream.flush()
                os.fsync(stream.fileno())
        for name in set(TABLES.values()) - set(contents):
            (folder / name).unlink(missing_ok=True)
        for path, temporary in waiting.items():
            temporary.replace(path)
    finally:
        for temporary in waiting.values():
            temporary.unlink(missing_ok=True)
    return sorted(waiting)
