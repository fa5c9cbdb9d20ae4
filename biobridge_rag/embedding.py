"""The tables of a graph: which nodes can be encoded, by which engine they are, and how like each other they are.

Knows: graphs, encoders, the files that a build keeps. Does not know: bridges, the index, settings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from biobridge_rag.bridge.model import unit
from biobridge_rag.bridge.training import MAX_PAIRS
from biobridge_rag.encoders import make_encoder
from biobridge_rag.encoders.cache import Rows, cached_embeddings, encoded, fill, save_array
from biobridge_rag.encoders.store import EmbeddingStore
from biobridge_rag.encoders.weights import Source
from biobridge_rag.errors import InputError
from biobridge_rag.graph.parts import part
from biobridge_rag.graph.primekg import UnseenNodes
from biobridge_rag.homes import aligner_of, open_array
from biobridge_rag.retrieval.likeness import Likeness
from biobridge_rag.types import ChoosyEncoder, Encoder, KnowledgeGraph, Modality, NodeType, Progress, Vectors

Engine = Literal["local", "ray"]
_UNREAD = "that its encoder cannot read"


def usable(graph: KnowledgeGraph, encoders: Mapping[Modality, Encoder], kept: Sequence[Path] = ()) -> KnowledgeGraph:
    """The graph to build from: without the nodes that have a value which their encoder cannot use, counted by type in its `skipped`.
    kept: folders of stores; what has a vector there was used before and is not tried again."""
    keep, skipped = np.ones(len(graph.nodes), dtype=bool), Counter[str]()
    for node_type, positions in graph.by_type.items():
        encoder = encoders[node_type.modality]
        if isinstance(encoder, ChoosyEncoder):
            refused = _refused(encoder, [graph.nodes[i].values for i in positions], kept)
            keep[positions[refused]] = False
            skipped[f"{node_type.label} node {_UNREAD}"] += int(refused.sum())
    return graph if keep.all() else part(graph, keep, skipped, f"edge to a node {_UNREAD}")


def readable(unseen: UnseenNodes, encoders: Mapping[Modality, Encoder]) -> UnseenNodes:
    """The unseen nodes without the edges of those that have a value which their encoder cannot use; such nodes are counted by type."""
    unread, skipped = np.zeros(len(unseen.nodes), dtype=bool), Counter[str](unseen.skipped)
    for modality, encoder in encoders.items():
        places = [i for i, node in enumerate(unseen.nodes) if node.type.modality is modality]
        if isinstance(encoder, ChoosyEncoder):
            unread[places] = refused = _refused(encoder, [unseen.nodes[i].values for i in places])
            skipped.update(f"{unseen.nodes[i].type.label} node {_UNREAD}" for i, bad in zip(places, refused, strict=True) if bad)
    edges = {r: (heads[~unread[heads]], tails[~unread[heads]]) for r, (heads, tails) in unseen.edges.items() if not unread[heads].all()}
    return replace(unseen, edges=edges, skipped=dict(skipped))


def _refused(encoder: ChoosyEncoder, groups: Sequence[tuple[str, ...]], kept: Sequence[Path] = ()) -> NDArray[np.bool_]:
    """Whether a node's values (n,) hold one that the encoder cannot use."""
    values = list(dict.fromkeys(value for group in groups for value in group))
    for folder in kept:
        with EmbeddingStore(folder, encoder.id, encoder.dim) as store:
            values = [values[i] for i in store.missing(values).tolist()]
    bad = {values[i] for i in encoder.unusable(values)} if values else set()
    return np.fromiter((not bad.isdisjoint(group) for group in groups), dtype=bool, count=len(groups))


@contextmanager
def rows_of(encoders: Mapping[Modality, str], source: Source, engine: Engine, ray_address: str) -> Iterator[Mapping[Modality, Rows]]:
    """What makes the rows of each modality: empty for this process. Raises InputError for a Ray address without Ray."""
    if engine == "local":
        if ray_address:
            raise InputError("A Ray address is an option of the engine 'ray'.", "Add --engine ray.")
        yield {}
        return
    from biobridge_rag.encoders.distributed import RayEngine

    with RayEngine(ray_address, gpus_per_worker=0 if source.device == "cpu" else 1) as joined:
        yield {m: joined.rows(partial(make_encoder, m, name, source)) for m, name in encoders.items()}


def embed(
    graph: KnowledgeGraph,
    path: Path,
    encoders: Mapping[Modality, Encoder],
    progress: Progress,
    cache: Path | None = None,
    rows: Mapping[Modality, Rows] | None = None,
) -> dict[NodeType, Vectors]:
    """The unit vectors (n, dim) of all nodes by type, kept in `path`/embeddings. cache: a folder that several builds share; rows: what
    makes the vectors of a modality, if not this process."""
    out = {}
    for node_type, positions in graph.by_type.items():
        groups, modality = [graph.nodes[i].values for i in positions], node_type.modality
        made = (rows or {}).get(modality, encoded)
        out[node_type] = cached_embeddings(path / "embeddings", node_type.slug, encoders[modality], groups, progress, cache, made)
    return out


def fill_cache(
    graph: KnowledgeGraph,
    cache: Path,
    encoders: Mapping[Modality, Encoder],
    progress: Progress,
    rows: Mapping[Modality, Rows],
    only_missing: bool,
) -> dict[NodeType, dict[str, int]]:
    """Encodes the graph's nodes into the shared folder `cache`. Rows that are there are checked first, and damaged ones made again,
    unless `only_missing`. Returns by type how many values there are, were encoded, and were damaged."""
    out = {}
    for node_type, positions in graph.by_type.items():
        encoder = encoders[node_type.modality]
        values = [value for i in positions for value in graph.nodes[i].values]
        with EmbeddingStore(cache, encoder.id, encoder.dim) as store:
            damaged = 0 if only_missing else store.verify()
            made = rows.get(node_type.modality, encoded)
            count = fill(store, encoder, values, progress, f"encoding {node_type.slug}", made)
        out[node_type] = {"values": len(set(values)), "encoded": count, "damaged": damaged}
    return out


def compare(
    graph: KnowledgeGraph, path: Path, tables: Mapping[NodeType, Vectors], encoders: Mapping[Modality, Encoder], progress: Progress
) -> dict[NodeType, Likeness]:
    """How like each other the nodes of each type are, kept in `path`/similarities for types of at most 12,000 nodes. Where the
    encoder aligns, nodes are compared by the first of their values."""
    folder, out = path / "similarities", {}
    folder.mkdir(parents=True, exist_ok=True)
    for node_type, x in tables.items():
        aligner, among = aligner_of(graph, node_type, encoders[node_type.modality]), None
        if len(x) <= MAX_PAIRS:
            file = folder / f"{node_type.slug}.npy"
            if not file.exists() or open_array(file).shape != (len(x), len(x)):
                save_array(file, _cosines(x) if aligner is None else aligner.table(progress))
            among = open_array(file)
        out[node_type] = Likeness(x, among, aligner)
    return out


def _cosines(x: Vectors) -> NDArray[np.float16]:
    units = unit(np.asarray(x, dtype=np.float32))
    return np.asarray(units @ units.T, dtype=np.float16)
